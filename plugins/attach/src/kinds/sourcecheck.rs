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
//! For IPv4 the kernel has a setting that does this (rp_filter); for IPv6 it has none. A source address is let in if a route
//! to it leaves by that wire: the Pod's address, and link-local ones, which no router forwards. Its part of the label:
//! `check=sources`. As with masquerade, when the table is gone the next ADD puts back what the labels of living Pods say.

use netlink_packet_netfilter::nftables::{InetHookNumber, MetaKey};

use cluster::inside::INET;
use kernel::kernel::changed;
use kernel::nft::{self, BaseChain, Element};
use kernel::{Kernel, Made, Object, Result};

use crate::kinds::{Kind, Owned, by_comment, lost_with_table};
use crate::label::Label;
use crate::owner::Owner;

const CHAIN: &str = "sourcecheck";
const WIRES: &str = "wires";

/// The check for one Pod's wire. Owned by its attachment.
#[derive(Clone, Copy, Debug)]
pub struct SourceCheck {
    /// The attachment.
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
        INET.remove_elements(kernel, &[(WIRES, Element::key(self.key()))])
    }

    fn possible(&self, kernel: &Kernel) -> Result<()> {
        INET.rules(kernel, CHAIN).map(drop)
    }
}

impl Owned for SourceCheck {
    fn say(&self, label: &mut Label) {
        label.set(PART, SOURCES);
    }
}

/// The name of its part of the label, and its only value.
const PART: &str = "check";
const SOURCES: &str = "sources";

/// Source checks, among the kinds of objects that attachments own.
#[derive(Debug)]
pub struct SourceChecks;

impl Kind for SourceChecks {
    fn name(&self) -> &'static str {
        "source checks"
    }

    fn part(&self) -> &'static str {
        PART
    }

    fn read(&self, label: &Label) -> Option<Box<dyn Owned>> {
        SourceCheck::of(label).map(|check| Box::new(check) as Box<dyn Owned>)
    }

    fn sweep(&self, kernel: &Kernel, is_gone: &dyn Fn(Owner) -> bool) -> Result<()> {
        INET.sweep(kernel, &[WIRES], &by_comment(is_gone))
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
    Ok(INET.rules(kernel, CHAIN)? == 0)
}

/// Makes the table, and the elements of all living Pods.
fn restore(kernel: &Kernel) -> Result<()> {
    nft::accept_faster(make_chain(kernel))?;
    crate::restore::elements(kernel, &SourceCheck::of, &|check| check.add(kernel))
}

impl SourceCheck {
    fn of(label: &Label) -> Option<Self> {
        (label.part(PART) == Some(SOURCES)).then_some(SourceCheck { owner: label.owner })
    }

    fn add(&self, kernel: &Kernel) -> Result<()> {
        let mut transaction = INET.transaction();
        transaction.elements(WIRES, &[Element { key: self.key(), goto: None, comment: Some(self.owner.to_string()) }]);
        transaction.commit(kernel, &|| format!("adding the source check of {:?}", self.owner.host_end()))
    }

    fn key(&self) -> Vec<u8> {
        nft::name_key(&self.owner.host_end())
    }
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
