//! `routed-veth`: Pods on layer 3, without a bridge.
//!
//! Each Pod gets its address alone, and the node as its next hop (the wire itself is `verbs::routed`). With a node map
//! (`nodes`) there are routes to the other nodes' Pod CIDRs too, or, with `"nodeRoutes": false`, the underlay's own
//! routers have them.

mod config;

use std::process::ExitCode;

use dataplane::Kernel;
use libcni::plugin::Operator;
use libcni::{About, Attachment, AttachmentId, CniResult, Command, Error, Kind, Plugin, Request};
use verbs::cluster::{self, Network};
use verbs::ipam::{self, Ipam};
use verbs::routed::{self, Wiring};
use verbs::{check, keys, removal, status, told, wire};

use crate::config::Config;

struct RoutedVeth;

fn main() -> ExitCode {
    libcni::plugin::main::<RoutedVeth>()
}

impl Plugin for RoutedVeth {
    type Config = Config;

    const ABOUT: About = config::ABOUT;
    const KIND: Kind = Kind::Interface;
    const OPERATOR: Option<Operator> =
        Some(cluster::operator(|request| cluster::sync_command(request, &keys::reach_by_node_routes)));

    fn validate(request: &Request, config: &Config) -> Result<(), Error> {
        config.validate(request)
    }

    fn add(request: &Request, config: Config, attachment: &Attachment) -> Result<CniResult, Error> {
        let network = config.nodes.network(request)?;
        let kernel = wire::kernel(attachment)?;
        wire::refuse_second(&kernel, request, &attachment.id)?;
        let followed = network.map(|network| network.follow(&kernel, config.ip_masq)).transpose()?;
        let followed = followed.unwrap_or_default();
        let ipam = Ipam::of(request, &followed.pod_cidrs)?;
        let addresses = ipam.ask()?.answer()?;
        let wish = routed::Wish {
            mtu: keys::mtu(config.mtu),
            masquerade: config.ip_masq,
            inside: followed.inside,
            dns: config.wire.dns,
            mac: config.wire.mac.requested(&request.invocation)?,
        };
        let wired = Wiring::new(request, attachment, addresses, wish)
            .and_then(|wiring| routed::wire(wiring, &kernel, request.config.prev_result()?.unwrap_or_default()));
        wired.map_err(|error| ipam.give_back(removal::undo_anew(request, attachment, error)))
    }

    fn check(request: &Request, config: Config, attachment: &Attachment) -> Result<(), Error> {
        let expected = check::expected(request, attachment, "")?;
        let kernel = wire::kernel(attachment)?;
        let followed = config.nodes.network(request)?.map(|network| network.check(&kernel)).transpose()?;
        let inside = followed.and_then(|followed| followed.inside);
        let wiring = Wiring::expected(request, attachment, &kernel, &expected, inside)?;
        wiring.check_plan().check(&kernel).map_err(told)?;
        expected.check_links(&kernel)?;
        ipam::pass_on(request, Command::Check)
    }

    fn del(request: &Request, attachment: &Attachment) -> Result<(), Error> {
        removal::del(request, attachment)
    }

    fn gc(request: &Request, valid: &[AttachmentId]) -> Result<(), Error> {
        removal::gc_and(request, valid, &|kernel| Network::sync_if_any(request, &keys::reach_by_node_routes, kernel))
    }

    fn status(request: &Request, config: Config) -> Result<(), Error> {
        let kernel = Kernel::open().map_err(|error| ipam::unavailable(told(error)))?;
        if let Some(network) = config.nodes.network(request).map_err(cluster::limited)? {
            network.status(&kernel)?;
        }
        status::warn_of_dropped_forwarding(&kernel);
        ipam::status(request)
    }
}
