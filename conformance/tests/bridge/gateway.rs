//! The bridge as a gateway: its hardware address stays, and so do the addresses that belong there; no others do.

use std::path::Path;

use conformance::lab::{Node, Pod};
use serde_json::{Value, json};

use crate::common::{Network, addresses_of, held_nothing, mac_of};
use crate::{network, node};

/// A network on `cni0` with these ranges of host-local.
fn with_ranges(node: &Node, keys: Value, ranges: Value) -> Network<'_> {
    Network::new(node, "bridge", keys, ranges)
}

fn host_end(result: &Value) -> &str {
    result["interfaces"][1]["name"].as_str().unwrap()
}

// --- the hardware address ---

/// Bridges that podwire did not make, with the words for a failed assertion.
const OTHERS_BRIDGES: [(&str, &str); 4] = [
    ("made by hand", "ip link add cni0 type bridge"),
    (
        "with a port",
        "ip link add cni0 type bridge; ip link add p0 master cni0 type veth peer name p1; ip link set p0 up",
    ),
    (
        "with its addresses",
        "ip link add cni0 type bridge; ip addr add 10.22.0.1/16 dev cni0; ip addr add fd00:22::1/64 dev cni0",
    ),
    (
        "whose last port is gone",
        "ip link add cni0 type bridge; ip link add p0 master cni0 type veth peer name p1; ip link del p0",
    ),
];

#[test]
fn a_bridge_that_podwire_did_not_make_keeps_its_hardware_address_as_a_gateway() {
    for (what, script) in OTHERS_BRIDGES {
        let node = node();
        node.netns.sh(script);
        let network = network(&node, json!({"isGateway": true}));
        let pods: Vec<Pod> = (0..8).map(|n| Pod::new(&format!("pod{n}"))).collect();
        let results: Vec<Value> = pods.iter().map(|pod| network.add(pod)).collect();
        let mac = mac_of(&node.netns, "cni0");
        assert_ne!(mac, "00:00:00:00:00:00", "{what}");
        for result in &results {
            assert_eq!(result["interfaces"][0]["mac"], mac, "{what}");
        }
        // The one whose host end has the lowest address goes first.
        let mut order: Vec<(String, usize)> =
            results.iter().enumerate().map(|(n, result)| (mac_of(&node.netns, host_end(result)), n)).collect();
        order.sort();
        let (_, last) = order.pop().unwrap();
        std::thread::scope(|scope| {
            let pings = scope.spawn(|| pods[last].netns().sh("ping -n -q -i 0.01 -c 200 -W 1 10.22.0.1"));
            for (_, n) in &order {
                network.del(&pods[*n]);
                assert_eq!(mac_of(&node.netns, "cni0"), mac, "{what}");
            }
            let said = pings.join().unwrap();
            assert!(said.contains(" 0% packet loss"), "{what}: {said}");
        });
        network.check(&pods[last], &results[last]).ok();
        network.del(&pods[last]);
        assert_eq!(mac_of(&node.netns, "cni0"), mac, "{what}, without Pods");
    }
}

#[test]
fn check_compares_the_bridges_hardware_address_for_pods_made_since_it_was_pinned() {
    let node = node();
    node.netns.sh("ip link add cni0 type bridge");
    let (before, old, new) = (Pod::new("before"), Pod::new("old"), Pod::new("new"));
    let layer_2 = network(&node, json!({}));
    let of_before = layer_2.add(&before);
    let gateway = network(&node, json!({"isGateway": true}));
    let (of_old, of_new) = (gateway.add(&old), gateway.add(&new));
    // As an earlier version of podwire left it.
    let alias = node.netns.ip(&format!("link show dev {}", host_end(&of_old)))[0]["ifalias"].clone();
    let alias = alias.as_str().unwrap().replace(" pinned=mac", "");
    node.netns.sh(&format!("ip link set dev {} alias '{alias}'", host_end(&of_old)));
    node.netns.sh("ip link set dev cni0 address 02:00:00:00:00:77");
    layer_2.check(&before, &of_before).ok();
    // Nor does it matter that the configuration has changed since.
    gateway.check(&before, &of_before).ok();
    gateway.check(&old, &of_old).ok();
    let refused = gateway.check(&new, &of_new);
    assert_eq!(refused.code(), 102, "{}", refused.stdout);
    let words = "interface \"cni0\" on the node has hardware address 02:00:00:00:00:77";
    assert!(refused.details().contains(words), "{}", refused.stdout);
}

