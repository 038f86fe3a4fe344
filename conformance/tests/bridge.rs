//! `bridge` in real namespaces: what the kernel has afterwards, where packets go, and what is left.

mod common;

use common::{Network, addresses_of, held_nothing, in_parallel, mac_of, outside, source_seen};
use conformance::lab::{Node, Pod, REFERENCE_DIR};
use serde_json::{Value, json};

fn node() -> Node {
    Node::new("node")
}

/// A dual-stack network on `node` with these keys of `bridge`.
fn network(node: &Node, keys: Value) -> Network<'_> {
    Network::new(node, "bridge", keys, json!([[{"subnet": "10.22.0.0/16"}], [{"subnet": "fd00:22::/64"}]]))
}

fn veths(node: &Node) -> usize {
    node.netns.ip("link show type veth").as_array().unwrap().len()
}

#[test]
fn the_result_says_what_the_kernel_has() {
    let node = node();
    let pod = Pod::new("a");
    let result = network(&node, json!({"isDefaultGateway": true, "mtu": 1400})).add(&pod);

    let interfaces = result["interfaces"].as_array().unwrap();
    let [bridge, host, inner] = &interfaces[..] else { panic!("three interfaces: {interfaces:?}") };
    assert_eq!((&bridge["name"], &inner["name"]), (&json!("cni0"), &json!("eth0")));
    assert!(host["name"].as_str().unwrap().starts_with("veth"));
    assert_eq!(inner["sandbox"], pod.netns().path().display().to_string());
    for (netns, interface) in [(&node.netns, bridge), (&node.netns, host), (pod.netns(), inner)] {
        let link = &netns.ip(&format!("-d link show dev {}", interface["name"].as_str().unwrap()))[0];
        assert_eq!((&link["address"], &link["mtu"]), (&interface["mac"], &interface["mtu"]));
    }
    assert_eq!((&inner["mtu"], &host["mtu"]), (&json!(1400), &json!(1400)));
    assert_eq!(result["ips"][0], json!({"address": "10.22.0.2/16", "gateway": "10.22.0.1", "interface": 2}));
    assert_eq!(result["ips"][1], json!({"address": "fd00:22::2/64", "gateway": "fd00:22::1", "interface": 2}));
    assert_eq!(addresses_of(pod.netns(), "eth0"), ["10.22.0.2/16", "fd00:22::2/64"]);
    assert_eq!(result["routes"], json!([{"dst": "0.0.0.0/0", "gw": "10.22.0.1"}, {"dst": "::/0", "gw": "fd00:22::1"}]));
    assert_eq!(pod.netns().ip("route show default")[0]["gateway"], "10.22.0.1");
    assert_eq!(pod.netns().ip("-6 route show default")[0]["gateway"], "fd00:22::1");
}

#[test]
fn the_bridge_keeps_its_address_as_pods_come_and_go_and_its_mtu_follows_them() {
    let node = node();
    let network = network(&node, json!({"isGateway": true, "mtu": 1300}));
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    network.add(&a);
    let before = mac_of(&node.netns, "cni0");
    let host = network.add(&b)["interfaces"][1]["name"].as_str().unwrap().to_owned();
    network.del(&a);
    assert_eq!(mac_of(&node.netns, "cni0"), before);
    assert_eq!(node.netns.ip("link show dev cni0")[0]["mtu"], 1300);
    // A port that is lowered later lowers the bridge: its MTU was never pinned.
    node.netns.sh(&format!("ip link set dev {host} mtu 1280"));
    assert_eq!(node.netns.ip("link show dev cni0")[0]["mtu"], 1280);
}

#[test]
fn pods_reach_each_other_the_node_and_masqueraded_the_outside() {
    let node = node();
    let outside = outside(&node);
    let network = network(&node, json!({"isDefaultGateway": true, "ipMasq": true}));
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    network.add(&a);
    network.add(&b);
    for address in ["10.22.0.3", "fd00:22::3", "10.22.0.1", "fd00:22::1", "192.0.2.1", "2001:db8::1"] {
        assert!(a.netns().pings(address), "{address}");
    }
    for (address, source) in [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")] {
        assert_eq!(source_seen(a.netns(), &outside, address), source, "beyond its subnet: as the node");
    }
    for (address, source) in [("10.22.0.3", "10.22.0.2"), ("fd00:22::3", "fd00:22::2")] {
        assert_eq!(source_seen(a.netns(), b.netns(), address), source, "within its subnet: as itself");
    }
}

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

