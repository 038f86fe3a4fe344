//! Sets and maps of any type, and their elements.
//!
//! A set's key is one fact or several (a concatenation); a map has a verdict or a value, concatenated or not, for each key. A set
//! of one fact with intervals keeps two elements for each, a concatenated one keeps one element with two keys; both are an
//! [`Entry`] here. (include/uapi/linux/netfilter/nf_tables.h: NFTA_SET_…, NFTA_SET_ELEM_…. Types and user data are nft's own, for
//! `nft list`: nftables' include/datatype.h, libnftnl's include/libnftnl/udata.h.)

use netlink_packet_core::{DefaultNla, Emitable, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, SetAttribute, SetDescription, SetElementAttribute, SetElementFlags,
    SetElementList, SetElementMessage, SetFlags, SetMessage, Verdict,
};

use super::dump::{self, Dumped};
use super::expression::verdict;
use super::field::long;
use super::{Table, Transaction, after, before, none_if_missing, write_comment};
use crate::error::Result;
use crate::kernel::Kernel;

/// A set or a map.
#[derive(Clone, Copy, Debug)]
pub struct Set<'a> {
    /// Its name.
    pub name: &'a str,
    /// What a key consists of.
    pub key: &'a [Type],
    /// What it has for each key.
    pub holds: Holds<'a>,
    /// Are there keys that stand for all between two? Their types are in network byte order.
    pub intervals: bool,
    /// Text that `nft list` shows, 127 bytes at most.
    pub comment: Option<&'a str>,
}

/// What a set has for each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds<'a> {
    /// Nothing: it is a set.
    Keys,
    /// What becomes of the packet.
    Verdicts,
    /// A value of these types.
    Values(&'a [Type]),
}

/// The type of a fact, by nft's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `ipv4_addr`.
    Ipv4,
    /// `ipv6_addr`.
    Ipv6,
    /// `ether_addr`.
    Ethernet,
    /// `inet_proto`: IPPROTO_…, one byte.
    Protocol,
    /// `inet_service`: a port, two bytes in network byte order.
    Port,
    /// `mark`: four bytes in the machine's order.
    Mark,
    /// `ifname`: sixteen bytes.
    Interface,
}

impl Type {
    /// nft's number for it.
    fn number(self) -> u32 {
        match self {
            Type::Ipv4 => 7,
            Type::Ipv6 => 8,
            Type::Ethernet => 9,
            Type::Protocol => 12,
            Type::Port => 13,
            Type::Mark => 19,
            Type::Interface => 41,
        }
    }

    /// How long it is, in bytes.
    fn length(self) -> u32 {
        match self {
            Type::Protocol => 1,
            Type::Port => 2,
            Type::Ipv4 | Type::Mark => 4,
            Type::Ethernet => 6,
            Type::Ipv6 | Type::Interface => 16,
        }
    }

    /// libnftnl's number for the byte order: 1 is the machine's, 2 the network's.
    fn byte_order(self) -> u32 {
        if matches!(self, Type::Mark | Type::Interface) { 1 } else { 2 }
    }
}

/// nft's number for a concatenation: six bits for each type.
fn number(types: &[Type]) -> u32 {
    types.iter().fold(0, |number, one| number << 6 | one.number())
}

/// Of one type its length; of several that of each in whole registers.
fn length(types: &[Type]) -> u32 {
    match types {
        [one] => one.length(),
        several => several.iter().map(|one| one.length().next_multiple_of(4)).sum(),
    }
}

/// An element of a set or a map: a key, or all keys from one to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The key, or the first one: [`concatenated`] if it has several parts.
    pub key: Vec<u8>,
    /// The last key, of an interval. Of a concatenated one, each part is an interval of its own.
    pub last: Option<Vec<u8>>,
    /// What the map has for it.
    pub value: Option<Value>,
    /// Text that stays with it, 127 bytes at most.
    pub comment: Option<String>,
}

/// What a map has for a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Bytes: [`concatenated`] if there are several parts.
    Data(Vec<u8>),
    /// The packet is accepted at this hook.
    Accept,
    /// It is dropped.
    Drop,
    /// The chain ends here.
    Return,
    /// Another chain is run, then this one goes on.
    Jump(String),
    /// Another chain is run in place of the rest of this one.
    Goto(String),
}

/// Parts of a key or a value, each filled with zeros to whole registers.
pub fn concatenated(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        bytes.extend(*part);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
    }
    bytes
}

