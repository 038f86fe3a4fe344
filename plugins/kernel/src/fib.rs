//! The node's routes as the kernel looks them up (FIB), for a caller that compares and does not change them.
//!
//! [`lookups`] asks the kernel which route it takes for a packet (RTM_GETROUTE): only the kernel knows how rules, tables, prefixes and
//! metrics decide together. What has to be said in the question:
//!
//! * RTM_F_FIB_MATCH: the route itself is the answer. Without it the kernel answers with one next hop of several.
//! * RTM_F_LOOKUP_TABLE: an answer of IPv4 otherwise says table `main`, whatever the table was. IPv6 refuses that flag, and always
//!   says the table.
//! * RTA_IIF and RTA_SRC: without the link that the packet comes in by and its source, rules that name one are passed over. IPv4
//!   then treats the packet as one that came in: a source that the link can't have (`rp_filter`), or a link that does not
//!   forward, is an error (EINVAL, EHOSTUNREACH) whatever the destination is.
//!
//! A route that drops (blackhole, unreachable, prohibit) is no answer but an error, so it has to be looked for in the [`list`].
//! (Messages: struct rtmsg of include/uapi/linux/rtnetlink.h; kernel: inet_rtm_getroute, inet6_rtm_getroute.)

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::errno::Errno;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{RouteAttribute, RouteFlags, RouteMessage};

use crate::attribute::{each, number};
use crate::error::Result;
use crate::kernel::{At, Kernel};
use crate::message::Rtm;

/// What a route does with a packet (rtm_type).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It is sent to a next hop or out of a link.
    Forward,
    /// It is for the node itself.
    Local,
    /// It is dropped in silence.
    Blackhole,
    /// It is dropped, and the sender is told that the destination is unreachable.
    Unreachable,
    /// It is dropped, and the sender is told that it is prohibited.
    Prohibit,
    /// Broadcast, multicast, anycast, or the lookup goes on with the next rule.
    Other,
}

/// A route, or what drops packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Destination.
    pub dst: IpNetwork,
    /// What it does.
    pub action: Action,
    /// The table; `main` is 254, `local` 255.
    pub table: u32,
    /// Who made it: RTPROT_….
    pub protocol: u8,
    /// Priority: lower is preferred.
    pub metric: u32,
    /// Next hops, several of a multipath route.
    pub hops: Vec<Hop>,
}

/// Where a route leads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hop {
    /// The next hop's address; none for what is directly on the link.
    pub gateway: Option<IpAddr>,
    /// The link, by index.
    pub link: Option<u32>,
}

/// Table `main`.
pub const MAIN: u32 = 254;
/// RTPROT_KERNEL: the kernel makes such routes for an address.
pub const BY_KERNEL: u8 = 2;

/// A packet that the kernel is asked about.
#[derive(Clone, Copy, Debug)]
pub struct Packet {
    /// Its destination.
    pub to: IpAddr,
    /// Its source, and the index of the link that it comes in by; none for a packet of the node's own.
    pub from: Option<Origin>,
}

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The link that it comes in by, by index.
    pub link: u32,
    /// Its source address.
    pub source: IpAddr,
}

/// Which route the kernel takes for each packet: none if there is no route, an error if a route or a check drops it.
pub fn lookups(kernel: &Kernel, packets: &[Packet]) -> Result<Vec<Result<Option<Entry>>>> {
    let messages: Vec<Rtm> = packets.iter().map(|packet| Rtm::get_route(question(packet))).collect();
    let doing = |at: usize| format!("looking for the route to {}", packets[at].to);
    let answers = kernel.route(At::Host).get_all(&messages, read, &doing)?;
    let unreached = |error: &crate::Error| error.is(Errno::ENETUNREACH) || error.is(Errno::ESRCH);
    Ok(answers.into_iter().map(|answer| answer.or_else(|e| if unreached(&e) { Ok(None) } else { Err(e) })).collect())
}

/// The route that a packet of the node's own to `to` takes; none if there is no route, or one that drops the packet.
pub fn lookup(kernel: &Kernel, to: IpAddr) -> Result<Option<Entry>> {
    const DROPPED: [Errno; 3] = [Errno::EHOSTUNREACH, Errno::EACCES, Errno::EINVAL];
    match lookups(kernel, &[Packet { to, from: None }])?.pop() {
        Some(Err(error)) if DROPPED.iter().any(|errno| error.is(*errno)) => Ok(None),
        Some(answer) => answer,
        None => Ok(None),
    }
}

/// The routes of one family, of all tables, that `is_wanted`; none if the kernel has no such family.
pub fn list(kernel: &Kernel, ipv4: bool, is_wanted: &dyn Fn(&Entry) -> bool) -> Result<Vec<Entry>> {
    let mut message = RouteMessage::default();
    message.header.address_family = if ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let read = |_, bytes: &[u8], entries: &mut Vec<Entry>| {
        entries.extend(read(bytes).filter(is_wanted));
        Ok(())
    };
    let listed = kernel.route(At::Host).dump_as(Rtm::get_route(message), &read, &|| "listing the routes".to_owned());
    match listed {
        Err(error) if error.is(Errno::EOPNOTSUPP) || error.is(Errno::EAFNOSUPPORT) => Ok(Vec::new()),
        other => other,
    }
}

