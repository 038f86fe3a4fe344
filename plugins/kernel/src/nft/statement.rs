//! Statements: what a rule does with the packets that meet its conditions.
//!
//! (include/uapi/linux/netfilter/nf_tables.h: NFTA_NAT_…, NFTA_MASQ_…, NFTA_COUNTER_…, NFTA_LOG_…, NFTA_REJECT_…, NFTA_OBJREF_…;
//! include/uapi/linux/netfilter/nf_nat.h.)

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    DataAttribute, Expressions, Immediate, Lookup, Meta, MetaKey, Register, Verdict,
};

use super::condition::bits;
use super::expression::verdict;
use super::field::{Field, long, named};
use super::{Expression, Family};

/// A translation of addresses.
#[derive(Clone, Copy, Debug)]
pub struct Nat {
    /// Which address of the connection's packets.
    pub of: NatOf,
    /// The family of the address.
    pub family: Family,
    /// The register where the new address begins; the address stays if `None`.
    pub address: Option<Register>,
    /// The register where the new port begins, in network byte order; the port stays if `None`, if it is free. Needs a condition
    /// on the protocol.
    pub port: Option<Register>,
}

/// Which address a translation changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NatOf {
    /// Where packets come from: at the hooks postrouting and input.
    Source,
    /// Where packets go to: at the hooks prerouting and output.
    Destination,
}

/// How a new source port is chosen (NF_NAT_RANGE_PROTO_…).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ports {
    /// The same port, if it is free.
    #[default]
    Keep,
    /// A random one: two connections that begin at once never choose the same.
    FullyRandom,
}

/// `dnat to` and `snat to`, with the address and port that an earlier expression loaded ([`value`], [`map`]).
pub fn nat(nat: Nat) -> Expression {
    let kind = match nat.of {
        NatOf::Source => 0,
        NatOf::Destination => 1,
    };
    let mut attributes = vec![long(1, kind), long(2, nat.family.nfproto().into())];
    attributes.extend(nat.address.map(|register| long(3, register.into())));
    attributes.extend(nat.port.map(|register| long(5, register.into())));
    named("nat", attributes)
}

/// `masquerade`: the source becomes the address of the interface that the packet leaves by.
pub fn masquerade(ports: Ports) -> Expression {
    const NFTA_MASQ_FLAGS: u16 = 1;
    const NF_NAT_RANGE_PROTO_RANDOM_FULLY: u32 = 1 << 4;
    match ports {
        Ports::Keep => super::simple("masq"),
        Ports::FullyRandom => named("masq", vec![long(NFTA_MASQ_FLAGS, NF_NAT_RANGE_PROTO_RANDOM_FULLY)]),
    }
}

/// Loads a value into `register` and those behind.
pub fn value(value: &[u8], register: Register) -> Expression {
    let data = Immediate::Data(DataAttribute::Value(value.to_vec()));
    Expressions::Immediate(vec![Immediate::DestinationRegister(register), data]).into()
}

/// Looks up what is in the registers from the first on in a map, and loads what it finds from `register` on. Goes on only if
/// it finds something.
pub fn map(set: &str, register: Register) -> Expression {
    let attributes = vec![
        Lookup::Set(set.to_owned()),
        Lookup::SourceRegister(Register::Reg1),
        Lookup::DestinationRegister(register),
    ];
    Expressions::Lookup(attributes).into()
}

/// Runs another chain, then goes on with the next rule.
pub fn jump(chain: &str) -> Expression {
    to_chain(Verdict::Jump, chain)
}

/// Runs another chain in place of the rest of this one.
pub fn goto(chain: &str) -> Expression {
    to_chain(Verdict::Goto, chain)
}

fn to_chain(code: Verdict, chain: &str) -> Expression {
    let data = Immediate::Data(verdict(code, Some(chain)));
    Expressions::Immediate(vec![Immediate::DestinationRegister(Register::Verdict), data]).into()
}

