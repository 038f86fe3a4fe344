//! What somebody else has: a device of that name, the VNI, the port. And what a firewall that is restarted takes away.

use std::net::UdpSocket;

use conformance::cluster::Cluster;
use conformance::lab::{Node, Pod};
use serde_json::{Value, json};

use crate::{DUAL, V4, add, call, details, first};

/// An ADD that is refused with these words, of which nothing is left.
#[track_caller]
fn refused(node: &Node, config: &Value, words: &[&str]) {
    let pod = Pod::new("refused");
    let before = node
        .netns
        .sh("ip -o -d link | sed -E 's/_timer +[0-9.]+//g'; ip -o addr | sed 's/ tentative//'; ip route; bridge fdb");
    let reply = call(node, "ADD", &pod, config);
    assert_eq!(reply.code(), 104, "{} {}", reply.stdout, reply.stderr);
    for word in words {
        assert!(reply.details().contains(word), "{word:?} is missing in {}", reply.stdout);
    }
    let after = node
        .netns
        .sh("ip -o -d link | sed -E 's/_timer +[0-9.]+//g'; ip -o addr | sed 's/ tentative//'; ip route; bridge fdb");
    assert_eq!(after, before);
    assert!(pod.netns().try_sh("ip link show eth0").is_err());
    assert!(!node.file("store/pods/10.244.0.2").exists(), "an address is still reserved");
}

#[test]
fn a_device_of_that_name_that_somebody_else_made_is_left_alone() {
    for foreign in [
        "ip link add vxlan.1 type bridge; ip link set vxlan.1 up",
        "ip link add vxlan.1 type vxlan id 1 dstport 4789 local 10.240.0.4 nolearning; ip link set vxlan.1 up",
        "ip link add vxlan.1 type vxlan id 5 dstport 4789 group 239.1.1.1 dev eth0; ip link set vxlan.1 alias mine",
        "ip link add vxlan.1 type veth peer name other",
    ] {
        let cluster = Cluster::new(V4, 2);
        let node = cluster.node(0);
        node.netns.sh(foreign);
        refused(node, &first(&cluster, 0, json!({})), &["\"vxlan.1\"", "another name"]);
        let status = node.call_network("vxlan-overlay", "STATUS", &first(&cluster, 0, json!({})));
        assert_eq!(status.code(), 50, "{foreign}: {}", status.stdout);
        add(node, &Pod::new("pod"), &first(&cluster, 0, json!({"device": "mine", "vni": 7})));
    }
}

#[test]
fn a_vni_in_use_is_refused_and_says_by_which_device() {
    let cluster = Cluster::new(V4, 2);
    let node = cluster.node(0);
    node.netns
        .sh("ip link add flannel.1 type vxlan id 1 dstport 4789 local 10.240.0.4 nolearning; ip link set flannel.1 up");
    refused(node, &first(&cluster, 0, json!({})), &["VNI 1", "4789", "\"flannel.1\"", "another vni"]);
    add(node, &Pod::new("pod"), &first(&cluster, 0, json!({"vni": 2})));
    assert_eq!(details(&node.netns, "flannel.1")["linkinfo"]["info_data"]["id"], 1);
}

#[test]
fn a_port_in_use_is_refused_and_the_half_made_device_is_gone() {
    let cluster = Cluster::new(V4, 2);
    let node = cluster.node(0);
    let socket = node.netns.inside(|| UdpSocket::bind("0.0.0.0:4789")).unwrap();
    refused(node, &first(&cluster, 0, json!({})), &["UDP port 4789", "in use"]);
    add(node, &Pod::new("pod"), &first(&cluster, 0, json!({"port": 4790})));
    drop(socket);
}

#[test]
fn a_vxlan_device_of_other_settings_on_the_port_is_refused() {
    let cluster = Cluster::new(V4, 2);
    let node = cluster.node(0);
    // A port's socket has one group policy setting for all devices on it.
    node.netns.sh("ip link add gbp7 type vxlan id 7 dstport 4789 local 10.240.0.4 gbp; ip link set gbp7 up");
    refused(node, &first(&cluster, 0, json!({})), &["4789", "in use"]);
    node.netns.sh("ip link del gbp7");
    add(node, &Pod::new("pod"), &first(&cluster, 0, json!({})));
}

#[test]
fn after_a_flushed_ruleset_the_next_add_masquerades_for_all_living_pods_again_by_the_whole_map() {
    let cluster = Cluster::new(DUAL, 2);
    let node = cluster.node(0);
    // More subnets than a label outlines, and none beside another.
    let mut entries = vec![cluster.entry(0), cluster.entry(1)];
    entries.extend((10..40).map(|n| json!({"name": format!("node-{n}"), "addresses": [format!("10.240.{n}.4")], "podCIDRs": [format!("10.245.{}.0/24", n * 2), format!("fd00:245:0:{n}::/64")]})));
    cluster.write_entries(entries);
    let config = first(&cluster, 0, json!({"ipMasq": true}));
    let other = json!([{"name": "node-0", "addresses": ["10.240.0.4"], "podCIDRs": ["10.99.0.0/24"]}]);
    let other = first(&cluster, 0, json!({"ipMasq": true, "name": "other", "vni": 2, "nodes": other}));
    let rules = || node.netns.sh("nft list ruleset | sed 's/ comment.*//'");
    let pods = ["one", "two", "three"].map(Pod::new);
    let results = [add(node, &pods[0], &config), add(node, &pods[1], &config)];
    assert_eq!(rules().matches("10.245.").count(), 30, "{}", rules());
    for first_after in [&config, &other] {
        node.netns.sh("nft flush ruleset");
        let next = [Pod::new("next"), Pod::new("after")];
        add(node, &next[0], first_after);
        add(node, &next[1], &config);
        let healed = rules();
        assert_eq!(healed.matches("10.245.").count(), 30, "{healed}");
        for (pod, result) in pods.iter().zip(&results) {
            let mut check = config.clone();
            check["prevResult"] = result.clone();
            call(node, "CHECK", pod, &check).ok();
            let outside = "192.0.2.2".parse().unwrap();
            assert_eq!(pod.netns().seen_by(&cluster.outside, outside), Ok("10.240.0.4".parse().unwrap()));
        }
        call(node, "DEL", &next[0], first_after).ok();
        call(node, "DEL", &next[1], &config).ok();
    }
}

#[test]
fn another_networks_way_to_a_pod_cidr_is_left_alone_and_refused_with_the_words_that_help() {
    let cluster = Cluster::new(DUAL, 2);
    let node = cluster.node(0);
    let pod = Pod::new("before");
    let routed = json!({"type": "routed-veth", "ipam": {"type": "host-local"}});
    let mut other = crate::chain(&cluster, 0, &[routed], json!({})).remove(0);
    other["name"] = json!("other");
    add(node, &pod, &other);
    call(node, "DEL", &pod, &other).ok();
    let config = first(&cluster, 0, json!({}));
    let advice = call(node, "ADD", &pod, &config);
    assert_eq!(advice.code(), 104, "{}", advice.stdout);
    assert!(advice.details().contains("\"nodeRoutes\": false"), "{}", advice.stdout);
    assert!(!node.file("store/pods/10.244.0.2").exists(), "an address is still reserved");
    node.netns.sh(advice.details().split('`').nth(1).unwrap());
    add(node, &pod, &config);
}
