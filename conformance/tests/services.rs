//! Services over every wiring: kube-proxy's rules on the nodes, and who reaches what, and is seen as whom.
//!
//! The Service is as kube-dns is in many a cluster: ClusterIP 10.0.0.10, back ends 10.244.0.2 on node 0 and 10.244.1.2 on node 1,
//! each chosen half of the time. Two more have one back end each, so that it is known who answers.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use conformance::kube_proxy::{Answer, BackEnd, Service, ask, program};
use conformance::lab::Netns;
use conformance::network::{DUAL, Network, Reach, V4, V6_OVER_V4, Wire};
use serde_json::json;

const PORT: u16 = 5353;
/// More than a packet holds, so that MTU and address translation go together.
const BYTES: usize = 100_000;
/// Connections to a Service of two back ends: that one is never chosen happens once in 2^31 runs.
const ASKED: usize = 32;

/// The Pods by their numbers: the back ends, one beside the first, one on a node without any.
const FIRST: usize = 0;
const BESIDE: usize = 1;
const SECOND: usize = 2;
const ELSEWHERE: usize = 3;

fn cluster_cidr(ipv4: bool) -> &'static str {
    if ipv4 { "10.244.0.0/16" } else { "fd00:244::/48" }
}

fn cluster_ip(ipv4: bool, number: u8) -> SocketAddr {
    let ip = if ipv4 { format!("10.0.0.{number}") } else { format!("fd00:10::{number}") };
    SocketAddr::new(ip.parse().unwrap(), 53)
}

/// Three Services of one family: of both back ends, of the first alone, of the second alone.
struct Services<'a> {
    network: &'a Network,
    ipv4: bool,
    both: Service,
    first: Service,
    second: Service,
    serving: Vec<BackEnd<'a>>,
}

impl<'a> Services<'a> {
    fn new(network: &'a Network, ipv4: bool) -> Self {
        let back_end = |pod: usize| SocketAddr::new(network.pods[pod].address(ipv4).unwrap(), PORT);
        let service = |name, number: u8, pods: &[usize]| Service {
            name,
            cluster_ip: cluster_ip(ipv4, number),
            node_port: 32700 + u16::from(number),
            back_ends: pods.iter().map(|pod| back_end(*pod)).collect(),
        };
        let both = service("ERIFXISQEP7F7OF4", 10, &[FIRST, SECOND]);
        let first = service("IT2ZTR26TO4XFPTO", 11, &[FIRST]);
        let second = service("BWHGELGX6BITPZVO", 12, &[SECOND]);
        let serving = [FIRST, SECOND].map(|pod| BackEnd::new(network.pods[pod].netns(), back_end(pod)));
        let services = Services { network, ipv4, both, first, second, serving: serving.into() };
        for node in 0..3 {
            let all = [&services.both, &services.first, &services.second].map(Clone::clone);
            program(&network.cluster.node(node).netns, cluster_cidr(ipv4), &all);
        }
        services
    }

    fn address(&self, pod: usize) -> IpAddr {
        self.network.pods[pod].address(self.ipv4).unwrap()
    }

    /// Everything that is asked of Services; `same_bridge`: does the kernel pass bridged packets through iptables?
    fn work(&self, same_bridge: bool) {
        for pod in [FIRST, BESIDE, SECOND, ELSEWHERE] {
            for (service, back_end) in [(&self.first, FIRST), (&self.second, SECOND)] {
                if pod == BESIDE && back_end == FIRST && !same_bridge {
                    continue;
                }
                self.a_pod_asks(pod, service, back_end);
            }
        }
        self.each_back_end_is_chosen();
        self.nodes_ask();
        self.node_ports_work();
        self.the_outside_sees_the_node();
        assert_eq!(self.serving.len(), 2);
    }

