//! What happens to nodes: one leaves, one joins, an underlay goes down and up, an address changes, a node reboots. The
//! rest stays up meanwhile, and nothing stale is left.

use std::net::IpAddr;

use conformance::cluster;
use conformance::network::Reach;

use crate::Shown;

impl Shown {
    /// What a node has that leads to another, or knows of it: routes, neighbors, FDB entries, what is not masqueraded.
    fn leads(&self, node: usize) -> String {
        self.cluster.node(node).netns.sh(
            "ip route show proto 112; ip -6 route show proto 112
             ip -o link show type vxlan | cut -d: -f2 | while read device; do
                 ip neigh show dev $device nud permanent; ip -6 neigh show dev $device nud permanent; bridge fdb show dev $device
             done
             nft list table inet podwire | grep -A 9 elements || true",
        )
    }

    /// No node has anything left that leads to one of these, which are addresses or the beginnings of some.
    #[track_caller]
    pub fn nothing_leads_to(&self, gone: &[String]) {
        for node in (0..3).filter(|node| self.is_on(*node)) {
            let leads = self.leads(node);
            let words: Vec<&str> = leads.split([' ', ',', '-', '\n', '\t']).collect();
            for part in gone {
                let is_part = |word: &&&str| **word == part || part.ends_with(['.', ':']) && word.starts_with(part);
                let found = words.iter().find(is_part);
                assert_eq!(found, None, "{}: node {node} still has {part}:\n{leads}", self.name);
            }
        }
    }

    /// All that was a node's: its addresses, and what its Pods' addresses begin with.
    fn traces(&self, number: usize) -> Vec<String> {
        let mut traces: Vec<String> = self.cluster.addresses(number).iter().map(IpAddr::to_string).collect();
        let beginning = |cidr: &String| cidr.replace(".0/24", ".").replace("::/64", ":");
        traces.extend(self.cluster.pod_cidrs(number).iter().map(beginning));
        traces
    }

    pub fn changes(&mut self) {
        self.a_node_leaves_and_comes_back();
        self.the_underlay_goes_down_and_up();
        self.an_address_changes();
        self.a_node_reboots();
    }

    /// Switched off and out of the map; its Pods are gone with it. Then it is there again.
    fn a_node_leaves_and_comes_back(&mut self) {
        let traces = self.traces(2);
        let meanwhile = self.talking(&[(0, 2)]);
        self.cluster.nodes[2] = None;
        self.cluster.write_map(&[0, 1]);
        self.sync();
        meanwhile.went_on();
        self.nothing_leads_to(&traces);
        self.all_is_well();

        self.pods.retain(|pod| pod.node != 2);
        let meanwhile = self.talking(&[(0, 2)]);
        self.cluster.switch_on(2);
        self.cluster.write_map(&[0, 1, 2]);
        self.start(2);
        self.sync();
        meanwhile.went_on();
        self.all_is_well();
        self.all_is_as_added();
    }

    /// Routes out of it are lost for good. The next ADD knows, and so does --sync.
    fn the_underlay_goes_down_and_up(&mut self) {
        let meanwhile = self.talking(&[(0, 1), (2, 3)]);
        self.cluster.set_underlay_down_and_up(0);
        self.start(0);
        meanwhile.went_on();
        self.all_is_well();
        self.all_is_as_added();

        let meanwhile = self.talking(&[(0, 1), (0, 2)]);
        self.cluster.set_underlay_down_and_up(2);
        self.sync_node(2);
        meanwhile.went_on();
        self.all_is_well();
        self.all_is_as_added();
    }

    /// Each of a node's addresses, one after the other, and back.
    fn an_address_changes(&mut self) {
        let before = self.cluster.addresses(1);
        for number in 0..before.len() {
            let mut after = before.clone();
            after[number] = if before[number].is_ipv4() { "10.240.7.7" } else { "fd00:240::7:7" }.parse().unwrap();
            self.node_1_is_renumbered(after.clone());
            self.nothing_leads_to(&[before[number].to_string()]);
            self.node_1_is_renumbered(before.clone());
            self.nothing_leads_to(&[after[number].to_string()]);
        }
    }

    fn node_1_is_renumbered(&mut self, addresses: Vec<IpAddr>) {
        let meanwhile = self.talking(&[(0, 1), (0, 3)]);
        self.cluster.renumber(1, addresses);
        self.cluster.write_map(&[0, 1, 2]);
        if self.reach == Reach::Gateway {
            self.tell_router(1);
        }
        self.sync();
        meanwhile.went_on();
        self.all_is_well();
        self.all_is_as_added();
    }

    /// The others need not be told.
    fn a_node_reboots(&mut self) {
        let meanwhile = self.talking(&[(0, 3)]);
        self.pods.retain(|pod| pod.node != 1);
        self.cluster.switch_on(1);
        self.start(1);
        meanwhile.went_on();
        self.all_is_well();
        self.all_is_as_added();
    }

    /// DEL, twice; no wire is left but the node's own.
    pub fn stop(&mut self) {
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
}
