//! A cheap witness that what was applied for a network is still in the kernel.
//!
//! A thousand nodes mean thousands of routes, and an ADD must not list them all. Routes are usually lost all at once: when
//! their link goes down or is removed, the kernel drops every route out of it, and they do not come back. So after the
//! routes, one more route is added for each link and family that they use, in a routing table of the network's own that no
//! rule refers to. It is lost with the others, and its destination and metric hold a digest of what was applied. An ADD
//! that finds all of these witnesses with its own digest has nothing to do. CHECK, GC and `--sync` look at everything, and
//! so find a single route that was deleted.
//!
//! ```text
//! # ip route show table 1883472711
//! 94.12.201.7 dev vxlan.1 proto 112 scope link metric 2864434449
//! 10.244.1.0/24 dev vxlan.1 proto 112 scope link metric 2864434449
//! ```
//!
//! Destination: 32 bits of the digest. Metric: 24 bits more, then how many witnesses there are, and which this is.
//!
//! Routes can also be lost by table: `ip route flush table main proto 112`, or `ip route flush dev eth0`, leaves the
//! witnesses in their own table. So each of them has a sample beside it, the destination of one route out of the same
//! link, and an ADD asks the kernel whether packets to the samples still take our routes.
//!
//! The same table has a route out of `lo` for each of this node's own Pod CIDRs, numbered in the same way: all that an ADD
//! needs to know of the map.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::route::RouteMessage;

use kernel::message::Rtm;
use kernel::route::{self, Options, Route};
use kernel::{At, Kernel, Made, Object, Result, fib, link};

use crate::PROTOCOL;
use crate::tag::NetworkTag;

/// Witnesses of one network's state.
#[derive(Clone, Copy, Debug)]
pub struct Witness {
    /// The network.
    pub network: NetworkTag,
    /// Of what was applied.
    pub digest: u64,
}

/// Four bits each say how many there are and which one is meant.
const MOST: usize = 15;

/// The index of `lo`, in every network namespace (LOOPBACK_IFINDEX of include/net/flow.h).
const LO: u32 = 1;

impl Witness {
    /// If every witness is there, and the samples beside them are still routed by us: this node's Pod CIDRs, in the map's
    /// order; empty if those are not all there.
    pub fn find(&self, kernel: &Kernel) -> Result<Option<Vec<IpNetwork>>> {
        let (mut witnesses, mut samples, mut pod_cidrs) = <(Numbered, Numbered, Numbered)>::default();
        for ipv4 in [true, false] {
            for route in self.routes(kernel, ipv4)? {
                let Some((dst, count, place)) = self.read(&route) else { return Ok(None) };
                let list = match route::next_hop(&route).1 {
                    _ if dst == self.destination(ipv4) => &mut witnesses,
                    Some(LO) => &mut pod_cidrs,
                    _ => &mut samples,
                };
                list.add(dst, count, place);
            }
            if witnesses.is_whole() && pod_cidrs.is_whole() && samples.is_whole() {
                break;
            }
        }
        if !witnesses.is_whole() || !samples.is_whole_or_none() {
            return Ok(None);
        }
        for sample in samples.in_order() {
            if !is_routed_by_us(kernel, sample)? {
                return Ok(None);
            }
        }
        Ok(Some(if pod_cidrs.is_whole() { pod_cidrs.in_order() } else { Vec::new() }))
    }

    /// Was anything applied for the network since the machine booted? This node's Pod CIDRs stay when other links go.
    pub fn is_begun(&self, kernel: &Kernel) -> Result<bool> {
        Ok(!self.routes(kernel, true)?.is_empty() || !self.routes(kernel, false)?.is_empty())
    }

    /// Adds one for each way with its sample, and this node's Pod CIDRs. More than fit are not added at all: without a
    /// witness every ADD looks at everything, without Pod CIDRs IPAM reads the map.
    fn put(&self, kernel: &Kernel, ways: &[(u32, bool, Option<IpNetwork>)], pod_cidrs: &[IpNetwork]) -> Result<()> {
        if ways.len() > MOST {
            return Ok(());
        }
        if pod_cidrs.len() <= MOST {
            // Without IPv6, or with `lo` down, they are not there, and IPAM reads the map.
            let done = self.put_all(kernel, pod_cidrs.iter().map(|cidr| (LO, *cidr)).collect())?;
            done.into_iter().filter_map(|done| done.err()).for_each(|error| log::debug!("{error}"));
        }
        let samples = ways.iter().filter_map(|(link, _, sample)| Some((*link, (*sample)?)));
        self.put_all(kernel, samples.collect())?.into_iter().collect::<Result<()>>()?;
        let witnesses = ways.iter().map(|(link, ipv4, _)| (*link, self.destination(*ipv4)));
        self.put_all(kernel, witnesses.collect())?.into_iter().collect()
    }

    /// Routes to these destinations out of these links, numbered.
    fn put_all(&self, kernel: &Kernel, routes: Vec<(u32, IpNetwork)>) -> Result<Vec<Result<()>>> {
        let count = routes.len();
        let changes = routes.into_iter().enumerate().map(|(place, (link, dst))| {
            let message = self.route(dst, count, place).message(link);
            (Rtm::new_route(message), NLM_F_CREATE | NLM_F_REPLACE)
        });
        let doing = |_| format!("adding a witness to routing table {}", self.network.number());
        kernel.route(At::Host).change_all(changes.collect(), &doing)
    }

