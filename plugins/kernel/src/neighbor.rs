//! Neighbor entries: which hardware address an IP address has on a link.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::message::Rtm;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState};

use crate::error::Result;
use crate::kernel::{At, Kernel, changed};
use crate::link;
use crate::mac::Mac;
use crate::plan::{Made, Object};

/// A permanent neighbor entry: nobody ever asks for it on the wire.
#[derive(Clone, Debug)]
pub struct Neighbor {
    /// Where.
    pub at: At,
    /// On which link.
    pub link: String,
    /// Whose address.
    pub ip: IpAddr,
    /// Its hardware address.
    pub mac: Mac,
}

impl Object for Neighbor {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        let index = link::index(kernel, self.at, &self.link)?;
        let mut message = message(self.ip, index);
        message.header.state = NeighbourState::Permanent;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(self.mac.to_vec()));
        let doing = || format!("adding neighbor {} on interface {:?} {}", self.ip, self.link, self.at.words());
        let message = Rtm::new_neighbor(message);
        kernel.route(self.at).change(message, NLM_F_CREATE | NLM_F_REPLACE, &doing).map(|()| Made::New)
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        let index = link::index(kernel, self.at, &self.link)?;
        let doing = || format!("looking for neighbor {} {}", self.ip, self.at.words());
        let answer = kernel.route(self.at).get(Rtm::get_neighbor(message(self.ip, index)), &doing)?;
        let found = answer.is_some_and(|entry: NeighbourMessage| {
            entry.header.state == NeighbourState::Permanent && hardware_address(&entry) == Some(self.mac)
        });
        let words = || format!("neighbor {} ({}) on interface {:?} {}", self.ip, self.mac, self.link, self.at.words());
        if found { Ok(()) } else { Err(changed(format!("{} is missing", words()))) }
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        let Some(link) = link::get(kernel, self.at, &self.link)? else { return Ok(()) };
        forget(kernel, self.at, &self.link, link.index, self.ip)
    }
}

/// What a node knew of an address's previous owner must go when a new Pod gets it: until the entry ages, the node would
/// send to hardware that is no more.
#[derive(Clone, Debug)]
pub struct NoStaleNeighbor {
    /// On which of the node's links.
    pub link: String,
    /// The address.
    pub ip: IpAddr,
}

impl Object for NoStaleNeighbor {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        let index = link::index(kernel, At::Host, &self.link)?;
        forget(kernel, At::Host, &self.link, index, self.ip).map(|()| Made::Already)
    }
}

fn forget(kernel: &Kernel, at: At, name: &str, index: u32, ip: IpAddr) -> Result<()> {
    let doing = || format!("removing neighbor {ip} on interface {name:?} {}", at.words());
    match kernel.route(at).change(Rtm::del_neighbor(message(ip, index)), 0, &doing) {
        Err(error) if !error.is(Errno::ENOENT) => Err(error),
        _ => Ok(()),
    }
}

/// The hardware address that `ip` has on a link, as far as the node knows; `None` if no host has answered for it there.
pub fn known(kernel: &Kernel, at: At, link: u32, ip: IpAddr) -> Result<Option<Mac>> {
    let doing = || format!("looking for neighbor {ip} {}", at.words());
    let entry = match kernel.route(at).get(Rtm::get_neighbor(message(ip, link)), &doing) {
        Err(error) if error.is(Errno::ENOENT) => return Ok(None),
        other => other?,
    };
    let has_answered = |entry: &NeighbourMessage| {
        !matches!(entry.header.state, NeighbourState::Failed | NeighbourState::Incomplete | NeighbourState::None)
    };
    Ok(entry.filter(has_answered).and_then(|entry| hardware_address(&entry)))
}

/// Every permanent entry: address, link, hardware address.
pub fn permanent(kernel: &Kernel, at: At) -> Result<HashSet<(IpAddr, u32, Mac)>> {
    let doing = || format!("listing neighbors {}", at.words());
    let entries: Vec<NeighbourMessage> =
        kernel.route(at).dump(Rtm::get_neighbor(NeighbourMessage::default()), &doing)?;
    let permanent = entries.iter().filter(|entry| entry.header.state == NeighbourState::Permanent);
    Ok(permanent.filter_map(|entry| Some((address(entry)?, entry.header.ifindex, hardware_address(entry)?))).collect())
}

fn address(entry: &NeighbourMessage) -> Option<IpAddr> {
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    })
}

/// The hardware address of an entry.
pub fn hardware_address(entry: &NeighbourMessage) -> Option<Mac> {
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => Mac::from_bytes(bytes),
        _ => None,
    })
}

fn message(ip: IpAddr, index: u32) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = index;
    message.attributes.push(NeighbourAttribute::Destination(ip.into()));
    message
}
