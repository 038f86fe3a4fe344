//! Addresses on a link.
//!
//! An IPv4 address is of use when the kernel has answered. An IPv6 address is not: the kernel leaves it to a worker to
//! join the group on which neighbors ask for the address and to make the local route, and until then what is sent to the
//! address is lost (`addrconf_dad_work`, net/ipv6/addrconf.c). The local route comes last, so that is what is waited for.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::message::Rtm;
use ipnetwork::IpNetwork;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use rtnetlink::packet_route::route::RouteFlags;

use crate::error::{Error, Result};
use crate::kernel::{At, Kernel, changed};
use crate::link;
use crate::plan::{Made, Object};
use crate::route;

/// How long the kernel's worker is waited for. It takes less than a millisecond, on a node that has a core to spare.
const SETTLED_WITHIN: Duration = Duration::from_secs(2);
const BETWEEN_LOOKS: Duration = Duration::from_micros(100);

/// An address on a link.
#[derive(Clone, Debug)]
pub struct Address {
    /// Where the link is.
    pub at: At,
    /// The link's name.
    pub link: String,
    /// The address with its prefix length.
    pub address: IpNetwork,
    /// IPv6: wait for duplicate address detection, as the kernel does by default? It takes a second, and an address
    /// that IPAM gave out once needs none.
    pub detect_duplicates: bool,
    /// Let the kernel add a route to the address's subnet out of that link, as it does by default?
    pub prefix_route: bool,
    /// What to do about other addresses of the same subnet on that link.
    pub neighbors: Others,
}

/// Other addresses on the link whose subnet overlaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Others {
    /// Let them be.
    Keep,
    /// An error: another program configured this link. What to do about it is added to the error's text.
    Refuse(&'static str),
    /// Remove them.
    Replace,
}

impl Object for Address {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        let index = link::index(kernel, self.at, &self.link)?;
        if self.neighbors != Others::Keep && self.make_room(kernel, index)? {
            return Ok(Made::Already);
        }
        if self.neighbors != Others::Keep {
            self.refuse_anothers_subnet(kernel, index)?;
        }
        match self.change(kernel, index, true) {
            Ok(()) => Ok(Made::New),
            Err(error) if error.is(Errno::EEXIST) => Ok(Made::Already),
            Err(error) => Err(error),
        }
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        let link = link::expect(kernel, self.at, &self.link)?;
        match on(kernel, self.at, link.index)?.contains(&self.address) {
            true => Ok(()),
            false => Err(changed(format!(
                "address {} is missing on interface {:?} {}",
                self.address,
                self.link,
                self.at.words()
            ))),
        }
    }

    fn settle(&self, kernel: &Kernel) -> Result<()> {
        if self.address.is_ipv4() || self.detect_duplicates {
            return Ok(());
        }
        let give_up = Instant::now() + SETTLED_WITHIN;
        while !route::is_local(kernel, self.at, self.address.ip())? {
            if Instant::now() > give_up {
                log::warn!("the kernel has not finished address {} within {SETTLED_WITHIN:?}", self.address);
                break;
            }
            std::thread::sleep(BETWEEN_LOOKS);
        }
        Ok(())
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        let Some(link) = link::get(kernel, self.at, &self.link)? else { return Ok(()) };
        match self.change(kernel, link.index, false) {
            Err(error) if !error.is(Errno::EADDRNOTAVAIL) => Err(error),
            _ => Ok(()),
        }
    }

    fn possible(&self, kernel: &Kernel) -> Result<()> {
        match link::get(kernel, self.at, &self.link)? {
            Some(link) if matches!(self.neighbors, Others::Refuse(_)) => self.others(kernel, link.index).map(drop),
            _ => Ok(()),
        }
    }
}

impl Address {
    /// Is the address there already? Overlapping ones are refused or removed.
    fn make_room(&self, kernel: &Kernel, index: u32) -> Result<bool> {
        let (present, others) = self.others(kernel, index)?;
        for other in others {
            Address { address: other, ..self.clone() }.change(kernel, index, false)?;
        }
        Ok(present)
    }

    /// Is the address there, and which others overlap with it? Those are an error if they are to be refused.
    fn others(&self, kernel: &Kernel, index: u32) -> Result<(bool, Vec<IpNetwork>)> {
        let all = on(kernel, self.at, index)?;
        let present = all.contains(&self.address);
        let others: Vec<_> =
            all.into_iter().filter(|other| *other != self.address && overlap(other, &self.address)).collect();
        if let (Some(other), Others::Refuse(advice)) = (others.first(), self.neighbors) {
            return Err(Error::NotOurs(format!(
                "interface {:?} has the address {other}, which overlaps with {}; remove it, configure another subnet \
                 or another interface{advice}",
                self.link, self.address
            )));
        }
        Ok((present, others))
    }

    /// Another interface's subnet must not be this one, or within it: one of the two would be cut off. The other way
    /// round it is a wider network, out of which this subnet was set aside, unless the node itself is in that.
    fn refuse_anothers_subnet(&self, kernel: &Kernel, index: u32) -> Result<()> {
        let is_subnet = |other: &IpNetwork| other.prefix() < if other.is_ipv4() { 32 } else { 128 };
        let others = all(kernel, self.at)?;
        let in_the_way =
            others.iter().find(|(at, other)| *at != index && is_subnet(other) && self.address.contains(other.ip()));
        let Some((link, other)) = in_the_way else { return self.refuse_anothers_gateway(kernel, index) };
        let links = link::all(kernel, self.at)?;
        let name = links.into_iter().find(|found| found.index == *link).map(|link| link.name).unwrap_or_default();
        Err(Error::NotOurs(format!(
            "the subnet of {} for interface {:?} overlaps with {other} on interface {name:?}: one of the two would be cut \
             off; configure another subnet for the Pods",
            self.address, self.link
        )))
    }

