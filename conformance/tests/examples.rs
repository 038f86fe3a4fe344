//! The conflists in `examples/conflists`: each loads and wires Pods as it lies there. Only the store's directory is set,
//! so that the machine's own is not touched.

mod common;

use std::path::{Path, PathBuf};
use std::process::Command;

use common::{addresses_of, outside, source_seen};
use conformance::lab::{Netns, Node, bin_dir};
use serde_json::{Value, json};

/// One example on one node.
struct Example {
    node: Node,
    list: Value,
}

impl Example {
    fn new(name: &str) -> Self {
        let node = Node::new("example");
        let mut list: Value = serde_json::from_slice(&std::fs::read(directory().join(name)).unwrap()).unwrap();
        for plugin in list["plugins"].as_array_mut().unwrap() {
            if let Some(ipam) = plugin.get_mut("ipam") {
                ipam["dataDir"] = json!(node.file("networks"));
            }
        }
        std::fs::create_dir(node.file("net.d")).unwrap();
        std::fs::write(node.file("net.d").join(name), list.to_string()).unwrap();
        Example { node, list }
    }

    fn cnitool(&self, verb: &str, pod: &Netns, ifname: &str) -> Value {
        let mut command = Command::new(bin_dir().join("cnitool"));
        command
            .args([verb, self.list["name"].as_str().unwrap()])
            .arg(pod.path())
            .arg("--cache-dir")
            .arg(self.node.file("cache"))
            .env_clear()
            .env("NETCONFPATH", self.node.file("net.d"))
            .env("CNI_PATH", self.node.cni_path())
            .env("CNI_IFNAME", ifname);
        let output = self.node.netns.output(&mut command);
        assert!(output.status.success(), "cnitool {verb}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }
}

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples/conflists")
}

/// Two Pods have the addresses expected, reach each other, and reach the outside with the node's address.
fn wires_pods(name: &str, addresses: [&[&str]; 2]) {
    let example = Example::new(name);
    let outside = outside(&example.node);
    let pods = [Netns::new("pod"), Netns::new("pod")];
    for (pod, expected) in pods.iter().zip(addresses) {
        let result = example.cnitool("add", pod, "eth0");
        assert_eq!(result["cniVersion"], "1.1.0", "the newest of cniVersions is spoken");
        assert_eq!(addresses_of(pod, "eth0"), expected);
        example.cnitool("check", pod, "eth0");
    }
    for (own, other) in addresses[0].iter().zip(addresses[1]) {
        let (own, other) = (own.split('/').next().unwrap(), other.split('/').next().unwrap());
        let (node_address, outside_address) =
            if own.contains(':') { ("2001:db8::1", "2001:db8::2") } else { ("192.0.2.1", "192.0.2.2") };
        assert_eq!(source_seen(&pods[0], &pods[1], other), own);
        assert_eq!(source_seen(&pods[0], &outside, outside_address), node_address);
    }
    for pod in &pods {
        example.cnitool("del", pod, "eth0");
        assert!(pod.try_sh("ip link show dev eth0").is_err(), "eth0 is still there");
    }
}

#[test]
fn the_ipv4_example_wires_pods() {
    wires_pods("10-podwire-ipv4.conflist", [&["10.244.0.2/24"], &["10.244.0.3/24"]]);
}

#[test]
fn the_ipv6_example_wires_pods() {
    wires_pods("10-podwire-ipv6.conflist", [&["fd00:244::2/64"], &["fd00:244::3/64"]]);
}

#[test]
fn the_dual_stack_example_wires_pods() {
    let addresses: [&[&str]; 2] = [&["10.244.0.2/24", "fd00:244::2/64"], &["10.244.0.3/24", "fd00:244::3/64"]];
    wires_pods("10-podwire-dual-stack.conflist", addresses);
}

#[test]
fn the_loopback_example_ups_lo() {
    let example = Example::new("99-loopback.conflist");
    let pod = Netns::new("pod");
    pod.sh("ip link set lo down");
    let result = example.cnitool("add", &pod, "lo");
    assert_eq!(result["ips"][0]["address"], "127.0.0.1/8");
    assert!(pod.pings("127.0.0.1"));
    example.cnitool("check", &pod, "lo");
    example.cnitool("del", &pod, "lo");
    assert!(!pod.pings("127.0.0.1"));
}

#[test]
fn every_example_has_a_test_and_serves_old_and_new_runtimes() {
    let source = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples.rs")).unwrap();
    for entry in std::fs::read_dir(directory()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(source.contains(&format!("\"{name}\"")), "{name} has no test here");
        let list: Value = serde_json::from_slice(&std::fs::read(directory().join(&name)).unwrap()).unwrap();
        assert_eq!(list["cniVersion"], "1.0.0", "{name}");
        assert_eq!(list["cniVersions"].as_array().unwrap().last(), Some(&json!("1.1.0")), "{name}");
    }
}
