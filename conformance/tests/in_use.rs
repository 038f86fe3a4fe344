//! An address that a route or a neighbor of the node shows to be in use elsewhere is not given: IPAM is asked for the next.

use std::net::IpAddr;

use conformance::cluster::addresses;
use conformance::lab::{Node, Pod, bin_dir};
use serde_json::{Value, json};

/// Every wiring. The bridge without a gateway: a node that has the same subnet on two bridges is refused as a whole.
const PLUGINS: [&str; 4] = ["bridge", "routed-veth", "ptp", "vxlan-overlay"];

fn config(node: &Node, plugin: &str) -> Value {
    let data_dir = node.file("store").display().to_string();
    let ranges = json!([[{"subnet": "10.244.0.0/24", "gateway": "10.244.0.254"}], [{"subnet": "fd00:244::/64", "gateway": "fd00:244::fe"}]]);
    let mut config = json!({
        "cniVersion": "1.1.0", "name": "pods", "type": plugin,
        "ipam": {"type": "host-local", "dataDir": data_dir, "ranges": ranges}
    });
    if plugin == "vxlan-overlay" {
        config["nodes"] =
            json!([{"name": "here", "addresses": ["10.240.0.4"], "podCIDRs": ["10.244.0.0/24", "fd00:244::/64"]}]);
        node.netns.sh("ip link show eth0 >/dev/null 2>&1 || { ip link add eth0 type veth peer name wire; ip link set eth0 up; ip link set wire up; ip addr add 10.240.0.4/24 dev eth0; }");
    }
    config
}

fn add(node: &Node, plugin: &str, pod: &Pod, config: &Value) -> Vec<String> {
    let result = node.call(plugin, "ADD", pod, config).ok();
    addresses(&result).iter().map(IpAddr::to_string).collect()
}

/// A bridge of another program, with a Pod that has the first addresses, and that the node has talked to.
fn old_network(node: &Node) -> Pod {
    let pod = Pod::new("old");
    node.netns.sh(&format!(
        "ip link add cbr0 type bridge; ip link set cbr0 up
         ip addr add 10.244.0.1/24 dev cbr0; ip addr add fd00:244::1/64 dev cbr0 nodad
         ip link add old0 type veth peer name eth0 netns {}; ip link set old0 master cbr0 up",
        pod.netns().name()
    ));
    pod.netns().sh("ip link set eth0 up; ip addr add 10.244.0.2/24 dev eth0; ip addr add fd00:244::2/64 dev eth0 nodad
         ip addr add fd00:244::1:2/64 dev eth0 nodad");
    // The kernel sets the new IPv6 addresses up in its own time.
    for address in ["10.244.0.2", "fd00:244::2"] {
        assert!((0..5).any(|_| node.netns.pings(address)), "{address}");
    }
    pod
}

#[test]
fn addresses_of_pods_of_another_networks_bridge_are_passed_over() {
    for plugin in PLUGINS {
        let node = Node::new("node");
        let old = old_network(&node);
        let config = config(&node, plugin);
        let pods = ["first", "second"].map(Pod::new);
        // 10.244.0.1 and fd00:244::1 are addresses of the node, the next ones a neighbor's.
        assert_eq!(add(&node, plugin, &pods[0], &config), ["10.244.0.3", "fd00:244::3"], "{plugin}");
        assert_eq!(add(&node, plugin, &pods[1], &config), ["10.244.0.4", "fd00:244::4"], "{plugin}");
        assert!(node.netns.pings("10.244.0.2"), "{plugin}: the old Pod is cut off");
        drop(old);
        for pod in &pods {
            node.call(plugin, "DEL", pod, &config).ok();
        }
        let left = node.netns.sh(&format!("ls {}/pods | grep -E '^(10|fd)' || true", node.file("store").display()));
        assert_eq!(left, "", "{plugin}: reserved");
    }
}

#[test]
fn addresses_that_a_route_leads_to_alone_are_passed_over() {
    for plugin in PLUGINS {
        let node = Node::new("node");
        node.netns.sh("ip link set lo up; ip link add other type veth peer name wire2; ip link set other up
             ip route add 10.244.0.1 dev other; ip -6 route add fd00:244::1 dev other
             ip addr add 10.244.0.2/32 dev lo; ip addr add fd00:244::2/128 dev lo nodad
             ip route add 10.244.0.3 dev other table 77; ip -6 route add fd00:244::3 dev other table 77
             ip rule add table 77; ip -6 rule add table 77");
        let config = config(&node, plugin);
        assert_eq!(add(&node, plugin, &Pod::new("pod"), &config), ["10.244.0.4", "fd00:244::4"], "{plugin}");
    }
}

#[test]
fn an_address_in_use_that_ipam_insists_on_is_refused_and_nothing_stays() {
    for plugin in PLUGINS {
        let node = Node::new("node");
        let _old = old_network(&node);
        let mut config = config(&node, plugin);
        let pod = Pod::new("pod");
        config["cniVersion"] = json!("1.0.0");
        config["ipam"] =
            json!({"type": "static", "addresses": [{"address": "10.244.0.2/24", "gateway": "10.244.0.254"}]});
        let path = format!("{}:/usr/lib/cni", bin_dir().display());
        let netns = pod.netns().path().display().to_string();
        let variables = [
            ("CNI_COMMAND", "ADD"),
            ("CNI_CONTAINERID", "pod"),
            ("CNI_NETNS", &netns),
            ("CNI_IFNAME", "eth0"),
            ("CNI_PATH", &path),
        ];
        let reply = node.execute(bin_dir().join(plugin), &variables, config.to_string().as_bytes());
        assert_eq!(reply.code(), 11, "{plugin}: {} {}", reply.stdout, reply.stderr);
        let says =
            "IPAM gave 10.244.0.2, which is in use already: interface \"cbr0\" of this node has a neighbor with it, ";
        assert!(reply.details().starts_with(says), "{plugin}: {}", reply.stdout);
        assert_eq!(pod.netns().sh("ip -o link | grep -c eth0 || true").trim(), "0", "{plugin}");
    }
}

#[test]
fn status_warns_of_pods_of_another_network_in_the_same_subnet() {
    for plugin in PLUGINS {
        let node = Node::new("node");
        let config = config(&node, plugin);
        let warnings = |node: &Node| {
            let reply = node.call_network(plugin, "STATUS", &config);
            assert_eq!(reply.stdout, "", "{plugin}: {}", reply.stderr);
            reply.stderr.lines().filter(|line| line.contains("ports that podwire did not make")).count()
        };
        assert_eq!(warnings(&node), 0, "{plugin}");
        let _old = old_network(&node);
        assert_eq!(warnings(&node), 1, "{plugin}");
        // A Pod of podwire's own is no reason, whatever its bridge.
        node.netns.sh("ip link del cbr0; ip link add cbr0 type bridge; ip addr add 10.244.0.1/24 dev cbr0");
        assert_eq!(warnings(&node), 0, "{plugin}");
    }
}
