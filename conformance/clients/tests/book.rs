//! README.md and the book, run as they are written: every conflist wires Pods, every recorded output comes again, and
//! the commands of the runtimes' pages work. An image of the tests' own takes the place of one from a registry.

use clients::book::{self, block};
use clients::containerd::{Containerd, pack_image};
use clients::machine::{Machine, cgroup};
use serde_json::Value;

/// Where a runtime's page says that conflists are.
const NET_D: &str = "/etc/cni/net.d";

/// A machine that is node-0 of the book's node map, which is in its place.
fn node(label: &str) -> Machine {
    let machine = Machine::new(label);
    machine.sh("ip link add uplink type veth peer name router; ip link set uplink up; ip link set router up
        ip addr add 10.240.0.4/24 dev uplink; ip addr add fd00:240::4/64 dev uplink nodad
        ip route add default via 10.240.0.1; ip -6 route add default via fd00:240::1");
    let files = book::blocks("docs/src/node-map.md").into_iter();
    let map = files.filter(|block| block.info.starts_with("json file=")).map(|block| block.text).next();
    machine.write("/etc/cni/nodes.json", &map.expect("docs/src/node-map.md has a map"));
    machine
}

/// Puts a conflist where runtimes look, and those plugins of it that are not podwire's where they find them.
fn configure(machine: &Machine, text: &str) -> Value {
    let list: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    for plugin in types(&list) {
        if machine.file(&format!("/opt/cni/bin/{plugin}")).symlink_metadata().is_err() {
            machine.install_reference(&[plugin]);
        }
    }
    machine.configure(&list);
    list
}

fn types(list: &Value) -> Vec<&str> {
    list["plugins"].as_array().unwrap().iter().map(|plugin| plugin["type"].as_str().unwrap()).collect()
}

/// Two Pods get addresses, reach each other, pass CHECK, and leave nothing.
fn wires_pods(page: &str, text: &str) {
    println!("{page}: {text}");
    let machine = node("book");
    let list = configure(&machine, text);
    let network = list["name"].as_str().unwrap();
    let pods = ["blue", "green"];
    let results = pods.map(|pod| machine.add(network, pod));
    if types(&list) == ["loopback"] {
        assert!(machine.in_pod("blue", "ping -c 1 -W 1 127.0.0.1").is_ok());
    } else {
        for ip in results[1]["ips"].as_array().unwrap() {
            let address = ip["address"].as_str().unwrap().split('/').next().unwrap();
            machine
                .in_pod("blue", &format!("ping -c 1 -W 2 {address}"))
                .unwrap_or_else(|error| panic!("{page}: {error}"));
        }
    }
    for pod in pods {
        // CHECK of portmap 1.1.1 fails behind any plugin.
        if !types(&list).contains(&"portmap") {
            machine.check(network, pod);
        }
        machine.del(network, pod);
        machine.del(network, pod);
    }
    assert_eq!(machine.residue(), Vec::<String>::new(), "{page}");
}

#[test]
fn every_conflist_of_the_book_wires_pods() {
    let mut count = 0;
    for page in book::pages() {
        for block in book::blocks(&page).iter().filter(|block| block.info == "json conflist") {
            wires_pods(&page, &block.text);
            count += 1;
        }
    }
    assert!(count >= 10, "only {count} conflists are found");
}

#[test]
fn every_recorded_output_comes_again() {
    let mut count = 0;
    for page in book::pages() {
        let mut conflist = None;
        for block in book::blocks(&page) {
            match block.info.as_str() {
                "json conflist" => conflist = Some(block.text),
                "console run" => {
                    let machine = node("book");
                    configure(&machine, conflist.as_deref().expect("a conflist before the commands"));
                    for step in book::steps(&block) {
                        let said = machine.sh(&step.command);
                        let lines: Vec<&str> = said.lines().collect();
                        let shown = step.output.join("\n");
                        assert!(
                            book::is_shown(&step.output, &lines),
                            "{page}: {}\n--- shown\n{shown}\n--- printed\n{said}",
                            step.command
                        );
                    }
                    assert_eq!(machine.residue(), Vec::<String>::new(), "{page}");
                    count += 1;
                }
                _ => {}
            }
        }
    }
    assert!(count >= 4, "only {count} are found");
}

/// What can't be run here has at least the right form.
#[test]
fn every_script_and_every_json_text_can_be_parsed() {
    let machine = Machine::bare("book");
    for page in book::pages() {
        for block in book::blocks(&page) {
            match block.info.split(' ').next().unwrap() {
                "json" => {
                    let parsed = serde_json::from_str::<Value>(&block.text);
                    assert!(parsed.is_ok(), "{page}: {parsed:?} in {}", block.text);
                }
                "sh" => {
                    machine.write("/run/script", &block.text);
                    machine.try_sh("sh -n /run/script").unwrap_or_else(|error| panic!("{page}: {error}"));
                }
                _ => {}
            }
        }
    }
}

/// A machine with files of examples/conflists copied as the book says.
fn machine(label: &str, conflists: &[&str]) -> Machine {
    let machine = Machine::new(label);
    for name in conflists {
        machine.write(&format!("{NET_D}/{name}"), &book::read(&format!("examples/conflists/{name}")));
    }
    machine
}

/// The block's commands, with what only a registry could serve replaced.
/// `command` prints the container's addresses.
fn with_our_image(block: &str, cgroup: &str, command: &str) -> String {
    let run = block.lines().filter(|line| !line.contains("image pull"));
    let run = run.map(|line| line.replace(" --rm", &format!(" --rm {cgroup}")).replace("ip addr", command));
    run.map(|line| line.replace("docker.io/library/busybox:latest", clients::containerd::IMAGE) + "\n").collect()
}

#[test]
fn by_hand() {
    for page in ["README.md", "docs/src/runtimes/by-hand.md"] {
        let machine = machine("hand", &["10-podwire-dual-stack.conflist"]);
        machine.sh(&format!("set -x\n{}", block(page, "ip netns add blue")));
        assert_eq!(machine.residue(), Vec::<String>::new());
    }
}

#[test]
fn with_ctr() {
    let page = "docs/src/runtimes/containerd.md";
    let machine = machine("ctr", &["10-podwire-dual-stack.conflist", "99-loopback.conflist"]);
    assert_eq!(block("README.md", "ctr run"), block(page, "ctr run"));
    let _containerd = Containerd::start(&machine);
    machine.sh("ctr images import /run/pod.tar");
    let said =
        machine.sh(&with_our_image(&block(page, "ctr run"), &format!("--cgroup {}/hello", cgroup()), "/pod addresses"));
    assert!(said.contains("10.244.0.2") && said.contains("127.0.0.1"), "{said}");
    assert_eq!(machine.residue(), Vec::<String>::new());
}

#[test]
fn with_podman() {
    let page = "docs/src/runtimes/podman.md";
    let machine = machine("podman", &["10-podwire-ipv4.conflist"]);
    let here = "\n[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"runc\"\n[containers]\napparmor_profile = \"\"\n";
    machine.write("/etc/containers/containers.conf", &(block(page, "network_backend") + here));
    pack_image(&machine);
    machine.sh("podman load --input /run/pod.tar");
    let run = with_our_image(&block(page, "podman run"), &format!("--cgroup-parent {}", cgroup()), "addresses");
    let said = machine.sh(&run);
    assert!(said.contains("podwire") && said.contains("10.244.0.2"), "{said}");
    assert_eq!(machine.residue(), Vec::<String>::new());
}

/// What `kubectl get nodes -o json` prints of two nodes, less what the book's command does not look at.
const NODES: &str = r#"{"apiVersion": "v1", "kind": "List", "items": [
  {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "cp-0", "labels": {"kubernetes.io/os": "linux"}},
   "spec": {"podCIDR": "10.244.0.0/24", "podCIDRs": ["10.244.0.0/24", "fd00:244::/64"]},
   "status": {"addresses": [{"address": "10.240.0.4", "type": "InternalIP"}, {"address": "fd00:240::4", "type": "InternalIP"},
                            {"address": "198.51.100.7", "type": "ExternalIP"}, {"address": "cp-0", "type": "Hostname"}]}},
  {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "worker-0"},
   "spec": {"podCIDR": "10.244.1.0/24", "podCIDRs": ["10.244.1.0/24", "fd00:244:0:1::/64"]},
   "status": {"addresses": [{"address": "10.240.0.5", "type": "InternalIP"}, {"address": "fd00:240::5", "type": "InternalIP"},
                            {"address": "worker-0", "type": "Hostname"}]}}]}"#;

