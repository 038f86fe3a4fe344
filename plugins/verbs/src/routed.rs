//! The routed wire: a veth pair without a bridge, and the node as the Pod's next hop.
//!
//! The Pod has its address alone (/32, /128) and a default route to a link-local next hop that nobody has: 169.254.1.1,
//! fe80::1. A permanent neighbor entry says that it is the node's end of the pair; the node has a route to the Pod's
//! address on that end, and a permanent entry too. So no ARP and no ND is ever waited for, and none of a Pod's can
//! change anything: what a Pod sends goes to the node, which routes it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use dataplane::address::{Address, Others};
use dataplane::cluster::Inside;
use dataplane::link::Up;
use dataplane::masquerade::Masquerade;
use dataplane::neighbor::Neighbor;
use dataplane::owner::Label;
use dataplane::route::{Options, PROTOCOL, Route};
use dataplane::sourcecheck::SourceCheck;
use dataplane::sysctl::{Forwarding, Setting, Sysctls};
use dataplane::veth::{End, Veth};
use dataplane::{At, Kernel, Mac, Plan, link};
use libcni::ipnetwork::IpNetwork;
use libcni::{Attachment, CniResult, Dns, Error, Interface, IpConfig, Request, Route as ResultRoute, code};

use crate::check::Expected;
use crate::error::told;
use crate::pod::{ON_THE_LINK, is_on_the_link, options};
use crate::{keys, wire};

/// The Pod's next hops. Link-local, so they can be the same on every wire.
const NEXT_HOP_4: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const NEXT_HOP_6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// What a plugin says of a Pod's wire.
#[derive(Debug, Default)]
pub struct Wish {
    /// MTU of both ends, in bytes.
    pub mtu: Option<u32>,
    /// Masquerade what leaves the Pod's network?
    pub masquerade: bool,
    /// What is inside of a network of many nodes.
    pub inside: Option<Inside>,
    /// Name resolution; what IPAM says if empty.
    pub dns: Dns,
    /// The Pod's hardware address; by its IP address if `None`.
    pub mac: Option<Mac>,
}

/// All facts about one attachment.
#[derive(Debug)]
pub struct Wiring {
    veth: Veth,
    sandbox: String,
    masquerade: Option<Masquerade>,
    /// Addresses and routes as the Pod gets them.
    pub addresses: CniResult,
}

impl Wiring {
    /// For ADD: with what IPAM answered.
    pub fn new(request: &Request, attachment: &Attachment, from_ipam: CniResult, wish: Wish) -> Result<Self, Error> {
        let Some(first) = first_address(&from_ipam) else {
            return Err(Error::new(code::PLUGIN_FAILED, "delegate failed", "IPAM gave no address"));
        };
        keys::validate_mtu_for(wish.mtu, &from_ipam.ips)?;
        let subnets: Vec<IpNetwork> = from_ipam.ips.iter().map(|ip| ip.address).collect();
        let mut label = wire::label(request, &attachment.id, if wish.masquerade { subnets } else { Vec::new() });
        label.cluster = wish.inside.filter(|_| wish.masquerade);
        label.source_check = from_ipam.ips.iter().any(|ip| ip.address.is_ipv6());
        let pod = End { name: attachment.id.ifname.clone(), mac: wish.mac.unwrap_or_else(|| Mac::of_ip(first)) };
        let host = End { name: label.owner.host_end(), mac: Mac::random() };
        Ok(Wiring {
            masquerade: masquerade(&label),
            veth: Veth { host, pod, mtu: wish.mtu, port: None, label },
            sandbox: attachment.sandbox(),
            addresses: routed(from_ipam, wish.dns),
        })
    }

    /// For CHECK: with the result of the ADD. What is masqueraded is in the label of the node's end, with the subnets that the
    /// result does not tell; `inside` is what the map says today.
    pub fn expected(
        request: &Request,
        attachment: &Attachment,
        kernel: &Kernel,
        expected: &Expected,
        inside: Option<Inside>,
    ) -> Result<Self, Error> {
        let owner = wire::owner(request, &attachment.id);
        let host = link::expect(kernel, At::Host, &owner.host_end()).map_err(told)?;
        let mut label = Label::parse(&host.alias)
            .filter(|label| label.owner == owner)
            .ok_or_else(|| Error::check(format!("interface {:?} on the node does not say whose it is", host.name)))?;
        // An overlay after this plugin may have said what is inside: then that is its own to check.
        label.cluster = inside.filter(|inside| label.cluster.as_ref().is_some_and(|it| it.network == inside.network));
        let pod_mac = expected.pod.mac.parse().unwrap_or_else(|_| Mac::random());
        Ok(Wiring {
            masquerade: masquerade(&label),
            veth: Veth {
                host: End { name: host.name, mac: host.mac.unwrap_or(pod_mac) },
                pod: End { name: expected.pod.name.clone(), mac: pod_mac },
                mtu: None,
                port: None,
                label,
            },
            sandbox: attachment.sandbox(),
            addresses: expected.result.clone(),
        })
    }

