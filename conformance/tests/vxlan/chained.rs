//! After the plugin that wired the Pod.

use conformance::cluster::{self, Cluster};
use conformance::lab::Pod;
use serde_json::{Value, json};

use crate::{V4, chain};

fn wires() -> [Value; 2] {
    [
        json!({"type": "bridge", "isDefaultGateway": true, "nodeRoutes": false, "ipam": {"type": "host-local"}}),
        json!({"type": "routed-veth", "nodeRoutes": false, "ipam": {"type": "host-local"}}),
    ]
}

fn mtu(netns: &conformance::lab::Netns, interface: &str) -> Value {
    netns.ip(&format!("link show dev {interface}"))[0]["mtu"].clone()
}

#[test]
fn both_ends_get_the_lower_mtu_the_bridge_follows_and_the_first_plugins_check_accepts_it() {
    for wire in wires() {
        let plugin = wire["type"].as_str().unwrap().to_owned();
        let cluster = Cluster::new(V4, 2);
        let node = cluster.node(0);
        let plugins = chain(&cluster, 0, &[wire, json!({"type": "vxlan-overlay"})], json!({}));
        let pod = Pod::new("pod");
        let wired = node.call(&plugin, "ADD", &pod, &plugins[0]).ok();
        let wire_before = pod.netns().sh("ip -o addr; ip route; ip neigh show nud permanent; ip -br link show eth0");
        let mut second = plugins[1].clone();
        second["prevResult"] = wired.clone();
        let result = node.call("vxlan-overlay", "ADD", &pod, &second).ok();
        let wire_after = pod.netns().sh("ip -o addr; ip route; ip neigh show nud permanent; ip -br link show eth0");
        let steady = |text: &str| text.replace(" tentative", "");
        assert_eq!(steady(&wire_after), steady(&wire_before), "{plugin}: the Pod's wire has changed");
        for interface in result["interfaces"].as_array().unwrap() {
            let netns = if interface["sandbox"].as_str().is_some_and(|path| !path.is_empty()) {
                pod.netns()
            } else {
                &node.netns
            };
            assert_eq!(mtu(netns, interface["name"].as_str().unwrap()), 1450, "{plugin}: {interface}");
            assert_eq!(interface["mtu"], 1450, "{plugin}");
        }
        assert_eq!(result["ips"], wired["ips"], "{plugin}");
        // Every plugin's CHECK, with the whole chain's result.
        cluster::run(node, &plugins, "CHECK", &pod, &result);
        // One end alone is noticed.
        let mut names =
            result["interfaces"].as_array().unwrap().iter().filter_map(|interface| interface["name"].as_str());
        let host = names.find(|name| name.starts_with("veth")).unwrap().to_owned();
        node.netns.sh(&format!("ip link set {host} mtu 1500"));
        second["prevResult"] = result.clone();
        let reply = node.call("vxlan-overlay", "CHECK", &pod, &second);
        assert_eq!((reply.code(), reply.details().contains(&host)), (102, true), "{plugin}: {}", reply.stdout);
        node.netns.sh(&format!("ip link set {host} mtu 1450"));
        // A second Pod's wire may be wider for a moment: the bridge is never wider than its narrowest port.
        let next = Pod::new("next");
        node.call(&plugin, "ADD", &next, &plugins[0]).ok();
        if plugin == "bridge" {
            assert_eq!(mtu(&node.netns, "cni0"), 1450, "the bridge is wider than a port");
            node.netns.sh(&format!("ip link set {host} mtu 1400"));
            assert_eq!(mtu(&node.netns, "cni0"), 1400, "the bridge's MTU is pinned");
        }
        cluster::run(node, &plugins, "DEL", &pod, &result);
        cluster::run(node, &plugins, "DEL", &pod, &result);
    }
}

