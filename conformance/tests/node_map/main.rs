//! The node map in real namespaces: where it is, which node it means, what is refused, and what follows when it changes.

mod competing;
mod following;
mod missing;
mod refused;
mod sources;
mod undone;

use conformance::cluster::{self, Cluster, Families};
use conformance::lab::{Node, Pod, Reply};
use serde_json::{Value, json};

const V4: Families = Families { pods4: true, pods6: false, underlay4: true, underlay6: false };
const DUAL: Families = Families { pods4: true, pods6: true, underlay4: true, underlay6: true };

/// Every plugin that follows a map, first in a chain.
const PLUGINS: [&str; 4] = ["bridge", "routed-veth", "ptp", "vxlan-overlay"];

/// A plugin of the network "pods" on a node, with host-local, and the map where `nodes` says.
fn config(node: &Node, plugin: &str, nodes: impl serde::Serialize) -> Value {
    let mut config = json!({"type": plugin, "ipam": {"type": "host-local"}});
    if plugin == "bridge" {
        config["isDefaultGateway"] = json!(true);
    }
    let mut config = cluster::configurations(node, "/".as_ref(), &[config]).remove(0);
    config["nodes"] = json!(nodes);
    config
}

/// The same with the cluster's map.
fn config_of(cluster: &Cluster, number: usize, plugin: &str) -> Value {
    config(cluster.node(number), plugin, cluster.map())
}

#[track_caller]
fn add(node: &Node, pod: &Pod, config: &Value) -> Value {
    call(node, "ADD", pod, config).ok()
}

fn call(node: &Node, command: &str, pod: &Pod, config: &Value) -> Reply {
    node.call(config["type"].as_str().unwrap(), command, pod, config)
}

/// `--sync` with a list of this plugin; what it prints.
fn sync(node: &Node, config: &Value) -> Result<String, String> {
    let list = json!({"cniVersion": "1.1.0", "name": "pods", "plugins": [config]});
    let file = node.file("pods.conflist");
    std::fs::write(&file, list.to_string()).unwrap();
    let plugin = conformance::lab::bin_dir().join(config["type"].as_str().unwrap());
    node.netns.try_sh(&format!("{} --sync {}", plugin.display(), file.display()))
}

/// GC with these attachments still valid.
fn gc(node: &Node, config: &Value, valid: &[&Pod]) -> Reply {
    let mut config = config.clone();
    let ids = valid.iter().map(|pod| json!({"containerID": pod.container_id, "ifname": pod.ifname}));
    config["cni.dev/valid-attachments"] = ids.collect();
    let plugin = config["type"].as_str().unwrap().to_owned();
    node.call_network(&plugin, "GC", &config)
}
