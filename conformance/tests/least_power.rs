//! The least power that plugins work with: with all capabilities but theirs taken away, with each of theirs taken away, and
//! in a user namespace of somebody who is not root.

#[path = "common/mod.rs"]
mod common;

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use conformance::lab::{Node, Pod, bin_dir};
use serde_json::{Value, json};

/// Every plugin with keys that make it do the most.
fn plugins(node: &Node) -> Vec<(&'static str, Value)> {
    let store = node.file("store").display().to_string();
    let ranges = json!([[{"subnet": "10.7.0.0/24"}], [{"subnet": "fd00:7::/64"}]]);
    let ipam = json!({"type": "host-local", "dataDir": store, "ranges": ranges});
    let nodes = json!([
        {"name": "a", "addresses": ["192.0.2.1"], "podCIDRs": ["10.8.0.0/24"]},
        {"name": "b", "addresses": ["192.0.2.2"], "podCIDRs": ["10.8.1.0/24"]},
    ]);
    let from_the_map = json!({"type": "host-local", "dataDir": store});
    let bridge =
        json!({"isGateway": true, "ipMasq": true, "macspoofchk": true, "ipspoofchk": true, "ipam": ipam.clone()});
    vec![
        ("loopback", json!({})),
        ("host-local", json!({"ipam": ipam.clone()})),
        ("bridge", bridge),
        ("routed-veth", json!({"ipMasq": true, "ipam": ipam})),
        ("ptp", json!({"ipMasq": true, "ipam": ipam})),
        ("vxlan-overlay", json!({"ipMasq": true, "nodes": nodes, "ipam": from_the_map})),
    ]
}

/// With what power a plugin is executed: how the bounding set is changed, and variables beside those of the protocol.
#[derive(Clone, Copy)]
struct Power<'a> {
    set: &'a str,
    variables: &'a str,
}

/// Executes a plugin; its result, or what it printed.
fn call(node: &Node, plugin: &str, command: &str, pod: &Pod, config: &Value, power: Power) -> Result<Value, String> {
    let file = node.file("config");
    std::fs::write(&file, config.to_string()).unwrap();
    let ifname = if plugin == "loopback" { "lo" } else { "eth0" };
    let Power { set, variables } = power;
    let script = format!(
        "exec setpriv --bounding-set={set} --inh-caps={set} env {variables} CNI_COMMAND={command} CNI_CONTAINERID=a \
         CNI_IFNAME={ifname} CNI_NETNS={} CNI_PATH={path} {path}/{plugin} < {}",
        pod.netns().path().display(),
        file.display(),
        path = node.cni_path(),
    );
    node.netns.try_sh(&script).map(|stdout| serde_json::from_str(&stdout).unwrap_or(Value::Null))
}

/// ADD, CHECK, STATUS, GC and DEL, up to the first that fails.
fn everything(node: &Node, plugin: &str, keys: &Value, set: &str) -> Result<(), String> {
    everything_with(node, plugin, keys, Power { set, variables: "" })
}

fn everything_with(node: &Node, plugin: &str, keys: &Value, power: Power) -> Result<(), String> {
    let pod = Pod::new("a");
    let mut config = json!({"cniVersion": "1.1.0", "name": format!("{plugin}-net"), "type": plugin});
    config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    config["cni.dev/valid-attachments"] = json!([{"containerID": "a", "ifname": "eth0"}]);
    config["prevResult"] = match call(node, plugin, "ADD", &pod, &config, power) {
        Ok(result) => result,
        Err(error) => {
            call(node, plugin, "DEL", &pod, &config, Power { set: "-setpcap", variables: "" })
                .expect("the DEL that follows a failed ADD");
            return Err(error);
        }
    };
    ["CHECK", "STATUS", "GC", "DEL"].iter().try_for_each(|command| {
        let mut config = config.clone();
        if *command == "STATUS" || *command == "GC" {
            config.as_object_mut().unwrap().remove("prevResult");
        }
        call(node, plugin, command, &pod, &config, power).map(drop)
    })
}