impl Entry {
    /// An element with nothing but its key.
    pub fn new(key: Vec<u8>) -> Self {
        Entry { key, last: None, value: None, comment: None }
    }

    /// With that value.
    pub fn with(self, value: Value) -> Self {
        Entry { value: Some(value), ..self }
    }

    /// With that text.
    pub fn commented(self, comment: &str) -> Self {
        Entry { comment: Some(comment.to_owned()), ..self }
    }

    fn attributes(&self) -> Vec<SetElementAttribute> {
        let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(self.key.clone()))];
        attributes.extend(self.value.as_ref().map(|value| SetElementAttribute::Data(value.attribute())));
        attributes.extend(self.comment.as_ref().map(|text| SetElementAttribute::UserData(write_comment(text))));
        attributes
    }
}

impl Value {
    fn attribute(&self) -> DataAttribute {
        match self {
            Value::Data(bytes) => DataAttribute::Value(bytes.clone()),
            Value::Accept => verdict(super::ACCEPT, None),
            Value::Drop => verdict(super::DROP, None),
            Value::Return => verdict(Verdict::Return, None),
            Value::Jump(chain) => verdict(Verdict::Jump, Some(chain.as_str())),
            Value::Goto(chain) => verdict(Verdict::Goto, Some(chain.as_str())),
        }
    }

    /// Reads an element's; none if it has none, or a verdict that is not listed here.
    fn of(element: &mut Dumped) -> Option<Self> {
        if let Some(data) = element.data.take() {
            return Some(Value::Data(data));
        }
        let code = Verdict::from(element.verdict?);
        let chain = element.goto.take().unwrap_or_default();
        match code {
            super::ACCEPT => Some(Value::Accept),
            super::DROP => Some(Value::Drop),
            Verdict::Return => Some(Value::Return),
            Verdict::Jump => Some(Value::Jump(chain)),
            Verdict::Goto => Some(Value::Goto(chain)),
            _ => None,
        }
    }
}

impl Set<'_> {
    fn is_concatenated(&self) -> bool {
        self.key.len() > 1
    }

    fn attributes(&self, table: &Table, id: u32) -> Vec<SetAttribute> {
        let mut flags = SetFlags::empty();
        flags.set(SetFlags::Interval, self.intervals);
        flags.set(SetFlags::Concat, self.intervals && self.is_concatenated());
        flags.set(SetFlags::Map, self.holds != Holds::Keys);
        let mut attributes = vec![
            SetAttribute::Table(table.name.to_owned()),
            SetAttribute::Name(self.name.to_owned()),
            SetAttribute::Flags(flags),
            SetAttribute::KeyType(number(self.key)),
            SetAttribute::KeyLen(length(self.key)),
        ];
        // NFT_DATA_VERDICT of nf_tables.h.
        const VERDICTS: u32 = 0xffff_ff00;
        match self.holds {
            Holds::Keys => {}
            Holds::Verdicts => attributes.push(SetAttribute::DataType(VERDICTS)),
            Holds::Values(types) => {
                attributes.extend([SetAttribute::DataType(number(types)), SetAttribute::DataLen(length(types))]);
            }
        }
        attributes.push(SetAttribute::Id(id));
        if flags.contains(SetFlags::Concat) {
            attributes.push(SetAttribute::Description(vec![SetDescription::Concat(self.lengths())]));
        }
        attributes.push(SetAttribute::UserData(self.user_data()));
        attributes
    }

    /// NFTA_LIST_ELEM of one NFTA_SET_FIELD_LEN each: how long the parts of the key are.
    fn lengths(&self) -> Vec<DefaultNla> {
        const ELEMENT: u16 = 1;
        const FIELD_LENGTH: u16 = 1;
        let one = |part: &Type| {
            let length = long(FIELD_LENGTH, part.length());
            let mut bytes = vec![0; length.buffer_len()];
            length.emit(&mut bytes);
            DefaultNla::new(ELEMENT, bytes)
        };
        self.key.iter().map(one).collect()
    }

    /// NFTNL_UDATA_SET_KEYBYTEORDER 0, …_DATABYTEORDER 1, …_COMMENT 7: without them `nft list` may show keys reversed.
    fn user_data(&self) -> Vec<u8> {
        let order = |types: &[Type]| match types {
            [one] => one.byte_order(),
            _ => 0,
        };
        let entry = |kind: u8, value: &[u8]| [&[kind, value.len() as u8][..], value].concat();
        let mut data = entry(0, &order(self.key).to_ne_bytes());
        if let Holds::Values(types) = self.holds {
            data.extend(entry(1, &order(types).to_ne_bytes()));
        }
        if let Some(comment) = self.comment {
            data.extend(entry(7, &[comment.as_bytes(), &[0]].concat()));
        }
        data
    }

    /// The kernel's elements for an entry: of an interval without concatenation a begin and an end.
    fn elements(&self, entry: &Entry) -> Vec<ListAttribute<SetElementAttribute>> {
        let mut attributes = entry.attributes();
        if !self.intervals {
            return vec![ListAttribute::Element(attributes)];
        }
        let last = entry.last.as_ref().unwrap_or(&entry.key);
        if self.is_concatenated() {
            // NFTA_DATA_VALUE.
            attributes.insert(1, SetElementAttribute::KeyEnd(vec![DefaultNla::new(1, last.clone())]));
            return vec![ListAttribute::Element(attributes)];
        }
        // What reaches to the last key of all has no end.
        let end = after(last).map(|key| {
            let key = SetElementAttribute::Key(DataAttribute::Value(key));
            ListAttribute::Element(vec![key, SetElementAttribute::Flags(SetElementFlags::IntervalEnd)])
        });
        std::iter::once(ListAttribute::Element(attributes)).chain(end).collect()
    }

    fn message(&self, table: &Table, elements: Vec<ListAttribute<SetElementAttribute>>) -> SetElementMessage {
        let mut attributes =
            vec![SetElementList::Table(table.name.to_owned()), SetElementList::Set(self.name.to_owned())];
        if !elements.is_empty() {
            attributes.push(SetElementList::Elements(elements));
        }
        SetElementMessage { attributes }
    }
}

