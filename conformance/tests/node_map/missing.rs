//! What is missing beside single objects: the underlay's link, the overlay's device, forwarding, a Pod's end on the node. STATUS
//! says it, `--sync --dry-run` lists it, `--sync` mends what is podwire's.

use conformance::cluster::{self, Cluster};
use conformance::lab::{Node, Pod, Reply};
use serde_json::{Value, json};

use crate::{DUAL, PLUGINS, V4, add, call, config_of, sync};

fn check(node: &Node, pod: &Pod, config: &Value, result: &Value) -> Reply {
    let mut config = config.clone();
    config["prevResult"] = result.clone();
    call(node, "CHECK", pod, &config)
}

fn status(node: &Node, config: &Value) -> Reply {
    node.call_network(config["type"].as_str().unwrap(), "STATUS", config)
}

/// `PLUGIN --sync ARGUMENTS`, the list's file in place of `FILE`.
fn operate(node: &Node, config: &Value, arguments: &str) -> Result<String, String> {
    let list = json!({"cniVersion": "1.1.0", "name": config["name"], "plugins": [config]});
    let file = node.file("list.conflist");
    std::fs::write(&file, list.to_string()).unwrap();
    let plugin = conformance::lab::bin_dir().join(config["type"].as_str().unwrap());
    let arguments = arguments.replace("FILE", &file.display().to_string());
    node.netns.try_sh(&format!("{} --sync {arguments}", plugin.display()))
}

/// The dry run says `words` and changes nothing, whatever the order of its arguments.
#[track_caller]
fn would_correct(node: &Node, config: &Value, words: &str) {
    let before = node.netns.state();
    for arguments in ["FILE --dry-run", "--dry-run FILE"] {
        let said = operate(node, config, arguments).unwrap();
        assert!(said.contains("this would be corrected") && said.contains(words), "{words}: {said}");
    }
    assert!(node.netns.state() == before, "{words}: a dry run changed something");
}

fn with_default_routes(mut config: Value) -> Value {
    config["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    config
}

#[test]
fn an_underlay_that_is_down_is_named() {
    for plugin in PLUGINS {
        let cluster = Cluster::new(V4, 2);
        let (node, config, pod) = (cluster.node(0), config_of(&cluster, 0, plugin), Pod::new("pod"));
        let result = add(node, &pod, &config);
        node.netns.sh("ip link set eth0 down");
        let command = "`ip link set eth0 up`";
        let status = status(node, &config);
        assert!(status.code() == 51 && status.details().contains(command), "{plugin}: {}", status.stdout);
        let said = sync(node, &config).unwrap_err();
        assert!(said.contains(command), "{plugin}: {said}");
        let fault = check(node, &pod, &config, &result);
        assert!(fault.code() == 102 && fault.details().contains(command), "{plugin}: {}", fault.stdout);
        node.netns.sh("ip link set eth0 up");
        sync(node, &config).unwrap();
        check(node, &pod, &config, &result).ok();
    }
}

#[test]
fn an_overlays_device_that_is_gone_is_named_and_made_again() {
    let cluster = Cluster::new(DUAL, 2);
    let (node, config, pod) = (cluster.node(0), config_of(&cluster, 0, "vxlan-overlay"), Pod::new("pod"));
    assert_eq!(status(node, &config).stderr, "", "before the first Pod nothing is missing");
    let result = add(node, &pod, &config);
    node.netns.sh("ip link del vxlan.1");
    let status = status(node, &config);
    assert!(
        status.success && status.stderr.contains("device \"vxlan.1\" of the overlay is missing"),
        "{}",
        status.stderr
    );
    would_correct(node, &config, "interface \"vxlan.1\" on the node is missing");
    let said = sync(node, &config).unwrap();
    // The device, and for the other node two routes, two neighbors and an FDB entry.
    assert!(said.contains(": 6 set, 0 removed"), "{said}");
    check(node, &pod, &config, &result).ok();
    assert!(operate(node, &config, "FILE --dry-run").unwrap().contains("nothing would change"));
}

#[test]
fn forwarding_that_was_switched_off_is_named_and_switched_on() {
    for plugin in PLUGINS {
        for has_map in [true, false] {
            let cluster = Cluster::new(DUAL, 2);
            let (node, mut config, pod) = (cluster.node(0), config_of(&cluster, 0, plugin), Pod::new("pod"));
            if !has_map && plugin == "vxlan-overlay" {
                continue;
            }
            if !has_map {
                config.as_object_mut().unwrap().remove("nodes");
                config["ipam"]["ranges"] = json!([[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]]);
            }
            assert_eq!(status(node, &config).stderr, "", "{plugin}: before the first Pod nothing is missing");
            add(node, &pod, &config);
            for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
                let what = format!("{plugin}, {key}, map: {has_map}");
                node.netns.sh(&format!("sysctl -qw {key}=0"));
                let status = status(node, &config);
                assert!(status.success && status.stderr.contains(&format!("{key} is 0")), "{what}: {}", status.stderr);
                would_correct(node, &config, &format!("/proc/sys/{} is 0", key.replace('.', "/")));
                let said = sync(node, &config).unwrap();
                assert!(said.contains(": 1 set, 0 removed"), "{what}: {said}");
                assert_eq!(node.netns.sh(&format!("sysctl -n {key}")).trim(), "1", "{what}");
                let said = sync(node, &config).unwrap();
                assert!(said.contains(": 0 set, 0 removed"), "{what}: {said}");
            }
        }
    }
}

