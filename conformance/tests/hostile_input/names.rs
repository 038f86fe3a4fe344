//! Names that become a path, an interface or an identifier of nftables: what is no name is refused, and nothing is touched.

use super::*;

/// What would lead elsewhere, or name something else than it says.
const PATHS: [&str; 9] = ["../escape", "a/b", "/escape", ".", "..", "a\0b", "a b", "-x", "\u{e9}"];

fn call(node: &Node, plugin: &str, command: &str, pod: (&str, &str), config: &Value) -> Reply {
    let path = node.cni_path();
    let variables = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", pod.0),
        ("CNI_IFNAME", pod.1),
        ("CNI_NETNS", "/never/opened"),
        ("CNI_PATH", path.as_str()),
    ];
    node.execute(plugin, &variables, config.to_string().as_bytes())
}

/// A node whose directory holds nothing but an empty one.
fn empty_node() -> Node {
    let node = Node::new("names");
    std::fs::create_dir(node.file("data")).unwrap();
    node
}

#[track_caller]
fn assert_untouched(node: &Node) {
    let here: Vec<_> = std::fs::read_dir(node.files.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(here, ["data"]);
    assert_eq!(std::fs::read_dir(node.file("data")).unwrap().count(), 0);
    assert!(node.netns.ip("link show")[1].is_null(), "an interface was made");
}

fn config(node: &Node, name: &str) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": name, "type": "any", "bridge": "b0",
        "nodes": [{"name": "n", "addresses": ["10.240.0.1"], "podCIDRs": ["10.5.0.0/24"]}], "nodeName": "n",
        "ipam": {"type": "host-local", "dataDir": node.file("data"), "subnet": "10.5.0.0/24"},
        "cni.dev/valid-attachments": [], "prevResult": {"cniVersion": "1.1.0", "ips": []},
    })
}

#[test]
fn a_network_that_is_called_as_a_path_is_refused_by_every_plugin_and_command() {
    let node = empty_node();
    let long = "n".repeat(201);
    for plugin in PLUGINS {
        for name in PATHS.iter().copied().chain([long.as_str(), ""]) {
            for command in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
                let reply = call(&node, plugin, command, ("a", "eth0"), &config(&node, name));
                assert_eq!(reply.code(), 7, "{plugin} {command} {name:?}: {}", reply.stdout);
                assert!(reply.details().contains("\"name\""), "{plugin} {command} {name:?}: {}", reply.stdout);
            }
        }
    }
    assert_untouched(&node);
}

#[test]
fn a_container_or_an_interface_that_is_called_as_a_path_is_refused_by_every_plugin_and_command() {
    let node = empty_node();
    let config = config(&node, "n");
    let long = "c".repeat(201);
    // A variable can't hold a zero; an interface may well start with a hyphen, or be no ASCII.
    let ids = PATHS.iter().copied().filter(|id| !id.contains('\0')).chain([long.as_str()]);
    let ids: Vec<(&str, &str, &str)> = ids.map(|id| (id, "eth0", "CNI_CONTAINERID")).collect();
    let ifnames =
        ["../escape", "a/b", "/escape", ".", "..", "a b", "a:b", "eth%d", "%", "all", "default", "sixteen-bytes-ab"];
    let ifnames: Vec<(&str, &str, &str)> = ifnames.into_iter().map(|ifname| ("a", ifname, "CNI_IFNAME")).collect();
    for plugin in PLUGINS {
        for (id, ifname, variable) in ids.iter().chain(&ifnames) {
            for command in ["ADD", "DEL", "CHECK"] {
                let reply = call(&node, plugin, command, (id, ifname), &config);
                assert_eq!(reply.code(), 4, "{plugin} {command} {id:?} {ifname:?}: {}", reply.stdout);
                assert!(reply.details().contains(variable), "{plugin} {command}: {}", reply.stdout);
            }
        }
    }
    assert_untouched(&node);
}

#[test]
fn a_device_that_the_kernel_would_call_otherwise_is_refused() {
    let node = empty_node();
    let pod = Pod::new("a");
    for (plugin, key) in [("bridge", "bridge"), ("vxlan-overlay", "device"), ("vxlan-overlay", "underlayDevice")] {
        for name in [
            "a/b",
            "../x",
            "..",
            ".",
            "a b",
            "a:b",
            "br%d",
            "%s",
            "all",
            "default",
            "sixteen-bytes-ab",
            "a\0b",
            "a\u{b}",
        ] {
            let mut config = config(&node, "n");
            config[key] = json!(name);
            config.as_object_mut().unwrap().remove("prevResult");
            let reply = node.call(plugin, "ADD", &pod, &config);
            assert!(reply.code() == 7 && reply.details().contains(key), "{plugin} {name:?}: {}", reply.stdout);
        }
    }
    assert_untouched(&node);
    assert!(pod.netns().ip("link show")[1].is_null());
}

#[test]
fn an_ipam_plugin_that_is_called_as_a_path_is_never_executed() {
    use std::os::unix::fs::PermissionsExt;
    let mut node = empty_node();
    // One level up from CNI_PATH, and in the working directory: there to be found, were it looked for.
    let marked = format!("#!/bin/sh\ntouch {}\n", node.file("executed").display());
    std::fs::create_dir_all(node.file("data/bin")).unwrap();
    let trap = node.file("data/trap");
    std::fs::write(&trap, marked).unwrap();
    std::fs::set_permissions(&trap, std::fs::Permissions::from_mode(0o755)).unwrap();
    node.path = vec![node.file("data/bin")];
    let absolute = trap.display().to_string();
    for plugin in ["bridge", "routed-veth", "ptp", "vxlan-overlay"] {
        for name in ["../trap", "bin/../../trap", "./trap", "..", ".", "..\\trap", absolute.as_str(), "trap\0"] {
            let mut config = config(&node, "n");
            config["ipam"]["type"] = json!(name);
            config.as_object_mut().unwrap().remove("prevResult");
            let pod = Pod::new("a");
            let plugin = bin_dir().join(plugin).display().to_string();
            for command in ["ADD", "DEL", "GC", "STATUS"] {
                let reply = match command {
                    "ADD" | "DEL" => node.call(&plugin, command, &pod, &config),
                    _ => node.call_network(&plugin, command, &config),
                };
                // The overlay has its node map to complain of first.
                let is_told = reply.details().contains("not the name of a plugin") || plugin.contains("vxlan");
                assert!(!reply.success && is_told, "{plugin} {command} {name:?}: {}", reply.stdout);
            }
            assert!(pod.netns().ip("link show")[1].is_null());
        }
    }
    assert!(!node.file("executed").exists());
}

#[test]
fn a_list_with_a_plugin_or_a_network_that_is_called_as_a_path_is_refused_by_cnitool() {
    let node = empty_node();
    let pod = Pod::new("a");
    for (name, kind, word) in
        [("n", "../trap", "plugin binary"), ("n", "/bin/true", "plugin binary"), ("../n", "loopback", "network")]
    {
        let list = json!({"cniVersion": "1.0.0", "name": name, "plugins": [{"type": kind}]});
        std::fs::write(node.file("data/10.conflist"), list.to_string()).unwrap();
        for command in ["add", "del"] {
            let mut tool = Command::new(bin_dir().join("cnitool"));
            tool.args([command, name]).arg(pod.netns().path()).arg("--cache-dir").arg(node.file("data/cache"));
            tool.env("NETCONFPATH", node.file("data")).env("CNI_PATH", node.cni_path());
            let output = node.netns.output(&mut tool);
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success() && said.contains(word), "{command} {name} {kind}: {said}");
        }
    }
}
