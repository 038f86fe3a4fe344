//! The routed wire: a veth pair without a bridge, and the node as the Pod's next hop.
//!
//! The Pod has its address alone (/32, /128) and a default route to a link-local next hop that no interface has:
//! 169.254.1.1, fe80::1. A permanent neighbor entry gives it the hardware address of the node's end of the pair. The node
//! has a route to the Pod's address on that end, and a permanent neighbor entry too. So nothing waits for ARP or neighbor
//! discovery, and nothing that a Pod sends can change these entries: what it sends goes to the node, which routes it.
//!
//! Two plugins make this wire: routed-veth, and vxlan-overlay where it is first in a chain.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use kernel::address::{Address, Others};
use kernel::link::Up;
use kernel::neighbor::Neighbor;
use kernel::route::{self, Route};
use kernel::sysctl::{Forwarding, Setting, Sysctls};
use kernel::veth::Veth;
use kernel::{At, Kernel, Mac, Plan};
use libcni::{CniResult, Error, IpConfig, Route as ResultRoute};

use crate::error::told;
use crate::keys;
use crate::kinds::Owned;
use crate::kinds::podroutes::PodRoutes;
use crate::kinds::sourcecheck::SourceCheck;
use crate::pod::{ON_THE_LINK, is_on_the_link, options};
use crate::wire::Wiring;

/// The Pod's next hops. Link-local, so they can be the same on every wire.
const NEXT_HOP_4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const NEXT_HOP_6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// The keys of a configuration that shape IPAM's answer on this wire.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// `mtu`, in bytes.
    pub mtu: Option<u32>,
    /// `defaultRoute`: may a default route be added?
    pub default_route: bool,
}

/// IPAM's answer as the Pod gets it: each address alone, every route to the node, and default routes where the Pod needs
/// them.
pub fn complete(shape: Shape, kernel: &Kernel, from_ipam: CniResult) -> Result<CniResult, Error> {
    keys::require_addresses(&from_ipam)?;
    keys::validate_mtu_for(shape.mtu, &from_ipam.ips)?;
    let mut defaults = Vec::new();
    for ipv4 in [true, false] {
        if needs_default_route(shape, kernel, &from_ipam, ipv4)? {
            defaults.push(ipv4);
        }
    }
    Ok(routed(from_ipam, &defaults))
}

/// A Pod's first interface is its way out, unless IPAM's routes say where it leads instead: then a Pod that has a way out
/// keeps that one.
fn needs_default_route(shape: Shape, kernel: &Kernel, from_ipam: &CniResult, ipv4: bool) -> Result<bool, Error> {
    let has_address = from_ipam.ips.iter().any(|ip| ip.address.is_ipv4() == ipv4);
    let is_given = from_ipam.routes.iter().any(|route| is_default(route.dst) && route.dst.is_ipv4() == ipv4);
    if !has_address || is_given || !shape.default_route {
        return Ok(false);
    }
    Ok(from_ipam.routes.is_empty() || !has_default_route(kernel, ipv4)?)
}

fn has_default_route(kernel: &Kernel, ipv4: bool) -> Result<bool, Error> {
    let routes = route::all(kernel, At::Pod, ipv4).map_err(told)?;
    Ok(routes.iter().any(|route| route::destination(route).is_some_and(is_default)))
}

fn is_default(dst: IpNetwork) -> bool {
    dst.prefix() == 0
}

/// The address that the Pod's hardware address is made of: IPv4 if there is one.
fn first_address(result: &CniResult) -> Option<IpAddr> {
    let ips = || result.ips.iter().map(|ip| ip.address.ip());
    ips().find(IpAddr::is_ipv4).or_else(|| ips().next())
}

/// The Pod's hardware address, by its IP address.
pub fn pod_mac(addresses: &CniResult) -> Mac {
    first_address(addresses).map_or_else(Mac::random, Mac::of_ip)
}

/// The pair.
pub fn pair<C>(wiring: &Wiring<C>, mtu: Option<u32>) -> Veth {
    // Before IPAM has answered, the Pod may have an address of either family.
    let forwards = wiring.has(true) || wiring.addresses.ips.is_empty();
    Veth { host: wiring.host.clone(), pod: wiring.pod.clone(), mtu, port: None, forwards, alias: String::new() }
}

