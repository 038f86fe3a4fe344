//! VLANs, on a kernel whose bridges filter them. Many kernels' do not: `conformance/other-kernel.sh` has one whose do.

use conformance::lab::{Node, Pod};
use serde_json::{Value, json};

use crate::common::{Network, held_nothing};
use crate::{network, node};

/// Can bridges filter VLANs here? If not, the test says that it is skipped.
fn can_filter(node: &Node) -> bool {
    node.netns.sh("ip link add probe type bridge vlan_filtering 1 || true");
    let can = node.netns.ip("-d link show type bridge")[0]["linkinfo"]["info_data"]["vlan_filtering"] == 1;
    node.netns.sh("ip link del probe || true");
    if !can {
        println!("skipped: this kernel's bridges filter no VLANs (conformance/other-kernel.sh has one whose do)");
    }
    can
}

/// A layer 2 network.
fn layer_2(node: &Node, keys: Value) -> Network<'_> {
    Network::new(node, "bridge", keys, Value::Null)
}

/// A port's VLANs: `5`, with `p` for that of untagged frames which come in, and `u` for those that go out untagged.
fn vlans_of(node: &Node, port: &str) -> Vec<String> {
    let told: Value = serde_json::from_str(&node.netns.sh(&format!("bridge -j vlan show dev {port}"))).unwrap();
    let vlans = told[0]["vlans"].as_array().cloned().unwrap_or_default();
    let has = |vlan: &Value, flag: &str| vlan["flags"].as_array().is_some_and(|flags| flags.contains(&json!(flag)));
    let words = vlans.iter().map(|vlan| {
        let pvid = if has(vlan, "PVID") { "p" } else { "" };
        let untagged = if has(vlan, "Egress Untagged") { "u" } else { "" };
        format!("{}{pvid}{untagged}", vlan["vlan"])
    });
    words.collect()
}

fn vlans_of_pod(node: &Node, result: &Value) -> Vec<String> {
    vlans_of(node, result["interfaces"][1]["name"].as_str().unwrap())
}

#[test]
fn a_kernel_that_filters_no_vlans_is_named() {
    let node = node();
    if can_filter(&node) {
        return;
    }
    for keys in [json!({"vlan": 100}), json!({"vlanTrunk": [{"id": 5}]})] {
        let tagged = network(&node, keys);
        let refused = tagged.call("ADD", &Pod::new("a"));
        assert_eq!(refused.code(), 105, "{}", refused.stdout);
        assert!(refused.details().contains("CONFIG_BRIDGE_VLAN_FILTERING"), "{}", refused.stdout);
        held_nothing(&tagged);
    }
}

#[test]
fn a_port_has_the_vlans_that_the_reference_gives_it() {
    let node = node();
    if !can_filter(&node) {
        return;
    }
    let trunk = json!([{"id": 5, "minID": 10, "maxID": 12}, {"minID": 12, "maxID": 13}]);
    for (keys, expected) in [
        (json!({}), &["1pu"][..]),
        (json!({"vlan": 100}), &["100pu"]),
        (json!({"vlan": 1}), &["1pu"]),
        (json!({"vlan": 100, "preserveDefaultVlan": true}), &["1u", "100pu"]),
        (json!({"vlanTrunk": trunk}), &["1pu", "5", "10", "11", "12", "13"]),
        (json!({"vlanTrunk": trunk, "preserveDefaultVlan": true}), &["1pu", "5", "10", "11", "12", "13"]),
        (json!({"vlan": 100, "vlanTrunk": trunk}), &["5", "10", "11", "12", "13", "100pu"]),
        (json!({"vlan": 9, "vlanTrunk": [{"id": 7}], "preserveDefaultVlan": true}), &["1u", "7", "9pu"]),
        // A trunk that includes the VLAN of untagged frames, or 1.
        (json!({"vlan": 11, "vlanTrunk": trunk}), &["5", "10", "11pu", "12", "13"]),
        (json!({"vlanTrunk": [{"minID": 1, "maxID": 3}]}), &["1pu", "2", "3"]),
    ] {
        let network = layer_2(&node, keys.clone());
        let pod = Pod::new("a");
        let result = network.add(&pod);
        assert_eq!(vlans_of_pod(&node, &result), expected, "{keys}");
        network.check(&pod, &result).ok();
        network.del(&pod);
    }
    let pod = Pod::new("b");
    let all = layer_2(&node, json!({"vlanTrunk": [{"minID": 1, "maxID": 4094}]})).add(&pod);
    assert_eq!(vlans_of_pod(&node, &all).len(), 4094);
}

#[test]
fn the_default_vlan_is_what_the_bridge_says() {
    let node = node();
    if !can_filter(&node) {
        return;
    }
    node.netns.sh("ip link add cni0 type bridge vlan_filtering 1 vlan_default_pvid 42");
    for (keys, expected) in [
        (json!({}), &["42pu"][..]),
        (json!({"vlan": 100}), &["100pu"]),
        (json!({"vlan": 100, "preserveDefaultVlan": true}), &["42u", "100pu"]),
        (json!({"vlanTrunk": [{"id": 5}]}), &["1pu", "5"]),
    ] {
        assert_eq!(vlans_of_pod(&node, &layer_2(&node, keys.clone()).add(&Pod::new("a"))), expected, "{keys}");
    }
}