    /// For ADD: everything, in the order in which it stands on one another. The Pod's end goes up when both ends have
    /// their settings, for before that neither sends nor hears anything.
    pub fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        plan.shared(self.forwarding());
        plan.owned(self.veth.clone());
        plan.owned(self.host_settings());
        plan.owned(self.pod_settings());
        self.configure(&mut plan);
        plan
    }

    /// For CHECK: the same, less what the Pod itself may set as it likes.
    pub fn check_plan(&self) -> Plan {
        let mut plan = Plan::default();
        plan.shared(self.forwarding());
        plan.owned(self.veth.clone());
        plan.owned(self.host_settings());
        self.configure(&mut plan);
        plan
    }

    fn configure(&self, plan: &mut Plan) {
        for ip in &self.addresses.ips {
            plan.owned(self.address(ip));
        }
        plan.owned(Up { at: At::Pod, name: self.veth.pod.name.clone() });
        for ip in &self.addresses.ips {
            plan.owned(self.neighbor_on_the_node(ip));
            plan.owned(self.route_to_the_pod(ip));
        }
        for next_hop in self.next_hops() {
            plan.owned(self.neighbor_in_the_pod(next_hop));
        }
        for route in &self.addresses.routes {
            plan.owned(self.route_in_the_pod(route));
        }
        if self.veth.label.source_check {
            plan.owned(SourceCheck { owner: self.veth.label.owner });
        }
        if let Some(masquerade) = &self.masquerade {
            plan.owned(masquerade.clone());
        }
    }

    /// The result's interfaces as the kernel has them: node's end, Pod's end.
    pub fn interfaces(&self, kernel: &Kernel) -> Result<[Interface; 2], dataplane::Error> {
        let (host, pod) = (&self.veth.host.name, &self.veth.pod.name);
        Ok([wire::interface(kernel, At::Host, host, "")?, wire::interface(kernel, At::Pod, pod, &self.sandbox)?])
    }

    fn has(&self, ipv4: bool) -> bool {
        self.addresses.ips.iter().any(|ip| ip.address.is_ipv4() == ipv4)
    }

    fn forwarding(&self) -> Forwarding {
        Forwarding { ipv4: self.has(true), ipv6: self.has(false) }
    }

    /// What comes out of a Pod must come from its address, and configures nothing on the node.
    fn host_settings(&self) -> Sysctls {
        let ipv4 = |key: &str| format!("net/ipv4/conf/{}/{key}", self.veth.host.name);
        let ipv6 = |key: &str| format!("net/ipv6/conf/{}/{key}", self.veth.host.name);
        let mut settings = vec![
            Setting::new(ipv4("rp_filter"), "1"),
            Setting::new(ipv4("accept_redirects"), "0"),
            Setting::new(ipv4("send_redirects"), "0"),
            Setting::if_there(ipv6("accept_ra"), "0"),
            Setting::if_there(ipv6("accept_redirects"), "0"),
        ];
        // A Pod without an IPv6 address has no business with IPv6.
        settings.push(match self.has(false) {
            true => Setting::new(ipv6("disable_ipv6"), "0"),
            false => Setting::if_there(ipv6("disable_ipv6"), "1"),
        });
        Sysctls { at: At::Host, settings }
    }

    fn pod_settings(&self) -> Sysctls {
        let ipv6 = |key: &str| format!("net/ipv6/conf/{}/{key}", self.veth.pod.name);
        let mut settings = vec![
            Setting::if_there(ipv6("accept_ra"), "0"),
            // IPAM gives an address once, and nobody else is on this wire.
            Setting::if_there(ipv6("accept_dad"), "0"),
        ];
        if self.has(false) {
            settings.push(Setting::new(ipv6("disable_ipv6"), "0"));
        }
        Sysctls { at: At::Pod, settings }
    }

    fn address(&self, ip: &IpConfig) -> Address {
        Address {
            at: At::Pod,
            link: self.veth.pod.name.clone(),
            address: ip.address,
            detect_duplicates: false,
            neighbors: Others::Keep,
        }
    }

    fn neighbor_on_the_node(&self, ip: &IpConfig) -> Neighbor {
        Neighbor { at: At::Host, link: self.veth.host.name.clone(), ip: ip.address.ip(), mac: self.veth.pod.mac }
    }

    fn neighbor_in_the_pod(&self, next_hop: IpAddr) -> Neighbor {
        Neighbor { at: At::Pod, link: self.veth.pod.name.clone(), ip: next_hop, mac: self.veth.host.mac }
    }

    fn next_hops(&self) -> Vec<IpAddr> {
        let families = [true, false].into_iter().filter(|ipv4| self.has(*ipv4));
        families.map(next_hop).collect()
    }

    /// Takes the place of a route to a Pod that had the address before and went without DEL.
    fn route_to_the_pod(&self, ip: &IpConfig) -> Route {
        Route {
            at: At::Host,
            link: self.veth.host.name.clone(),
            dst: ip.address.ip().into(),
            gateway: None,
            on_link: false,
            options: Options { protocol: Some(PROTOCOL), replace: true, ..Options::default() },
        }
    }

    fn route_in_the_pod(&self, route: &ResultRoute) -> Route {
        let to_next_hop = route.dst == IpNetwork::from(IpAddr::V4(NEXT_HOP_4));
        Route {
            at: At::Pod,
            link: self.veth.pod.name.clone(),
            dst: route.dst,
            gateway: if to_next_hop || is_on_the_link(route) { None } else { route.gw },
            on_link: false,
            options: options(route),
        }
    }
}

