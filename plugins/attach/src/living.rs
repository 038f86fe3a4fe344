//! An address that a living Pod has is refused to another.
//!
//! IPAM gives each address once, as long as its store is whole. A store that was deleted, or restored from a backup, gives
//! addresses a second time. What is made for an address on the node, a route or an element of nftables, then exists
//! already and belongs to a Pod whose wire is still there. That Pod lives: a wire goes with its Pod's namespace, and DEL
//! removes it before the address is free. Such an address is refused, and the runtime tries again with the next one. The
//! kernel is asked only if something is in the way.

use std::net::IpAddr;

use kernel::link::{self, Link};
use kernel::route::{self, Route};
use kernel::{At, Error, Kernel, Made, Object, Result};
use nix::errno::Errno;

use crate::label::Label;
use crate::owner::Owner;

/// [`Error::Busy`] if the attachment's wire exists, and its label has `address`. An attachment that was made anew has
/// another address, and what is left of the old one has no owner.
pub fn refuse_address_of(
    kernel: &Kernel,
    owner: Owner,
    address: IpAddr,
    has_it: &dyn Fn(&Label) -> bool,
) -> Result<()> {
    let Some(link) = link::get(kernel, At::Host, &owner.host_end())? else { return Ok(()) };
    match Label::of(&link).filter(|label| label.owner == owner && has_it(label)) {
        Some(label) => Err(refusal(&link, &label, address)),
        None => Ok(()),
    }
}

fn refusal(link: &Link, label: &Label, address: IpAddr) -> Error {
    Error::Busy(format!(
        "IPAM gave {address}, but the living Pod {} has that address (interface {:?} on the node): IPAM has lost its \
         reservations, perhaps with its directory, or two networks overlap; the next ADD gets another address",
        label.words, link.name
    ))
}

/// The node's route to a Pod's address. It takes the place of a route to a Pod that had the address before and went without
/// DEL, and of no other.
#[derive(Clone, Debug)]
pub struct RouteToPod(pub Route);

impl Object for RouteToPod {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        match self.0.create(kernel) {
            Err(error) if error.is(Errno::EEXIST) => {
                self.refuse_living(kernel)?;
                self.0.replace(kernel)?;
            }
            other => other?,
        }
        Ok(Made::New)
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        self.0.check(kernel)
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        self.0.remove(kernel)
    }
}

impl RouteToPod {
    /// Does the route that is there lead to another Pod, which lives?
    fn refuse_living(&self, kernel: &Kernel) -> Result<()> {
        let Route { at, dst, options, .. } = &self.0;
        let own = link::index(kernel, *at, &self.0.link)?;
        let there = route::dump(kernel, *at, dst.is_ipv4(), None, options.protocol)?;
        let same = there.iter().filter(|route| route::destination(route) == Some(*dst));
        let mut others = same.filter_map(|route| route::next_hop(route).1).filter(|link| *link != own);
        others.try_for_each(|index| {
            let link = link::all(kernel, *at)?.into_iter().find(|link| link.index == index);
            match link.and_then(|link| Some((Label::of(&link)?, link))) {
                Some((label, link)) => Err(refusal(&link, &label, dst.ip())),
                None => Ok(()),
            }
        })
    }
}