/// The kernel forgets a link's neighbors when its address is set, also to what it was.
#[test]
fn a_bridge_is_pinned_once() {
    for script in ["true", OTHERS_BRIDGES[0].1] {
        let mut node = node();
        node.netns.sh(script);
        in_its_own_sys(&mut node);
        let network = network(&node, json!({"isGateway": true}));
        // With it the bridge has a carrier, without which it forgets its neighbors too.
        let first = Pod::new("a");
        network.add(&first);
        node.netns.sh("ip neigh add 10.22.9.9 lladdr 02:00:00:00:00:09 dev cni0 nud reachable");
        network.add(&Pod::new("b"));
        let known = node.netns.sh("ip neigh show 10.22.9.9");
        assert!(known.contains("02:00:00:00:00:09"), "{script}: {known}");
    }
}

/// Executes `bridge` as on a machine, where /sys has the interfaces of the namespace that the plugin is executed in.
fn in_its_own_sys(node: &mut Node) {
    let (name, bridge) = (node.netns.name(), node.path[0].join("bridge"));
    let script = format!("#!/bin/sh\nexec ip netns exec {name} {}\n", bridge.display());
    let path = node.file("wrapped");
    std::fs::create_dir(&path).unwrap();
    write_executable(&path.join("bridge"), &script);
    node.path.insert(0, path);
}

