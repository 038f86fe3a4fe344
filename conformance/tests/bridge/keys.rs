//! The keys of the configuration: each does what it says, or is refused.

use conformance::lab::Pod;
use serde_json::{Value, json};

use crate::common::{Network, addresses_of, held_nothing, mac_of};
use crate::{network, node};

#[test]
fn a_subnet_that_would_cut_the_node_off_is_refused() {
    let node = node();
    node.netns.sh("ip link add up0 type veth peer name world0; ip link set world0 up; ip link set up0 up
        ip addr add 172.30.0.1/24 dev up0; ip route add default via 172.30.0.254
        ip route add 172.31.0.0/24 via 172.30.0.100 dev up0 onlink");
    let of = |subnet: &str| {
        let mut network = network(&node, json!({"isGateway": true}));
        network.config["ipam"]["ranges"] = json!([[{"subnet": subnet}]]);
        network
    };
    for (subnet, in_the_way) in [
        ("172.30.0.0/16", "172.30.0.1/24"),
        ("172.30.0.0/24", "172.30.0.1/24"),
        ("172.30.0.0/26", "172.30.0.1/24"),
        ("172.30.0.128/25", "172.30.0.254"),
    ] {
        let network = of(subnet);
        let refused = network.call("ADD", &Pod::new("a"));
        assert_eq!((refused.code(), refused.details().contains(in_the_way)), (104, true), "{}", refused.stdout);
        held_nothing(&network);
    }
    // A part of the link's subnet that nothing of the node's is in may be the Pods'.
    of("172.30.0.64/26").add(&Pod::new("a"));
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
        (json!({"ipMasqBackend": "magic"}), "ipMasqBackend", "magic"),
        (json!({"vlan": 4095}), "vlan", "4095"),
        (json!({"vlan": 70000}), "vlan", "70000"),
        (json!({"vlanTrunk": [{"id": 6}, {}]}), "vlanTrunk[1]", "missing"),
        (json!({"vlanTrunk": [{"minID": 9, "id": 6}]}), "vlanTrunk[0]", "only together"),
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
fn a_gateway_that_the_node_cannot_be_is_refused() {
    let node = node();
    let mut network = network(&node, json!({"isGateway": true}));
    network.config["ipam"]["ranges"] = json!([[{"subnet": "10.61.3.0/29", "gateway": "10.62.0.1"}]]);
    let refused = network.call("ADD", &Pod::new("a"));
    assert_eq!(refused.code(), 7, "{}", refused.stdout);
    assert!(
        refused.details().contains("ipam.gateway") && refused.details().contains("10.62.0.1"),
        "{}",
        refused.stdout
    );
    held_nothing(&network);
}

#[test]
fn an_mtu_too_small_for_ipv6_is_refused_and_takes_it_from_nobody() {
    let node = node();
    let network = network(&node, json!({"isGateway": true}));
    let first = Pod::new("a");
    network.add(&first);
    let mut small = Network::copy_of(&network);
    small.config["mtu"] = json!(1000);
    let refused = small.call("ADD", &Pod::new("b"));
    assert_eq!((refused.code(), refused.details().contains("1280")), (7, true), "{}", refused.stdout);
    small.config["ipam"]["ranges"] = json!([[{"subnet": "10.22.0.0/16"}]]);
    let refused = small.call("ADD", &Pod::new("b"));
    assert_eq!((refused.code(), refused.details().contains("fd00:22::1")), (7, true), "{}", refused.stdout);
    assert!(first.netns().pings("fd00:22::1"));
    assert_eq!(network.held().len(), 2);
}

#[test]
fn a_misspelt_key_is_told_with_the_one_that_was_meant() {
    let node = node();
    let mut network = network(&node, json!({"isGatway": true, "ipMasquerade": true, "mine": {"a": 1}, "ipm": {}}));
    network.config["ipam"]["subent"] = json!("10.0.0.0/8");
    network.config["ipam"]["ranges"][0][0]["rangestart_"] = json!("10.22.0.9");
    let reply = network.call("ADD", &Pod::new("a"));
    for (key, meant) in [
        ("isGatway", "isGateway"),
        ("ipMasquerade", "ipMasq"),
        ("ipm", "ipam"),
        ("ipam.subent", "ipam.subnet"),
        ("ipam.ranges[0][0].rangestart_", "ipam.ranges[0][0].rangeStart"),
    ] {
        assert!(reply.stderr.contains(&format!("{key:?} is not known: did you mean {meant:?}?")), "{}", reply.stderr);
    }
    assert!(!reply.stderr.contains("mine"), "{}", reply.stderr);
    reply.ok();
}

#[test]
fn keys_are_taken_in_any_case_as_gos_decoder_takes_them() {
    let node = node();
    let mut network = network(&node, json!({}));
    let name = network.config["name"].take();
    network.config = json!({
        "cniVersion": "1.1.0", "name": name, "type": "bridge",
        "isgateway": true, "MTU": 1400, "RuntimeConfig": {"Mac": "0a:58:00:00:00:09"},
        "IPAM": {
            "Type": "host-local", "dataDIR": node.file("store"),
            "Ranges": [[{"Subnet": "10.22.0.0/24", "RANGESTART": "10.22.0.77"}]],
        },
    });
    let pod = Pod::new("a");
    let reply = network.call("ADD", &pod);
    for (written, proper) in [
        ("isgateway", "isGateway"),
        ("RuntimeConfig", "runtimeConfig"),
        ("ipam.dataDIR", "dataDir"),
        ("ipam.ranges[0][0].RANGESTART", "rangeStart"),
    ] {
        let words = format!("key {written:?} is read as {proper:?}, which is the proper spelling");
        assert_eq!(reply.stderr.matches(&words).count(), 1, "{words}: {}", reply.stderr);
    }
    let result = reply.ok();
    assert_eq!(result["ips"][0]["address"], "10.22.0.77/24", "{result}");
    assert_eq!(result["ips"][0]["gateway"], "10.22.0.1", "{result}");
    let pod_end = &pod.netns().ip("link show dev eth0")[0];
    assert_eq!((&pod_end["mtu"], &pod_end["address"]), (&json!(1400), &json!("0a:58:00:00:00:09")));
    assert_eq!(addresses_of(&node.netns, "cni0")[0], "10.22.0.1/24");
    assert_eq!(network.held(), ["10.22.0.77"]);
    // DEL asks the same IPAM plugin, and that one looks in the same directory.
    network.del(&pod);
    held_nothing(&network);
}
