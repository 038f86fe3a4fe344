//! Conditions: a rule goes on only for the packets that meet all of them.
//!
//! Each is what `nft` makes of its own words, so `nft list` shows it as a person would have written it.

use netlink_packet_netfilter::nftables::{Bitwise, Cmp, DataAttribute, Expressions, Operator, Register};

use super::field::{Field, State, load};
use super::{Expression, Family, equals, in_the_set, masked, name_key};

/// Is a fact this value?
pub fn is(field: Field, value: &[u8]) -> Vec<Expression> {
    vec![field.load(Register::Reg1), equals(value)]
}

/// Is a fact anything but this value?
pub fn is_not(field: Field, value: &[u8]) -> Vec<Expression> {
    vec![field.load(Register::Reg1), compare(Operator::NotEqual, value)]
}

/// Is a fact one of those from `first` to `last`, both among them? In network byte order.
pub fn is_between(field: Field, first: &[u8], last: &[u8]) -> Vec<Expression> {
    let bounds = [compare(Operator::GreatherThanEqual, first), compare(Operator::LessThanEqual, last)];
    [field.load(Register::Reg1)].into_iter().chain(bounds).collect()
}

/// Is any of these bits of a fact set?
pub fn has_any_of(field: Field, bits: &[u8]) -> Vec<Expression> {
    vec![field.load(Register::Reg1), masked(bits), compare(Operator::NotEqual, &vec![0; bits.len()])]
}

/// Are these bits of a fact as in `value`?
pub fn has(field: Field, value: &[u8], mask: &[u8]) -> Vec<Expression> {
    vec![field.load(Register::Reg1), masked(mask), equals(value)]
}

/// Is a concatenated key in a set? With `not`, is it missing there?
pub fn are_in(fields: &[Field], set: &str, not: bool) -> Vec<Expression> {
    let mut rule = load(fields);
    rule.push(in_the_set(set, not));
    rule
}

/// Is it a packet of this family? In a table of family inet or bridge.
pub fn is_of(family: Family) -> Vec<Expression> {
    is(Field::NetworkProtocol, &[family.nfproto()])
}

/// Is it a packet of this protocol (IPPROTO_… of include/uapi/linux/in.h)? Stands before conditions on ports.
pub fn is_protocol(protocol: u8) -> Vec<Expression> {
    is(Field::Protocol, &[protocol])
}

/// Did it come in by this interface?
pub fn came_by(interface: &str) -> Vec<Expression> {
    is(Field::Input, &name_key(interface))
}

/// Does it leave by this interface?
pub fn leaves_by(interface: &str) -> Vec<Expression> {
    is(Field::Output, &name_key(interface))
}

/// Did it come in by an Ethernet link (ARPHRD_ETHER)?
pub fn is_ethernet() -> Vec<Expression> {
    const ARPHRD_ETHER: u16 = 1;
    is(Field::InputType, &ARPHRD_ETHER.to_ne_bytes())
}

/// `ct state …`: is it in one of these states?
pub fn is_in_state(states: State) -> Vec<Expression> {
    has_any_of(Field::State, &states.bits())
}

/// `ct direction original` or `reply`: does it go the way of its connection's first packet?
pub fn goes_out(original: bool) -> Vec<Expression> {
    is(Field::Direction, &[u8::from(!original)])
}

/// `ct status dnat`: was its connection's destination translated (IPS_DST_NAT)?
pub fn was_redirected() -> Vec<Expression> {
    const IPS_DST_NAT: u32 = 1 << 5;
    has_any_of(Field::Status, &IPS_DST_NAT.to_ne_bytes())
}

/// `fib daddr type local`: is its destination an address of this namespace (RTN_LOCAL)?
pub fn is_for_this_node() -> Vec<Expression> {
    const RTN_LOCAL: u32 = 2;
    is(Field::DestinationType, &RTN_LOCAL.to_ne_bytes())
}

/// `meta mark and mask == value`.
pub fn has_mark(value: u32, mask: u32) -> Vec<Expression> {
    match mask {
        u32::MAX => is(Field::Mark, &value.to_ne_bytes()),
        _ => has(Field::Mark, &value.to_ne_bytes(), &mask.to_ne_bytes()),
    }
}

/// Keeps the bits of the first register that `mask` has, and turns those that `flip` has.
pub(super) fn bits(mask: u32, flip: u32) -> Expression {
    let value = |value: u32| DataAttribute::Value(value.to_ne_bytes().to_vec());
    let attributes = vec![
        Bitwise::SourceRegister(Register::Reg1),
        Bitwise::DestinationRegister(Register::Reg1),
        Bitwise::Length(4),
        Bitwise::Mask(value(mask)),
        Bitwise::Xor(value(flip)),
    ];
    Expressions::Bitwise(attributes).into()
}

fn compare(operator: Operator, value: &[u8]) -> Expression {
    let attributes =
        vec![Cmp::SourceRegister(Register::Reg1), Cmp::Op(operator), Cmp::Data(DataAttribute::Value(value.to_vec()))];
    Expressions::Cmp(attributes).into()
}