#[test]
fn ipv6_is_ready_at_once_and_takes_no_advertisements() {
    let node = node();
    let pod = Pod::new("a");
    pod.netns().sh("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
    network(&node, json!({"isGateway": true})).add(&pod);
    let addresses = pod.netns().sh("ip -6 -o addr show dev eth0");
    assert!(addresses.contains("fd00:22::2/64") && addresses.contains("fe80::"), "{addresses}");
    assert!(!addresses.contains("tentative"), "{addresses}");
    let settings = "cat /proc/sys/net/ipv6/conf/eth0/disable_ipv6 /proc/sys/net/ipv6/conf/eth0/accept_ra";
    assert_eq!(pod.netns().sh(settings), "0\n0\n");
    // Only this interface: what comes later in the Pod is not ours to decide.
    assert_eq!(pod.netns().sh("cat /proc/sys/net/ipv6/conf/default/disable_ipv6"), "1\n");
    assert!(pod.netns().pings("fd00:22::1"));
}

#[test]
fn enabledad_leaves_detection_to_the_kernel() {
    let node = node();
    let pod = Pod::new("a");
    network(&node, json!({"enabledad": true})).add(&pod);
    let addresses = pod.netns().sh("ip -6 -o addr show dev eth0 to fd00:22::/64");
    assert!(addresses.contains("fd00:22::2") && !addresses.contains("nodad"), "{addresses}");
    assert_eq!(pod.netns().sh("cat /proc/sys/net/ipv6/conf/eth0/accept_dad"), "1\n");
}

#[test]
fn forwarding_goes_on_for_the_families_in_use_and_the_node_keeps_its_default_route() {
    let node = node();
    let _outside = outside(&node);
    node.netns.sh("echo 1 >/proc/sys/net/ipv6/conf/up0/accept_ra");
    let read = |key: &str| node.netns.sh(&format!("cat /proc/sys/net/{key}")).trim().to_owned();
    let only_4 = Network::new(&node, "bridge", json!({"isGateway": true}), json!([[{"subnet": "10.22.0.0/16"}]]));
    only_4.add(&Pod::new("a"));
    assert_eq!((read("ipv4/ip_forward"), read("ipv6/conf/all/forwarding")), ("1".into(), "0".into()));
    assert_eq!(read("ipv6/conf/up0/accept_ra"), "1");
    let keys = json!({"isGateway": true, "bridge": "six"});
    let only_6 = Network::new(&node, "bridge", keys, json!([[{"subnet": "fd00:6::/64"}]]));
    only_6.add(&Pod::new("b"));
    assert_eq!((read("ipv6/conf/all/forwarding"), read("ipv6/conf/up0/accept_ra")), ("1".into(), "2".into()));
    assert_eq!(read("ipv6/conf/six/accept_ra"), "0", "a Pod's advertisements must not reach the node's routing");
}

#[test]
fn without_ipam_it_is_layer_2_only() {
    let node = node();
    let network = Network::new(&node, "bridge", json!({}), Value::Null);
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    let result = network.add(&a);
    network.add(&b);
    assert!(result.get("ips").is_none() && result.get("routes").is_none(), "{result}");
    assert_eq!(addresses_of(a.netns(), "eth0"), [""; 0]);
    a.netns().sh("ip addr add 10.1.1.1/24 dev eth0");
    b.netns().sh("ip addr add 10.1.1.2/24 dev eth0");
    assert!(a.netns().pings("10.1.1.2"));
    network.check(&a, &result).ok();
    network.del(&a);
}

#[test]
fn a_gateway_without_one_from_ipam_is_the_subnets_first_address() {
    let mut node = node();
    node.path.push(REFERENCE_DIR.into());
    let config = json!({
        "cniVersion": "1.0.0", "name": "n", "type": "bridge", "isDefaultGateway": true,
        "ipam": {"type": "static", "addresses": [{"address": "10.5.0.9/24"}, {"address": "fd00:5::9/64"}]},
    });
    let pod = Pod::new("a");
    let result = node.call("bridge", "ADD", &pod, &config).ok();
    assert_eq!((&result["ips"][0]["gateway"], &result["ips"][1]["gateway"]), (&json!("10.5.0.1"), &json!("fd00:5::1")));
    assert!(pod.netns().pings("10.5.0.1") && pod.netns().pings("fd00:5::1"));
    node.call("bridge", "DEL", &pod, &config).ok();
}

#[test]
fn a_default_route_from_ipam_is_not_doubled() {
    let node = node();
    let mut network = network(&node, json!({"isDefaultGateway": true}));
    let other = json!({"dst": "198.51.100.0/24", "mtu": 1200});
    network.config["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0", "gw": "10.22.0.254"}, {"dst": "::/0"}, other]);
    let pod = Pod::new("a");
    let result = network.add(&pod);
    let expected = json!([{"dst": "0.0.0.0/0", "gw": "10.22.0.254"}, {"dst": "::/0", "gw": "fd00:22::1"}, other]);
    assert_eq!(result["routes"], expected);
    assert_eq!(pod.netns().ip("route show default")[0]["gateway"], "10.22.0.254");
    let route = pod.netns().sh("ip route show 198.51.100.0/24");
    assert!(route.contains("via 10.22.0.1") && route.contains("mtu 1200"), "{route}");
}

