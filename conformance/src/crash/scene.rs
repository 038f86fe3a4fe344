//! A node on which something dies.
//!
//! The node has an uplink, and a Pod that lives through everything, the witness. Calls on it are [`call`](super::call)'s
//! affair, what is seen of it is [`look`]'s.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;

use libcni::Version;
use serde_json::Value;

use crate::crash::call::succeeded;
use crate::crash::look;
use crate::crash::network::Subject;
use crate::crash::strace;
use crate::crash::trial::Verb;
use crate::lab::{Node, Pod};

/// The Pod that lives through it, and its namespace in what is seen.
const WITNESS: &str = "witness";

/// So many addresses are counted at most.
const COUNTABLE: usize = 32;

/// What nodes of one network have in common.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The network.
    pub subject: &'a Subject,
    /// CNI_PATH.
    pub bin_dirs: &'a [PathBuf],
    /// The version spoken.
    pub version: Version,
    /// A node after its first ADD and DEL.
    used: Mutex<Option<Clean>>,
}

/// How a node looks when the Pod is not there.
#[derive(Clone, Debug, Default)]
pub struct Clean {
    /// A line for each object.
    pub objects: BTreeSet<String>,
    /// How many addresses IPAM can give, if that can be counted.
    pub capacity: usize,
}

/// A node, its witness, and the Pod to be harmed.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The network.
    pub stage: &'a Stage<'a>,
    /// The node.
    pub node: Node,
    /// The Pod whose calls are harmed.
    pub pod: Pod,
    /// A Pod that lives through it; none on a node that is to know nothing yet.
    pub witness: Option<Pod>,
    /// How the node looks when the Pod is not there.
    pub clean: Clean,
    verb: Verb,
    /// Results of ADD, by container ID, as a runtime keeps them.
    pub(super) results: RefCell<BTreeMap<String, Value>>,
}

impl<'a> Stage<'a> {
    /// For a network whose plugins are there.
    pub fn new(subject: &'a Subject, bin_dirs: &'a [PathBuf]) -> Result<Self, String> {
        let version = subject.version(bin_dirs)?;
        Ok(Stage { subject, bin_dirs, version, used: Mutex::default() })
    }

    /// How a node looks that has known the network, and has no Pod; found out once.
    fn used(&self) -> Result<Clean, String> {
        let mut used = self.used.lock().expect("no worker panicked");
        if let Some(clean) = &*used {
            return Ok(clean.clone());
        }
        let scene = Scene::new(self, Verb::Add)?;
        scene.must("DEL", scene.witness.as_ref().expect("a node that knows the network has one"))?;
        let mut objects = scene.look();
        objects.retain(|line| !line.starts_with(WITNESS));
        let clean = Clean { objects, capacity: scene.count_free()? };
        Ok(used.insert(clean).clone())
    }
}

/// The witness lives to the end: its record does not go with its namespace.
impl Drop for Scene<'_> {
    fn drop(&mut self) {
        look::forget_records(&self.node.netns);
    }
}

impl<'a> Scene<'a> {
    /// A node for trials during `verb`. An error is the plugin's, before anything was harmed.
    pub fn new(stage: &'a Stage<'a>, verb: Verb) -> Result<Self, String> {
        let mut node = Node::new("crash");
        node.path = stage.bin_dirs.to_vec();
        let pod = fresh_pod("victim");
        let (clean, results) = (Clean::default(), RefCell::default());
        let mut scene = Scene { stage, node, pod, witness: None, clean, verb, results };
        fs::write(scene.node.file("batch"), look::BATCH).map_err(|error| error.to_string())?;
        look::forget_records(&scene.node.netns);
        scene.node.netns.sh(UPLINK);
        if let Some(setup) = &stage.subject.setup {
            scene.node.netns.try_sh(setup)?;
        }
        scene.set_map(0);
        strace::write_wrappers(&mut scene.node, &stage.subject.network);
        if verb == Verb::FirstAdd {
            scene.clean = stage.used()?;
            return Ok(scene);
        }
        let witness = fresh_pod(WITNESS);
        scene.must("ADD", &witness)?;
        scene.witness = Some(witness);
        // Once there and back: what is shared between Pods stands from here on.
        scene.must("ADD", &scene.pod)?;
        scene.must("DEL", &scene.pod)?;
        if verb.changes_map(stage.subject) {
            scene.set_map(1);
            succeeded("--sync", scene.sync())?;
        }
        scene.clean = Clean { objects: scene.look(), capacity: scene.count_free()? };
        Ok(scene)
    }

