//! Masquerade: who is seen as the source, and whose rules stay.

use conformance::lab::Pod;
use serde_json::json;

use crate::common::{outside, source_seen};
use crate::{network, node};

#[test]
fn without_masquerade_the_outside_sees_the_pods_own_address() {
    let node = node();
    let outside = outside(&node);
    outside.sh("ip route add 10.22.0.0/16 via 192.0.2.1");
    let pod = Pod::new("a");
    network(&node, json!({"isDefaultGateway": true})).add(&pod);
    assert_eq!(source_seen(pod.netns(), &outside, "192.0.2.2"), "10.22.0.2");
    assert_eq!(node.netns.sh("nft list ruleset"), "");
}

#[test]
fn masquerade_costs_no_rule_for_each_pod() {
    let node = node();
    let network = network(&node, json!({"isGateway": true, "ipMasq": true}));
    let rules = || node.netns.sh("nft -a list ruleset").lines().filter(|line| line.contains("# handle")).count();
    let pods = ["a", "b", "c", "d"].map(Pod::new);
    network.add(&pods[0]);
    let with_one = rules();
    pods[1..].iter().for_each(|pod| drop(network.add(pod)));
    assert_eq!(rules(), with_one);
}

#[test]
fn after_a_flush_check_says_so_and_the_next_add_restores_all_living_pods() {
    let node = node();
    let outside = outside(&node);
    let network = network(&node, json!({"isDefaultGateway": true, "ipMasq": true, "macspoofchk": true}));
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    let result = network.add(&a);
    network.check(&a, &result).ok();
    node.netns.sh("nft flush ruleset");
    let broken = network.check(&a, &result);
    assert_eq!(broken.code(), 102, "{}", broken.stdout);
    network.add(&b);
    network.check(&a, &result).ok();
    assert_eq!(source_seen(a.netns(), &outside, "192.0.2.2"), "192.0.2.1");
    // And no DEL stumbles over a flushed ruleset.
    node.netns.sh("nft flush ruleset");
    network.del(&a);
    network.del(&b);
}

#[test]
fn a_late_del_leaves_masquerade_to_who_has_the_address_now() {
    let node = node();
    let outside = outside(&node);
    let network = network(&node, json!({"isDefaultGateway": true, "ipMasq": true}));
    let with_address = |name: &str| Pod { args: "IP=10.22.0.77".into(), ..Pod::new(name) };
    let (mut first, second) = (with_address("first"), with_address("second"));
    network.add(&first);
    // The first Pod dies with its namespace, and its reservation is freed by hand.
    first.netns = None;
    // The other one leads outside.
    while crate::veths(&node) > 1 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::fs::remove_file(node.file("store/bridge-net/10.22.0.77")).unwrap();
    let result = network.add(&second);
    network.del(&first);
    network.check(&second, &result).ok();
    assert_eq!(source_seen(second.netns(), &outside, "192.0.2.2"), "192.0.2.1");
}

#[test]
fn other_peoples_nftables_and_iptables_stay_as_they_are() {
    let node = node();
    node.netns.sh(
        "nft 'add table inet podwire2; add table ip mine; add chain ip mine c { type nat hook postrouting priority 0; }'; \
         iptables -t nat -A POSTROUTING -s 10.9.9.9 -j MASQUERADE",
    );
    let theirs = || {
        node.netns.sh("nft list table ip mine; nft list table inet podwire2; iptables-save -t nat | grep -v '^[#:]'")
    };
    let before = theirs();
    let network = network(&node, json!({"isGateway": true, "ipMasq": true, "macspoofchk": true}));
    let pod = Pod::new("a");
    network.add(&pod);
    network.del(&pod);
    assert_eq!(theirs(), before);
}
