//! nftables' words: tables, chains, rules, sets and their elements, as netlink messages.
//!
//! Everything of ours is in tables called `podwire`; nobody else's is ever touched. Changes go in transactions: all of
//! one happens, or none. (Kernel: net/netfilter/nf_tables_api.c, include/uapi/linux/netfilter/nf_tables.h.)

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_netfilter::nftables::{
    Bitwise, ChainAttribute, ChainMessage, Cmp, DataAttribute, ExpressionAttribute, Expressions, Hook, HookNumber,
    Immediate, InetHookNumber, ListAttribute, Lookup, Meta, MetaKey, NfTablesMessage, Operator, Payload, Register,
    RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute, SetElementFlags, SetElementList, SetElementMessage,
    SetFlags, SetMessage, TableAttribute, TableMessage, Verdict, VerdictAttribute,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use nix::errno::Errno;

use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::owner::Owner;

/// The name of every table of ours.
pub const TABLE: &str = "podwire";

/// NFNL_SUBSYS_NFTABLES: which subsystem a batch is for.
const SUBSYSTEM: u16 = 10;

/// An expression of a rule.
pub type Expression = ListAttribute<ExpressionAttribute>;

/// A table of ours in one family.
#[derive(Clone, Debug)]
pub struct Table(pub NetfilterProtoFamily);

/// A base chain's place.
#[derive(Clone, Copy, Debug)]
pub struct BaseChain {
    /// `nat`, `filter`.
    pub kind: &'static str,
    /// At which hook.
    pub hook: InetHookNumber,
    /// In which order among the chains there.
    pub priority: i32,
}

/// An element of a set or a map.
#[derive(Clone, Debug)]
pub struct Element {
    /// Its key, in network byte order.
    pub key: Vec<u8>,
    /// Of a verdict map: the chain to go to.
    pub goto: Option<String>,
    /// Whose it is.
    pub owner: Option<Owner>,
}

/// Changes that happen together.
#[derive(Debug)]
pub struct Transaction {
    family: NetfilterProtoFamily,
    changes: Vec<NetlinkMessage<NetfilterMessage>>,
}

impl Table {
    /// An empty transaction on this table.
    pub fn transaction(&self) -> Transaction {
        Transaction { family: self.0, changes: Vec::new() }
    }

    /// The elements of a set; none if there is no such set.
    pub fn elements(&self, kernel: &Kernel, set: &str) -> Result<Vec<Element>> {
        let message = self.message(NfTablesMessage::GetSetElement(in_set(set, &[])));
        let answers = kernel.netfilter()?.dump(message, &|| format!("listing nftables set {TABLE}/{set}"));
        Ok(none_if_missing(answers)?.iter().flat_map(read_elements).collect())
    }

    /// The element with that key, if it is there.
    pub fn element(&self, kernel: &Kernel, set: &str, key: &[u8]) -> Result<Option<Element>> {
        let wanted = Element { key: key.to_vec(), goto: None, owner: None };
        let message = self.message(NfTablesMessage::GetSetElement(in_set(set, &[wanted])));
        let answer = kernel.netfilter()?.get(message, &|| format!("looking into nftables set {TABLE}/{set}"))?;
        Ok(answer.iter().flat_map(read_elements).next())
    }

    /// The intervals of an interval set: first and last key of each. None if there is no such set, or nothing in it.
    pub fn intervals(&self, kernel: &Kernel, set: &str) -> Result<Vec<Interval>> {
        let message = self.message(NfTablesMessage::GetSetElement(in_set(set, &[])));
        let answers = kernel.netfilter()?.dump(message, &|| format!("listing nftables set {TABLE}/{set}"));
        let mut edges: Vec<Edge> =
            none_if_missing(answers)?.iter().flat_map(elements_of).filter_map(read_edge).collect();
        // An interval's end is the key after its last; where another begins at once, the end comes first.
        edges.sort_by(|one, other| one.key.cmp(&other.key).then(other.is_end.cmp(&one.is_end)));
        let mut intervals: Vec<Interval> = Vec::new();
        for edge in edges {
            match (edge.is_end, intervals.last_mut()) {
                (true, Some(interval)) => interval.1 = before(&edge.key),
                (true, None) => {}
                (false, _) => intervals.push((edge.key.clone(), vec![0xff; edge.key.len()])),
            }
        }
        Ok(intervals)
    }

    /// How many rules a chain has; none if there is no such chain.
    pub fn rules(&self, kernel: &Kernel, chain: &str) -> Result<usize> {
        let attributes = vec![RuleAttribute::Table(TABLE.to_owned()), RuleAttribute::Chain(chain.to_owned())];
        let message = self.message(NfTablesMessage::GetRule(RuleMessage { attributes }));
        let answers = kernel.netfilter()?.dump(message, &|| format!("listing nftables chain {TABLE}/{chain}"));
        Ok(none_if_missing(answers)?.len())
    }

    /// Removes from a set every element of that owner.
    pub fn disown(&self, kernel: &Kernel, set: &str, is_gone: &dyn Fn(Owner) -> bool) -> Result<()> {
        let elements = self.elements(kernel, set)?;
        let mut gone = elements.into_iter().filter(|element| element.owner.is_some_and(is_gone));
        gone.try_for_each(|element| self.remove_element(kernel, set, element))
    }

    /// Removes one element; it need not be there.
    pub fn remove_element(&self, kernel: &Kernel, set: &str, element: Element) -> Result<()> {
        let mut transaction = self.transaction();
        transaction.remove_elements(set, &[element]);
        match transaction.commit(kernel, &|| format!("removing an element of nftables set {TABLE}/{set}")) {
            Err(error) if error.is(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }

    fn message(&self, message: NfTablesMessage) -> NetfilterMessage {
        NetfilterMessage::new(NetfilterHeader::new(self.0, 0, 0), message)
    }
}

impl Transaction {
    /// The table itself.
    pub fn table(&mut self) {
        let attributes = vec![TableAttribute::Name(TABLE.to_owned())];
        self.push(NfTablesMessage::NewTable(TableMessage { attributes }), NLM_F_CREATE);
    }

    /// A chain that is new (EEXIST if not): a base chain, or one to jump to.
    pub fn chain(&mut self, name: &str, base: Option<BaseChain>) {
        let mut attributes = vec![ChainAttribute::Table(TABLE.to_owned()), ChainAttribute::Name(name.to_owned())];
        if let Some(base) = base {
            attributes.push(ChainAttribute::Hook(vec![
                Hook::Number(HookNumber::Inet(base.hook)),
                Hook::Priority(base.priority as u32),
            ]));
            attributes.push(ChainAttribute::Type(base.kind.to_owned()));
        }
        self.push(NfTablesMessage::NewChain(ChainMessage { attributes }), NLM_F_CREATE | NLM_F_EXCL);
    }

    /// A chain to jump to that may be there already; what is in it goes.
    pub fn empty_chain(&mut self, name: &str) {
        let attributes = vec![ChainAttribute::Table(TABLE.to_owned()), ChainAttribute::Name(name.to_owned())];
        self.push(NfTablesMessage::NewChain(ChainMessage { attributes }), NLM_F_CREATE);
        let attributes = vec![RuleAttribute::Table(TABLE.to_owned()), RuleAttribute::Chain(name.to_owned())];
        self.push(NfTablesMessage::DeleteRule(RuleMessage { attributes }), 0);
    }

    /// A rule at the end of a chain.
    pub fn rule(&mut self, chain: &str, expressions: Vec<Expression>) {
        let attributes = vec![
            RuleAttribute::Table(TABLE.to_owned()),
            RuleAttribute::Chain(chain.to_owned()),
            RuleAttribute::Expressions(expressions),
        ];
        self.push(NfTablesMessage::NewRule(RuleMessage { attributes }), NLM_F_CREATE | NLM_F_APPEND);
    }

    /// A set. `key_type` is nft's number for the type, which only `nft list` reads.
    pub fn set(&mut self, name: &str, key_type: u32, key_bytes: u32) {
        // "Keys in host byte order" (libnftnl's NFTNL_UDATA_SET_KEYBYTEORDER): without it `nft list` shows names empty.
        let host_order = [0, 4].into_iter().chain(1u32.to_ne_bytes()).collect();
        self.new_set(name, key_type, key_bytes, vec![SetAttribute::UserData(host_order)]);
    }

    /// A map from keys to chains.
    pub fn verdict_map(&mut self, name: &str, key_type: u32, key_bytes: u32) {
        // NFT_DATA_VERDICT of nf_tables.h.
        const VERDICTS: u32 = 0xffff_ff00;
        let more = vec![SetAttribute::Flags(SetFlags::Map), SetAttribute::DataType(VERDICTS)];
        self.new_set(name, key_type, key_bytes, more);
    }

    /// An interval set that may be there already, with exactly these intervals, which don't touch each other.
    pub fn interval_set(&mut self, name: &str, key_type: u32, key_bytes: u32, intervals: &[Interval]) {
        self.new_set(name, key_type, key_bytes, vec![SetAttribute::Flags(SetFlags::Interval)]);
        self.push(NfTablesMessage::DeleteSetElement(in_set(name, &[])), 0);
        let element = |key: Vec<u8>, flags| {
            let key = SetElementAttribute::Key(DataAttribute::Value(key));
            ListAttribute::Element(vec![key, SetElementAttribute::Flags(flags)])
        };
        let edges = intervals.iter().flat_map(|(first, last)| {
            let begin = element(first.clone(), SetElementFlags::empty());
            // What reaches to the last key of all has no end.
            let end = after(last).map(|key| element(key, SetElementFlags::IntervalEnd));
            std::iter::once(begin).chain(end)
        });
        let edges: Vec<_> = edges.collect();
        for some in edges.chunks(200) {
            let mut message = in_set(name, &[]);
            message.attributes.push(SetElementList::Elements(some.to_vec()));
            self.push(NfTablesMessage::NewSetElement(message), NLM_F_CREATE | NLM_F_EXCL);
        }
    }

    fn new_set(&mut self, name: &str, key_type: u32, key_bytes: u32, more: Vec<SetAttribute>) {
        let mut attributes = vec![
            SetAttribute::Table(TABLE.to_owned()),
            SetAttribute::Name(name.to_owned()),
            SetAttribute::KeyType(key_type),
            SetAttribute::KeyLen(key_bytes),
            SetAttribute::Id(self.changes.len() as u32 + 1),
        ];
        attributes.extend(more);
        self.push(NfTablesMessage::NewSet(SetMessage { attributes }), NLM_F_CREATE);
    }

    /// Elements that are new (EEXIST if not).
    pub fn elements(&mut self, set: &str, elements: &[Element]) {
        // A message's attribute lengths have 16 bits.
        for some in elements.chunks(200) {
            self.push(NfTablesMessage::NewSetElement(in_set(set, some)), NLM_F_CREATE | NLM_F_EXCL);
        }
    }

    /// Elements to go (ENOENT if they are not there).
    pub fn remove_elements(&mut self, set: &str, elements: &[Element]) {
        let keys: Vec<_> =
            elements.iter().map(|element| Element { goto: None, owner: None, ..element.clone() }).collect();
        for some in keys.chunks(200) {
            self.push(NfTablesMessage::DeleteSetElement(in_set(set, some)), 0);
        }
    }

    /// Makes it all happen, or nothing.
    pub fn commit(self, kernel: &Kernel, doing: &dyn Fn() -> String) -> Result<()> {
        if self.changes.is_empty() {
            return Ok(());
        }
        let mut messages = vec![frame(ControlMessage::BatchBegin)];
        messages.extend(self.changes);
        messages.push(frame(ControlMessage::BatchEnd));
        kernel.netfilter()?.transact(messages, doing).map(drop).map_err(|error| match error {
            Error::Refused { errno: Errno::EOPNOTSUPP | Errno::EINVAL, doing, said } if said.is_empty() => {
                Error::Lacks(format!(
                    "{doing}: this kernel refuses it; it needs CONFIG_NF_TABLES (with its inet and bridge families), \
                     CONFIG_NFT_NAT and CONFIG_NFT_MASQ"
                ))
            }
            other => other,
        })
    }

    /// Something to go that is no element of ours.
    pub(crate) fn delete(&mut self, message: NfTablesMessage) {
        self.push(message, 0);
    }

    fn push(&mut self, message: NfTablesMessage, flags: u16) {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let message = NetfilterMessage::new(NetfilterHeader::new(self.family, 0, 0), message);
        self.changes.push(NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message)));
    }
}

/// BATCH_BEGIN and BATCH_END, not answered.
fn frame(message: ControlMessage) -> NetlinkMessage<NetfilterMessage> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let message = NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM), message);
    NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message))
}

