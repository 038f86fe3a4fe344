//! Routes that the kernel prefers to those of the map: every verb says so, and the command that it names brings the Pods back.

use std::net::IpAddr;

use conformance::cluster::{self, Cluster};
use conformance::lab::{Node, Pod, Reply};
use serde_json::{Value, json};

use crate::{DUAL, PLUGINS, add, call, config_of, gc, sync};

/// What leads elsewhere, for one family: the script that makes it, and the one that removes what the command leaves. `PEER` is the
/// peer's Pod CIDR, `HALF` the half of it that has its Pods, `OWN` this node's, `GATEWAY` the address that a bridge of the peer's has
/// there, `ROUTER` the underlay's router, `IIF` the link that this node's Pods are behind.
const ELSEWHERE: [(&str, &str, &str); 9] = [
    (
        "a bridge that was left",
        "ip link add left0 type bridge; ip link set left0 up; ip addr add GATEWAY dev left0 nodad",
        "ip link del left0",
    ),
    ("a route of host-gw that was left", "ip route add PEER via ROUTER", ""),
    ("a route to half of it", "ip route add HALF via ROUTER dev eth0 proto static", ""),
    ("a route with several next hops", "ip route add PEER nexthop via ROUTER nexthop via ROUTER2", ""),
    ("a blackhole", "ip route add blackhole PEER", ""),
    (
        "a table for what comes in by the Pods' link",
        "ip route add PEER via ROUTER table 100; FAMILY rule add iif IIF lookup 100",
        "FAMILY rule del iif IIF",
    ),
    (
        "a table for what comes from Pods, in which it is a longer prefix",
        "ip route add HALF via ROUTER table 1000; FAMILY rule add from OWN lookup 1000",
        "FAMILY rule del from OWN",
    ),
    (
        "a default route in a table for what comes from Pods",
        "ip route add default via ROUTER table 100; FAMILY rule add from OWN lookup 100",
        "FAMILY rule del from OWN; ip FAMILYROUTE flush table 100; FAMILY rule del to PEER",
    ),
    (
        "a table that prohibits it for Pods",
        "ip route add prohibit PEER table 100; FAMILY rule add from OWN lookup 100",
        "FAMILY rule del from OWN",
    ),
];

/// Routes that lead the same way as podwire's, or that no packet takes.
const HARMLESS: [(&str, &str, &str); 3] = [
    ("the same way by hand", "ip route add PEER SAME", "ip route del PEER SAME"),
    (
        "a table that no rule leads to",
        "ip route add PEER via ROUTER table 100; ip route add HALF via ROUTER table 100",
        "ip FAMILYROUTE flush table 100",
    ),
    (
        "a table for what comes in elsewhere",
        "ip route add PEER via ROUTER table 100; FAMILY rule add iif eth0 lookup 100",
        "FAMILY rule del iif eth0; ip FAMILYROUTE flush table 100",
    ),
];

/// Two nodes with a Pod each.
struct Two {
    cluster: Cluster,
    plugin: &'static str,
    config: Value,
    pods: [(Pod, Value); 2],
}

