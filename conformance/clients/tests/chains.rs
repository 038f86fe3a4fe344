//! Chains with Debian's reference plugins, in both directions: theirs after ours, and each other's IPAM.

use clients::machine::{Machine, address, eventually};
use serde_json::{Value, json};

/// Our `bridge` and `host-local`, and then `chained`.
fn bridge_then(chained: &[Value]) -> Value {
    let bridge = json!({
        "type": "bridge", "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.22.0.0/16" }], [{ "subnet": "fd00:22::/64" }]] },
    });
    let plugins: Vec<_> = std::iter::once(&bridge).chain(chained).collect();
    json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": plugins })
}

/// A machine with our plugins and, beside them, reference plugins.
fn machine(reference: &[&str], list: &Value) -> Machine {
    let machine = Machine::new("chain");
    machine.install_reference(reference);
    machine.configure(list);
    machine
}

/// Removes a Pod, twice, and looks for what is left.
#[track_caller]
fn removed_without_residue(machine: &Machine, pods: &[&str]) {
    for pod in pods {
        machine.del("pods", pod);
        machine.del("pods", pod);
    }
    assert_eq!(machine.residue(), Vec::<String>::new());
}

/// CHECK of all that stand before `portmap`, the last. portmap 1.1.1 itself looks for its IPv4 rules among those of IPv6,
/// whatever plugin stands before it.
#[track_caller]
fn check_up_to_portmap(machine: &Machine, capabilities: &str, pod: &str) {
    if let Err(error) = machine.cnitool(capabilities, "check", "pods", pod) {
        assert!(error.contains("could not check ipv6 dnat"), "{error}");
    }
}

#[test]
fn portmap_passes_a_port_of_the_node_on_to_a_pod_of_ours() {
    let machine =
        machine(&["portmap"], &bridge_then(&[json!({ "type": "portmap", "capabilities": { "portMappings": true } })]));
    machine.make_pod("web");
    let ports = r#"CAP_ARGS='{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}]}'"#;
    machine.cnitool(ports, "add", "pods", "web").unwrap();
    check_up_to_portmap(&machine, ports, "web");
    machine.start("ip netns exec web pod serve 80");
    machine.add_outside();
    let client = address(&machine.add("pods", "client"));
    let answer = eventually(|| machine.in_pod("client", "pod get 10.22.0.1:8080"));
    assert!(answer == format!("from {client}\n") || answer == "from 10.22.0.1\n", "{answer}");
    for node in ["192.0.2.1:8080", "[fd00:2::1]:8080"] {
        let answer = machine.in_pod("outside", &format!("pod get {node}")).unwrap();
        assert!(answer == "from 192.0.2.2\n" || answer == "from fd00:2::2\n", "a host outside, by {node}: {answer}");
    }
    // Itself by its own hostPort: needs hairpinMode, and the masquerade of portmap.
    machine.in_pod("web", "pod get 10.22.0.1:8080").unwrap();
    machine.cnitool(ports, "del", "pods", "web").unwrap();
    removed_without_residue(&machine, &["web", "client"]);
}

#[test]
fn bandwidth_limits_what_a_pod_of_ours_receives_and_sends() {
    let limits = r#"CAP_ARGS='{"bandwidth":{"ingressRate":20000000,"ingressBurst":2000000,"egressRate":20000000,"egressBurst":2000000}}'"#;
    let machine =
        machine(&["bandwidth"], &bridge_then(&[json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } })]));
    machine.make_pod("slow");
    if let Err(error) = machine.cnitool(limits, "add", "pods", "slow") {
        assert!(error.contains("ifb") || error.contains("tbf"), "{error}");
        eprintln!("skipped: this kernel can't shape traffic: {error}");
        return;
    }
    machine.cnitool(limits, "check", "pods", "slow").unwrap();
    let free = address(&machine.add("pods", "free"));
    machine.start("ip netns exec free iperf3 --server");
    for direction in ["", "--reverse"] {
        let measure = format!("iperf3 --json --time 2 {direction} --client {free}");
        // With --json an error is in the document, and the exit status 0.
        let rate = eventually(|| {
            let report: Value = serde_json::from_str(&machine.in_pod("slow", &measure)?).map_err(|e| e.to_string())?;
            report["end"]["sum_received"]["bits_per_second"].as_f64().ok_or(report.to_string())
        });
        // 20 Mbit/s and a burst; without a limit it would be thousands.
        assert!(rate > 1e6 && rate < 40e6, "{rate} bit/s {direction}");
    }
    machine.cnitool(limits, "del", "pods", "slow").unwrap();
    removed_without_residue(&machine, &["slow", "free"]);
    assert_eq!(machine.sh("ip -o link show type ifb | grep -v -e ifb0 -e ifb1 || true"), "");
}

