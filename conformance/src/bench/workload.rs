//! What is measured: which plugins, for how many Pods, how many at a time.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::{Set, wires};

/// One workload: the same for both sets, but for plugins that have another name in one of them.
#[derive(Clone, Debug)]
pub struct Workload {
    /// What the report calls it.
    pub name: String,
    /// The chain for a set that has our plugins, in the order of ADD.
    pub chain: Vec<Value>,
    /// The chain for a set that lacks the first plugin of `chain`, if it has the first one of this.
    pub counterpart: Vec<Value>,
    /// How many Pods one round wires.
    pub pods: usize,
    /// How many of them at a time.
    pub parallel: usize,
    /// Is CHECK measured too?
    pub check: bool,
    /// Of how many taken addresses the store starts, if it is not to be empty.
    pub reserved: Option<usize>,
    /// What the kernel has to do for an ADD, for the floor.
    pub floor: Option<Floor>,
    /// Which Pods of a round count, by number from 0; all if empty.
    pub windows: Vec<(String, std::ops::Range<usize>)>,
    /// Ends with one GC in place of the DELs.
    pub gc: bool,
    /// How many nodes are in the map that the key `nodes` of a plugin is to name.
    pub map: Option<usize>,
}

/// What the floor of a workload consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Floor {
    /// A veth on a bridge, with an address and a route of each of so many families, and two executions.
    Wire(usize),
    /// One execution.
    Execution,
}

impl Workload {
    /// A chain that is wired one Pod at a time.
    pub fn new(name: impl Into<String>, chain: Vec<Value>, pods: usize) -> Self {
        Workload {
            name: name.into(),
            counterpart: chain.clone(),
            chain,
            pods,
            parallel: 1,
            check: false,
            reserved: None,
            floor: None,
            windows: Vec::new(),
            gc: false,
            map: None,
        }
    }

    /// The chain that `set` runs; an error if its first plugin is not the set's own.
    pub fn chain_for(&self, set: &Set) -> Result<&[Value], String> {
        let first = |chain: &[Value]| chain[0]["type"].as_str().unwrap_or_default().to_owned();
        let own = [&self.chain, &self.counterpart].into_iter().find(|chain| set.has(&first(chain)));
        let missing = || format!("{}: no plugin {:?}", set.directory.display(), first(&self.chain));
        own.map(Vec::as_slice).ok_or_else(missing)
    }
}

/// The workloads that wire Pods, `pods` a round, and 200 where `parallel` are wired at a time.
pub fn wiring(pods: usize, parallel: usize) -> Vec<Workload> {
    let one = |name: &str, config: Value| Workload::new(name, vec![config], pods);
    let mut all = vec![
        Workload { check: true, floor: Some(Floor::Wire(1)), ..one("bridge", bridge(json!({}), &[V4])) },
        one("bridge + ipMasq", bridge(json!({"ipMasq": true}), &[V4])),
        Workload { floor: Some(Floor::Wire(2)), ..one("bridge, dual-stack", bridge(json!({}), &[V4, V6])) },
        Workload {
            counterpart: vec![json!({"type": "ptp", "ipam": ipam(&[V4])})],
            ..one("routed-veth (ptp)", json!({"type": "routed-veth", "ipam": ipam(&[V4])}))
        },
        Workload::new("bridge + portmap", vec![bridge(json!({}), &[V4]), portmap()], pods),
    ];
    let many = [("bridge", json!({}), Some(Floor::Wire(1))), ("bridge + ipMasq", json!({"ipMasq": true}), None)];
    for (name, more, floor) in many {
        let workload = Workload::new(format!("{name}, {parallel} at a time"), vec![bridge(more, &[V4])], AT_ONCE);
        all.push(Workload { parallel, floor, ..workload });
    }
    all
}

/// How many Pods are wired when many are wired at a time, whatever is asked for one at a time: a node's worth.
const AT_ONCE: usize = 200;

/// The workload of many Pods on one bridge: how the first, the hundredth and the thousandth fare, and one GC of all.
pub fn crowd() -> Vec<Workload> {
    let crowd = Workload::new("bridge, 1,000 Pods", vec![bridge(json!({}), &[V4])], 1000);
    let windows =
        [(0..1, "ADD 1"), (90..110, "ADD 100"), (980..1000, "ADD 1,000")].map(|(range, name)| (name.to_owned(), range));
    let gc = Workload { name: "GC of 1,000".into(), gc: true, ..crowd.clone() };
    vec![Workload { windows: windows.to_vec(), ..crowd }, gc]
}

/// A chain from a file: a list, or one plugin's configuration.
pub fn from_file(name: &str, text: &str, pods: usize) -> Result<Workload, String> {
    let document: Value = serde_json::from_str(text).map_err(|error| format!("{name}: {error}"))?;
    let chain = match document.get("plugins").and_then(Value::as_array) {
        Some(plugins) => plugins.clone(),
        None => vec![document],
    };
    match chain.iter().all(|plugin| plugin["type"].is_string()) && !chain.is_empty() {
        true => Ok(Workload::new(name, chain, pods)),
        false => Err(format!("{name}: no list of plugins, each with its \"type\"")),
    }
}

/// The subnets: room for more Pods than are ever wired.
const V4: &str = "10.88.0.0/16";
const V6: &str = "fd88::/64";

fn bridge(more: Value, subnets: &[&str]) -> Value {
    let mut config = json!({"type": "bridge", "bridge": "bench0", "isDefaultGateway": true, "ipam": ipam(subnets)});
    config.as_object_mut().expect("an object").extend(more.as_object().cloned().unwrap_or_default());
    config
}

fn portmap() -> Value {
    json!({
        "type": "portmap",
        "capabilities": {"portMappings": true},
        "runtimeConfig": {"portMappings": [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]},
    })
}

/// The host-local section for subnets, one range set each.
pub fn ipam(subnets: &[&str]) -> Value {
    let ranges: Vec<_> = subnets.iter().map(|subnet| json!([{"subnet": subnet}])).collect();
    json!({"type": "host-local", "ranges": ranges})
}

/// One plugin's configuration, complete: with the network's name, a version both sets speak, the node map's file if it
/// follows one, and a store of its own.
pub fn complete(plugin: &Value, version: &str, map: &Path, data_dir: &str) -> Map<String, Value> {
    let mut config = plugin.as_object().cloned().unwrap_or_default();
    config.insert("cniVersion".into(), version.into());
    config.insert("name".into(), NETWORK.into());
    if config.contains_key("nodes") {
        config.insert("nodes".into(), map.display().to_string().into());
    }
    if let Some(ipam) = config.get_mut("ipam").and_then(Value::as_object_mut)
        && ipam.get("type").is_some_and(|name| name == "host-local")
    {
        ipam.insert("dataDir".into(), data_dir.into());
    }
    config
}

/// The network's name.
pub const NETWORK: &str = "bench";

/// The wirings whose throughput is measured, each with the same by hand.
pub fn wires() -> Vec<(Workload, &'static str)> {
    let named = |name: &str, like: &str, all: Vec<Workload>| {
        all.into_iter()
            .find(|workload| workload.name == like)
            .map(|workload| Workload { name: name.into(), ..workload })
    };
    let wires = [
        ("wire: bridge", "bridge", wires::BRIDGE_BY_HAND),
        ("wire: routed-veth (ptp)", "routed-veth (ptp)", wires::ROUTED_BY_HAND),
    ];
    wires.into_iter().filter_map(|(name, like, hand)| Some((named(name, like, wiring(2, 1))?, hand))).collect()
}
