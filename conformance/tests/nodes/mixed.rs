//! An underlay of both families where not every node has both: tunnels over IPv4 and over IPv6 on one node.

use conformance::network::{DUAL, Network, Reach, Wire};

use crate::Shown;

/// Node 2 gives up IPv4, then changes the address that is left; node 1 gives up IPv4 too; and both get it back.
fn some_nodes_have_ipv6_alone(wire: Wire, reach: Reach) {
    let mut shown = Shown(Network::new(wire, reach, DUAL));
    let all: Vec<_> = (0..3).map(|number| shown.cluster.addresses(number)).collect();
    let new = "fd00:240::7:7".parse().unwrap();
    // Whose addresses change, to what, and which Pods go on meanwhile.
    let steps = [
        (2, vec![all[2][1]], [(0, 1), (0, 2)]),
        (2, vec![new], [(0, 1), (0, 2)]),
        (1, vec![all[1][1]], [(0, 1), (0, 3)]),
        (2, all[2].clone(), [(0, 1), (0, 2)]),
        (1, all[1].clone(), [(0, 1), (0, 3)]),
    ];
    for (number, addresses, goes_on) in steps {
        let before = shown.cluster.addresses(number);
        let meanwhile = shown.talking(&goes_on);
        shown.cluster.renumber(number, addresses.clone());
        shown.cluster.write_map(&[0, 1, 2]);
        shown.sync();
        meanwhile.went_on();
        let gone: Vec<String> =
            before.iter().filter(|address| !addresses.contains(address)).map(ToString::to_string).collect();
        shown.nothing_leads_to(&gone);
        shown.all_is_well();
        shown.outside_sees_the_node();
        if shown.cluster.addresses(2).len() == 1 {
            // Pods that were there before tunnels over IPv6, which hold less, learn of it: nothing is lost for good.
            shown.a_hundred_megabytes_arrive();
        }
    }
}

#[test]
fn bridge_vxlan_where_some_nodes_have_ipv6_alone() {
    some_nodes_have_ipv6_alone(Wire::Bridge, Reach::Vxlan);
}

#[test]
fn bridge_direct_where_some_nodes_have_ipv6_alone() {
    some_nodes_have_ipv6_alone(Wire::Bridge, Reach::Direct);
}

#[test]
fn routed_vxlan_where_some_nodes_have_ipv6_alone() {
    some_nodes_have_ipv6_alone(Wire::Routed, Reach::Vxlan);
}

#[test]
fn routed_direct_where_some_nodes_have_ipv6_alone() {
    some_nodes_have_ipv6_alone(Wire::Routed, Reach::Direct);
}

/// Pod CIDRs move from the underlay's link to the tunnel's, and back.
#[test]
fn direct_routing_is_turned_off_and_on_again() {
    for wire in [Wire::Bridge, Wire::Routed] {
        let mut shown = Shown(Network::new(wire, Reach::Direct, DUAL));
        for reach in [Reach::Vxlan, Reach::Direct] {
            shown.reach = reach;
            shown.sync();
            shown.all_is_well();
            shown.all_is_as_added();
        }
    }
}
