//! A Pod with more addresses than the alias of its wire has room for: what else it owns is in a record under /run/podwire.
//!
//! Such a Pod is wired, checked, restored and removed like any other, and a damaged record keeps no Pod from being removed.

#[path = "common/mod.rs"]
mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};

use common::{Network, held_nothing};
use conformance::crash::look;
use conformance::lab::{Node, Pod};
use nix::sys::stat::Mode;
use serde_json::{Value, json};

/// So many range sets, each of long addresses.
const COUNT: usize = 9;

fn ranges() -> Value {
    let set = |number| json!([{"subnet": format!("2001:db8:1111:2222:3333:4444:{number}555:6000/116")}]);
    (1..=COUNT).map(set).collect()
}

/// Every wiring whose Pods may own that much.
fn networks(node: &Node) -> Vec<Network<'_>> {
    let bridge = |keys| Network::new(node, "bridge", keys, ranges());
    vec![
        bridge(json!({"ipspoofchk": true})),
        bridge(json!({"isGateway": true, "ipMasq": true})),
        bridge(json!({"isDefaultGateway": true, "ipMasq": true, "macspoofchk": true, "ipspoofchk": true})),
        Network::new(node, "routed-veth", json!({"ipMasq": true}), ranges()),
    ]
}

fn each(job: impl Fn(&Network)) {
    let node = new_node();
    for network in networks(&node) {
        println!("{}", network.config);
        // After a flush, elements of another wiring's Pods would not come back.
        node.netns.sh("nft flush ruleset");
        job(&network);
        held_nothing(&network);
        assert_eq!(records(&node), [""; 0].map(PathBuf::from));
        assert_eq!(elements(&node), [""; 0]);
    }
}

fn new_node() -> Node {
    let node = Node::new("many");
    look::forget_records(&node.netns);
    node
}

/// The files of the node's records.
fn records(node: &Node) -> Vec<PathBuf> {
    look::records(&node.netns).into_iter().map(|(_, path)| path).collect()
}

/// The record of that Pod: the owner is in the alias of its wire.
#[track_caller]
fn record(network: &Network, pod: &Pod) -> PathBuf {
    let name = format!("{}/{}/{}", network.config["name"].as_str().unwrap(), pod.container_id, pod.ifname);
    let has_name = |path: &PathBuf| fs::read_to_string(path).is_ok_and(|text| text.ends_with(&format!(" {name}")));
    records(network.node).into_iter().find(has_name).unwrap_or_else(|| panic!("no record of {name}"))
}

/// What nftables holds, without order.
fn rules(node: &Node) -> Vec<String> {
    let text = node.netns.sh("nft -s -n list ruleset");
    let mut lines: Vec<String> =
        text.split([',', '\n']).map(|line| line.trim().replace("elements = { ", "").replace(" }", "")).collect();
    lines.sort();
    lines
}

/// Elements of Pods: each has its owner as a comment.
fn elements(node: &Node) -> Vec<String> {
    rules(node).into_iter().filter(|line| line.contains("comment")).collect()
}

fn gc(network: &Network, valid: &[&Pod]) {
    let valid: Vec<Value> =
        valid.iter().map(|pod| json!({"containerID": pod.container_id, "ifname": pod.ifname})).collect();
    let mut config = network.config.clone();
    config["cni.dev/valid-attachments"] = json!(valid);
    network.node.call_network(&network.plugin, "GC", &config).ok();
}

#[test]
fn it_is_wired_checked_restored_and_removed_like_any_other() {
    each(|network| {
        let node = network.node;
        let [a, b, new] = ["a", "b", "new"].map(Pod::new);
        let [of_a, of_b] = [&a, &b].map(|pod| network.add(pod));
        assert_eq!(of_a["ips"].as_array().unwrap().len(), COUNT);
        for pod in [&a, &b] {
            let path = record(network, pod);
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600, "{}", path.display());
            assert_eq!(fs::metadata(path.parent().unwrap()).unwrap().mode() & 0o7777, 0o700);
        }
        network.check(&a, &of_a).ok();

        let all = rules(node);
        node.netns.sh("nft flush ruleset");
        assert_eq!(network.check(&a, &of_a).code(), 102);
        network.add(&new);
        network.check(&a, &of_a).ok();
        network.del(&new);
        assert_eq!(rules(node), all, "restored by ADD");
        node.netns.sh("nft flush ruleset");
        gc(network, &[&a, &b]);
        assert_eq!(rules(node), all, "restored by GC");
        network.check(&b, &of_b).ok();

        network.del(&a);
        assert_eq!(records(node), [record(network, &b)]);
        network.check(&b, &of_b).ok();
        network.del(&a);
        gc(network, &[]);
    });
}