    #[track_caller]
    fn a_pod_asks(&self, pod: usize, service: &Service, back_end: usize) {
        let netns = self.network.pods[pod].netns();
        let answer = self.asked(netns, service.cluster_ip);
        let what = format!("{}: {} asks {:?}: {answer:?}", self.network.name, self.address(pod), service.cluster_ip);
        assert_eq!(answer.from, self.address(back_end), "{what}");
        assert_eq!(answer.bytes, BYTES, "{what}");
        if pod == back_end {
            // To itself: with its own address for a source it would answer itself past the node.
            assert!(self.is_of_node(self.network.pods[pod].node, answer.seen), "{what}");
        } else {
            assert_eq!(answer.seen, self.address(pod), "{what}");
        }
    }

    /// By the dice of KUBE-SVC-…: the same client reaches the back end on its own node, and the one on another.
    #[track_caller]
    fn each_back_end_is_chosen(&self) {
        for pod in [FIRST, ELSEWHERE] {
            let netns = self.network.pods[pod].netns();
            let answers = (0..ASKED).map(|_| ask(netns, self.both.cluster_ip, 1).unwrap().from);
            let chosen: BTreeSet<IpAddr> = answers.collect();
            assert_eq!(chosen, [self.address(FIRST), self.address(SECOND)].into(), "{}", self.network.name);
        }
    }

    /// The node itself, and what runs in its network, such as the kubelet.
    #[track_caller]
    fn nodes_ask(&self) {
        if self.node_address(0).is_none() {
            // Such a node has no route to a ClusterIP of the family: nothing leaves it that rules could change.
            return;
        }
        for node in 0..3 {
            for (service, back_end) in [(&self.first, FIRST), (&self.second, SECOND)] {
                let answer = self.asked(&self.network.cluster.node(node).netns, service.cluster_ip);
                assert_eq!((answer.from, answer.bytes), (self.address(back_end), BYTES), "{}", self.network.name);
                assert!(self.is_of_node(node, answer.seen), "{}: node {node}: {answer:?}", self.network.name);
            }
        }
    }

    /// NodePorts of every node, of the back end's own and of the others: from outside, and from Pods. The back end sees
    /// the node that was addressed, to which its answer has to go back.
    #[track_caller]
    fn node_ports_work(&self) {
        let clients = [FIRST, BESIDE, SECOND, ELSEWHERE].map(|pod| self.network.pods[pod].netns());
        let outside = &self.network.cluster.outside;
        for node in 0..3 {
            let Some(address) = self.node_address(node) else { return };
            for (service, back_end) in [(&self.first, FIRST), (&self.second, SECOND)] {
                for client in clients.into_iter().chain([outside]) {
                    let answer = self.asked(client, SocketAddr::new(address, service.node_port));
                    assert_eq!((answer.from, answer.bytes), (self.address(back_end), BYTES), "{}", self.network.name);
                    assert!(self.is_of_node(node, answer.seen), "{}: node {node}: {answer:?}", self.network.name);
                }
            }
        }
    }

    /// Past all those rules, what leaves the cluster is masqueraded by the plugins as ever.
    #[track_caller]
    fn the_outside_sees_the_node(&self) {
        let outside: IpAddr = if self.ipv4 { "192.0.2.2" } else { "fd00:2::2" }.parse().unwrap();
        for pod in &self.network.pods {
            let Some(node) = self.node_address(pod.node) else { return };
            assert_eq!(pod.netns().seen_by(&self.network.cluster.outside, outside), Ok(node), "{}", self.network.name);
        }
    }

    /// The node's address on the underlay, if it has one of the family.
    fn node_address(&self, node: usize) -> Option<IpAddr> {
        self.network.node_addresses(node).into_iter().find(|address| address.is_ipv4() == self.ipv4)
    }

    #[track_caller]
    fn asked(&self, netns: &Netns, service: SocketAddr) -> Answer {
        let answer = ask(netns, service, BYTES);
        answer.unwrap_or_else(|error| panic!("{}: {error}", self.network.name))
    }

