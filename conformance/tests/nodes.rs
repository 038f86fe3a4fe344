//! Networks of many nodes: every way of wiring Pods, every way of reaching other nodes, every address family.

use std::io::{Read, Write};
use std::net::IpAddr;
use std::ops::{Deref, DerefMut};

use conformance::cluster::{self, set_address};
use conformance::network::{DUAL, Network, Reach, Running, V4, V6, V6_OVER_V4, Wire};
use serde_json::{Value, json};

struct Shown(Network);

impl Deref for Shown {
    type Target = Network;

    fn deref(&self) -> &Network {
        &self.0
    }
}

impl DerefMut for Shown {
    fn deref_mut(&mut self) -> &mut Network {
        &mut self.0
    }
}

impl Shown {
    #[track_caller]
    fn everybody_reaches_everybody(&self) {
        for from in self.living() {
            for to in self.living() {
                for ipv4 in self.families() {
                    let (source, address) = (from.address(ipv4).unwrap(), to.address(ipv4).unwrap());
                    let seen = from.netns().seen_by(to.netns(), address);
                    assert_eq!(seen, Ok(source), "{}: {source} to {address}", self.name);
                }
            }
        }
    }

    #[track_caller]
    fn everybody_reaches_every_node(&self) {
        for from in self.living() {
            for number in (0..3).filter(|number| self.is_on(*number)) {
                for address in self.node_addresses(number) {
                    let seen = from.netns().seen_by(&self.cluster.node(number).netns, address);
                    let own = from.address(address.is_ipv4()).unwrap();
                    let hidden = self.reach == Reach::Vxlan && number != from.node;
                    let expected = if hidden { self.cluster.addresses(from.node) } else { vec![own] };
                    assert!(
                        seen.as_ref().is_ok_and(|seen| expected.contains(seen)),
                        "{}: {own} to node {address}: seen {seen:?}, expected {expected:?}",
                        self.name
                    );
                }
            }
        }
    }

    #[track_caller]
    fn every_node_reaches_every_pod(&self) {
        for number in (0..3).filter(|number| self.is_on(*number)) {
            for to in self.living() {
                for ipv4 in self.families() {
                    let seen = self.cluster.node(number).netns.seen_by(to.netns(), to.address(ipv4).unwrap());
                    assert!(seen.is_ok(), "{}: node {number}: {seen:?}", self.name);
                }
            }
        }
    }

    #[track_caller]
    fn outside_sees_the_node(&self) {
        for from in self.living() {
            for ipv4 in self.families() {
                let outside: IpAddr = if ipv4 { "192.0.2.2" } else { "fd00:2::2" }.parse().unwrap();
                let Some(node) = self.node_addresses(from.node).into_iter().find(|a| a.is_ipv4() == ipv4) else {
                    continue;
                };
                let seen = from.netns().seen_by(&self.cluster.outside, outside);
                assert_eq!(seen, Ok(node), "{}: {:?} to outside", self.name, from.address(ipv4));
            }
        }
    }

    #[track_caller]
    fn what_fits_passes_and_one_byte_more_is_refused(&self) {
        let (from, to) = (&self.pods[0], &self.pods[2]);
        let mtu = from.netns().ip("link show eth0")[0]["mtu"].as_u64().unwrap();
        let fits = match self.reach {
            Reach::NodeRoutes | Reach::Gateway => 1400,
            Reach::Direct if self.cluster.families != V6_OVER_V4 => mtu,
            _ if self.cluster.families == V6 => 1430,
            _ => 1450,
        };
        assert_eq!(mtu, fits, "{}", self.name);
        for ipv4 in self.families() {
            let address = to.address(ipv4).unwrap();
            let payload = mtu - if ipv4 { 28 } else { 48 };
            let ping = |bytes: u64| from.netns().try_sh(&format!("ping -n -c 1 -W 2 -M do -s {bytes} {address}"));
            assert!(ping(payload).is_ok(), "{}: {:?}", self.name, ping(payload));
            let error = ping(payload + 1).unwrap_err();
            assert!(error.contains("too long"), "{}: {error}", self.name);
            self.too_large_from_outside_is_answered(from, ipv4, mtu);
        }
    }