#[test]
fn check_names_a_vlan_that_a_port_has_lost() {
    let node = node();
    if !can_filter(&node) {
        return;
    }
    let network = layer_2(&node, json!({"vlanTrunk": [{"id": 5}]}));
    let pod = Pod::new("a");
    let result = network.add(&pod);
    for vlan in [5, 1] {
        let port = result["interfaces"][1]["name"].as_str().unwrap();
        node.netns.sh(&format!("bridge vlan del dev {port} vid {vlan}"));
        let refused = network.check(&pod, &result);
        assert_eq!(refused.code(), 102, "{}", refused.stdout);
        assert!(refused.details().contains(&format!("has no VLAN {vlan}")), "{}", refused.stdout);
        node.netns.sh(&format!("bridge vlan add dev {port} vid {vlan}"));
    }
}

#[test]
fn pods_reach_the_gateway_and_each_other_in_their_vlan_and_no_other() {
    let node = node();
    if !can_filter(&node) {
        return;
    }
    let ranges =
        |second: u8| json!([[{"subnet": format!("10.{second}.0.0/24")}], [{"subnet": format!("fd00:{second}::/64")}]]);
    let in_vlan = |vlan: u16, second: u8| {
        let mut network = Network::new(&node, "bridge", json!({"vlan": vlan, "isGateway": true}), ranges(second));
        network.config["name"] = json!(format!("vlan{vlan}"));
        network
    };
    let (hundred, other) = (in_vlan(100, 100), in_vlan(200, 200));
    let (a, b, c) = (Pod::new("a"), Pod::new("b"), Pod::new("c"));
    let result = hundred.add(&a);
    hundred.add(&b);
    other.add(&c);
    hundred.check(&a, &result).ok();
    let names: Vec<&str> =
        result["interfaces"].as_array().unwrap().iter().map(|i| i["name"].as_str().unwrap()).collect();
    assert_eq!((names[0], names[2], &names[3..]), ("cni0", "eth0", &["cni0.100"][..]));
    for address in ["10.100.0.1", "10.100.0.3", "fd00:100::1", "fd00:100::3"] {
        assert!(a.netns().pings(address), "{address}");
    }
    // The same subnet does not help: it is another VLAN. (By the gateways, the node routes between the two.)
    c.netns().sh("ip addr add 10.100.0.99/24 dev eth0");
    assert!(!c.netns().pings("10.100.0.3"));
    assert_eq!(vlans_of(&node, &gateways_port(&node, "cni0.100")), ["100pu"]);

    // A trunk carries it tagged, and what is untagged is in VLAN 1.
    let trunk = Pod::new("trunk");
    layer_2(&node, json!({"vlanTrunk": [{"id": 100}]})).add(&trunk);
    trunk.netns().sh("ip link add link eth0 name eth0.100 type vlan id 100; ip link set eth0.100 up
        ip addr add 10.100.0.98/24 dev eth0.100; ip addr add 10.1.1.1/24 dev eth0");
    assert!(trunk.netns().pings("10.100.0.3"));
    let plain = Pod::new("plain");
    layer_2(&node, json!({})).add(&plain);
    plain.netns().sh("ip addr add 10.1.1.2/24 dev eth0");
    assert!(trunk.netns().pings("10.1.1.2") && !trunk.netns().pings("10.100.0.99"));
}

/// The other end of the pair that the interface is of.
fn gateways_port(node: &Node, interface: &str) -> String {
    node.netns.ip(&format!("link show dev {interface}"))[0]["link"].as_str().unwrap().to_owned()
}

#[test]
fn a_gateways_interface_of_the_reference_plugin_is_used_as_it_is() {
    let node = node();
    if !can_filter(&node) {
        return;
    }
    node.netns.sh("ip link add cni0 type bridge vlan_filtering 1; ip link set cni0 up
        ip link add cni0.100 type veth peer name veth1234; ip link set veth1234 master cni0 up; ip link set cni0.100 up
        bridge vlan add dev veth1234 vid 100 pvid untagged");
    let network = network(&node, json!({"vlan": 100, "isGateway": true}));
    let pod = Pod::new("a");
    let result = network.add(&pod);
    assert!(pod.netns().pings("10.22.0.1") && pod.netns().pings("fd00:22::1"));
    assert_eq!(vlans_of(&node, "veth1234"), ["100pu"]);
    network.check(&pod, &result).ok();
}

#[test]
fn a_gateway_in_a_vlan_forwards_where_new_links_do_not() {
    let node = node();
    if !can_filter(&node) {
        return;
    }
    node.netns.sh("echo 1 > /proc/sys/net/ipv4/ip_forward; echo 0 > /proc/sys/net/ipv4/conf/default/forwarding");
    let network = network(&node, json!({"vlan": 100, "isGateway": true}));
    let pod = Pod::new("a");
    let result = network.add(&pod);
    let forwarding = || node.netns.sysctl("ipv4/conf/cni0.100/forwarding");
    assert_eq!(forwarding(), "1");
    network.check(&pod, &result).ok();
    node.netns.sh("echo 0 > /proc/sys/net/ipv4/conf/cni0.100/forwarding");
    assert_eq!(network.check(&pod, &result).code(), 102);
    network.add(&Pod::new("b"));
    assert_eq!(forwarding(), "1");
}
