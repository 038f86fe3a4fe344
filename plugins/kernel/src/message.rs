//! Messages as bytes: the two vocabularies that are spoken here.
//!
//! The bodies are the libraries'. A request is its number and its body, whatever that is ([`Rtm`]); an answer is read as
//! the body that the caller asks for ([`Body`]). rtnetlink's own enum of all messages is not used: it reaches every body
//! that there is, so a plugin that says nothing but links and routes would carry traffic control, statistics and bonds too,
//! a fifth of its binary.

use std::fmt;

use netlink_packet_core::{
    DecodeError, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable, Parseable,
};
use netlink_packet_netfilter::NetfilterMessage;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::link::LinkMessage;
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::packet_route::rule::RuleMessage;
use rtnetlink::packet_route::tc::TcMessage;

/// What stands behind a netlink header when it is sent.
pub trait Message {
    /// The header's nlmsg_type.
    fn kind(&self) -> u16;

    /// How long it is, in bytes.
    fn length(&self) -> usize;

    /// Writes it into as many bytes.
    fn write(&self, bytes: &mut [u8]);
}

/// What stands behind a netlink header when the kernel answers.
pub trait Body: Sized {
    /// Reads it; `kind` is the header's nlmsg_type.
    fn read(kind: u16, bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// A request of rtnetlink: a number of include/uapi/linux/rtnetlink.h, and its body.
pub struct Rtm {
    kind: u16,
    body: Box<dyn Emitable>,
}

/// Constructors, one for each number.
macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident($body:ty) = $kind:literal;)*) => {
        impl Rtm {
            $($(#[$doc])* pub fn $name(body: $body) -> Self {
                Rtm { kind: $kind, body: Box::new(body) }
            })*
        }
    };
}

requests! {
    /// RTM_NEWLINK: a new link, or by name changes of one that exists.
    new_link(LinkMessage) = 16;
    /// RTM_DELLINK.
    del_link(LinkMessage) = 17;
    /// RTM_GETLINK.
    get_link(LinkMessage) = 18;
    /// RTM_SETLINK: changes of a link, by index.
    set_link(LinkMessage) = 19;
    /// RTM_NEWADDR.
    new_address(AddressMessage) = 20;
    /// RTM_DELADDR.
    del_address(AddressMessage) = 21;
    /// RTM_GETADDR.
    get_address(AddressMessage) = 22;
    /// RTM_NEWROUTE.
    new_route(RouteMessage) = 24;
    /// RTM_DELROUTE.
    del_route(RouteMessage) = 25;
    /// RTM_GETROUTE.
    get_route(RouteMessage) = 26;
    /// RTM_NEWNEIGH: a neighbor, or an entry of a forwarding database.
    new_neighbor(NeighbourMessage) = 28;
    /// RTM_DELNEIGH.
    del_neighbor(NeighbourMessage) = 29;
    /// RTM_GETNEIGH.
    get_neighbor(NeighbourMessage) = 30;
    /// RTM_NEWRULE: a rule of policy routing.
    new_rule(RuleMessage) = 32;
    /// RTM_DELRULE.
    del_rule(RuleMessage) = 33;
    /// RTM_GETRULE.
    get_rule(RuleMessage) = 34;
    /// RTM_NEWQDISC: a queueing discipline.
    new_qdisc(TcMessage) = 36;
    /// RTM_DELQDISC.
    del_qdisc(TcMessage) = 37;
    /// RTM_GETQDISC.
    get_qdisc(TcMessage) = 38;
    /// RTM_NEWTFILTER: a filter of traffic control.
    new_filter(TcMessage) = 44;
    /// RTM_DELTFILTER.
    del_filter(TcMessage) = 45;
    /// RTM_GETTFILTER.
    get_filter(TcMessage) = 46;
}

impl fmt::Debug for Rtm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rtnetlink message {} of {} bytes", self.kind, self.body.buffer_len())
    }
}

impl Message for Rtm {
    fn kind(&self) -> u16 {
        self.kind
    }

    fn length(&self) -> usize {
        self.body.buffer_len()
    }

    fn write(&self, bytes: &mut [u8]) {
        self.body.emit(bytes);
    }
}

/// Bodies of answers, each with the one number that it is sent under.
macro_rules! answers {
    ($($body:ty = $kind:literal;)*) => {
        $(impl Body for $body {
            fn read(kind: u16, bytes: &[u8]) -> Result<Self, DecodeError> {
                match kind {
                    $kind => Self::parse(bytes),
                    other => Err(DecodeError::from(format!("the answer is of kind {other}; {} was expected", $kind))),
                }
            }
        })*
    };
}

// Links are read by link.rs itself: of their many attributes a handful is wanted.
answers! {
    AddressMessage = 20;
    RouteMessage = 24;
    NeighbourMessage = 28;
    RuleMessage = 32;
}

/// Traffic control answers under several numbers, with one body.
impl Body for TcMessage {
    fn read(_kind: u16, bytes: &[u8]) -> Result<Self, DecodeError> {
        TcMessage::parse(bytes)
    }
}

impl Message for NetfilterMessage {
    fn kind(&self) -> u16 {
        self.message_type()
    }

    fn length(&self) -> usize {
        Emitable::buffer_len(self)
    }

    fn write(&self, bytes: &mut [u8]) {
        self.emit(bytes);
    }
}

impl Body for NetfilterMessage {
    fn read(kind: u16, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut header = NetlinkHeader::default();
        header.message_type = kind;
        Self::deserialize(&header, bytes)
    }
}
