//! The Go libcni and ours on one cache: what one ADDed the other CHECKs and DELs, and their files are the same.

use std::path::{Path, PathBuf};
use std::process::Command;

use clients::containerd::Containerd;
use clients::cri::PodConfig;
use clients::machine::Machine;
use conformance::lab;
use serde_json::{Value, json};

/// Where Debian's packages of Go libraries put their source.
const GO_LIBRARIES: &str = "/usr/share/gocode";

const VARIABLES: &str = r#"CNI_ARGS='IgnoreUnknown=1;K8S_POD_NAME=web' CAP_ARGS='{"mac":"02:11:22:33:44:55","portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}'"#;

/// Lets the plugin run, and keeps what it was told.
const WITNESS: &str = "#!/bin/sh\ntee /run/told-$CNI_COMMAND | /opt/real-bridge\n";

/// Builds go/attach.go; `None`, with the reason, where there is no Go libcni to build it with.
fn attach() -> Option<PathBuf> {
    let library = Path::new(GO_LIBRARIES).join("src/github.com/containernetworking/cni/libcni");
    if Command::new("go").arg("version").output().is_err() || !library.exists() {
        eprintln!("skipped: no Go with its libcni here (packages golang-go, golang-github-appc-cni-dev)");
        return None;
    }
    let program = lab::bin_dir().join("go-attach");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg(concat!(env!("CARGO_MANIFEST_DIR"), "/go/attach.go"));
    build.env("GO111MODULE", "off").env("GOPATH", GO_LIBRARIES).env("GOCACHE", lab::bin_dir().join("go-cache"));
    build.env("CGO_ENABLED", "0");
    assert!(build.status().expect("run go").success(), "go build failed");
    Some(program)
}

/// A machine where both run, on a network of that version.
fn machine(attach: &Path, version: &str) -> Machine {
    let machine = Machine::new("go");
    machine.sh(&format!("ln -s {} /run/bin/attach", attach.display()));
    machine.install_reference(&["portmap"]);
    machine.sh("mv /opt/cni/bin/bridge /opt/real-bridge");
    machine.write("/opt/cni/bin/bridge", WITNESS);
    machine.sh("chmod +x /opt/cni/bin/bridge");
    machine.configure(&json!({
        "cniVersion": version, "name": "pods",
        "plugins": [
            {
                "type": "bridge", "isDefaultGateway": true, "ipMasq": true, "capabilities": { "mac": true },
                "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.22.0.0/16" }]] },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    }));
    machine.make_pod("web");
    machine
}

impl Program {
    fn call(self, machine: &Machine, command: &str) -> Result<String, String> {
        match self {
            // DEL and CHECK by cnitool take their arguments from the caller, as the Go cnitool does.
            Program::Ours => machine.cnitool(VARIABLES, command, "pods", "web"),
            Program::Go => machine.try_sh(&format!("{VARIABLES} attach {command} pods {} /run/netns/web", id(machine))),
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Program {
    Ours,
    Go,
}

/// cnitool's container ID for the Pod.
fn id(machine: &Machine) -> String {
    let hash = machine.sh("printf /run/netns/web | sha512sum | cut -c 1-20");
    format!("cnitool-{}", hash.trim())
}

/// The only file in the cache, with hardware addresses that are made up each time left out.
fn cached(machine: &Machine) -> String {
    let files = machine.sh("cd /var/lib/cni/results && ls && stat -c '%a %n' . *");
    let name = format!("pods-{}-eth0", id(machine));
    assert_eq!(files, format!("{name}\n700 .\n600 {name}\n"));
    let mut text = machine.sh("cat /var/lib/cni/results/*");
    let document: Value = serde_json::from_str(&text).unwrap();
    for interface in document["result"]["interfaces"].as_array().into_iter().flatten().take(2) {
        text = text.replace(interface["mac"].as_str().unwrap(), "some");
    }
    text
}

/// The result that the bridge plugin was told on `command`, the same masked way.
fn told(machine: &Machine, command: &str) -> Value {
    let told: Value = serde_json::from_str(&machine.sh(&format!("cat /run/told-{command}"))).unwrap();
    told["prevResult"].clone()
}

#[test]
fn what_one_added_the_other_checks_and_deletes() {
    let Some(attach) = attach() else { return };
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        let machine = machine(&attach, version);
        for (adds, removes) in [(Program::Ours, Program::Go), (Program::Go, Program::Ours)] {
            adds.call(&machine, "add").unwrap();
            let added: Value = serde_json::from_str(&machine.sh("cat /var/lib/cni/results/*")).unwrap();
            if version != "0.3.1" {
                // portmap 1.1.1 can't CHECK what it did; the bridge is asked before it.
                let _ = removes.call(&machine, "check");
                assert_eq!(told(&machine, "CHECK"), added["result"], "{version}, {adds:?} then {removes:?}");
            }
            removes.call(&machine, "del").unwrap();
            let expected = if version == "0.3.1" { Value::Null } else { added["result"].clone() };
            assert_eq!(told(&machine, "DEL"), expected, "{version}, {adds:?} then {removes:?}");
            assert_eq!(machine.residue(), Vec::<String>::new(), "{version}, {adds:?} then {removes:?}");
        }
    }
}

#[test]
fn the_files_are_the_same_to_the_byte_but_for_the_path_that_newer_ones_of_go_write_too() {
    let Some(attach) = attach() else { return };
    for version in ["0.3.1", "0.4.0", "1.0.0"] {
        let machine = machine(&attach, version);
        let [ours, theirs] = [Program::Ours, Program::Go].map(|program| {
            program.call(&machine, "add").unwrap();
            let text = cached(&machine);
            program.call(&machine, "del").unwrap();
            machine.sh("rm -r /var/lib/cni/networks");
            text
        });
        // libcni 1.1.2 has not yet the key that 1.2 brought.
        assert_eq!(
            ours.replacen(r#","netns":"/run/netns/web""#, "", 1),
            theirs.replacen(r#","netns":"/run/netns/web""#, "", 1),
            "{version}"
        );
    }
}

#[test]
fn what_containerd_added_our_cnitool_collects() {
    let machine = Machine::new("collect");
    machine.configure(&json!({
        "cniVersion": "1.0.0", "name": "pods",
        "plugins": [{
            "type": "bridge", "isDefaultGateway": true, "ipMasq": true,
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.22.0.0/16" }]] },
        }],
    }));
    let containerd = Containerd::start(&machine);
    let cri = containerd.cri();
    let pod = cri.run_pod(&PodConfig::new("one")).unwrap();
    let ip = cri.pod_status(&pod).unwrap().ips[0].clone();
    machine.sh("cnitool gc pods");
    assert!(machine.netns.pings(&ip), "the namespace is there, so it is valid");
    machine.sh("cnitool gc --all pods");
    // containerd gave the Pod its `lo` as an attachment of another network.
    let left: Vec<_> = machine.residue().into_iter().filter(|line| !line.contains("/cni-loopback-")).collect();
    assert_eq!(left, Vec::<String>::new());
    // To containerd it is a Pod whose network is gone already.
    cri.remove_pod(&pod).unwrap();
    assert_eq!(machine.residue(), Vec::<String>::new());
}
