//! Node maps: what an ADD costs beside a large one, and what it costs to follow one.
//!
//! The node has an underlay of its own, with an address of each family; its peers are nowhere, for nothing is sent to
//! them. The reference has nothing that follows a map: beside the overlay stands its `bridge`, and beside following
//! nothing.

use serde_json::{Value, json};

use super::Set;
use super::measure::{Call, Sample, inside};
use super::report::{Row, Stats};
use super::series::{Node, Round, Verb};
use super::workload::{NETWORK, Workload, complete, ipam};

/// How often a map of one size is followed from nothing, by a node that is new each time.
const TIMES: usize = 5;

/// `vxlan-overlay` with maps of several sizes.
pub fn workloads(pods: usize) -> Vec<Workload> {
    let workload = |count: usize| Workload {
        counterpart: vec![json!({"type": "bridge", "isDefaultGateway": true, "ipam": ipam(&["10.88.0.0/16"])})],
        map: Some(count),
        ..Workload::new(format!("vxlan-overlay, {count} nodes (bridge)"), vec![overlay()], pods)
    };
    [3, 1000, 5000].map(workload).into()
}

fn overlay() -> Value {
    json!({"type": "vxlan-overlay", "nodes": "", "ipam": {"type": "host-local"}})
}

/// Gives the node an underlay, and a map in which it is the first of `count` nodes.
pub fn prepare(node: &Node, count: usize) -> Result<(), String> {
    node.netns.try_sh(
        "sysctl -qw net.ipv6.conf.default.accept_dad=0
         ip link add under0 type bridge && ip link set under0 up
         ip addr add 10.240.0.1/16 dev under0 && ip addr add fd00:240::1/64 dev under0 nodad",
    )?;
    write(node, (0..count).map(|number| entry(number, &[underlay4(number), underlay6(number)])).collect())
}

/// Writes the node's map.
pub fn write(node: &Node, entries: Vec<Value>) -> Result<(), String> {
    let map = node.map();
    std::fs::write(&map, json!({ "nodes": entries }).to_string()).map_err(|error| format!("{}: {error}", map.display()))
}

/// A node as the map has it. No Pod CIDR lies beside another, so that no two are one.
pub fn entry(number: usize, addresses: &[String]) -> Value {
    json!({
        "name": format!("node-{number}"),
        "addresses": addresses,
        "podCIDRs": [
            format!("{}.{}.{}.0/24", 100 + number / 12800, number / 100 % 128, number % 100 * 2),
            format!("fd00:245:0:{:x}::/64", number * 2),
        ],
    })
}

fn underlay4(number: usize) -> String {
    format!("10.240.{}.{}", number / 250, 1 + number % 250)
}

fn underlay6(number: usize) -> String {
    format!("fd00:240::{:x}", 1 + number)
}

/// `vxlan-overlay --sync` with maps of several sizes: from nothing, and again when nothing has changed.
pub fn following(sets: &[Set; 2]) -> Result<Vec<Row>, String> {
    let mut rows = Vec::new();
    for count in [1, 100, 1000, 5000] {
        let measured = sets.each_ref().map(|set| match set.has("vxlan-overlay") {
            true => follow(set, count),
            false => Err("it has nothing that follows a map".to_owned()),
        });
        for (at, words) in ["from nothing", "unchanged"].into_iter().enumerate() {
            let stats = |measured: &Result<[Stats; 2], String>| {
                measured.as_ref().map(|both| both[at].clone()).map_err(String::clone)
            };
            rows.push(Row {
                workload: format!("map of {count} nodes, {words}"),
                verb: Verb::Sync,
                parallel: 1,
                sets: measured.each_ref().map(stats),
                floor: None,
            });
        }
    }
    Ok(rows)
}

/// What it took from nothing, and once more.
fn follow(set: &Set, count: usize) -> Result<[Stats; 2], String> {
    let mut samples: [Vec<Sample>; 2] = [Vec::new(), Vec::new()];
    let mut peak = 0;
    for _ in 0..TIMES {
        let node = Node::new(set)?;
        prepare(&node, count)?;
        let call = sync(&node)?;
        for samples in &mut samples {
            samples.push(inside(&node.netns.path(), || call.execute())??.0);
        }
        peak = peak.max(inside(&node.netns.path(), || call.peak())??.0);
    }
    Ok(samples.map(|samples| {
        let elapsed = samples.iter().map(|sample| sample.wall).sum();
        Stats::of(&[Round { samples, elapsed }], peak)
    }))
}

fn sync(node: &Node) -> Result<Call, String> {
    let plugin = complete(&overlay(), "1.1.0", &node.map(), &node.data_dir().display().to_string());
    let list = json!({"cniVersion": "1.1.0", "name": NETWORK, "plugins": [plugin]});
    let file = node.files.path().join("bench.conflist");
    std::fs::write(&file, list.to_string()).map_err(|error| format!("{}: {error}", file.display()))?;
    Ok(Call {
        executable: node.set.find("vxlan-overlay")?,
        arguments: vec!["--sync".to_owned(), file.display().to_string()],
        variables: Vec::new(),
        input: Vec::new(),
    })
}
