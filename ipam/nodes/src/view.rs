//! The map seen from one of its nodes.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use libcni::keys::{At, KeyType, Shape, Shaped};
use serde_json::Value;

use crate::error::Error;
use crate::map::{Map, Node};

/// An address family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4, the default.
    #[default]
    V4,
    /// IPv6.
    V6,
}

impl Shaped for Family {
    fn shape() -> Shape {
        Shape::Word(&["ipv4", "ipv6"])
    }
}

impl KeyType for Family {
    fn read(value: &Value, at: &At<'_>) -> Result<Self, libcni::Error> {
        match value.as_str() {
            Some("ipv4" | "IPv4") => Ok(Family::V4),
            Some("ipv6" | "IPv6") => Ok(Family::V6),
            _ => Err(at.misfit(value, "either \"ipv4\" or \"ipv6\"")),
        }
    }
}

impl Family {
    /// IPv4?
    pub fn is_ipv4(self) -> bool {
        self == Family::V4
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }

    /// `IPv4` or `IPv6`.
    pub fn words(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }
}

/// A node map as one of its nodes sees it.
#[derive(Clone, Debug)]
pub struct View {
    /// This node.
    pub own: Node,
    /// All others.
    pub peers: Vec<Node>,
    /// Over which addresses nodes talk that have both.
    pub underlay_family: Family,
}

impl View {
    /// Finds this node in the map: by `node_name`, or by the machine's addresses.
    pub fn new(map: &Map, node_name: Option<&str>, underlay_family: Family, machine: &[IpAddr]) -> Result<Self, Error> {
        let own = map.own(node_name, machine)?.clone();
        let peers = map.nodes().iter().filter(|node| node.name != own.name).cloned().collect();
        Ok(View { own, peers, underlay_family })
    }

    /// Every Pod CIDR of the cluster, this node's included.
    pub fn pod_cidrs(&self) -> impl Iterator<Item = IpNetwork> + '_ {
        std::iter::once(&self.own).chain(&self.peers).flat_map(|node| node.pod_cidrs.iter().copied())
    }

    /// Every node's addresses, this node's included.
    pub fn node_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        std::iter::once(&self.own).chain(&self.peers).flat_map(|node| node.addresses.iter().copied())
    }

    /// The family over which this node and `peer` talk: the preferred one if both have it, else the other.
    pub fn underlay(&self, peer: &Node) -> Result<Family, Error> {
        let both = |family: &Family| [&self.own, peer].iter().all(|node| node.address(family.is_ipv4()).is_some());
        let families = [self.underlay_family, self.underlay_family.other()];
        families
            .into_iter()
            .find(both)
            .ok_or_else(|| Error::NoCommonFamily { own: self.own.name.clone(), peer: peer.name.clone() })
    }

    /// The next hop towards one of a peer's Pod CIDRs where the underlay itself carries it: the peer's address of the
    /// same family. This node needs one of that family too, to be on a link with it.
    pub fn next_hop(&self, peer: &Node, cidr: IpNetwork) -> Result<IpAddr, Error> {
        let family = if cidr.is_ipv4() { Family::V4 } else { Family::V6 };
        let lacking = [peer, &self.own].into_iter().find(|node| node.address(family.is_ipv4()).is_none());
        match (peer.address(family.is_ipv4()), lacking) {
            (Some(address), None) => Ok(address),
            (_, lacking) => Err(Error::NoCarrier {
                own: self.own.name.clone(),
                peer: peer.name.clone(),
                cidr,
                lacking: lacking.unwrap_or(peer).name.clone(),
                family: family.words(),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Keys;

    fn cluster(json: &str, name: &str) -> View {
        let config = crate::testing::config(&format!(r#"{{"nodeName":"{name}",{json}}}"#));
        let keys = Keys::read(&config).unwrap().unwrap();
        View::new(&keys.source.parse().unwrap(), keys.node_name.as_deref(), keys.underlay_family, &[]).unwrap()
    }

    const NODES: &str = r#""nodes":[
        {"name":"both","addresses":["10.0.0.1","fd00::1"],"podCIDRs":["10.1.0.0/24","fd01::/64"]},
        {"name":"four","addresses":["10.0.0.2"],"podCIDRs":["10.1.1.0/24","fd01:0:0:1::/64"]},
        {"name":"six","addresses":["fd00::3"],"podCIDRs":["fd01:0:0:2::/64"]}]"#;

    #[test]
    fn the_preferred_family_counts_where_both_nodes_have_it() {
        let v6 = cluster(&format!(r#"{NODES},"underlayFamily":"ipv6""#), "both");
        assert_eq!(v6.underlay(&v6.peers[0]).unwrap(), Family::V4);
        assert_eq!(v6.underlay(&v6.peers[1]).unwrap(), Family::V6);
        let four = cluster(NODES, "four");
        let error = four.underlay(&four.peers[1]).unwrap_err().to_string();
        assert!(error.contains("\"four\"") && error.contains("\"six\""), "{error}");
    }

    #[test]
    fn a_pod_cidr_that_no_address_can_carry_is_an_error_and_an_idle_address_is_none() {
        let both = cluster(NODES, "both");
        let four = &both.peers[0];
        assert_eq!(both.next_hop(four, four.pod_cidrs[0]).unwrap().to_string(), "10.0.0.2");
        let error = both.next_hop(four, four.pod_cidrs[1]).unwrap_err().to_string();
        assert!(error.contains("fd01:0:0:1::/64") && error.contains("\"four\" has no IPv6"), "{error}");
        let six = &both.peers[1];
        assert!(both.next_hop(six, six.pod_cidrs[0]).is_ok());
    }
}
