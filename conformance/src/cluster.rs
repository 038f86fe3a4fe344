//! Several nodes on one link, a router, and a host outside: what a network of many nodes is tested on.
//!
//! ```text
//!   node-0 eth0 ─┐                                 10.240.0.4, fd00:240::4
//!   node-1 eth0 ─┼─ br0 of the router ── outside   10.240.0.1 | 192.0.2.1 ── 192.0.2.2
//!   node-2 eth0 ─┘
//! ```
//!
//! Nodes have the router as their default gateway. It knows no Pod CIDR unless a test tells it.

use std::collections::HashMap;
use std::fmt::{Display, Formatter};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::lab::{Netns, Node, Pod};

/// Which families Pods and underlay have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Families {
    /// Pods of IPv4.
    pub pods4: bool,
    /// Pods of IPv6.
    pub pods6: bool,
    /// An underlay of IPv4.
    pub underlay4: bool,
    /// An underlay of IPv6.
    pub underlay6: bool,
}

impl Display for Families {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let words = |v4: bool, v6: bool| match (v4, v6) {
            (true, true) => "dual-stack",
            (true, false) => "IPv4",
            _ => "IPv6",
        };
        let (pods, underlay) = (words(self.pods4, self.pods6), words(self.underlay4, self.underlay6));
        if pods == underlay { f.write_str(pods) } else { write!(f, "{pods} over {underlay}") }
    }
}

/// Nodes, router and outside host.
#[derive(Debug)]
pub struct Cluster {
    /// Families of Pods and underlay.
    pub families: Families,
    /// The router, which is the link too.
    pub router: Netns,
    /// A host beyond the router.
    pub outside: Netns,
    /// The nodes, by number; none where one was switched off.
    pub nodes: Vec<Option<Node>>,
    /// The node map's file, and others.
    pub files: TempDir,
    /// Addresses of nodes that were given others than they had at first.
    renumbered: HashMap<usize, Vec<IpAddr>>,
}

