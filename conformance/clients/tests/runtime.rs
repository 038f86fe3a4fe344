//! Our own runtime side (`libcni::runtime`) under load: ADD, CHECK and DEL in four threads, GC and STATUS beside them without
//! a pause. Debian's containerd is too old to call the latter two.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use clients::machine::address;
use conformance::lab::{Netns, Node, Pod};
use libcni::AttachmentId;
use libcni::runtime::{Cache, NetworkList, Parameters, Runtime};
use serde_json::json;

const THREADS: usize = 4;
const PODS: usize = 12;
/// Of its Pods, a thread lets so many live.
const LIVING: usize = 2;

/// A node and its network.
struct Load {
    node: Node,
    list: NetworkList,
}

/// A Pod that runs.
struct Running {
    netns: Netns,
    parameters: Parameters,
    address: String,
}

impl Load {
    fn new() -> Self {
        let node = Node::new("load");
        let list = json!({
            "cniVersion": "1.1.0", "name": "pods",
            "plugins": [{
                "type": "bridge", "isDefaultGateway": true, "ipMasq": true,
                // Room for those that live and run at once, not for all: what GC or DEL lose shows.
                "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.22.0.0/27" }]], "dataDir": node.file("store") },
            }],
        });
        let list = NetworkList::from_bytes(list.to_string().as_bytes()).unwrap();
        Load { node, list }
    }

    /// A runtime that remembers in a directory of that name.
    fn runtime(&self, cache: &str) -> Runtime {
        Runtime { path: self.node.path.clone(), cache: Cache::new(self.node.file(cache)) }
    }

    fn add(&self, runtime: &Runtime, name: &str) -> Running {
        let netns = Netns::new("pod");
        let parameters = Parameters::new(name, "eth0", netns.path());
        let result = self.node.netns.inside(|| runtime.add(&self.list, &parameters)).unwrap();
        Running { netns, parameters, address: result.ips[0].address.ip().to_string() }
    }

    fn del(&self, runtime: &Runtime, pod: Running) {
        self.node.netns.inside(|| runtime.del(&self.list, &pod.parameters)).unwrap();
    }

    fn is_whole(&self, runtime: &Runtime, pod: &Running) {
        self.node.netns.inside(|| runtime.check(&self.list, &pod.parameters)).unwrap();
        assert!(pod.netns.pings("10.22.0.1") && self.node.netns.pings(&pod.address));
    }

    /// One thread's Pods, one after another; those that live at the end.
    fn pods(&self, runtime: &Runtime, thread: usize) -> Vec<Running> {
        let mut living = Vec::new();
        for n in 0..PODS {
            let pod = self.add(runtime, &name(thread, n));
            self.is_whole(runtime, &pod);
            match n < LIVING {
                true => living.push(pod),
                false => self.del(runtime, pod),
            }
        }
        living
    }

    /// The names of the node's ends that stand, and the addresses that are reserved.
    fn standing(&self) -> (usize, BTreeSet<String>) {
        let links = self.node.netns.sh("ip -br link show type veth").lines().count();
        let reserved = self.node.netns.sh(&format!("ls {}", self.node.file("store/pods").display()));
        (links, reserved.lines().filter(|name| name.starts_with("10.22.")).map(str::to_owned).collect())
    }
}

/// A Pod's container ID.
fn name(thread: usize, n: usize) -> String {
    format!("pod-{thread}-{n}")
}

/// Load by `workers`, and `collect` beside it until it ends; how often that ran while there was load.
fn under_load(load: &Load, workers: &Runtime, collect: impl Fn() + Sync) -> usize {
    let done = AtomicBool::new(false);
    let (rounds, living) = std::thread::scope(|scope| {
        let collector = scope.spawn(|| {
            let mut rounds = 0;
            while !done.load(Ordering::Relaxed) {
                collect();
                rounds += 1;
            }
            rounds
        });
        let threads: Vec<_> = (0..THREADS).map(|thread| scope.spawn(move || load.pods(workers, thread))).collect();
        let outcomes: Vec<_> = threads.into_iter().map(|thread| thread.join()).collect();
        done.store(true, Ordering::Relaxed);
        let living: Vec<Running> = outcomes.into_iter().flat_map(|outcome| outcome.unwrap()).collect();
        (collector.join().unwrap(), living)
    });
    living.iter().for_each(|pod| load.is_whole(workers, pod));
    let reserved = living.iter().map(|pod| pod.address.clone()).collect();
    assert_eq!(load.standing(), (THREADS * LIVING, reserved), "what lives, and nothing else");
    living.into_iter().for_each(|pod| load.del(workers, pod));
    assert_eq!(load.standing(), (0, BTreeSet::new()));
    rounds
}

/// Through a cache that is not the others' own, as a runtime would that does not wait. It may do that only with a list that names
/// also what is being added, or may be while GC runs.
#[test]
fn gc_beside_adds_takes_nothing_that_its_list_names() {
    let load = Load::new();
    let (workers, collector) = (load.runtime("cache"), load.runtime("other-cache"));
    // What nobody's cache knows and nobody's list names.
    let config = &load.list.configurations_of("bridge")[0];
    let lost = Pod::new("lost");
    let lost = address(&load.node.call("bridge", "ADD", &lost, &serde_json::from_slice(config).unwrap()).ok());
    assert_eq!(load.standing(), (1, BTreeSet::from([lost])));
    let names = (0..THREADS).flat_map(|thread| (0..PODS).map(move |n| name(thread, n)));
    let valid: Vec<_> = names.map(|container_id| AttachmentId { container_id, ifname: "eth0".into() }).collect();
    under_load(&load, &workers, || {
        load.node.netns.inside(|| collector.gc(&load.list, &valid)).unwrap();
        load.node.netns.inside(|| collector.status(&load.list)).unwrap();
    });
}

/// `cnitool gc`'s way, without a list, in the same cache: it waits for its turn, and gets one while others go on.
#[test]
fn gc_by_namespace_beside_adds_takes_only_whose_namespace_is_gone() {
    let load = Load::new();
    let runtime = load.runtime("cache");
    let gone = load.add(&runtime, "gone");
    assert_eq!(load.standing(), (1, BTreeSet::from([gone.address.clone()])));
    drop(gone.netns);
    let rounds = under_load(&load, &runtime, || {
        load.node.netns.inside(|| runtime.gc_by_namespace(&load.list)).unwrap();
        load.node.netns.inside(|| runtime.status(&load.list)).unwrap();
    });
    eprintln!("{rounds} rounds");
    assert!(rounds > 1, "GC had to wait for the end of the load");
}