#[test]
fn another_address_of_the_subnet_on_the_bridge_is_refused_or_with_force_replaced() {
    let node = node();
    node.netns
        .sh("ip link add cni0 type bridge; ip addr add 10.22.0.99/16 dev cni0; ip addr add 172.16.5.1/24 dev cni0");
    let careful = network(&node, json!({"isGateway": true}));
    let pod = Pod::new("a");
    let refused = careful.call("ADD", &pod);
    assert_eq!(refused.code(), 104, "{}", refused.stdout);
    assert!(
        refused.details().contains("10.22.0.99/16") && refused.details().contains("forceAddress"),
        "{}",
        refused.stdout
    );
    held_nothing(&careful);
    network(&node, json!({"isGateway": true, "forceAddress": true})).add(&pod);
    let addresses = addresses_of(&node.netns, "cni0");
    assert!(addresses.contains(&"10.22.0.1/16".to_owned()) && !addresses.contains(&"10.22.0.99/16".to_owned()));
    assert!(addresses.contains(&"172.16.5.1/24".to_owned()), "addresses of other subnets stay: {addresses:?}");
}

#[test]
fn a_link_of_another_kind_with_the_bridges_name_is_refused_and_left_alone() {
    let node = node();
    node.netns.sh("ip link add cni0 type veth peer name other");
    let network = network(&node, json!({}));
    let refused = network.call("ADD", &Pod::new("a"));
    assert_eq!(refused.code(), 104, "{}", refused.stdout);
    assert!(refused.details().contains("veth"), "{}", refused.stdout);
    assert_eq!(node.call_network("bridge", "STATUS", &network.config).code(), 50);
    node.netns.sh("ip link show cni0; ip link show other");
    held_nothing(&network);
}

#[test]
fn hairpin_promiscuous_and_isolated_mean_what_they_say() {
    let node = node();
    let port_data = |port: &Value| {
        node.netns.ip(&format!("-d link show dev {}", port["name"].as_str().unwrap()))[0]["linkinfo"]["info_slave_data"]
            .clone()
    };
    let hairpin = network(&node, json!({"hairpinMode": true}));
    let a = Pod::new("a");
    let result = hairpin.add(&a);
    let port = &result["interfaces"][1];
    assert_eq!(port_data(port)["hairpin"], true);
    hairpin.check(&a, &result).ok();
    node.netns.sh(&format!("ip link set dev {} type bridge_slave hairpin off", port["name"].as_str().unwrap()));
    assert_eq!(hairpin.check(&a, &result).code(), 102);

    let promiscuous = network(&node, json!({"promiscMode": true, "bridge": "prom0"}));
    let b = Pod::new("b");
    let result = promiscuous.add(&b);
    assert_eq!(node.netns.ip("-d link show dev prom0")[0]["promiscuity"], 1);
    node.netns.sh("ip link set dev prom0 promisc off");
    assert_eq!(promiscuous.check(&b, &result).code(), 102);
    promiscuous.add(&Pod::new("c"));
    promiscuous.check(&b, &result).ok();

    let keys = json!({"portIsolation": true, "isGateway": true, "bridge": "iso0"});
    let isolated = Network::new(&node, "bridge", keys, json!([[{"subnet": "10.30.0.0/24"}]]));
    let (d, e) = (Pod::new("d"), Pod::new("e"));
    let result = isolated.add(&d);
    isolated.add(&e);
    assert_eq!(port_data(&result["interfaces"][1])["isolated"], true);
    assert!(d.netns().pings("10.30.0.1") && !d.netns().pings("10.30.0.3"));
}

