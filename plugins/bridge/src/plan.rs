//! What should exist for a Pod on the bridge: the one list from which the five verbs follow.

use std::net::IpAddr;

use dataplane::address::{self, Address, Others};
use dataplane::addresscheck::{AddressCheck, link_local};
use dataplane::bridge::Bridge;
use dataplane::cluster::Inside;
use dataplane::masquerade::Masquerade;
use dataplane::neighbor::NoStaleNeighbor;
use dataplane::spoofcheck::SpoofCheck;
use dataplane::sysctl::{Forwarding, Setting, Sysctls};
use dataplane::veth::{End, Port, Relabel, Veth};
use dataplane::vlan::{PortVlans, VlanGateway};
use dataplane::{At, Kernel, Mac, Owner, Plan, link};
use ipnetwork::IpNetwork;
use libcni::{Attachment, CniResult, Error, Interface, Request, Route};
use verbs::check::Expected;
use verbs::pod::PodInterface;
use verbs::{keys, told, wire};

use crate::config::Config;

/// All facts about one attachment, gathered before the kernel is touched.
#[derive(Debug)]
pub struct Wiring<'a> {
    config: &'a Config,
    trunk: Vec<(u16, u16)>,
    owner: Owner,
    veth: Veth,
    /// Does the pair say already all that its label is to say?
    is_labelled: bool,
    sandbox: String,
    /// Addresses with their gateways, routes with the default ones, and name resolution.
    pub addresses: CniResult,
}

impl<'a> Wiring<'a> {
    /// For ADD: with the pair that stands already, and what IPAM answered.
    pub fn new(
        config: &'a Config,
        attachment: &Attachment,
        pair: Veth,
        mut addresses: CniResult,
        inside: Option<Inside>,
    ) -> Result<Self, Error> {
        complete(config, &mut addresses)?;
        Wiring::over(config, attachment, pair, addresses, inside)
    }

    /// For CHECK: with the result of the ADD. Its host end may have another's name: then the Pod was made by another
    /// implementation, before the plugins were replaced.
    pub fn expected(
        request: &Request,
        config: &'a Config,
        attachment: &Attachment,
        expected: &Expected,
        inside: Option<Inside>,
    ) -> Result<Self, Error> {
        let owner = wire::owner(request, &attachment.id);
        let end = |interface: &Interface| End {
            name: interface.name.clone(),
            mac: interface.mac.parse().unwrap_or_else(|_| Mac::random()),
        };
        let host = expected.host.as_ref().map_or(End { name: owner.host_end(), mac: Mac::random() }, end);
        let pair = pair_of(request, config, attachment, host, end(&expected.pod));
        Wiring::over(config, attachment, pair, expected.result.clone(), inside)
    }

    fn over(
        config: &'a Config,
        attachment: &Attachment,
        pair: Veth,
        addresses: CniResult,
        inside: Option<Inside>,
    ) -> Result<Self, Error> {
        let mut label = pair.label.clone();
        if config.ip_masq {
            label.masquerade = addresses.ips.iter().map(|ip| ip.address).collect();
        }
        label.cluster = inside;
        if config.ipspoofchk {
            label.address_check = addresses.ips.iter().map(|ip| ip.address.ip()).collect();
            label.address_check.push(link_local(pair.pod.mac));
            if !label.fits() {
                let count = addresses.ips.len();
                let why = format!("a Pod with {count} addresses has more than can be remembered for the check");
                return Err(Error::config("ipspoofchk", true, why));
            }
        }
        Ok(Wiring {
            config,
            trunk: config.trunk()?,
            owner: label.owner,
            is_labelled: label == pair.label,
            veth: Veth { label, ..pair },
            sandbox: attachment.sandbox(),
            addresses,
        })
    }

    /// Is the node the Pods' gateway?
    pub fn has_gateway(&self) -> bool {
        self.config.has_gateway()
    }

    /// For ADD: everything that stands on the pair, in the order in which it stands on one another.
    pub fn plan(&self) -> Plan {
        let mut plan = Plan::default();
        // Router advertisements of a Pod must not reach the node's routing.
        let key = format!("net/ipv6/conf/{}/accept_ra", self.config.bridge);
        plan.shared(Sysctls { at: At::Host, settings: vec![Setting::if_there(key, "0")] });
        self.gateways(&mut plan);
        if !self.is_labelled {
            plan.owned(Relabel { host: self.veth.host.name.clone(), label: self.veth.label.clone() });
        }
        self.vlans(&mut plan);
        self.spoof_checks(&mut plan);
        if !self.config.disable_container_interface {
            let pod = self.pod();
            plan.owned(pod.settings(&self.addresses));
            pod.configure(&mut plan, &self.addresses);
        }
        self.masquerade(&mut plan);
        plan
    }