    #[track_caller]
    fn too_large_from_outside_is_answered(&self, pod: &Running, ipv4: bool, mtu: u64) {
        let address = pod.address(ipv4).unwrap();
        let Some(node) = self.cluster.addresses(pod.node).into_iter().find(|a| a.is_ipv4() == ipv4) else { return };
        let bits = if ipv4 { 32 } else { 128 };
        self.cluster.router.sh(&format!("ip route replace {address}/{bits} via {node}"));
        let payload = 1500 - if ipv4 { 28 } else { 48 };
        let answer = self.cluster.outside.try_sh(&format!("ping -n -c 1 -W 2 -M do -s {payload} {address}"));
        self.cluster.router.sh(&format!("ip route del {address}/{bits} via {node}"));
        let answer = answer.unwrap_err();
        assert!(
            answer.contains(&format!("mtu = {mtu}")) || answer.contains(&format!("mtu={mtu}")),
            "{}: {answer}",
            self.name
        );
    }

    #[track_caller]
    fn a_hundred_megabytes_arrive(&self) {
        const SIZE: usize = 100 << 20;
        let (from, to) = (&self.pods[0], &self.pods[3]);
        let address = to.address(self.families()[0]).unwrap();
        let listener = to.netns().listen(address);
        let mut sender = from.netns().connect(listener.local_addr().unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        let sending = std::thread::spawn(move || {
            let block: Vec<u8> = (0..1 << 20).map(|at| (at % 251) as u8).collect();
            (0..SIZE / block.len()).try_for_each(|_| sender.write_all(&block))
        });
        let mut block = vec![0; 1 << 20];
        for _ in 0..SIZE / block.len() {
            receiver.read_exact(&mut block).unwrap();
            assert!(block.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8), "{}", self.name);
        }
        sending.join().unwrap().unwrap();
        assert_eq!(receiver.read(&mut block).unwrap(), 0, "{}", self.name);
    }

    #[track_caller]
    fn all_is_as_added(&self) {
        for pod in self.living() {
            cluster::run(self.cluster.node(pod.node), &self.chain(pod.node), "CHECK", &pod.pod, &pod.result);
        }
    }

    /// What a node has that leads to another: routes, neighbors, FDB entries.
    fn leads(&self, node: usize) -> String {
        self.cluster.node(node).netns.sh(
            "ip route show proto 112; ip -6 route show proto 112
             for d in $(ls /sys/class/net 2>/dev/null | grep vxlan); do ip neigh show dev $d nud permanent; bridge fdb show dev $d; done
             ip -o link show type vxlan | cut -d: -f2 | while read d; do ip neigh show dev $d nud permanent; ip -6 neigh show dev $d nud permanent; bridge fdb show dev $d; done",
        )
    }

    #[track_caller]
    fn nothing_leads_to(&self, number: usize) {
        let mut parts: Vec<String> =
            self.cluster.addresses(number).iter().map(|address| format!(" {address} ")).collect();
        parts.extend(self.cluster.pod_cidrs(number));
        for node in (0..3).filter(|node| *node != number && self.is_on(*node)) {
            let leads = self.leads(node);
            for part in &parts {
                assert!(!leads.contains(part.as_str()), "{}: node {node} still has {part}:\n{leads}", self.name);
            }
        }
    }

    #[track_caller]
    fn all_is_well(&self) {
        self.everybody_reaches_everybody();
        self.everybody_reaches_every_node();
    }

    /// A node leaves; one joins; the underlay goes down and up; an address changes; a node reboots.
    fn changes(&mut self) {
        let mut entries: Vec<Value> = (0..3).map(|number| self.cluster.entry(number)).collect();
        // Leaves: switched off, and out of the map. Its Pods' namespaces are gone with it, for the others.
        self.cluster.nodes[2] = None;
        self.cluster.write_map(&[0, 1]);
        self.sync();
        self.nothing_leads_to(2);
        self.all_is_well();

        // Joins, with the name and the Pod CIDRs that it had.
        self.pods.retain(|pod| pod.node != 2);
        self.cluster.switch_on(2);
        self.cluster.write_map(&[0, 1, 2]);
        self.start(2);
        self.sync();
        self.all_is_well();
        self.all_is_as_added();

        // The underlay goes down and up: routes out of it are lost for good, and the next ADD knows.
        let node = &self.cluster.node(0).netns;
        node.sh("ip link set eth0 down; ip link set eth0 up");
        for address in self.cluster.addresses(0).into_iter().filter(IpAddr::is_ipv6) {
            node.try_sh(&set_address("add", address)).ok();
        }
        if self.cluster.families.underlay4 {
            node.sh("ip route replace default via 10.240.0.1");
        }
        if self.cluster.families.underlay6 {
            node.sh("ip -6 route replace default via fd00:240::1");
        }
        self.start(0);
        self.all_is_well();
        self.all_is_as_added();

        // A node's address changes. Node routes to it, and tunnels, follow.
        if self.cluster.families.underlay4 && self.reach != Reach::Gateway {
            let node = &self.cluster.node(1).netns;
            node.sh("ip addr add 10.240.7.7/16 dev eth0; ip addr del 10.240.0.5/16 dev eth0; ip route replace default via 10.240.0.1");
            entries[1]["addresses"][0] = json!("10.240.7.7");
            self.cluster.write_entries(entries.clone());
            self.sync();
            self.everybody_reaches_everybody();
            for node in [0, 2] {
                let leads = self.leads(node);
                assert!(!leads.contains("10.240.0.5 "), "{}: {leads}", self.name);
            }
            let node = &self.cluster.node(1).netns;
            node.sh("ip addr add 10.240.0.5/16 dev eth0; ip addr del 10.240.7.7/16 dev eth0; ip route replace default via 10.240.0.1");
            self.cluster.write_map(&[0, 1, 2]);
            self.sync();
            self.everybody_reaches_everybody();
        }

        // Reboots: the others need not be told.
        self.pods.retain(|pod| pod.node != 1);
        self.cluster.switch_on(1);
        self.start(1);
        self.all_is_well();
        self.all_is_as_added();
    }

