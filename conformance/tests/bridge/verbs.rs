//! The verbs, in good order and in bad: what they say, and what they leave.

use conformance::lab::Pod;
use serde_json::{Value, json};

use crate::common::{Network, held_nothing, in_parallel};
use crate::{network, node, veths};

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
fn gc_of_more_pods_than_go_in_one_step_leaves_the_valid_one_and_what_is_not_its_own() {
    let node = node();
    let network = network(&node, json!({"isGateway": true, "ipMasq": true}));
    node.netns.sh("ip link add somebodys type bridge; ip link set somebodys group 7");
    let keep = Pod::new("keep");
    let result = network.add(&keep);
    let stale: Vec<_> = (0..101).map(|number| Pod::new(&format!("stale-{number}"))).collect();
    in_parallel(8, &stale, |pod| network.add(pod));
    assert_eq!(veths(&node), 102);
    let mut config = network.config.clone();
    config["cni.dev/valid-attachments"] = json!([{"containerID": "keep", "ifname": "eth0"}]);
    node.call_network("bridge", "GC", &config).ok();
    assert_eq!(veths(&node), 1);
    assert_eq!(network.held(), ["10.22.0.2", "fd00:22::2"]);
    assert_eq!(node.netns.sh("nft list map inet podwire pods4").matches("goto").count(), 1);
    node.netns.sh("ip link show somebodys");
    network.check(&keep, &result).ok();
    assert!(keep.netns().pings("10.22.0.1"));
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
fn a_failing_ipam_is_passed_on_and_nothing_is_left() {
    let node = node();
    let network = Network::new(&node, "bridge", json!({"isGateway": true}), json!([[{"subnet": "10.22.0.0/30"}]]));
    let first = Pod::new("a");
    network.add(&first);
    let full = network.call("ADD", &Pod::new("b"));
    assert_eq!(full.code(), 101, "{}", full.stdout);
    assert!(full.details().contains("host-local"), "{}", full.stdout);
    assert_eq!(veths(&node), 1, "the first Pod is wired, the second never was");
    let mut wrong = Network::copy_of(&network);
    wrong.config["ipam"]["ranges"] = json!([[{"subnet": "nonsense"}]]);
    let refused = wrong.call("ADD", &Pod::new("c"));
    assert_eq!(refused.code(), 7, "{}", refused.stdout);
    assert!(refused.details().contains("nonsense"), "{}", refused.stdout);
}

#[test]
fn an_add_whose_result_nobody_can_have_is_undone() {
    let node = node();
    let network = network(&node, json!({"isGateway": true, "ipMasq": true}));
    let pod = Pod::new("a");
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("bridge.conf");
    std::fs::write(&config, network.config.to_string()).unwrap();
    let path = node.cni_path();
    let onto_a_full_disk = format!(
        "CNI_COMMAND=ADD CNI_CONTAINERID=a CNI_IFNAME=eth0 CNI_NETNS={} CNI_PATH={path} {path}/bridge < {} > /dev/full",
        pod.netns().path().display(),
        config.display()
    );
    node.netns.try_sh(&onto_a_full_disk).expect_err("an ADD failed whose result was lost");
    held_nothing(&network);
    assert_eq!(veths(&node), 0);
}
