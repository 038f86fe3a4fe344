//! Maps that can't be used: what the error says, and that nothing is changed.

use conformance::cluster::Cluster;
use conformance::lab::{Pod, Reply};
use serde_json::{Value, json};

use crate::{DUAL, PLUGINS, V4, add, call, config, config_of, gc, sync};

#[track_caller]
fn refused(reply: &Reply, code: u64, words: &[&str], what: &str) {
    assert_eq!(reply.code(), code, "{what}: {} {}", reply.stdout, reply.stderr);
    for word in words {
        assert!(reply.details().contains(word), "{what}: {word:?} is missing in {}", reply.stdout);
    }
}

/// The own node's entry, and one more.
fn with(other: Value) -> Value {
    json!([{"name": "node-0", "addresses": ["10.240.0.4"], "podCIDRs": ["10.244.0.0/24"]}, other])
}

#[test]
fn a_map_that_contradicts_itself_is_code_7_names_both_parties_and_changes_nothing() {
    let cluster = Cluster::new(V4, 1);
    let node = cluster.node(0);
    let pod = Pod::new("pod");
    let before = (node.netns.state(), pod.netns().state());
    for plugin in PLUGINS {
        let cases: [(Value, &[&str]); 6] = [
            (
                with(json!({"name": "b", "addresses": ["10.240.0.5"], "podCIDRs": ["10.244.0.128/25"]})),
                &["10.244.0.0/24", "\"node-0\"", "10.244.0.128/25", "\"b\""],
            ),
            (
                with(json!({"name": "node-0", "addresses": ["10.240.0.5"], "podCIDRs": ["10.244.1.0/24"]})),
                &["\"node-0\"", "twice", "0 and 1"],
            ),
            (
                with(json!({"name": "b", "addresses": ["10.240.0.4"], "podCIDRs": ["10.244.1.0/24"]})),
                &["10.240.0.4", "\"node-0\"", "\"b\""],
            ),
            (
                json!([{"name": "b", "addresses": ["10.240.0.5"], "podCIDRs": ["10.244.1.0/24"]}]),
                &["tried: 10.240.0.4", "nodeName"],
            ),
            (
                with(json!({"name": "b", "addresses": ["10.244.0.9"], "podCIDRs": ["10.244.1.0/24"]})),
                &["10.244.0.9", "\"b\"", "10.244.0.0/24", "\"node-0\""],
            ),
            // Nobody can carry it: no address in common, or none of that family.
            (
                with(json!({"name": "b", "addresses": ["fd00:240::5"], "podCIDRs": ["10.244.1.0/24"]})),
                &["\"node-0\"", "\"b\""],
            ),
        ];
        for (nodes, words) in cases {
            let config = config(node, plugin, &nodes);
            for command in ["ADD", "CHECK"] {
                let mut config = config.clone();
                if command == "CHECK" {
                    config["prevResult"] =
                        json!({"cniVersion": "1.1.0", "interfaces": [{"name": "eth0", "sandbox": "/x"}]});
                }
                refused(&call(node, command, &pod, &config), 7, words, &format!("{plugin} {command} {nodes}"));
            }
            refused(&gc(node, &config, &[]), 7, words, &format!("{plugin} GC {nodes}"));
            assert!(sync(node, &config).is_err(), "{plugin} --sync {nodes}");
            assert!((node.netns.state(), pod.netns().state()) == before, "{plugin} {nodes}: something has changed");
        }
    }
    assert!(!node.file("store").exists(), "an address was reserved");
}

#[test]
fn a_pod_cidr_that_no_address_of_its_node_can_carry_is_refused_on_node_routes_and_fine_over_vxlan() {
    let cluster = Cluster::new(DUAL, 1);
    let node = cluster.node(0);
    let mut nodes = json!([cluster.entry(0)]);
    let peer = json!({"name": "four", "addresses": ["10.240.0.5"], "podCIDRs": ["10.244.1.0/24", "fd00:244:0:1::/64"]});
    nodes.as_array_mut().unwrap().push(peer);
    let words = ["fd00:244:0:1::/64", "\"four\" has no IPv6 address", "\"node-0\"", "vxlan-overlay"];
    for plugin in ["bridge", "routed-veth", "ptp"] {
        let reply = call(node, "ADD", &Pod::new("pod"), &config(node, plugin, &nodes));
        refused(&reply, 7, &words, plugin);
    }
    add(node, &Pod::new("pod"), &config(node, "vxlan-overlay", &nodes));
    assert!(node.netns.sh("ip -6 route show proto 112").contains("fd00:244:0:1::/64"));
}

