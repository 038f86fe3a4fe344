//! The map itself, checked whole: nothing in it contradicts another part of it.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Deserializer};

use crate::error::Error;

/// One node.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Node {
    /// Its name.
    pub name: String,
    /// Its addresses on the underlay; of several of a family, others use the first.
    pub addresses: Vec<IpAddr>,
    /// The subnets of its Pods.
    #[serde(rename = "podCIDRs", deserialize_with = "subnets")]
    pub pod_cidrs: Vec<IpNetwork>,
}

/// An address without a prefix length would be read as a subnet of one address: nobody means that.
fn subnets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNetwork>, D::Error> {
    #[derive(Deserialize)]
    #[serde(try_from = "std::borrow::Cow<str>")]
    struct Subnet(IpNetwork);
    impl TryFrom<std::borrow::Cow<'_, str>> for Subnet {
        type Error = String;
        fn try_from(text: std::borrow::Cow<str>) -> Result<Self, String> {
            if !text.contains('/') {
                return Err(format!("{text:?} is not an address with a prefix length, such as 10.244.0.0/24"));
            }
            text.parse().map(Subnet).map_err(|error| format!("{text:?}: {error}"))
        }
    }
    let subnets: Vec<Subnet> = Vec::deserialize(deserializer)?;
    Ok(subnets.into_iter().map(|subnet| subnet.0).collect())
}

impl Node {
    /// The address that others reach it by, of one family.
    pub fn address(&self, ipv4: bool) -> Option<IpAddr> {
        self.addresses.iter().copied().find(|address| address.is_ipv4() == ipv4)
    }
}

/// All nodes of a network. No name, address or Pod CIDR is there twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Map {
    nodes: Vec<Node>,
}

impl Map {
    /// Checks the nodes against each other.
    pub fn new(nodes: Vec<Node>) -> Result<Self, Error> {
        let mut names = HashMap::with_capacity(nodes.len());
        for (place, node) in nodes.iter().enumerate() {
            if let Some(earlier) = names.insert(&node.name, place) {
                return Err(Error::NodeTwice { name: node.name.clone(), places: (earlier, place) });
            }
        }
        check_addresses(&nodes)?;
        let cidrs = sorted_cidrs(&nodes)?;
        check_overlaps(&cidrs)?;
        check_addresses_in_cidrs(&nodes, &cidrs)?;
        Ok(Map { nodes })
    }

    /// The nodes, in the map's order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Which node is this machine: the one called `name`, else the one that has one of the machine's addresses.
    pub fn own(&self, name: Option<&str>, machine: &[IpAddr]) -> Result<&Node, Error> {
        if let Some(name) = name {
            return self.nodes.iter().find(|node| node.name == name).ok_or_else(|| Error::UnknownName {
                name: name.to_owned(),
                there: list(self.nodes.iter().map(|node| &node.name)),
            });
        }
        let mut own = self.nodes.iter().filter_map(|node| {
            let address = node.addresses.iter().find(|address| machine.contains(address))?;
            Some((node, *address))
        });
        let Some((node, address)) = own.next() else {
            return Err(Error::OwnNodeNotFound { tried: list(machine.iter()) });
        };
        match own.next() {
            None => Ok(node),
            Some((other, other_address)) => Err(Error::TwoOwnNodes {
                one: node.name.clone(),
                one_address: address,
                other: other.name.clone(),
                other_address,
            }),
        }
    }
}

/// At most twenty of them: an error is read by a person.
fn list<T: ToString>(things: impl Iterator<Item = T>) -> String {
    const MOST: usize = 20;
    let all: Vec<String> = things.map(|thing| thing.to_string()).collect();
    match all.len() {
        0 => "none".to_owned(),
        count if count > MOST => format!("{} and {} more", all[..MOST].join(", "), count - MOST),
        _ => all.join(", "),
    }
}

fn check_addresses(nodes: &[Node]) -> Result<(), Error> {
    let mut owners = HashMap::with_capacity(nodes.len() * 2);
    for node in nodes {
        for &address in &node.addresses {
            if let Some(why) = address_fault(address) {
                return Err(Error::BadAddress { node: node.name.clone(), address, why });
            }
            if let Some(one) = owners.insert(address, &node.name) {
                return Err(Error::AddressTwice { address, one: one.clone(), other: node.name.clone() });
            }
        }
    }
    Ok(())
}

fn address_fault(address: IpAddr) -> Option<&'static str> {
    match address {
        address if address.is_unspecified() => Some("the unspecified address"),
        address if address.is_loopback() => Some("a loopback address cannot be reached from other nodes"),
        address if address.is_multicast() => Some("a multicast address cannot be a node's"),
        IpAddr::V4(ip) if ip.is_broadcast() => Some("the broadcast address cannot be a node's"),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some("a link-local address means nothing without its link"),
        IpAddr::V6(ip) if ip.to_ipv4_mapped().is_some() => Some("an IPv4-mapped address; write the IPv4 address"),
        _ => None,
    }
}

type Owned<'a> = (IpNetwork, &'a Node);

