//! One network of Pods on a [`Cluster`]: every way of wiring a Pod, times every way of reaching the other nodes.
//!
//! Three nodes; two Pods on node 0, one on each of the others. Node N has 10.244.N.0/24 and fd00:244:0:N::/64, so that its
//! first Pod has 10.244.N.2.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::cluster::{self, Cluster, Families};
use crate::lab::{Netns, Pod, bin_dir};

/// How a Pod is wired to its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    /// `bridge`.
    Bridge,
    /// `routed-veth`.
    Routed,
}

/// How Pods of other nodes are reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Routes on the nodes.
    NodeRoutes,
    /// The gateway's route table.
    Gateway,
    /// VXLAN.
    Vxlan,
    /// VXLAN with `directRouting`.
    Direct,
}

impl Reach {
    /// Is `vxlan-overlay` in the chain?
    pub fn is_overlay(self) -> bool {
        matches!(self, Reach::Vxlan | Reach::Direct)
    }
}

/// IPv4 alone.
pub const V4: Families = Families { pods4: true, pods6: false, underlay4: true, underlay6: false };
/// IPv6 alone.
pub const V6: Families = Families { pods4: false, pods6: true, underlay4: false, underlay6: true };
/// Both.
pub const DUAL: Families = Families { pods4: true, pods6: true, underlay4: true, underlay6: true };
/// Pods of IPv6 over an underlay of IPv4.
pub const V6_OVER_V4: Families = Families { pods4: false, pods6: true, underlay4: true, underlay6: false };

/// The configuration that lies on every node; `keys` are added to the plugin that wires the Pod.
fn plugins(wire: Wire, reach: Reach, keys: &Value) -> Vec<Value> {
    let mut first = match wire {
        Wire::Bridge => json!({"type": "bridge", "isDefaultGateway": true, "hairpinMode": true}),
        Wire::Routed => json!({"type": "routed-veth"}),
    };
    first["ipam"] = json!({"type": "host-local"});
    for (key, value) in keys.as_object().into_iter().flatten() {
        first[key] = value.clone();
    }
    if !reach.is_overlay() {
        first["nodeRoutes"] = json!(reach == Reach::NodeRoutes);
        first["ipMasq"] = json!(true);
        first["mtu"] = json!(1400);
        return vec![first];
    }
    first["nodeRoutes"] = json!(false);
    vec![first, json!({"type": "vxlan-overlay", "ipMasq": true, "directRouting": reach == Reach::Direct})]
}

/// A Pod that was added.
#[derive(Debug)]
pub struct Running {
    /// The number of its node.
    pub node: usize,
    /// Its attachment.
    pub pod: Pod,
    /// What ADD answered.
    pub result: Value,
}

impl Running {
    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        self.pod.netns()
    }

    /// Its address of that family, if it has one.
    pub fn address(&self, ipv4: bool) -> Option<IpAddr> {
        cluster::addresses(&self.result).into_iter().find(|address| address.is_ipv4() == ipv4)
    }
}

/// A network on three nodes.
#[derive(Debug)]
pub struct Network {
    /// Nodes, router, outside host.
    pub cluster: Cluster,
    /// How its Pods are wired.
    pub wire: Wire,
    /// How other nodes are reached.
    pub reach: Reach,
    /// Its Pods.
    pub pods: Vec<Running>,
    /// All that in words, for messages.
    pub name: String,
    keys: Value,
}

impl Network {
    /// Three nodes and four Pods.
    pub fn new(wire: Wire, reach: Reach, families: Families) -> Self {
        Network::with_keys(wire, reach, families, Value::Null)
    }