#[test]
fn a_next_hop_that_is_on_no_link_is_refused_with_what_to_use_instead() {
    let nodes = with(json!({"name": "far", "addresses": ["192.168.7.7"], "podCIDRs": ["10.244.7.0/24"]}));
    let words = ["192.168.7.7", "\"far\"", "\"node-0\"", "10.240.0.4/16", "vxlan-overlay", "\"nodeRoutes\": false"];
    for plugin in PLUGINS {
        let cluster = Cluster::new(V4, 1);
        let node = cluster.node(0);
        let mut config = config(node, plugin, &nodes);
        if plugin != "vxlan-overlay" {
            let before = node.netns.state();
            refused(&call(node, "ADD", &Pod::new("pod"), &config), 7, &words, plugin);
            assert!(node.netns.state() == before, "{plugin}: something has changed");
            config["nodeRoutes"] = json!(false);
        }
        add(node, &Pod::new("pod"), &config);
        let has_route = node.netns.sh("ip route").contains("10.244.7.0/24");
        assert_eq!(has_route, plugin == "vxlan-overlay", "{plugin}");
    }
}

#[test]
fn a_map_that_cant_be_read_fails_an_add_and_changes_nothing_and_del_needs_none() {
    for plugin in PLUGINS {
        let cluster = Cluster::new(V4, 2);
        let node = cluster.node(0);
        let whole = std::fs::read(cluster.map()).unwrap();
        let config = config_of(&cluster, 0, plugin);
        let living = Pod::new("living");
        let result = add(node, &living, &config);
        let store = node.file("store/pods");
        let held = |store: &std::path::Path| {
            let entries = std::fs::read_dir(store).unwrap().map(|entry| entry.unwrap().file_name());
            entries.filter(|name| name.to_string_lossy().starts_with("10.")).count()
        };
        // Missing, unreadable, empty, half-written, with a value that does not fit.
        let damages: [(u64, &dyn Fn()); 5] = [
            (5, &|| std::fs::remove_file(cluster.map()).unwrap()),
            (5, &|| std::fs::create_dir(cluster.map()).unwrap()),
            (6, &|| std::fs::write(cluster.map(), "").unwrap()),
            (6, &|| std::fs::write(cluster.map(), &whole[..whole.len() / 2]).unwrap()),
            (6, &|| {
                std::fs::write(cluster.map(), String::from_utf8_lossy(&whole).replace("10.244.1.0/24", "10.244.1.0"))
                    .unwrap()
            }),
        ];
        let before = node.netns.state();
        for (code, damage) in damages {
            damage();
            let pod = Pod::new("pod");
            let map = cluster.map().display().to_string();
            refused(&call(node, "ADD", &pod, &config), code, &[&map], plugin);
            let mut with_result = config.clone();
            with_result["prevResult"] = result.clone();
            refused(&call(node, "CHECK", &living, &with_result), code, &[&map], plugin);
            refused(&node.call_network(plugin, "STATUS", &config), 51, &[&map], plugin);
            refused(&gc(node, &config, &[&living]), code, &[&map], plugin);
            let error = sync(node, &config).unwrap_err();
            assert!(error.contains(&map), "{error}");
            // The failed ADD's DEL, as a runtime does it.
            call(node, "DEL", &pod, &config).ok();
            assert!(node.netns.state() == before, "{plugin}, code {code}: something has changed");
            assert_eq!(held(&store), 1, "{plugin}: only the living Pod holds an address");
            let _ = std::fs::remove_dir(cluster.map());
        }
        call(node, "DEL", &living, &config).ok();
        assert_eq!(held(&store), 0, "{plugin}");
        assert_eq!(node.netns.sh("ip -o link show type veth").lines().count(), 1, "{plugin}: a wire is left");
    }
}