#[test]
fn a_pod_whose_namespace_is_gone_leaves_neither_elements_nor_record() {
    each(|network| {
        for by_gc in [false, true] {
            let pods = ["a", "b"].map(Pod::new);
            pods.iter().for_each(|pod| drop(network.add(pod)));
            let [a, b] = pods.map(|pod| Pod { netns: None, ..pod });
            match by_gc {
                true => gc(network, &[]),
                false => [a, b].iter().for_each(|pod| network.del(pod)),
            }
            assert_eq!((records(network.node), elements(network.node)), (Vec::new(), Vec::new()), "GC: {by_gc}");
        }
    });
}

/// Damages a record; the second path is the record of another Pod.
type Damage = fn(&Path, &Path);

/// What may become of a record.
fn damages() -> [(&'static str, Damage); 8] {
    [
        ("removed", |path, _| fs::remove_file(path).unwrap()),
        ("empty", |path, _| fs::write(path, "").unwrap()),
        ("of another Pod", |path, other| assert!(fs::copy(other, path).unwrap() > 0)),
        ("no text", |path, _| fs::write(path, [0xff; 300]).unwrap()),
        ("huge", |path, _| fs::write(path, vec![b'a'; 10 << 20]).unwrap()),
        ("a link to another Pod's", |path, other| instead(path, |path| symlink(other, path).unwrap())),
        ("a pipe", |path, _| instead(path, |path| nix::unistd::mkfifo(path, Mode::S_IRWXU).unwrap())),
        ("a directory", |path, _| instead(path, |path| fs::create_dir(path).unwrap())),
    ]
}

fn instead(path: &Path, make: impl FnOnce(&Path)) {
    fs::remove_file(path).unwrap();
    make(path);
}

#[test]
fn whatever_becomes_of_its_record_it_is_removed_and_another_pod_keeps_its_own() {
    each(|network| {
        let node = network.node;
        for (words, damage) in damages() {
            let [a, b] = ["a", "b"].map(Pod::new);
            let of_b = network.add(&b);
            let (of_b_alone, others) = (elements(node), record(network, &b));
            let text = fs::read(&others).unwrap();
            network.add(&a);
            let path = record(network, &a);
            damage(&path, &others);
            network.del(&a);
            network.del(&a);
            assert_eq!(elements(node), of_b_alone, "{words}");
            assert_eq!(fs::read(&others).unwrap(), text, "{words}");
            // What is no file is not ours to remove.
            if path.is_dir() {
                let reply = network.call("ADD", &a);
                assert!(reply.details().contains(path.to_str().unwrap()), "{}", reply.stdout);
                network.del(&a);
                fs::remove_dir(&path).unwrap();
            }
            network.add(&a);
            damage(&record(network, &a), &others);
            gc(network, &[&b]);
            assert_eq!(elements(node), of_b_alone, "{words}, GC");
            if path.is_dir() {
                fs::remove_dir(&path).unwrap();
            }
            network.check(&b, &of_b).ok();
            network.del(&b);
        }
    });
}

/// The rules of a Pod whose record is lost can't be restored: the log says so, and who else lives is restored.
#[test]
fn a_lost_record_is_told_of_and_keeps_no_other_pod_from_being_restored() {
    let node = new_node();
    let network = networks(&node).remove(2);
    let [a, b, new] = ["a", "b", "new"].map(Pod::new);
    network.add(&a);
    let of_b = network.add(&b);
    fs::remove_file(record(&network, &a)).unwrap();
    node.netns.sh("nft flush ruleset");
    let reply = network.call("ADD", &new);
    assert!(reply.stderr.contains("record can't be read"), "{}", reply.stderr);
    reply.ok();
    network.check(&b, &of_b).ok();
    [&a, &b, &new].iter().for_each(|pod| network.del(pod));
    assert_eq!((records(&node), elements(&node)), (Vec::new(), Vec::new()));
}