impl Two {
    fn new(plugin: &'static str) -> Self {
        let cluster = Cluster::new(DUAL, 2);
        let config_of = |cluster: &Cluster, number, plugin| {
            let mut config = config_of(cluster, number, plugin);
            if plugin == "ptp" {
                config["ipam"]["routes"] = json!([{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]);
            }
            config
        };
        let pods = [0, 1].map(|number| {
            let pod = Pod::new("pod");
            let result = add(cluster.node(number), &pod, &config_of(&cluster, number, plugin));
            (pod, result)
        });
        let config = config_of(&cluster, 0, plugin);
        Two { cluster, plugin, config, pods }
    }

    fn node(&self) -> &Node {
        self.cluster.node(0)
    }

    fn fill(&self, script: &str, ipv4: bool) -> String {
        let own: IpAddr = cluster::addresses(&self.pods[0].1).into_iter().find(|ip| ip.is_ipv4() == ipv4).unwrap();
        let route = self.node().netns.ip(&format!("{} route get {own}", if ipv4 { "-4" } else { "-6" }));
        let iif = route[0]["dev"].as_str().unwrap().to_owned();
        let overlay = self.plugin == "vxlan-overlay";
        let words = match ipv4 {
            true => [
                ("FAMILYROUTE", "-4 route"),
                ("FAMILY", "ip"),
                ("SAME", if overlay { "via 10.244.1.0 dev vxlan.1 onlink" } else { "via 10.240.0.5" }),
                ("PEER", "10.244.1.0/24"),
                ("HALF", "10.244.1.0/25"),
                ("OWN", "10.244.0.0/24"),
                ("GATEWAY", "10.244.1.1/24"),
                ("ROUTER2", "10.240.0.9"),
                ("ROUTER", "10.240.0.1"),
                ("nodad", ""),
            ],
            false => [
                ("FAMILYROUTE", "-6 route"),
                ("FAMILY", "ip -6"),
                (
                    "SAME",
                    if overlay { "via fd00:244:0:1:: dev vxlan.1 onlink metric 5" } else { "via fd00:240::5 metric 5" },
                ),
                ("PEER", "fd00:244:0:1::/64"),
                ("HALF", "fd00:244:0:1::/65"),
                ("OWN", "fd00:244::/64"),
                ("GATEWAY", "fd00:244:0:1::1/64"),
                ("ROUTER2", "fd00:240::9"),
                ("ROUTER", "fd00:240::1"),
                ("nodad", "nodad"),
            ],
        };
        let script = script
            .replace("IIF", &iif)
            .replace("route add blackhole", if ipv4 { "route add blackhole" } else { "-6 route add blackhole" });
        words.iter().fold(script, |script, (word, with)| script.replace(word, with))
    }

    fn reaches(&self, ipv4: bool) -> bool {
        let peer = cluster::addresses(&self.pods[1].1).into_iter().find(|ip| ip.is_ipv4() == ipv4).unwrap();
        self.pods[0].0.netns().pings(&peer.to_string())
    }

    /// Neighbors may have to be found first.
    #[track_caller]
    fn must_reach(&self, ipv4: bool, what: &str) {
        assert!((0..5).any(|_| self.reaches(ipv4)), "{what}");
    }

    fn check(&self) -> Reply {
        let mut config = self.config.clone();
        config["prevResult"] = self.pods[0].1.clone();
        call(self.node(), "CHECK", &self.pods[0].0, &config)
    }

    fn status(&self) -> Reply {
        self.node().call_network(self.plugin, "STATUS", &self.config)
    }

    /// An ADD that follows a changed map, and the DEL.
    fn add_and_del(&self, port: u16) -> String {
        let joins = json!({"name": "node-9", "addresses": [format!("10.240.9.{port}"), format!("fd00:240::9:{port}")], "podCIDRs": []});
        self.cluster.write_entries(vec![self.cluster.entry(0), self.cluster.entry(1), joins]);
        let pod = Pod::new("next");
        let reply = call(self.node(), "ADD", &pod, &self.config);
        let stderr = reply.stderr.clone();
        reply.ok();
        call(self.node(), "DEL", &pod, &self.config).ok();
        stderr
    }
}

/// What stands between backticks.
fn commands(text: &str) -> Vec<&str> {
    text.split('`').skip(1).step_by(2).collect()
}

fn shows(plugin: &'static str) {
    let two = Two::new(plugin);
    let mut port = 10;
    for ipv4 in [true, false] {
        two.must_reach(ipv4, plugin);
        for (name, make, clear) in ELSEWHERE {
            let what = format!("{plugin}, {name}, IPv4: {ipv4}");
            two.node().netns.sh(&two.fill(make, ipv4));
            assert!(name.contains("several") || !two.reaches(ipv4), "{what}: it leads elsewhere");
            let check = two.check();
            let details = check.details().to_owned();
            assert_eq!(check.code(), 102, "{what}: {}{}", check.stdout, check.stderr);
            let said = commands(&details);
            let peer = two.fill("PEER", ipv4);
            assert!(
                said.len() == 1 && details.contains(&format!("Pod CIDR {peer} of another node")),
                "{what}: {details}"
            );
            let command = said[0];
            let synced = sync(two.node(), &two.config).unwrap_err();
            assert!(synced.contains(command) && synced.contains("in use by something else"), "{what}: {synced}");
            let status = two.status();
            assert!(status.success && status.stderr.contains(command), "{what}: {}{}", status.stdout, status.stderr);
            port += 1;
            let added = two.add_and_del(port);
            // A rule for one Pod's link concerns no other Pod.
            let is_of_one_pod = make.contains("IIF") && plugin != "bridge";
            assert!(added.contains(command) || is_of_one_pod, "{what}: {added}");
            let collected = gc(two.node(), &two.config, &[&two.pods[0].0]);
            assert!(collected.success && collected.stderr.contains(command), "{what}: {}", collected.stderr);
            two.node().netns.sh(command);
            two.must_reach(ipv4, &format!("{what}: {command}"));
            two.check().ok();
            sync(two.node(), &two.config).unwrap_or_else(|error| panic!("{what}: {error}"));
            two.node().netns.sh(&two.fill(clear, ipv4));
            let pod = Pod::new("quick");
            let reply = call(two.node(), "ADD", &pod, &two.config);
            assert!(reply.success && reply.stderr.is_empty(), "{what}: {}", reply.stderr);
            call(two.node(), "DEL", &pod, &two.config).ok();
        }
        for (name, make, clear) in HARMLESS {
            let what = format!("{plugin}, {name}, IPv4: {ipv4}");
            two.node().netns.sh(&two.fill(make, ipv4));
            two.must_reach(ipv4, &what);
            two.check().ok();
            sync(two.node(), &two.config).unwrap_or_else(|error| panic!("{what}: {error}"));
            port += 1;
            let added = two.add_and_del(port);
            assert_eq!(added, "", "{what}");
            two.node().netns.sh(&two.fill(clear, ipv4));
        }
    }
}

#[test]
fn routes_that_compete_with_the_maps_are_found_and_the_command_that_is_named_removes_them() {
    std::thread::scope(|scope| PLUGINS.map(|plugin| scope.spawn(move || shows(plugin))).map(|it| it.join().unwrap()));
}

#[test]
fn where_routers_know_the_way_an_address_of_this_node_in_a_peers_pod_cidr_is_found() {
    let cluster = Cluster::new(DUAL, 2);
    let node = cluster.node(0);
    let mut config = config_of(&cluster, 0, "routed-veth");
    config["nodeRoutes"] = json!(false);
    let pod = Pod::new("pod");
    let result = add(node, &pod, &config);
    let check = || {
        let mut config = config.clone();
        config["prevResult"] = result.clone();
        call(node, "CHECK", &pod, &config)
    };
    // The routers' own way, of whatever length.
    node.netns.sh("ip route add 10.244.1.0/25 via 10.240.0.1 proto bird");
    check().ok();
    node.netns.sh("ip link add left0 type bridge; ip link set left0 up; ip addr add 10.244.1.1/24 dev left0");
    let fault = check();
    assert_eq!((fault.code(), commands(fault.details())), (102, vec!["ip address del 10.244.1.1/24 dev left0"]));
}

#[test]
fn where_many_compete_some_are_listed_and_the_others_counted() {
    let cluster = Cluster::new(DUAL, 2);
    let node = cluster.node(0);
    let config = config_of(&cluster, 0, "routed-veth");
    add(node, &Pod::new("pod"), &config);
    node.netns.sh("for n in $(seq 1 40); do ip route add 10.244.1.$n/32 via 10.240.0.1; done");
    let said = sync(node, &config).unwrap_err();
    assert!(commands(&said).len() == 10 && said.contains("30 more routes"), "{said}");
}