    /// Removes them all, whatever their digest: something is about to change.
    fn remove_all(&self, kernel: &Kernel) -> Result<()> {
        for ipv4 in [true, false] {
            let routes = self.routes(kernel, ipv4)?.into_iter();
            let changes = routes.map(|route| (Rtm::del_route(route::key(route)), 0));
            let doing = |_| format!("removing a witness from routing table {}", self.network.number());
            for removed in kernel.route(At::Host).change_all(changes.collect(), &doing)? {
                removed.or_else(|error| if error.is(Errno::ESRCH) { Ok(()) } else { Err(error) })?;
            }
        }
        Ok(())
    }

    fn routes(&self, kernel: &Kernel, ipv4: bool) -> Result<Vec<RouteMessage>> {
        match route::dump(kernel, At::Host, ipv4, Some(self.network.number()), Some(PROTOCOL)) {
            // A table that was never used does not exist; IPv6 may not either.
            Err(error) if error.is(Errno::ENOENT) || error.is(Errno::EAFNOSUPPORT) || error.is(Errno::EOPNOTSUPP) => {
                Ok(Vec::new())
            }
            other => other,
        }
    }

    fn route(&self, dst: IpNetwork, count: usize, place: usize) -> Route {
        let options = Options {
            table: Some(self.network.number()),
            priority: Some(self.metric() | (count as u32) << 4 | place as u32),
            protocol: Some(PROTOCOL),
            ..Options::default()
        };
        Route { at: At::Host, link: String::new(), dst, gateway: None, on_link: false, options }
    }

    /// Where it leads, how many there are, and which this is; none if it says another digest.
    fn read(&self, route: &RouteMessage) -> Option<(IpNetwork, usize, usize)> {
        let dst = route::destination(route)?;
        let metric = route::metric(route);
        let is_mine = metric & !0xff == self.metric();
        is_mine.then_some((dst, (metric >> 4 & 0xf) as usize, (metric & 0xf) as usize))
    }

    fn destination(&self, ipv4: bool) -> IpNetwork {
        let bits = (self.digest >> 32) as u32;
        let ip: IpAddr = match ipv4 {
            true => Ipv4Addr::from_bits(bits).into(),
            // The documentation prefix of RFC 3849: nobody's address.
            false => Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(bits)).into(),
        };
        ip.into()
    }

    fn metric(&self) -> u32 {
        (self.digest as u32) << 8
    }
}

/// No witness, while what they vouch for is being changed.
#[derive(Debug)]
pub struct NoWitness(pub Witness);

impl Object for NoWitness {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        self.0.remove_all(kernel).map(|()| Made::Already)
    }
}

/// A link that routes of one family leave by.
#[derive(Clone, Debug)]
pub struct Way {
    /// The link.
    pub exit: Exit,
    /// Are they routes of IPv4?
    pub ipv4: bool,
    /// The destination of one of them, if there are any now.
    pub sample: Option<IpNetwork>,
}

/// A link of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Exit {
    /// One that exists, by its index.
    Link(u32),
    /// A tunnel device, which may have to be made first, by its name.
    Device(String),
}

/// Every witness, after what they vouch for.
#[derive(Debug)]
pub struct Witnesses {
    /// The network and the digest.
    pub witness: Witness,
    /// By which links routes leave; the first of several for one link and family counts.
    pub ways: Vec<Way>,
    /// This node's Pod CIDRs.
    pub pod_cidrs: Vec<IpNetwork>,
}

impl Object for Witnesses {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        let mut ways = Vec::with_capacity(self.ways.len());
        for Way { exit, ipv4, sample } in &self.ways {
            let link = match exit {
                Exit::Link(index) => *index,
                Exit::Device(name) => link::index(kernel, At::Host, name)?,
            };
            if !ways.iter().any(|(other, family, _)| (*other, *family) == (link, *ipv4)) {
                ways.push((link, *ipv4, *sample));
            }
        }
        if ways.is_empty() {
            ways.push((LO, true, None));
        }
        self.witness.put(kernel, &ways, &self.pod_cidrs).map(|()| Made::Already)
    }
}

/// Do packets to this destination take a route of ours to the whole of it?
fn is_routed_by_us(kernel: &Kernel, dst: IpNetwork) -> Result<bool> {
    let route = fib::lookup(kernel, dst.network())?;
    Ok(route.is_some_and(|route| route.dst == dst && route.protocol == PROTOCOL))
}

/// Routes that say how many there are, and which each is.
#[derive(Debug, Default)]
struct Numbered {
    count: Option<usize>,
    routes: Vec<(usize, IpNetwork)>,
}

impl Numbered {
    fn add(&mut self, dst: IpNetwork, count: usize, place: usize) {
        self.count = Some(count);
        // A witness for each family and link has one destination, but a place of its own.
        if !self.routes.iter().any(|(there, _)| *there == place) {
            self.routes.push((place, dst));
        }
    }

    fn is_whole(&self) -> bool {
        self.count == Some(self.routes.len())
    }

    fn is_whole_or_none(&self) -> bool {
        self.count.is_none() || self.is_whole()
    }

    fn in_order(mut self) -> Vec<IpNetwork> {
        self.routes.sort_unstable_by_key(|(place, _)| *place);
        self.routes.into_iter().map(|(_, dst)| dst).collect()
    }
}