    /// Can a trial during `verb` begin here?
    pub fn is_fit_for(&self, stage: &Stage<'_>, verb: Verb) -> bool {
        std::ptr::eq(self.stage, stage) && self.verb == verb && verb != Verb::FirstAdd
    }

    /// Puts the map in place as it is (0), or as it becomes (1), if there is one.
    pub fn set_map(&self, which: usize) {
        if let Some(maps) = &self.stage.subject.maps {
            let next = self.node.file("map.next");
            fs::write(&next, maps[which].to_string()).expect("write the node map");
            fs::rename(&next, self.map()).expect("put the node map in place");
        }
    }

    /// The node map.
    pub(super) fn map(&self) -> PathBuf {
        self.node.file("map.json")
    }

    /// The directory of host-local's stores.
    pub(super) fn store(&self) -> PathBuf {
        self.node.file("networks")
    }

    /// The plugin that asks IPAM for addresses, and IPAM.
    pub fn ipam(&self) -> Option<(usize, &str)> {
        let plugins = self.stage.subject.network.plugins.iter().enumerate();
        plugins.filter_map(|(index, plugin)| Some((index, plugin.get("ipam")?["type"].as_str()?))).next()
    }

    /// How many addresses IPAM can still give: takes all, and gives them back. 0 where that can't be counted.
    pub fn count_free(&self) -> Result<usize, String> {
        let Some((index, ipam)) = self.ipam() else { return Ok(0) };
        let config = self.config(index);
        let pods: Vec<Pod> =
            (0..COUNTABLE).map(|at| Pod { ifname: format!("n{at}"), ..Pod::without_netns("counter") }).collect();
        let mut seen = BTreeSet::new();
        let mut count = 0;
        for pod in &pods {
            let ended = self.finish(self.start(ipam, "ADD", pod, &config));
            if !ended.reply.success {
                break;
            }
            count += 1;
            for ip in addresses(&ended.reply.json) {
                assert!(seen.insert(ip.clone()), "{ip} was given twice");
            }
        }
        for pod in &pods[..count.min(COUNTABLE)] {
            succeeded("DEL", self.finish(self.start(ipam, "DEL", pod, &config)))?;
        }
        Ok(if count < COUNTABLE { count } else { 0 })
    }

    /// The addresses that the witness was given, and lives with.
    pub fn addresses_of_witness(&self) -> Vec<String> {
        let results = self.results.borrow();
        let given = self.witness.as_ref().filter(|_| self.ipam().is_some());
        given.and_then(|witness| results.get(&witness.container_id)).map(addresses).unwrap_or_default()
    }

    /// What there is: one line for each object.
    pub fn look(&self) -> BTreeSet<String> {
        let batch = self.node.file("batch");
        let mut found = BTreeSet::new();
        look::namespace(&self.node.netns, "node", &batch, &mut found);
        look::namespace(self.pod.netns(), "pod", &batch, &mut found);
        if let Some(witness) = &self.witness {
            look::namespace(witness.netns(), WITNESS, &batch, &mut found);
        }
        look::node_only(&self.node.netns, &mut found);
        look::store(&self.store(), &mut found);
        found
    }
}

/// A node's link to the world. Who is at its other end does not matter.
const UPLINK: &str = "\
sysctl -qw net.ipv6.conf.default.accept_dad=0
ip link add eth0 address 02:00:00:00:00:02 type veth peer name world0
ip link set world0 up; ip link set eth0 up
ip addr add 192.0.2.2/24 dev eth0; ip addr add 2001:db8::2/64 dev eth0 nodad
ip route add default via 192.0.2.1 dev eth0; ip -6 route add default via 2001:db8::1 dev eth0
until ip -6 route show table local 2001:db8::2 | grep -q local; do sleep 0.01; done";

/// A Pod as a runtime makes it: with `lo` down.
fn fresh_pod(container_id: &str) -> Pod {
    let pod = Pod::new(container_id);
    pod.netns().sh("ip link set lo down");
    pod
}

/// The addresses in an ADD's result.
pub fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().into_iter().flatten();
    let ips = ips.filter_map(|ip| ip["address"].as_str());
    ips.map(|address| address.split('/').next().unwrap_or_default().to_owned()).collect()
}