    /// For CHECK: the same, less what a later plugin or the Pod itself may set as it likes, and less what only we
    /// would have made for a Pod that another implementation made.
    pub fn check_plan(&self) -> Plan {
        let mut plan = network(self.config);
        self.gateways(&mut plan);
        plan.owned(self.veth.clone());
        self.vlans(&mut plan);
        if !self.config.disable_container_interface {
            self.pod().configure(&mut plan, &self.addresses);
        }
        if self.veth.host.name == self.owner.host_end() {
            self.spoof_checks(&mut plan);
            self.masquerade(&mut plan);
        }
        plan
    }

    /// The result's interfaces as the kernel has them: bridge, host end, Pod end.
    pub fn interfaces(&self, kernel: &Kernel) -> Result<[Interface; 3], dataplane::Error> {
        Ok([
            wire::interface(kernel, At::Host, &self.config.bridge, "")?,
            wire::interface(kernel, At::Host, &self.veth.host.name, "")?,
            wire::interface(kernel, At::Pod, &self.veth.pod.name, &self.sandbox)?,
        ])
    }

    fn pod(&self) -> PodInterface<'_> {
        PodInterface { name: &self.veth.pod.name, detect_duplicates: self.config.enabledad }
    }

    /// The node's addresses on the bridge, and forwarding for their families.
    fn gateways(&self, plan: &mut Plan) {
        if !self.has_gateway() {
            return;
        }
        let ips = &self.addresses.ips;
        let has = |ipv4: bool| ips.iter().any(|ip| ip.address.is_ipv4() == ipv4);
        plan.shared(Forwarding { ipv4: has(true), ipv6: has(false) });
        let link = gateway_link(self.config);
        for ip in ips {
            let Some(address) = ip.gateway.and_then(|gateway| with_prefix(gateway, ip.address)) else { continue };
            let neighbors = if self.config.force_address { Others::Replace } else { Others::Refuse };
            plan.shared(Address { at: At::Host, link: link.clone(), address, detect_duplicates: false, neighbors });
            plan.shared(NoStaleNeighbor { link: link.clone(), ip: ip.address.ip() });
        }
    }

    fn vlans(&self, plan: &mut Plan) {
        if self.config.vlan().is_some() || !self.trunk.is_empty() {
            plan.owned(PortVlans {
                port: self.veth.host.name.clone(),
                untagged: self.config.vlan(),
                tagged: self.trunk.clone(),
                keep_default: self.config.preserve_default_vlan,
            });
        }
    }

    fn spoof_checks(&self, plan: &mut Plan) {
        if self.config.macspoofchk {
            plan.owned(SpoofCheck { owner: self.owner, mac: self.veth.pod.mac });
        }
        if self.config.ipspoofchk {
            plan.owned(AddressCheck { owner: self.owner, addresses: self.veth.label.address_check.clone() });
        }
    }

    fn masquerade(&self, plan: &mut Plan) {
        if !self.veth.label.masquerade.is_empty() {
            plan.owned(Masquerade {
                owner: self.owner,
                addresses: self.veth.label.masquerade.clone(),
                inside: self.veth.label.cluster.clone(),
            });
        }
    }
}

/// The pair of an attachment that is to be made, labelled with as much as is known before IPAM has answered.
pub fn pair(request: &Request, config: &Config, attachment: &Attachment) -> Result<Veth, Error> {
    let pod_mac = wire::pod_mac(config.wire.mac.requested(&request.invocation)?);
    let host = End { name: wire::owner(request, &attachment.id).host_end(), mac: Mac::random() };
    let pod = End { name: attachment.id.ifname.clone(), mac: pod_mac };
    Ok(pair_of(request, config, attachment, host, pod))
}

fn pair_of(request: &Request, config: &Config, attachment: &Attachment, host: End, pod: End) -> Veth {
    let mut label = wire::label(request, &attachment.id, Vec::new());
    label.mac_check = config.macspoofchk.then_some(pod.mac);
    let port = Port { bridge: config.bridge.clone(), hairpin: config.hairpin_mode, isolated: config.port_isolation };
    Veth { host, pod, mtu: keys::mtu(config.mtu), port: Some(port), label }
}

