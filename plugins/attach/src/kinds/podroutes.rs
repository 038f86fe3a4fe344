//! The node's way to a routed Pod: a route to each of its addresses, and where the wire needs no neighbor discovery a
//! permanent neighbor entry.
//!
//! They go with the wire, so there is nothing to sweep. But they can be lost while the Pod lives (`ip route flush`, the
//! node's end of the pair set down and up), and then nothing else brings them back: GC and `--sync` do, by the labels of
//! living Pods.
//!
//! Its part of the label: `routes=0a:58:0a:16:00:05,10.22.0.5`, the Pod's hardware address if there are neighbor entries,
//! and the addresses that are not in the part of masquerade; `@10.22.0.1` is an address of the node's end.

use std::collections::HashSet;
use std::net::IpAddr;

use cluster::PROTOCOL;
use ipnetwork::IpNetwork;
use kernel::address::{self, Address, Others};
use kernel::neighbor::{self, Neighbor};
use kernel::route::{self, Options, Route};
use kernel::{At, Kernel, Mac, Made, Object, Result, link};
use nix::errno::Errno;

use crate::kinds::{BY_SYNC, Kind, Owned, masquerade};
use crate::label::Label;
use crate::living::RouteToPod;
use crate::owner::Owner;

/// The node's way to one Pod. Owned by its attachment.
#[derive(Clone, Debug)]
pub struct PodRoutes {
    /// The attachment.
    pub owner: Owner,
    /// The Pod's addresses.
    pub addresses: Vec<IpAddr>,
    /// The Pod's hardware address, if its neighbor entries are permanent.
    pub mac: Option<Mac>,
    /// Addresses of the node's end, which the Pod has as its gateways. The plan makes them; here they are only restored.
    pub gateways: Vec<IpAddr>,
}

impl Object for PodRoutes {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        self.neighbors().try_for_each(|neighbor| neighbor.ensure(kernel).map(drop))?;
        self.routes().try_for_each(|route| route.ensure(kernel).map(drop))?;
        Ok(Made::New)
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        self.neighbors().try_for_each(|neighbor| neighbor.check(kernel))?;
        self.routes().try_for_each(|route| route.check(kernel))
    }

    fn remedy(&self) -> Option<&'static str> {
        Some(BY_SYNC)
    }

    /// While the wire is being undone; otherwise they go with it.
    fn remove(&self, kernel: &Kernel) -> Result<()> {
        self.routes().try_for_each(|route| route.remove(kernel))
    }
}

impl Owned for PodRoutes {
    fn say(&self, label: &mut Label) {
        let more = masquerade::without_addresses_in(label, &self.addresses);
        let gateways = self.gateways.iter().map(|ip| format!("{GATEWAY}{ip}"));
        let items: Vec<String> = self.mac.iter().map(Mac::to_string).chain(more).chain(gateways).collect();
        label.set(PART, items.join(","));
    }
}

impl PodRoutes {
    pub(crate) fn of(label: &Label) -> Option<Self> {
        let list = label.part(PART)?;
        let addresses = masquerade::with_addresses_in(label, list);
        let mac = list.split(',').find_map(|item| item.parse().ok());
        let gateways = list.split(',').filter_map(|item| item.strip_prefix(GATEWAY)?.parse().ok()).collect();
        Some(PodRoutes { owner: label.owner, addresses, mac, gateways })
    }

    /// All of it, and the gateways: the kernel takes addresses of IPv6 away with a link that is set down.
    fn restore(&self, kernel: &Kernel) -> Result<()> {
        for ip in &self.gateways {
            self.gateway(*ip).ensure(kernel)?;
        }
        self.ensure(kernel).map(drop)
    }

    fn gateway(&self, ip: IpAddr) -> Address {
        Address {
            at: At::Host,
            link: self.owner.host_end(),
            address: ip.into(),
            detect_duplicates: false,
            prefix_route: true,
            others: Others::Keep,
        }
    }

