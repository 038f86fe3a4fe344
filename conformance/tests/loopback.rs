//! `loopback` in real namespaces.

use conformance::lab::{Node, Pod};
use serde_json::{Value, json};

fn config() -> Value {
    json!({"cniVersion": "1.1.0", "name": "lo", "type": "loopback"})
}

/// A Pod whose `lo` is down, as the kernel makes it.
fn pod() -> Pod {
    let pod = Pod { ifname: "lo".into(), ..Pod::new("a") };
    pod.netns().sh("ip link set lo down");
    pod
}

#[test]
fn add_ups_lo_and_reports_its_addresses() {
    let (node, pod) = (Node::new("node"), pod());
    let result = node.call("loopback", "ADD", &pod, &config()).ok();
    let sandbox = pod.netns().path().display().to_string();
    assert_eq!(
        result["interfaces"],
        json!([{"name": "lo", "mac": "00:00:00:00:00:00", "mtu": 65536, "sandbox": sandbox}])
    );
    assert_eq!(
        result["ips"],
        json!([{"address": "127.0.0.1/8", "interface": 0}, {"address": "::1/128", "interface": 0}])
    );
    assert!(pod.netns().pings("127.0.0.1") && pod.netns().pings("::1"));
}

#[test]
fn a_previous_result_is_passed_through() {
    let (node, pod) = (Node::new("node"), pod());
    let mut config = config();
    let previous = json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}], "dns": {}});
    config["prevResult"] = previous.clone();
    assert_eq!(node.call("loopback", "ADD", &pod, &config).ok(), previous);
    assert!(pod.netns().pings("127.0.0.1"));
}

#[test]
fn check_sees_whether_lo_is_up_and_has_its_address() {
    let (node, pod) = (Node::new("node"), pod());
    let mut config = config();
    config["prevResult"] = node.call("loopback", "ADD", &pod, &config).ok();
    node.call("loopback", "CHECK", &pod, &config).ok();
    pod.netns().sh("ip addr flush dev lo");
    assert_eq!(node.call("loopback", "CHECK", &pod, &config).code(), 102);
    pod.netns().sh("ip link set lo down");
    let down = node.call("loopback", "CHECK", &pod, &config);
    assert_eq!(down.code(), 102);
    assert!(down.details().contains("\"lo\""), "{}", down.stdout);
}

#[test]
fn del_downs_lo_and_needs_no_namespace() {
    let (node, mut pod) = (Node::new("node"), pod());
    node.call("loopback", "ADD", &pod, &config()).ok();
    for _ in 0..2 {
        node.call("loopback", "DEL", &pod, &config()).ok();
        assert_eq!(pod.netns().ip("link show dev lo")[0]["operstate"], "DOWN");
    }
    pod.netns = None;
    node.call("loopback", "DEL", &pod, &config()).ok();
}

#[test]
fn del_never_touches_the_nodes_own_lo() {
    let node = Node::new("node");
    let own = node.netns.path().display().to_string();
    let variables =
        [("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "a"), ("CNI_IFNAME", "lo"), ("CNI_NETNS", own.as_str())];
    node.execute("loopback", &variables, config().to_string().as_bytes()).ok();
    assert!(node.netns.pings("127.0.0.1"));
}

#[test]
fn gc_and_status_answer() {
    let node = Node::new("node");
    let mut config = config();
    node.call_network("loopback", "STATUS", &config).ok();
    config["cni.dev/valid-attachments"] = json!([]);
    node.call_network("loopback", "GC", &config).ok();
}
