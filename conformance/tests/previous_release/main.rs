//! A node changes to this release, or back, while its Pods live.
//!
//! Pods that the previous release made pass this release's CHECK, are restored after nftables was flushed, and are
//! removed and collected; Pods that this release made are removed by the previous one. For every way of wiring a Pod. How
//! the previous release's binaries are had is told in `binaries.rs`.

mod binaries;
#[path = "../common/mod.rs"]
mod common;

use std::collections::BTreeSet;
use std::path::Path;

use conformance::cluster::{self, Cluster, Families, addresses};
use conformance::crash::look;
use conformance::lab::{Node, Pod, bin_dir};
use conformance::network::{DUAL, V4, V6};
use serde_json::{Value, json};

/// A way of wiring a Pod.
struct Wiring {
    name: &'static str,
    families: Families,
    plugins: Vec<Value>,
}

impl Wiring {
    /// `nodes` in a plugin's keys stands for the node map's path; `ipam` is completed for those that have the key.
    fn new(name: &'static str, families: Families, plugins: Value) -> Self {
        Wiring { name, families, plugins: plugins.as_array().unwrap().clone() }
    }

    fn all() -> Vec<Self> {
        let ipam = json!({});
        let overlay = json!({"type": "vxlan-overlay", "ipMasq": true, "nodes": true});
        vec![
            Wiring::new("bridge", DUAL, json!([{"type": "bridge", "ipam": ipam}])),
            Wiring::new(
                "bridge, masquerade",
                DUAL,
                json!([{"type": "bridge", "isGateway": true, "ipMasq": true, "ipam": ipam}]),
            ),
            Wiring::new(
                "bridge, spoof checks",
                DUAL,
                json!([{"type": "bridge", "isDefaultGateway": true, "macspoofchk": true, "ipspoofchk": true, "ipam": ipam}]),
            ),
            Wiring::new(
                "bridge, everything",
                DUAL,
                json!([{"type": "bridge", "isDefaultGateway": true, "ipMasq": true, "macspoofchk": true, "ipspoofchk": true,
                        "nodes": true, "ipam": ipam}]),
            ),
            Wiring::new("routed-veth, IPv4", V4, json!([{"type": "routed-veth", "ipam": ipam}])),
            Wiring::new("routed-veth, IPv6", V6, json!([{"type": "routed-veth", "ipam": ipam}])),
            Wiring::new("routed-veth, both", DUAL, json!([{"type": "routed-veth", "ipam": ipam}])),
            Wiring::new(
                "routed-veth, masquerade",
                DUAL,
                json!([{"type": "routed-veth", "ipMasq": true, "ipam": ipam}]),
            ),
            Wiring::new(
                "routed-veth, nodes",
                DUAL,
                json!([{"type": "routed-veth", "ipMasq": true, "nodes": true, "ipam": ipam}]),
            ),
            Wiring::new(
                "vxlan-overlay",
                DUAL,
                json!([{"type": "vxlan-overlay", "ipMasq": true, "nodes": true, "ipam": ipam}]),
            ),
            Wiring::new(
                "vxlan-overlay after bridge",
                DUAL,
                json!([{"type": "bridge", "isDefaultGateway": true, "nodes": true, "nodeRoutes": false, "ipam": ipam}, overlay]),
            ),
            Wiring::new(
                "vxlan-overlay after bridge with masquerade",
                DUAL,
                json!([{"type": "bridge", "isDefaultGateway": true, "ipMasq": true, "ipspoofchk": true, "ipam": ipam}, overlay]),
            ),
            Wiring::new(
                "vxlan-overlay after routed-veth",
                DUAL,
                json!([{"type": "routed-veth", "nodes": true, "nodeRoutes": false, "ipam": ipam}, overlay]),
            ),
        ]
    }
}

/// Node 0 of two.
struct Place {
    cluster: Cluster,
    chain: Vec<Value>,
}

impl Place {
    fn new(wiring: &Wiring) -> Self {
        let cluster = Cluster::new(wiring.families, 2);
        let ranges: Vec<Value> = cluster.pod_cidrs(0).iter().map(|subnet| json!([{ "subnet": subnet }])).collect();
        let complete = |plugin: &Value| {
            let mut plugin = plugin.clone();
            plugin["cniVersion"] = json!("1.1.0");
            plugin["name"] = json!("pods");
            if plugin.get("nodes").is_some() {
                plugin["nodes"] = json!(cluster.map());
            }
            if plugin.get("ipam").is_some() {
                let store = cluster.node(0).file("store");
                plugin["ipam"] = json!({"type": "host-local", "dataDir": store, "ranges": ranges});
            }
            plugin
        };
        let chain = wiring.plugins.iter().map(complete).collect();
        std::fs::write(cluster.node(0).file("batch"), look::BATCH).unwrap();
        Place { cluster, chain }
    }

    fn node(&self) -> &Node {
        self.cluster.node(0)
    }

    /// From now on the node has these binaries.
    fn install(&mut self, binaries: &Path) {
        self.cluster.nodes[0].as_mut().unwrap().path = vec![binaries.to_owned()];
    }

