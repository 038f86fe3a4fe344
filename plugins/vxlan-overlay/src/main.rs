//! `vxlan-overlay`: the Pods of all nodes in one network, over VXLAN.
//!
//! First in a chain it wires the Pod as routed-veth does. After a plugin that wired it (bridge, routed-veth) it leaves
//! the wire as it is, lowers the MTU of both its ends to what fits, and adds the overlay (`chained.rs`). The overlay
//! itself, one device and what leads to the other nodes, is `verbs::cluster`'s affair.

mod chained;
mod config;

use std::process::ExitCode;

use dataplane::Kernel;
use libcni::plugin::Operator;
use libcni::{About, Attachment, AttachmentId, CniResult, Command, Error, Kind, Plugin, Request};
use verbs::cluster::{self, Network};
use verbs::ipam::{self, Ipam};
use verbs::routed::{self, Wiring};
use verbs::{check, removal, status, told, wire};

use crate::config::Config;

struct VxlanOverlay;

fn main() -> ExitCode {
    libcni::plugin::main::<VxlanOverlay>()
}

impl Plugin for VxlanOverlay {
    type Config = Config;

    const ABOUT: About = config::ABOUT;
    const KIND: Kind = Kind::Interface;
    const OPERATOR: Option<Operator> =
        Some(cluster::operator(|request| cluster::sync_command(request, &config::reach)));

    fn validate(request: &Request, config: &Config) -> Result<(), Error> {
        config.validate(request)
    }

    fn add(request: &Request, config: Config, attachment: &Attachment) -> Result<CniResult, Error> {
        let network = config.network(request)?;
        let kernel = wire::kernel(attachment)?;
        match config::is_chained(request) {
            true => chained::add(request, &config, attachment, &kernel, &network),
            false => add_first(request, config, attachment, &kernel, &network),
        }
    }

    fn check(request: &Request, config: Config, attachment: &Attachment) -> Result<(), Error> {
        let expected = check::expected(request, attachment, "")?;
        let kernel = wire::kernel(attachment)?;
        let followed = config.network(request)?.check(&kernel)?;
        chained::check_mtu(&kernel, &attachment.id.ifname, followed.mtu)?;
        if config::is_chained(request) {
            return chained::check_masquerade(request, &config, attachment, &kernel, followed.inside);
        }
        let wiring = Wiring::expected(request, attachment, &kernel, &expected, followed.inside)?;
        wiring.check_plan().check(&kernel).map_err(told)?;
        expected.check_links(&kernel)?;
        ipam::pass_on(request, Command::Check)
    }

    fn del(request: &Request, attachment: &Attachment) -> Result<(), Error> {
        match config::is_chained(request) {
            true => removal::remove_rules_of(request, attachment),
            false => removal::del(request, attachment),
        }
    }

    fn gc(request: &Request, valid: &[AttachmentId]) -> Result<(), Error> {
        removal::gc_and(request, valid, &|kernel| Network::sync_if_any(request, &config::reach, kernel))
    }

    fn status(request: &Request, config: Config) -> Result<(), Error> {
        let network = config.network(request).map_err(cluster::limited)?;
        let kernel = Kernel::open().map_err(|error| ipam::unavailable(told(error)))?;
        network.status(&kernel)?;
        status::warn_of_dropped_forwarding(&kernel);
        ipam::status(request)
    }
}

/// The overlay, an address from IPAM, and a routed wire.
fn add_first(
    request: &Request,
    config: Config,
    attachment: &Attachment,
    kernel: &Kernel,
    network: &Network,
) -> Result<CniResult, Error> {
    wire::refuse_second(kernel, request, &attachment.id)?;
    let followed = network.follow(kernel, config.ip_masq)?;
    let overlay = network.interfaces(kernel)?;
    let ipam = Ipam::of(request, &followed.pod_cidrs)?;
    let addresses = ipam.ask()?.answer()?;
    let wish = routed::Wish {
        mtu: followed.mtu,
        masquerade: config.ip_masq,
        inside: followed.inside,
        dns: config.wire.dns,
        mac: config.wire.mac.requested(&request.invocation)?,
    };
    let wired = Wiring::new(request, attachment, addresses, wish)
        .and_then(|wiring| routed::wire(wiring, kernel, request.config.prev_result()?.unwrap_or_default()));
    let wired = wired.map(|mut result| {
        result.interfaces.extend(overlay);
        result
    });
    wired.map_err(|error| ipam.give_back(removal::undo_anew(request, attachment, error)))
}