fn question(packet: &Packet) -> RouteMessage {
    let mut message = RouteMessage::default();
    let whole = if packet.to.is_ipv4() { 32 } else { 128 };
    message.header.address_family = if packet.to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.flags = RouteFlags::FibMatch;
    if packet.to.is_ipv4() {
        message.header.flags |= RouteFlags::LookupTable;
    }
    message.header.destination_prefix_length = whole;
    message.attributes.push(RouteAttribute::Destination(packet.to.into()));
    if let Some(Origin { link, source }) = packet.from {
        message.header.source_prefix_length = whole;
        message.attributes.extend([RouteAttribute::Source(source.into()), RouteAttribute::Iif(link)]);
    }
    message
}

/// Reads struct rtmsg and its attributes: a node has thousands of routes, and a handful of their attributes is wanted.
pub(crate) fn read(bytes: &[u8]) -> Option<Entry> {
    const HEADER: usize = 12;
    const AF_INET: u8 = 2;
    const AF_INET6: u8 = 10;
    const RTA_DST: u16 = 1;
    const RTA_OIF: u16 = 4;
    const RTA_GATEWAY: u16 = 5;
    const RTA_PRIORITY: u16 = 6;
    const RTA_MULTIPATH: u16 = 9;
    const RTA_TABLE: u16 = 15;
    const RTA_VIA: u16 = 18;
    let [family, prefix, _, _, table, protocol, _, kind] = *bytes.first_chunk()?;
    let mut dst = match family {
        AF_INET => IpAddr::from([0; 4]),
        AF_INET6 => IpAddr::from([0; 16]),
        _ => return None,
    };
    let (mut table, mut metric, mut hop, mut hops) = (u32::from(table), 0, Hop::default(), Vec::new());
    for (kind, value) in each(bytes.get(HEADER..)?) {
        match kind {
            RTA_DST => dst = address(value)?,
            RTA_OIF => hop.link = number(value),
            RTA_GATEWAY => hop.gateway = address(value),
            RTA_VIA => hop.gateway = value.get(2..).and_then(address),
            RTA_PRIORITY => metric = number(value)?,
            RTA_TABLE => table = number(value)?,
            RTA_MULTIPATH => hops = read_hops(value),
            _ => {}
        }
    }
    if hops.is_empty() && hop != Hop::default() {
        hops.push(hop);
    }
    Some(Entry { dst: IpNetwork::new(dst, prefix).ok()?, action: action(kind), table, protocol, metric, hops })
}

/// RTN_….
fn action(kind: u8) -> Action {
    match kind {
        1 => Action::Forward,
        2 => Action::Local,
        6 => Action::Blackhole,
        7 => Action::Unreachable,
        8 => Action::Prohibit,
        _ => Action::Other,
    }
}

/// struct rtnexthop: length u16, flags u8, weight u8, link u32, attributes.
fn read_hops(mut bytes: &[u8]) -> Vec<Hop> {
    const HEADER: usize = 8;
    const RTA_GATEWAY: u16 = 5;
    const RTA_VIA: u16 = 18;
    let mut hops = Vec::new();
    while let Some(length) = bytes.first_chunk().map(|length| usize::from(u16::from_ne_bytes(*length))) {
        let (Some(link), Some(attributes)) = (bytes.get(4..).and_then(number), bytes.get(HEADER..length)) else {
            break;
        };
        let gateway = each(attributes).find_map(|(kind, value)| match kind {
            RTA_GATEWAY => address(value),
            RTA_VIA => value.get(2..).and_then(address),
            _ => None,
        });
        hops.push(Hop { gateway, link: Some(link) });
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    hops
}

fn address(value: &[u8]) -> Option<IpAddr> {
    match value.len() {
        4 => value.first_chunk::<4>().map(|bytes| IpAddr::from(*bytes)),
        16 => value.first_chunk::<16>().map(|bytes| IpAddr::from(*bytes)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_multipath_route_is_read_and_half_of_one_is_no_crash() {
        // 10.244.1.0/24 in table 1000, metric 5, by 10.240.0.5 on link 2 and 10.240.0.6 on link 3; static, unicast.
        let mut bytes = vec![2, 24, 0, 0, 252, 4, 0, 1, 0, 0, 0, 0];
        bytes.extend([8, 0, 1, 0, 10, 244, 1, 0]);
        bytes.extend([8, 0, 15, 0].into_iter().chain(1000_u32.to_ne_bytes()));
        bytes.extend([8, 0, 6, 0].into_iter().chain(5_u32.to_ne_bytes()));
        bytes.extend([36, 0, 9, 0]);
        for (link, last) in [(2_u32, 5), (3, 6)] {
            bytes.extend([16, 0, 0, 0].into_iter().chain(link.to_ne_bytes()));
            bytes.extend([8, 0, 5, 0, 10, 240, 0, last]);
        }
        let hop = |link, last| Hop { gateway: Some(IpAddr::from([10, 240, 0, last])), link: Some(link) };
        let expected = Entry {
            dst: "10.244.1.0/24".parse().unwrap(),
            action: Action::Forward,
            table: 1000,
            protocol: 4,
            metric: 5,
            hops: vec![hop(2, 5), hop(3, 6)],
        };
        assert_eq!(read(&bytes), Some(expected));
        for end in 0..bytes.len() {
            let _ = read(&bytes[..end]);
        }
    }
}
