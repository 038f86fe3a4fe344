//! `bridge`: Pods on a Linux bridge.
//!
//! Each Pod gets a veth pair; its end on the node is a port of one bridge that all Pods of the network share. With
//! `isGateway` the node has an address on the bridge and routes for the Pods; with `ipMasq` what they send beyond their
//! subnet leaves with the node's address.
//!
//! `config.rs` says which keys there are, `plan.rs` what should exist for them, this file what the five verbs do with it.

mod config;
mod plan;

use std::process::ExitCode;

use dataplane::Kernel;
use dataplane::plan::Made;
use libcni::plugin::Operator;
use libcni::{About, Attachment, AttachmentId, CniResult, Error, Interface, Kind, Plugin, Request};
use verbs::cluster::{self, Network};
use verbs::ipam::{self, Ipam};
use verbs::{check, keys, removal, status, told, wire};

use crate::config::Config;
use crate::plan::Wiring;

struct Bridge;

fn main() -> ExitCode {
    libcni::plugin::main::<Bridge>()
}

impl Plugin for Bridge {
    type Config = Config;

    const ABOUT: About = config::ABOUT;
    const KIND: Kind = Kind::Interface;
    const OPERATOR: Option<Operator> =
        Some(cluster::operator(|request| cluster::sync_command(request, &keys::reach_by_node_routes)));

    fn validate(request: &Request, config: &Config) -> Result<(), Error> {
        config.validate(request)
    }

    fn add(request: &Request, config: Config, attachment: &Attachment) -> Result<CniResult, Error> {
        let kernel = wire::kernel(attachment)?;
        wire::refuse_second(&kernel, request, &attachment.id)?;
        plan::leave_ipv6_alone(&config, &kernel)?;
        let network = config.nodes.network(request)?;
        let followed = network.map(|network| network.follow(&kernel, config.ip_masq)).transpose()?;
        let followed = followed.unwrap_or_default();
        let ipam = Ipam::of(request, &followed.pod_cidrs)?;
        let pair = plan::pair(request, &config, attachment)?;
        let before_addresses = plan::before_addresses(&config, &pair);

        let asked = ipam.ask()?;
        let undo_anew = |error| removal::undo_anew(request, attachment, error);
        let is_new = before_addresses.add(&kernel).map_err(|error| undo_anew(told(error)))? == Made::New;
        let addresses = asked.answer().inspect_err(|_| before_addresses.undo(&kernel))?;
        let wiring = Wiring::new(&config, attachment, pair, addresses, followed.inside);
        let result = wiring.and_then(|wiring| connect(request, wiring, &kernel, is_new));
        result.map_err(|error| {
            before_addresses.undo(&kernel);
            ipam.give_back(undo_anew(error))
        })
    }

    fn check(request: &Request, config: Config, attachment: &Attachment) -> Result<(), Error> {
        let expected = check::expected(request, attachment, &config.bridge)?;
        let kernel = wire::kernel(attachment)?;
        let inside = config.nodes.network(request)?.map(|network| network.check(&kernel)).transpose()?;
        let inside = inside.and_then(|followed| followed.inside).filter(|_| config.ip_masq);
        Wiring::expected(request, &config, attachment, &expected, inside)?.check_plan().check(&kernel).map_err(told)?;
        expected.check_links(&kernel)?;
        ipam::pass_on(request, libcni::Command::Check)
    }

    fn del(request: &Request, attachment: &Attachment) -> Result<(), Error> {
        removal::del(request, attachment)
    }

    fn gc(request: &Request, valid: &[AttachmentId]) -> Result<(), Error> {
        removal::gc_and(request, valid, &|kernel| Network::sync_if_any(request, &keys::reach_by_node_routes, kernel))
    }

    fn status(request: &Request, config: Config) -> Result<(), Error> {
        let kernel = Kernel::open().map_err(|error| ipam::unavailable(told(error)))?;
        plan::network(&config).possible(&kernel).map_err(|error| ipam::unavailable(told(error)))?;
        if config.has_gateway() {
            status::warn_of_dropped_forwarding(&kernel);
        }
        if let Some(network) = config.nodes.network(request).map_err(cluster::limited)? {
            network.status(&kernel)?;
        }
        ipam::status(request)
    }
}

/// With addresses in hand: makes all the rest exist, and says what is there now. `is_new` says that the network is.
fn connect(request: &Request, wiring: Wiring, kernel: &Kernel, is_new: bool) -> Result<CniResult, Error> {
    let mut result = request.config.prev_result()?.unwrap_or_default();
    let plan = wiring.plan();
    let is_first = plan.add(kernel).map_err(told)? == Made::New || is_new;
    if is_first && wiring.has_gateway() {
        status::warn_of_dropped_forwarding(kernel);
    }
    let interfaces = wiring.interfaces(kernel).map_err(|error| {
        plan.undo(kernel);
        told(error)
    })?;
    extend(&mut result, interfaces, wiring.addresses);
    Ok(result)
}

/// Appends what this attachment made to the result of the plugins before it, which there usually are none of.
fn extend(result: &mut CniResult, interfaces: [Interface; 3], addresses: CniResult) {
    result.interfaces.extend(interfaces);
    let pod = result.interfaces.len() - 1;
    result.ips.extend(addresses.ips.into_iter().map(|ip| libcni::IpConfig { interface: Some(pod), ..ip }));
    result.routes.extend(addresses.routes);
    if !addresses.dns.is_empty() {
        result.dns = addresses.dns;
    }
}