#[test]
fn macspoofchk_lets_only_the_pods_own_address_in() {
    let node = node();
    let network = network(&node, json!({"isGateway": true, "macspoofchk": true}));
    let pod = Pod::new("a");
    let result = network.add(&pod);
    assert!(pod.netns().pings("10.22.0.1"));
    pod.netns().sh("ip link set dev eth0 address 02:00:00:00:00:99");
    assert!(!pod.netns().pings("10.22.0.1"));
    pod.netns().sh(&format!("ip link set dev eth0 address {}", result["interfaces"][2]["mac"].as_str().unwrap()));
    assert!(pod.netns().pings("10.22.0.1"));
    network.check(&pod, &result).ok();
    network.del(&pod);
    assert!(!node.netns.sh("nft list ruleset").contains("elements"));
}

#[test]
fn the_mac_address_asked_for_is_set_and_the_capability_wins() {
    let node = node();
    let a = Pod::new("a");
    let by_args = network(&node, json!({"args": {"cni": {"mac": "02:11:22:33:44:55"}}})).add(&a);
    assert_eq!(by_args["interfaces"][2]["mac"], "02:11:22:33:44:55");
    assert_eq!(mac_of(a.netns(), "eth0"), "02:11:22:33:44:55");
    let both = json!({"args": {"cni": {"mac": "02:11:22:33:44:66"}}, "runtimeConfig": {"mac": "02:11:22:33:44:77"}});
    assert_eq!(network(&node, both).add(&Pod::new("b"))["interfaces"][2]["mac"], "02:11:22:33:44:77");
    let by_variable = Pod { args: "IgnoreUnknown=1;MAC=02:11:22:33:44:88;K8S_POD_NAME=p".into(), ..Pod::new("c") };
    assert_eq!(network(&node, json!({})).add(&by_variable)["interfaces"][2]["mac"], "02:11:22:33:44:88");
    let wrong = network(&node, json!({"runtimeConfig": {"mac": "01:00:5e:00:00:01"}})).call("ADD", &Pod::new("d"));
    assert_eq!(wrong.code(), 7);
    assert!(wrong.details().contains("runtimeConfig.mac"), "{}", wrong.stdout);
}

#[test]
fn an_interface_left_down_has_no_addresses() {
    let node = node();
    let keys = json!({"disableContainerInterface": true});
    let without_ipam = Network::new(&node, "bridge", keys.clone(), Value::Null);
    let pod = Pod::new("a");
    let result = without_ipam.add(&pod);
    assert_eq!(pod.netns().ip("link show dev eth0")[0]["operstate"], "DOWN");
    without_ipam.check(&pod, &result).ok();
    without_ipam.del(&pod);
    assert_eq!(network(&node, keys).call("ADD", &pod).code(), 7);
}

#[test]
fn dns_of_the_configuration_is_handed_on() {
    let node = node();
    let dns = json!({"nameservers": ["10.0.0.10", "fd00::10"], "domain": "d", "search": ["s1", "s2"], "options": ["ndots:5"]});
    assert_eq!(network(&node, json!({"dns": dns})).add(&Pod::new("a"))["dns"], dns);
}

#[test]
fn vlans_work_or_the_kernel_is_named_that_lacks_them() {
    let node = node();
    let tagged = network(&node, json!({"vlan": 100, "isGateway": true}));
    let (a, b, c) = (Pod::new("a"), Pod::new("b"), Pod::new("c"));
    let reply = tagged.call("ADD", &a);
    if reply.code() == 105 {
        assert!(reply.details().contains("CONFIG_BRIDGE_VLAN_FILTERING"), "{}", reply.stdout);
        held_nothing(&tagged);
        println!("skipped: the rest needs bridge VLAN filtering, which this kernel lacks ({})", reply.details());
        return;
    }
    let result = reply.ok();
    tagged.add(&b);
    tagged.check(&a, &result).ok();
    assert!(a.netns().pings("10.22.0.1") && a.netns().pings("10.22.0.3"));
    let trunk = json!({"vlanTrunk": [{"id": 5}, {"minID": 10, "maxID": 12}], "preserveDefaultVlan": false});
    let result = network(&node, trunk).add(&c);
    let vlans = node.netns.sh(&format!("bridge vlan show dev {}", result["interfaces"][1]["name"].as_str().unwrap()));
    assert!(!vlans.contains(" 1 ") && vlans.contains("12"), "{vlans}");
    assert!(!c.netns().pings("10.22.0.1"), "another VLAN is another network");
}

