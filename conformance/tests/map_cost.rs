//! What an ADD does for a map of a thousand nodes that has not changed: no more than for one of three.
//!
//! Counted, not timed: system calls by strace, with what IPAM does, and what goes over netlink.

use std::collections::BTreeMap;

use conformance::cluster::{self, Cluster, Families};
use conformance::lab::{Node, Pod};
use conformance::trace::calls_made;
use serde_json::{Value, json};

const V4: Families = Families { pods4: true, pods6: false, underlay4: true, underlay6: false };
const DUAL: Families = Families { pods4: true, pods6: true, underlay4: true, underlay6: true };

/// `count` nodes, of which this one is the first; no Pod CIDR lies beside another.
fn entries(cluster: &Cluster, count: usize) -> Vec<Value> {
    let peer = |n: usize| {
        let mut addresses = vec![format!("10.240.{}.{}", 1 + n / 250, 1 + n % 250)];
        let mut cidrs = vec![format!("{}.{}.{}.0/24", 100 + n / 12800, n / 100 % 128, n % 100 * 2)];
        if cluster.families.pods6 {
            addresses.push(format!("fd00:240::1:{n:x}"));
            cidrs.push(format!("fd00:245:0:{:x}::/64", n * 2));
        }
        json!({"name": format!("node-{n}"), "addresses": addresses, "podCIDRs": cidrs})
    };
    std::iter::once(cluster.entry(0)).chain((1..count).map(peer)).collect()
}

fn config(cluster: &Cluster, plugin: &str, nodes: Value) -> Value {
    let plugins = [json!({"type": plugin, "ipMasq": true, "isDefaultGateway": true, "ipam": {"type": "host-local"}})];
    let mut config = cluster::configurations(cluster.node(0), &cluster.map(), &plugins).remove(0);
    config["nodes"] = nodes;
    config
}

/// How often an ADD makes each system call.
fn calls(node: &Node, config: &Value) -> BTreeMap<String, usize> {
    let pod = Pod::new("counted");
    let (file, trace) = (node.file("config.json"), node.file("trace"));
    std::fs::write(&file, config.to_string()).unwrap();
    let plugin = config["type"].as_str().unwrap();
    node.netns.sh(&format!(
        "CNI_COMMAND=ADD CNI_CONTAINERID=counted CNI_IFNAME=eth0 CNI_NETNS={} CNI_PATH={} strace -f -qq -o {} {}/{plugin} < {}",
        pod.netns().path().display(),
        node.cni_path(),
        trace.display(),
        conformance::lab::bin_dir().display(),
        file.display(),
    ));
    let mut counts = BTreeMap::new();
    for line in calls_made(&std::fs::read_to_string(trace).unwrap()) {
        let call = line.split_whitespace().nth(1).and_then(|words| words.split_once('(')).map(|(name, _)| name);
        *counts.entry(call.unwrap_or("other").to_owned()).or_default() += 1;
    }
    node.call(plugin, "DEL", &pod, config).ok();
    counts
}

#[test]
fn an_add_with_an_unchanged_map_makes_as_many_system_calls_for_a_thousand_nodes_as_for_three() {
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        return println!("skipped: strace is not installed");
    }
    for plugin in ["bridge", "routed-veth", "ptp", "vxlan-overlay"] {
        for inline in [false, true] {
            let count = |nodes: usize| {
                // Of IPv4 alone: an address of IPv6 is waited for, more or less often.
                let cluster = Cluster::new(V4, 1);
                let entries = entries(&cluster, nodes);
                cluster.write_entries(entries.clone());
                let nodes = if inline { json!(entries) } else { json!(cluster.map()) };
                let config = config(&cluster, plugin, nodes);
                // The first follows the map.
                let pod = Pod::new("first");
                let result = cluster.node(0).call(plugin, "ADD", &pod, &config).ok();
                let mut check = config.clone();
                check["prevResult"] = result;
                cluster.node(0).call(plugin, "CHECK", &pod, &check).ok();
                calls(cluster.node(0), &config)
            };
            let (few, many) = (count(3), count(1000));
            let what = format!(
                "{plugin}, {}\n3 nodes: {few:?}\n1,000 nodes: {many:?}",
                if inline { "inline" } else { "by path" }
            );
            println!("{what}");
            // What asks the kernel's networking and what starts a process: not one more.
            for call in ["sendto", "sendmsg", "recvfrom", "recvmsg", "socket", "execve", "openat", "setns"] {
                assert_eq!(many.get(call), few.get(call), "{call}: {what}");
            }
            let sum = |counts: &BTreeMap<String, usize>| counts.values().sum::<usize>();
            // The text itself is read, and passed on to IPAM if it is in the configuration.
            assert!(sum(&many) <= sum(&few) + if inline { 60 } else { 20 }, "{what}");
        }
    }
}

#[test]
fn five_thousand_nodes_are_followed_and_verified_whole() {
    let cluster = Cluster::new(DUAL, 1);
    let node = cluster.node(0);
    cluster.write_entries(entries(&cluster, 5000));
    let config = config(&cluster, "vxlan-overlay", json!(cluster.map()));
    let pod = Pod::new("pod");
    let result = node.call("vxlan-overlay", "ADD", &pod, &config).ok();
    let count = |script: &str| node.netns.sh(script).lines().count();
    for (script, expected) in [
        ("ip route show proto 112 dev vxlan.1", 4999),
        ("ip -6 route show proto 112 dev vxlan.1", 4999),
        ("ip -4 neigh show dev vxlan.1 nud permanent", 4999),
        ("ip -6 neigh show dev vxlan.1 nud permanent", 4999),
        ("bridge fdb show dev vxlan.1", 4999),
    ] {
        assert_eq!(count(script), expected, "{script}");
    }
    assert!(count("nft -s list ruleset | grep -o '/24'") >= 5000);
    let mut check = config.clone();
    check["prevResult"] = result;
    node.call("vxlan-overlay", "CHECK", &pod, &check).ok();
    let mut gc = config;
    gc["cni.dev/valid-attachments"] = json!([{"containerID": "pod", "ifname": "eth0"}]);
    // Nobody is left: nothing stale is.
    cluster.write_map(&[0]);
    node.call_network("vxlan-overlay", "GC", &gc).ok();
    assert_eq!(
        count(
            "ip route show proto 112 dev vxlan.1; ip -6 route show proto 112 dev vxlan.1; bridge fdb show dev vxlan.1"
        ),
        0
    );
}
