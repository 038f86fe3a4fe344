//! What else decides whether the other nodes' Pods are reached, beside the objects that podwire makes: the underlay's links, and
//! other programs' routes ([`crate::competing`]). A full pass returns [`Ways`], and its caller looks when everything is made.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::fib::Hop;
use kernel::link::{self, Link};
use kernel::{At, Kernel, Result};

use crate::competing::{self, Competing, Wanted};
use crate::peers::Peers;

/// The ways to the other nodes that a full pass declared.
#[derive(Clone, Debug)]
pub struct Ways {
    pub(crate) peers: Peers,
    /// Pod CIDRs that the underlay's routers know.
    pub(crate) by_routers: Vec<IpNetwork>,
    /// This node's Pod CIDRs.
    pub(crate) own: Vec<IpNetwork>,
    /// The links of the underlay, by index.
    pub(crate) underlay: Vec<u32>,
}

impl Ways {
    /// This node's Pod CIDRs.
    pub fn into_pod_cidrs(self) -> Vec<IpNetwork> {
        self.own
    }

    /// Routes that the kernel prefers to those of the map, for packets of the Pod with the addresses `pod`, or of any Pod if there are
    /// none.
    pub fn competing(&self, kernel: &Kernel, pod: &[IpAddr]) -> Result<Vec<Competing>> {
        let by_us = self.peers.routes(kernel)?.into_iter().map(|route| Wanted {
            dst: route.dst,
            hop: Some(Hop { gateway: Some(route.gateway), link: Some(route.link) }),
        });
        let by_routers = self.by_routers.iter().map(|dst| Wanted { dst: *dst, hop: None });
        competing::find(kernel, self.peers.network, by_us.chain(by_routers).collect(), &self.own, pod)
    }

    /// The links that lead to the other nodes, as they are now.
    pub fn underlay(&self, kernel: &Kernel) -> Result<Vec<Link>> {
        let links = link::all(kernel, At::Host)?.into_iter();
        Ok(links.filter(|link| self.underlay.contains(&link.index)).collect())
    }
}
