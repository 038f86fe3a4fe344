//! `ptp` in real namespaces: the wire, as the reference plugin of that name makes it, and what is left of it.

#[path = "common/mod.rs"]
mod common;

use common::Network;
use conformance::lab::{Node, Pod};
use serde_json::{Value, json};

/// A dual-stack network on `node` with these keys of `ptp`, in which IPAM gives default routes.
fn network(node: &Node, keys: Value) -> Network<'_> {
    let ranges = json!([[{"subnet": "10.33.0.0/24"}], [{"subnet": "fd00:33::/64"}]]);
    let mut network = Network::new(node, "ptp", keys, ranges);
    network.config["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    network
}

/// The node's end of a Pod's wire, by its result.
fn host_end(result: &Value) -> String {
    result["interfaces"][0]["name"].as_str().unwrap().to_owned()
}

fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().unwrap();
    ips.iter().map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned()).collect()
}

#[test]
fn a_pod_has_its_addresses_and_reaches_its_subnet_through_the_gateway_on_the_nodes_end() {
    let node = Node::new("node");
    let pod = Pod::new("pod");
    let result = network(&node, json!({})).add(&pod);
    let host = host_end(&result);
    assert_eq!(result["interfaces"].as_array().unwrap().len(), 2);
    assert_eq!(result["interfaces"][1]["sandbox"], json!(pod.netns().path()));
    let ips: Vec<_> = result["ips"].as_array().unwrap().iter().map(|ip| (&ip["address"], &ip["gateway"])).collect();
    assert_eq!(json!(ips), json!([["10.33.0.2/24", "10.33.0.1"], ["fd00:33::2/64", "fd00:33::1"]]));
    assert!(result["ips"].as_array().unwrap().iter().all(|ip| ip["interface"] == 1));
    assert_eq!(common::addresses_of(pod.netns(), "eth0"), ["10.33.0.2/24", "fd00:33::2/64"]);
    assert_eq!(common::addresses_of(&node.netns, &host), ["10.33.0.1/32", "fd00:33::1/128"]);

    let routes = pod.netns().sh("ip -4 route; ip -6 route");
    for route in [
        "default via 10.33.0.1 dev eth0",
        "10.33.0.1 dev eth0 proto static scope link src 10.33.0.2",
        "10.33.0.0/24 via 10.33.0.1 dev eth0 proto static src 10.33.0.2",
        "default via fd00:33::1 dev eth0",
        "fd00:33::1 dev eth0 proto static src fd00:33::2",
        "fd00:33::/64 via fd00:33::1 dev eth0 proto static src fd00:33::2",
    ] {
        assert!(routes.contains(route), "{route} is missing:\n{routes}");
    }
    // Not even the kernel's own: the subnet's other Pods are behind other pairs.
    assert!(!routes.contains("10.33.0.0/24 dev eth0") && !routes.contains("fd00:33::/64 dev eth0"), "{routes}");
    let routes = node.netns.sh("ip -4 route; ip -6 route");
    for route in [format!("10.33.0.2 dev {host}"), format!("fd00:33::2 dev {host}")] {
        assert!(routes.contains(&route), "{route} is missing:\n{routes}");
    }
}

#[test]
fn pods_reach_each_other_and_the_node_at_once_with_their_own_addresses() {
    let node = Node::new("node");
    let network = network(&node, json!({}));
    let pods = [Pod::new("one"), Pod::new("other")];
    let results = [network.add(&pods[0]), network.add(&pods[1])];
    for (from, to) in [(0, 1), (1, 0)] {
        for ip in addresses(&results[to]) {
            assert!(pods[from].netns().pings(&ip), "{ip}");
            assert!(node.netns.pings(&ip), "{ip}");
        }
        for gateway in ["10.33.0.1", "fd00:33::1"] {
            assert!(pods[from].netns().pings(gateway), "{gateway}");
        }
    }
    // What is not a Pod's own address goes nowhere.
    let forged = "ip addr add 10.33.0.77/32 dev lo; ping -c1 -W1 -I 10.33.0.77 10.33.0.1";
    assert!(pods[0].netns().try_sh(forged).is_err());
}

#[test]
fn an_address_without_a_gateway_gets_the_first_of_its_subnet_and_each_address_may_have_its_own() {
    let node = Node::new("node");
    let ranges = json!([[{"subnet": "10.34.0.0/24", "gateway": "10.34.0.254"}], [{"subnet": "10.35.0.0/24"}]]);
    let network = Network::new(&node, "ptp", json!({}), ranges);
    let pod = Pod::new("pod");
    let result = network.add(&pod);
    let host = host_end(&result);
    assert_eq!(common::addresses_of(&node.netns, &host), ["10.34.0.254/32", "10.35.0.1/32"]);
    for gateway in ["10.34.0.254", "10.35.0.1"] {
        assert!(pod.netns().pings(gateway), "{gateway}");
    }
    network.check(&pod, &result).ok();
    network.del(&pod);
    common::held_nothing(&network);
}

