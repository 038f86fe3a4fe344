//! A Pod with root in its own namespace against its neighbors and its node: raw frames, forged, on IPv4 and IPv6.

#[path = "../common/mod.rs"]
mod common;
mod frames;

use conformance::lab::{Netns, Node, Pod};
use serde_json::{Value, json};

use crate::common::Network;
use crate::frames::{address, arrivals, claim, mac};

/// The node on the bridge.
const GATEWAY: [&str; 2] = ["10.22.0.1", "fd00:22::1"];

const HONEST: [&str; 5] = ["ipv4 own", "ipv6 own", "arp own", "na own", "end"];

fn node() -> Node {
    Node::new("node")
}

fn network<'a>(node: &'a Node, plugin: &str, keys: Value) -> Network<'a> {
    Network::new(node, plugin, keys, json!([[{"subnet": "10.22.0.0/16"}], [{"subnet": "fd00:22::/64"}]]))
}

/// What a namespace believes: whose hardware address is whose (the forger's own link-local address apart, which it may
/// announce), its routes and its addresses.
fn known(netns: &Netns) -> String {
    netns.sh("ip neigh show nud all | grep -v -e NOARP -e FAILED -e INCOMPLETE -e '^fe80::[^1]' | sed 's/ [A-Z]* *$//' | sort
              ip -4 route; ip -6 route; ip -o addr | awk '{print $2, $4}'")
}

#[test]
fn ipspoofchk_lets_only_the_pods_own_addresses_in() {
    let node = node();
    let keys = json!({"isGateway": true, "macspoofchk": true, "ipMasq": true});
    let open = network(&node, "bridge", keys.clone());
    let (forger, victim) = (Pod::new("forger"), Pod::new("victim"));
    let (from, to) = (open.add(&forger), open.add(&victim));
    let all = arrivals((&forger, &from), (&victim, &to), mac(&to, "eth0"), GATEWAY);
    assert_eq!(all.len(), 16, "without the key every frame arrives: {all:?}");
    open.del(&forger);

    let mut keys = keys;
    keys["ipspoofchk"] = json!(true);
    let checked = network(&node, "bridge", keys);
    let from = checked.add(&forger);
    assert_eq!(arrivals((&forger, &from), (&victim, &to), mac(&to, "eth0"), GATEWAY), HONEST);
    assert!(GATEWAY.iter().all(|gateway| forger.netns().pings(gateway)));
    checked.check(&forger, &from).ok();

    let before = [known(&node.netns), known(victim.netns())];
    claim((&forger, &from), [address(&to, 0), address(&to, 1)]);
    claim((&forger, &from), GATEWAY);
    assert_eq!([known(&node.netns), known(victim.netns())], before);

    node.netns.sh("nft flush ruleset");
    assert_eq!(checked.check(&forger, &from).code(), 102);
    let third = Pod::new("third");
    checked.add(&third);
    checked.check(&forger, &from).ok();
    assert_eq!(arrivals((&forger, &from), (&victim, &to), mac(&to, "eth0"), GATEWAY), HONEST);

    checked.del(&forger);
    checked.del(&third);
    open.del(&victim);
    assert!(!node.netns.sh("nft list ruleset").contains("elements"));
}

#[test]
fn gc_removes_the_address_check_of_who_is_gone() {
    let node = node();
    let network = network(&node, "bridge", json!({"ipspoofchk": true}));
    network.add(&Pod::new("a"));
    let mut config = network.config.clone();
    config["cni.dev/valid-attachments"] = json!([]);
    node.call_network("bridge", "GC", &config).ok();
    assert!(!node.netns.sh("nft list ruleset").contains("elements"));
}

#[test]
fn an_address_check_without_addresses_is_refused() {
    let node = node();
    let layer2 = Network::new(&node, "bridge", json!({"ipspoofchk": true}), Value::Null);
    let refused = layer2.call("ADD", &Pod::new("a"));
    assert_eq!(refused.code(), 7);
    assert!(refused.details().contains("ipspoofchk"), "{}", refused.stdout);
}

#[test]
fn isolated_pods_meet_through_the_gateway_only() {
    let node = node();
    let network = network(&node, "bridge", json!({"isDefaultGateway": true, "portIsolation": true}));
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    network.add(&a);
    let there = network.add(&b);
    let other = address(&there, 0);
    assert!(!a.netns().pings(other));
    // A route by the gateway is all it takes: the key is about layer 2.
    a.netns().sh(&format!("ip route add {other}/32 via 10.22.0.1"));
    b.netns().sh("ip route add 10.22.0.0/24 via 10.22.0.1");
    assert!(a.netns().pings(other));
}

#[test]
fn a_routed_pod_sends_from_its_own_addresses_and_tells_nobody_anything() {
    let node = node();
    let network = network(&node, "routed-veth", json!({}));
    let pods = ["forger", "victim", "third"].map(Pod::new);
    let [from, to, third] = [0, 1, 2].map(|at| network.add(&pods[at]));
    let [forger, victim, _] = &pods;
    let host_end = from["interfaces"][0]["mac"].as_str().unwrap();
    let others = [address(&third, 0), address(&third, 1)];
    let sent = || arrivals((forger, &from), (victim, &to), host_end, others);
    // What says something to neighbors (ICMPv6 types 134 to 137) comes over a router, and nobody believes that: RFC 4861
    // wants a hop limit of 255.
    assert_eq!(sent(), ["ipv4 own", "ipv6 own", "na forged", "na own", "ra", "redirect", "end"]);

    let before = [known(&node.netns), known(victim.netns())];
    for claimed in [others, [address(&to, 0), address(&to, 1)], ["169.254.1.1", "fe80::1"]] {
        claim((forger, &from), claimed);
    }
    assert_eq!([known(&node.netns), known(victim.netns())], before);
    assert!(others.iter().all(|other| victim.netns().pings(other)));

    node.netns.sh("nft flush ruleset");
    assert_eq!(network.check(forger, &from).code(), 102);
    assert!(sent().contains(&"ns forged".to_owned()), "without the rule the kernel lets forged IPv6 through");
    let fourth = Pod::new("fourth");
    network.add(&fourth);
    network.check(forger, &from).ok();
    assert!(!sent().contains(&"ns forged".to_owned()));

    pods.iter().chain([&fourth]).for_each(|pod| network.del(pod));
    assert!(!node.netns.sh("nft list ruleset").contains("elements"));
}

#[test]
fn a_routed_pod_without_an_ipv6_address_sends_no_ipv6() {
    let node = node();
    let only4 = Network::new(&node, "routed-veth", json!({}), json!([[{"subnet": "10.22.0.0/16"}]]));
    let both = network(&node, "routed-veth", json!({}));
    let (forger, victim) = (Pod::new("forger"), Pod::new("victim"));
    only4.add(&forger);
    let to = both.add(&victim);
    let send = format!(
        "ip addr add fd00:bad::1/128 dev eth0 nodad; ip -6 route add default dev eth0; sleep 0.1; ping -6 -n -c 1 -W 1 {}",
        address(&to, 1)
    );
    forger.netns().try_sh(&send).expect_err("an IPv6 packet of a Pod without IPv6 got through");
    let received = victim.netns().sh("nstat -az Icmp6InEchos");
    assert!(received.contains("Icmp6InEchos                    0"), "{received}");
}
