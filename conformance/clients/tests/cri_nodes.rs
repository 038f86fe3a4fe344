//! Several nodes, each with a containerd of its own: Pods that were started through CRI on different nodes talk.

use std::net::{Ipv4Addr, Ipv6Addr};

use clients::containerd::Containerd;
use clients::cri::{Cri, PodConfig};
use clients::machine::{Machine, eventually};
use conformance::cluster::{Cluster, Families};
use serde_json::{Value, json};

const DUAL: Families = Families { pods4: true, pods6: true, underlay4: true, underlay6: true };

const MAP: &str = "/etc/cni/nodes.json";

/// Pods on a bridge of their node; `further` keys decide how other nodes are reached.
fn bridge(further: Value) -> Value {
    merged(
        json!({ "type": "bridge", "isDefaultGateway": true, "nodes": MAP, "ipam": { "type": "host-local" } }),
        further,
    )
}

fn merged(mut plugin: Value, further: Value) -> Value {
    let Value::Object(further) = further else { panic!("an object") };
    plugin.as_object_mut().expect("an object").extend(further);
    plugin
}

/// A Pod with a server on port 80 and a container to ask others from.
struct Running {
    id: String,
    ips: Vec<String>,
    asker: String,
}

impl Running {
    fn start(cri: &Cri, name: &str) -> Self {
        let config = PodConfig::new(name);
        let id = cri.run_pod(&config).unwrap_or_else(|error| panic!("{name}: {error}"));
        let ips = cri.pod_status(&id).unwrap().ips;
        cri.run_container(&id, &config, "server", &["serve", "80"]).unwrap();
        let asker = cri.run_container(&id, &config, "asker", &[]).unwrap();
        Running { id, ips, asker }
    }
}

/// The same conflist on `count` nodes, a containerd on each, and two Pods on the first of them, one on the others: each
/// reaches each, by IPv4 and IPv6, and is seen with its own address.
fn pods_of_all_nodes_talk(count: usize, plugins: &[Value]) {
    let mut cluster = Cluster::new(DUAL, count);
    let map = std::fs::read_to_string(cluster.map()).unwrap();
    let machines: Vec<Machine> = cluster.nodes.iter_mut().map(|node| Machine::on(node.take().unwrap().netns)).collect();
    for machine in &machines {
        machine.write(MAP, &map);
        machine.configure(&json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": plugins }));
    }
    let containerds: Vec<Containerd> = machines.iter().map(Containerd::start).collect();
    let cris: Vec<Cri> = containerds.iter().map(Containerd::cri).collect();

    let places = std::iter::once(0).chain(0..count);
    let pods: Vec<(usize, Running)> = places
        .enumerate()
        .map(|(number, node)| (node, Running::start(&cris[node], &format!("pod-{number}"))))
        .collect();
    for (node, pod) in &pods {
        let [ipv4, ipv6] = &pod.ips[..] else { panic!("two addresses: {:?}", pod.ips) };
        let of_node: (Ipv4Addr, Ipv6Addr) = (ipv4.parse().unwrap(), ipv6.parse().unwrap());
        assert_eq!(usize::from(of_node.0.octets()[2]), *node, "10.244.{node}.0/24: {:?}", pod.ips);
        assert_eq!(usize::from(of_node.1.segments()[3]), *node, "fd00:244:0:{node}::/64: {:?}", pod.ips);
    }
    for (node, from) in &pods {
        for (_, to) in &pods {
            for (source, address) in from.ips.iter().zip(&to.ips) {
                let target = if address.contains(':') { format!("[{address}]:80") } else { format!("{address}:80") };
                let answer = eventually(|| cris[*node].exec(&from.asker, &["/pod", "get", &target]));
                assert_eq!(answer, format!("from {source}\n"), "to {address}");
            }
        }
    }
    for (node, pod) in &pods {
        cris[*node].remove_pod(&pod.id).unwrap();
    }
    for (node, machine) in machines.iter().enumerate() {
        assert_eq!(machine.residue(), Vec::<String>::new(), "on node {node}");
    }
}

#[test]
fn on_bridges_with_routes_between_two_and_three_nodes() {
    pods_of_all_nodes_talk(2, &[bridge(json!({ "ipMasq": true }))]);
    pods_of_all_nodes_talk(3, &[bridge(json!({ "ipMasq": true }))]);
}

#[test]
fn on_routed_wires_with_routes_between_two_and_three_nodes() {
    let plugin = json!({ "type": "routed-veth", "ipMasq": true, "nodes": MAP, "ipam": { "type": "host-local" } });
    pods_of_all_nodes_talk(2, std::slice::from_ref(&plugin));
    pods_of_all_nodes_talk(3, &[plugin]);
}

#[test]
fn over_vxlan_between_two_and_three_nodes() {
    let overlay = json!({ "type": "vxlan-overlay", "ipMasq": true, "nodes": MAP });
    pods_of_all_nodes_talk(2, &[merged(overlay.clone(), json!({ "ipam": { "type": "host-local" } }))]);
    pods_of_all_nodes_talk(3, &[bridge(json!({ "nodeRoutes": false })), overlay]);
}
