//! `ptp`: Pods on a veth pair each, with the node as their gateway.
//!
//! As in the reference plugin of that name, the Pod has its address with the subnet's prefix length, and the node's end of
//! the pair has the subnet's gateway address, as every other Pod's host end does. The Pod reaches its gateway on the link
//! and everything else of the subnet through it: neighbors in the subnet are behind other pairs. The node has a route to
//! each Pod's address.

mod config;

use std::net::IpAddr;
use std::process::ExitCode;

use attach::keys::{self, NodeRouteKeys, WireKeys};
use attach::kinds::Owned;
use attach::pod::{PodInterface, first_of_subnet};
use attach::routed;
use attach::wire::{WirePlugin, Wired, Wiring};
use ipnetwork::IpNetwork;
use kernel::address::{Address, Others};
use kernel::link::Up;
use kernel::route::{Options, Route};
use kernel::veth::Veth;
use kernel::{At, Kernel, Plan};
use libcni::{About, CniResult, Error, IpConfig, Request};

use crate::config::Config;

fn main() -> ExitCode {
    libcni::plugin::main::<Wired<PointToPoint>>()
}

/// Pods whose host ends are their gateways.
struct PointToPoint;

impl WirePlugin for PointToPoint {
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

    /// An address without a gateway gets the first of its subnet.
    fn complete(config: &Config, _kernel: &Kernel, mut addresses: CniResult) -> Result<CniResult, Error> {
        keys::require_addresses(&addresses)?;
        keys::validate_mtu_for(keys::mtu(config.mtu), &addresses.ips)?;
        for ip in &mut addresses.ips {
            ip.gateway = ip.gateway.or_else(|| first_of_subnet(ip.address));
        }
        Ok(addresses)
    }

    fn pair(wiring: &Wiring<Config>) -> Veth {
        routed::pair(wiring, keys::mtu(wiring.config.mtu))
    }

    fn settings(wiring: &Wiring<Config>, plan: &mut Plan) {
        routed::settings(wiring, plan);
    }

    fn owned(wiring: &Wiring<Config>) -> Vec<Box<dyn Owned>> {
        routed::owned(wiring, None, wiring.addresses.ips.iter().map(gateway).collect())
    }

    fn plan(wiring: &Wiring<Config>, plan: &mut Plan) {
        let (host, pod) = (&wiring.host.name, &wiring.pod.name);
        for ip in &wiring.addresses.ips {
            plan.owned(Address { prefix_route: false, ..address(At::Pod, pod, ip.address) });
            plan.owned(address(At::Host, host, gateway(ip).into()));
        }
        plan.owned(Up { at: At::Pod, name: pod.clone() });
        for ip in &wiring.addresses.ips {
            for route in routes_to_subnet(ip, pod) {
                plan.owned(route);
            }
        }
        PodInterface { name: pod, detect_duplicates: false }.plan_routes(plan, &wiring.addresses);
    }
}

fn address(at: At, link: &str, address: IpNetwork) -> Address {
    let link = link.to_owned();
    Address { at, link, address, detect_duplicates: false, prefix_route: true, others: Others::Keep }
}

/// [`PointToPoint::complete`] gave every address one; CHECK reads the same from the result.
fn gateway(ip: &IpConfig) -> IpAddr {
    ip.gateway.or_else(|| first_of_subnet(ip.address)).unwrap_or_else(|| ip.address.ip())
}

/// The Pod's way to its gateway, on the link, and through that to the rest of its subnet.
fn routes_to_subnet(ip: &IpConfig, pod: &str) -> Vec<Route> {
    let options = Options { source: Some(ip.address.ip()), ..Options::default() };
    let route = |dst, gateway| Route {
        at: At::Pod,
        link: pod.to_owned(),
        dst,
        gateway,
        on_link: false,
        options: options.clone(),
    };
    let own = IpNetwork::from(ip.address.ip());
    let subnet = IpNetwork::new(ip.address.network(), ip.address.prefix()).unwrap_or(own);
    let mut routes = vec![route(gateway(ip).into(), None)];
    if subnet != own {
        routes.push(route(subnet, Some(gateway(ip))));
    }
    routes
}