#[test]
fn configurations_that_do_not_hold_are_refused_by_key_and_value_and_touch_nothing() {
    let node = node();
    let cases = [
        (json!({"bridge": "much-too-long-a-name"}), "bridge", "much-too-long"),
        (json!({"bridge": "a/b"}), "bridge", "a/b"),
        (json!({"mtu": "big"}), "mtu", "big"),
        (json!({"mtu": 20}), "mtu", "20"),
        (json!({"mtu": -1}), "mtu", "-1"),
        (json!({"isGateway": "yes"}), "isGateway", "yes"),
        (json!({"hairpinMode": true, "promiscMode": true}), "hairpinMode", "promiscMode"),
        (json!({"ipMasqBackend": "iptables"}), "ipMasqBackend", "iptables"),
        (json!({"ipMasqBackend": "magic"}), "ipMasqBackend", "magic"),
        (json!({"vlan": 4095}), "vlan", "4095"),
        (json!({"vlan": 70000}), "vlan", "70000"),
        (json!({"vlan": 5, "vlanTrunk": [{"id": 6}]}), "vlanTrunk", "vlan"),
        (json!({"vlanTrunk": [{"minID": 9, "maxID": 3}]}), "vlanTrunk[0]", "9"),
        (json!({"vlanTrunk": [{"minID": 9}]}), "vlanTrunk[0]", "9"),
        (json!({"dns": {"nameservers": "10.0.0.1"}}), "dns.nameservers", "10.0.0.1"),
    ];
    let pod = Pod::new("a");
    for (keys, key, value) in cases {
        let refused = network(&node, keys.clone()).call("ADD", &pod);
        assert_eq!(refused.code(), 7, "{keys}: {}", refused.stdout);
        assert!(refused.details().contains(key) && refused.details().contains(value), "{keys}: {}", refused.stdout);
    }
    assert_eq!(node.netns.ip("link show type bridge"), json!([]));
    assert!(!node.file("store").exists());
}

#[test]
fn an_interface_that_exists_is_an_error_and_the_address_is_free_again() {
    let node = node();
    let network = network(&node, json!({"isGateway": true, "ipMasq": true}));
    let pod = Pod::new("a");
    pod.netns().sh("ip link add eth0 type veth peer name other");
    let refused = network.call("ADD", &pod);
    assert_eq!(refused.code(), 103, "{}", refused.stdout);
    assert!(refused.details().contains("\"eth0\""), "{}", refused.stdout);
    held_nothing(&network);
    // What a runtime does next must not take away what another made.
    network.del(&pod);
    pod.netns().sh("ip link show eth0");
}

#[test]
fn a_second_add_without_del_is_a_clear_error_and_the_first_lives_on() {
    let node = node();
    let network = network(&node, json!({"isGateway": true}));
    let pod = Pod::new("a");
    let result = network.add(&pod);
    let refused = network.call("ADD", &pod);
    assert_eq!(refused.code(), 103, "{}", refused.stdout);
    assert!(pod.netns().pings("10.22.0.1"));
    network.check(&pod, &result).ok();
}

#[test]
fn del_works_whatever_is_left_and_as_often_as_it_is_called() {
    let node = node();
    let network = network(&node, json!({"isGateway": true, "ipMasq": true, "macspoofchk": true}));
    for case in [
        "as added",
        "without prevResult",
        "no CNI_NETNS",
        "namespace gone",
        "interface gone",
        "host end gone",
        "changed",
    ] {
        let mut pod = Pod::new("a");
        let mut kept = None;
        let result = network.add(&pod);
        let mut config = network.config.clone();
        match case {
            "as added" => config["prevResult"] = result.clone(),
            "no CNI_NETNS" => kept = pod.netns.take(),
            "namespace gone" => pod.netns = None,
            "interface gone" => drop(pod.netns().sh("ip link del eth0")),
            "host end gone" => {
                drop(node.netns.sh(&format!("ip link del {}", result["interfaces"][1]["name"].as_str().unwrap())))
            }
            "changed" => {
                let nonsense =
                    [("bridge", json!(7)), ("mtu", json!("x")), ("ipMasq", json!(3)), ("cniVersion", json!("9.9"))];
                nonsense.into_iter().for_each(|(key, value)| config[key] = value);
            }
            _ => {}
        }
        for _ in 0..3 {
            let reply = network.call_with("DEL", &pod, &config);
            assert!(reply.success && reply.stdout.is_empty(), "{case}: {}", reply.stdout);
        }
        if let Some(netns) = kept {
            assert!(netns.try_sh("ip link show eth0").is_err(), "{case}");
        }
        held_nothing(&network);
        assert_eq!(veths(&node), 0, "{case}");
        assert!(!node.netns.sh("nft list ruleset").contains("elements"), "{case}");
    }
}

