//! What STATUS says of a node on which another program's Pods have addresses of the same subnet.
//!
//! That is so on a node that changes from one network to another without being drained: Pods of the earlier network are still
//! on its bridge. IPAM keeps reservations by the network's name and may not know of them. An ADD passes over the addresses
//! that it finds in use (`in_use.rs`), but an operator should know before.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::link::{self, Link};
use kernel::{At, Kernel, Result, address};
use libcni::{Config, Request};
use serde_json::Value;

use crate::label::Label;

/// Logs a warning for each bridge of the node that has an address of one of these subnets, and ports that are not
/// podwire's.
pub fn warn(kernel: &Kernel, subnets: &[IpNetwork]) {
    match on_bridges(kernel, subnets) {
        Ok(warnings) => warnings.iter().for_each(|warning| log::warn!("{warning}")),
        Err(error) => log::warn!("whether other programs' Pods have addresses of this network is not known: {error}"),
    }
}

/// The subnets in an `ipam` section that has them as host-local has: `subnet`, and `ranges[][].subnet`.
pub fn subnets_of_ipam(request: &Request) -> Vec<IpNetwork> {
    let config = Config::decode(&request.config.bytes).unwrap_or_default();
    let ipam = config.get("ipam");
    let ranges = ipam.and_then(|ipam| ipam.get("ranges")).and_then(Value::as_array).into_iter().flatten();
    let ranges = ranges.filter_map(Value::as_array).flatten();
    let subnets = ipam.into_iter().chain(ranges).filter_map(|object| object.get("subnet")?.as_str()?.parse().ok());
    subnets.collect()
}

fn on_bridges(kernel: &Kernel, subnets: &[IpNetwork]) -> Result<Vec<String>> {
    if subnets.is_empty() {
        return Ok(Vec::new());
    }
    let links = link::all(kernel, At::Host)?;
    let mut warnings = Vec::new();
    for bridge in links.iter().filter(|link| links.iter().any(|port| is_foreign_port(port, link))) {
        let addresses = address::on(kernel, At::Host, bridge.index)?;
        let shared = subnets.iter().find(|subnet| addresses.iter().any(|address| overlap(address, subnet)));
        if let Some(subnet) = shared {
            warnings.push(warning(subnet, bridge, &links));
        }
    }
    Ok(warnings)
}

fn is_foreign_port(port: &Link, bridge: &Link) -> bool {
    port.controller == Some(bridge.index) && Label::of(port).is_none()
}

fn overlap(one: &IpNetwork, other: &IpNetwork) -> bool {
    let is_link_local = matches!(one.ip(), IpAddr::V6(ip) if ip.is_unicast_link_local());
    !is_link_local && (one.contains(other.network()) || other.contains(one.network()))
}

fn warning(subnet: &IpNetwork, bridge: &Link, links: &[Link]) -> String {
    let ports: Vec<&str> =
        links.iter().filter(|port| is_foreign_port(port, bridge)).map(|port| port.name.as_str()).collect();
    let more = if ports.len() > 1 { format!(" and {} more", ports.len() - 1) } else { String::new() };
    format!(
        "subnet {subnet} is also on bridge {:?}, which has ports that podwire did not make ({}{more}). If those are Pods of an \
         earlier network, keep that network's name in the list, so that its reservations are seen, or drain the node first",
        bridge.name, ports[0]
    )
}