/// Counts packets and bytes, from 0.
pub fn counter() -> Expression {
    // NFTA_COUNTER_BYTES and NFTA_COUNTER_PACKETS.
    named("counter", [1, 2].map(|kind| DefaultNla::new(kind, vec![0; 8])).to_vec())
}

/// Counts with a counter that has a name ([`super::Transaction::counter`]).
pub fn named_counter(name: &str) -> Expression {
    // NFTA_OBJREF_IMM_TYPE, NFTA_OBJREF_IMM_NAME.
    named("objref", vec![long(1, super::object::COUNTER), string(2, name)])
}

/// Where a packet is written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Log {
    /// In the kernel's log, at a level of syslog(3): 4 is "warning".
    Kernel(u32),
    /// Sent to the programs that listen to this group of NFLOG, with as many of the packet's bytes, all if 0.
    Group(u16, u32),
}

/// `log`: writes the packet down behind `prefix`, of 127 bytes at most, and goes on.
pub fn log(to: Log, prefix: &str) -> Expression {
    // NFTA_LOG_GROUP 1, NFTA_LOG_PREFIX 2, NFTA_LOG_SNAPLEN 3, NFTA_LOG_LEVEL 5.
    let mut attributes = Vec::new();
    if !prefix.is_empty() {
        attributes.push(string(2, prefix));
    }
    match to {
        Log::Kernel(level) => attributes.push(long(5, level)),
        Log::Group(group, bytes) => {
            attributes.push(DefaultNla::new(1, group.to_be_bytes().to_vec()));
            attributes.extend((bytes > 0).then(|| long(3, bytes)));
        }
    }
    named("log", attributes)
}

/// How a packet's sender learns that it is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// By ICMP or ICMPv6: the port is unreachable.
    PortUnreachable,
    /// By ICMP or ICMPv6: communication is administratively prohibited.
    Prohibited,
    /// By a TCP reset. Stands behind a condition on TCP.
    TcpReset,
}

/// `reject`: drops the packet and tells its sender, in a table of family inet or bridge.
pub fn reject(how: Reject) -> Expression {
    // NFTA_REJECT_TYPE 1, NFTA_REJECT_ICMP_CODE 2; NFT_REJECT_TCP_RST 1, NFT_REJECT_ICMPX_UNREACH 2; NFT_REJECT_ICMPX_….
    let (kind, code) = match how {
        Reject::PortUnreachable => (2, 1),
        Reject::Prohibited => (2, 3),
        Reject::TcpReset => (1, 0),
    };
    named("reject", vec![long(1, kind), DefaultNla::new(2, vec![code])])
}

/// Sets the bits `mask` of the packet's mark to those of `value`.
pub fn set_mark(value: u32, mask: u32) -> Vec<Expression> {
    let mut rule = new_bits(Field::Mark, value, mask);
    rule.push(Expressions::Meta(vec![Meta::Key(MetaKey::Mark), Meta::SourceRegister(Register::Reg1)]).into());
    rule
}

/// Sets the bits `mask` of the connection's mark to those of `value`.
pub fn set_connection_mark(value: u32, mask: u32) -> Vec<Expression> {
    // NFT_CT_MARK; NFTA_CT_KEY 2, NFTA_CT_SREG 4.
    const MARK: u32 = 3;
    let mut rule = new_bits(Field::ConnectionMark, value, mask);
    rule.push(named("ct", vec![long(2, MARK), long(4, Register::Reg1.into())]));
    rule
}

fn new_bits(field: Field, new: u32, mask: u32) -> Vec<Expression> {
    match mask {
        u32::MAX => vec![value(&new.to_ne_bytes(), Register::Reg1)],
        _ => vec![field.load(Register::Reg1), bits(!mask, new & mask)],
    }
}

/// Text with a zero byte at its end.
fn string(kind: u16, text: &str) -> DefaultNla {
    DefaultNla::new(kind, [text.as_bytes(), &[0]].concat())
}