#[test]
fn check_names_what_is_broken() {
    let node = node();
    let mut network = network(&node, json!({"isDefaultGateway": true, "ipMasq": true}));
    network.config["args"] = json!({"cni": {"ips": ["10.22.0.2", "fd00:22::2"]}});
    let breaks = [
        ("pod", "ip link set dev eth0 down", "eth0"),
        ("pod", "ip link set dev eth0 down; ip link set dev eth0 name eth7", "eth0"),
        ("pod", "ip link del dev eth0", "veth"),
        ("pod", "ip addr del 10.22.0.2/16 dev eth0", "10.22.0.2/16"),
        ("pod", "ip addr del fd00:22::2/64 dev eth0", "fd00:22::2/64"),
        ("pod", "ip route del default", "0.0.0.0/0"),
        ("pod", "ip -6 route del default", "::/0"),
        ("pod", "ip link set dev eth0 address 02:00:00:00:00:99", "02:00:00:00:00:99"),
        ("node", "ip link set dev HOST down", "HOST"),
        ("node", "ip link set dev HOST nomaster", "cni0"),
        ("node", "ip link set dev cni0 down", "cni0"),
        ("node", "ip addr del 10.22.0.1/16 dev cni0", "10.22.0.1/16"),
        ("node", "ip addr del fd00:22::1/64 dev cni0", "fd00:22::1/64"),
        ("node", "echo 0 >/proc/sys/net/ipv4/ip_forward", "ip_forward"),
        ("node", "echo 0 >/proc/sys/net/ipv6/conf/all/forwarding", "forwarding"),
        ("node", "nft delete element inet podwire pods4 { 10.22.0.2 }", "10.22.0.2"),
        ("node", "nft flush chain inet podwire postrouting", "postrouting"),
        ("node", "nft flush chain inet podwire leave-10.22.0.0/16", "leave-10.22.0.0/16"),
        ("store", "10.22.0.2", "10.22.0.2"),
    ];
    for (place, script, named) in breaks {
        let pod = Pod::new("a");
        let result = network.add(&pod);
        network.check(&pod, &result).ok();
        let host = result["interfaces"][1]["name"].as_str().unwrap();
        match place {
            "pod" => drop(pod.netns().sh(script)),
            "node" => drop(node.netns.sh(&script.replace("HOST", host))),
            _ => std::fs::remove_file(node.file(&format!("store/bridge-net/{script}"))).unwrap(),
        }
        let broken = network.check(&pod, &result);
        assert_eq!(broken.code(), 102, "{script}: {}", broken.stdout);
        assert!(broken.details().contains(&named.replace("HOST", host)), "{script}: {}", broken.stdout);
        network.del(&pod);
        // The next ADD heals what is shared; a chain that was emptied by hand goes as a firewall's restart would take it.
        node.netns.sh("nft flush ruleset");
    }
}

#[test]
fn check_lets_a_later_plugin_change_routes_mac_and_mtu() {
    let node = node();
    let network = network(&node, json!({"isDefaultGateway": true}));
    let pod = Pod::new("a");
    let mut result = network.add(&pod);
    pod.netns()
        .sh("ip link set dev eth0 address 02:00:00:00:00:42; ip link set dev eth0 mtu 1280; ip route del default; \
         ip route add default via 10.22.0.1 dev eth0 table 100; ip rule add from 10.22.0.2 table 100");
    result["interfaces"][2]["mac"] = json!("02:00:00:00:00:42");
    network.check(&pod, &result).ok();
    result["routes"] = json!([]);
    pod.netns().sh("ip route flush table 100");
    network.check(&pod, &result).ok();
}

