//! Where the map is, which node this is, and what host-local gives.

use conformance::cluster::{Cluster, addresses};
use conformance::lab::Pod;
use serde_json::{Value, json};

use crate::{DUAL, PLUGINS, V4, add, call, config, config_of};

fn first_address(result: &Value) -> String {
    addresses(result)[0].to_string()
}

#[test]
fn a_map_in_the_configuration_and_one_in_a_file_do_the_same() {
    for plugin in PLUGINS {
        let cluster = Cluster::new(V4, 2);
        let node = cluster.node(0);
        let entries: Vec<Value> = (0..2).map(|number| cluster.entry(number)).collect();
        // The kernel joins IPv6 multicast groups a moment after an address appears: they are no part of the map.
        let leads =
            || node.netns.sh("ip route show proto 112; bridge fdb show | sed /^33:33:/d; ip neigh show nud permanent");
        let (one, other) = (Pod::new("one"), Pod::new("other"));
        let inline = config(node, plugin, &entries);
        let result = add(node, &one, &inline);
        assert!(first_address(&result).starts_with("10.244.0."), "{plugin}: {result}");
        call(node, "DEL", &one, &inline).ok();
        let by_inline = leads();
        assert!(by_inline.contains("10.244.1.0/24"), "{plugin}: {by_inline}");
        let by_path = config_of(&cluster, 0, plugin);
        let result = add(node, &other, &by_path);
        assert!(first_address(&result).starts_with("10.244.0."), "{plugin}: {result}");
        call(node, "DEL", &other, &by_path).ok();
        assert_eq!(leads(), by_inline, "{plugin}");
    }
}

#[test]
fn the_own_node_is_the_one_of_node_name_and_else_the_one_with_an_address_of_this_machine() {
    let cluster = Cluster::new(V4, 2);
    let by_address = config_of(&cluster, 1, "routed-veth");
    let mut by_name = by_address.clone();
    by_name["nodeName"] = json!("node-0");
    // This machine can't be its own next hop.
    by_name["nodeRoutes"] = json!(false);
    for (config, subnet) in [(by_address, "10.244.1."), (by_name, "10.244.0.")] {
        let pod = Pod::new("pod");
        let result = add(cluster.node(1), &pod, &config);
        assert!(first_address(&result).starts_with(subnet), "{result}");
        call(cluster.node(1), "DEL", &pod, &config).ok();
    }
}

#[test]
fn host_local_serves_all_pod_cidrs_of_its_own_node_and_ranges_win() {
    let cluster = Cluster::new(DUAL, 2);
    let node = cluster.node(0);
    let mut entries: Vec<Value> = (0..2).map(|number| cluster.entry(number)).collect();
    // /30 has one address beside the gateway: the second Pod's comes out of the next.
    entries[0]["podCIDRs"] = json!(["10.244.0.0/30", "fd00:244::/64", "10.244.7.0/24"]);
    cluster.write_entries(entries);
    let mut config = config_of(&cluster, 0, "routed-veth");
    let pods = ["first", "second", "third"].map(Pod::new);
    let results = [add(node, &pods[0], &config), add(node, &pods[1], &config)];
    let all: Vec<_> = results.iter().map(addresses).collect();
    assert_eq!(all[0][0].to_string(), "10.244.0.2");
    assert_eq!(all[1][0].to_string(), "10.244.7.2");
    assert!(all.iter().all(|ips| ips.len() == 2 && ips[1].to_string().starts_with("fd00:244::")), "{all:?}");
    config["ipam"]["ranges"] = json!([[{"subnet": "10.99.0.0/24"}]]);
    assert_eq!(first_address(&add(node, &pods[2], &config)), "10.99.0.2");
}

#[test]
fn vxlan_talks_over_ipv4_where_nodes_have_both_and_over_ipv6_if_underlay_family_says_so() {
    let cluster = Cluster::new(DUAL, 2);
    for (number, key, device, remote, mtu) in
        [(0, None, "vxlan.1", "dst 10.240.0.5", 1450), (1, Some("ipv6"), "vxlan6.1", "dst fd00:240::4", 1430)]
    {
        let node = cluster.node(number);
        let mut config = config_of(&cluster, number, "vxlan-overlay");
        config["underlayFamily"] = json!(key);
        let result = add(node, &Pod::new("pod"), &config);
        assert_eq!(result["interfaces"][1]["mtu"], mtu, "{result}");
        let fdb = node.netns.sh(&format!("bridge fdb show dev {device}"));
        assert_eq!(fdb.lines().count(), 1, "{fdb}");
        assert!(fdb.contains(remote), "{fdb}");
        assert_eq!(node.netns.sh("ip -o link show type vxlan").lines().count(), 1);
    }
}

#[test]
fn nodes_of_one_family_and_nodes_of_both_are_in_one_network_and_an_idle_address_is_no_error() {
    let cluster = Cluster::new(DUAL, 1);
    let node = cluster.node(0);
    let entries = json!([
        cluster.entry(0),
        {"name": "four", "addresses": ["10.240.0.7"], "podCIDRs": ["10.244.7.0/24", "fd00:244:0:7::/64"]},
        {"name": "six", "addresses": ["fd00:240::8"], "podCIDRs": ["10.244.8.0/24"]},
        {"name": "idle", "addresses": ["10.240.0.9", "fd00:240::9"], "podCIDRs": []},
    ]);
    let overlay = config(node, "vxlan-overlay", &entries);
    let pod = Pod::new("pod");
    add(node, &pod, &overlay);
    let routes = node.netns.sh("ip route show proto 112; ip -6 route show proto 112");
    for (cidr, device) in
        [("10.244.7.0/24", "vxlan.1"), ("fd00:244:0:7::/64", "vxlan.1"), ("10.244.8.0/24", "vxlan6.1")]
    {
        let line = routes.lines().find(|line| line.starts_with(cidr)).unwrap_or_default();
        assert!(line.contains(&format!(" dev {device} ")), "{cidr}: {routes}");
    }
    assert!(node.netns.sh("bridge fdb show dev vxlan.1").contains("dst 10.240.0.7"));
    assert!(node.netns.sh("bridge fdb show dev vxlan6.1").contains("dst fd00:240::8"));
    // Another network gives the same addresses: not while somebody has them.
    call(node, "DEL", &pod, &overlay).ok();
    // On node routes an address of a family without Pod CIDRs does not matter either.
    let four = json!([cluster.entry(0), {"name": "x", "addresses": ["fd00:240::9", "10.240.0.9"], "podCIDRs": ["10.244.9.0/24"]}]);
    let mut routed = config(node, "routed-veth", &four);
    routed["name"] = json!("other");
    add(node, &Pod::new("routed"), &routed);
}
