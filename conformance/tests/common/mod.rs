//! What several tests do alike: one network on one node, an outside host, who is seen as a packet's source.
#![allow(dead_code)] // Each test program uses its part.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::channel;
use std::time::Duration;

use conformance::lab::{Netns, Node, Pod, Reply};
use serde_json::{Value, json};

/// A network of one plugin, with host-local's store in the node's own directory.
pub struct Network<'a> {
    pub node: &'a Node,
    pub plugin: String,
    pub config: Value,
}

impl<'a> Network<'a> {
    /// `keys` of the plugin; `ranges` of host-local, or `Null` for no IPAM. The network's name is the plugin's and `-net`.
    pub fn new(node: &'a Node, plugin: &str, keys: Value, ranges: Value) -> Self {
        let mut config = json!({"cniVersion": "1.1.0", "name": format!("{plugin}-net"), "type": plugin});
        for (key, value) in keys.as_object().unwrap() {
            config[key] = value.clone();
        }
        if !ranges.is_null() {
            let store = node.file("store").display().to_string();
            config["ipam"] = json!({"type": "host-local", "dataDir": store, "ranges": ranges});
        }
        Network { node, plugin: plugin.to_owned(), config }
    }

    /// The same network, to be changed.
    pub fn copy_of(other: &Network<'a>) -> Self {
        Network { node: other.node, plugin: other.plugin.clone(), config: other.config.clone() }
    }

    pub fn call(&self, command: &str, pod: &Pod) -> Reply {
        self.call_with(command, pod, &self.config)
    }

    pub fn call_with(&self, command: &str, pod: &Pod, config: &Value) -> Reply {
        self.node.call(&self.plugin, command, pod, config)
    }

    #[track_caller]
    pub fn add(&self, pod: &Pod) -> Value {
        self.call("ADD", pod).ok()
    }

    #[track_caller]
    pub fn del(&self, pod: &Pod) {
        self.call("DEL", pod).ok();
    }

    pub fn check(&self, pod: &Pod, result: &Value) -> Reply {
        let mut config = self.config.clone();
        config["prevResult"] = result.clone();
        self.call_with("CHECK", pod, &config)
    }

    /// The addresses that host-local's store holds for this network, sorted.
    pub fn held(&self) -> Vec<String> {
        let directory = self.node.file("store").join(self.config["name"].as_str().unwrap());
        let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut held: Vec<String> = names.filter(|name| name.parse::<std::net::IpAddr>().is_ok()).collect();
        held.sort();
        held
    }
}

/// No address of the network is reserved.
#[track_caller]
pub fn held_nothing(network: &Network) {
    assert_eq!(network.held(), [""; 0]);
}

/// A host beyond the node: the node is 192.0.2.1 and 2001:db8::1 on `up0`, the host 192.0.2.2 and 2001:db8::2.
pub fn outside(node: &Node) -> Netns {
    let host = Netns::new("outside");
    host.sh(&format!(
        "ip link add out0 type veth peer name up0 netns {node}; ip addr add 192.0.2.2/24 dev out0; \
         ip addr add 2001:db8::2/64 dev out0 nodad; ip link set out0 up",
        node = node.netns.name()
    ));
    node.netns.sh("ip addr add 192.0.2.1/24 dev up0; ip addr add 2001:db8::1/64 dev up0 nodad; ip link set up0 up");
    host
}

/// The source address that `server` sees of a connection from `client` to its `address`.
#[track_caller]
pub fn source_seen(client: &Netns, server: &Netns, address: &str) -> String {
    let address: IpAddr = address.parse().unwrap();
    std::thread::scope(|scope| {
        let (ready, is_ready) = channel();
        let seen = scope.spawn(move || {
            // A port of its own: another test's child may hold the last listener from its fork to its exec.
            let listener = server.inside(|| TcpListener::bind("[::]:0").expect("listen"));
            ready.send(listener.local_addr().unwrap().port()).unwrap();
            listener.accept().map(|(_, peer)| peer.ip().to_canonical().to_string())
        });
        let target = SocketAddr::new(address, is_ready.recv().unwrap());
        let stream = client.inside(|| TcpStream::connect_timeout(&target, Duration::from_secs(5)));
        let mut stream = stream.unwrap_or_else(|error| panic!("from {} to {target}: {error}", client.name()));
        let source = seen.join().unwrap().unwrap();
        let _ = stream.read(&mut [0]);
        source
    })
}

/// The global addresses of an interface, sorted as the kernel lists them.
pub fn addresses_of(netns: &Netns, interface: &str) -> Vec<String> {
    let answer = netns.ip(&format!("addr show dev {interface} scope global"));
    let all = answer[0]["addr_info"].as_array().cloned().unwrap_or_default();
    all.iter()
        .filter(|a| a["scope"] == "global")
        .map(|a| format!("{}/{}", a["local"].as_str().unwrap(), a["prefixlen"]))
        .collect()
}

pub fn mac_of(netns: &Netns, interface: &str) -> String {
    netns.ip(&format!("link show dev {interface}"))[0]["address"].as_str().unwrap().to_owned()
}

/// Does `job` for each item, `width` at a time; the results in the items' order.
pub fn in_parallel<T: Sync, R: Send>(width: usize, items: &[T], job: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let next = Mutex::new(0..items.len());
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..width {
            scope.spawn(|| {
                while let Some(index) = { next.lock().unwrap().next() } {
                    let result = job(&items[index]);
                    done.lock().unwrap().push((index, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap();
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}
