//! The files of `examples/systemd`: units that systemd takes, hooks that call the service, and a service that brings back
//! what NetworkManager and systemd-networkd remove.
//!
//! Those two do not run here. What they do is replayed with `ip`: NetworkManager's `nmcli device reapply` and a
//! carrier that goes and comes take the link down and up, or its addresses off and on; systemd-networkd removes routes that
//! it did not add.

use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::cluster::{self, Cluster, Families};
use conformance::lab::{Node, Pod, bin_dir};
use serde_json::{Value, json};

const DUAL: Families = Families { pods4: true, pods6: true, underlay4: true, underlay6: true };

fn files() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/systemd")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(files().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The command that the service runs, for this plugin and this list.
fn command(plugin: &str, list: &Path) -> String {
    let unit = read("podwire-sync.service");
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("an ExecStart");
    line.replace("/opt/cni/bin/vxlan-overlay", &bin_dir().join(plugin).display().to_string())
        .replace("/etc/cni/net.d/10-podwire.conflist", &list.display().to_string())
}

#[test]
fn systemd_takes_the_units() {
    let Ok(version) = Command::new("systemd-analyze").arg("--version").output() else {
        println!("skipped: no systemd-analyze here (Debian's package systemd)");
        return;
    };
    assert!(version.status.success());
    let directory = tempfile::tempdir().unwrap();
    let names = ["podwire-sync.service", "podwire-sync.path", "podwire-sync.timer"];
    for name in names {
        let program = bin_dir().join("vxlan-overlay").display().to_string();
        std::fs::write(directory.path().join(name), read(name).replace("/opt/cni/bin/vxlan-overlay", &program))
            .unwrap();
    }
    let paths = names.map(|name| directory.path().join(name));
    let said = Command::new("systemd-analyze").args(["verify", "--man=no"]).args(paths).output().unwrap();
    let words = String::from_utf8_lossy(&said.stderr);
    let about_ours: Vec<_> = words.lines().filter(|line| line.contains("podwire")).collect();
    assert_eq!(about_ours, [""; 0], "{words}");
    assert!(said.status.success(), "{words}");
}

#[test]
fn the_hooks_start_the_service_for_every_event_that_takes_routes_away() {
    let directory = tempfile::tempdir().unwrap();
    let systemctl = directory.path().join("systemctl");
    std::fs::write(&systemctl, "#!/bin/sh\necho \"$@\"\n").unwrap();
    std::fs::set_permissions(&systemctl, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap());
    let run = |hook: &str, arguments: &[&str]| {
        let output = Command::new(files().join(hook)).args(arguments).env("PATH", &path).output().unwrap();
        assert!(output.status.success(), "{hook} {arguments:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let started = "--no-block start podwire-sync.service\n";
    for event in ["up", "down", "dhcp4-change", "dhcp6-change", "reapply"] {
        assert_eq!(run("networkmanager-dispatcher.sh", &["eth0", event]), started, "{event}");
    }
    for event in [&["eth0", "pre-up"][..], &["none", "hostname"], &["", "connectivity-change"], &[]] {
        assert_eq!(run("networkmanager-dispatcher.sh", event), "", "{event:?}");
    }
    assert_eq!(run("networkd-dispatcher.sh", &[]), started);
}

/// What a network manager does to the underlay of node 0.
const EVENTS: [(&str, &str); 4] = [
    (
        "a carrier that goes and comes",
        "ip link set eth0 down; ip link set eth0 up; ip addr add fd00:240::4/64 dev eth0 nodad",
    ),
    (
        "nmcli device reapply",
        "ip addr flush dev eth0; ip addr add 10.240.0.4/24 dev eth0; ip addr add fd00:240::4/64 dev eth0 nodad",
    ),
    (
        "networkd, which removes foreign routes of its links",
        "ip route flush table all dev eth0 proto 112; ip -6 route flush table all dev eth0 proto 112",
    ),
    ("networkd, on every link", "ip route flush table all proto 112; ip -6 route flush table all proto 112"),
];

#[test]
fn the_service_brings_back_what_network_managers_remove() {
    for plugin in ["bridge", "ptp", "routed-veth", "vxlan-overlay"] {
        for (event, replay) in EVENTS {
            let what = format!("{plugin}, {event}");
            let cluster = Cluster::new(DUAL, 2);
            let (here, there) = (Pod::new("here"), Pod::new("there"));
            add(&cluster, 0, plugin, &here);
            let result = add(&cluster, 1, plugin, &there);
            let unreached = || -> Vec<String> {
                let seen = |ip| here.netns().seen_by(there.netns(), ip);
                cluster::addresses(&result).into_iter().filter_map(|ip| seen(ip).err()).collect()
            };
            assert_eq!(unreached(), [""; 0], "{what}: before");
            let node = cluster.node(0);
            let before = routes(node);
            node.netns.sh(replay);
            // Routes into an overlay leave by its own device: only the last event concerns that.
            let is_concerned = plugin != "vxlan-overlay" || event == EVENTS[3].0;
            assert_eq!(routes(node) != before, is_concerned, "{what}");

            let said = node.netns.sh(&command(plugin, &list(&cluster, 0, plugin)));
            assert!(said.starts_with("network \"pods\": "), "{said}");
            assert_eq!(routes(node), before, "{what}: {said}");
            assert_eq!(unreached(), [""; 0], "{what}: after");
        }
    }
}

fn routes(node: &Node) -> Vec<String> {
    let text = node.netns.sh("(ip route; ip -6 route) | grep -E '^(10|fd00).*proto 112' || true");
    let mut lines: Vec<String> = text.lines().map(|line| line.trim_end().to_owned()).collect();
    lines.sort();
    lines
}

fn config(cluster: &Cluster, number: usize, plugin: &str) -> Value {
    let mut config = json!({"type": plugin, "nodes": cluster.map(), "ipam": {"type": "host-local"}});
    if plugin == "ptp" {
        config["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
    }
    if plugin == "bridge" {
        config["isDefaultGateway"] = json!(true);
    }
    cluster::configurations(cluster.node(number), &cluster.map(), &[config]).remove(0)
}

fn add(cluster: &Cluster, number: usize, plugin: &str, pod: &Pod) -> Value {
    cluster.node(number).call(plugin, "ADD", pod, &config(cluster, number, plugin)).ok()
}

/// The conflist, as a file.
fn list(cluster: &Cluster, number: usize, plugin: &str) -> PathBuf {
    let list = json!({"cniVersion": "1.1.0", "name": "pods", "plugins": [config(cluster, number, plugin)]});
    let file = cluster.node(number).file("10-podwire.conflist");
    std::fs::write(&file, list.to_string()).unwrap();
    file
}
