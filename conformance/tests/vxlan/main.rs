//! `vxlan-overlay` in real namespaces: its device, what leads to the peers, and what it leaves alone.

mod chained;
mod device;
mod foreign;

use conformance::cluster::{self, Cluster, Families};
use conformance::lab::{Netns, Node, Pod, Reply};
use serde_json::{Value, json};

const V4: Families = Families { pods4: true, pods6: false, underlay4: true, underlay6: false };
const DUAL: Families = Families { pods4: true, pods6: true, underlay4: true, underlay6: true };

/// First in a chain, with these keys, on a node.
fn first(cluster: &Cluster, number: usize, keys: Value) -> Value {
    chain(cluster, number, &[json!({"type": "vxlan-overlay", "ipam": {"type": "host-local"}})], keys).remove(0)
}

/// A chain of which the last plugin has these keys beside its own.
fn chain(cluster: &Cluster, number: usize, plugins: &[Value], keys: Value) -> Vec<Value> {
    let mut chain = cluster::configurations(cluster.node(number), &cluster.map(), plugins);
    let last = chain.last_mut().unwrap().as_object_mut().unwrap();
    last.extend(keys.as_object().unwrap().clone());
    chain
}

fn call(node: &Node, command: &str, pod: &Pod, config: &Value) -> Reply {
    node.call(config["type"].as_str().unwrap(), command, pod, config)
}

#[track_caller]
fn add(node: &Node, pod: &Pod, config: &Value) -> Value {
    call(node, "ADD", pod, config).ok()
}

/// `--sync` with one plugin's configuration.
fn sync(node: &Node, config: &Value) -> Result<String, String> {
    let list = json!({"cniVersion": "1.1.0", "name": config["name"], "plugins": [config]});
    let file = node.file("pods.conflist");
    std::fs::write(&file, list.to_string()).unwrap();
    let plugin = conformance::lab::bin_dir().join("vxlan-overlay");
    node.netns.try_sh(&format!("{} --sync {}", plugin.display(), file.display()))
}

/// What `ip -d link` says of a device.
#[track_caller]
fn details(netns: &Netns, device: &str) -> Value {
    netns.ip(&format!("-d link show dev {device}")).as_array().unwrap()[0].clone()
}

fn mac(netns: &Netns, device: &str) -> String {
    details(netns, device)["address"].as_str().unwrap().to_owned()
}

fn lines(netns: &Netns, script: &str) -> Vec<String> {
    netns.sh(script).lines().map(|line| line.trim().to_owned()).collect()
}
