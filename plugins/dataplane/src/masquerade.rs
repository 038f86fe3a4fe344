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
//! In a network of many nodes a Pod's element goes to the network's own chain instead ([`crate::cluster`]). The `leave-`
//! chain of a subnet says in its name all that it holds, so it is made once and never changed. An
//! element's comment says whose it is: what another attachment got since stays. The usual ADD is one
//! message, one element; only if the kernel answers that something is missing is the rest looked at, and then, if the
//! table was gone (`nft flush ruleset`, a firewall restarted), the elements of all living Pods are put back: the
//! aliases of their host ends say which ([`crate::owner::Label`]).

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{InetHookNumber, MetaKey, Register, Verdict};

use crate::cluster::{self, Inside};
use crate::error::Result;
use crate::kernel::{Kernel, changed};
use crate::nft::{self, BaseChain, Element, Expression, Table, Transaction};
use crate::owner::{Label, Owner};
use crate::plan::{Made, Object};
use crate::{living, restore};

pub(crate) const INET: Table = Table(NetfilterProtoFamily::Inet);
const CHAIN: &str = "postrouting";
const MAPS: [&str; 2] = ["pods4", "pods6"];

/// Masquerade for one Pod's addresses. Owned by its attachment.
#[derive(Clone, Debug)]
pub struct Masquerade {
    /// Whose.
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
            let Some(chain) = element.filter(|element| element.owner == Some(self.owner)).and_then(|e| e.goto) else {
                return missing(&format!("no element for {} in inet podwire {}", address.ip(), map_of(address)));
            };
            // An overlay after this plugin may have said that more is inside.
            let of_network = cluster::is_chain(&chain);
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
        INET.remove_owned(kernel, self.owner, &keys)
    }

    fn possible(&self, kernel: &Kernel) -> Result<()> {
        INET.rules(kernel, CHAIN).map(drop)
    }
}

/// Removes the masquerade of every owner that is gone, whatever its addresses were.
pub fn remove_all_of(kernel: &Kernel, is_gone: &dyn Fn(Owner) -> bool) -> Result<()> {
    INET.disown(kernel, &MAPS, is_gone)
}

impl Masquerade {
    fn add(&self, kernel: &Kernel) -> Result<()> {
        let mut transaction = INET.transaction();
        for address in &self.addresses {
            let element = Element { key: key(address), goto: Some(self.chain(address)), owner: Some(self.owner) };
            transaction.elements(map_of(address), &[element]);
        }
        transaction.commit(kernel, &|| format!("adding masquerade for {}", words(&self.addresses)))
    }