impl Cluster {
    /// `count` nodes, switched on.
    pub fn new(families: Families, count: usize) -> Self {
        let router = Netns::new("router");
        let outside = Netns::new("outside");
        router.sh(&format!(
            "sysctl -qw net.ipv6.conf.default.accept_dad=0
             ip link add br0 address 02:00:00:00:01:00 type bridge mcast_snooping 0; ip link set br0 up
             sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv4.conf.all.send_redirects=0
             ip addr add 10.240.0.1/16 dev br0; ip addr add fd00:240::1/64 dev br0 nodad
             ip link add out0 type veth peer name eth0 netns {}; ip link set out0 up
             ip addr add 192.0.2.1/24 dev out0; ip addr add fd00:2::1/64 dev out0 nodad",
            outside.name()
        ));
        outside.sh("sysctl -qw net.ipv6.conf.eth0.accept_dad=0; ip link set eth0 up; ip addr add 192.0.2.2/24 dev eth0; ip addr add fd00:2::2/64 dev eth0 nodad
                    ip route add default via 192.0.2.1; ip -6 route add default via fd00:2::1");
        let files = tempfile::tempdir().expect("temporary directory");
        let mut cluster = Cluster { families, router, outside, nodes: Vec::new(), files, renumbered: HashMap::new() };
        for number in 0..count {
            cluster.nodes.push(None);
            cluster.switch_on(number);
        }
        cluster.write_map(&(0..count).collect::<Vec<_>>());
        cluster
    }

    /// Boots node `number`: a new namespace, as after a power cut.
    pub fn switch_on(&mut self, number: usize) {
        self.nodes[number] = None;
        let node = Node::new(&format!("node{number}"));
        self.router.sh(&format!(
            "ip link del port{number} 2>/dev/null || true
             ip link add port{number} type veth peer name eth0 netns {}
             ip link set port{number} master br0 up",
            node.netns.name()
        ));
        // Reverse paths are filtered strictly, as some distributions do. A machine that boots again has the network card that
        // it had. It takes longer than duplicate address detection,
        // without which a node has no link-local address to solicit its neighbors from.
        node.netns.sh(&format!(
            "sysctl -qw net.ipv6.conf.eth0.accept_dad=0 net.ipv6.conf.default.accept_dad=0
             sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.default.rp_filter=1
             ip link set eth0 address 02:00:00:00:00:{number:02x}; ip link set eth0 up
             sysctl -qw net.ipv4.conf.all.promote_secondaries=1"
        ));
        for address in self.addresses(number) {
            node.netns.sh(&set_address("add", address));
        }
        self.nodes[number] = Some(node);
        self.set_default_routes(number);
    }

    /// A default route of each family that the node has.
    fn set_default_routes(&self, number: usize) {
        for address in self.addresses(number) {
            let gateway = if address.is_ipv4() { "10.240.0.1" } else { "fd00:240::1" };
            self.node(number).netns.sh(&format!("ip route replace default via {gateway}"));
        }
    }

    /// Sets the node's underlay down and up. What the node's own configuration would restore is restored.
    pub fn set_underlay_down_and_up(&self, number: usize) {
        let node = &self.node(number).netns;
        node.sh("ip link set eth0 down; ip link set eth0 up");
        for address in self.addresses(number).into_iter().filter(IpAddr::is_ipv6) {
            // The kernel takes IPv6 addresses away with the link, unless it is told to keep them.
            node.try_sh(&set_address("add", address)).ok();
        }
        self.set_default_routes(number);
    }

    /// Gives the node, which runs, these addresses in place of those that it has; IPv4 first.
    pub fn renumber(&mut self, number: usize, addresses: Vec<IpAddr>) {
        let before = self.addresses(number);
        for address in addresses.iter().filter(|address| !before.contains(address)) {
            self.node(number).netns.sh(&set_address("add", *address));
        }
        for address in before.iter().filter(|address| !addresses.contains(address)) {
            self.node(number).netns.sh(&set_address("del", *address));
        }
        self.renumbered.insert(number, addresses);
        self.set_default_routes(number);
    }

    /// The node, which must be on.
    #[track_caller]
    pub fn node(&self, number: usize) -> &Node {
        self.nodes[number].as_ref().expect("switched on")
    }

    /// A node's addresses on the underlay, IPv4 first.
    pub fn addresses(&self, number: usize) -> Vec<IpAddr> {
        if let Some(addresses) = self.renumbered.get(&number) {
            return addresses.clone();
        }
        let mut addresses = Vec::new();
        if self.families.underlay4 {
            addresses.push(format!("10.240.0.{}", number + 4).parse().expect("an address"));
        }
        if self.families.underlay6 {
            addresses.push(format!("fd00:240::{}", number + 4).parse().expect("an address"));
        }
        addresses
    }

    /// A node's Pod CIDRs, IPv4 first.
    pub fn pod_cidrs(&self, number: usize) -> Vec<String> {
        let both = [
            (self.families.pods4, format!("10.244.{number}.0/24")),
            (self.families.pods6, format!("fd00:244:0:{number}::/64")),
        ];
        both.into_iter().filter(|(has, _)| *has).map(|(_, cidr)| cidr).collect()
    }

    /// A node's entry in the map.
    pub fn entry(&self, number: usize) -> Value {
        json!({
            "name": format!("node-{number}"),
            "addresses": self.addresses(number),
            "podCIDRs": self.pod_cidrs(number),
        })
    }

    /// The node map's file.
    pub fn map(&self) -> PathBuf {
        self.files.path().join("nodes.json")
    }

    /// Writes a map of these nodes.
    pub fn write_map(&self, numbers: &[usize]) {
        self.write_entries(numbers.iter().map(|number| self.entry(*number)).collect());
    }

    /// Writes a map, the way that never leaves half of one: beside it, then renamed.
    pub fn write_entries(&self, entries: Vec<Value>) {
        let beside = self.files.path().join("nodes.json.new");
        std::fs::write(&beside, json!({ "nodes": entries }).to_string()).expect("write the map");
        std::fs::rename(beside, self.map()).expect("rename the map");
    }
}

/// `ip addr add` (or `del`) of an underlay address.
pub fn set_address(verb: &str, address: IpAddr) -> String {
    match address {
        IpAddr::V4(ip) => format!("ip addr {verb} {ip}/16 dev eth0"),
        IpAddr::V6(ip) => format!("ip addr {verb} {ip}/64 dev eth0{}", if verb == "add" { " nodad" } else { "" }),
    }
}

/// A chain of plugins, without a runtime: each plugin's configuration with name, version, map and store of its node.
pub fn configurations(node: &Node, map: &std::path::Path, plugins: &[Value]) -> Vec<Value> {
    let complete = plugins.iter().map(|plugin| {
        let mut plugin = plugin.clone();
        plugin["cniVersion"] = json!("1.1.0");
        plugin["name"] = json!("pods");
        plugin["nodes"] = json!(map);
        if plugin.get("ipam").is_some() {
            plugin["ipam"]["dataDir"] = json!(node.file("store"));
        }
        plugin
    });
    complete.collect()
}

/// ADD through a chain; the last result.
#[track_caller]
pub fn add(node: &Node, chain: &[Value], pod: &Pod) -> Value {
    let mut result = Value::Null;
    for config in chain {
        let mut config = config.clone();
        if !result.is_null() {
            config["prevResult"] = result;
        }
        let plugin = config["type"].as_str().expect("type").to_owned();
        result = node.call(&plugin, "ADD", pod, &config).ok();
    }
    result
}

/// `command` (CHECK, or DEL, which goes backwards) through a chain.
#[track_caller]
pub fn run(node: &Node, chain: &[Value], command: &str, pod: &Pod, result: &Value) {
    let mut chain: Vec<Value> = chain.to_vec();
    if command == "DEL" {
        chain.reverse();
    }
    for mut config in chain {
        config["prevResult"] = result.clone();
        let plugin = config["type"].as_str().expect("type").to_owned();
        node.call(&plugin, command, pod, &config).ok();
    }
}

/// The addresses of a result's Pod.
pub fn addresses(result: &Value) -> Vec<IpAddr> {
    let ips = result["ips"].as_array().expect("ips").iter();
    let address = |ip: &Value| ip["address"].as_str().and_then(|text| text.split('/').next()?.parse().ok());
    ips.map(|ip| address(ip).expect("an address")).collect()
}

impl Netns {
    /// Listens on a port of its own on `address`.
    #[track_caller]
    pub fn listen(&self, address: IpAddr) -> TcpListener {
        self.inside(|| TcpListener::bind((address, 0))).unwrap_or_else(|error| panic!("listen on {address}: {error}"))
    }

    /// A TCP connection from here; an error if it does not stand within two seconds.
    pub fn connect(&self, to: SocketAddr) -> std::io::Result<TcpStream> {
        self.inside(|| TcpStream::connect_timeout(&to, Duration::from_secs(2)))
    }

    /// The address that `server`, listening on `address`, sees when somebody connects from here.
    pub fn seen_by(&self, server: &Netns, address: IpAddr) -> Result<IpAddr, String> {
        let listener = server.listen(address);
        let to = listener.local_addr().expect("bound");
        let _client = self.connect(to).map_err(|error| format!("{} to {to}: {error}", self.name()))?;
        let (_, from) = listener.accept().map_err(|error| error.to_string())?;
        Ok(from.ip())
    }
}
