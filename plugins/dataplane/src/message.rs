//! Messages as bytes: the two vocabularies that are spoken here.
//!
//! Of rtnetlink's vocabulary, links, addresses, routes and neighbors are written, the last three read (`link.rs` reads links
//! itself), and nothing else: the library's own entry knows traffic control, rules, statistics and every kind of link too,
//! a fifth of a plugin's binary for what nobody here says.

use netlink_packet_core::{
    DecodeError, Emitable, NetlinkDeserializable, NetlinkHeader, NetlinkSerializable, Parseable,
};
use netlink_packet_netfilter::NetfilterMessage;
use rtnetlink::packet_route::RouteNetlinkMessage as Route;
use rtnetlink::packet_route::address::AddressMessage;
use rtnetlink::packet_route::neighbour::NeighbourMessage;
use rtnetlink::packet_route::route::RouteMessage;

/// What stands behind a netlink header.
pub trait Message: Sized {
    /// The header's nlmsg_type.
    fn kind(&self) -> u16;

    /// How long it is, in bytes.
    fn length(&self) -> usize;

    /// Writes it into as many bytes.
    fn write(&self, bytes: &mut [u8]);

    /// Reads what the kernel answered.
    fn read(kind: u16, bytes: &[u8]) -> Result<Self, DecodeError>;
}

/// What the kernel answers with (include/uapi/linux/rtnetlink.h).
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;

impl Message for Route {
    fn kind(&self) -> u16 {
        self.message_type()
    }

    fn length(&self) -> usize {
        body(self).buffer_len()
    }

    fn write(&self, bytes: &mut [u8]) {
        body(self).emit(bytes);
    }

    fn read(kind: u16, bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(match kind {
            RTM_NEWADDR => Route::NewAddress(AddressMessage::parse(bytes)?),
            RTM_NEWROUTE => Route::NewRoute(RouteMessage::parse(bytes)?),
            RTM_NEWNEIGH => Route::NewNeighbour(NeighbourMessage::parse(bytes)?),
            other => return Err(DecodeError::from(format!("an answer of kind {other}, which nobody asked for"))),
        })
    }
}

fn body(message: &Route) -> &dyn Emitable {
    match message {
        Route::NewLink(link) | Route::DelLink(link) | Route::GetLink(link) | Route::SetLink(link) => link,
        Route::NewAddress(address) | Route::DelAddress(address) | Route::GetAddress(address) => address,
        Route::NewRoute(route) | Route::DelRoute(route) | Route::GetRoute(route) => route,
        Route::NewNeighbour(neighbor) | Route::DelNeighbour(neighbor) | Route::GetNeighbour(neighbor) => neighbor,
        _ => unreachable!("this crate makes no messages about anything else"),
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

    fn read(kind: u16, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut header = NetlinkHeader::default();
        header.message_type = kind;
        Self::deserialize(&header, bytes)
    }
}