#[test]
fn gc_removes_what_is_not_listed_and_is_repeatable() {
    let node = node();
    let network = network(&node, json!({"isGateway": true, "ipMasq": true, "macspoofchk": true}));
    let (keep, lose, gone) = (Pod::new("keep"), Pod::new("lose"), Pod::new("gone"));
    let result = network.add(&keep);
    network.add(&lose);
    network.add(&gone);
    drop(gone);
    let mut config = network.config.clone();
    config["cni.dev/valid-attachments"] = json!([{"containerID": "keep", "ifname": "eth0"}]);
    for _ in 0..2 {
        node.call_network("bridge", "GC", &config).ok();
        network.check(&keep, &result).ok();
        assert!(lose.netns().try_sh("ip link show eth0").is_err());
        assert_eq!(network.held(), ["10.22.0.2", "fd00:22::2"]);
        let rules = node.netns.sh("nft list ruleset");
        assert!(
            rules.contains("10.22.0.2 ") && !rules.contains("10.22.0.3 ") && !rules.contains("10.22.0.4 "),
            "{rules}"
        );
    }
    config["cni.dev/valid-attachments"] = json!([]);
    node.call_network("bridge", "GC", &config).ok();
    held_nothing(&network);
    assert_eq!(veths(&node), 0);
    config.as_object_mut().unwrap().remove("cni.dev/valid-attachments");
    assert_eq!(node.call_network("bridge", "GC", &config).code(), 7);
}

#[test]
fn gc_of_one_network_leaves_anothers_living_pods() {
    let node = node();
    let one = network(&node, json!({"isGateway": true, "ipMasq": true}));
    let mut two = Network::copy_of(&one);
    two.config["name"] = json!("two");
    two.config["bridge"] = json!("two0");
    two.config["ipam"]["ranges"] = json!([[{"subnet": "10.44.0.0/24"}]]);
    let pod = Pod::new("a");
    let result = two.add(&pod);
    let mut config = one.config.clone();
    config["cni.dev/valid-attachments"] = json!([]);
    node.call_network("bridge", "GC", &config).ok();
    two.check(&pod, &result).ok();
    assert!(pod.netns().pings("10.44.0.1"));
}

#[test]
fn status_is_ready_or_says_why_not() {
    let node = node();
    let network = network(&node, json!({"isGateway": true, "ipMasq": true}));
    let ready = node.call_network("bridge", "STATUS", &network.config);
    assert!(ready.success && ready.stdout.is_empty(), "{}", ready.stdout);
    let mut missing = network.config.clone();
    missing["ipam"]["type"] = json!("no-such-ipam");
    let reply = node.call_network("bridge", "STATUS", &missing);
    assert_eq!(reply.code(), 50);
    assert!(reply.details().contains("no-such-ipam"), "{}", reply.stdout);
    let mut full = Network::copy_of(&network);
    full.config["ipam"]["ranges"] = json!([[{"subnet": "10.22.0.0/30"}]]);
    full.add(&Pod::new("a"));
    assert_eq!(node.call_network("bridge", "STATUS", &full.config).code(), 50);
}

#[test]
fn a_namespace_that_is_none_or_the_nodes_own_is_refused_before_anything_is_touched() {
    let node = node();
    let network = network(&node, json!({"isGateway": true}));
    let own = node.netns.path().display().to_string();
    let path = node.cni_path();
    let call = |command: &str, netns: &str, more: &[(&str, &str)]| {
        let id = [("CNI_COMMAND", command), ("CNI_CONTAINERID", "a"), ("CNI_IFNAME", "eth0")];
        let variables = [&id[..], &[("CNI_NETNS", netns), ("CNI_PATH", &path)], more].concat();
        node.execute("bridge", &variables, network.config.to_string().as_bytes())
    };
    for netns in ["/nonexistent", "/etc/passwd", "/tmp", "/dev/null", "/proc/self/ns/mnt", &own] {
        let refused = call("ADD", netns, &[]);
        assert_eq!(refused.code(), 4, "{netns}: {}", refused.stdout);
        assert!(refused.details().contains("CNI_NETNS"), "{netns}: {}", refused.stdout);
    }
    assert_eq!(node.netns.ip("link show type bridge"), json!([]));
    assert!(!node.file("store").exists());
    let allowed = [("CNI_NETNS_OVERRIDE", "true")];
    call("ADD", &own, &allowed).ok();
    call("DEL", &own, &allowed).ok();
    assert_eq!(veths(&node), 0);
}

