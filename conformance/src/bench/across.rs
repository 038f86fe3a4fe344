//! Wires between Pods of two nodes: what [`super::wires`] measures on one, across two.
//!
//! The nodes' underlay is one veth pair. Ours follow a map of the two; the reference's are completed by hand with the
//! route to the other node's Pods; and all of it by hand is measured beside them.

use serde_json::{Value, json};

use super::series::Node;
use super::wires::{BRIDGE_BY_HAND, ROUTED_BY_HAND, Wire, measure};
use super::workload::Workload;
use super::{Set, map};
use crate::lab::Netns;

/// A wiring that reaches other nodes.
#[derive(Clone, Debug)]
pub struct Across {
    /// What the report calls it.
    pub name: &'static str,
    /// Our plugin.
    plugin: &'static str,
    /// The reference's, if it has any that can do it with a route by hand.
    counterpart: Option<&'static str>,
    /// The same by hand, as a shell script for one node: `$N` is its number, `$OTHER` the other's, `$POD` its Pod.
    by_hand: fn() -> String,
}

/// All of them.
pub fn all() -> [Across; 3] {
    [
        Across {
            name: "wire across nodes: bridge",
            plugin: "bridge",
            counterpart: Some("bridge"),
            by_hand: || one_pod(BRIDGE_BY_HAND) + ROUTE_BY_HAND,
        },
        Across {
            name: "wire across nodes: routed-veth (ptp)",
            plugin: "routed-veth",
            counterpart: Some("ptp"),
            by_hand: || one_pod(ROUTED_BY_HAND) + ROUTE_BY_HAND,
        },
        Across {
            name: "wire across nodes: vxlan-overlay",
            plugin: "vxlan-overlay",
            counterpart: None,
            by_hand: || one_pod(ROUTED_BY_HAND) + VXLAN_BY_HAND,
        },
    ]
}

/// A script for the two Pods of one node, for the one Pod of node `$N`: its subnet is 10.88.N.0/24.
fn one_pod(script: &str) -> String {
    script.replace("$A $B", "$POD").replace("10.88.0.", "10.88.$N.").replace("/16", "/24")
}

const ROUTE_BY_HAND: &str = "
ip route add 10.88.$OTHER.0/24 via 10.240.0.$((OTHER + 1))";

const VXLAN_BY_HAND: &str = "
ip link add vx0 address 02:00:00:00:88:0$N mtu 1450 type vxlan id 88 dstport 4789 local 10.240.0.$((N + 1)) dev under0 nolearning
ip link set vx0 up && ip addr add 10.88.$N.0/32 dev vx0
ip neigh add 10.88.$OTHER.0 lladdr 02:00:00:00:88:0$OTHER dev vx0 nud permanent
bridge fdb append 02:00:00:00:88:0$OTHER dev vx0 dst 10.240.0.$((OTHER + 1))
ip route add 10.88.$OTHER.0/24 via 10.88.$OTHER.0 dev vx0 onlink
ip link set veth2 mtu 1450 && ip -n $POD link set eth0 mtu 1450";

impl Across {
    /// Measures each way of making it, in turn.
    pub fn run(&self, sets: &[Set; 2], rounds: usize) -> Result<Vec<Wire>, String> {
        let able: Vec<&Set> = sets.iter().filter(|set| self.chain(set, 0).is_some()).collect();
        let mut wires: Vec<_> = able.iter().map(|set| Wire::new(format!("{} by {}", self.name, set.label))).collect();
        wires.push(Wire::new(format!("{} by hand", self.name)));
        for _ in 0..rounds {
            for (set, wire) in able.iter().zip(&mut wires) {
                let (nodes, pods) = ([Node::new(set)?, Node::new(set)?], [Netns::new("pod"), Netns::new("pod")]);
                join(&nodes[0].netns, &nodes[1].netns)?;
                for (number, (node, pod)) in nodes.iter().zip(&pods).enumerate() {
                    self.wire(node, number, pod)?;
                }
                measure(&pods, wire)?;
            }
            let nodes = [Netns::new("hand"), Netns::new("hand")];
            let pods = [Netns::new("pod"), Netns::new("pod")];
            join(&nodes[0], &nodes[1])?;
            for (number, (node, pod)) in nodes.iter().zip(&pods).enumerate() {
                node.try_sh(&format!("N={number} OTHER={} POD={}\n{}", 1 - number, pod.name(), (self.by_hand)()))?;
            }
            measure(&pods, wires.last_mut().expect("pushed above"))?;
        }
        Ok(wires)
    }

    /// What `set` runs on node `number`, if it can.
    fn chain(&self, set: &Set, number: usize) -> Option<Value> {
        let subnet = format!("10.88.{number}.0/24");
        if set.has("vxlan-overlay") {
            return Some(
                json!({"type": self.plugin, "nodes": "", "isDefaultGateway": true, "ipam": {"type": "host-local"}}),
            );
        }
        let counterpart = self.counterpart?;
        let mut ipam = json!({"type": "host-local", "ranges": [[{"subnet": subnet}]]});
        if counterpart != "bridge" {
            // That has no key for a default route.
            ipam["routes"] = json!([{"dst": "0.0.0.0/0"}]);
        }
        Some(json!({"type": counterpart, "isDefaultGateway": true, "ipam": ipam}))
    }

    fn wire(&self, node: &Node, number: usize, pod: &Netns) -> Result<(), String> {
        let chain = self.chain(node.set, number).expect("only sets that can are asked");
        let entry = |number: usize| {
            json!({
                "name": format!("node-{number}"),
                "addresses": [format!("10.240.0.{}", number + 1)],
                "podCIDRs": [format!("10.88.{number}.0/24")],
            })
        };
        map::write(node, vec![entry(0), entry(1)])?;
        let follows = chain.get("nodes").is_some();
        node.wire(&Workload::new(self.name, vec![chain], 1), std::slice::from_ref(pod))?;
        if !follows {
            node.netns.try_sh(&format!("N={number} OTHER={}\n{ROUTE_BY_HAND}", 1 - number))?;
        }
        Ok(())
    }
}

/// The nodes' underlay.
fn join(first: &Netns, second: &Netns) -> Result<(), String> {
    let end = |address: &str| {
        format!(
            "sysctl -qw net.ipv4.ip_forward=1
             ip addr add {address}/16 dev under0 && ip link set under0 up"
        )
    };
    first.try_sh(&format!("ip link add under0 type veth peer name under0 netns {}", second.name()))?;
    first.try_sh(&end("10.240.0.1"))?;
    second.try_sh(&end("10.240.0.2")).map(drop)
}
