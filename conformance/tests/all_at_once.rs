//! 64 processes at once on one network, one store and one bridge, beside the Go host-local on the same store.
//!
//! Each worker has Pods of its own and calls the plugin in any order; who holds an address is written down before it may
//! be given to another and struck out before it is given back, so an address given twice is seen at once. Seconds by
//! `PODWIRE_ALL_AT_ONCE` (5 by default; a minute says more).

#[path = "common/mod.rs"]
mod common;

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use conformance::cluster::{self, Cluster, Families};
use conformance::lab::{Node, Pod, REFERENCE_DIR};
use serde_json::{Value, json};

use crate::common::{Network, held_nothing, in_parallel};

const WORKERS: usize = 64;

/// Every third worker is the Go host-local alone.
fn is_go(worker: usize) -> bool {
    worker % 3 == 2
}

/// Numbers as they would come by dice, another row for each worker.
fn dice(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    *state >> 33
}

#[derive(Default)]
struct Ledger {
    holders: Mutex<HashMap<String, String>>,
    calls: AtomicU64,
}

impl Ledger {
    fn given(&self, result: &Value, to: &str) {
        for ip in result["ips"].as_array().unwrap() {
            let before = self.holders.lock().unwrap().insert(ip["address"].to_string(), to.to_owned());
            assert_eq!(before, None, "{} was given to {to} too", ip["address"]);
        }
    }

    fn given_back(&self, by: &str) {
        self.holders.lock().unwrap().retain(|_, holder| holder != by);
    }
}

/// What one worker does until the time is over, and at last the DEL.
fn work(worker: usize, pod: &Pod, network: &Network, everybody: &Value, ledger: &Ledger, until: Instant) {
    let mut state = worker as u64 + 1;
    let mut added: Option<Value> = None;
    let go = format!("{REFERENCE_DIR}/host-local");
    let mut old = network.config.clone();
    old["cniVersion"] = json!("1.0.0");
    let (plugin, config) = if is_go(worker) { (go.as_str(), &old) } else { (network.plugin.as_str(), &network.config) };
    let call = |command: &str, config: &Value| {
        ledger.calls.fetch_add(1, Ordering::Relaxed);
        network.node.call(plugin, command, pod, config)
    };
    while Instant::now() < until {
        let asked = dice(&mut state) % 10;
        match (&added, asked) {
            (None, _) => {
                let result = call("ADD", config).ok();
                ledger.given(&result, &pod.container_id);
                added = Some(result);
            }
            (Some(_), 0..6) => {
                ledger.given_back(&pod.container_id);
                call("DEL", config).ok();
                added = None;
            }
            (Some(result), 6..8) => {
                let mut config = config.clone();
                config["prevResult"] = result.clone();
                call("CHECK", &config).ok();
            }
            (Some(_), 8) if !is_go(worker) => {
                network.node.call_network(plugin, "STATUS", config).ok();
            }
            (Some(_), _) if !is_go(worker) => {
                let mut config = config.clone();
                config["cni.dev/valid-attachments"] = everybody.clone();
                network.node.call_network(plugin, "GC", &config).ok();
            }
            _ => {}
        }
    }
    ledger.given_back(&pod.container_id);
    call("DEL", config).ok();
}

#[test]
fn no_address_is_given_twice_and_at_the_end_everything_is_empty() {
    let seconds = std::env::var("PODWIRE_ALL_AT_ONCE").ok().and_then(|text| text.parse().ok()).unwrap_or(5);
    let node = Node::new("node");
    // 64 workers and few more addresses: what is given back is soon given again.
    let ranges = json!([[{"subnet": "10.22.0.0/24", "rangeEnd": "10.22.0.80"}], [{"subnet": "fd00:22::/121"}]]);
    let keys = json!({"isGateway": true, "ipMasq": true, "macspoofchk": true, "ipspoofchk": true});
    let network = Network::new(&node, "bridge", keys, ranges);
    let pods: Vec<Pod> =
        (0..WORKERS).map(|worker| Pod::new(&format!("{}{worker}", if is_go(worker) { "go" } else { "pod" }))).collect();
    let everybody: Value =
        pods.iter().map(|pod| json!({"containerID": pod.container_id, "ifname": pod.ifname})).collect();
    let ledger = Ledger::default();
    let until = Instant::now() + Duration::from_secs(seconds);
    let workers: Vec<(usize, &Pod)> = pods.iter().enumerate().collect();
    in_parallel(WORKERS, &workers, |(worker, pod)| work(*worker, pod, &network, &everybody, &ledger, until));
    println!("{} calls by {WORKERS} processes at once in {seconds} s", ledger.calls.load(Ordering::Relaxed));

    held_nothing(&network);
    assert_eq!(node.netns.ip("link show type veth"), json!([]));
    let rules = node.netns.sh("nft list ruleset");
    assert!(!rules.contains("elements"), "{rules}");
}

#[test]
fn what_is_shared_may_be_made_by_all_at_the_same_moment() {
    for plugin in ["bridge", "routed-veth", "vxlan-overlay"] {
        let families = Families { pods4: true, pods6: true, underlay4: true, underlay6: true };
        let cluster = Cluster::new(families, 2);
        let node = cluster.node(0);
        let keys = json!({"type": plugin, "ipMasq": true, "ipam": {"type": "host-local"}});
        let config = cluster::configurations(node, &cluster.map(), &[keys]).remove(0);
        let pods: Vec<Pod> = (0..16).map(|number| Pod::new(&format!("pod{number}"))).collect();
        let results = in_parallel(16, &pods, |pod| node.call(plugin, "ADD", pod, &config).ok());
        let addresses: std::collections::HashSet<_> =
            results.iter().map(|it| it["ips"][0]["address"].to_string()).collect();
        assert_eq!(addresses.len(), 16, "{plugin}");
        for (pod, result) in pods.iter().zip(&results) {
            let mut config = config.clone();
            config["prevResult"] = result.clone();
            node.call(plugin, "CHECK", pod, &config).ok();
        }
        in_parallel(16, &pods, |pod| node.call(plugin, "DEL", pod, &config).ok());
        assert_eq!(node.netns.sh("ip -o link show type veth").lines().count(), 1, "{plugin}: a wire is left");
    }
}
