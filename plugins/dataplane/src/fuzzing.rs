//! The kernel's answers read without a kernel, for the fuzzers (conformance/fuzz).
//!
//! Each function gets one datagram and does with it what the sockets and the objects of this crate do: takes it apart, and
//! gives each message to everything that reads such a message.

use netlink_packet_netfilter::NetfilterMessage;
use rtnetlink::packet_route::RouteNetlinkMessage;

use crate::message::Message;
use crate::netlink::Answers;
use crate::nft::dump::read_list;
use crate::{address, link, neighbor, netlink, nft, peers, reference, route, vlan};

/// RTM_NEWLINK of include/uapi/linux/rtnetlink.h.
const LINK: u16 = 16;

/// Links, addresses, routes and neighbors.
pub fn routing(datagram: &[u8]) {
    for answer in Answers(datagram) {
        let _ = answer.outcome();
        if answer.kind == LINK {
            link::read(answer.payload);
            vlan::vlans(answer.payload.get(link::HEADER..).unwrap_or_default()).count();
        } else if let Ok(message) = RouteNetlinkMessage::read(answer.kind, answer.payload) {
            read_routing(message);
        }
    }
}

/// Rules, sets and elements of nftables.
pub fn netfilter(datagram: &[u8]) {
    for answer in Answers(datagram) {
        let Ok(message) = NetfilterMessage::read(answer.kind, answer.payload) else { continue };
        nft::comment_of(&message);
        nft::read_elements(&message);
        reference::read_rule(&message);
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

fn read_routing(message: RouteNetlinkMessage) {
    match message {
        RouteNetlinkMessage::NewAddress(message) => drop(address::read(&message)),
        RouteNetlinkMessage::NewRoute(message) => {
            route::destination(&message);
            route::metric(&message);
            route::next_hop(&message);
            route::key(message);
        }
        RouteNetlinkMessage::NewNeighbour(message) => {
            neighbor::hardware_address(&message);
            peers::read_neighbor(&message);
            peers::read_fdb(&message);
        }
        _ => {}
    }
}