fn in_set(set: &str, elements: &[Element]) -> SetElementMessage {
    let mut attributes = vec![SetElementList::Table(TABLE.to_owned()), SetElementList::Set(set.to_owned())];
    if !elements.is_empty() {
        let elements = elements.iter().map(|element| ListAttribute::Element(element.attributes())).collect();
        attributes.push(SetElementList::Elements(elements));
    }
    SetElementMessage { attributes }
}

impl Element {
    fn attributes(&self) -> Vec<SetElementAttribute> {
        let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(self.key.clone()))];
        if let Some(chain) = &self.goto {
            attributes.push(SetElementAttribute::Data(verdict(Verdict::Goto, Some(chain.as_str()))));
        }
        if let Some(owner) = self.owner {
            attributes.push(SetElementAttribute::UserData(user_data(owner)));
        }
        attributes
    }
}

/// An owner as nft's own comment (type 0, a length, text with a final zero), so that `nft list` shows it.
fn user_data(owner: Owner) -> Vec<u8> {
    let text = owner.to_string();
    let mut bytes = vec![0, text.len() as u8 + 1];
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

fn read_owner(user_data: &[u8]) -> Option<Owner> {
    let [0, length, text @ ..] = user_data else { return None };
    let text = text.get(..usize::from(*length).checked_sub(1)?)?;
    Owner::from_hex(std::str::from_utf8(text).ok()?)
}

fn read_elements(answer: &NetfilterMessage) -> Vec<Element> {
    elements_of(answer).into_iter().filter_map(read_element).collect()
}

fn elements_of(answer: &NetfilterMessage) -> Vec<&[SetElementAttribute]> {
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewSetElement(message)) = &answer.inner else {
        return Vec::new();
    };
    let lists = message.attributes.iter().filter_map(|attribute| match attribute {
        SetElementList::Elements(elements) => Some(elements),
        _ => None,
    });
    let elements = lists.flatten().filter_map(|element| match element {
        ListAttribute::Element(attributes) => Some(attributes.as_slice()),
        _ => None,
    });
    elements.collect()
}