#[test]
fn a_routed_pods_end_that_went_down_is_mended() {
    for plugin in ["routed-veth", "ptp", "vxlan-overlay"] {
        let cluster = Cluster::new(DUAL, 2);
        let (node, pod) = (cluster.node(0), Pod::new("pod"));
        let config = with_default_routes(config_of(&cluster, 0, plugin));
        let result = add(node, &pod, &config);
        let end = result["interfaces"][0]["name"].as_str().unwrap();
        let addresses = cluster::addresses(&result);
        let reaches_all = || addresses.iter().all(|ip| (0..3).any(|_| node.netns.pings(&ip.to_string())));
        let gateways: Vec<&str> =
            result["ips"].as_array().unwrap().iter().filter_map(|ip| ip["gateway"].as_str()).collect();
        let pings_gateways = || plugin != "ptp" || gateways.iter().all(|ip| (0..3).any(|_| pod.netns().pings(ip)));
        assert!(reaches_all() && pings_gateways(), "{plugin}");
        for (script, words) in [
            (format!("ip link set {end} down; ip link set {end} up"), "routes of 1 Pod"),
            (format!("ip link set {end} down"), "host ends of 1 Pod"),
        ] {
            node.netns.sh(&script);
            assert!(!node.netns.pings(&addresses[0].to_string()), "{plugin}: {script}");
            let fault = check(node, &pod, &config, &result);
            let details = fault.details();
            assert!(
                fault.code() == 102 && details.contains("--sync or the next GC restores it"),
                "{plugin}: {details}"
            );
            would_correct(node, &config, words);
            let said = sync(node, &config).unwrap();
            assert!(said.contains(&format!("restored {words}")), "{plugin}: {said}");
            assert!(reaches_all() && pings_gateways(), "{plugin}: {script}");
        }
    }
}

#[test]
fn a_fault_says_what_brings_its_object_back() {
    for plugin in PLUGINS {
        let cluster = Cluster::new(V4, 2);
        let (node, config, pod) = (cluster.node(0), config_of(&cluster, 0, plugin), Pod::new("pod"));
        let result = add(node, &pod, &config);
        let address = result["ips"][0]["address"].as_str().unwrap();
        pod.netns().sh(&format!("ip addr del {address} dev eth0"));
        node.netns.sh("sysctl -qw net.ipv4.ip_forward=0; ip route flush proto 112 via 10.240.0.5 2>/dev/null || true");
        let fault = check(node, &pod, &config, &result);
        let details = fault.details();
        assert_eq!(fault.code(), 102, "{plugin}: {}", fault.stdout);
        for part in details.split("; ") {
            let is_told = ["DEL and ADD the Pod", "--sync or the next GC", "the next ADD", "`"]
                .iter()
                .any(|it| part.contains(it));
            assert!(is_told, "{plugin}: {part:?} in {details}");
        }
        assert!(details.contains(": DEL and ADD the Pod"), "{plugin}: {details}");
        assert!(details.contains("/proc/sys/net/ipv4/ip_forward is 0, not 1: the next ADD"), "{plugin}: {details}");
    }
}

#[test]
fn help_is_printed_wherever_it_is_asked_for_and_more_files_are_refused() {
    let node = Node::new("help");
    for plugin in PLUGINS {
        let config = json!({"type": plugin, "name": "n"});
        for arguments in ["FILE --help", "--help", "--help FILE", "FILE -h"] {
            let said = operate(&node, &config, arguments).unwrap();
            assert!(said.contains("--sync FILE.conflist [--dry-run]") && said.contains("\nConfiguration"), "{said}");
        }
        let refused = operate(&node, &config, "FILE FILE").unwrap_err();
        assert!(refused.contains("too many arguments"), "{refused}");
    }
}