#[test]
fn tuning_sets_sysctl_mac_and_mtu_of_a_pod_of_ours_and_our_check_accepts_it() {
    let tuning = json!({
        "type": "tuning", "sysctl": { "net.core.somaxconn": "500" }, "mac": "02:11:22:33:44:55", "mtu": 1400,
    });
    let machine = machine(&["tuning"], &bridge_then(&[tuning]));
    let result = machine.add("pods", "tuned");
    assert_eq!(result["interfaces"][2]["mac"], "02:11:22:33:44:55");
    let seen = machine.in_pod("tuned", "cat /proc/sys/net/core/somaxconn; ip link show eth0").unwrap();
    assert!(seen.starts_with("500\n") && seen.contains("02:11:22:33:44:55") && seen.contains("mtu 1400"), "{seen}");
    machine.check("pods", "tuned");
    assert!(machine.in_pod("tuned", "ping -c 1 -W 1 10.22.0.1").is_ok());
    removed_without_residue(&machine, &["tuned"]);
}

#[test]
fn firewall_lets_pods_of_ours_through_a_forward_policy_of_drop() {
    let machine = machine(&["firewall"], &bridge_then(&[json!({ "type": "firewall", "backend": "iptables" })]));
    machine.add_outside();
    machine.sh("iptables -P FORWARD DROP; ip6tables -P FORWARD DROP");
    machine.add("pods", "inside");
    machine.check("pods", "inside");
    assert!(machine.in_pod("inside", "ping -c 1 -W 1 192.0.2.2").is_ok(), "the firewall plugin lets it through");
    machine.del("pods", "inside");
    // Without it nothing of ours overrides the policy.
    machine.configure(&bridge_then(&[]));
    machine.add("pods", "alone");
    assert!(machine.in_pod("alone", "ping -c 1 -W 1 192.0.2.2").is_err());
    removed_without_residue(&machine, &["inside", "alone"]);
}

#[test]
fn sbr_routes_by_the_source_address_of_a_pod_of_ours() {
    let machine = machine(&["sbr"], &bridge_then(&[json!({ "type": "sbr" })]));
    let result = machine.add("pods", "routed");
    let rules = machine.in_pod("routed", "ip rule").unwrap();
    assert!(rules.contains(&format!("from {} lookup", address(&result))), "{rules}");
    machine.check("pods", "routed");
    let ping = format!("ping -c 1 -W 1 -I {} 10.22.0.1", address(&result));
    machine.in_pod("routed", &ping).unwrap();
    // Once: the second DEL of sbr 1.1.1 misses the interface.
    machine.del("pods", "routed");
    assert_eq!(machine.residue(), Vec::<String>::new());
}

/// All that stand behind a bridge stand behind a routed wire and an overlay too.
#[test]
fn one_chain_of_them_all_behind_a_routed_wire_and_behind_an_overlay() {
    let node = |n: u8| json!({ "name": format!("node-{n}"), "addresses": [format!("192.0.2.{n}")], "podCIDRs": [format!("10.22.{n}.0/24")] });
    let nodes = json!([node(1), node(2)]);
    let wire = json!({ "type": "routed-veth", "ipMasq": true, "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.22.1.0/24" }]] } });
    let overlay = json!({ "type": "vxlan-overlay", "ipMasq": true, "nodes": nodes, "ipam": { "type": "host-local" } });
    for ours in [wire, overlay] {
        let theirs = [
            json!({ "type": "firewall", "backend": "iptables" }),
            json!({ "type": "bandwidth", "capabilities": { "bandwidth": true } }),
            json!({ "type": "tuning", "sysctl": { "net.core.somaxconn": "500" }, "mtu": 1300 }),
            json!({ "type": "portmap", "capabilities": { "portMappings": true } }),
        ];
        let plugins: Vec<_> = std::iter::once(&ours).chain(&theirs).collect();
        let list = json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": plugins });
        let machine = machine(&["portmap", "firewall", "bandwidth", "tuning"], &list);
        machine.add_outside();
        machine.make_pod("web");
        let capabilities = r#"CAP_ARGS='{"portMappings":[{"hostPort":8080,"containerPort":80,"protocol":"tcp"}],"bandwidth":{"ingressRate":20000000,"ingressBurst":2000000}}'"#;
        if let Err(error) = machine.cnitool(capabilities, "add", "pods", "web") {
            assert!(error.contains("ifb") || error.contains("tbf"), "{error}");
            eprintln!("skipped: this kernel can't shape traffic: {error}");
            return;
        }
        check_up_to_portmap(&machine, capabilities, "web");
        machine.start("ip netns exec web pod serve 80");
        let answer = eventually(|| machine.in_pod("outside", "pod get 192.0.2.1:8080"));
        assert_eq!(answer, "from 192.0.2.2\n");
        machine.sh("iptables -P FORWARD DROP");
        assert!(machine.in_pod("web", "ping -c 1 -W 1 192.0.2.2").is_ok(), "through the policy of DROP, masqueraded");
        assert!(machine.sh("tc qdisc show").contains("rate 20Mbit"));
        let seen = machine.in_pod("web", "cat /proc/sys/net/core/somaxconn; ip link show eth0").unwrap();
        assert!(seen.starts_with("500\n") && seen.contains("mtu 1300"), "{seen}");
        machine.cnitool(capabilities, "del", "pods", "web").unwrap();
        removed_without_residue(&machine, &["web"]);
    }
}

