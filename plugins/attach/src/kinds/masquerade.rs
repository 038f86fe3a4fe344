//! Masquerade: what a Pod sends beyond its network leaves with the node's address.
//!
//! One table for all networks, and nothing in it grows a packet's way with the number of Pods:
//!
//! ```text
//! table inet podwire {
//!   map pods4 { ipv4_addr : verdict = 10.22.0.5 : goto leave-10.22.0.0/16 … }      one element a Pod
//!   map pods6 { ipv6_addr : verdict … }
//!   chain postrouting { type nat hook postrouting priority srcnat
//!     meta nfproto ipv4 ip saddr vmap @pods4
//!     meta nfproto ipv6 ip6 saddr vmap @pods6 }
//!   chain leave-10.22.0.0/16 { ip daddr 10.22.0.0/16 return; ip daddr 224.0.0.0/4 return; masquerade }
//! }
//! ```
//!
//! In a network of many nodes a Pod's element goes to the network's own chain instead ([`cluster::inside`]). The `leave-`
//! chain of a subnet says in its name all that it holds, so it is made once and never changed. An
//! element's comment is its owner: an element that another attachment got since stays. The usual ADD is one
//! message, one element; only if the kernel answers that something is missing is the rest looked at, and then, if the
//! table was gone (`nft flush ruleset`, a firewall restarted), the elements of all living Pods are put back: the
//! labels of their wires say which ([`crate::label`]): `masquerade=10.22.0.5/16,fd00::5/64`, and in a network of many nodes
//! `cluster=0123456789abcdef:10.244.0.0/16`.

use ipnetwork::IpNetwork;
use netlink_packet_netfilter::nftables::{InetHookNumber, Verdict};

use std::net::IpAddr;

use cluster::inside::{self, INET, Inside};
use kernel::kernel::changed;
use kernel::nft::{self, BaseChain, Element, Expression, Family, Transaction};
use kernel::{Kernel, Made, Object, Result};

use crate::kinds::{Kind, Owned, by_comment, lost_with_table};
use crate::label::Label;
use crate::living;
use crate::owner::Owner;

const CHAIN: &str = "postrouting";
const MAPS: [&str; 2] = ["pods4", "pods6"];

/// Masquerade for one Pod's addresses. Owned by its attachment.
#[derive(Clone, Debug)]
pub struct Masquerade {
    /// The attachment.
    pub owner: Owner,
    /// The Pod's addresses, each with its subnet: towards that, and towards multicast, nothing is masqueraded.
    pub addresses: Vec<IpNetwork>,
    /// In a network of many nodes: what is inside of it, towards which nothing is masqueraded either.
    pub inside: Option<Inside>,
}

impl Object for Masquerade {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        nft::insist("masquerade", &|| self.add(kernel), &|| self.repair(kernel), &|| self.take_over(kernel))
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        let missing =
            |what: &str| Err(changed(format!("masquerade: {what}; the next ADD of this network restores it")));
        if INET.rules(kernel, CHAIN)? < MAPS.len() {
            return missing("chain inet podwire postrouting is missing or was changed");
        }
        for address in &self.addresses {
            let element = INET.element(kernel, map_of(address), &key(address))?;
            let Some(chain) = element
                .filter(|element| element.comment.as_ref() == Some(&self.owner.to_string()))
                .and_then(|e| e.goto)
            else {
                return missing(&format!("no element for {} in inet podwire {}", address.ip(), map_of(address)));
            };
            // An overlay after this plugin may have said that more is inside.
            let of_network = inside::is_chain(&chain);
            if chain != self.chain(address) && !of_network {
                return missing(&format!("{} goes to chain inet podwire {chain}", address.ip()));
            }
            if !of_network && INET.rules(kernel, &chain)? != leave_rules(address).len() {
                return missing(&format!("chain inet podwire {chain} is missing or was changed"));
            }
        }
        self.inside.as_ref().map_or(Ok(()), |inside| inside.check(kernel))
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        let keys: Vec<_> = self.addresses.iter().map(|address| (map_of(address), key(address))).collect();
        INET.remove_commented(kernel, &self.owner.to_string(), &keys)
    }

    fn possible(&self, kernel: &Kernel) -> Result<()> {
        INET.rules(kernel, CHAIN).map(drop)
    }
}