    /// The same with more keys for the plugin that wires the Pods.
    pub fn with_keys(wire: Wire, reach: Reach, families: Families, keys: Value) -> Self {
        let cluster = Cluster::new(families, 3);
        let name = format!("{wire:?} × {reach:?} × {families}");
        let mut network = Network { cluster, wire, reach, pods: Vec::new(), name, keys };
        if reach == Reach::Gateway {
            (0..3).for_each(|number| network.tell_router(number));
        }
        for node in [0, 0, 1, 2] {
            network.start(node);
        }
        network
    }

    /// Writes a node's Pod CIDRs into the gateway's route table.
    pub fn tell_router(&self, number: usize) {
        for cidr in self.cluster.pod_cidrs(number) {
            let is_v6 = cidr.contains(':');
            let via = self.cluster.addresses(number).into_iter().find(|address| address.is_ipv6() == is_v6);
            self.cluster.router.sh(&format!("ip route replace {cidr} via {}", via.expect("an address")));
        }
    }

    /// The chain of plugins, as it is on that node.
    pub fn chain(&self, node: usize) -> Vec<Value> {
        let plugins = plugins(self.wire, self.reach, &self.keys);
        cluster::configurations(self.cluster.node(node), &self.cluster.map(), &plugins)
    }

    /// Adds a Pod on that node.
    #[track_caller]
    pub fn start(&mut self, node: usize) {
        let pod = Pod::new(&format!("pod-{}", self.pods.len()));
        let result = cluster::add(self.cluster.node(node), &self.chain(node), &pod);
        self.pods.push(Running { node, pod, result });
    }

    /// The families that Pods have: is it IPv4?
    pub fn families(&self) -> Vec<bool> {
        let families = self.cluster.families;
        [(families.pods4, true), (families.pods6, false)].into_iter().filter(|it| it.0).map(|it| it.1).collect()
    }

    /// Is that node switched on?
    pub fn is_on(&self, node: usize) -> bool {
        self.cluster.nodes[node].is_some()
    }

    /// The Pods whose nodes are on.
    pub fn living(&self) -> Vec<&Running> {
        self.pods.iter().filter(|pod| self.is_on(pod.node)).collect()
    }

    /// A node's addresses of the families that Pods have.
    pub fn node_addresses(&self, node: usize) -> Vec<IpAddr> {
        let families = self.families();
        self.cluster.addresses(node).into_iter().filter(|address| families.contains(&address.is_ipv4())).collect()
    }

    /// `--sync` on every node that is on.
    #[track_caller]
    pub fn sync(&self) {
        for number in (0..3).filter(|number| self.is_on(*number)) {
            self.sync_node(number);
        }
    }

    /// `--sync` on one node, as `examples/systemd` runs it when the map changes: the unit's line, with this node's files in it,
    /// and with no more privileges than the unit leaves.
    #[track_caller]
    pub fn sync_node(&self, number: usize) {
        let chain = self.chain(number);
        let plugin = chain.last().and_then(|plugin| plugin["type"].as_str()).expect("type").to_owned();
        let node = self.cluster.node(number);
        let list = json!({"cniVersion": "1.1.0", "name": "pods", "plugins": chain});
        let file = node.file("pods.conflist");
        std::fs::write(&file, list.to_string()).expect("write a conflist");
        let line = unit_line("ExecStart")
            .replace("/opt/cni/bin/vxlan-overlay", &bin_dir().join(plugin).display().to_string())
            .replace("/etc/cni/net.d/10-podwire.conflist", &file.display().to_string());
        assert!(!line.contains("/opt/") && !line.contains("/etc/"), "{line}");
        let capability = unit_line("CapabilityBoundingSet").replace("CAP_", "+").to_lowercase();
        node.netns.sh(&format!("setpriv --bounding-set=-all,{capability} --inh-caps=-all --no-new-privs {line}"));
    }
}

/// What a line of the service that follows a node map sets a key to.
fn unit_line(key: &str) -> String {
    let unit =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/systemd/podwire-sync.service"));
    let unit = unit.expect("read the unit");
    let line = unit.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("podwire-sync.service does not set {key}")).to_owned()
}
