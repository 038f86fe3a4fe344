//! A map that is replaced while Pods run.

use conformance::cluster::Cluster;
use conformance::lab::{Node, Pod};
use conformance::watch::Monitor;
use serde_json::{Value, json};

use crate::{DUAL, PLUGINS, add, config_of, gc, sync};

/// What brings a node to what the map says.
const MEANS: [&str; 3] = ["ADD", "GC", "--sync"];

fn follow(means: &str, node: &Node, config: &Value, living: &Pod) -> Option<Pod> {
    match means {
        "ADD" => {
            let pod = Pod::new("next");
            add(node, &pod, config);
            return Some(pod);
        }
        "GC" => drop(gc(node, config, &[living]).ok()),
        _ => {
            let said = sync(node, config).unwrap();
            assert!(said.starts_with("network \"pods\": "), "{said}");
        }
    }
    None
}

/// What leads to other nodes.
fn leads(node: &Node) -> String {
    node.netns.sh("ip route show proto 112; ip -6 route show proto 112
         ip -o link show type vxlan | cut -d: -f2 | while read d; do
             ip neigh show dev $d nud permanent; ip -6 neigh show dev $d nud permanent; bridge fdb show dev $d; done")
}

#[test]
fn add_gc_and_sync_of_each_plugin_follow_a_map_and_disturb_nothing_of_nodes_that_stayed() {
    for plugin in PLUGINS {
        for means in MEANS {
            let what = format!("{plugin} {means}");
            let cluster = Cluster::new(DUAL, 3);
            let node = cluster.node(0);
            let mut config = config_of(&cluster, 0, plugin);
            config["ipMasq"] = json!(true);
            let living = Pod::new("living");
            let result = add(node, &living, &config);
            let pod_before = living.netns().state();
            assert!(leads(node).contains("10.244.2.0/24"), "{what}");

            // node-2 leaves, node-7 joins, node-1 stays.
            let joins = json!({"name": "node-7", "addresses": ["10.240.0.7", "fd00:240::7"], "podCIDRs": ["10.244.7.0/24", "fd00:244:0:7::/64"]});
            cluster.write_entries(vec![cluster.entry(0), cluster.entry(1), joins]);
            let monitor = Monitor::start(&node.netns);
            let pod_monitor = Monitor::start(living.netns());
            let next = follow(means, node, &config, &living);
            let events = monitor.stop();
            assert_eq!(pod_monitor.stop(), [""; 0], "{what}: the living Pod was touched");
            assert!(living.netns().state() == pod_before, "{what}: the living Pod was touched");

            let leads = leads(node);
            for stale in ["10.244.2.", "fd00:244:0:2:", "10.240.0.6", "fd00:240::6"] {
                assert!(!leads.contains(stale), "{what}: still {stale} in\n{leads}");
            }
            for wanted in ["10.244.7.0/24", "fd00:244:0:7::/64", "10.244.1.0/24", "fd00:244:0:1::/64"] {
                assert!(leads.contains(wanted), "{what}: no {wanted} in\n{leads}");
            }
            let stayed = ["10.244.1.0", "fd00:244:0:1:", "fd00:244::1:0", " dst 10.240.0.5"];
            let ours =
                |line: &&String| line.contains("proto 112") || line.contains("vxlan") || line.starts_with("Deleted");
            // The witnesses' own table leads nowhere.
            let in_main = |event: &&String| !event.contains(" table ");
            for event in events.iter().filter(ours).filter(in_main) {
                assert!(!stayed.iter().any(|part| event.contains(part)), "{what}: disturbed: {event}");
                // On the overlay's device an FDB entry is shown by its remote alone.
                assert!(!(event.contains("dev vxlan") && event.contains("10.240.0.5")), "{what}: disturbed: {event}");
                assert!(!event.starts_with("Deleted") || !event.contains(": vxlan"), "{what}: disturbed: {event}");
            }
            assert!(events.iter().any(|event| event.starts_with("Deleted 10.244.2.0/24")), "{what}: {events:#?}");

            // Masquerade has followed too.
            let inside = node.netns.sh("nft list ruleset");
            assert!(inside.contains("10.244.7.0/24") && !inside.contains("10.244.2.0/24"), "{what}: {inside}");
            let mut check = config.clone();
            check["prevResult"] = result;
            node.call(plugin, "CHECK", &living, &check).ok();
            // Once more: there is nothing to do.
            if means == "--sync" {
                assert_eq!(sync(node, &config).unwrap(), "network \"pods\": 0 set, 0 removed\n", "{what}");
            }
            drop(next);
        }
    }
}

#[test]
fn what_somebody_else_put_beside_ours_stays() {
    let cluster = Cluster::new(DUAL, 3);
    let node = cluster.node(0);
    let config = config_of(&cluster, 0, "vxlan-overlay");
    let living = Pod::new("living");
    add(node, &living, &config);
    // Another program's: another protocol, another metric, a neighbor that says no protocol.
    node.netns
        .sh("ip route add 10.77.0.0/16 via 10.240.0.1 proto static; ip route add 10.78.0.0/16 via 10.240.0.1 proto 112
         ip neigh add 10.244.9.0 lladdr 02:00:00:00:00:99 dev vxlan.1 nud permanent");
    cluster.write_map(&[0, 1]);
    gc(node, &config, &[&living]).ok();
    let there = node.netns.sh("ip route; ip neigh show nud permanent");
    for part in ["10.77.0.0/16", "10.78.0.0/16", "10.244.9.0 dev vxlan.1"] {
        assert!(there.contains(part), "{part} is gone:\n{there}");
    }
    assert!(!there.contains("10.244.2.0"), "{there}");
}

#[test]
fn an_underlay_that_went_down_and_up_is_noticed_by_the_next_add() {
    for plugin in ["bridge", "routed-veth", "ptp"] {
        let cluster = Cluster::new(DUAL, 3);
        let node = cluster.node(0);
        let config = config_of(&cluster, 0, plugin);
        let (first, second) = (Pod::new("first"), Pod::new("second"));
        add(node, &first, &config);
        let routes = || node.netns.sh("(ip route; ip -6 route) | grep 'via.*proto 112' || true");
        let before = routes();
        assert_eq!(before.lines().count(), 4, "{before}");
        node.netns.sh("ip link set eth0 down; ip link set eth0 up; ip addr add fd00:240::4/64 dev eth0 nodad");
        assert_eq!(routes(), "");
        add(node, &second, &config);
        assert_eq!(routes(), before, "{plugin}");
    }
}

#[test]
fn an_add_notices_routes_that_were_flushed_and_brings_back_those_to_living_pods_too() {
    let flushes = [
        "ip route flush table main proto 112",
        "ip -6 route flush table main proto 112",
        "ip route flush dev eth0; ip route add 10.240.0.0/24 dev eth0 src 10.240.0.4",
    ];
    for plugin in PLUGINS {
        for flush in flushes {
            let what = format!("{plugin}: {flush}");
            let cluster = Cluster::new(DUAL, 3);
            let node = cluster.node(0);
            let config = config_of(&cluster, 0, plugin);
            let (first, second, third) = (Pod::new("first"), Pod::new("second"), Pod::new("third"));
            add(node, &first, &config);
            let routes = || node.netns.sh("(ip route; ip -6 route) | grep -E '^(10|fd00).*proto 112'");
            let before = routes();
            node.netns.try_sh(flush).unwrap();
            let monitor = Monitor::start(&node.netns);
            add(node, &second, &config);
            monitor.stop();
            for line in before.lines() {
                assert!(routes().contains(line), "{what}: {line}\n{}", routes());
            }
            // An ADD that misses nothing changes no route but its own Pod's.
            let there = routes();
            let monitor = Monitor::start(&node.netns);
            add(node, &third, &config);
            let events = monitor.stop();
            let of_others = |event: &&String| there.lines().any(|line| event.contains(line.trim_end()));
            assert_eq!(events.iter().find(of_others), None, "{what}");
        }
    }
}

#[test]
fn gc_puts_back_a_single_route_that_somebody_removed_and_check_misses_it() {
    for plugin in PLUGINS {
        let cluster = Cluster::new(DUAL, 3);
        let node = cluster.node(0);
        let mut config = config_of(&cluster, 0, plugin);
        let living = Pod::new("living");
        let result = add(node, &living, &config);
        let before = leads(node);
        let breaks = match plugin {
            "vxlan-overlay" => vec![
                "ip route del 10.244.1.0/24",
                "ip -6 route del fd00:244:0:1::/64",
                "ip neigh del 10.244.1.0 dev vxlan.1",
                "bridge fdb del $(bridge fdb show dev vxlan.1 | cut -d' ' -f1 | head -1) dev vxlan.1 self",
                "ip link set vxlan.1 mtu 1400",
                "bridge fdb add 02:00:00:00:00:aa dev vxlan.1 dst 10.240.0.99 self permanent",
            ],
            _ => vec!["ip route del 10.244.1.0/24", "ip -6 route del fd00:244:0:1::/64"],
        };
        for broken in breaks {
            node.netns.sh(broken);
            config["prevResult"] = result.clone();
            let reply = node.call(plugin, "CHECK", &living, &config);
            assert_eq!(reply.code(), 102, "{plugin}: {broken}: {} {}", reply.stdout, reply.stderr);
            config.as_object_mut().unwrap().remove("prevResult");
            gc(node, &config, &[&living]).ok();
            let after = leads(node);
            let sorted = |text: &str| {
                let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
                lines.sort();
                lines
            };
            assert_eq!(sorted(&after), sorted(&before), "{plugin}: {broken}");
        }
    }
}
