//! Who reaches whom, and is seen as whom.

use std::net::IpAddr;

use conformance::cluster;
use conformance::network::Reach;

use crate::Shown;

impl Shown {
    #[track_caller]
    pub fn everybody_reaches_everybody(&self) {
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
    pub fn everybody_reaches_every_node(&self) {
        for from in self.living() {
            for number in (0..3).filter(|number| self.is_on(*number)) {
                for address in self.common_addresses(from.node, number) {
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
    pub fn every_node_reaches_every_pod(&self) {
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
    pub fn outside_sees_the_node(&self) {
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

    /// A node's addresses of the families that another node has too.
    fn common_addresses(&self, from: usize, to: usize) -> Vec<IpAddr> {
        let has = self.node_addresses(from);
        let is_common = |address: &IpAddr| has.iter().any(|own| own.is_ipv4() == address.is_ipv4());
        self.node_addresses(to).into_iter().filter(is_common).collect()
    }

    #[track_caller]
    pub fn all_is_well(&self) {
        self.everybody_reaches_everybody();
        self.everybody_reaches_every_node();
        self.every_node_reaches_every_pod();
    }

    #[track_caller]
    pub fn all_is_as_added(&self) {
        for pod in self.living() {
            cluster::run(self.cluster.node(pod.node), &self.chain(pod.node), "CHECK", &pod.pod, &pod.result);
        }
    }
}
