//! Whose address is it? IPAM says, as long as its store is whole.
//!
//! A store that was deleted, or restored from a backup, gives addresses a second time. What is made for an address on the node,
//! a route or an element of nftables, is then there already, and belongs to a Pod whose wire is still there: that Pod lives,
//! for a wire goes with its Pod's namespace, and DEL removes it before the address is free. Such an address is refused,
//! and the runtime tries again with the next one. Nothing is asked of the kernel for this unless something stands in the
//! way.

use std::net::IpAddr;

use crate::error::{Error, Result};
use crate::kernel::{At, Kernel};
use crate::link::{self, Link};
use crate::owner::{Label, Owner};

/// [`Error::Busy`] if the attachment's wire is there and says that `address` is its. An attachment made anew has another
/// address, and what is left of the old one is nobody's.
pub fn refuse_address_of(kernel: &Kernel, owner: Owner, address: IpAddr) -> Result<()> {
    let link = link::get(kernel, At::Host, &owner.host_end())?;
    let has_it = |label: Label| label.owner == owner && label.masquerade.iter().any(|it| it.ip() == address);
    link.filter(|link| Label::parse(&link.alias).is_some_and(has_it)).map_or(Ok(()), |link| refuse(&link, address))
}

/// The same of the link with that index, if it is an attachment's.
pub fn refuse_address_on(kernel: &Kernel, index: u32, address: IpAddr) -> Result<()> {
    let link = link::all(kernel, At::Host)?.into_iter().find(|link| link.index == index);
    link.filter(|link| Label::parse(&link.alias).is_some()).map_or(Ok(()), |link| refuse(&link, address))
}

fn refuse(link: &Link, address: IpAddr) -> Result<()> {
    let whose = Label::parse(&link.alias).map(|label| label.words).unwrap_or_default();
    let name = &link.name;
    Err(Error::Busy(format!(
        "IPAM gave {address}, but {whose} has it and lives (interface {name:?} on the node): IPAM has lost what it gave, perhaps \
         with its directory, or two networks overlap; the next ADD gets another address"
    )))
}
