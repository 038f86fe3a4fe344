//! `routed-veth` in real namespaces: the wire, what is set for it, and what is left.

#[path = "common/mod.rs"]
mod common;

use std::collections::BTreeMap;
use std::process::{Command, Stdio};

use common::Network;
use conformance::lab::{Netns, Node, Pod};
use serde_json::{Value, json};

fn node() -> Node {
    Node::new("node")
}

/// A dual-stack network on `node` with these keys of `routed-veth`.
fn network(node: &Node, keys: Value) -> Network<'_> {
    Network::new(node, "routed-veth", keys, json!([[{"subnet": "10.22.0.0/16"}], [{"subnet": "fd00:22::/64"}]]))
}

fn of_ranges(node: &Node, ranges: Value) -> Network<'_> {
    Network::new(node, "routed-veth", json!({}), ranges)
}

/// The node's end of a Pod's wire, by its result.
fn host_end(result: &Value) -> String {
    result["interfaces"][0]["name"].as_str().unwrap().to_owned()
}

fn mac(result: &Value, interface: usize) -> String {
    result["interfaces"][interface]["mac"].as_str().unwrap().to_owned()
}

#[test]
fn a_pod_has_its_addresses_alone_a_link_local_next_hop_and_permanent_neighbors_on_both_ends() {
    let node = node();
    let pod = Pod::new("pod");
    let result = network(&node, json!({})).add(&pod);
    let (host, pod_mac, host_mac) = (host_end(&result), mac(&result, 1), mac(&result, 0));
    let ips: Vec<_> = result["ips"].as_array().unwrap().iter().map(|ip| (&ip["address"], &ip["gateway"])).collect();
    assert_eq!(json!(ips), json!([["10.22.0.2/32", "169.254.1.1"], ["fd00:22::2/128", "fe80::1"]]));
    assert_eq!(common::addresses_of(pod.netns(), "eth0"), ["10.22.0.2/32", "fd00:22::2/128"]);

    let inside = pod.netns();
    let routes = inside.sh("ip -4 route");
    let routes: Vec<_> = routes.lines().map(str::trim).collect();
    assert_eq!(
        routes,
        ["default via 169.254.1.1 dev eth0 proto static", "169.254.1.1 dev eth0 proto static scope link"]
    );
    assert!(inside.sh("ip -6 route show default").contains("default via fe80::1 dev eth0"));
    let neighbors = inside.sh("ip -4 neigh show nud permanent dev eth0; ip -6 neigh show nud permanent dev eth0");
    assert_eq!(neighbors.lines().filter(|line| line.contains(&host_mac)).count(), 2, "{neighbors}");
    assert!(neighbors.contains("169.254.1.1 ") && neighbors.contains("fe80::1 "), "{neighbors}");

    let outside = &node.netns;
    assert!(outside.sh("ip route").contains(&format!("10.22.0.2 dev {host} proto 112 scope link")));
    assert!(outside.sh("ip -6 route").contains(&format!("fd00:22::2 dev {host} proto 112")));
    let neighbors =
        outside.sh(&format!("ip neigh show nud permanent dev {host}; ip -6 neigh show nud permanent dev {host}"));
    for ip in ["10.22.0.2 ", "fd00:22::2 "] {
        assert!(neighbors.lines().any(|line| line.starts_with(ip) && line.contains(&pod_mac)), "{neighbors}");
    }
    // No bridge, and no address on the node's end but the kernel's own.
    assert_eq!(outside.sh("ip -o link show type bridge"), "");
    assert_eq!(common::addresses_of(outside, &host), [""; 0]);
}