#[test]
fn a_chain_as_nomad_writes_it_for_its_bridge_mode() {
    let machine = machine(
        &["firewall", "portmap"],
        &json!({
            "cniVersion": "0.4.0", "name": "pods",
            "plugins": [
                { "type": "loopback" },
                {
                    "type": "bridge", "bridge": "nomad", "ipMasq": true, "isGateway": true, "forceAddress": true, "hairpinMode": false,
                    "ipam": {
                        "type": "host-local", "dataDir": "/var/lib/cni/networks",
                        "ranges": [[{ "subnet": "172.26.64.0/20" }]], "routes": [{ "dst": "0.0.0.0/0" }],
                    },
                },
                { "type": "firewall", "backend": "iptables", "iptablesAdminChainName": "NOMAD-ADMIN" },
                { "type": "portmap", "capabilities": { "portMappings": true }, "snat": true },
            ],
        }),
    );
    machine.add_outside();
    machine.make_pod("alloc");
    let ports = r#"CAP_ARGS='{"portMappings":[{"hostPort":23456,"containerPort":80,"protocol":"tcp"}]}' CNI_ARGS='IgnoreUnknown=true;NOMAD_JOB_ID=web'"#;
    machine.cnitool(ports, "add", "pods", "alloc").unwrap();
    check_up_to_portmap(&machine, ports, "alloc");
    machine.start("ip netns exec alloc pod serve 80");
    assert_eq!(eventually(|| machine.in_pod("outside", "pod get 192.0.2.1:23456")), "from 192.0.2.2\n");
    assert!(machine.in_pod("alloc", "ping -c 1 -W 1 192.0.2.2 && ping -c 1 -W 1 127.0.0.1").is_ok());
    machine.cnitool(ports, "del", "pods", "alloc").unwrap();
    removed_without_residue(&machine, &["alloc"]);
}

#[test]
fn reference_plugins_take_addresses_from_our_host_local() {
    let ipam =
        json!({ "type": "host-local", "ranges": [[{ "subnet": "10.23.0.0/24" }]], "routes": [{ "dst": "0.0.0.0/0" }] });
    for (kind, keys) in [
        ("bridge", json!({ "bridge": "theirs", "isGateway": true })),
        ("ptp", json!({})),
        ("macvlan", json!({ "master": "parent" })),
    ] {
        let mut plugin = json!({ "type": kind, "ipam": ipam });
        plugin.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
        let machine = machine(&[kind], &json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [plugin] }));
        machine.sh("ip link add parent type veth peer name other; ip link set parent up; ip link set other up");
        if kind == "macvlan"
            && machine.try_sh("ip link add probe link parent type macvlan && ip link del probe").is_err()
        {
            eprintln!("skipped: this kernel has no macvlan");
            continue;
        }
        let one = address(&machine.add("pods", "one"));
        let two = address(&machine.add("pods", "two"));
        assert_ne!(one, two, "{kind}");
        machine.check("pods", "one");
        assert!(machine.in_pod("two", &format!("ping -c 1 -W 1 {one}")).is_ok(), "{kind}");
        machine.del("pods", "one");
        machine.del("pods", "two");
        machine.sh("ip link del parent");
        assert_eq!(machine.residue(), Vec::<String>::new(), "{kind}");
    }
}

#[test]
fn our_bridge_takes_addresses_from_their_host_local_and_static() {
    let host_local =
        json!({ "type": "host-local", "ranges": [[{ "subnet": "10.23.0.0/24" }], [{ "subnet": "fd00:23::/64" }]] });
    let fixed = json!({ "type": "static", "addresses": [{ "address": "10.23.0.7/24", "gateway": "10.23.0.1" }] });
    for ipam in [host_local, fixed] {
        let kind = ipam["type"].as_str().unwrap().to_owned();
        let bridge = json!({ "type": "bridge", "isDefaultGateway": true, "ipMasq": true, "ipam": ipam });
        let machine = machine(&[&kind], &json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [bridge] }));
        let pod = address(&machine.add("pods", "one"));
        machine.check("pods", "one");
        assert!(machine.netns.pings(&pod), "{kind}");
        assert!(machine.in_pod("one", "ping -c 1 -W 1 10.23.0.1").is_ok(), "{kind}");
        removed_without_residue(&machine, &["one"]);
    }
}
