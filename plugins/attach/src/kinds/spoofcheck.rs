//! MAC spoof check: frames from a Pod's port of a bridge must carry the Pod's own hardware address.
//!
//! ```text
//! table bridge podwire {
//!   set guarded { ifname = "vethabc…" }                    one element a Pod
//!   set macs { ifname . ether_addr = "vethabc…" . 0a:58:… }
//!   chain spoofcheck { type filter hook prerouting priority -300
//!     iifname @guarded iifname . ether saddr != @macs drop }
//! }
//! ```
//!
//! Its part of the label: `mac=0a:58:0a:16:00:05`. As with masquerade, when the table is gone the next ADD puts back what
//! the labels of living Pods say.

use netlink_packet_netfilter::nftables::{InetHookNumber, MetaKey, Register};

use kernel::kernel::changed;
use kernel::nft::{self, BaseChain, Element};
use kernel::{Kernel, Mac, Made, Object, Result};

use crate::kinds::{BRIDGE, Kind, Owned, by_comment, lost_with_table};
use crate::label::Label;
use crate::owner::Owner;

const CHAIN: &str = "spoofcheck";
const GUARDED: &str = "guarded";
const MACS: &str = "macs";

/// The check for one Pod's port. Owned by its attachment.
#[derive(Clone, Debug)]
pub struct SpoofCheck {
    /// The attachment.
    pub owner: Owner,
    /// The only source address that is let in.
    pub mac: Mac,
}

impl Object for SpoofCheck {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        // An element of an earlier attachment of the same names may have another hardware address.
        let take_over = || SpoofChecks.sweep(kernel, &|owner| owner == self.owner);
        nft::insist("the MAC check", &|| self.add(kernel), &|| restore(kernel), &take_over)
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        let port = self.owner.host_end();
        if BRIDGE.rules(kernel, CHAIN)? == 0 {
            return Err(changed("MAC check: chain bridge podwire spoofcheck is missing"));
        }
        for (set, key) in self.keys() {
            if BRIDGE.element(kernel, set, &key)?.is_none() {
                return Err(changed(format!("MAC check: no element for {port:?} in set bridge podwire {set}")));
            }
        }
        Ok(())
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        // The address first, should they go one by one: a guarded port that has no address left lets nothing in.
        let [guarded, mac] = self.keys();
        BRIDGE.remove_commented(kernel, &self.owner.to_string(), &[mac, guarded])
    }

    fn possible(&self, kernel: &Kernel) -> Result<()> {
        BRIDGE.rules(kernel, CHAIN).map(drop)
    }
}

impl Owned for SpoofCheck {
    fn say(&self, label: &mut Label) {
        label.set(PART, self.mac.to_string());
    }
}

/// The name of its part of the label.
const PART: &str = "mac";

/// MAC checks, among the kinds of objects that attachments own.
#[derive(Debug)]
pub struct SpoofChecks;

impl Kind for SpoofChecks {
    fn name(&self) -> &'static str {
        "MAC checks"
    }

    fn part(&self) -> &'static str {
        PART
    }

    fn read(&self, label: &Label) -> Option<Box<dyn Owned>> {
        SpoofCheck::of(label).map(|check| Box::new(check) as Box<dyn Owned>)
    }

    fn sweep(&self, kernel: &Kernel, is_gone: &dyn Fn(Owner) -> bool) -> Result<()> {
        BRIDGE.sweep(kernel, &[MACS, GUARDED], &by_comment(is_gone))
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
    Ok(BRIDGE.rules(kernel, CHAIN)? == 0)
}

/// Makes the table, and the elements of all living Pods.
fn restore(kernel: &Kernel) -> Result<()> {
    nft::accept_faster(make_table(kernel))?;
    crate::restore::elements(kernel, &SpoofCheck::of, &|check| check.add(kernel))
}

impl SpoofCheck {
    fn of(label: &Label) -> Option<Self> {
        Some(SpoofCheck { owner: label.owner, mac: label.part(PART)?.parse().ok()? })
    }

    fn add(&self, kernel: &Kernel) -> Result<()> {
        let mut transaction = BRIDGE.transaction();
        for (set, key) in self.keys() {
            transaction.elements(set, &[Element { key, goto: None, comment: Some(self.owner.to_string()) }]);
        }
        transaction.commit(kernel, &|| format!("adding the MAC check of {:?}", self.owner.host_end()))
    }

    /// The key in each set. A hardware address fills eight bytes of a concatenation.
    fn keys(&self) -> [(&'static str, Vec<u8>); 2] {
        let name = nft::name_key(&self.owner.host_end());
        let mut both = name.clone();
        both.extend(self.mac.0);
        both.resize(24, 0);
        [(GUARDED, name), (MACS, both)]
    }
}

fn make_table(kernel: &Kernel) -> Result<()> {
    // nft's numbers for its data types (nftables' include/datatype.h): only `nft list` reads them.
    const IFNAME: u32 = 41;
    const ETHER_ADDR: u32 = 9;
    // NFT_PAYLOAD_LL_HEADER, and the source address's place in it.
    const LINK_HEADER: u32 = 0;
    const SOURCE: u32 = 6;
    let mut transaction = BRIDGE.transaction();
    transaction.table();
    transaction.set(GUARDED, IFNAME, 16);
    transaction.set(MACS, IFNAME << 6 | ETHER_ADDR, 24);
    // NF_BR_PRI_FIRST < -300 = NF_BR_PRI_NAT_DST_BRIDGED: before any other program's address translation.
    let hook = InetHookNumber::PreRouting;
    transaction.chain(CHAIN, Some(BaseChain { kind: "filter", hook, priority: -300 }));
    let rule = vec![
        nft::meta(MetaKey::Iifname),
        nft::in_the_set(GUARDED, false),
        nft::payload(LINK_HEADER, SOURCE, 6, Register::Reg32_04),
        nft::in_the_set(MACS, true),
        nft::end(nft::DROP),
    ];
    transaction.rule(CHAIN, rule);
    transaction.commit(kernel, &|| "making nftables table bridge podwire".to_owned())
}