/// First and last key, both in it, in network byte order.
pub type Interval = (Vec<u8>, Vec<u8>);

/// Where an interval of a set begins, or the key after its last.
struct Edge {
    key: Vec<u8>,
    is_end: bool,
}

fn read_edge(attributes: &[SetElementAttribute]) -> Option<Edge> {
    let key = attributes.iter().find_map(|attribute| match attribute {
        SetElementAttribute::Key(DataAttribute::Value(key)) => Some(key.clone()),
        _ => None,
    })?;
    let is_end = attributes.iter().any(
        |attribute| matches!(attribute, SetElementAttribute::Flags(flags) if flags.contains(SetElementFlags::IntervalEnd)),
    );
    Some(Edge { key, is_end })
}

/// The key after this one; none after the last.
fn after(key: &[u8]) -> Option<Vec<u8>> {
    let at = key.iter().rposition(|byte| *byte != 0xff)?;
    let mut next = key.to_vec();
    next[at] += 1;
    next[at + 1..].fill(0);
    Some(next)
}

/// The key before this one, which is not the first.
fn before(key: &[u8]) -> Vec<u8> {
    let mut previous = key.to_vec();
    if let Some(at) = key.iter().rposition(|byte| *byte != 0) {
        previous[at] -= 1;
        previous[at + 1..].fill(0xff);
    }
    previous
}

