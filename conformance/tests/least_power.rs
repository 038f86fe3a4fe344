//! The least power that plugins work with: with all capabilities but theirs taken away, with each of theirs taken away, and
//! in a user namespace of somebody who is not root.

#[path = "common/mod.rs"]
mod common;

use std::os::unix::fs::PermissionsExt;
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
        ("vxlan-overlay", json!({"ipMasq": true, "nodes": nodes, "ipam": from_the_map})),
    ]
}

/// Executes a plugin with a bounding set changed so; its result, or what it printed.
fn call(node: &Node, plugin: &str, command: &str, pod: &Pod, config: &Value, set: &str) -> Result<Value, String> {
    let file = node.file("config");
    std::fs::write(&file, config.to_string()).unwrap();
    let ifname = if plugin == "loopback" { "lo" } else { "eth0" };
    let script = format!(
        "exec setpriv --bounding-set={set} --inh-caps={set} env CNI_COMMAND={command} CNI_CONTAINERID=a \
         CNI_IFNAME={ifname} CNI_NETNS={} CNI_PATH={path} {path}/{plugin} < {}",
        pod.netns().path().display(),
        file.display(),
        path = node.cni_path(),
    );
    node.netns.try_sh(&script).map(|stdout| serde_json::from_str(&stdout).unwrap_or(Value::Null))
}

/// ADD, CHECK, STATUS, GC and DEL, up to the first that fails.
fn everything(node: &Node, plugin: &str, keys: &Value, set: &str) -> Result<(), String> {
    let pod = Pod::new("a");
    let mut config = json!({"cniVersion": "1.1.0", "name": format!("{plugin}-net"), "type": plugin});
    config.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    config["cni.dev/valid-attachments"] = json!([{"containerID": "a", "ifname": "eth0"}]);
    config["prevResult"] = match call(node, plugin, "ADD", &pod, &config, set) {
        Ok(result) => result,
        Err(error) => {
            call(node, plugin, "DEL", &pod, &config, "-setpcap").expect("the DEL that follows a failed ADD");
            return Err(error);
        }
    };
    ["CHECK", "STATUS", "GC", "DEL"].iter().try_for_each(|command| {
        let mut config = config.clone();
        if *command == "STATUS" || *command == "GC" {
            config.as_object_mut().unwrap().remove("prevResult");
        }
        call(node, plugin, command, &pod, &config, set).map(drop)
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
