//! What a rule consists of: load something into a register, compare it, look it up, end.

use netlink_packet_core::DefaultNla;
use netlink_packet_netfilter::nftables::{
    Bitwise, Cmp, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute, Lookup, Meta, MetaKey,
    Operator, Payload, Register, Verdict, VerdictAttribute,
};

/// An expression of a rule.
pub type Expression = ListAttribute<ExpressionAttribute>;

/// Loads a fact about the packet into the first register.
pub fn meta(key: MetaKey) -> Expression {
    Expressions::Meta(vec![Meta::Key(key), Meta::DestinationRegister(Register::Reg1)]).into()
}

/// Loads `length` bytes at `offset` into a register. Base 0 is the link-layer header, 1 the network header.
pub fn payload(base: u32, offset: u32, length: u32, register: Register) -> Expression {
    let attributes = vec![
        Payload::DestinationRegister(register),
        Payload::Base(base),
        Payload::Offset(offset),
        Payload::Len(length),
    ];
    Expressions::Payload(attributes).into()
}

/// Goes on only if the first register holds `value`.
pub fn equals(value: &[u8]) -> Expression {
    let attributes = vec![
        Cmp::SourceRegister(Register::Reg1),
        Cmp::Op(Operator::Equal),
        Cmp::Data(DataAttribute::Value(value.to_vec())),
    ];
    Expressions::Cmp(attributes).into()
}

/// Loads into the first register whether the source address has a route out of the interface that the packet came by
/// (`fib saddr . iif oif`): one byte, 1 or 0.
pub fn is_source_routed_back() -> Expression {
    // NFTA_FIB_… and NFT_FIB_RESULT_OIF of include/uapi/linux/netfilter/nf_tables.h, big-endian; flags: saddr, iif, present.
    const FIRST_REGISTER: u32 = 1;
    const OUTPUT_INTERFACE: u32 = 1;
    const FLAGS: u32 = 1 | 1 << 3 | 1 << 5;
    let attributes = [(1, FIRST_REGISTER), (2, OUTPUT_INTERFACE), (3, FLAGS)];
    let attributes = attributes.map(|(kind, value)| DefaultNla::new(kind, value.to_be_bytes().to_vec())).to_vec();
    Expressions::Other { expression_type: "fib".to_owned(), attributes }.into()
}

/// Looks the first register up in a verdict map and does what stands there.
pub fn verdict_map(set: &str) -> Expression {
    let attributes = vec![
        Lookup::Set(set.to_owned()),
        Lookup::SourceRegister(Register::Reg1),
        Lookup::DestinationRegister(Register::Verdict),
    ];
    Expressions::Lookup(attributes).into()
}

/// Goes on only if the set has what is in the registers from the first on; with `not`, only if it has not.
pub fn in_the_set(set: &str, not: bool) -> Expression {
    // NFT_LOOKUP_F_INV of nf_tables.h.
    let attributes =
        vec![Lookup::Set(set.to_owned()), Lookup::SourceRegister(Register::Reg1), Lookup::Flags(not.into())];
    Expressions::Lookup(attributes).into()
}

/// Ends the chain: back to the caller, or accepts or drops the packet.
pub fn end(verdict_code: Verdict) -> Expression {
    let attributes =
        vec![Immediate::DestinationRegister(Register::Verdict), Immediate::Data(verdict(verdict_code, None))];
    Expressions::Immediate(attributes).into()
}

/// NF_ACCEPT of include/uapi/linux/netfilter.h.
pub const ACCEPT: Verdict = Verdict::Other(1);

/// NF_DROP of include/uapi/linux/netfilter.h.
pub const DROP: Verdict = Verdict::Other(0);

/// An expression without attributes: `masq`.
pub fn simple(name: &str) -> Expression {
    Expressions::Other { expression_type: name.to_owned(), attributes: Vec::new() }.into()
}

pub(super) fn verdict(code: Verdict, chain: Option<&str>) -> DataAttribute {
    let chain = chain.map(|chain| VerdictAttribute::Chain(chain.to_owned()));
    DataAttribute::Verdict([VerdictAttribute::Code(code)].into_iter().chain(chain).collect())
}

/// Keeps of the first register only what `mask` has.
pub fn masked(mask: &[u8]) -> Expression {
    let attributes = vec![
        Bitwise::SourceRegister(Register::Reg1),
        Bitwise::DestinationRegister(Register::Reg1),
        Bitwise::Length(mask.len() as u32),
        Bitwise::Mask(DataAttribute::Value(mask.to_vec())),
        Bitwise::Xor(DataAttribute::Value(vec![0; mask.len()])),
    ];
    Expressions::Bitwise(attributes).into()
}
