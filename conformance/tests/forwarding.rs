//! What keeps packets of Pods from being forwarded though podwire made everything: a link that does not forward, a firewall that
//! drops. Plugins set the one on their own links, and say the other.

mod common;

use std::sync::atomic::{AtomicU32, Ordering};

use common::outside;
use conformance::lab::{Netns, Node, Pod, Reply};
use serde_json::{Value, json};

const PLUGINS: [&str; 4] = ["bridge", "routed-veth", "ptp", "vxlan-overlay"];

/// A network of a new name: the first ADD of a name says more than the next.
fn config(node: &Node, plugin: &str) -> Value {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!("fw-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
    let mut config = json!({
        "cniVersion": "1.1.0", "name": name, "type": plugin, "ipMasq": true,
        "ipam": {
            "type": "host-local", "dataDir": node.file("store"),
            "ranges": [[{"subnet": "10.22.0.0/24"}], [{"subnet": "fd00:22::/64"}]],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
        },
    });
    if plugin == "bridge" {
        config["isGateway"] = json!(true);
    }
    if plugin == "vxlan-overlay" {
        config["nodes"] = json!([
            {"name": "a", "addresses": ["192.0.2.1", "2001:db8::1"], "podCIDRs": ["10.22.0.0/24", "fd00:22::/64"]},
            {"name": "b", "addresses": ["192.0.2.2", "2001:db8::2"], "podCIDRs": ["10.22.1.0/24", "fd00:22:0:1::/64"]},
        ]);
    }
    config
}

fn call(node: &Node, command: &str, pod: &Pod, config: &Value) -> Reply {
    node.call(config["type"].as_str().unwrap(), command, pod, config)
}

fn check(node: &Node, pod: &Pod, config: &Value, result: &Value) -> Reply {
    let mut config = config.clone();
    config["prevResult"] = result.clone();
    call(node, "CHECK", pod, &config)
}

fn status(node: &Node, config: &Value) -> Reply {
    node.call_network(config["type"].as_str().unwrap(), "STATUS", config)
}

fn sync(node: &Node, config: &Value) -> Result<String, String> {
    let list = json!({"cniVersion": "1.1.0", "name": config["name"], "plugins": [config]});
    let file = node.file("list.conflist");
    std::fs::write(&file, list.to_string()).unwrap();
    let plugin = conformance::lab::bin_dir().join(config["type"].as_str().unwrap());
    node.netns.try_sh(&format!("{} --sync {}", plugin.display(), file.display()))
}

fn forwarding(netns: &Netns, link: &str) -> String {
    netns.sh(&format!("cat /proc/sys/net/ipv4/conf/{link}/forwarding")).trim().to_owned()
}

/// The link that IPv4 of the Pod comes in by.
fn link_of(node: &Node, result: &Value) -> String {
    let address = result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap();
    node.netns.ip(&format!("route get {address}"))[0]["dev"].as_str().unwrap().to_owned()
}

#[test]
fn links_that_plugins_make_forward_where_new_links_do_not() {
    for plugin in PLUGINS {
        let node = Node::new("forward");
        let host = outside(&node);
        node.netns.sh("sysctl -qw net.ipv4.ip_forward=1; sysctl -qw net.ipv4.conf.default.forwarding=0");
        let (config, pod) = (config(&node, plugin), Pod::new("pod"));
        let result = call(&node, "ADD", &pod, &config).ok();
        let link = link_of(&node, &result);
        assert_eq!(forwarding(&node.netns, &link), "1", "{plugin}: {link}");
        assert!(pod.netns().pings("192.0.2.2"), "{plugin}: {}", host.name());
        let mut links = vec![link];
        if plugin == "vxlan-overlay" {
            assert_eq!(forwarding(&node.netns, "vxlan.1"), "1");
            links.push("vxlan.1".to_owned());
        }
        for link in links {
            let key = format!("net.ipv4.conf.{}.forwarding", link.replace('.', "/"));
            node.netns.sh(&format!("sysctl -qw {key}=0"));
            let fault = check(&node, &pod, &config, &result);
            assert!(fault.code() == 102 && fault.details().contains("forwarding is 0"), "{plugin}: {}", fault.stdout);
            if plugin == "bridge" {
                // Whose bridge that is can't be told: the command is named.
                assert!(fault.details().contains(&format!("`sysctl -w {key}=1`")), "{}", fault.details());
                assert!(status(&node, &config).stderr.contains(&key));
                node.netns.sh(&format!("sysctl -qw {key}=1"));
            } else {
                let said = sync(&node, &config).unwrap();
                assert!(said.contains("1 set") || said.contains("restored host ends of 1 Pod"), "{plugin}: {said}");
            }
            assert_eq!(forwarding(&node.netns, &link), "1", "{plugin}: {link}");
            check(&node, &pod, &config, &result).ok();
        }
    }
}

#[test]
fn an_uplink_that_does_not_forward_is_named_by_the_first_add_and_by_status() {
    for plugin in PLUGINS {
        let node = Node::new("uplink");
        let _host = outside(&node);
        node.netns.sh("ip route add default via 192.0.2.2; sysctl -qw net.ipv4.ip_forward=1; sysctl -qw net.ipv4.conf.up0.forwarding=0");
        let config = config(&node, plugin);
        let key = "sysctl -w net.ipv4.conf.up0.forwarding=1";
        let first = call(&node, "ADD", &Pod::new("first"), &config);
        assert!(first.success && first.stderr.contains(key), "{plugin}: {}{}", first.stdout, first.stderr);
        let second = call(&node, "ADD", &Pod::new("second"), &config);
        assert!(second.success && second.stderr.is_empty(), "{plugin}: {}", second.stderr);
        assert!(status(&node, &config).stderr.contains(key), "{plugin}");
        node.netns.sh(key);
        assert_eq!(status(&node, &config).stderr, "", "{plugin}");
    }
}

/// nft wants its chains on lines of their own.
fn load(ruleset: &str) -> String {
    format!("nft -f - <<'END'\n{}\nEND", ruleset.replace("} }", "}\n}"))
}

/// A ruleset, the words that name its chain, and whether Pods that are routed, and Pods of one bridge, are concerned.
const RULESETS: [(&str, &str, [bool; 2]); 11] = [
    (
        "table ip filter { chain FORWARD { type filter hook forward priority 0; policy drop; } }",
        "FORWARD chain of iptables",
        [true, false],
    ),
    (
        "table ip6 filter { chain FORWARD { type filter hook forward priority 0; policy drop; } }",
        "FORWARD chain of ip6tables",
        [true, false],
    ),
    (
        "table inet fw { chain onward { type filter hook forward priority 0; policy drop; } }",
        "\"inet fw onward\" has policy drop",
        [true, false],
    ),
    (
        "table ip fw { chain onward { type filter hook forward priority 5; ct state established accept; counter drop; } }",
        "\"ip fw onward\" has a rule",
        [true, false],
    ),
    (
        "table ip6 fw { chain onward { type filter hook forward priority 0; log prefix \"no\" drop; } }",
        "\"ip6 fw onward\" has a rule",
        [true, false],
    ),
    (
        "table inet firewalld { chain filter_FORWARD { type filter hook forward priority filter + 10; policy accept; \
         iifname \"lo\" accept; jump zones; ct state invalid drop; reject with icmpx admin-prohibited; }
         chain zones { } }",
        "firewall-cmd --zone=trusted --add-source=SUBNET",
        [true, false],
    ),
    (
        "table bridge fw { chain onward { type filter hook forward priority 0; policy drop; } }",
        "\"bridge fw onward\" has policy drop",
        [false, true],
    ),
    (
        "table inet fw { chain onward { type filter hook forward priority 0; policy accept; ip saddr 203.0.113.0/24 drop; } }",
        "",
        [false, false],
    ),
    ("table inet fw { chain in { type filter hook input priority 0; policy drop; } }", "", [false, false]),
    (
        "table inet fw { chain onward { type filter hook forward priority 0; policy accept; drop; accept; } }",
        "\"inet fw onward\" has a rule",
        [true, false],
    ),
    ("table inet podwire { chain onward { type filter hook forward priority 0; policy drop; } }", "", [false, false]),
];