fn read_element(attributes: &[SetElementAttribute]) -> Option<Element> {
    let mut element = Element { key: Vec::new(), goto: None, owner: None };
    for attribute in attributes {
        match attribute {
            SetElementAttribute::Key(DataAttribute::Value(key)) => element.key = key.clone(),
            SetElementAttribute::Data(DataAttribute::Verdict(verdict)) => {
                element.goto = verdict.iter().find_map(|attribute| match attribute {
                    VerdictAttribute::Chain(chain) => Some(chain.clone()),
                    _ => None,
                });
            }
            SetElementAttribute::UserData(bytes) => element.owner = read_owner(bytes),
            _ => {}
        }
    }
    (!element.key.is_empty()).then_some(element)
}

/// What somebody else made at the same moment is as good as made by us.
pub fn accept_faster(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.is(Errno::EEXIST) => Ok(()),
        other => other,
    }
}

fn none_if_missing<T>(answers: Result<Vec<T>>) -> Result<Vec<T>> {
    match answers {
        Err(error) if error.is(Errno::ENOENT) => Ok(Vec::new()),
        other => other,
    }
}

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

/// Ends the chain: back to the caller, or drops the packet.
pub fn end(verdict_code: Verdict) -> Expression {
    let attributes =
        vec![Immediate::DestinationRegister(Register::Verdict), Immediate::Data(verdict(verdict_code, None))];
    Expressions::Immediate(attributes).into()
}

/// NF_DROP of include/uapi/linux/netfilter.h.
pub const DROP: Verdict = Verdict::Other(0);

/// An expression without attributes: `masq`.
pub fn simple(name: &str) -> Expression {
    Expressions::Other { expression_type: name.to_owned(), attributes: Vec::new() }.into()
}

fn verdict(code: Verdict, chain: Option<&str>) -> DataAttribute {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_after_and_the_key_before_carry() {
        assert_eq!(after(&[10, 0, 255, 255]), Some(vec![10, 1, 0, 0]));
        assert_eq!(before(&[10, 1, 0, 0]), [10, 0, 255, 255]);
        assert_eq!(after(&[255, 255]), None);
    }
}