#[test]
fn every_version_gets_its_own_words_and_what_it_can_not_say_is_undone() {
    let node = node();
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let mut network = network(&node, json!({"isGateway": true}));
        network.config["cniVersion"] = json!(version);
        let pod = Pod::new("a");
        let result = network.add(&pod);
        assert_eq!(result["cniVersion"], version);
        let single = version < "0.3.0";
        assert_eq!((result.get("ip4").is_some(), result.get("ips").is_some()), (single, !single));
        network.config["prevResult"] = result;
        network.del(&pod);
    }
    let mut without = Network::new(&node, "bridge", json!({}), Value::Null);
    without.config["cniVersion"] = json!("0.2.0");
    let refused = without.call("ADD", &Pod::new("a"));
    assert_eq!(refused.code(), 7, "0.2.0 can't say \"no address\": {}", refused.stdout);
    assert_eq!(veths(&node), 0);
}

#[test]
fn two_hundred_pods_sixteen_at_a_time_have_four_hundred_addresses() {
    let node = node();
    let network = network(&node, json!({"isDefaultGateway": true, "ipMasq": true}));
    let pods: Vec<Pod> = (0..200).map(|n| Pod::new(&format!("pod{n}"))).collect();
    let results = in_parallel(16, &pods, |pod| network.add(pod));
    let ips = results.iter().flat_map(|result| result["ips"].as_array().unwrap());
    let addresses: std::collections::HashSet<_> = ips.map(|ip| ip["address"].to_string()).collect();
    assert_eq!(addresses.len(), 400);
    assert!(pods[0].netns().pings("10.22.0.1") && pods[199].netns().pings("fd00:22::1"));
    in_parallel(16, &pods, |pod| network.del(pod));
    held_nothing(&network);
    assert_eq!(veths(&node), 0);
}

#[test]
fn the_first_pods_of_a_node_may_all_come_at_once() {
    for _ in 0..5 {
        let node = node();
        let network = network(&node, json!({"isDefaultGateway": true, "ipMasq": true, "macspoofchk": true}));
        let pods: Vec<Pod> = (0..8).map(|n| Pod::new(&format!("pod{n}"))).collect();
        in_parallel(8, &pods, |pod| {
            let result = network.add(pod);
            network.check(pod, &result).ok();
        });
        assert_eq!(node.netns.ip("link show type bridge").as_array().unwrap().len(), 1);
        let rules = node.netns.sh("nft list chain inet podwire postrouting; nft list chain bridge podwire spoofcheck");
        assert_eq!((rules.matches("vmap").count(), rules.matches("drop").count()), (2, 1), "{rules}");
    }
}

#[test]
fn a_failing_ipam_is_passed_on_and_nothing_is_left() {
    let node = node();
    let network = Network::new(&node, "bridge", json!({"isGateway": true}), json!([[{"subnet": "10.22.0.0/30"}]]));
    network.add(&Pod::new("a"));
    let full = network.call("ADD", &Pod::new("b"));
    assert_eq!(full.code(), 101, "{}", full.stdout);
    assert!(full.details().contains("host-local"), "{}", full.stdout);
    assert_eq!(veths(&node), 0, "the first Pod went with its namespace, the second was never wired");
    let mut wrong = Network::copy_of(&network);
    wrong.config["ipam"]["ranges"] = json!([[{"subnet": "nonsense"}]]);
    let refused = wrong.call("ADD", &Pod::new("c"));
    assert_eq!(refused.code(), 7, "{}", refused.stdout);
    assert!(refused.details().contains("nonsense"), "{}", refused.stdout);
}

#[test]
fn a_previous_result_is_kept_in_front_of_ours() {
    let node = node();
    let mut network = network(&node, json!({}));
    network.config["prevResult"] = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "lo", "sandbox": "/run/netns/x"}],
        "ips": [{"address": "127.0.0.1/8", "interface": 0}],
    });
    let result = network.add(&Pod::new("a"));
    assert_eq!(result["interfaces"].as_array().unwrap().len(), 4);
    assert_eq!((&result["ips"][0]["address"], &result["ips"][1]["interface"]), (&json!("127.0.0.1/8"), &json!(3)));
}