    #[track_caller]
    fn add(&self, pod: &Pod) -> Value {
        cluster::add(self.node(), &self.chain, pod)
    }

    #[track_caller]
    fn check(&self, pod: &Pod, result: &Value) {
        cluster::run(self.node(), &self.chain, "CHECK", pod, result);
    }

    #[track_caller]
    fn del(&self, pod: &Pod, result: &Value) {
        cluster::run(self.node(), &self.chain, "DEL", pod, result);
    }

    #[track_caller]
    fn gc(&self, valid: &[&Pod]) {
        let valid: Vec<Value> =
            valid.iter().map(|pod| json!({"containerID": pod.container_id, "ifname": pod.ifname})).collect();
        for config in &self.chain {
            let mut config = config.clone();
            config["cni.dev/valid-attachments"] = json!(valid);
            self.node().call_network(config["type"].as_str().unwrap(), "GC", &config).ok();
        }
    }

    /// What nftables holds for Pods: each element has its owner as a comment. Whether chains are whole is told by CHECK.
    fn elements(&self) -> BTreeSet<String> {
        let text = self.node().netns.sh("nft -s -n list ruleset");
        let lines = text.split([',', '\n']).filter(|line| line.contains("comment"));
        // Which element comes first says nothing.
        lines.map(|line| line.replace("elements = {", "").replace(" }", "").trim().to_owned()).collect()
    }

    /// Everything that an operator finds on the node, a line for each object, but for what all Pods share in nftables (after
    /// a flush there is as much of it as living Pods need), and for witnesses, in a table of their own: each release has
    /// its own form of them.
    fn look(&self) -> BTreeSet<String> {
        let node = self.node();
        let mut found = BTreeSet::new();
        look::namespace(&node.netns, "node", &node.file("batch"), &mut found);
        look::node_only(&node.netns, &mut found);
        look::store(&node.file("store"), &mut found);
        found.retain(|line| !line.starts_with("nft ") || line.contains("comment"));
        found.retain(|line| !(line.starts_with("node route ") && line.contains(" table ")));
        found
    }

    /// How the node looks when there was a Pod once, and is none now.
    #[track_caller]
    fn look_when_empty(&self) -> BTreeSet<String> {
        let pod = Pod::new("rehearsal");
        let result = self.add(&pod);
        self.del(&pod, &result);
        self.look()
    }
}

/// Two wirings at a time, each on nodes of its own.
fn each(job: impl Fn(&mut Place, &Path) + Sync) {
    let Some(previous) = binaries::directory() else { return };
    common::in_parallel(2, &Wiring::all(), |wiring| {
        println!("{}", wiring.name);
        job(&mut Place::new(wiring), previous);
    });
}

#[test]
fn pods_of_the_previous_release_are_checked_restored_collected_and_removed() {
    each(|place, previous| {
        place.install(previous);
        let empty = place.look_when_empty();
        let [a, mut b, stale] = ["a", "b", "stale"].map(Pod::new);
        let [of_a, of_b, of_stale] = [&a, &b, &stale].map(|pod| place.add(pod));
        let given: BTreeSet<_> = [&of_a, &of_b, &of_stale].into_iter().flat_map(addresses).collect();

        place.install(&bin_dir());
        place.check(&a, &of_a);
        place.check(&b, &of_b);
        let elements = place.elements();
        place.node().netns.sh("nft flush ruleset");
        let new = Pod::new("new");
        let of_new = place.add(&new);
        assert!(addresses(&of_new).iter().all(|address| !given.contains(address)), "{of_new}");
        place.check(&new, &of_new);
        place.check(&a, &of_a);
        place.del(&new, &of_new);
        assert_eq!(place.elements(), elements, "restored by ADD");

        place.gc(&[&a, &b]);
        assert!(stale.netns().try_sh("ip link show eth0").is_err(), "GC left a wire");
        let elements = place.elements();
        place.node().netns.sh("nft flush ruleset");
        place.gc(&[&a, &b]);
        assert_eq!(place.elements(), elements, "restored by GC");
        place.check(&a, &of_a);
        place.check(&b, &of_b);

        place.del(&a, &of_a);
        place.del(&a, &of_a);
        b.netns = None;
        place.del(&b, &of_b);
        assert_eq!(place.look(), empty);
    });
}

#[test]
fn pods_of_this_release_are_removed_and_collected_by_the_previous_one() {
    each(|place, previous| {
        let empty = place.look_when_empty();
        let [a, mut b, stale] = ["a", "b", "stale"].map(Pod::new);
        let [of_a, of_b, _] = [&a, &b, &stale].map(|pod| place.add(pod));

        place.install(previous);
        place.check(&a, &of_a);
        place.gc(&[&a, &b]);
        assert!(stale.netns().try_sh("ip link show eth0").is_err(), "GC left a wire");
        place.del(&a, &of_a);
        place.del(&a, &of_a);
        b.netns = None;
        place.del(&b, &of_b);
        assert_eq!(place.look(), empty);
    });
}
