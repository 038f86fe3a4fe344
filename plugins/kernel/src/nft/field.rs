//! Facts about a packet, loaded into registers: alone to be compared, or one behind the other as a concatenated key.
//!
//! nftables has sixteen registers of four bytes. A fact takes as many as it needs, the last one filled with zeros, and the next
//! fact begins in the next: that is how a concatenated key such as `ip daddr . meta l4proto . th dport` is laid out, in
//! registers and in the elements of sets ([`super::concatenated`]). (include/uapi/linux/netfilter/nf_tables.h: NFT_REG32_…,
//! NFTA_CT_…, NFTA_FIB_…, NFTA_PAYLOAD_….)

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{Expressions, Meta, MetaKey, Register};

use super::{Expression, Family, payload};

/// Where in a packet (NFT_PAYLOAD_…).
const LINK_HEADER: u32 = 0;
const NETWORK_HEADER: u32 = 1;
const TRANSPORT_HEADER: u32 = 2;

/// A fact about a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    /// Its source address. Where packets of both families pass, it comes behind [`super::condition::is_of`].
    Source(Family),
    /// Its destination address, likewise.
    Destination(Family),
    /// IPPROTO_… of the layer behind the IP header: one byte.
    Protocol,
    /// The source port, of TCP, UDP and SCTP: two bytes, in network byte order.
    SourcePort,
    /// The destination port, likewise.
    DestinationPort,
    /// NFPROTO_IPV4 (2) or NFPROTO_IPV6 (10): one byte.
    NetworkProtocol,
    /// Its mark: four bytes in the machine's order.
    Mark,
    /// The name of the interface that it came in by: sixteen bytes ([`super::name_key`]).
    Input,
    /// The name of the interface that it leaves by, likewise.
    Output,
    /// What kind of link it came in by, ARPHRD_… of include/uapi/linux/if_arp.h: two bytes in the machine's order.
    InputType,
    /// The source hardware address. Where other links than Ethernet are, it comes behind [`super::condition::is_ethernet`].
    SourceMac,
    /// The destination hardware address, likewise.
    DestinationMac,
    /// `fib daddr type`, RTN_… of include/uapi/linux/rtnetlink.h: four bytes in the machine's order.
    DestinationType,
    /// `fib saddr type`, likewise.
    SourceType,
    /// The state of its connection: bits ([`State`]).
    State,
    /// The status of its connection: bits IPS_… of include/uapi/linux/netfilter/nf_conntrack_common.h.
    Status,
    /// Does it go the way of the connection's first packet (0) or back (1)? One byte.
    Direction,
    /// The mark of its connection: four bytes in the machine's order.
    ConnectionMark,
    /// The destination address of the connection's first packet, before any translation.
    OriginalDestination(Family),
    /// The destination port of the connection's first packet, before any translation.
    OriginalDestinationPort,
}

/// What conntrack takes a packet for. A packet is in one state; a rule may ask for several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(u32);

impl State {
    /// NF_CT_STATE_INVALID_BIT: of no connection, and not fit to begin one.
    pub const INVALID: State = State(1);
    /// IP_CT_ESTABLISHED: of a connection that has seen packets both ways.
    pub const ESTABLISHED: State = State(1 << 1);
    /// IP_CT_RELATED: begins a connection that belongs to another, or is its error message.
    pub const RELATED: State = State(1 << 2);
    /// IP_CT_NEW: of a connection that has seen packets one way only.
    pub const NEW: State = State(1 << 3);
    /// NF_CT_STATE_UNTRACKED_BIT: conntrack was told to leave it alone.
    pub const UNTRACKED: State = State(1 << 6);

    /// This state or the other.
    pub const fn or(self, other: State) -> State {
        State(self.0 | other.0)
    }

    /// As [`Field::State`] has it.
    pub fn bits(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }
}

impl Field {
    /// How long it is, in bytes.
    pub fn length(self) -> u32 {
        match self {
            Field::Source(family) | Field::Destination(family) | Field::OriginalDestination(family) => family.bytes(),
            Field::Protocol | Field::NetworkProtocol | Field::Direction => 1,
            Field::SourcePort | Field::DestinationPort | Field::OriginalDestinationPort | Field::InputType => 2,
            Field::SourceMac | Field::DestinationMac => 6,
            Field::Input | Field::Output => 16,
            Field::Mark | Field::ConnectionMark | Field::State | Field::Status => 4,
            Field::DestinationType | Field::SourceType => 4,
        }
    }

