//! A map is accepted exactly if nothing in it contradicts anything else, compared with looking at every pair.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use proptest::prelude::*;

use crate::map::{Map, Node};

/// Nodes that are likely to meet: few names, few addresses, few subnets, all of them below 10.0.0.0/27.
fn node() -> impl Strategy<Value = Node> {
    let address = (0u32..32).prop_map(|low| IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 | low)));
    let cidr = (0u32..32, 27u8..=32).prop_map(|(low, prefix)| {
        let ip = Ipv4Addr::from_bits(0x0a00_0000 | low);
        let any = IpNetwork::new(ip.into(), prefix).unwrap();
        IpNetwork::new(any.network(), prefix).unwrap()
    });
    let lists = (prop::collection::vec(address, 0..2), prop::collection::vec(cidr, 0..2));
    ("[a-f]", lists).prop_map(|(name, (addresses, pod_cidrs))| Node { name, addresses, pod_cidrs })
}

/// Every pair of things, of one list or two.
fn contradicts_itself(nodes: &[Node]) -> bool {
    let addresses: Vec<IpAddr> = nodes.iter().flat_map(|node| node.addresses.clone()).collect();
    let cidrs: Vec<IpNetwork> = nodes.iter().flat_map(|node| node.pod_cidrs.clone()).collect();
    let overlap = |one: &IpNetwork, other: &IpNetwork| one.contains(other.ip()) || other.contains(one.ip());
    let twice = |found: &dyn Fn(usize, usize) -> bool, count: usize| {
        (0..count).any(|one| (0..one).any(|other| found(one, other)))
    };
    twice(&|one, other| nodes[one].name == nodes[other].name, nodes.len())
        || twice(&|one, other| addresses[one] == addresses[other], addresses.len())
        || twice(&|one, other| overlap(&cidrs[one], &cidrs[other]), cidrs.len())
        || addresses.iter().any(|address| cidrs.iter().any(|cidr| cidr.contains(*address)))
}

proptest! {
    #[test]
    fn a_map_is_refused_exactly_if_it_contradicts_itself(nodes in prop::collection::vec(node(), 0..5)) {
        let accepted = Map::new(nodes.clone());
        prop_assert_eq!(accepted.is_err(), contradicts_itself(&nodes), "{:?}", accepted);
    }

    #[test]
    fn every_node_finds_itself_by_its_name_and_by_any_address(nodes in prop::collection::vec(node(), 1..5)) {
        let Ok(map) = Map::new(nodes) else { return Ok(()) };
        for node in map.nodes() {
            prop_assert_eq!(map.own(Some(&node.name), &[]).unwrap(), node);
            for address in &node.addresses {
                prop_assert_eq!(map.own(None, &[IpAddr::from([192, 0, 2, 1]), *address]).unwrap(), node);
            }
        }
    }
}