#[test]
fn two_capabilities_are_enough_and_the_error_names_the_one_that_lacks_and_addresses_need_none() {
    let node = Node::new("node");
    let _outside = common::outside(&node);
    let needed = ["net_admin", "sys_admin"];
    for (plugin, keys) in plugins(&node) {
        if plugin == "host-local" {
            everything(&node, plugin, &keys, "-all").expect("host-local needs no capability");
            continue;
        }
        everything(&node, plugin, &keys, "-all,+net_admin,+sys_admin").expect("two capabilities are enough");
        for capability in needed {
            let error = everything(&node, plugin, &keys, &format!("-{capability}"))
                .expect_err(&format!("{plugin} works without {capability}: SECURITY.md says otherwise"));
            assert!(error.contains(&format!("CAP_{}", capability.to_uppercase())), "{plugin}: {error}");
        }
    }
}

/// A program that anybody may execute.
fn script(path: &Path, text: &str) {
    std::fs::write(path, format!("#!/bin/sh\n{text}\n")).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn variables_that_are_not_cnis_change_nothing_and_programs_in_path_are_not_executed() {
    let node = Node::new("node");
    let _outside = common::outside(&node);
    let (planted, touched) = (node.file("planted"), node.file("touched"));
    std::fs::create_dir(&planted).unwrap();
    for program in ["nft", "ip", "iptables", "sysctl", "modprobe", "sh", "host-local", "bridge"] {
        script(&planted.join(program), &format!("echo {program} >> {}", touched.display()));
    }
    let directory = planted.display();
    let variables = format!(
        "PATH={directory} HOME={directory} TMPDIR={directory} XDG_RUNTIME_DIR={directory} NETCONFPATH={directory} \
         PODWIRE_DATA_DIR={directory} DATADIR={directory} NODE_NAME=b nodeName=b HOSTNAME=b PODWIRE_NODE_NAME=b \
         MAC=02:00:00:00:00:01 IP=10.7.0.99 K8S_POD_NAME=x LANG=tr_TR.UTF-8 LC_ALL=tr_TR.UTF-8 TZ={directory}/x \
         RUST_LOG=trace RUST_BACKTRACE=full RUST_LIB_BACKTRACE=1 NO_COLOR=1 http_proxy=http://192.0.2.9:1"
    );
    let before = std::fs::read_dir(&planted).unwrap().count();
    for (plugin, keys) in plugins(&node) {
        let pod = Pod::new("a");
        let mut config = json!({"cniVersion": "1.1.0", "name": format!("{plugin}-net"), "type": plugin});
        config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let added = |variables: &str| {
            let power = Power { set: "-setpcap", variables };
            let mut result = call(&node, plugin, "ADD", &pod, &config, power).unwrap();
            call(&node, plugin, "DEL", &pod, &config, power).unwrap();
            let _ = std::fs::remove_dir_all(node.file("store"));
            // Of a bridge's wire both hardware addresses are chosen by lot, and so is the node's end of every wire.
            for interface in result["interfaces"].as_array_mut().into_iter().flatten() {
                interface.as_object_mut().unwrap().remove("mac");
            }
            result
        };
        assert_eq!(added(&variables), added(""), "{plugin}");
        everything_with(&node, plugin, &keys, Power { set: "-setpcap", variables: &variables }).unwrap();
    }
    assert!(!touched.exists(), "executed: {}", std::fs::read_to_string(touched).unwrap());
    assert_eq!(std::fs::read_dir(&planted).unwrap().count(), before, "something was written");
}

#[test]
fn what_a_runtime_left_open_is_not_seen_by_a_delegate() {
    let mut node = Node::new("node");
    let (secret, seen) = (node.file("secret"), node.file("seen"));
    std::fs::write(&secret, "").unwrap();
    let delegates = node.file("delegates");
    std::fs::create_dir(&delegates).unwrap();
    let list = format!("ls -l /proc/self/fd > {}", seen.display());
    script(&delegates.join("list"), &list);
    script(&delegates.join("an-ipam"), &format!("{list}; exec {}/host-local", bin_dir().display()));
    node.path = vec![bin_dir(), delegates.clone()];
    let pod = Pod::new("a");
    let store = node.file("store").display().to_string();
    for plugin in ["bridge", "routed-veth"] {
        let ipam = json!({"type": "an-ipam", "dataDir": store, "ranges": [[{"subnet": "10.7.0.0/24"}]]});
        let config = json!({"cniVersion": "1.1.0", "name": plugin, "type": plugin, "ipam": ipam});
        for command in ["ADD", "DEL"] {
            let file = node.file("config");
            std::fs::write(&file, config.to_string()).unwrap();
            let with_secret = |program: &Path| {
                node.netns.sh(&format!(
                    "exec 7<{secret} 8>>{secret} 9<{secret}; export CNI_COMMAND={command} CNI_CONTAINERID=a CNI_IFNAME=eth0 \
                     CNI_NETNS={netns} CNI_PATH={path}; exec {program} < {file}",
                    secret = secret.display(),
                    netns = pod.netns().path().display(),
                    path = node.cni_path(),
                    program = program.display(),
                    file = file.display(),
                ));
                let list = std::fs::read_to_string(&seen).unwrap();
                std::fs::remove_file(&seen).unwrap();
                list.lines().filter(|line| line.ends_with("/secret")).count()
            };
            assert_eq!(with_secret(&bin_dir().join(plugin)), 0, "{plugin} {command}");
            assert_eq!(with_secret(&delegates.join("list")), 3, "what the runtime itself executes inherits them");
        }
    }
}

#[test]
fn nobody_wires_pods_in_a_user_namespace() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let open = |mode| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::create_dir(path.join("net.d")).unwrap();
    for program in ["bridge", "host-local", "routed-veth", "cnitool"] {
        std::fs::copy(bin_dir().join(program), path.join(program)).unwrap();
    }
    let ipam = json!({"type": "host-local", "dataDir": "/run/store", "ranges": [[{"subnet": "10.7.0.0/24"}], [{"subnet": "fd00:7::/64"}]]});
    for plugin in ["bridge", "routed-veth"] {
        let keys = json!({"type": plugin, "ipMasq": true, "ipam": ipam});
        let mut list = json!({"cniVersion": "1.1.0", "name": plugin, "plugins": [keys]});
        if plugin == "bridge" {
            list["plugins"][0]["isDefaultGateway"] = json!(true);
        }
        std::fs::write(path.join("net.d").join(format!("{plugin}.conflist")), list.to_string()).unwrap();
    }
    open(0o755);
    let script = format!(
        "set -e; mount -t tmpfs none /run; mount -t tmpfs none /var/lib; cd {path}; ip link set lo up
         export CNI_PATH={path} NETCONFPATH={path}/net.d
         for network in bridge routed-veth; do
           ip netns add a; ip netns add b
           ./cnitool add $network /run/netns/a; ./cnitool add $network /run/netns/b
           address=$(ip -n b -4 -o addr show eth0 | awk '{{print $4}}' | cut -d/ -f1)
           ip netns exec a ping -n -c 1 -W 5 $address
           ./cnitool check $network /run/netns/a
           ./cnitool gc $network; ./cnitool del $network /run/netns/a; ./cnitool del $network /run/netns/b
           ip netns del a; ip netns del b
         done
         ! nft list ruleset | grep elements
         ls /run/store/*",
        path = path.display()
    );
    let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    let output = Command::new("setpriv")
        .args(nobody)
        .args(["unshare", "--user", "--map-root-user", "--mount", "--net", "sh", "-c", &script])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    assert!(!said.lines().any(|line| line.starts_with("10.7.")), "an address is held: {said}");
}
