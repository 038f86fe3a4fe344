//! Source check of routed wires, IPv6: what comes out of a Pod must have a source address that is routed to that Pod.
//!
//! ```text
//! table inet podwire {
//!   set wires { ifname = "vethabc…" }                      one element a Pod
//!   chain sourcecheck { type filter hook prerouting priority -300
//!     iifname @wires meta nfproto ipv6 fib saddr . iif oif missing drop }
//! }
//! ```
//!
//! For IPv4 the kernel has a setting that does this (rp_filter); for IPv6 it has none. What a route leads to that wire for
//! is let in: the Pod's address, and link-local ones, which nobody forwards. As with masquerade, when the table is gone the
//! next ADD puts back what the living Pods' labels say.

use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{InetHookNumber, MetaKey};

use crate::error::Result;
use crate::kernel::{Kernel, changed};
use crate::nft::{self, BaseChain, Element, Table};
use crate::owner::{Label, Owner};
use crate::plan::{Made, Object};
use crate::restore;

const INET: Table = Table(NetfilterProtoFamily::Inet);
const CHAIN: &str = "sourcecheck";
const WIRES: &str = "wires";

/// The check for one Pod's wire. Owned by its attachment.
#[derive(Clone, Copy, Debug)]
pub struct SourceCheck {
    /// Whose.
    pub owner: Owner,
}

impl Object for SourceCheck {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        nft::insist("the source check", &|| self.add(kernel), &|| restore(kernel), &|| self.remove(kernel))
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        if INET.rules(kernel, CHAIN)? == 0 {
            return Err(changed("source check: chain inet podwire sourcecheck is missing"));
        }
        match INET.element(kernel, WIRES, &self.key())? {
            Some(_) => Ok(()),
            None => {
                let wire = self.owner.host_end();
                Err(changed(format!("source check: no element for {wire:?} in set inet podwire {WIRES}")))
            }
        }
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        INET.remove_elements(kernel, &[(WIRES, Element { key: self.key(), goto: None, owner: None })])
    }

    fn possible(&self, kernel: &Kernel) -> Result<()> {
        INET.rules(kernel, CHAIN).map(drop)
    }
}

/// Removes the check of every owner that is gone.
pub fn remove_all_of(kernel: &Kernel, is_gone: &dyn Fn(Owner) -> bool) -> Result<()> {
    INET.disown(kernel, &[WIRES], is_gone)
}

impl SourceCheck {
    fn add(&self, kernel: &Kernel) -> Result<()> {
        let mut transaction = INET.transaction();
        transaction.elements(WIRES, &[Element { key: self.key(), goto: None, owner: Some(self.owner) }]);
        transaction.commit(kernel, &|| format!("adding the source check of {:?}", self.owner.host_end()))
    }

    fn key(&self) -> Vec<u8> {
        nft::name_key(&self.owner.host_end())
    }
}

/// Makes set and chain, and the elements of all living Pods.
fn restore(kernel: &Kernel) -> Result<()> {
    nft::accept_faster(make_chain(kernel))?;
    let of_label = |label: Label| label.source_check.then_some(SourceCheck { owner: label.owner });
    restore::elements(kernel, &of_label, &|check| check.add(kernel))
}

fn make_chain(kernel: &Kernel) -> Result<()> {
    // nft's number for its data type (nftables' include/datatype.h): only `nft list` reads it.
    const IFNAME: u32 = 41;
    /// NFPROTO_IPV6 of include/uapi/linux/netfilter.h.
    const IPV6: u8 = 10;
    let mut transaction = INET.transaction();
    transaction.table();
    transaction.set(WIRES, IFNAME, 16);
    // NF_IP6_PRI_RAW: before connection tracking, which need not know of what is dropped.
    let hook = InetHookNumber::PreRouting;
    transaction.chain(CHAIN, Some(BaseChain { kind: "filter", hook, priority: -300 }));
    let rule = vec![
        nft::meta(MetaKey::Iifname),
        nft::in_the_set(WIRES, false),
        nft::meta(MetaKey::Nfproto),
        nft::equals(&[IPV6]),
        nft::is_source_routed_back(),
        nft::equals(&[0]),
        nft::end(nft::DROP),
    ];
    transaction.rule(CHAIN, rule);
    transaction.commit(kernel, &|| "making chain inet podwire sourcecheck".to_owned())
}
