//! What an operator, a reboot or a firewall does between two calls: each plugin's CHECK says so, the next ADD heals what is
//! shared for all living Pods, and DEL does not stumble.

#[path = "common/mod.rs"]
mod common;

use std::os::unix::fs::PermissionsExt;

use conformance::cluster::{self, Cluster, Families, addresses};
use conformance::lab::{Netns, Node, Pod, Reply, bin_dir};
use serde_json::{Value, json};

const DUAL: Families = Families { pods4: true, pods6: true, underlay4: true, underlay6: true };

/// One plugin with keys that make it do the most, on node 0 of two.
struct Place {
    cluster: Cluster,
    plugin: &'static str,
    config: Value,
}

impl Place {
    fn each() -> impl Iterator<Item = Place> {
        let bridge = json!({"isDefaultGateway": true, "macspoofchk": true, "ipspoofchk": true});
        let all = [("bridge", bridge), ("routed-veth", json!({})), ("ptp", json!({})), ("vxlan-overlay", json!({}))];
        all.into_iter().map(|(plugin, keys)| {
            let cluster = Cluster::new(DUAL, 2);
            let mut keys = keys;
            keys["type"] = json!(plugin);
            keys["ipMasq"] = json!(true);
            keys["ipam"] = json!({"type": "host-local"});
            if plugin == "ptp" {
                keys["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
            }
            let config = cluster::configurations(cluster.node(0), &cluster.map(), &[keys]).remove(0);
            Place { cluster, plugin, config }
        })
    }

    fn node(&self) -> &Node {
        self.cluster.node(0)
    }

    fn call(&self, command: &str, pod: &Pod, config: &Value) -> Reply {
        self.node().call(self.plugin, command, pod, config)
    }

    #[track_caller]
    fn add(&self, pod: &Pod) -> Value {
        self.call("ADD", pod, &self.config).ok()
    }

    fn check(&self, pod: &Pod, result: &Value, config: &Value) -> Reply {
        let mut config = config.clone();
        config["prevResult"] = result.clone();
        self.call("CHECK", pod, &config)
    }

    fn gc(&self, valid: &[&Pod], config: &Value) -> Reply {
        let valid: Vec<Value> =
            valid.iter().map(|pod| json!({"containerID": pod.container_id, "ifname": pod.ifname})).collect();
        let mut config = config.clone();
        config["cni.dev/valid-attachments"] = json!(valid);
        self.node().call_network(self.plugin, "GC", &config)
    }

    /// Who the host beyond the router sees when the Pod connects to it.
    fn seen_outside(&self, pod: &Pod) -> Result<String, String> {
        let outside = "192.0.2.2".parse().unwrap();
        pod.netns().seen_by(&self.cluster.outside, outside).map(|address| address.to_string())
    }

    /// What Pods have left: wires, elements of nftables, routes, addresses of the store.
    fn left(&self) -> Vec<String> {
        let node = self.node();
        let mut left: Vec<String> = held(node);
        let wires = node.netns.sh("ip -o link show type veth | grep -v ': eth0@' || true");
        left.extend(wires.lines().map(str::to_owned));
        left.extend(elements(node));
        let routes = node
            .netns
            .sh("ip route show proto 112 | grep veth || true; ip -6 route show proto 112 | grep veth || true");
        left.extend(routes.lines().map(str::to_owned));
        left
    }
}

/// The addresses that the store of that node holds.
fn held(node: &Node) -> Vec<String> {
    let Ok(entries) = std::fs::read_dir(node.file("store/pods")) else { return Vec::new() };
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect()
}

/// What nftables holds for Pods: each such element says in its comment whose it is.
fn elements(node: &Node) -> Vec<String> {
    let found = node.netns.sh(r#"nft list ruleset | grep -E 'comment "[0-9a-f]{32}"' || true"#);
    found.lines().map(str::to_owned).collect()
}

/// Node 0, to the outside.
const NODE: &str = "10.240.0.4";

#[test]
fn a_flushed_ruleset_is_told_of_and_healed_for_all_by_the_next_add() {
    for place in Place::each() {
        let plugin = place.plugin;
        let pods = ["a", "b", "dies", "new"].map(Pod::new);
        let results = [0, 1, 2].map(|at| place.add(&pods[at]));
        // Another network on the same tables.
        let mut other = place.config.clone();
        other["name"] = json!("others");
        other.as_object_mut().unwrap().remove("nodes");
        other["ipam"]["ranges"] = json!([[{"subnet": "10.99.0.0/24"}]]);
        other["bridge"] = json!("others0");
        let in_other = Pod::new("other");
        let other_plugin = if plugin == "vxlan-overlay" { "routed-veth" } else { plugin };
        other["type"] = json!(other_plugin);
        let other_result = place.node().call(other_plugin, "ADD", &in_other, &other).ok();
        assert_eq!(place.seen_outside(&in_other), Ok(NODE.to_owned()), "{plugin}: another network");

        place.node().netns.sh("nft flush ruleset");
        for at in 0..2 {
            let reply = place.check(&pods[at], &results[at], &place.config);
            assert_eq!(reply.code(), 102, "{plugin}: {} {}", reply.stdout, reply.stderr);
        }
        place.call("DEL", &pods[2], &place.config).ok();
        place.gc(&[&pods[0], &pods[1]], &place.config).ok();
        place.add(&pods[3]);
        for at in 0..2 {
            place.check(&pods[at], &results[at], &place.config).ok();
            assert_eq!(place.seen_outside(&pods[at]), Ok(NODE.to_owned()), "{plugin}");
        }
        other["prevResult"] = other_result;
        place.node().call(other_plugin, "CHECK", &in_other, &other).ok();
        assert_eq!(place.seen_outside(&in_other), Ok(NODE.to_owned()), "{plugin}: another network");

        place.node().netns.sh("nft flush ruleset");
        place.node().call(other_plugin, "DEL", &in_other, &other).ok();
        pods.iter().for_each(|pod| drop(place.call("DEL", pod, &place.config).ok()));
        assert_eq!(place.left(), [""; 0], "{plugin}");
    }
}

#[test]
fn a_list_that_changed_between_add_and_del_leaves_nothing() {
    for place in Place::each() {
        let plugin = place.plugin;
        let mut changed = place.config.clone();
        for key in ["macspoofchk", "ipspoofchk", "isDefaultGateway"] {
            changed.as_object_mut().unwrap().remove(key);
        }
        changed["ipMasq"] = json!(false);
        changed["bridge"] = json!("other0");
        changed["ipam"]["ranges"] = json!([[{"subnet": "10.77.0.0/24"}]]);
        let (old, stale) = (Pod::new("old"), Pod::new("stale"));
        let result = place.add(&old);
        place.add(&stale);
        // Old and new side by side: the old one goes on.
        let new = Pod::new("new");
        let of_new = place.call("ADD", &new, &changed).ok();
        assert_eq!(addresses(&of_new)[0].to_string(), "10.77.0.2", "{plugin}");
        assert_eq!(place.seen_outside(&old), Ok(NODE.to_owned()), "{plugin}: the old one");
        place.check(&new, &of_new, &changed).ok();
        place.gc(&[&old, &new], &changed).ok();
        assert!(stale.netns().try_sh("ip link show eth0").is_err(), "{plugin}: GC left what the old list had made");
        assert_eq!(place.seen_outside(&old), Ok(NODE.to_owned()), "{plugin}: the old one");
        let mut with_result = changed.clone();
        with_result["prevResult"] = result;
        for _ in 0..2 {
            place.call("DEL", &old, &with_result).ok();
        }
        place.call("DEL", &new, &changed).ok();
        assert_eq!(place.left(), [""; 0], "{plugin}");
    }
}

#[test]
fn a_pod_wired_by_one_plugin_is_removed_by_the_one_that_the_list_has_now() {
    for place in Place::each() {
        for now in ["bridge", "routed-veth", "vxlan-overlay"] {
            let pod = Pod::new("pod");
            let result = place.add(&pod);
            let mut config = place.config.clone();
            config["type"] = json!(now);
            config["prevResult"] = result;
            place.node().call(now, "DEL", &pod, &config).ok();
            assert!(pod.netns().try_sh("ip link show eth0").is_err(), "{} by {now}", place.plugin);
            assert_eq!(place.left(), [""; 0], "{} by {now}", place.plugin);
        }
    }
}

#[test]
fn a_range_that_shrank_keeps_who_lives_outside_of_it_and_gives_from_inside() {
    for place in Place::each() {
        let plugin = place.plugin;
        let pods = ["inside", "outside", "new"].map(Pod::new);
        let mut wide = place.config.clone();
        wide["ipam"]["ranges"] =
            json!([[{"subnet": "10.244.0.0/24", "rangeStart": "10.244.0.20", "rangeEnd": "10.244.0.21"}]]);
        let results = [0, 1].map(|at| place.call("ADD", &pods[at], &wide).ok());
        let mut narrow = wide.clone();
        narrow["ipam"]["ranges"][0][0]["rangeStart"] = json!("10.244.0.19");
        narrow["ipam"]["ranges"][0][0]["rangeEnd"] = json!("10.244.0.20");
        for at in 0..2 {
            place.check(&pods[at], &results[at], &narrow).ok();
        }
        place.node().call_network(plugin, "STATUS", &narrow).ok();
        let new = place.call("ADD", &pods[2], &narrow).ok();
        assert_eq!(addresses(&new)[0].to_string(), "10.244.0.19", "{plugin}");
        assert_eq!(place.call("ADD", &Pod::new("more"), &narrow).code(), 101, "{plugin}");
        place.gc(&[&pods[0], &pods[1], &pods[2]], &narrow).ok();
        for pod in &pods {
            assert_eq!(place.seen_outside(pod), Ok(NODE.to_owned()), "{plugin}: {}", pod.container_id);
            place.call("DEL", pod, &narrow).ok();
        }
        assert_eq!(place.left(), [""; 0], "{plugin}");
    }
}

/// A `host-local` that finds the boot whose ID is the number `boot`.
fn reboot(node: &mut Node, boot: u32) {
    let (directory, id) = (node.file(&format!("boot{boot}")), node.file(&format!("boot{boot}.id")));
    std::fs::create_dir(&directory).unwrap();
    std::fs::write(&id, format!("00000000-0000-0000-0000-{boot:012x}\n")).unwrap();
    let program = directory.join("host-local");
    let mount = format!("mount --bind {} /proc/sys/kernel/random/boot_id", id.display());
    let real = bin_dir().join("host-local");
    let text = format!("#!/bin/sh\nexec unshare -m sh -c '{mount} && exec {}'\n", real.display());
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).unwrap();
    node.path = vec![directory, bin_dir()];
}

#[test]
fn after_a_reboot_every_address_can_be_given_and_late_dels_take_nothing() {
    for plugin in ["bridge", "routed-veth", "ptp"] {
        let mut node = Node::new("node");
        reboot(&mut node, 1);
        let store = node.file("store").display().to_string();
        let ipam = json!({"type": "host-local", "dataDir": store, "ranges": [[{"subnet": "10.22.0.0/29"}]]});
        let config = json!({"cniVersion": "1.1.0", "name": "pods", "type": plugin, "ipMasq": true, "ipam": ipam});
        let before: Vec<Pod> = (0..5).map(|number| Pod::new(&format!("old{number}"))).collect();
        before.iter().for_each(|pod| drop(node.call(plugin, "ADD", pod, &config).ok()));
        // The power goes: the kernel, and with it /run, begins anew; /var stays.
        let before: Vec<Pod> = before.into_iter().map(|pod| Pod { netns: None, ..pod }).collect();
        node.netns = Netns::new("node");
        reboot(&mut node, 2);
        let after: Vec<Pod> = (0..5).map(|number| Pod::new(&format!("new{number}"))).collect();
        let results: Vec<Value> = after.iter().map(|pod| node.call(plugin, "ADD", pod, &config).ok()).collect();
        // The runtime finds its old sandboxes and removes them, one after another.
        for pod in &before {
            node.call(plugin, "DEL", pod, &config).ok();
        }
        for (pod, result) in after.iter().zip(results) {
            let mut config = config.clone();
            config["prevResult"] = result;
            node.call(plugin, "CHECK", pod, &config).ok();
            node.call(plugin, "DEL", pod, &config).ok();
        }
        assert_eq!(held(&node), [""; 0], "{plugin}");
    }
}

#[test]
fn pods_whose_namespaces_are_gone_while_the_store_is_not_are_removed_by_del_and_by_gc() {
    for place in Place::each() {
        for by_gc in [false, true] {
            let pods = ["a", "b"].map(Pod::new);
            pods.iter().for_each(|pod| drop(place.add(pod)));
            let pods = pods.map(|pod| Pod { netns: None, ..pod });
            match by_gc {
                true => drop(place.gc(&[], &place.config).ok()),
                false => pods.iter().for_each(|pod| drop(place.call("DEL", pod, &place.config).ok())),
            }
            assert_eq!(held(place.node()), [""; 0], "{}", place.plugin);
            assert_eq!(elements(place.node()), [""; 0], "{}", place.plugin);
        }
    }
}

#[test]
fn a_store_that_is_gone_while_its_pods_live_is_told_of_and_gives_no_address_twice() {
    for place in Place::each() {
        let plugin = place.plugin;
        let pods = ["a", "b"].map(Pod::new);
        let results = [0, 1].map(|at| place.add(&pods[at]));
        std::fs::remove_dir_all(place.node().file("store")).unwrap();
        for at in 0..2 {
            let reply = place.check(&pods[at], &results[at], &place.config);
            assert_eq!(reply.code(), 102, "{plugin}: {}", reply.stdout);
            assert!(reply.details().contains("holds no address"), "{plugin}: {}", reply.stdout);
        }
        // On a bridge the address is refused, and the runtime tries again. A routed Pod's route shows that the address is in use: IPAM
        // is asked for another one at once.
        let new = Pod::new("new");
        let mut refused = 0;
        let result = loop {
            let reply = place.call("ADD", &new, &place.config);
            if reply.success {
                break reply.json;
            }
            assert!(reply.code() == 11 && reply.details().contains("living Pod"), "{plugin}: {}", reply.stdout);
            place.call("DEL", &new, &place.config).ok();
            refused += 1;
        };
        assert_eq!(refused, if plugin == "bridge" { 2 } else { 0 }, "{plugin}");
        let taken: Vec<_> = results.iter().flat_map(addresses).collect();
        assert!(addresses(&result).iter().all(|address| !taken.contains(address)), "{plugin}: {result} {taken:?}");
        for pod in pods.iter().chain([&new]) {
            assert_eq!(place.seen_outside(pod), Ok(NODE.to_owned()), "{plugin}: {}", pod.container_id);
        }
        pods.iter().chain([&new]).for_each(|pod| drop(place.call("DEL", pod, &place.config).ok()));
        assert_eq!(place.left(), [""; 0], "{plugin}");
    }
}