#[test]
fn ip_masq_and_dns_mean_the_same_in_both_places() {
    for wire in wires() {
        for in_overlay in [false, true] {
            let cluster = Cluster::new(V4, 2);
            let node = cluster.node(0);
            let mut plugins = chain(&cluster, 0, &[wire.clone(), json!({"type": "vxlan-overlay"})], json!({}));
            let place = usize::from(in_overlay);
            plugins[place]["ipMasq"] = json!(true);
            plugins[place]["dns"] = json!({"nameservers": ["10.96.0.10"]});
            let pod = Pod::new("pod");
            let result = cluster::add(node, &plugins, &pod);
            let what = format!("{} {in_overlay}", wire["type"]);
            assert_eq!(result["dns"]["nameservers"], json!(["10.96.0.10"]), "{what}");
            let seen =
                |netns, address: &str| pod.netns().seen_by(netns, address.parse().unwrap()).map(|ip| ip.to_string());
            assert_eq!(seen(&cluster.outside, "192.0.2.2"), Ok("10.240.0.4".into()), "{what}: outside");
            assert_eq!(seen(&cluster.node(1).netns, "10.240.0.5"), Ok("10.240.0.4".into()), "{what}: node");
            let peer = Pod::new("peer");
            let at_peer = cluster::add(
                cluster.node(1),
                &chain(&cluster, 1, &[wire.clone(), json!({"type": "vxlan-overlay"})], json!({})),
                &peer,
            );
            let own = cluster::addresses(&result)[0].to_string();
            assert_eq!(seen(peer.netns(), &cluster::addresses(&at_peer)[0].to_string()), Ok(own), "{what}: Pod");
            cluster::run(node, &plugins, "CHECK", &pod, &result);
            cluster::run(node, &plugins, "DEL", &pod, &result);
            assert!(!node.netns.sh("nft list ruleset").contains("10.244.0.2"), "{what}: masquerade is left");
        }
    }
}

#[test]
fn a_result_that_nobody_can_read_is_undone_first_in_a_chain() {
    let cluster = Cluster::new(V4, 2);
    let node = cluster.node(0);
    let pod = Pod::new("pod");
    let config = crate::first(&cluster, 0, json!({"ipMasq": true}));
    let file = node.file("config.json");
    std::fs::write(&file, config.to_string()).unwrap();
    let script = format!(
        "CNI_COMMAND=ADD CNI_CONTAINERID=pod CNI_IFNAME=eth0 CNI_NETNS={} CNI_PATH={} {}/vxlan-overlay < {} > /dev/full",
        pod.netns().path().display(),
        node.cni_path(),
        conformance::lab::bin_dir().display(),
        file.display(),
    );
    let error = node.netns.try_sh(&script).unwrap_err();
    assert!(error.contains("No space left"), "{error}");
    assert!(!node.file("store/pods/10.244.0.2").exists(), "an address is still reserved");
    assert_eq!(node.netns.sh("ip -o link show type veth").lines().count(), 1);
    assert!(pod.netns().try_sh("ip link show eth0").is_err());
    assert!(!node.netns.sh("nft list ruleset").contains("10.244.0.2"));
}

#[test]
fn a_del_of_the_overlay_leaves_the_checks_of_the_wire_as_long_as_the_wire() {
    let cluster = Cluster::new(V4, 2);
    let node = cluster.node(0);
    let checks = json!({"ipMasq": true, "macspoofchk": true, "ipspoofchk": true});
    let mut wire = wires()[0].clone();
    checks.as_object().unwrap().iter().for_each(|(key, value)| wire[key] = value.clone());
    let plugins = chain(&cluster, 0, &[wire, json!({"type": "vxlan-overlay"})], json!({}));
    let pod = Pod::new("pod");
    let result = cluster::add(node, &plugins, &pod);
    let bridge_rules = || node.netns.sh("nft list table bridge podwire | grep -v counter");
    let before = bridge_rules();
    assert!(before.contains("10.244.0.2"), "{before}");
    // The runtime gives DEL to the last plugin first.
    cluster::run(node, &plugins[1..], "DEL", &pod, &result);
    assert_eq!(bridge_rules(), before);
    assert!(!node.netns.sh("nft list table inet podwire").contains("10.244.0.2"), "masquerade is left");
    cluster::run(node, &plugins[..1], "DEL", &pod, &result);
    assert!(!bridge_rules().contains("10.244.0.2"), "{}", bridge_rules());
}