/// The node's way to the Pod, with permanent neighbor entries if `mac` is theirs; `gateways` are addresses of the node's end. And what the Pod sends by IPv6 must come
/// from its address; for IPv4, rp_filter sees to that.
pub fn owned<C>(wiring: &Wiring<C>, mac: Option<Mac>, gateways: Vec<IpAddr>) -> Vec<Box<dyn Owned>> {
    let owner = wiring.label.owner;
    let addresses: Vec<IpAddr> = wiring.addresses.ips.iter().map(|ip| ip.address.ip()).collect();
    let mut owned: Vec<Box<dyn Owned>> = Vec::new();
    if !addresses.is_empty() {
        owned.push(Box::new(PodRoutes { owner, addresses, mac, gateways }));
    }
    if wiring.has(false) {
        owned.push(Box::new(SourceCheck { owner }));
    }
    owned
}

/// Everything that the wire needs, in the order in which it depends on one another. The Pod's end goes up when both ends
/// have their settings, for before that neither sends nor receives anything.
pub fn plan<C>(wiring: &Wiring<C>, plan: &mut Plan) {
    let (host, pod) = (&wiring.host, &wiring.pod);
    for ip in &wiring.addresses.ips {
        plan.owned(address(ip, &pod.name));
    }
    plan.owned(Up { at: At::Pod, name: pod.name.clone() });
    for ip in [true, false].into_iter().filter(|ipv4| wiring.has(*ipv4)).map(next_hop) {
        plan.owned(Neighbor { at: At::Pod, link: pod.name.clone(), ip, mac: host.mac });
    }
    for route in &wiring.addresses.routes {
        plan.owned(route_in_the_pod(route, &pod.name));
    }
}

/// Forwarding, and the settings of both ends.
pub fn settings<C>(wiring: &Wiring<C>, plan: &mut Plan) {
    plan.shared(Forwarding { ipv4: wiring.has(true), ipv6: wiring.has(false), advice: "" });
    plan.owned(host_settings(wiring));
    // The Pod may change its own settings as it likes.
    plan.owned(pod_settings(wiring)).unchecked();
}

/// What comes out of a Pod must come from its address, and configures nothing on the node.
fn host_settings<C>(wiring: &Wiring<C>) -> Sysctls {
    let ipv4 = |key: &str| format!("net/ipv4/conf/{}/{key}", wiring.host.name);
    let ipv6 = |key: &str| format!("net/ipv6/conf/{}/{key}", wiring.host.name);
    let mut settings = vec![
        Setting::new(ipv4("rp_filter"), "1"),
        Setting::new(ipv4("accept_redirects"), "0"),
        Setting::new(ipv4("send_redirects"), "0"),
        Setting::if_there(ipv6("accept_ra"), "0"),
        Setting::if_there(ipv6("accept_redirects"), "0"),
    ];
    if wiring.has(false) {
        settings.push(Setting::ipv6_on(&wiring.host.name));
        // While the kernel looks for a duplicate of the node's link-local address, the node can't ask for neighbors.
        settings.push(Setting::if_there(ipv6("accept_dad"), "0"));
    } else {
        // A Pod without an IPv6 address needs no IPv6 on its wire.
        settings.push(Setting::if_there(ipv6("disable_ipv6"), "1"));
    }
    Sysctls { at: At::Host, settings }
}

fn pod_settings<C>(wiring: &Wiring<C>) -> Sysctls {
    let ipv6 = |key: &str| format!("net/ipv6/conf/{}/{key}", wiring.pod.name);
    let mut settings = vec![
        Setting::if_there(ipv6("accept_ra"), "0"),
        // IPAM gives an address once, and the node is the only neighbor on this wire.
        Setting::if_there(ipv6("accept_dad"), "0"),
    ];
    if wiring.has(false) {
        settings.push(Setting::ipv6_on(&wiring.pod.name));
    }
    Sysctls { at: At::Pod, settings }
}