    /// Is it an address of that node: on its underlay, its bridge or its VTEP?
    fn is_of_node(&self, node: usize, address: IpAddr) -> bool {
        let all = self.network.cluster.node(node).netns.sh("ip -o addr show");
        all.contains(&format!(" {address}/"))
    }
}

/// On every node: bridged packets go through iptables (1) or not (0). False where the kernel can't.
fn bridge_calls_iptables(network: &Network, whether: u8) -> bool {
    if !Path::new("/proc/sys/net/bridge").exists() {
        return false;
    }
    for node in 0..3 {
        let set = format!(
            "sysctl -qw net.bridge.bridge-nf-call-iptables={whether} net.bridge.bridge-nf-call-ip6tables={whether}"
        );
        network.cluster.node(node).netns.sh(&set);
    }
    true
}

fn services_work(network: &Network) {
    let same_bridge = network.wire == Wire::Routed || bridge_calls_iptables(network, 1);
    if !same_bridge {
        println!("skipped in part: no back end on the client's own bridge, for this kernel has no br_netfilter");
    }
    for ipv4 in network.families() {
        Services::new(network, ipv4).work(same_bridge);
    }
}

macro_rules! wirings {
    ($($name:ident: $wire:ident $reach:ident $families:ident;)*) => {
        $(#[test]
        fn $name() {
            services_work(&Network::new(Wire::$wire, Reach::$reach, $families));
        })*
    };
}

wirings! {
    services_on_bridge_and_node_routes: Bridge NodeRoutes DUAL;
    services_on_bridge_and_a_gateway: Bridge Gateway DUAL;
    services_on_bridge_and_vxlan: Bridge Vxlan DUAL;
    services_on_bridge_and_vxlan_with_direct_routing: Bridge Direct DUAL;
    services_of_ipv6_on_bridge_and_vxlan_over_ipv4: Bridge Vxlan V6_OVER_V4;
    services_of_ipv6_on_bridge_and_direct_routing_over_ipv4: Bridge Direct V6_OVER_V4;
    services_on_routed_veth_and_node_routes: Routed NodeRoutes DUAL;
    services_on_routed_veth_and_a_gateway: Routed Gateway DUAL;
    services_on_routed_veth_and_vxlan: Routed Vxlan DUAL;
    services_on_routed_veth_and_vxlan_with_direct_routing: Routed Direct DUAL;
    services_of_ipv6_on_routed_veth_and_vxlan_over_ipv4: Routed Vxlan V6_OVER_V4;
    services_of_ipv6_on_routed_veth_and_direct_routing_over_ipv4: Routed Direct V6_OVER_V4;
}

/// What a Pod asks of a back end beside it, and of itself, is told apart by bridge-nf-call-iptables and hairpinMode. This is
/// what the book says of them.
#[test]
fn on_a_bridge_a_back_end_beside_the_client_needs_bridge_nf_and_one_that_asks_itself_then_hairpin_mode() {
    for (hairpin, calls, beside, itself) in [(true, 0, false, true), (true, 1, true, true), (false, 1, true, false)] {
        let keys = json!({"hairpinMode": hairpin});
        let network = Network::with_keys(Wire::Bridge, Reach::NodeRoutes, V4, keys);
        if !bridge_calls_iptables(&network, calls) {
            println!("skipped: this kernel has no br_netfilter");
            return;
        }
        let services = Services::new(&network, true);
        let works = |pod: usize| ask(network.pods[pod].netns(), services.first.cluster_ip, BYTES).is_ok();
        let what = format!("hairpinMode {hairpin}, bridge-nf-call-iptables {calls}");
        assert_eq!(works(BESIDE), beside, "{what}: a back end on the client's bridge");
        assert_eq!(works(FIRST), itself, "{what}: the client itself");
        assert!(works(SECOND), "{what}: a back end on another node");
    }
}
