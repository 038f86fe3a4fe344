//! What should exist for a Pod on the bridge.

use std::net::IpAddr;

use attach::keys::{self, NodeRouteKeys, WireKeys};
use attach::kinds::Owned;
use attach::kinds::addresscheck::{AddressCheck, link_local};
use attach::kinds::spoofcheck::SpoofCheck;
use attach::pod::{PodInterface, first_of_subnet};
use attach::told;
use attach::wire::{WirePlugin, Wiring};
use ipnetwork::IpNetwork;
use kernel::address::{self, Address, Others};
use kernel::bridge::Bridge;
use kernel::link::forwarding::Forwards;
use kernel::neighbor::NoStaleNeighbor;
use kernel::sysctl::{Forwarding, Setting, Sysctls};
use kernel::veth::{Port, Veth};
use kernel::vlan::{PortVlans, VlanGateway};
use kernel::{At, Kernel, Plan, link};
use libcni::{About, CniResult, Error, IpConfig, Request, Route};

use crate::config::{self, Config};
use crate::gateway::{self, Gateway, with_prefix};

/// The alias of links on the node that are shared by Pods and that podwire made.
const MARK: &str = "podwire: made for Pods, and not removed with the last";

/// Pods whose ends on the node are ports of one bridge.
pub struct OnBridge;

impl WirePlugin for OnBridge {
    type Config = Config;
    type Nodes = NodeRouteKeys;

    const ABOUT: About = config::ABOUT;
    const PAIR_NEEDS_NO_ADDRESS: bool = true;

    fn validate(request: &Request, config: &Config) -> Result<(), Error> {
        config.validate(request)
    }

    fn nodes(config: &Config) -> &NodeRouteKeys {
        &config.nodes
    }

    fn keys(config: &Config) -> &WireKeys {
        &config.wire
    }

    fn masquerades(config: &Config) -> bool {
        config.masquerade.ip_masq
    }

    fn routes(config: &Config) -> bool {
        config.has_gateway()
    }

    /// The bridge itself is the gateway.
    fn pins(config: &Config) -> bool {
        config.has_gateway() && config.vlan().is_none()
    }