/// What needs no address, and is made while IPAM looks for one: the bridge, and the pair on it.
pub fn before_addresses(config: &Config, pair: &Veth) -> Plan {
    let mut plan = network(config);
    plan.owned(pair.clone());
    plan
}

/// What the network needs before it has any Pod: the bridge, and with a VLAN the node's place in it.
pub fn network(config: &Config) -> Plan {
    let mut plan = Plan::default();
    let vlan_filtering = config.vlan().is_some() || !config.vlan_trunk.is_empty();
    plan.shared(Bridge { name: config.bridge.clone(), promiscuous: config.promisc_mode, vlan_filtering });
    if let (Some(vlan), true) = (config.vlan(), config.has_gateway()) {
        plan.shared(VlanGateway { bridge: config.bridge.clone(), vlan, keep_default: config.preserve_default_vlan });
    }
    plan
}

/// A bridge's MTU is that of its smallest port: one Pod with less than IPv6 needs would take IPv6 from all others.
pub fn leave_ipv6_alone(config: &Config, kernel: &Kernel) -> Result<(), Error> {
    let Some(mtu) = keys::mtu(config.mtu).filter(|mtu| *mtu < keys::LEAST_FOR_IPV6) else { return Ok(()) };
    let Some(bridge) = link::get(kernel, At::Host, &config.bridge).map_err(told)? else { return Ok(()) };
    let addresses = address::on(kernel, At::Host, bridge.index).map_err(told)?;
    match addresses.iter().find(|address| address.is_ipv6()) {
        Some(address) => {
            let least = keys::LEAST_FOR_IPV6;
            let why =
                format!("bridge {:?} carries IPv6 ({address}), which needs {least} bytes at least", config.bridge);
            Err(Error::config("mtu", mtu, why))
        }
        None => Ok(()),
    }
}

/// The link that carries the gateway's addresses.
fn gateway_link(config: &Config) -> String {
    match config.vlan() {
        Some(vlan) => format!("{}.{vlan}", config.bridge),
        None => config.bridge.clone(),
    }
}

/// Completes what IPAM answered: with `isGateway` an address without a gateway gets the first of its subnet; with
/// `isDefaultGateway` each family gets a default route, unless IPAM gave one; `dns` of the configuration wins.
fn complete(config: &Config, addresses: &mut CniResult) -> Result<(), Error> {
    keys::validate_mtu_for(keys::mtu(config.mtu), &addresses.ips)?;
    if config.has_gateway() {
        for ip in &mut addresses.ips {
            ip.gateway = ip.gateway.or_else(|| first_address(ip.address));
            if let Some(gateway) = ip.gateway.filter(|gateway| !ip.address.contains(*gateway)) {
                let why =
                    format!("outside of the Pod's subnet {}, and with isGateway the node has to be it", ip.address);
                return Err(Error::config("ipam.gateway", gateway, why));
            }
        }
    }
    if config.is_default_gateway {
        for ip in addresses.ips.clone() {
            add_default_route(addresses, ip.address.is_ipv4(), ip.gateway);
        }
    }
    if !config.wire.dns.is_empty() {
        addresses.dns = config.wire.dns.clone();
    }
    Ok(())
}

/// A default route that IPAM gave without a next hop leaves by the same gateway: it is completed, not doubled.
fn add_default_route(addresses: &mut CniResult, ipv4: bool, gateway: Option<IpAddr>) {
    let mut same = addresses.routes.iter_mut().filter(|route| route.dst.prefix() == 0 && route.dst.is_ipv4() == ipv4);
    match same.next() {
        Some(route) => route.gw = route.gw.or(gateway),
        None => {
            let any = if ipv4 { IpAddr::from([0; 4]) } else { IpAddr::from([0; 16]) };
            addresses.routes.extend(IpNetwork::new(any, 0).ok().map(|dst| Route::new(dst, gateway)));
        }
    }
}

fn first_address(network: IpNetwork) -> Option<IpAddr> {
    match network {
        IpNetwork::V4(network) => network.nth(1).map(IpAddr::V4),
        IpNetwork::V6(network) => Some(IpAddr::from((network.network().to_bits() + 1).to_be_bytes())),
    }
}

/// The gateway with the prefix length of the Pod's address; none if it lies outside of that subnet (the node can't be
/// it then).
fn with_prefix(gateway: IpAddr, address: IpNetwork) -> Option<IpNetwork> {
    if address.contains(gateway) { IpNetwork::new(gateway, address.prefix()).ok() } else { None }
}