#[test]
fn a_chain_that_drops_what_is_forwarded_is_named_by_the_first_add_and_by_status() {
    for plugin in PLUGINS {
        for (ruleset, words, [routed, bridged]) in RULESETS {
            let what = format!("{plugin}: {ruleset}");
            let node = Node::new("firewall");
            let _host = outside(&node);
            node.netns.sh(&load(ruleset));
            let config = config(&node, plugin);
            let is_concerned = routed || bridged && plugin == "bridge";
            let first = call(&node, "ADD", &Pod::new("first"), &config);
            let status = status(&node, &config);
            assert!(first.success && status.success, "{what}: {}{}", first.stdout, status.stdout);
            for said in [&first.stderr, &status.stderr] {
                let is_named = said.contains(words) && !said.is_empty();
                assert_eq!(is_named, is_concerned, "{what}: {said}");
                assert!(is_concerned || said.is_empty(), "{what}: {said}");
            }
            let second = call(&node, "ADD", &Pod::new("second"), &config);
            assert!(second.success && second.stderr.is_empty(), "{what}: {}", second.stderr);
        }
    }
}

/// The words are followed, for each kind of chain: then Pods reach what they could not reach.
#[test]
fn the_advice_lets_pods_through() {
    for (ruleset, chain) in [
        ("table inet fw { chain onward { type filter hook forward priority 0; policy drop; } }", "inet fw onward"),
        ("table ip fw { chain onward { type filter hook forward priority 0; counter reject; } }", "ip fw onward"),
    ] {
        let node = Node::new("firewall");
        let _host = outside(&node);
        node.netns.sh(&load(ruleset));
        let (config, pod) = (config(&node, "routed-veth"), Pod::new("pod"));
        let added = call(&node, "ADD", &pod, &config);
        assert!(
            added.stderr.contains(&format!("`nft insert rule {chain} ip saddr SUBNET accept`")),
            "{}",
            added.stderr
        );
        added.ok();
        assert!(!pod.netns().pings("192.0.2.2"));
        for direction in ["saddr", "daddr"] {
            node.netns.sh(&format!("nft insert rule {chain} ip {direction} 10.22.0.0/24 accept"));
        }
        assert!(pod.netns().pings("192.0.2.2"), "{ruleset}");
    }
}