/// Every Pod CIDR, IPv4 first, by address and the larger first: then those that overlap are beside each other.
fn sorted_cidrs(nodes: &[Node]) -> Result<Vec<Owned<'_>>, Error> {
    let mut all: Vec<Owned> = nodes.iter().flat_map(|node| node.pod_cidrs.iter().map(move |c| (*c, node))).collect();
    for (cidr, node) in &all {
        if cidr.ip() != cidr.network() {
            let network = IpNetwork::new(cidr.network(), cidr.prefix()).expect("the prefix length it had");
            return Err(Error::NotANetwork { node: node.name.clone(), cidr: *cidr, network });
        }
    }
    all.sort_by_key(|(cidr, _)| (cidr.ip(), cidr.prefix()));
    Ok(all)
}

fn check_overlaps(sorted: &[Owned]) -> Result<(), Error> {
    for pair in sorted.windows(2) {
        let [(one_cidr, one), (other_cidr, other)] = pair else { continue };
        if one_cidr.contains(other_cidr.ip()) {
            return Err(Error::Overlap {
                one: one.name.clone(),
                one_cidr: *one_cidr,
                other: other.name.clone(),
                other_cidr: *other_cidr,
            });
        }
    }
    Ok(())
}

/// A node's address that is also a Pod's would send tunnels into themselves.
fn check_addresses_in_cidrs(nodes: &[Node], sorted: &[Owned]) -> Result<(), Error> {
    for node in nodes {
        for &address in &node.addresses {
            let after = sorted.partition_point(|(cidr, _)| cidr.ip() <= address);
            let Some((cidr, owner)) = after.checked_sub(1).and_then(|at| sorted.get(at)) else { continue };
            if cidr.contains(address) {
                return Err(Error::AddressInPodCidr {
                    node: node.name.clone(),
                    address,
                    cidr: *cidr,
                    owner: owner.name.clone(),
                });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, addresses: &[&str], cidrs: &[&str]) -> Node {
        Node {
            name: name.to_owned(),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
            pod_cidrs: cidrs.iter().map(|c| c.parse().unwrap()).collect(),
        }
    }

    fn fault(nodes: Vec<Node>) -> String {
        let error = libcni::Error::from(Map::new(nodes).unwrap_err());
        assert_eq!(error.code, libcni::code::INVALID_CONFIG);
        error.details
    }

    #[test]
    fn what_contradicts_itself_is_refused_and_both_parties_are_named() {
        let first = || node("a", &["10.0.0.1"], &["10.1.0.0/24"]);
        for (other, words) in [
            (node("a", &["10.0.0.2"], &[]), vec!["\"a\"", "0 and 1"]),
            (node("b", &["10.0.0.1"], &[]), vec!["\"a\"", "\"b\"", "10.0.0.1"]),
            (node("b", &["10.0.0.2"], &["10.1.0.128/25"]), vec!["\"a\"", "10.1.0.0/24", "\"b\"", "10.1.0.128/25"]),
            (node("b", &["10.0.0.2"], &["10.0.0.0/8"]), vec!["\"a\"", "10.1.0.0/24", "\"b\"", "10.0.0.0/8"]),
            (node("b", &["10.1.0.9"], &[]), vec!["\"b\"", "10.1.0.9", "10.1.0.0/24", "\"a\""]),
            (node("b", &["10.0.0.2"], &["10.2.0.5/24"]), vec!["\"b\"", "10.2.0.5/24", "10.2.0.0/24"]),
            (node("b", &["127.0.0.1"], &[]), vec!["\"b\"", "127.0.0.1", "loopback"]),
            (node("b", &["fe80::1"], &[]), vec!["\"b\"", "fe80::1", "link-local"]),
        ] {
            let details = fault(vec![first(), other]);
            assert!(words.iter().all(|word| details.contains(word)), "{details} lacks one of {words:?}");
        }
    }

    #[test]
    fn overlaps_are_found_wherever_they_stand() {
        let mut nodes: Vec<Node> = (0..200)
            .map(|i| node(&format!("n{i}"), &[], &[&format!("10.{i}.0.0/16"), &format!("fd00:{i}::/64")]))
            .collect();
        assert!(Map::new(nodes.clone()).is_ok());
        nodes.insert(0, node("x", &[], &["10.77.200.0/24"]));
        let details = fault(nodes);
        assert!(details.contains("\"n77\"") && details.contains("\"x\""), "{details}");
    }

    #[test]
    fn the_own_node_is_found_by_name_or_by_address() {
        let map = Map::new(vec![node("a", &["10.0.0.1", "fd00::1"], &[]), node("b", &["10.0.0.2"], &[])]).unwrap();
        let own = |name, machine: &[&str]| {
            let machine: Vec<IpAddr> = machine.iter().map(|a| a.parse().unwrap()).collect();
            map.own(name, &machine).map(|node| node.name.clone()).map_err(|error| error.to_string())
        };
        assert_eq!(own(Some("b"), &[]).unwrap(), "b");
        assert_eq!(own(None, &["192.168.1.1", "fd00::1"]).unwrap(), "a");
        let error = own(None, &["192.168.1.1", "fd00::7"]).unwrap_err();
        assert!(error.contains("192.168.1.1, fd00::7"), "{error}");
        let error = own(Some("c"), &[]).unwrap_err();
        assert!(error.contains("\"c\"") && error.contains("a, b"), "{error}");
        let error = own(None, &["10.0.0.1", "10.0.0.2"]).unwrap_err();
        assert!(error.contains("10.0.0.1") && error.contains("10.0.0.2"), "{error}");
    }
}