    /// Loads it into `register` and those behind.
    pub fn load(self, register: Register) -> Expression {
        // NFT_FIB_… flags: saddr, daddr. NFT_CT_… keys.
        const OF_SOURCE: u32 = 1;
        const OF_DESTINATION: u32 = 2;
        const ORIGINAL: Option<u8> = Some(0);
        let at = |base, offset| payload(base, offset, self.length(), register);
        match self {
            Field::Source(family) => at(NETWORK_HEADER, family.source_offset()),
            Field::Destination(family) => at(NETWORK_HEADER, family.source_offset() + family.bytes()),
            Field::SourcePort => at(TRANSPORT_HEADER, 0),
            Field::DestinationPort => at(TRANSPORT_HEADER, 2),
            Field::DestinationMac => at(LINK_HEADER, 0),
            Field::SourceMac => at(LINK_HEADER, 6),
            Field::Protocol => meta_into(MetaKey::L4Proto, register),
            Field::NetworkProtocol => meta_into(MetaKey::Nfproto, register),
            Field::Mark => meta_into(MetaKey::Mark, register),
            Field::Input => meta_into(MetaKey::Iifname, register),
            Field::InputType => meta_into(MetaKey::Iftype, register),
            Field::Output => meta_into(MetaKey::Oifname, register),
            Field::SourceType => address_type(OF_SOURCE, register),
            Field::DestinationType => address_type(OF_DESTINATION, register),
            Field::State => connection(0, None, register),
            Field::Direction => connection(1, None, register),
            Field::Status => connection(2, None, register),
            Field::ConnectionMark => connection(3, None, register),
            Field::OriginalDestination(Family::V4) => connection(20, ORIGINAL, register),
            Field::OriginalDestination(Family::V6) => connection(22, ORIGINAL, register),
            Field::OriginalDestinationPort => connection(12, ORIGINAL, register),
        }
    }
}

/// Loads these facts, one behind the other, from the first register on.
///
/// # Panics
/// For more than 64 bytes, which are all registers.
pub fn load(fields: &[Field]) -> Vec<Expression> {
    let mut place = 0;
    let one = |field: &Field| {
        let register = register(place);
        place += field.length().div_ceil(4);
        field.load(register)
    };
    fields.iter().map(one).collect()
}

/// The register of four bytes with that number, 0 to 15. The first is where the longer register 1 begins, too.
///
/// # Panics
/// For a number above 15.
pub fn register(number: u32) -> Register {
    // NFT_REG32_00 of nf_tables.h.
    const FIRST: u32 = 8;
    assert!(number < 16, "nftables has sixteen registers");
    Register::from(FIRST + number)
}

fn meta_into(key: MetaKey, register: Register) -> Expression {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(register)]).into()
}

/// `ct`: NFTA_CT_DREG 1, NFTA_CT_KEY 2, NFTA_CT_DIRECTION 3.
fn connection(key: u32, direction: Option<u8>, register: Register) -> Expression {
    let mut attributes = vec![long(1, register.into()), long(2, key)];
    attributes.extend(direction.map(|direction| DefaultNla::new(3, vec![direction])));
    named("ct", attributes)
}

/// `fib … type`: NFTA_FIB_DREG 1, NFTA_FIB_RESULT 2, NFTA_FIB_FLAGS 3.
fn address_type(flags: u32, register: Register) -> Expression {
    const ADDRESS_TYPE: u32 = 3;
    named("fib", vec![long(1, register.into()), long(2, ADDRESS_TYPE), long(3, flags)])
}

/// An expression that the library has no type for.
pub(super) fn named(name: &str, attributes: Vec<DefaultNla>) -> Expression {
    Expressions::Other { expression_type: name.to_owned(), attributes }.into()
}

/// A number of an attribute, which nftables has in network byte order.
pub(super) fn long(kind: u16, value: u32) -> DefaultNla {
    DefaultNla::new(kind, value.to_be_bytes().to_vec())
}
