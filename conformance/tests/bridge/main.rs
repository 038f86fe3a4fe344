//! `bridge` in real namespaces: what the kernel has afterwards, where packets go, and what is left.

#[path = "../common/mod.rs"]
mod common;
mod gateway;
mod ipv6_off;
mod keys;
mod masquerade;
mod verbs;
mod vlans;
mod wires;

use common::Network;
use conformance::lab::Node;
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