#[test]
fn masquerade_mtu_and_dns_are_as_configured() {
    let node = Node::new("node");
    let keys =
        json!({"ipMasq": true, "ipMasqBackend": "nftables", "mtu": 1380, "dns": {"nameservers": ["10.33.0.53"]}});
    let network = network(&node, keys);
    let pod = Pod::new("pod");
    let result = network.add(&pod);
    for (netns, interface) in [(&node.netns, host_end(&result)), (pod.netns(), "eth0".to_owned())] {
        assert_eq!(netns.ip(&format!("link show {interface}"))[0]["mtu"], 1380);
    }
    assert_eq!(result["dns"], json!({"nameservers": ["10.33.0.53"]}));
    let ruleset = node.netns.sh("nft list ruleset");
    for element in ["10.33.0.2", "fd00:33::2"] {
        assert!(ruleset.contains(element), "{element} is not masqueraded:\n{ruleset}");
    }
    network.check(&pod, &result).ok();
    network.del(&pod);
    common::held_nothing(&network);
    assert!(!node.netns.sh("nft list ruleset").contains("10.33.0.2"));
}

#[test]
fn configurations_of_the_reference_mean_the_same() {
    let node = Node::new("node");
    let resolv = node.file("resolv.conf");
    std::fs::write(&resolv, "nameserver 10.33.0.54\n").unwrap();
    // Any list of dns takes the place of IPAM's answer, also an empty one; no list and no domain does not.
    for (dns, expected) in [
        (json!({"nameservers": [], "search": [], "options": []}), Value::Null),
        (json!({"nameservers": null, "domain": ""}), json!({"nameservers": ["10.33.0.54"]})),
        (json!({}), json!({"nameservers": ["10.33.0.54"]})),
        (json!({"domain": "example"}), json!({"domain": "example"})),
    ] {
        let mut network = network(&node, json!({"dns": dns}));
        network.config["ipam"]["resolvConf"] = json!(resolv);
        let pod = Pod::new("pod");
        let found = &network.add(&pod)["dns"];
        assert!(*found == expected || expected.is_null() && *found == json!({}), "{dns}: {found}");
        network.del(&pod);
    }
    // "iptables" masquerades too, and the log says how.
    let network = network(&node, json!({"ipMasq": true, "ipMasqBackend": "iptables"}));
    let pod = Pod::new("pod");
    let reply = network.call("ADD", &pod);
    assert!(reply.success && reply.stderr.contains("ipMasqBackend"), "{} {}", reply.stdout, reply.stderr);
    assert!(node.netns.sh("nft list ruleset").contains(&addresses(&reply.json)[0]));
}

#[test]
fn check_finds_each_part_of_the_wire_missing_and_del_leaves_nothing() {
    let node = Node::new("node");
    let network = network(&node, json!({"ipMasq": true}));
    for (at, broken) in [
        ("pod", "ip addr del 10.33.0.2/24 dev eth0"),
        ("pod", "ip route del default"),
        ("pod", "ip route del 10.33.0.0/24"),
        ("pod", "ip -6 route del fd00:33::/64"),
        ("pod", "ip link set eth0 down"),
        ("node", "ip route del 10.33.0.2"),
        ("node", "ip addr del 10.33.0.1/32 dev HOST"),
        ("node", "ip addr del fd00:33::1/128 dev HOST"),
        ("node", "ip link set HOST down"),
        ("node", "nft flush ruleset"),
    ] {
        let pod = Pod { args: "IP=10.33.0.2".into(), ..Pod::new("pod") };
        let result = network.add(&pod);
        network.check(&pod, &result).ok();
        let netns = if at == "pod" { pod.netns() } else { &node.netns };
        netns.sh(&broken.replace("HOST", &host_end(&result)));
        let reply = network.check(&pod, &result);
        assert_eq!(reply.code(), 102, "{broken}: {} {}", reply.stdout, reply.stderr);
        network.del(&pod);
        network.del(&pod);
        common::held_nothing(&network);
    }
    let left = node.netns.state();
    assert!(!left.lines().any(|line| line.contains("veth") || line.contains("10.33.")), "{left}");
}

#[test]
fn ipam_is_needed_and_wrong_keys_are_named() {
    let node = Node::new("node");
    let refused = |keys: Value, key: &str| {
        let mut network = network(&node, keys);
        if key == "ipam.type" {
            network.config.as_object_mut().unwrap().remove("ipam");
        }
        let reply = network.call("ADD", &Pod::new("pod"));
        assert_eq!(reply.code(), 7, "{}", reply.stdout);
        assert!(reply.stdout.contains(key), "{key}: {}", reply.stdout);
    };
    refused(json!({}), "ipam.type");
    refused(json!({"mtu": 40}), "mtu");
    refused(json!({"mtu": 1000}), "IPv6 takes 1280");
    refused(json!({"ipMasqBackend": "magic"}), "ipMasqBackend");
    refused(json!({"nodeRoutes": false}), "nodeRoutes");
    refused(json!({"args": {"cni": {"mac": "01:00:00:00:00:01"}}}), "args.cni.mac");
    common::held_nothing(&network(&node, json!({})));
}

#[test]
fn check_names_everything_that_is_wrong_at_once() {
    let node = Node::new("node");
    let network = network(&node, json!({"ipMasq": true}));
    let pod = Pod::new("pod");
    let result = network.add(&pod);
    pod.netns().sh("ip addr del fd00:33::2/64 dev eth0; ip route del default");
    node.netns.sh("ip route del 10.33.0.2; nft flush ruleset");
    let reply = network.check(&pod, &result);
    assert_eq!(reply.code(), 102, "{}", reply.stdout);
    for fault in
        ["fd00:33::2/64 is missing", "route to 0.0.0.0/0", "route to 10.33.0.2/32", "masquerade:", "source check:"]
    {
        assert!(reply.details().contains(fault), "{fault}: {}", reply.stdout);
    }
}