/// With br_netfilter, chains for packets see what a bridge forwards.
#[test]
fn pods_of_one_bridge_are_concerned_where_bridge_nf_calls_iptables() {
    let node = Node::new("brnf");
    let key = "net.bridge.bridge-nf-call-iptables";
    if node.netns.try_sh(&format!("sysctl -qw {key}=1")).is_err() {
        return println!("skipped: this kernel has no br_netfilter");
    }
    node.netns.sh(
        "nft add table inet fw; nft add chain inet fw onward '{ type filter hook forward priority 0; policy drop; }'",
    );
    let mut config = config(&node, "bridge");
    config["isGateway"] = json!(false);
    config["ipMasq"] = json!(false);
    let pods = [Pod::new("one"), Pod::new("other")];
    let first = call(&node, "ADD", &pods[0], &config);
    assert!(
        first.success && first.stderr.contains("do not reach each other on one bridge"),
        "{}{}",
        first.stdout,
        first.stderr
    );
    assert!(first.stderr.contains(key), "{}", first.stderr);
    let result = call(&node, "ADD", &pods[1], &config).ok();
    let address = result["ips"][0]["address"].as_str().unwrap().split('/').next().unwrap();
    assert!(!pods[0].netns().pings(address));
    node.netns.sh(&format!("sysctl -qw {key}=0 net.bridge.bridge-nf-call-ip6tables=0"));
    assert!(pods[0].netns().pings(address));
    assert_eq!(status(&node, &config).stderr, "");
}

/// Where the machine has legacy iptables: what that drops can't be read.
#[test]
fn legacy_iptables_is_said_to_be_invisible() {
    let node = Node::new("legacy");
    if node.netns.try_sh("iptables-legacy -P FORWARD DROP").is_err() {
        return println!("skipped: this machine has no legacy iptables");
    }
    let config = config(&node, "ptp");
    let first = call(&node, "ADD", &Pod::new("first"), &config);
    assert!(first.success && first.stderr.contains("`iptables-legacy -S FORWARD`"), "{}", first.stderr);
}