fn masquerade(label: &Label) -> Option<Masquerade> {
    let addresses = label.masquerade.clone();
    (!addresses.is_empty()).then(|| Masquerade { owner: label.owner, addresses, inside: label.cluster.clone() })
}

/// The address that the Pod's hardware address is made of: IPv4 if there is one.
fn first_address(result: &CniResult) -> Option<IpAddr> {
    let ips = || result.ips.iter().map(|ip| ip.address.ip());
    ips().find(IpAddr::is_ipv4).or_else(|| ips().next())
}

fn next_hop(ipv4: bool) -> IpAddr {
    if ipv4 { NEXT_HOP_4.into() } else { NEXT_HOP_6.into() }
}

/// What IPAM answered, as it is on this wire: each address alone; the node as the one next hop, whatever next hop IPAM
/// thought of; a default route for each family; and the route to 169.254.1.1, without which nobody could set such
/// routes again (fe80::1 is on every link).
fn routed(from_ipam: CniResult, dns: Dns) -> CniResult {
    let mut result = CniResult { dns: if dns.is_empty() { from_ipam.dns } else { dns }, ..CniResult::default() };
    for ip in from_ipam.ips {
        let gateway = Some(next_hop(ip.address.is_ipv4()));
        result.ips.push(IpConfig { address: ip.address.ip().into(), gateway, interface: None });
    }
    let has = |ipv4: bool| result.ips.iter().any(|ip| ip.address.is_ipv4() == ipv4);
    if has(true) {
        let to_next_hop = ResultRoute::new(IpAddr::V4(NEXT_HOP_4).into(), None);
        result.routes.push(ResultRoute { scope: Some(ON_THE_LINK), ..to_next_hop });
    }
    for ipv4 in [true, false].into_iter().filter(|ipv4| has(*ipv4)) {
        let is_default = |route: &ResultRoute| route.dst.prefix() == 0 && route.dst.is_ipv4() == ipv4;
        if !from_ipam.routes.iter().any(is_default) {
            let any = if ipv4 { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
            let default = IpNetwork::new(any, 0).expect("a prefix length of 0");
            result.routes.push(ResultRoute::new(default, Some(next_hop(ipv4))));
        }
    }
    for route in from_ipam.routes {
        let gw = if is_on_the_link(&route) { None } else { Some(next_hop(route.dst.is_ipv4())) };
        result.routes.push(ResultRoute { gw, ..route });
    }
    result
}

/// Makes everything exist, and says what is there now. `result` is what the plugins before said.
pub fn wire(wiring: Wiring, kernel: &Kernel, mut result: CniResult) -> Result<CniResult, Error> {
    let plan = wiring.plan();
    plan.add(kernel).map_err(told)?;
    let interfaces = wiring.interfaces(kernel).map_err(|error| {
        plan.undo(kernel);
        told(error)
    })?;
    result.interfaces.extend(interfaces);
    let pod = result.interfaces.len() - 1;
    result.ips.extend(wiring.addresses.ips.into_iter().map(|ip| IpConfig { interface: Some(pod), ..ip }));
    result.routes.extend(wiring.addresses.routes);
    if !wiring.addresses.dns.is_empty() {
        result.dns = wiring.addresses.dns;
    }
    Ok(result)
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
    fn every_route_leads_to_the_node_and_there_is_one_default_route_a_family() {
        let result = routed(from_ipam(), Dns::default());
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
        let mac = |result: &CniResult| Mac::of_ip(first_address(result).unwrap()).to_string();
        let mut result = from_ipam();
        result.ips.reverse();
        assert_eq!(mac(&result), "0a:58:0a:f4:00:06");
        result.ips.truncate(1);
        assert_eq!(mac(&result), "0a:58:00:00:00:06");
    }
}
