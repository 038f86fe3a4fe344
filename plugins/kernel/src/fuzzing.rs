//! The kernel's answers read without a kernel, for the fuzzers (conformance/fuzz).
//!
//! Each function gets one datagram and does with it what the sockets and the objects of this crate do: takes it apart, and
//! gives each message to everything that reads such a message.

use netlink_packet_netfilter::NetfilterMessage;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::rule::RuleMessage;

use crate::message::Body;
use crate::netlink::Answers;
use crate::nft::dump::read_list;
use crate::{At, address, device, fib, forward_policy, link, neighbor, netlink, nft, route, rule, tc, vlan};

/// RTM_NEWLINK of include/uapi/linux/rtnetlink.h.
const LINK: u16 = 16;
/// From RTM_NEWQDISC to RTM_NEWTFILTER.
const TRAFFIC_CONTROL: std::ops::RangeInclusive<u16> = 36..=44;

/// Links, addresses, routes, neighbors, rules and traffic control. `neighbor` is given each neighbor: who reads more of one is elsewhere.
pub fn routing(datagram: &[u8], neighbor: &dyn Fn(&NeighbourMessage)) {
    for answer in Answers(datagram) {
        let _ = answer.outcome();
        let (kind, bytes) = (answer.kind, answer.payload);
        if kind == LINK {
            if let Some(link) = link::read(bytes) {
                device::read(&link);
            }
            vlan::vlans(bytes.get(link::HEADER..).unwrap_or_default()).count();
        } else if let Ok(message) = AddressMessage::read(kind, bytes) {
            address::read(&message);
        } else if let Ok(message) = RouteMessage::read(kind, bytes) {
            route::destination(&message);
            route::metric(&message);
            route::next_hop(&message);
            route::key(message);
            fib::read(bytes);
        } else if let Ok(message) = NeighbourMessage::read(kind, bytes) {
            neighbor::hardware_address(&message);
            neighbor(&message);
        } else if TRAFFIC_CONTROL.contains(&kind) {
            if let Some(told) = tc::read(bytes) {
                tc::look_into(&told);
            }
        } else if let Ok(message) = RuleMessage::read(kind, bytes) {
            rule::read(At::Host, &message);
        }
    }
}

/// Rules, sets, elements, base chains and counters of nftables.
pub fn netfilter(datagram: &[u8]) {
    for answer in Answers(datagram) {
        nft::base::read_chain(answer.payload);
        forward_policy::drops_everything(answer.payload);
        nft::object::read_count(answer.payload);
        let Ok(message) = NetfilterMessage::read(answer.kind, answer.payload) else { continue };
        nft::comment_of(&message);
        nft::read_elements(&message);
        nft::read_rule(&message);
    }
}

/// The elements of a set, as they are read without a library. How many there are.
pub fn elements(datagram: &[u8]) -> usize {
    let mut elements = Vec::new();
    for answer in Answers(datagram) {
        read_list(answer.payload.get(4..).unwrap_or_default(), &mut elements);
    }
    elements.len()
}

/// What the kernel says to a refused request, behind the error's number.
pub fn refusal(after_code: &[u8]) -> Option<String> {
    netlink::extended_words(after_code)
}