#[test]
fn nobody_ever_asks_for_a_hardware_address() {
    let node = node();
    let network = network(&node, json!({}));
    node.netns.sh("ip addr add 192.0.2.1/32 dev lo; ip addr add 2001:db8::1/128 dev lo");
    let pods = [Pod::new("one"), Pod::new("other")];
    // Duplicate address detection, from ::, asks about one's own address and nobody waits for it.
    let questions = "arp or (icmp6 and (ip6[40] = 135 or ip6[40] = 136) and not src host ::)";
    let listen = |netns: &Netns, file: &std::path::Path| {
        let mut command = Command::new("tcpdump");
        command
            .args(["-i", "any", "-n", "-U", "--immediate-mode", "-w"])
            .arg(file)
            .arg(format!("{questions} or udp port 9"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        netns.spawn(&mut command).expect("tcpdump")
    };
    let file = node.file("questions.pcap");
    let mut tcpdump = listen(&node.netns, &file);
    let count = |what: &str| {
        let read = format!("tcpdump -n -r {} '{what}' 2>/dev/null || true", file.display());
        node.netns.sh(&read).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    // It listens when it hears something sent to nobody.
    let until_heard = |marks: usize| {
        while count("udp port 9").len() < marks {
            node.netns.sh("bash -c 'echo > /dev/udp/192.0.2.1/9' 2>/dev/null || true");
        }
    };
    until_heard(1);
    let results = [network.add(&pods[0]), network.add(&pods[1])];
    for (from, to) in [(0, 1), (1, 0)] {
        for ip in results[to]["ips"].as_array().unwrap() {
            let ip = ip["address"].as_str().unwrap().split('/').next().unwrap();
            assert!(pods[from].netns().pings(ip), "{ip}");
            assert!(node.netns.pings(ip), "{ip}");
        }
        assert!(pods[from].netns().pings("192.0.2.1") && pods[from].netns().pings("2001:db8::1"));
    }
    let heard = count("udp port 9").len();
    until_heard(heard + 1);
    let _ = tcpdump.kill();
    let _ = tcpdump.wait();
    assert_eq!(count(questions), [""; 0]);
}

#[test]
fn the_pods_mac_derives_from_its_address_unless_somebody_asks_for_one() {
    let node = node();
    let dual = network(&node, json!({})).add(&Pod::new("dual"));
    assert_eq!(mac(&dual, 1), "0a:58:0a:16:00:02");
    let v6 = of_ranges(&node, json!([[{"subnet": "fd00:23::a0b:0/112"}]])).add(&Pod::new("v6"));
    assert_eq!(mac(&v6, 1), "0a:58:0a:0b:00:02", "the last four bytes of {}", v6["ips"][0]["address"]);
    let args = json!({"args": {"cni": {"mac": "02:00:00:00:00:0a"}}});
    let runtime = json!({"args": {"cni": {"mac": "02:00:00:00:00:0a"}}, "runtimeConfig": {"mac": "02:00:00:00:00:0b"}});
    for (keys, expected) in [(args, "02:00:00:00:00:0a"), (runtime, "02:00:00:00:00:0b")] {
        let network = network(&node, keys);
        let pod = Pod::new(&expected.replace(':', ""));
        let result = network.add(&pod);
        assert_eq!(mac(&result, 1), expected);
        assert_eq!(common::mac_of(pod.netns(), "eth0"), expected);
        assert!(node.netns.sh("ip neigh show nud permanent").contains(expected));
        network.check(&pod, &result).ok();
    }
}

/// Every sysctl of the network, by path below /proc/sys/net.
fn sysctls(netns: &Netns) -> BTreeMap<String, String> {
    let text = netns.sh("grep -rs '' /proc/sys/net | grep -vE 'nf_conntrack|_mem:|_orphans:|/neigh/|/mtu:'");
    let lines = text.lines().filter_map(|line| line.strip_prefix("/proc/sys/net/")?.split_once(':'));
    lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

/// Those that have changed, and those of `interface` that differ from the default for new ones.
fn changed(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>, interface: &str) -> Vec<String> {
    let part = format!("/{interface}/");
    let differs = |(key, value): (&String, &String)| {
        let default = key.replace(&part, "/default/");
        let reference = if key.contains(&part) { after.get(&default) } else { before.get(key) };
        (reference.is_some_and(|reference| reference != value))
            .then(|| format!("{key} = {value}").replace(interface, "IF"))
    };
    after.iter().filter_map(differs).collect()
}

#[test]
fn settings_change_where_the_wire_needs_it_and_nowhere_else() {
    for (ranges, ipv6) in
        [(json!([[{"subnet": "10.22.0.0/16"}]]), false), (json!([[{"subnet": "fd00:22::/64"}]]), true)]
    {
        let node = node();
        node.netns.sh("ip link add up0 type bridge; ip link set up0 up");
        let pod = Pod::new("pod");
        let (before, pod_before) = (sysctls(&node.netns), sysctls(pod.netns()));
        let result = of_ranges(&node, ranges).add(&pod);
        let (after, pod_after) = (sysctls(&node.netns), sysctls(pod.netns()));
        let host = host_end(&result);
        // The kernel carries forwarding to every interface, and lets a router accept no redirects, as it does for
        // `sysctl net.ipv4.ip_forward=1`.
        let by_kernel = ["forwarding = ", "ip_forward = ", "all/accept_redirects = "];
        let is_forwarding = |line: &String| by_kernel.iter().any(|part| line.contains(part));
        let (forwarding, mut rest): (Vec<_>, Vec<_>) =
            changed(&before, &after, &host).into_iter().partition(is_forwarding);
        assert!(forwarding.iter().all(|line| line.starts_with("ipv6") == ipv6), "ipv6 {ipv6}: {forwarding:?}");
        assert!(forwarding.iter().any(|line| line.contains("/all/forwarding = 1")), "{forwarding:?}");
        let mut expected = vec![
            "ipv4/conf/IF/accept_redirects = 0",
            "ipv4/conf/IF/rp_filter = 1",
            "ipv4/conf/IF/send_redirects = 0",
            "ipv6/conf/IF/accept_ra = 0",
            "ipv6/conf/IF/accept_redirects = 0",
        ];
        // What the kernel's default is already is no change.
        expected.retain(|line| {
            let (key, value) = line.split_once(" = ").unwrap();
            after[&key.replace("IF", "default")] != value
        });
        if !ipv6 {
            // What has no address of IPv6 sends none.
            expected.push("ipv6/conf/IF/disable_ipv6 = 1");
        } else {
            // The link-local address is of use at once.
            expected.push("ipv6/conf/IF/accept_dad = 0");
            // A router that listens to router advertisements goes on listening.
            expected.push("ipv6/conf/lo/accept_ra = 2");
            expected.push("ipv6/conf/up0/accept_ra = 2");
        }
        expected.sort();
        rest.sort();
        assert_eq!(rest, expected, "ipv6 {ipv6}");
        assert_eq!(
            changed(&pod_before, &pod_after, "eth0"),
            ["ipv6/conf/IF/accept_dad = 0", "ipv6/conf/IF/accept_ra = 0"],
            "in the Pod, ipv6 {ipv6}"
        );
    }
}

#[test]
fn mtu_dns_and_routes_from_ipam_are_the_pods() {
    let node = node();
    let mut network = network(&node, json!({"mtu": 1380, "dns": {"nameservers": ["10.22.0.53"], "search": ["svc"]}}));
    network.config["ipam"]["routes"] = json!([
        {"dst": "192.168.0.0/16", "gw": "10.22.0.9"},
        {"dst": "198.51.100.0/24", "mtu": 1280, "priority": 7},
        {"dst": "203.0.113.0/24", "scope": 253},
    ]);
    let pod = Pod::new("pod");
    let result = network.add(&pod);
    for (netns, interface) in [(&node.netns, host_end(&result)), (pod.netns(), "eth0".to_owned())] {
        assert_eq!(netns.ip(&format!("link show {interface}"))[0]["mtu"], 1380);
    }
    assert_eq!([&result["interfaces"][0]["mtu"], &result["interfaces"][1]["mtu"]], [1380, 1380]);
    assert_eq!(result["dns"], json!({"nameservers": ["10.22.0.53"], "search": ["svc"]}));
    let routes = pod.netns().sh("ip route");
    for route in [
        "192.168.0.0/16 via 169.254.1.1 dev eth0",
        "198.51.100.0/24 via 169.254.1.1 dev eth0 proto static metric 7 mtu 1280",
        "203.0.113.0/24 dev eth0 proto static scope link",
    ] {
        assert!(routes.contains(route), "{route} is missing:\n{routes}");
    }
    network.check(&pod, &result).ok();
    // A Pod whose configuration has no dns gets IPAM's.
    let resolv = node.file("resolv.conf");
    std::fs::write(&resolv, "nameserver 10.22.0.54\n").unwrap();
    network.config["dns"] = Value::Null;
    network.config.as_object_mut().unwrap().remove("dns");
    network.config["ipam"]["resolvConf"] = json!(resolv);
    assert_eq!(network.add(&Pod::new("other"))["dns"]["nameservers"], json!(["10.22.0.54"]));
}

#[test]
fn check_misses_each_part_of_the_wire_and_del_leaves_nothing() {
    let node = node();
    let network = network(&node, json!({"ipMasq": true}));
    let before = node.netns.state();
    for (at, broken) in [
        ("pod", "ip addr del 10.22.0.2/32 dev eth0"),
        ("pod", "ip route del default"),
        ("pod", "ip -6 route del default"),
        ("pod", "ip neigh del 169.254.1.1 dev eth0"),
        ("pod", "ip neigh del fe80::1 dev eth0"),
        ("pod", "ip link set eth0 down"),
        ("node", "ip route del 10.22.0.2"),
        ("node", "ip -6 route del fd00:22::2"),
        ("node", "ip neigh del 10.22.0.2 dev HOST"),
        ("node", "ip neigh replace fd00:22::2 lladdr 02:00:00:00:00:99 nud permanent dev HOST"),
        ("node", "ip link set HOST down"),
        ("node", "nft flush ruleset"),
    ] {
        let pod = Pod { args: "IP=10.22.0.2".into(), ..Pod::new("pod") };
        let result = network.add(&pod);
        network.check(&pod, &result).ok();
        let netns = if at == "pod" { pod.netns() } else { &node.netns };
        netns.sh(&broken
            .replace("HOST", &host_end(&result))
            .replace("fd00:22::2", result["ips"][1]["address"].as_str().unwrap().trim_end_matches("/128")));
        let reply = network.check(&pod, &result);
        assert_eq!(reply.code(), 102, "{broken}: {} {}", reply.stdout, reply.stderr);
        network.del(&pod);
        network.del(&pod);
        common::held_nothing(&network);
    }
    let after = node.netns.state();
    let of_wire = |text: &str| {
        text.lines()
            .filter(|line| line.contains("veth") || line.contains("10.22."))
            .map(str::to_owned)
            .collect::<Vec<_>>()
    };
    assert_eq!(of_wire(&after), of_wire(&before));
}

#[test]
fn a_result_that_nobody_can_read_is_undone() {
    let node = node();
    let network = network(&node, json!({"ipMasq": true}));
    let pod = Pod::new("pod");
    let config = node.file("config.json");
    std::fs::write(&config, network.config.to_string()).unwrap();
    let script = format!(
        "CNI_COMMAND=ADD CNI_CONTAINERID=pod CNI_IFNAME=eth0 CNI_NETNS={} CNI_PATH={} {}/routed-veth < {} > /dev/full",
        pod.netns().path().display(),
        node.cni_path(),
        conformance::lab::bin_dir().display(),
        config.display(),
    );
    let error = node.netns.try_sh(&script).unwrap_err();
    assert!(error.contains("No space left"), "{error}");
    common::held_nothing(&network);
    assert_eq!(node.netns.sh("ip -o link show type veth"), "");
    assert!(pod.netns().try_sh("ip link show eth0").is_err());
    assert!(!node.netns.sh("nft list ruleset").contains("10.22.0.2"));
    network.add(&pod);
}

#[test]
fn a_second_interface_leaves_the_way_out_to_the_first_unless_ipam_says_otherwise() {
    let node = node();
    let v4 = json!([[{"subnet": "10.22.0.0/16"}]]);
    let with_routes = |keys: Value, routes: Value| {
        let mut network = Network::new(&node, "routed-veth", keys, v4.clone());
        network.config["name"] = json!("second");
        network.config["ipam"]["routes"] = routes;
        network
    };
    let inner = json!([{"dst": "192.168.0.0/16"}]);
    let outer = json!([{"dst": "192.168.0.0/16"}, {"dst": "0.0.0.0/0"}]);
    let default_of = |pod: &Pod, interface: &str| {
        !pod.netns().sh(&format!("ip route show default dev {interface}")).trim().is_empty()
    };
    for (keys, routes, has_first, expected) in [
        // IPAM says where the second interface leads, and the Pod has a way out.
        (json!({}), inner.clone(), true, false),
        // Without a way out the Pod gets one …
        (json!({}), inner.clone(), false, true),
        // … as it does where IPAM says nothing, or says it itself.
        (json!({}), json!([]), true, true),
        (json!({}), outer.clone(), true, true),
        // Only "defaultRoute": false keeps an isolated Pod isolated.
        (json!({"defaultRoute": false}), inner.clone(), false, false),
        (json!({"defaultRoute": false}), json!([]), false, false),
        (json!({"defaultRoute": false}), outer.clone(), false, true),
    ] {
        let what = format!("{keys} {routes} {has_first}");
        let mut pod = Pod::new("pod");
        let first = Network::new(&node, "routed-veth", json!({}), json!([[{"subnet": "10.23.0.0/16"}]]));
        let result = has_first.then(|| first.add(&pod));
        let network = with_routes(keys, routes);
        pod.ifname = "net1".to_owned();
        let added = network.add(&pod);
        assert_eq!(default_of(&pod, "net1"), expected, "{what}");
        // CHECK goes by the result: a default route of another plugin, or the Pod's own, is none of its concern.
        network.check(&pod, &added).ok();
        network.del(&pod);
        pod.ifname = "eth0".to_owned();
        if let Some(result) = result {
            assert!(default_of(&pod, "eth0"), "{what}");
            first.check(&pod, &result).ok();
            first.del(&pod);
        }
    }
}

#[test]
fn gc_and_sync_bring_back_the_routes_and_neighbors_of_living_pods() {
    for (plugin, keys) in [("routed-veth", json!({})), ("routed-veth", json!({"ipMasq": true})), ("ptp", json!({}))] {
        let node = node();
        let mut network =
            Network::new(&node, plugin, keys, json!([[{"subnet": "10.22.0.0/16"}], [{"subnet": "fd00:22::/64"}]]));
        network.config["cniVersion"] = json!("1.1.0");
        let pods = [Pod::new("one"), Pod::new("other")];
        let results = [network.add(&pods[0]), network.add(&pods[1])];
        let flush = "ip route flush proto 112; ip -6 route flush proto 112";
        let down_and_up = format!("ip link set {0} down; ip link set {0} up", host_end(&results[0]));
        for lost in [flush, &down_and_up] {
            // An address of IPv6 that the node's end loses when it goes down is for DEL and ADD to bring back.
            if plugin == "ptp" && lost != flush {
                continue;
            }
            node.netns.sh(lost);
            assert_eq!(network.check(&pods[0], &results[0]).code(), 102, "{plugin}: {lost}");
            let mut config = network.config.clone();
            let ids = pods.iter().map(|pod| json!({"containerID": pod.container_id, "ifname": pod.ifname}));
            config["cni.dev/valid-attachments"] = ids.collect();
            node.call_network(plugin, "GC", &config).ok();
            for (pod, result) in pods.iter().zip(&results) {
                network.check(pod, result).ok();
            }
        }
        node.netns.sh(flush);
        let list = json!({"cniVersion": "1.1.0", "name": network.config["name"], "plugins": [network.config]});
        let file = node.file("pods.conflist");
        std::fs::write(&file, list.to_string()).unwrap();
        let program = conformance::lab::bin_dir().join(plugin);
        let sync = || node.netns.sh(&format!("{} --sync {}", program.display(), file.display()));
        assert!(sync().contains("restored routes of 2 Pods"), "{plugin}");
        assert!(!sync().contains("restored"), "{plugin}");
        results.iter().zip(&pods).for_each(|(result, pod)| drop(network.check(pod, result).ok()));
    }
}
