//! The wire that most plugins make: a veth pair whose end on the node has the attachment's label.
//!
//! [`Wire`] is what DEL and GC have to know of a plugin's wire: how to find it, its label, and how to remove it. Another
//! kind of wire implements the same trait; a plugin names its own ([`crate::wire::WirePlugin::WIRE`]).

use std::collections::HashSet;
use std::fmt::Debug;

use cluster::tag::NetworkTag;
use kernel::link::{self, Link};
use kernel::{At, Error, Kernel, Result};

use crate::label::Label;
use crate::owner::{Owner, could_own};

/// A kind of wire, as DEL and GC see it.
pub trait Wire: Debug + Sync {
    /// How much of the attachment's wire exists.
    fn find(&self, kernel: &Kernel, owner: Owner) -> Result<Found>;

    /// Removes the attachment's wire; it need not be there.
    fn remove(&self, kernel: &Kernel, owner: Owner) -> Result<()>;

    /// Removes the wires of the network's attachments that are not in `valid`; the errors are of those that stay.
    fn sweep(&self, kernel: &Kernel, network: NetworkTag, valid: &HashSet<Owner>) -> Vec<Error>;
}

/// How much of an attachment's wire exists.
#[derive(Debug)]
pub enum Found {
    /// The wire, with its label.
    Labelled(Label),
    /// The wire without a label: its ADD was killed before it could set one.
    Unlabelled,
    /// No wire, or an interface of that name that another program made.
    Nothing,
}

/// A veth pair.
#[derive(Debug)]
pub struct Pair;

impl Wire for Pair {
    fn find(&self, kernel: &Kernel, owner: Owner) -> Result<Found> {
        let Some(host) = link::get(kernel, At::Host, &owner.host_end())? else { return Ok(Found::Nothing) };
        if host.alias.is_empty() {
            return Ok(Found::Unlabelled);
        }
        let label = Label::of(&host).filter(|label| label.owner == owner);
        Ok(label.map_or(Found::Nothing, Found::Labelled))
    }

    fn remove(&self, kernel: &Kernel, owner: Owner) -> Result<()> {
        link::remove(kernel, At::Host, &owner.host_end()).map(drop)
    }

    fn sweep(&self, kernel: &Kernel, network: NetworkTag, valid: &HashSet<Owner>) -> Vec<Error> {
        let links = match link::all(kernel, At::Host) {
            Ok(links) => links,
            Err(error) => return vec![error],
        };
        let valid_names: HashSet<String> = valid.iter().map(|owner| owner.host_end()).collect();
        let is_stale = |link: &Link| is_host_end(link, network) && !valid_names.contains(&link.name);
        let stale: Vec<Link> = links.into_iter().filter(is_stale).collect();
        link::remove_many(kernel, At::Host, &stale)
    }
}

/// Is that the node's end of a pair of this network? By its label, or if it has none by its name.
fn is_host_end(link: &Link, network: NetworkTag) -> bool {
    let is_ours = match Label::parse(&link.alias) {
        Some(label) => label.owner.network() == network,
        None => link.alias.is_empty(),
    };
    link.kind == "veth" && could_own(network, &link.name) && is_ours
}