    /// Something that the element stands on is missing: makes it.
    fn repair(&self, kernel: &Kernel) -> Result<()> {
        if INET.rules(kernel, CHAIN)? < MAPS.len() {
            nft::accept_faster(restore(kernel))?;
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
        self.inside.as_ref().map_or_else(|| leave_chain(address), |inside| cluster::chain(inside.network))
    }

    /// The address has an element: of a Pod that went without DEL, for IPAM gave the address to us now. Of one that lives
    /// it is not taken.
    fn take_over(&self, kernel: &Kernel) -> Result<()> {
        for address in &self.addresses {
            if let Some(element) = INET.element(kernel, map_of(address), &key(address))? {
                if let Some(other) = element.owner.filter(|owner| *owner != self.owner) {
                    living::refuse_address_of(kernel, other, address.ip())?;
                }
                INET.remove_elements(kernel, &[(map_of(address), element)])?;
            }
        }
        Ok(())
    }
}

/// Makes table, maps and base chain, and the elements of all living Pods.
fn restore(kernel: &Kernel) -> Result<()> {
    let mut transaction = INET.transaction();
    transaction.table();
    transaction.verdict_map(MAPS[0], IPV4_ADDR, 4);
    transaction.verdict_map(MAPS[1], IPV6_ADDR, 16);
    // NF_IP_PRI_NAT_SRC of include/uapi/linux/netfilter_ipv4.h.
    transaction.chain(CHAIN, Some(BaseChain { kind: "nat", hook: InetHookNumber::PostRouting, priority: 100 }));
    for (map, family) in MAPS.iter().zip([Family::V4, Family::V6]) {
        let source = nft::payload(NETWORK_HEADER, family.source_offset(), family.bytes(), Register::Reg1);
        let rule = vec![nft::meta(MetaKey::Nfproto), nft::equals(&[family.nfproto()]), source, nft::verdict_map(map)];
        transaction.rule(CHAIN, rule);
    }
    transaction.commit(kernel, &|| "making nftables table inet podwire".to_owned())?;
    let of_label = |label: Label| {
        let addresses = label.masquerade.clone();
        let masquerade = Masquerade { owner: label.owner, addresses, inside: inside_by_label(&label) };
        (!masquerade.addresses.is_empty()).then_some(masquerade)
    };
    restore::elements(kernel, &of_label, &|pod| pod.ensure_chains(kernel).and_then(|()| pod.add(kernel)))
}

/// Of a network of many nodes, a label says the most important of what is inside; the network's next ADD, GC or sync says
/// it all.
fn inside_by_label(label: &Label) -> Option<Inside> {
    let mut inside = label.cluster.clone()?;
    inside.subnets.extend(&label.masquerade);
    Some(inside)
}

/// nft's numbers for its data types (nftables' include/datatype.h): only `nft list` reads them.
const IPV4_ADDR: u32 = 7;
const IPV6_ADDR: u32 = 8;

/// NFT_PAYLOAD_NETWORK_HEADER.
const NETWORK_HEADER: u32 = 1;

/// What differs between the two families.
pub(crate) enum Family {
    V4,
    V6,
}

impl Family {
    pub(crate) fn of(address: &IpNetwork) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub(crate) fn is(&self, other: &Family) -> bool {
        self.nfproto() == other.nfproto()
    }

    /// nft's number for the type of a set of addresses.
    pub(crate) fn set_type(&self) -> u32 {
        match self {
            Family::V4 => IPV4_ADDR,
            Family::V6 => IPV6_ADDR,
        }
    }

    /// Goes on only for packets of this family, with the destination in the first register.
    pub(crate) fn destination(&self) -> Vec<Expression> {
        let destination = nft::payload(NETWORK_HEADER, self.destination_offset(), self.bytes(), Register::Reg1);
        vec![nft::meta(MetaKey::Nfproto), nft::equals(&[self.nfproto()]), destination]
    }

    /// Goes on only for packets to `network`. The whole address is loaded and masked, as nft itself does, so that
    /// `nft list` shows `ip daddr 10.22.0.0/16`.
    pub(crate) fn towards(&self, network: &IpNetwork) -> Vec<Expression> {
        let mut rule = self.destination();
        rule.extend([nft::masked(&bytes(network.mask())), nft::equals(&bytes(network.network()))]);
        rule
    }

    fn nfproto(&self) -> u8 {
        match self {
            Family::V4 => 2,
            Family::V6 => 10,
        }
    }

    /// Of an address.
    pub(crate) fn bytes(&self) -> u32 {
        match self {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }

    /// Where the source address is in the header (RFC 791, RFC 8200).
    fn source_offset(&self) -> u32 {
        match self {
            Family::V4 => 12,
            Family::V6 => 8,
        }
    }

    fn destination_offset(&self) -> u32 {
        self.source_offset() + self.bytes()
    }

    pub(crate) fn multicast(&self) -> IpNetwork {
        let text = match self {
            Family::V4 => "224.0.0.0/4",
            Family::V6 => "ff00::/8",
        };
        text.parse().expect("a network")
    }
}

fn map_of(address: &IpNetwork) -> &'static str {
    MAPS[usize::from(address.is_ipv6())]
}

fn key(address: &IpNetwork) -> Vec<u8> {
    bytes(address.ip())
}

fn bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
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
    let family = Family::of(address);
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
