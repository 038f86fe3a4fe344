//! What is seen of a node: what an operator would find there.
//!
//! Links, addresses, routes, permanent neighbors, FDB entries, nftables, podwire's records of that namespace, the address
//! files: one line for each object.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::lab::Netns;

/// What a namespace has. `batch` is a file with [`BATCH`] in it.
pub fn namespace(netns: &Netns, place: &str, batch: &Path, found: &mut BTreeSet<String>) {
    let output = netns.output(Command::new("ip").args(["-j", "-b"]).arg(batch));
    let text = String::from_utf8_lossy(&output.stdout);
    for document in serde_json::Deserializer::from_str(&text).into_iter::<Value>() {
        let document = document.unwrap_or_else(|error| panic!("ip prints JSON: {error}: {text}"));
        for object in document.as_array().into_iter().flatten() {
            found.extend(lines(object).into_iter().map(|line| format!("{place} {line}")));
        }
    }
}

/// What ip is asked, in one go.
pub const BATCH: &str = "addr\nroute show table all\nneigh show nud permanent\n";

/// What nftables has there, which FDB entries lead to other nodes, and podwire's records of Pods there.
pub fn node_only(netns: &Netns, found: &mut BTreeSet<String>) {
    let rules = netns.output(Command::new("nft").args(["-s", "-n", "list", "ruleset"]));
    let rules = String::from_utf8_lossy(&rules.stdout).into_owned();
    let rules = rules.split([',', '\n']).map(str::trim).filter(|line| line.len() > 1);
    found.extend(rules.map(|line| format!("nft {line}")));
    let entries = netns.output(Command::new("bridge").args(["-j", "fdb", "show"]));
    let entries: Value = serde_json::from_slice(&entries.stdout).unwrap_or_default();
    let to_nodes = entries.as_array().into_iter().flatten().filter(|entry| entry["dst"].is_string());
    found.extend(to_nodes.map(|entry| format!("fdb {} dst {} dev {}", entry["mac"], entry["dst"], entry["ifname"])));
    found.extend(records(netns).into_iter().map(|(owner, _)| format!("record {owner}")));
}

/// podwire's records of Pods on that node: what their names say after the namespace, and the files.
pub fn records(netns: &Netns) -> Vec<(String, PathBuf)> {
    let Ok(there) = fs::metadata(netns.path()) else { return Vec::new() };
    let prefix = format!("{}-", there.ino());
    let entries = fs::read_dir("/run/podwire/labels").into_iter().flatten().flatten();
    let of_node = |path: PathBuf| {
        let owner = path.file_name()?.to_str()?.strip_prefix(&prefix)?.to_owned();
        Some((owner, path))
    };
    entries.filter_map(|entry| of_node(entry.path())).collect()
}

/// An interface is a line, and one for each address; anything else is one or none.
fn lines(object: &Value) -> Vec<String> {
    let text = |key: &str| object[key].as_str().unwrap_or_default();
    if let Some(addresses) = object["addr_info"].as_array() {
        let addresses =
            addresses.iter().map(|a| format!("{}/{}", a["local"].as_str().unwrap_or_default(), a["prefixlen"]));
        let name = text("ifname");
        let addresses =
            addresses.filter(|address| !is_link_local(address)).map(|address| format!("address {address} dev {name}"));
        return std::iter::once(format!("link {name} mtu {}", object["mtu"])).chain(addresses).collect();
    }
    if object["state"].is_array() {
        return vec![format!("neighbor {} dev {}", text("dst"), text("dev"))];
    }
    let (dst, kind) = (text("dst"), text("type"));
    let table = match text("table") {
        "" | "main" | "local" => String::new(),
        other => format!(" table {other}"),
    };
    let is_own = is_link_local(dst) || matches!(kind, "multicast" | "anycast" | "broadcast");
    match is_own || dst.is_empty() {
        true => Vec::new(),
        false => vec![format!("route {kind} {dst} via {:?} dev {}{table}", text("gateway"), text("dev"))],
    }
}

/// The kernel makes link-local addresses and multicast routes for itself, when it gets around to it.
fn is_link_local(text: &str) -> bool {
    text.starts_with("fe80") || text.starts_with("ff00")
}

/// Files at any depth; of those that are named like addresses the content too.
pub fn store(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            store(&path, found);
        } else if is_address(&name) {
            let content = fs::read(&path).unwrap_or_default();
            found.insert(format!("address file {} {:?}", name.to_string_lossy(), String::from_utf8_lossy(&content)));
        } else {
            found.insert(format!("file {}", name.to_string_lossy()));
        }
    }
}

fn is_address(name: &OsStr) -> bool {
    name.to_str().is_some_and(|name| name.parse::<std::net::IpAddr>().is_ok())
}

/// Removes the records that another namespace of the same number has left: a new one has none.
pub fn forget_records(netns: &Netns) {
    for (_, path) in records(netns) {
        let _ = fs::remove_file(path);
    }
}

/// Does a process run in the namespace?
pub fn is_inhabited(netns: &Netns) -> bool {
    let Ok(there) = fs::metadata(netns.path()) else { return false };
    let link = format!("net:[{}]", there.ino());
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let processes = processes.filter(|entry| entry.file_name().as_encoded_bytes().iter().all(u8::is_ascii_digit));
    processes
        .map(|entry| entry.path().join("ns/net"))
        .any(|path| fs::read_link(path).is_ok_and(|namespace| namespace.as_os_str() == link.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_is_told_by_its_keys() {
        let link = json!({"ifname": "eth0", "mtu": 1500, "addr_info": [{"local": "10.0.0.1", "prefixlen": 24}, {"local": "fe80::1", "prefixlen": 64}]});
        assert_eq!(lines(&link), ["link eth0 mtu 1500", "address 10.0.0.1/24 dev eth0"]);
        let route = json!({"dst": "default", "gateway": "10.0.0.1", "dev": "eth0", "flags": []});
        assert_eq!(lines(&route), ["route  default via \"10.0.0.1\" dev eth0"]);
        let elsewhere = json!({"dst": "10.9.0.0/24", "dev": "eth0", "table": "1883472711", "flags": []});
        assert_eq!(lines(&elsewhere), ["route  10.9.0.0/24 via \"\" dev eth0 table 1883472711"]);
        let neighbor = json!({"dst": "10.0.0.1", "dev": "eth0", "lladdr": "02:00:00:00:00:01", "state": ["PERMANENT"]});
        assert_eq!(lines(&neighbor), ["neighbor 10.0.0.1 dev eth0"]);
        assert!(lines(&json!({"type": "multicast", "dst": "ff00::/8", "dev": "eth0"})).is_empty());
    }
}