#[test]
fn the_map_that_the_kubernetes_page_makes_is_followed() {
    let page = "docs/src/runtimes/kubernetes.md";
    let machine = node("kube");
    if machine.try_sh("command -v jq").is_err() {
        eprintln!("skipped: no jq here");
        return;
    }
    machine.write("/run/nodes", NODES);
    machine.write("/run/bin/kubectl", "#!/bin/sh\n[ \"$*\" = 'get nodes -o json' ] && cat /run/nodes");
    let script = block(page, "kubectl get nodes") + &block(page, "mv /etc/cni/nodes.json.new");
    machine.sh(&format!("chmod +x /run/bin/kubectl; cd /etc/cni\n{script}"));
    configure(&machine, &block(page, "routed-veth"));
    machine.sh(&block(page, "--sync"));
    let routes = machine.sh("ip route show proto 112; ip -6 route show proto 112");
    assert!(routes.contains("10.244.1.0/24 via 10.240.0.5"), "{routes}");
    assert!(routes.contains("fd00:244:0:1::/64 via fd00:240::5"), "{routes}");
    machine.add("podwire", "blue");
    machine.del("podwire", "blue");
}

/// The commands that remove what all Pods share do remove all of it.
#[test]
fn what_pods_share_is_removed_by_the_commands_in_the_book() {
    let machine = node("shared");
    let list = r#"{ "cniVersion": "1.0.0", "name": "podwire", "plugins": [
        { "type": "bridge", "isDefaultGateway": true, "macspoofchk": true, "nodes": "/etc/cni/nodes.json",
          "nodeRoutes": false, "ipam": { "type": "host-local" } },
        { "type": "vxlan-overlay", "nodes": "/etc/cni/nodes.json", "ipMasq": true }] }"#;
    let left = "ip -br link | cut -d' ' -f1; nft list tables; ip route show table all proto 112; ip -6 route show table all proto 112";
    let before = machine.sh(left);
    configure(&machine, list);
    machine.add("podwire", "blue");
    machine.del("podwire", "blue");
    assert_ne!(machine.sh(left), before);
    machine.sh(&block("docs/src/state.md", "ip link del cni0"));
    assert_eq!(machine.sh(left), before);
}
