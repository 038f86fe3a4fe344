//! What a Pod's interface needs inside the Pod: settings, addresses, being up, routes.
//!
//! In this order: settings before anything is on the link, addresses before it goes up (then the kernel announces them
//! to the neighbors, for `arp_notify` and `ndisc_notify` are set), routes last, for they need a link that is up.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::address::{Address, Others};
use kernel::link::Up;
use kernel::route::{Options, Route};
use kernel::sysctl::{Setting, Sysctls};
use kernel::{At, Plan};
use libcni::{CniResult, IpConfig, Route as ResultRoute};

/// A Pod's interface, as a plan takes it.
#[derive(Clone, Copy, Debug)]
pub struct PodInterface<'a> {
    /// Its name.
    pub name: &'a str,
    /// Wait for duplicate address detection?
    pub detect_duplicates: bool,
}

impl PodInterface<'_> {
    /// The interface's settings.
    pub fn settings(&self, result: &CniResult) -> Sysctls {
        let ipv6 = |key: &str| format!("net/ipv6/conf/{}/{key}", self.name);
        let mut settings = vec![
            Setting::new(format!("net/ipv4/conf/{}/arp_notify", self.name), "1"),
            // A neighbor on the same link must not hand out addresses and routes.
            Setting::if_there(ipv6("accept_ra"), "0"),
        ];
        if !self.detect_duplicates {
            settings.push(Setting::if_there(ipv6("accept_dad"), "0"));
        }
        if result.ips.iter().any(|ip| ip.address.is_ipv6()) {
            settings.push(Setting::if_there(ipv6("ndisc_notify"), "1"));
            settings.push(Setting::ipv6_on(self.name));
        }
        Sysctls { at: At::Pod, settings }
    }

    /// Addresses, up, routes.
    pub fn configure(&self, plan: &mut Plan, result: &CniResult) {
        for ip in &result.ips {
            plan.owned(self.address(ip));
        }
        plan.owned(Up { at: At::Pod, name: self.name.to_owned() });
        self.plan_routes(plan, result);
    }

    /// The result's routes. The interface is up by then.
    pub fn plan_routes(&self, plan: &mut Plan, result: &CniResult) {
        for route in &result.routes {
            plan.owned(self.route(route, result));
        }
    }

    fn address(&self, ip: &IpConfig) -> Address {
        Address {
            at: At::Pod,
            link: self.name.to_owned(),
            address: ip.address,
            detect_duplicates: self.detect_duplicates,
            prefix_route: true,
            others: Others::Keep,
        }
    }

    fn route(&self, route: &ResultRoute, result: &CniResult) -> Route {
        let gateway = route.gw.or_else(|| if is_on_the_link(route) { None } else { gateway_of(route, result) });
        Route {
            at: At::Pod,
            link: self.name.to_owned(),
            dst: route.dst,
            gateway,
            on_link: false,
            options: options(route),
        }
    }
}

/// The first address of a subnet, by custom its gateway.
pub fn first_of_subnet(subnet: IpNetwork) -> Option<IpAddr> {
    match subnet {
        IpNetwork::V4(subnet) => subnet.nth(1).map(IpAddr::V4),
        IpNetwork::V6(subnet) => subnet.network().to_bits().checked_add(1).map(|bits| IpAddr::from(bits.to_be_bytes())),
    }
}

/// RT_SCOPE_LINK of include/uapi/linux/rtnetlink.h.
pub(crate) const ON_THE_LINK: u8 = 253;

/// A route to what is on the link says so by its scope, and wants no next hop.
pub(crate) fn is_on_the_link(route: &ResultRoute) -> bool {
    route.scope == Some(ON_THE_LINK)
}

/// What a result's route says beside destination and next hop.
pub(crate) fn options(route: &ResultRoute) -> Options {
    Options {
        mtu: route.mtu,
        advmss: route.advmss,
        priority: route.priority,
        table: route.table,
        scope: route.scope,
        ..Options::default()
    }
}

/// A route without a next hop goes to the gateway of the address of its family (spec section 5, `gw`).
fn gateway_of(route: &ResultRoute, result: &CniResult) -> Option<IpAddr> {
    let mut same_family = result.ips.iter().filter(|ip| ip.address.is_ipv4() == route.dst.is_ipv4());
    same_family.find_map(|ip| ip.gateway)
}