fn address(ip: &IpConfig, link: &str) -> Address {
    Address {
        at: At::Pod,
        link: link.to_owned(),
        address: ip.address,
        detect_duplicates: false,
        prefix_route: true,
        others: Others::Keep,
    }
}

fn route_in_the_pod(route: &ResultRoute, link: &str) -> Route {
    let to_next_hop = route.dst == IpNetwork::from(IpAddr::V4(NEXT_HOP_4));
    Route {
        at: At::Pod,
        link: link.to_owned(),
        dst: route.dst,
        gateway: if to_next_hop || is_on_the_link(route) { None } else { route.gw },
        on_link: false,
        options: options(route),
    }
}

fn next_hop(ipv4: bool) -> IpAddr {
    if ipv4 { NEXT_HOP_4.into() } else { NEXT_HOP_6.into() }
}

/// What IPAM answered, as it is on this wire: each address alone; the node as the one next hop, whatever next hop IPAM
/// named; a default route for each family in `defaults`; and the route to 169.254.1.1, without which no program could set
/// such routes again (fe80::1 is on every link).
fn routed(from_ipam: CniResult, defaults: &[bool]) -> CniResult {
    let mut result = CniResult { dns: from_ipam.dns, ..CniResult::default() };
    for ip in from_ipam.ips {
        let gateway = Some(next_hop(ip.address.is_ipv4()));
        result.ips.push(IpConfig { address: ip.address.ip().into(), gateway, interface: None });
    }
    if result.ips.iter().any(|ip| ip.address.is_ipv4()) {
        let to_next_hop = ResultRoute::new(IpAddr::V4(NEXT_HOP_4).into(), None);
        result.routes.push(ResultRoute { scope: Some(ON_THE_LINK), ..to_next_hop });
    }
    for &ipv4 in defaults {
        let any = if ipv4 { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
        let default = IpNetwork::new(any, 0).expect("a prefix length of 0");
        result.routes.push(ResultRoute::new(default, Some(next_hop(ipv4))));
    }
    for route in from_ipam.routes {
        let gw = if is_on_the_link(&route) { None } else { Some(next_hop(route.dst.is_ipv4())) };
        result.routes.push(ResultRoute { gw, ..route });
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from_ipam() -> CniResult {
        let ip = |address: &str, gateway: &str| IpConfig {
            address: address.parse().unwrap(),
            gateway: Some(gateway.parse().unwrap()),
            interface: None,
        };
        CniResult {
            ips: vec![ip("10.244.0.6/24", "10.244.0.1"), ip("fd00::6/64", "fd00::1")],
            routes: vec![
                ResultRoute::new("0.0.0.0/0".parse().unwrap(), None),
                ResultRoute::new("192.168.0.0/16".parse().unwrap(), Some("10.244.0.9".parse().unwrap())),
            ],
            ..CniResult::default()
        }
    }

    #[test]
    fn every_route_leads_to_the_node() {
        let result = routed(from_ipam(), &[false]);
        let ips: Vec<_> = result.ips.iter().map(|ip| ip.address.to_string()).collect();
        assert_eq!(ips, ["10.244.0.6/32", "fd00::6/128"]);
        let routes: Vec<_> =
            result.routes.iter().map(|route| (route.dst.to_string(), route.gw.map(|gw| gw.to_string()))).collect();
        let to = |dst: &str, gw: &str| (dst.to_owned(), Some(gw.to_owned()));
        assert_eq!(
            routes,
            [
                ("169.254.1.1/32".to_owned(), None),
                to("::/0", "fe80::1"),
                to("0.0.0.0/0", "169.254.1.1"),
                to("192.168.0.0/16", "169.254.1.1"),
            ]
        );
    }

    #[test]
    fn the_hardware_address_follows_the_ipv4_address() {
        let mac = |result: &CniResult| pod_mac(result).to_string();
        let mut result = from_ipam();
        result.ips.reverse();
        assert_eq!(mac(&result), "0a:58:0a:f4:00:06");
        result.ips.truncate(1);
        assert_eq!(mac(&result), "0a:58:00:00:00:06");
    }
}