    /// Nor what the node's own routes go through. A route that says "onlink" relies on no subnet.
    fn refuse_anothers_gateway(&self, kernel: &Kernel, index: u32) -> Result<()> {
        let routes = route::all(kernel, self.at, self.address.is_ipv4())?;
        let routes = routes.iter().filter(|route| !route.header.flags.contains(RouteFlags::Onlink));
        let hops = routes.map(route::next_hop).filter(|(_, link)| *link != Some(index));
        match hops.filter_map(|(hop, _)| hop).find(|hop| self.address.contains(*hop)) {
            Some(hop) => Err(Error::NotOurs(format!(
                "the subnet of {} for interface {:?} contains {hop}, which routes of the node go through: it would be \
                 cut off; configure another subnet for the Pods",
                self.address, self.link
            ))),
            None => Ok(()),
        }
    }

    fn change(&self, kernel: &Kernel, index: u32, add: bool) -> Result<()> {
        let message = self.message(index);
        let socket = kernel.route(self.at);
        let object = || format!("address {} on interface {:?} {}", self.address, self.link, self.at.words());
        if add {
            let doing = || format!("adding {}", object());
            let message = Rtm::new_address(message);
            return socket.change(message, NLM_F_CREATE | NLM_F_EXCL, &doing);
        }
        socket.change(Rtm::del_address(message), 0, &|| format!("removing {}", object()))
    }

    fn message(&self, index: u32) -> AddressMessage {
        let (mut message, mut flags) = (AddressMessage::default(), AddressFlags::empty());
        message.header.index = index;
        message.header.prefix_len = self.address.prefix();
        message.attributes.push(AddressAttribute::Local(self.address.ip()));
        message.attributes.push(AddressAttribute::Address(self.address.ip()));
        match self.address {
            IpNetwork::V4(network) => {
                message.header.family = AddressFamily::Inet;
                if network.prefix() < 31 {
                    message.attributes.push(AddressAttribute::Broadcast(network.broadcast()));
                }
            }
            IpNetwork::V6(_) => {
                message.header.family = AddressFamily::Inet6;
                if !self.detect_duplicates {
                    message.header.flags = AddressHeaderFlags::Nodad;
                    flags |= AddressFlags::Nodad;
                }
            }
        }
        if !self.prefix_route {
            flags |= AddressFlags::Noprefixroute;
        }
        if !flags.is_empty() {
            message.attributes.push(AddressAttribute::Flags(flags));
        }
        message
    }
}

/// The addresses on the link with that index, link-local IPv6 ones apart: those are the kernel's own affair.
pub fn on(kernel: &Kernel, at: At, index: u32) -> Result<Vec<IpNetwork>> {
    Ok(list(kernel, at, Some(index))?.into_iter().map(|(_, address)| address).collect())
}

/// Addresses with the index of their link; of one link, or of all.
fn list(kernel: &Kernel, at: At, index: Option<u32>) -> Result<Vec<(u32, IpNetwork)>> {
    let mut message = AddressMessage::default();
    message.header.index = index.unwrap_or_default();
    let doing = || format!("listing addresses {}", at.words());
    let answers = kernel.route(at).dump(Rtm::get_address(message), &doing)?;
    // An old kernel ignores the filter.
    let answers =
        answers.into_iter().filter(|message: &AddressMessage| index.is_none_or(|it| it == message.header.index));
    Ok(answers.filter_map(|message| Some((message.header.index, read(&message)?))).collect())
}

/// Every address in a namespace with its link's index, link-local IPv6 ones apart.
pub fn all(kernel: &Kernel, at: At) -> Result<Vec<(u32, IpNetwork)>> {
    list(kernel, at, None)
}

pub(crate) fn read(message: &AddressMessage) -> Option<IpNetwork> {
    // IFA_LOCAL is the address itself where there is one; IFA_ADDRESS may be the other end's.
    let find = |local: bool| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(ip) if local => Some(*ip),
            AddressAttribute::Address(ip) if !local => Some(*ip),
            _ => None,
        })
    };
    let ip = find(true).or_else(|| find(false))?;
    let link_local = matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local());
    if link_local { None } else { IpNetwork::new(ip, message.header.prefix_len).ok() }
}

/// Does one of the two subnets lie within the other?
pub fn overlap(one: &IpNetwork, other: &IpNetwork) -> bool {
    one.contains(other.network()) || other.contains(one.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_overlap_if_one_holds_the_other() {
        let net = |text: &str| text.parse::<IpNetwork>().unwrap();
        assert!(overlap(&net("10.1.2.3/16"), &net("10.1.0.0/24")));
        assert!(overlap(&net("10.1.0.0/24"), &net("10.1.2.3/16")));
        assert!(!overlap(&net("10.1.0.0/24"), &net("10.1.1.1/24")));
        assert!(!overlap(&net("0.0.0.0/0"), &net("::/0")));
    }
}
