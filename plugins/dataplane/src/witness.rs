//! A cheap witness that what was applied for a network is still in the kernel.
//!
//! Towards a thousand nodes there are thousands of routes, and an ADD must not list them all. Routes are lost in masses
//! only: when their link goes down, or goes away, the kernel drops every route out of it, and they do not come back. So
//! with them, last, goes one more route out of each link and family that they use, in a table of the
//! network's own that no rule ever looks into. It can only be lost with the others, and in its destination and metric it
//! carries a digest of what was applied. An ADD that finds these witnesses, all of them and with its own digest, has
//! nothing to do. A single route that somebody deleted is found by CHECK, GC and `--sync`, which look at everything.
//!
//! ```text
//! # ip route show table 1883472711
//! 94.12.201.7 dev vxlan.1 proto 112 scope link metric 2864434449
//! ```
//!
//! Destination: 32 bits of the digest. Metric: 24 bits more, then how many witnesses there are, and which this is.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::route::RouteMessage;

use crate::error::Result;
use crate::kernel::{At, Kernel};
use crate::owner::NetworkTag;
use crate::route::{self, Options, PROTOCOL, Route};

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

impl Witness {
    /// Do they all stand?
    pub fn stands(&self, kernel: &Kernel) -> Result<bool> {
        let mut places = Vec::new();
        let mut count = None;
        for ipv4 in [true, false] {
            for route in self.routes(kernel, ipv4)? {
                let Some((its_count, place)) = self.read(&route) else { return Ok(false) };
                count = Some(its_count);
                places.push(place);
            }
            places.sort_unstable();
            places.dedup();
            if count == Some(places.len()) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Puts one on each link and family (IPv4?). More than fit are not put at all: then there is no witness, and every
    /// ADD looks at everything.
    pub fn put(&self, kernel: &Kernel, links: &[(u32, bool)]) -> Result<()> {
        if links.len() > MOST {
            return Ok(());
        }
        let changes = links.iter().enumerate().map(|(place, (link, ipv4))| {
            let message = self.route(*ipv4, links.len(), place).message(*link);
            (RouteNetlinkMessage::NewRoute(message), NLM_F_CREATE | NLM_F_REPLACE)
        });
        let doing = |_| format!("adding a witness to routing table {}", self.network.number());
        kernel.route(At::Host).change_all(changes.collect(), &doing)?.into_iter().collect()
    }

    /// Removes them all, whatever they say: something is about to change.
    pub fn remove(&self, kernel: &Kernel) -> Result<()> {
        for ipv4 in [true, false] {
            let routes = self.routes(kernel, ipv4)?.into_iter();
            let changes = routes.map(|route| (RouteNetlinkMessage::DelRoute(route::key(route)), 0));
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

    fn route(&self, ipv4: bool, count: usize, place: usize) -> Route {
        let options = Options {
            table: Some(self.network.number()),
            priority: Some(self.metric() | (count as u32) << 4 | place as u32),
            protocol: Some(PROTOCOL),
            ..Options::default()
        };
        let dst = IpNetwork::new(self.destination(ipv4), if ipv4 { 32 } else { 128 }).expect("a whole address");
        Route { at: At::Host, link: String::new(), dst, gateway: None, on_link: false, options }
    }

    /// How many there are, and which this is; none if it says another digest.
    fn read(&self, route: &RouteMessage) -> Option<(usize, usize)> {
        let dst = route::destination(route)?;
        let metric = route::metric(route);
        let is_mine = dst.ip() == self.destination(dst.is_ipv4()) && metric & !0xff == self.metric();
        is_mine.then_some(((metric >> 4 & 0xf) as usize, (metric & 0xf) as usize))
    }

    fn destination(&self, ipv4: bool) -> IpAddr {
        let bits = (self.digest >> 32) as u32;
        match ipv4 {
            true => Ipv4Addr::from_bits(bits).into(),
            // The documentation prefix of RFC 3849: nobody's address.
            false => Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(bits)).into(),
        }
    }

    fn metric(&self) -> u32 {
        (self.digest as u32) << 8
    }
}
