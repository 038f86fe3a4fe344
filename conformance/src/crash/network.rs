//! What is harmed: networks of one plugin or a chain, each on a node with an uplink.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use libcni::Version;
use serde_json::{Value, json};

use crate::suite::config::Network;

/// A network, and what else its node needs.
#[derive(Clone, Debug)]
pub struct Subject {
    /// As tables and the command line name it.
    pub name: String,
    /// Its plugins.
    pub network: Network,
    /// A shell script that prepares each fresh node.
    pub setup: Option<String>,
    /// The node map that `nodes` names, as it is and as it becomes. It makes `--sync` part of the network.
    pub maps: Option<[Value; 2]>,
}

/// In a plugin's configuration: the path of the node map.
const MAP: &str = "MAP";

/// Of a Pod with more addresses than the alias of its wire has room for.
const MANY: u8 = 6;

/// Few addresses, so that one that is lost is missed.
const SUBNETS: [&str; 2] = ["10.222.0.0/29", "fd00:de::/125"];

impl Subject {
    /// Somebody's own: a `.conf` or a `.conflist`.
    pub fn load(path: &Path, setup: Option<String>) -> Result<Self, String> {
        let network = Network::load(path, None)?;
        Ok(Subject { name: network.title(), network, setup, maps: None })
    }

    fn new(name: &str, plugins: Value) -> Self {
        let list = json!({ "cniVersion": "1.1.0", "name": "crash", "plugins": plugins });
        let network = Network::parse(&list.to_string(), None).expect("a list that is right");
        let maps = list.to_string().contains(MAP).then(|| [map(&[1, 2], 1), map(&[2, 3], 9)]);
        Subject { name: name.to_owned(), network, setup: None, maps }
    }

    /// Those that are tried when none is given: every plugin of ours in each of its wirings, and what the reference has.
    pub fn all() -> Vec<Self> {
        let ranges = json!([[{ "subnet": SUBNETS[0] }], [{ "subnet": SUBNETS[1] }]]);
        let ipam = json!({ "type": "host-local", "ranges": ranges });
        let by_map = json!({ "type": "host-local" });
        let bridge = json!({ "type": "bridge", "bridge": "crash0", "isDefaultGateway": true, "ipam": ipam });
        let with = |base: &Value, more: Value| {
            let mut config = base.clone();
            config.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            config
        };
        let many: Vec<Value> = (1..=MANY)
            .map(|number| json!([{ "subnet": format!("fd00:de:1111:2222:3333:4444:5555:{number}660/125") }]))
            .collect();
        let many = json!({ "type": "host-local", "ranges": many });
        let port_map = json!({ "type": "portmap", "capabilities": { "portMappings": true } });
        vec![
            Subject::new("bridge", json!([bridge])),
            Subject::new(
                "bridge-masq",
                json!([with(&bridge, json!({ "ipMasq": true, "macspoofchk": true, "ipspoofchk": true }))]),
            ),
            Subject::new(
                "bridge-nodes",
                json!([with(&bridge, json!({ "ipMasq": true, "nodes": MAP, "ipam": by_map }))]),
            ),
            Subject::new(
                "bridge-many",
                json!([with(
                    &bridge,
                    json!({ "ipMasq": true, "macspoofchk": true, "ipspoofchk": true, "ipam": many })
                )]),
            ),
            Subject::new("bridge-portmap", json!([bridge, port_map])),
            Subject::new(
                "bridge-vxlan",
                json!([
                    with(&bridge, json!({ "nodes": MAP, "nodeRoutes": false, "ipam": by_map })),
                    { "type": "vxlan-overlay", "ipMasq": true, "nodes": MAP }
                ]),
            ),
            Subject::new(
                "vxlan-overlay",
                json!([{ "type": "vxlan-overlay", "ipMasq": true, "nodes": MAP, "ipam": by_map }]),
            ),
            Subject::new(
                "routed-veth",
                json!([{ "type": "routed-veth", "ipMasq": true, "nodes": MAP, "ipam": by_map }]),
            ),
            Subject::new("routed-many", json!([{ "type": "routed-veth", "ipMasq": true, "ipam": many }])),
            Subject::new("ptp", json!([{ "type": "ptp", "ipMasq": true, "ipam": ipam }])),
            Subject::new("loopback", json!([{ "type": "loopback" }])),
            Subject::new("host-local", json!([{ "type": "host-local", "ipam": ipam }])),
        ]
    }