impl Owned for Masquerade {
    fn say(&self, label: &mut Label) {
        let addresses: Vec<String> = self.addresses.iter().map(IpNetwork::to_string).collect();
        label.set(PART, addresses.join(","));
        if let Some(inside) = &self.inside {
            let mut largest_first = inside.subnets.clone();
            largest_first.sort_by_key(|subnet| subnet.prefix());
            let subnets = largest_first.iter().map(IpNetwork::to_string).collect();
            label.set_elastic(CLUSTER_PART, format!("{}:", inside.network), subnets);
        }
    }
}

/// Masquerade in place of what an earlier plugin of the chain made for the same attachment.
#[derive(Clone, Debug)]
pub struct Replaced(pub Masquerade);

impl Object for Replaced {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        self.0.remove(kernel)?;
        self.0.ensure(kernel)
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        self.0.check(kernel)
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        self.0.remove(kernel)
    }
}

/// The names of its parts of the label.
const PART: &str = "masquerade";
const CLUSTER_PART: &str = "cluster";

/// The addresses that are masqueraded by that label.
pub fn addresses_in(label: &Label) -> Vec<IpNetwork> {
    label.part(PART).unwrap_or_default().split(',').filter_map(|address| address.parse().ok()).collect()
}

/// Those, and the addresses in `list`, each once: an address that is masqueraded is in no other part of a label.
pub fn with_addresses_in(label: &Label, list: &str) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = addresses_in(label).iter().map(|it| it.ip()).collect();
    for address in list.split(',').filter_map(|item| item.parse().ok()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses
}

/// The addresses among these that are not masqueraded by that label.
pub fn without_addresses_in(label: &Label, addresses: &[IpAddr]) -> Vec<String> {
    let written = addresses_in(label);
    let more = addresses.iter().filter(|address| !written.iter().any(|it| it.ip() == **address));
    more.map(IpAddr::to_string).collect()
}

/// What that label says of what is inside of the network: as many subnets as there was room for.
pub fn inside_in(label: &Label) -> Option<Inside> {
    label.part(CLUSTER_PART).and_then(Inside::read_outline)
}

/// Masquerade, among the kinds of objects that attachments own.
#[derive(Debug)]
pub struct Masquerades;

impl Kind for Masquerades {
    fn name(&self) -> &'static str {
        "masquerade"
    }

    fn part(&self) -> &'static str {
        PART
    }

    fn read(&self, label: &Label) -> Option<Box<dyn Owned>> {
        Masquerade::of(label).map(|masquerade| Box::new(masquerade) as Box<dyn Owned>)
    }

    fn sweep(&self, kernel: &Kernel, is_gone: &dyn Fn(Owner) -> bool) -> Result<()> {
        INET.sweep(kernel, &MAPS, &by_comment(is_gone))
    }

    /// A dying Pod's last new connections may leave with its own address.
    fn goes_before_the_wire(&self) -> bool {
        true
    }

    fn lost(&self, kernel: &Kernel, living: &[Label]) -> Result<usize> {
        lost_with_table(kernel, self, living, &is_lost)
    }

    fn restore(&self, kernel: &Kernel, _living: &[Label]) -> Result<()> {
        restore(kernel)
    }
}

/// Is the table gone?
fn is_lost(kernel: &Kernel) -> Result<bool> {
    Ok(INET.rules(kernel, CHAIN)? < MAPS.len())
}

/// Makes the table, and the elements of all living Pods.
fn restore(kernel: &Kernel) -> Result<()> {
    nft::accept_faster(make_table(kernel))?;
    crate::restore::elements(kernel, &Masquerade::of, &|pod| pod.ensure_chains(kernel).and_then(|()| pod.add(kernel)))
}

impl Masquerade {
    /// Of a network of many nodes, a label has the most important of what is inside; the network's next ADD, GC or sync
    /// writes all of it.
    fn of(label: &Label) -> Option<Self> {
        let addresses = addresses_in(label);
        let inside = inside_in(label).map(|mut inside| {
            inside.subnets.extend(&addresses);
            inside
        });
        (!addresses.is_empty()).then_some(Masquerade { owner: label.owner, addresses, inside })
    }

