//! 64 processes at once on one network, one store and one bridge, beside the Go host-local on the same store.
//!
//! Each worker has Pods of its own and calls the plugin in any order; who holds an address is written down before it may
//! be given to another and struck out before it is given back, so an address given twice is seen at once. Seconds by
//! `PODWIRE_ALL_AT_ONCE` (5 by default; a minute says more). And what becomes of the others when one of them hangs with a
//! lock in its hands.

#[path = "common/mod.rs"]
mod common;

use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use conformance::cluster::{self, Cluster, Families};
use conformance::lab::{Node, Pod, REFERENCE_DIR};
use fs2::FileExt;
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
    calls: Mutex<BTreeMap<String, u64>>,
    addresses: AtomicU64,
}

impl Ledger {
    fn called(&self, who: &str, command: &str) {
        *self.calls.lock().unwrap().entry(format!("{who}{command}")).or_default() += 1;
    }

    fn given(&self, result: &Value, to: &str) {
        for ip in result["ips"].as_array().unwrap() {
            self.addresses.fetch_add(1, Ordering::Relaxed);
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
        ledger.called(if is_go(worker) { "Go's " } else { "" }, command);
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
                ledger.called("", "STATUS");
                network.node.call_network(plugin, "STATUS", config).ok();
            }
            (Some(_), _) if !is_go(worker) => {
                let mut config = config.clone();
                config["cni.dev/valid-attachments"] = everybody.clone();
                ledger.called("", "GC");
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
    held_nothing(&network);
    assert_eq!(node.netns.ip("link show type veth"), json!([]));
    let rules = node.netns.sh("nft list ruleset");
    assert!(!rules.contains("elements"), "{rules}");
    let calls = ledger.calls.into_inner().unwrap();
    println!(
        "{WORKERS} processes at once for {seconds} s: {} calls ({calls:?}), {} addresses given, none twice, none left",
        calls.values().sum::<u64>(),
        ledger.addresses.into_inner()
    );
}

#[test]
fn what_is_shared_may_be_made_by_all_at_the_same_moment() {
    for plugin in ["bridge", "routed-veth", "ptp", "vxlan-overlay"] {
        let families = Families { pods4: true, pods6: true, underlay4: true, underlay6: true };
        let cluster = Cluster::new(families, 2);
        let node = cluster.node(0);
        let keys = json!({"type": plugin, "ipMasq": true, "ipam": {"type": "host-local"}});
        let config = cluster::configurations(node, &cluster.map(), &[keys]).remove(0);
        let pods: Vec<Pod> = (0..WORKERS).map(|number| Pod::new(&format!("pod{number}"))).collect();
        let results = in_parallel(WORKERS, &pods, |pod| node.call(plugin, "ADD", pod, &config).ok());
        let addresses: std::collections::HashSet<_> =
            results.iter().map(|it| it["ips"][0]["address"].to_string()).collect();
        assert_eq!(addresses.len(), WORKERS, "{plugin}");
        for (pod, result) in pods.iter().zip(&results) {
            let mut config = config.clone();
            config["prevResult"] = result.clone();
            node.call(plugin, "CHECK", pod, &config).ok();
        }
        in_parallel(WORKERS, &pods, |pod| node.call(plugin, "DEL", pod, &config).ok());
        assert_eq!(node.netns.sh("ip -o link show type veth").lines().count(), 1, "{plugin}: a wire is left");
    }
}

/// An ADD that hangs at a system call, until dropped.
struct Hanging {
    strace: Child,
    plugin: String,
}

impl Hanging {
    /// Returns when `holds` says that it has the lock.
    fn new(node: &Node, plugin: &str, pod: &Pod, config: &Value, at: &str, holds: &dyn Fn() -> bool) -> Self {
        let mut command = Command::new("strace");
        command
            .args(["-qq", "-o", "/dev/null", &format!("--trace={at}"), &format!("--inject={at}:delay_exit=600000000")])
            .arg(node.path[0].join(plugin))
            .env("CNI_COMMAND", "ADD")
            .env("CNI_CONTAINERID", &pod.container_id)
            .env("CNI_IFNAME", &pod.ifname)
            .env("CNI_NETNS", pod.netns().path())
            .env("CNI_PATH", node.cni_path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut strace = node.netns.spawn(&mut command).expect("strace");
        strace.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
        while !holds() {
            std::thread::sleep(Duration::from_millis(5));
        }
        let children = format!("/proc/{0}/task/{0}/children", strace.id());
        let plugin = std::fs::read_to_string(children).unwrap().trim().to_owned();
        Hanging { strace, plugin }
    }
}

impl Drop for Hanging {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-9", &self.plugin]).status();
        // The killed one stops once more on its way out, for a tracer that sleeps.
        let _ = self.strace.kill();
        let _ = self.strace.wait();
    }
}

/// With `hanging` in the way: the next ADD gives up and says who it is; one that waits goes on when it is killed.
fn is_told_of_and_waited_for(node: &Node, plugin: &str, config: &Value, hanging: Hanging) {
    let pods = ["gives-up", "waits"].map(Pod::new);
    let refused = node.call(plugin, "ADD", &pods[0], config);
    let holder = format!("process {} ({plugin})", hanging.plugin);
    assert_eq!((refused.code(), refused.details().contains(&holder)), (11, true), "{holder}: {}", refused.stdout);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| node.call(plugin, "ADD", &pods[1], config));
        drop(hanging);
        waiting.join().unwrap().ok();
    });
    for pod in pods.iter().chain([&Pod::without_netns("hangs")]) {
        node.call(plugin, "DEL", pod, config).ok();
    }
}

#[test]
fn who_hangs_with_the_stores_lock_is_named_and_killed_lets_go() {
    let node = Node::new("node");
    let network = Network::new(&node, "host-local", json!({}), json!([[{"subnet": "10.22.0.0/24"}]]));
    let lock = node.file("store/host-local-net/lock");
    let holds = || std::fs::File::open(&lock).is_ok_and(|file| file.try_lock_exclusive().is_err());
    let hanging = Hanging::new(&node, "host-local", &Pod::new("hangs"), &network.config, "linkat", &holds);
    is_told_of_and_waited_for(&node, "host-local", &network.config, hanging);
    held_nothing(&network);
}

#[test]
fn who_hangs_with_a_networks_lock_is_named_and_killed_lets_go() {
    let families = Families { pods4: true, pods6: false, underlay4: true, underlay6: false };
    let cluster = Cluster::new(families, 2);
    let node = cluster.node(0);
    let keys = json!({"type": "vxlan-overlay", "ipam": {"type": "host-local"}});
    let config = cluster::configurations(node, &cluster.map(), &[keys]).remove(0);
    let holds = || node.netns.sh("cat /proc/net/unix").contains("@podwire-");
    let pod = Pod::new("hangs");
    let hanging = Hanging::new(node, "vxlan-overlay", &pod, &config, "listen", &holds);
    is_told_of_and_waited_for(node, "vxlan-overlay", &config, hanging);
    assert_eq!(node.netns.sh("ip -o link show type veth").lines().count(), 1, "a wire is left");
}