    fn routes(&self) -> impl Iterator<Item = RouteToPod> + '_ {
        let route = |ip: &IpAddr| Route {
            at: At::Host,
            link: self.owner.host_end(),
            dst: (*ip).into(),
            gateway: None,
            on_link: false,
            options: Options { protocol: Some(PROTOCOL), ..Options::default() },
        };
        self.addresses.iter().map(move |ip| RouteToPod(route(ip)))
    }

    fn neighbors(&self) -> impl Iterator<Item = Neighbor> + '_ {
        let neighbor = |ip: &IpAddr, mac| Neighbor { at: At::Host, link: self.owner.host_end(), ip: *ip, mac };
        self.addresses.iter().filter_map(move |ip| Some(neighbor(ip, self.mac?)))
    }
}

/// The name of its part of the label.
const PART: &str = "routes";

/// What stands before a gateway in it.
const GATEWAY: &str = "@";

/// The node's ways to Pods, among the kinds of objects that attachments own.
#[derive(Debug)]
pub struct PodRouteKind;

impl Kind for PodRouteKind {
    fn name(&self) -> &'static str {
        "routes"
    }

    fn part(&self) -> &'static str {
        PART
    }

    fn read(&self, label: &Label) -> Option<Box<dyn Owned>> {
        PodRoutes::of(label).map(|routes| Box::new(routes) as Box<dyn Owned>)
    }

    fn sweep(&self, _kernel: &Kernel, _is_gone: &dyn Fn(Owner) -> bool) -> Result<()> {
        Ok(())
    }

    fn goes_with_the_wire(&self) -> bool {
        true
    }

    fn lost(&self, kernel: &Kernel, living: &[Label]) -> Result<usize> {
        lost(kernel, living).map(|lost| lost.len())
    }

    fn restore(&self, kernel: &Kernel, living: &[Label]) -> Result<()> {
        lost(kernel, living)?.iter().try_for_each(|routes| routes.restore(kernel))
    }
}

fn lost(kernel: &Kernel, living: &[Label]) -> Result<Vec<PodRoutes>> {
    let mut all: Vec<PodRoutes> = living.iter().filter_map(PodRoutes::of).collect();
    if !all.is_empty() {
        let present = Present::gather(kernel)?;
        all.retain(|routes| !present.has(routes));
    }
    Ok(all)
}

/// The node's routes and permanent neighbor entries, listed once for all Pods.
struct Present {
    links: Vec<(String, u32)>,
    routes: HashSet<(IpNetwork, u32)>,
    neighbors: HashSet<(IpAddr, u32, Mac)>,
    addresses: HashSet<(u32, IpAddr)>,
}

impl Present {
    fn gather(kernel: &Kernel) -> Result<Self> {
        let links = link::all(kernel, At::Host)?.into_iter().map(|link| (link.name, link.index)).collect();
        let mut routes = HashSet::new();
        for ipv4 in [true, false] {
            let there = match route::dump(kernel, At::Host, ipv4, None, Some(PROTOCOL)) {
                // A kernel without IPv6 has no routes of it.
                Err(error) if error.is(Errno::EOPNOTSUPP) || error.is(Errno::EAFNOSUPPORT) => Vec::new(),
                other => other?,
            };
            routes.extend(there.iter().filter_map(|it| Some((route::destination(it)?, route::next_hop(it).1?))));
        }
        let addresses =
            address::all(kernel, At::Host)?.into_iter().map(|(link, address)| (link, address.ip())).collect();
        Ok(Present { links, routes, neighbors: neighbor::permanent(kernel, At::Host)?, addresses })
    }

    fn has(&self, routes: &PodRoutes) -> bool {
        let name = routes.owner.host_end();
        let Some((_, link)) = self.links.iter().find(|(other, _)| *other == name) else { return true };
        let has_gateways = routes.gateways.iter().all(|ip| self.addresses.contains(&(*link, *ip)));
        has_gateways
            && routes.addresses.iter().all(|ip| {
                let is_known = routes.mac.is_none_or(|mac| self.neighbors.contains(&(*ip, *link, mac)));
                is_known && self.routes.contains(&((*ip).into(), *link))
            })
    }
}
