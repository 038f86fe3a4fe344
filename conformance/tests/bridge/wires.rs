//! What the kernel has after ADD, and where packets go.

use conformance::lab::{Pod, REFERENCE_DIR};
use serde_json::{Value, json};

use crate::common::{Network, addresses_of, held_nothing, in_parallel, mac_of, outside, source_seen};
use crate::{network, node, veths};

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
fn ipv6_is_ready_at_once_and_takes_no_advertisements() {
    let node = node();
    let pod = Pod::new("a");
    pod.netns().sh("echo 1 >/proc/sys/net/ipv6/conf/default/disable_ipv6");
    network(&node, json!({"isGateway": true})).add(&pod);
    let own = pod.netns().sh("ip -6 -o addr show dev eth0 scope global");
    assert!(own.contains("fd00:22::2/64") && !own.contains("tentative"), "{own}");
    // The link-local address is the kernel's own doing, done by a worker of its own in its own time.
    let mut link_local = String::new();
    for _ in 0..50 {
        link_local = pod.netns().sh("ip -6 -o addr show dev eth0 scope link");
        if !link_local.contains("tentative") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    assert!(link_local.contains("fe80::") && !link_local.contains("tentative"), "{link_local}");
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

#[test]
fn without_ipam_the_pods_settings_are_the_kernels() {
    let node = node();
    let network = Network::new(&node, "bridge", json!({}), Value::Null);
    let pod = Pod::new("pod");
    network.add(&pod);
    // A router of the LAN may give the Pod its addresses, and duplicates of those are looked for.
    for key in ["net.ipv6.conf.eth0.accept_ra", "net.ipv6.conf.eth0.accept_dad", "net.ipv4.conf.eth0.arp_notify"] {
        let default = pod.netns().sh(&format!("sysctl -n {}", key.replace("eth0", "default")));
        assert_eq!(pod.netns().sh(&format!("sysctl -n {key}")), default, "{key}");
    }
}

#[test]
fn a_bridge_that_has_no_port_left_is_named() {
    let node = node();
    let ports: String = (0..1023).map(|n| format!("link add p{n} master cni0 type veth peer name q{n}\n")).collect();
    let batch = node.file("ports");
    std::fs::write(&batch, ports).unwrap();
    node.netns.sh(&format!("ip link add cni0 type bridge; ip -batch {}", batch.display()));
    let network = network(&node, json!({}));
    let reply = network.call("ADD", &Pod::new("pod"));
    assert_eq!(reply.code(), 11, "{}", reply.stdout);
    assert!(reply.details().contains("\"cni0\" has 1023 ports"), "{}", reply.stdout);
    held_nothing(&network);
}
