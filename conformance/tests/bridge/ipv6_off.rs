//! IPv6 that is switched off by a setting, on the node or in the Pod: with every plugin that wires Pods.

use conformance::lab::{Netns, Node, Pod, Reply};
use serde_json::{Value, json};

use crate::common::Network;
use crate::{network, node};

/// As hardening guides have it.
fn switch_ipv6_off(netns: &Netns) {
    netns.sh("sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1");
}

const ALL_IS_OFF: &str = "net.ipv6.conf.all.disable_ipv6 is 1 on the node";

#[track_caller]
fn says_nothing_of_capabilities(reply: &Reply) {
    assert!(!reply.stdout.contains("CAP_") && !reply.stdout.contains("not permitted"), "{}", reply.stdout);
}

#[test]
fn on_a_bridge_that_podwire_made_it_is_switched_on_for_who_needs_it() {
    let node = node();
    switch_ipv6_off(&node.netns);
    let is_off = || node.netns.sh("cat /proc/sys/net/ipv6/conf/cni0/disable_ipv6") == "1\n";
    let only_4 = Network::new(&node, "bridge", json!({"isGateway": true}), json!([[{"subnet": "10.22.0.0/16"}]]));
    let reply = only_4.call("ADD", &Pod::new("a"));
    assert!(!reply.stderr.contains(ALL_IS_OFF), "{}", reply.stderr);
    reply.ok();
    assert!(is_off(), "nothing needs it yet");

    let both = network(&node, json!({"isDefaultGateway": true}));
    let pod = Pod::new("b");
    let reply = both.call("ADD", &pod);
    assert_eq!(reply.stderr.matches(ALL_IS_OFF).count(), 1, "{}", reply.stderr);
    let result = reply.ok();
    assert!(!is_off() && pod.netns().pings("fd00:22::1") && pod.netns().pings("10.22.0.1"));
    let checked = both.check(&pod, &result);
    assert!(checked.success && checked.stderr.contains(ALL_IS_OFF), "{}{}", checked.stdout, checked.stderr);

    // Later it is switched off again, and the bridge loses its address.
    switch_ipv6_off(&node.netns);
    let another = Pod::new("c");
    both.add(&another);
    assert!(another.netns().pings("fd00:22::1") && another.netns().pings("fd00:22::2"));
}

#[test]
fn on_another_bridge_the_setting_is_named() {
    let node = node();
    switch_ipv6_off(&node.netns);
    node.netns.sh("ip link add cni0 type bridge");
    let network = network(&node, json!({"isGateway": true}));
    let refused = network.call("ADD", &Pod::new("a"));
    assert_eq!(refused.code(), 105, "{}", refused.stdout);
    says_nothing_of_capabilities(&refused);
    let remedy = "sysctl -w net.ipv6.conf.cni0.disable_ipv6=0";
    assert!(refused.details().contains(remedy), "{}", refused.stdout);
    node.netns.sh(remedy);
    let pod = Pod::new("b");
    network.add(&pod);
    assert!(pod.netns().pings("fd00:22::1"));
}

/// The networks of every plugin that wires Pods, with both families.
fn networks(node: &Node) -> Vec<Network<'_>> {
    let ranges = json!([[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]]);
    let nodes = json!([
        {"name": "one", "addresses": ["192.0.2.1"], "podCIDRs": ["10.22.0.0/24", "fd00:22::/64"]},
        {"name": "two", "addresses": ["192.0.2.2"], "podCIDRs": ["10.23.0.0/24", "fd00:23::/64"]},
    ]);
    let mut overlay = Network::new(node, "vxlan-overlay", json!({"nodes": nodes, "nodeName": "one"}), json!([]));
    overlay.config["ipam"].as_object_mut().unwrap().remove("ranges");
    let of = |plugin: &str, keys: Value| Network::new(node, plugin, keys, ranges.clone());
    vec![of("bridge", json!({"isDefaultGateway": true})), of("ptp", json!({})), of("routed-veth", json!({})), overlay]
}

#[test]
fn pods_of_every_plugin_have_ipv6_on_such_a_node_and_in_such_a_pod() {
    for (on_the_node, in_the_pod) in [(true, false), (false, true), (true, true)] {
        for at in 0..4 {
            let node = node();
            node.netns.sh("ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up
                ip addr add 192.0.2.1/24 dev up0; ip route add default via 192.0.2.254");
            let network = networks(&node).remove(at);
            let what = format!("{}, off on the node: {on_the_node}, in the Pod: {in_the_pod}", network.plugin);
            let (a, b) = (Pod::new("a"), Pod::new("b"));
            if on_the_node {
                switch_ipv6_off(&node.netns);
            }
            for pod in [&a, &b] {
                if in_the_pod {
                    switch_ipv6_off(pod.netns());
                }
                let reply = network.call("ADD", pod);
                says_nothing_of_capabilities(&reply);
                let is_told = reply.stderr.contains(ALL_IS_OFF);
                let result = reply.ok();
                // The bridge had it switched on for the first Pod.
                assert_eq!(is_told, on_the_node && (network.plugin != "bridge" || pod.container_id == "a"), "{what}");
                let checked = network.check(pod, &result);
                assert_eq!(checked.stderr.contains(ALL_IS_OFF), on_the_node, "{what}");
                checked.ok();
            }
            let address = b.netns().sh("ip -6 -o addr show dev eth0 scope global | grep -o 'fd00:22::[0-9a-f]*'");
            assert!(a.netns().pings(address.trim()), "{what}: {address}");
        }
    }
}

#[test]
fn a_route_that_needs_it_in_the_pod_names_the_setting() {
    for plugin in ["bridge", "ptp", "routed-veth"] {
        let node = node();
        let mut network = Network::new(&node, plugin, json!({}), json!([[{"subnet": "10.22.0.0/24"}]]));
        network.config["ipam"]["routes"] = json!([{"dst": "fd00:99::/64", "gw": "fe80::9"}]);
        let pod = Pod::new("a");
        switch_ipv6_off(pod.netns());
        let refused = network.call("ADD", &pod);
        assert_eq!(refused.code(), 105, "{plugin}: {}", refused.stdout);
        says_nothing_of_capabilities(&refused);
        let words = "IPv6 is switched off on interface \"eth0\" in the Pod (net.ipv6.conf.eth0.disable_ipv6 is 1)";
        assert!(refused.details().contains(words), "{plugin}: {}", refused.stdout);
        assert_eq!(network.held(), [""; 0], "{plugin}");
    }
}