    fn stop(&mut self) {
        for pod in std::mem::take(&mut self.pods) {
            let node = self.cluster.node(pod.node);
            let chain = self.chain(pod.node);
            cluster::run(node, &chain, "DEL", &pod.pod, &pod.result);
            cluster::run(node, &chain, "DEL", &pod.pod, &pod.result);
        }
        for number in 0..3 {
            let node = self.cluster.node(number);
            let links = node.netns.sh("ip -o link show type veth");
            assert!(links.lines().count() <= 1, "{}: {links}", self.name);
        }
    }

    fn shows_everything(mut self) {
        self.all_is_as_added();
        self.all_is_well();
        self.every_node_reaches_every_pod();
        self.outside_sees_the_node();
        self.what_fits_passes_and_one_byte_more_is_refused();
        self.a_hundred_megabytes_arrive();
        self.changes();
        self.stop();
        println!("shown: {}", self.name);
    }
}

macro_rules! combinations {
    ($($name:ident: $wire:ident $reach:ident $families:ident;)*) => {
        $(#[test]
        fn $name() {
            Shown(Network::new(Wire::$wire, Reach::$reach, $families)).shows_everything();
        })*
    };
}

combinations! {
    bridge_node_routes_ipv4: Bridge NodeRoutes V4;
    bridge_node_routes_ipv6: Bridge NodeRoutes V6;
    bridge_node_routes_dual_stack: Bridge NodeRoutes DUAL;
    bridge_gateway_ipv4: Bridge Gateway V4;
    bridge_gateway_ipv6: Bridge Gateway V6;
    bridge_gateway_dual_stack: Bridge Gateway DUAL;
    bridge_vxlan_ipv4: Bridge Vxlan V4;
    bridge_vxlan_ipv6: Bridge Vxlan V6;
    bridge_vxlan_dual_stack: Bridge Vxlan DUAL;
    bridge_vxlan_ipv6_over_ipv4: Bridge Vxlan V6_OVER_V4;
    bridge_direct_ipv4: Bridge Direct V4;
    bridge_direct_ipv6: Bridge Direct V6;
    bridge_direct_dual_stack: Bridge Direct DUAL;
    bridge_direct_ipv6_over_ipv4: Bridge Direct V6_OVER_V4;
    routed_node_routes_ipv4: Routed NodeRoutes V4;
    routed_node_routes_ipv6: Routed NodeRoutes V6;
    routed_node_routes_dual_stack: Routed NodeRoutes DUAL;
    routed_gateway_ipv4: Routed Gateway V4;
    routed_gateway_ipv6: Routed Gateway V6;
    routed_gateway_dual_stack: Routed Gateway DUAL;
    routed_vxlan_ipv4: Routed Vxlan V4;
    routed_vxlan_ipv6: Routed Vxlan V6;
    routed_vxlan_dual_stack: Routed Vxlan DUAL;
    routed_vxlan_ipv6_over_ipv4: Routed Vxlan V6_OVER_V4;
    routed_direct_ipv4: Routed Direct V4;
    routed_direct_ipv6: Routed Direct V6;
    routed_direct_dual_stack: Routed Direct DUAL;
    routed_direct_ipv6_over_ipv4: Routed Direct V6_OVER_V4;
}