    /// Which plugins of the chain are harmed: those that the first of the directories has. `None` if one is in none.
    pub fn tested(&self, bin_dirs: &[PathBuf]) -> Option<Vec<usize>> {
        let mut tested = Vec::new();
        for index in 0..self.network.plugins.len() {
            let names = [Some(self.network.plugin_type(index)), self.network.delegate(index)];
            let places: Option<Vec<usize>> = names.into_iter().flatten().map(|name| place(name, bin_dirs)).collect();
            if places?.first() == Some(&0) {
                tested.push(index);
            }
        }
        Some(tested)
    }

    /// The newest version that the network's configuration and all its plugins speak.
    pub fn version(&self, bin_dirs: &[PathBuf]) -> Result<Version, String> {
        let mut newest = self.network.versions.last().copied().unwrap_or(Version::V1_0_0);
        for index in 0..self.network.plugins.len() {
            let name = self.network.plugin_type(index);
            let place = place(name, bin_dirs).ok_or_else(|| format!("no plugin {name:?} in {bin_dirs:?}"))?;
            let claimed = claimed(&bin_dirs[place].join(name))?;
            let common = claimed.into_iter().filter(|version| *version <= newest).max();
            newest = common.ok_or_else(|| format!("{name} speaks no version up to {newest}"))?;
        }
        Ok(newest)
    }

    /// The plugins that `--sync` is an option of, and has a map to follow.
    pub fn followers(&self) -> Vec<usize> {
        let plugins = self.network.plugins.iter().enumerate();
        let followers = plugins.filter(|(_, plugin)| self.maps.is_some() && plugin.contains_key("nodes"));
        followers.map(|(index, _)| index).collect()
    }

    /// The configuration of one plugin on a node: its address files in `store`, its node map in `map`.
    pub fn config(&self, index: usize, version: Version, store: &Path, map: &Path) -> Value {
        let mut config = self.network.derive(index, version);
        if config["ipam"].is_object() {
            config["ipam"]["dataDir"] = json!(store);
        }
        if config["nodes"] == MAP {
            config["nodes"] = json!(map);
        }
        config
    }
}

/// This node, and neighbors by their numbers, of which the second has this last byte in its address.
fn map(others: &[u8], moving: u8) -> Value {
    let node = |name: String, last: u8, number: u8| {
        json!({ "name": name, "addresses": [format!("192.0.2.{last}"), format!("2001:db8::{last:x}")],
                "podCIDRs": [format!("10.222.0.{}/29", number * 8), format!("fd00:de::{:x}/125", number * 8)] })
    };
    let mut nodes = vec![node("here".to_owned(), 2, 0)];
    nodes.extend(others.iter().map(|&number| {
        let last = if number == 2 { 100 + moving } else { 10 + number };
        node(format!("node-{number}"), last, number)
    }));
    json!({ "nodes": nodes })
}

fn place(name: &str, bin_dirs: &[PathBuf]) -> Option<usize> {
    bin_dirs.iter().position(|directory| directory.join(name).exists())
}

/// What a plugin answers to VERSION.
fn claimed(executable: &Path) -> Result<Vec<Version>, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{} VERSION: {error}", executable.display());
    let mut command = Command::new(executable);
    command.env_clear().env("CNI_COMMAND", "VERSION").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|error| wrong(&error))?;
    let mut stdin = child.stdin.take().expect("piped");
    let _ = std::io::Write::write_all(&mut stdin, br#"{"cniVersion":"1.0.0"}"#);
    drop(stdin);
    let output = child.wait_with_output().map_err(|error| wrong(&error))?;
    let answer: Value = serde_json::from_slice(&output.stdout).map_err(|error| wrong(&error))?;
    let versions = answer["supportedVersions"].as_array().into_iter().flatten();
    Ok(versions.filter_map(|version| version.as_str()?.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_changes_in_every_way() {
        let [before, after] = Subject::all().into_iter().find_map(|subject| subject.maps).unwrap();
        let named = |map: &Value, name: &str| {
            map["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name).cloned()
        };
        assert_eq!(named(&before, "here"), named(&after, "here"));
        assert_ne!(named(&before, "node-2"), named(&after, "node-2"), "its address changes");
        assert!(named(&after, "node-1").is_none() && named(&before, "node-3").is_none());
    }
}
