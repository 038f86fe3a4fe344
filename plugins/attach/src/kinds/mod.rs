//! The registry of kinds: what an attachment can own beside its wire.
//!
//! Everything that a wire carries (addresses, routes, neighbors, settings) goes with it. What does not, an element of
//! nftables or a file, is of one of these kinds. Each kind is one file with two types: the object of one attachment
//! ([`Owned`]: make, check, remove, and its part of the label), and the kind itself ([`Kind`]: read that part, sweep the
//! objects of owners that are gone, restore those of living Pods). A new kind is one new file and one line in [`KINDS`]: DEL
//! and GC (`removal.rs`), undo and restoring iterate over the list.

pub mod addresscheck;
pub mod masquerade;
pub mod podroutes;
pub mod sourcecheck;
pub mod spoofcheck;

use std::fmt::Debug;

use cluster::inside::INET;
use kernel::nft::Table;
use kernel::{Kernel, Object, Result};
use netlink_packet_netfilter::NetfilterProtoFamily;

use crate::label::Label;
use crate::owner::Owner;
use crate::record::Records;

/// An object that one attachment owns beside its wire.
pub trait Owned: Object {
    /// Writes its part of the attachment's label.
    fn say(&self, label: &mut Label);
}

/// A kind of object that attachments own beside their wires.
pub trait Kind: Debug + Sync {
    /// What it is called in messages: `masquerade`.
    fn name(&self) -> &'static str;

    /// The name of its part of a label.
    fn part(&self) -> &'static str;

    /// The object that an attachment with this label has, from the kind's part of the label.
    fn read(&self, label: &Label) -> Option<Box<dyn Owned>>;

    /// Removes the objects of every owner that is gone, found without any label.
    fn sweep(&self, kernel: &Kernel, is_gone: &dyn Fn(Owner) -> bool) -> Result<()>;

    /// Does DEL remove it before the wire too? The kernel frees an element of nftables after a grace period, and the
    /// process that removed the element waits for that when it closes its socket. Removed before the wire, it is freed
    /// while the wire goes, which takes as long.
    fn goes_before_the_wire(&self) -> bool {
        false
    }

    /// Does it go when the wire goes? Then DEL leaves it to the kernel.
    fn goes_with_the_wire(&self) -> bool {
        false
    }

    /// How many of the living attachments have lost theirs, as after `nft flush ruleset`.
    fn lost(&self, _kernel: &Kernel, _living: &[Label]) -> Result<usize> {
        Ok(0)
    }

    /// Makes again what living attachments have lost.
    fn restore(&self, _kernel: &Kernel, _living: &[Label]) -> Result<()> {
        Ok(())
    }
}

/// Every kind, in the order in which the parts of a label are written. The record comes last: it is removed after
/// everything that it names.
pub static KINDS: [&dyn Kind; 6] = [
    &spoofcheck::SpoofChecks,
    &sourcecheck::SourceChecks,
    &masquerade::Masquerades,
    &addresscheck::AddressChecks,
    &podroutes::PodRouteKind,
    &Records,
];

/// podwire's table for frames on a bridge.
pub(crate) const BRIDGE: Table = Table { family: NetfilterProtoFamily::Bridge, name: INET.name };

/// Everything that an attachment with this label owns beside its wire.
pub fn owned_by(label: &Label) -> impl Iterator<Item = (&'static dyn Kind, Box<dyn Owned>)> + '_ {
    KINDS.iter().filter_map(|kind| Some((*kind, kind.read(label)?)))
}

/// [`Kind::lost`] of a kind whose objects are lost together, with the table that they share.
pub(crate) fn lost_with_table(
    kernel: &Kernel,
    kind: &dyn Kind,
    living: &[Label],
    is_lost: &dyn Fn(&Kernel) -> Result<bool>,
) -> Result<usize> {
    let count = living.iter().filter(|label| kind.read(label).is_some()).count();
    Ok(if count > 0 && is_lost(kernel)? { count } else { 0 })
}

/// What brings back an object of a kind that `--sync` restores.
pub(crate) const BY_SYNC: &str = "--sync or the next GC restores it";

/// Is the comment of an element that of an owner that is gone?
pub(crate) fn by_comment(is_gone: &dyn Fn(Owner) -> bool) -> impl Fn(&str) -> bool + '_ {
    move |comment| Owner::from_hex(comment).is_some_and(is_gone)
}