    /// A bridge's MTU is that of its smallest port: one Pod with less than IPv6 needs would take IPv6 from all others.
    fn refuse(config: &Config, kernel: &Kernel) -> Result<(), Error> {
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

    /// The bridge, and with a VLAN the node's place in it.
    fn network(config: &Config, plan: &mut Plan) {
        let vlan_filtering = config.native_vlan().is_some();
        plan.shared(Bridge {
            name: config.bridge.clone(),
            promiscuous: config.promisc_mode,
            vlan_filtering,
            pinned: Self::pins(config),
            mark: MARK,
            forwards: config.has_gateway(),
        });
        if let (Some(vlan), true) = (config.vlan(), config.has_gateway()) {
            plan.shared(VlanGateway {
                bridge: config.bridge.clone(),
                vlan,
                keep_default: config.preserve_default_vlan,
                mark: MARK,
            });
        }
    }

    fn complete(config: &Config, _kernel: &Kernel, from_ipam: CniResult) -> Result<CniResult, Error> {
        complete(config, from_ipam)
    }

    fn pair(wiring: &Wiring<Config>) -> Veth {
        let config = wiring.config;
        let port =
            Port { bridge: config.bridge.clone(), hairpin: config.hairpin_mode, isolated: config.port_isolation };
        Veth {
            host: wiring.host.clone(),
            pod: wiring.pod.clone(),
            mtu: keys::mtu(config.mtu),
            port: Some(port),
            forwards: false,
            alias: String::new(),
        }
    }

    fn owned(wiring: &Wiring<Config>) -> Vec<Box<dyn Owned>> {
        let (config, owner, mac) = (wiring.config, wiring.label.owner, wiring.pod.mac);
        let mut owned: Vec<Box<dyn Owned>> = Vec::new();
        if config.macspoofchk {
            owned.push(Box::new(SpoofCheck { owner, mac }));
        }
        let ips = wiring.addresses.ips.iter().map(|ip| ip.address.ip());
        if config.ipspoofchk && !wiring.addresses.ips.is_empty() {
            owned.push(Box::new(AddressCheck { owner, addresses: ips.chain([link_local(mac)]).collect() }));
        }
        owned
    }

    fn plan(wiring: &Wiring<Config>, plan: &mut Plan) {
        let config = wiring.config;
        // Router advertisements of a Pod must not reach the node's routing.
        let key = format!("net/ipv6/conf/{}/accept_ra", config.bridge);
        plan.shared(Sysctls { at: At::Host, settings: vec![Setting::if_there(key, "0")] }).unchecked();
        if config.has_gateway() {
            plan_gateways(wiring, plan);
        }
        if let Ok(trunk) = config.trunk()
            && config.native_vlan().is_some()
        {
            plan.owned(PortVlans {
                port: wiring.host.name.clone(),
                untagged: config.native_vlan(),
                tagged: trunk,
                keep_default: config.preserve_default_vlan,
            });
        }
        if !config.disable_container_interface {
            let pod = PodInterface { name: &wiring.pod.name, detect_duplicates: config.enabledad };
            // On a bridge without IPAM a router of the LAN may configure the Pod: the kernel's defaults stay. A later plugin,
            // or the Pod itself, may change its settings as it likes.
            if !wiring.addresses.ips.is_empty() {
                plan.owned(pod.settings(&wiring.addresses)).unchecked();
            }
            pod.configure(plan, &wiring.addresses);
        }
    }

    fn links_of_pods(config: &Config) -> Vec<String> {
        let with_vlan = config.vlan().map(|_| gateway_link(config));
        [config.bridge.clone()].into_iter().chain(with_vlan).collect()
    }

    fn listed(config: &Config) -> Vec<String> {
        vec![config.bridge.clone()]
    }

    fn listed_last(config: &Config) -> Vec<String> {
        if config.has_gateway() && config.vlan().is_some() { vec![gateway_link(config)] } else { Vec::new() }
    }
}

/// The node's addresses on the bridge, and forwarding for their families.
fn plan_gateways(wiring: &Wiring<Config>, plan: &mut Plan) {
    let advice = ", or do without isGateway and ipMasq";
    plan.shared(Forwarding { ipv4: wiring.has(true), ipv6: wiring.has(false), advice });
    let link = gateway_link(wiring.config);
    if wiring.has(true) {
        plan.shared(Forwards { link: link.clone() });
    }
    let expected = expected_gateways(wiring);
    let others = match wiring.config.force_address {
        true => Others::Replace { expected },
        false => Others::Refuse { expected, advice: ", or set forceAddress, which replaces it" },
    };
    for ip in &wiring.addresses.ips {
        let Some(address) = gateway_of(ip) else { continue };
        let address = Address {
            at: At::Host,
            link: link.clone(),
            address,
            detect_duplicates: false,
            prefix_route: true,
            others: others.clone(),
        };
        plan.shared(Gateway { address, mark: MARK });
        plan.shared(NoStaleNeighbor { link: link.clone(), ip: ip.address.ip() });
    }
}

/// The gateways that Pods of this configuration have: this Pod's, those of the configuration's other ranges, and those of
/// the node's Pod CIDRs.
fn expected_gateways(wiring: &Wiring<Config>) -> Vec<IpNetwork> {
    let of_pod = wiring.addresses.ips.iter().filter_map(gateway_of);
    let of_cidrs = wiring.pod_cidrs().iter().filter_map(|cidr| with_prefix(first_of_subnet(*cidr)?, *cidr));
    of_pod.chain(gateway::configured(&wiring.request.config.object)).chain(of_cidrs).collect()
}

fn gateway_of(ip: &IpConfig) -> Option<IpNetwork> {
    with_prefix(ip.gateway?, ip.address)
}

/// The link that carries the gateway's addresses.
fn gateway_link(config: &Config) -> String {
    match config.vlan() {
        Some(vlan) => format!("{}.{vlan}", config.bridge),
        None => config.bridge.clone(),
    }
}

/// Completes what IPAM answered: with `isGateway` an address without a gateway gets the first of its subnet; with
/// `isDefaultGateway` each family gets a default route, unless IPAM gave one.
fn complete(config: &Config, mut addresses: CniResult) -> Result<CniResult, Error> {
    keys::validate_mtu_for(keys::mtu(config.mtu), &addresses.ips)?;
    if config.has_gateway() {
        for ip in &mut addresses.ips {
            ip.gateway = ip.gateway.or_else(|| first_of_subnet(ip.address));
            if let Some(gateway) = ip.gateway.filter(|gateway| !ip.address.contains(*gateway)) {
                let why = format!(
                    "outside the Pod's subnet {}; with isGateway the node has this address on the bridge",
                    ip.address
                );
                return Err(Error::config("ipam.gateway", gateway, why));
            }
        }
    }
    if config.is_default_gateway {
        for ip in addresses.ips.clone() {
            add_default_route(&mut addresses, ip.address.is_ipv4(), ip.gateway);
        }
    }
    Ok(addresses)
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