    fn add(&self, kernel: &Kernel) -> Result<()> {
        let mut transaction = INET.transaction();
        for address in &self.addresses {
            let element =
                Element { key: key(address), goto: Some(self.chain(address)), comment: Some(self.owner.to_string()) };
            transaction.elements(map_of(address), &[element]);
        }
        transaction.commit(kernel, &|| format!("adding masquerade for {}", words(&self.addresses)))
    }

    /// Something that the element refers to is missing: makes it.
    fn repair(&self, kernel: &Kernel) -> Result<()> {
        if is_lost(kernel)? {
            restore(kernel)?;
        }
        self.ensure_chains(kernel)
    }

    /// The chains that its elements go to.
    fn ensure_chains(&self, kernel: &Kernel) -> Result<()> {
        if let Some(inside) = &self.inside {
            return inside.ensure(kernel).map(drop);
        }
        for address in &self.addresses {
            if INET.rules(kernel, &leave_chain(address))? == 0 {
                let mut transaction = INET.transaction();
                add_leave_chain(&mut transaction, address);
                nft::accept_faster(transaction.commit(kernel, &|| format!("adding chain {}", leave_chain(address))))?;
            }
        }
        Ok(())
    }

    fn chain(&self, address: &IpNetwork) -> String {
        self.inside.as_ref().map_or_else(|| leave_chain(address), |inside| inside::chain(inside.network))
    }

    /// The address has an element: of a Pod that went without DEL, for IPAM gave the address to us now. Of one that lives
    /// it is not taken.
    fn take_over(&self, kernel: &Kernel) -> Result<()> {
        for address in &self.addresses {
            if let Some(element) = INET.element(kernel, map_of(address), &key(address))? {
                let owner = element.comment.as_deref().and_then(Owner::from_hex);
                if let Some(other) = owner.filter(|owner| *owner != self.owner) {
                    let has_it = |label: &Label| addresses_in(label).iter().any(|it| it.ip() == address.ip());
                    living::refuse_address_of(kernel, other, address.ip(), &has_it)?;
                }
                INET.remove_elements(kernel, &[(map_of(address), element)])?;
            }
        }
        Ok(())
    }
}

/// Makes table, maps and base chain.
fn make_table(kernel: &Kernel) -> Result<()> {
    let mut transaction = INET.transaction();
    transaction.table();
    for (map, family) in MAPS.iter().zip(Family::ALL) {
        transaction.verdict_map(map, family.set_type(), family.bytes());
    }
    // NF_IP_PRI_NAT_SRC of include/uapi/linux/netfilter_ipv4.h.
    transaction.chain(CHAIN, Some(BaseChain { kind: "nat", hook: InetHookNumber::PostRouting, priority: 100 }));
    for (map, family) in MAPS.iter().zip(Family::ALL) {
        let mut rule = family.source();
        rule.push(nft::verdict_map(map));
        transaction.rule(CHAIN, rule);
    }
    transaction.commit(kernel, &|| "making nftables table inet podwire".to_owned())
}

fn map_of(address: &IpNetwork) -> &'static str {
    MAPS[usize::from(address.is_ipv6())]
}

fn key(address: &IpNetwork) -> Vec<u8> {
    nft::bytes(address.ip())
}

/// The name of the chain that masquerades what leaves `address`'s subnet. nft's names have no colons.
fn leave_chain(address: &IpNetwork) -> String {
    match address {
        IpNetwork::V4(network) => format!("leave-{}/{}", network.network(), network.prefix()),
        IpNetwork::V6(network) => format!("leave-{:032x}/{}", network.network().to_bits(), network.prefix()),
    }
}

fn add_leave_chain(transaction: &mut Transaction, address: &IpNetwork) {
    let chain = leave_chain(address);
    transaction.chain(&chain, None);
    for rule in leave_rules(address) {
        transaction.rule(&chain, rule);
    }
}

fn leave_rules(address: &IpNetwork) -> Vec<Vec<Expression>> {
    let family = Family::of(address.ip());
    let stay = [*address, family.multicast()].map(|network| {
        let mut rule = family.towards(&network);
        rule.push(nft::end(Verdict::Return));
        rule
    });
    stay.into_iter().chain([vec![nft::simple("masq")]]).collect()
}

fn words(addresses: &[IpNetwork]) -> String {
    addresses.iter().map(|address| address.ip().to_string()).collect::<Vec<_>>().join(", ")
}