impl Transaction {
    /// A set or a map that may be there already, if it is of the same types (EEXIST if not).
    pub fn declare(&mut self, set: &Set) {
        let attributes = set.attributes(&self.table, self.changes.len() as u32 + 1);
        self.push(NfTablesMessage::NewSet(SetMessage { attributes }), NLM_F_CREATE);
    }

    /// Elements that are new (EEXIST if not).
    pub fn insert(&mut self, set: &Set, entries: &[Entry]) {
        // A message's attribute lengths have 16 bits.
        for some in entries.chunks(100) {
            let elements = some.iter().flat_map(|entry| set.elements(entry)).collect();
            let message = set.message(&self.table, elements);
            self.push(NfTablesMessage::NewSetElement(message), NLM_F_CREATE | NLM_F_EXCL);
        }
    }

    /// Elements to go (ENOENT if they are not there), by their keys.
    pub fn take_out(&mut self, set: &Set, entries: &[Entry]) {
        for some in entries.chunks(100) {
            let key = |entry: &Entry| Entry { value: None, comment: None, ..entry.clone() };
            let elements = some.iter().flat_map(|entry| set.elements(&key(entry))).collect();
            let message = set.message(&self.table, elements);
            self.push(NfTablesMessage::DeleteSetElement(message), 0);
        }
    }
}

impl Table {
    /// The elements of a set or a map; none if there is none of that name.
    pub fn entries(&self, kernel: &Kernel, set: &Set) -> Result<Vec<Entry>> {
        let request = self.message(NfTablesMessage::GetSetElement(set.message(self, Vec::new())));
        let doing = || format!("listing nftables set {}/{}", self.name, set.name);
        let mut elements = none_if_missing(dump::elements(kernel, request, &doing))?;
        if set.intervals && !set.is_concatenated() {
            // An interval's end is the key after its last; where another begins at once, the end comes first.
            elements.sort_by(|one, other| one.key.cmp(&other.key).then(other.is_end.cmp(&one.is_end)));
        }
        let mut entries: Vec<Entry> = Vec::new();
        for mut element in elements {
            match (element.is_end, entries.last_mut()) {
                (true, Some(entry)) => entry.last = Some(before(&element.key)),
                (true, None) => {}
                (false, _) => {
                    let open_end = (set.intervals && !set.is_concatenated()).then(|| vec![0xff; element.key.len()]);
                    let value = Value::of(&mut element);
                    let last = element.last.or(open_end);
                    entries.push(Entry { key: element.key, last, value, comment: element.comment });
                }
            }
        }
        Ok(entries)
    }
}
