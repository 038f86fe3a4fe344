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
    /// What to do about other addresses on that link.
    pub others: Others,
}

/// Other addresses on the link that are in the way: of IPv4 any other, of IPv6 one whose subnet overlaps. Each family is
/// for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Others {
    /// Let them be.
    Keep,
    /// An error: another program or an earlier configuration set them.
    Refuse {
        /// These may be there too.
        expected: Vec<IpNetwork>,
        /// What else can be done about it, added to the error's text.
        advice: &'static str,
    },
    /// Remove them.
    Replace {
        /// These may be there too.
        expected: Vec<IpNetwork>,
    },
}

impl Others {
    /// Those that may be there too; none if all may.
    fn expected(&self) -> Option<&[IpNetwork]> {
        match self {
            Others::Keep => None,
            Others::Refuse { expected, .. } | Others::Replace { expected } => Some(expected),
        }
    }
}

impl Object for Address {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        let index = link::index(kernel, self.at, &self.link)?;
        if let Some(expected) = self.others.expected() {
            if self.make_room(kernel, index, expected)? {
                return Ok(Made::Already);
            }
            self.refuse_anothers_subnet(kernel, index)?;
        }
        self.add_if_missing(kernel, index)
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
}

impl Address {
    /// Is the address there already? Others in the way are refused or removed.
    fn make_room(&self, kernel: &Kernel, index: u32, expected: &[IpNetwork]) -> Result<bool> {
        let present = on(kernel, self.at, index)?;
        let (others, kept): (Vec<_>, Vec<_>) =
            present.into_iter().partition(|other| is_in_the_way(other, &self.address) && !expected.contains(other));
        if let (Some(other), Others::Refuse { advice, .. }) = (others.first(), &self.others) {
            return Err(self.refusal(other, advice));
        }
        for other in &others {
            self.of(*other).remove(kernel)?;
        }
        // Those of the same subnet were secondary to it, and the kernel removed them too.
        for one in kept.iter().filter(|one| others.iter().any(|other| overlap(one, other))) {
            self.of(*one).add_if_missing(kernel, index)?;
        }
        Ok(kept.contains(&self.address))
    }

    /// Another address, otherwise alike.
    fn of(&self, address: IpNetwork) -> Self {
        Address { address, ..self.clone() }
    }

    fn refusal(&self, other: &IpNetwork, advice: &str) -> Error {
        let (link, address) = (&self.link, &self.address);
        let what = match address.is_ipv4() {
            true => format!("another IPv4 address, {other}, than {address}"),
            false => format!("the address {other}, whose subnet overlaps with {address}"),
        };
        Error::NotOurs(format!(
            "interface {link:?} has {what}: another network or an earlier configuration uses the interface; remove the address \
             (`ip addr del {other} dev {link}`), configure another interface{advice}"
        ))
    }

    /// Adds the address; [`Made::Already`] if it is there.
    fn add_if_missing(&self, kernel: &Kernel, index: u32) -> Result<Made> {
        match self.change(kernel, index, true) {
            Ok(()) => Ok(Made::New),
            Err(error) if error.is(Errno::EEXIST) => Ok(Made::Already),
            Err(error) => Err(error.on_link(kernel, self.at, &self.link)),
        }
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

/// May `other` not be on a link beside `address`?
fn is_in_the_way(other: &IpNetwork, address: &IpNetwork) -> bool {
    other != address && other.is_ipv4() == address.is_ipv4() && (address.is_ipv4() || overlap(other, address))
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

    #[test]
    fn every_other_ipv4_address_is_in_the_way_and_of_ipv6_an_overlapping_one() {
        let in_the_way = |other: &str, address: &str| is_in_the_way(&other.parse().unwrap(), &address.parse().unwrap());
        for other in ["10.1.0.2/24", "10.1.0.1/16", "192.0.2.1/24"] {
            assert!(in_the_way(other, "10.1.0.1/24"), "{other}");
        }
        assert!(!in_the_way("10.1.0.1/24", "10.1.0.1/24") && !in_the_way("fd00::1/64", "10.1.0.1/24"));
        assert!(in_the_way("fd00::2/64", "fd00::1/64") && in_the_way("fd00::1/48", "fd00::1/64"));
        assert!(!in_the_way("fd00:1::1/64", "fd00::1/64"));
    }
}