fn write_executable(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

// --- IP addresses ---

#[test]
fn the_gateway_of_an_earlier_configuration_is_refused_or_with_force_replaced() {
    let node = node();
    let earlier = with_ranges(&node, json!({"isGateway": true}), json!([[{"subnet": "172.26.64.0/20"}]]));
    let pod = Pod::new("a");
    earlier.add(&pod);
    earlier.del(&pod);
    let ranges = json!([[{"subnet": "10.100.0.0/20"}]]);
    let careful = with_ranges(&node, json!({"isGateway": true}), ranges.clone());
    let refused = careful.call("ADD", &pod);
    assert_eq!(refused.code(), 104, "{}", refused.stdout);
    for words in ["172.26.64.1/20", "10.100.0.1/20", "forceAddress", "ip addr del 172.26.64.1/20 dev cni0"] {
        assert!(refused.details().contains(words), "{words}: {}", refused.stdout);
    }
    assert_eq!(addresses_of(&node.netns, "cni0"), ["172.26.64.1/20"]);
    held_nothing(&careful);
    with_ranges(&node, json!({"isGateway": true, "forceAddress": true}), ranges).add(&pod);
    assert_eq!(addresses_of(&node.netns, "cni0"), ["10.100.0.1/20"]);
    assert!(pod.netns().pings("10.100.0.1"));
}

/// An IPv4 address of the same subnet is a secondary one to the first, and the kernel removes it with that.
#[test]
fn the_order_of_addresses_does_not_matter() {
    for other in ["10.22.0.99/16", "192.168.7.1/24"] {
        for order in [[other, "10.22.0.1/16"], ["10.22.0.1/16", other]] {
            let node = node();
            let [first, second] = order;
            node.netns.sh(&format!(
                "ip link add cni0 type bridge; ip addr add {first} dev cni0; ip addr add {second} dev cni0"
            ));
            let careful = network(&node, json!({"isGateway": true}));
            let refused = careful.call("ADD", &Pod::new("a"));
            assert_eq!(
                (refused.code(), refused.details().contains(other)),
                (104, true),
                "{order:?}: {}",
                refused.stdout
            );
            held_nothing(&careful);
            let pod = Pod::new("b");
            network(&node, json!({"isGateway": true, "forceAddress": true})).add(&pod);
            let mut found = addresses_of(&node.netns, "cni0");
            found.sort();
            assert_eq!(found, ["10.22.0.1/16", "fd00:22::1/64"], "{order:?}");
            assert!(pod.netns().pings("10.22.0.1"), "{order:?}");
        }
    }
}

#[test]
fn of_ipv6_only_an_overlapping_subnet_is_in_the_way() {
    for other in ["fd00:22::99/64", "fd00:22::99/48", "fd00:22::1/80"] {
        let node = node();
        node.netns.sh(&format!(
            "ip link add cni0 type bridge; ip addr add {other} dev cni0; ip addr add fd00:99::1/64 dev cni0"
        ));
        let careful = network(&node, json!({"isGateway": true}));
        let refused = careful.call("ADD", &Pod::new("a"));
        assert_eq!((refused.code(), refused.details().contains(other)), (104, true), "{}", refused.stdout);
        network(&node, json!({"isGateway": true, "forceAddress": true})).add(&Pod::new("b"));
        let mut found = addresses_of(&node.netns, "cni0");
        found.sort();
        assert_eq!(found, ["10.22.0.1/16", "fd00:22::1/64", "fd00:99::1/64"]);
    }
}

#[test]
fn each_family_is_for_itself() {
    for (on_the_bridge, subnet) in [("10.99.0.1/24", "fd00:22::/64"), ("fd00:22::99/64", "10.22.0.0/24")] {
        for force in [false, true] {
            let node = node();
            node.netns.sh(&format!("ip link add cni0 type bridge; ip addr add {on_the_bridge} dev cni0"));
            let keys = json!({"isGateway": true, "forceAddress": force});
            with_ranges(&node, keys, json!([[{"subnet": subnet}]])).add(&Pod::new("a"));
            let found = addresses_of(&node.netns, "cni0");
            assert!(found.len() == 2 && found.contains(&on_the_bridge.to_owned()), "{found:?}");
        }
    }
}

#[test]
fn gateways_of_the_configurations_other_ranges_stay() {
    let small = |n: u8| json!({"subnet": format!("10.{n}.0.0/30")});
    let another_gateway = json!({"subnet": "10.3.0.0/24", "gateway": "10.3.0.254"});
    let of_ipv6 = json!({"subnet": "fd00:22::/64"});
    for (ranges, expected) in [
        // A set whose first range is full after one Pod.
        (json!([[small(1), small(2), another_gateway]]), vec!["10.1.0.1/30", "10.2.0.1/30", "10.3.0.254/24"]),
        // Two sets of one family: each Pod has an address of each.
        (
            json!([[small(1), another_gateway], [{"subnet": "10.4.0.0/24"}], [of_ipv6]]),
            vec!["10.1.0.1/30", "10.3.0.254/24", "10.4.0.1/24", "fd00:22::1/64"],
        ),
    ] {
        for force in [false, true] {
            let node = node();
            let keys = json!({"isGateway": true, "forceAddress": force});
            let network = with_ranges(&node, keys, ranges.clone());
            let pods = [Pod::new("a"), Pod::new("b"), Pod::new("c")];
            for pod in pods.iter().take(ranges[0].as_array().unwrap().len()) {
                network.add(pod);
            }
            let mut found = addresses_of(&node.netns, "cni0");
            found.sort();
            assert_eq!(found, expected, "forceAddress {force}");
        }
    }
}

#[test]
fn gateways_of_the_runtimes_ranges_and_of_the_nodes_pod_cidrs_stay() {
    let node = node();
    node.netns.sh("ip link add up0 type dummy 2>/dev/null || ip link add up0 type veth peer name up1
        ip link set up0 up; ip addr add 192.0.2.1/24 dev up0");
    let mut by_runtime = with_ranges(&node, json!({"isGateway": true, "forceAddress": true}), json!([]));
    by_runtime.config["ipam"].as_object_mut().unwrap().remove("ranges");
    by_runtime.config["runtimeConfig"] = json!({"ipRanges": [[{"subnet": "10.1.0.0/30"}, {"subnet": "10.2.0.0/30"}]]});
    by_runtime.add(&Pod::new("a"));
    by_runtime.add(&Pod::new("b"));
    assert_eq!(addresses_of(&node.netns, "cni0"), ["10.1.0.1/30", "10.2.0.1/30"]);

    let cidrs = ["10.3.0.0/30", "10.4.0.0/30"];
    let nodes = json!([{"name": "one", "addresses": ["192.0.2.1"], "podCIDRs": cidrs}]);
    let keys = json!({"isGateway": true, "bridge": "cni1", "nodes": nodes, "nodeName": "one"});
    let mut by_map = with_ranges(&node, keys, json!([]));
    by_map.config["ipam"].as_object_mut().unwrap().remove("ranges");
    by_map.add(&Pod::new("c"));
    by_map.add(&Pod::new("d"));
    let found = addresses_of(&node.netns, "cni1");
    assert!(found == ["10.3.0.1/30", "10.4.0.1/30"], "{found:?}");
}
