//! nftables' tables, chains, rules, sets and their elements, as netlink messages.
//!
//! A [`Table`] is read here; `transaction.rs` changes it. Rules are made of the few words in `expression.rs`, or of the larger
//! vocabulary: facts about a packet (`field.rs`), [`condition`]s and [`statement`]s. Sets and maps of any type are in `set.rs`,
//! base chains of all tables in `base.rs`, counters in `object.rs`. `foreign.rs` reads and removes rules of other programs' tables.
//!
//! Changes go in transactions: all of one happens, or none. (Kernel: net/netfilter/nf_tables_api.c, include/uapi/linux/netfilter/nf_tables.h.)

pub(crate) mod base;
pub mod condition;
pub(crate) mod dump;
mod expression;
mod family;
mod field;
mod foreign;
pub(crate) mod object;
mod set;
pub mod statement;
mod transaction;

use netlink_packet_netfilter::nftables::{
    DataAttribute, ListAttribute, NfTablesMessage, RuleAttribute, RuleMessage, SetElementAttribute, SetElementList,
    SetElementMessage, Verdict, VerdictAttribute,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use nix::errno::Errno;

pub use self::base::{Hooked, Policy, base_chains};
use self::dump::Dumped;
use self::expression::verdict;
pub use self::expression::{
    ACCEPT, DROP, Expression, end, equals, in_the_set, is_source_routed_back, masked, meta, payload, simple,
    verdict_map,
};
pub use self::family::{Family, bytes};
pub use self::field::{Field, State, load, register};
pub use self::foreign::{Chains, Rule, read_rule};
pub use self::object::Count;
pub use self::set::{Entry, Holds, Set, Type, Value, concatenated};
pub use self::transaction::{BaseChain, Transaction, accept_faster, insist};
use crate::error::Result;
use crate::kernel::Kernel;

/// A table of one family.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// Its family.
    pub family: NetfilterProtoFamily,
    /// Its name.
    pub name: &'static str,
}

/// An element of a set or a map.
#[derive(Clone, Debug)]
pub struct Element {
    /// Its key, in network byte order.
    pub key: Vec<u8>,
    /// Of a verdict map: the chain to go to.
    pub goto: Option<String>,
    /// Text that stays with it: `nft list` shows it as its comment.
    pub comment: Option<String>,
}

impl Table {
    /// An empty transaction on this table.
    pub fn transaction(&self) -> Transaction {
        Transaction::new(*self)
    }

    /// The elements of a set; none if there is no such set.
    pub fn elements(&self, kernel: &Kernel, set: &str) -> Result<Vec<Element>> {
        let message = self.message(NfTablesMessage::GetSetElement(self.in_set(set, &[])));
        let all = self.listed(kernel, message, set);
        let read = |element: Dumped| Element { key: element.key, goto: element.goto, comment: element.comment };
        Ok(none_if_missing(all)?.into_iter().map(read).collect())
    }

    /// The element with that key, if it is there.
    pub fn element(&self, kernel: &Kernel, set: &str, key: &[u8]) -> Result<Option<Element>> {
        let wanted = Element::key(key.to_vec());
        let message = self.message(NfTablesMessage::GetSetElement(self.in_set(set, &[wanted])));
        let answer = kernel.netfilter()?.get(message, &|| format!("looking into nftables set {}/{set}", self.name))?;
        Ok(answer.iter().flat_map(read_elements).next())
    }

    /// The intervals of an interval set: first and last key of each. None if there is no such set, or nothing in it.
    pub fn intervals(&self, kernel: &Kernel, set: &str) -> Result<Vec<Interval>> {
        let message = self.message(NfTablesMessage::GetSetElement(self.in_set(set, &[])));
        let edges = self.listed(kernel, message, set);
        let mut edges = none_if_missing(edges)?;
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
        self.comments(kernel, chain).map(|comments| comments.len())
    }

    /// The comment of each rule of a chain, if it has one.
    pub fn comments(&self, kernel: &Kernel, chain: &str) -> Result<Vec<Option<String>>> {
        let attributes = vec![RuleAttribute::Table(self.name.to_owned()), RuleAttribute::Chain(chain.to_owned())];
        let message = self.message(NfTablesMessage::GetRule(RuleMessage { attributes }));
        let answers = kernel.netfilter()?.dump(message, &|| format!("listing nftables chain {}/{chain}", self.name));
        Ok(none_if_missing(answers)?.iter().map(comment_of).collect())
    }

    /// Removes from these sets every element whose comment `is_gone` says yes to.
    pub fn sweep(&self, kernel: &Kernel, sets: &[&'static str], is_gone: &dyn Fn(&str) -> bool) -> Result<()> {
        let mut gone = Vec::new();
        for set in sets {
            let elements = self.elements(kernel, set)?.into_iter();
            let is_gone = |element: &Element| element.comment.as_deref().is_some_and(is_gone);
            gone.extend(elements.filter(is_gone).map(|element| (*set, element)));
        }
        self.remove_elements(kernel, &gone)
    }

    /// Removes the elements with these keys that have that comment.
    pub fn remove_commented(&self, kernel: &Kernel, comment: &str, keys: &[(&'static str, Vec<u8>)]) -> Result<()> {
        let mut found = Vec::new();
        for (set, key) in keys {
            let element = self.element(kernel, set, key)?.filter(|it| it.comment.as_deref() == Some(comment));
            found.extend(element.map(|element| (*set, element)));
        }
        self.remove_elements(kernel, &found)
    }

    /// Removes elements, which need not be there: in one transaction, since the kernel waits for a grace period after each
    /// (nft_trans_destroy, which the next transaction or the socket's end waits for).
    pub fn remove_elements(&self, kernel: &Kernel, elements: &[(&'static str, Element)]) -> Result<()> {
        match self.remove_at_once(kernel, elements) {
            // Another removed one of them just then, and so the transaction was refused: one by one.
            Err(error) if error.is(Errno::ENOENT) && elements.len() > 1 => {
                elements.iter().try_for_each(|one| self.remove_elements(kernel, std::slice::from_ref(one)))
            }
            Err(error) if error.is(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }

    fn remove_at_once(&self, kernel: &Kernel, elements: &[(&'static str, Element)]) -> Result<()> {
        let mut transaction = self.transaction();
        for of_one_set in elements.chunk_by(|(one, _), (other, _)| one == other) {
            let keys: Vec<_> = of_one_set.iter().map(|(_, element)| element.clone()).collect();
            transaction.remove_elements(of_one_set[0].0, &keys);
        }
        transaction.commit(kernel, &|| {
            let sets: Vec<_> = elements.iter().map(|(set, _)| *set).collect();
            format!("removing {} elements of nftables table {} ({})", elements.len(), self.name, sets.join(" "))
        })
    }

    fn message(&self, message: NfTablesMessage) -> NetfilterMessage {
        NetfilterMessage::new(NetfilterHeader::new(self.family, 0, 0), message)
    }

    fn listed(&self, kernel: &Kernel, message: NetfilterMessage, set: &str) -> Result<Vec<Dumped>> {
        dump::elements(kernel, message, &|| format!("listing nftables set {}/{set}", self.name))
    }

    fn in_set(&self, set: &str, elements: &[Element]) -> SetElementMessage {
        let mut attributes = vec![SetElementList::Table(self.name.to_owned()), SetElementList::Set(set.to_owned())];
        if !elements.is_empty() {
            let elements = elements.iter().map(|element| ListAttribute::Element(element.attributes())).collect();
            attributes.push(SetElementList::Elements(elements));
        }
        SetElementMessage { attributes }
    }
}

impl Element {
    /// An element with nothing but its key.
    pub fn key(key: Vec<u8>) -> Self {
        Element { key, goto: None, comment: None }
    }

    fn attributes(&self) -> Vec<SetElementAttribute> {
        let mut attributes = vec![SetElementAttribute::Key(DataAttribute::Value(self.key.clone()))];
        if let Some(chain) = &self.goto {
            attributes.push(SetElementAttribute::Data(verdict(Verdict::Goto, Some(chain.as_str()))));
        }
        if let Some(comment) = &self.comment {
            attributes.push(SetElementAttribute::UserData(write_comment(comment)));
        }
        attributes
    }
}

pub(crate) fn comment_of(rule: &NetfilterMessage) -> Option<String> {
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewRule(rule)) = &rule.inner else { return None };
    rule.attributes.iter().find_map(|attribute| match attribute {
        RuleAttribute::UserData(bytes) => read_comment(bytes).map(str::to_owned),
        _ => None,
    })
}

/// A comment as nft writes it (type 0, a length, text with a final zero), so that `nft list` shows it.
fn write_comment(text: &str) -> Vec<u8> {
    let mut bytes = vec![0, text.len() as u8 + 1];
    bytes.extend(text.as_bytes());
    bytes.push(0);
    bytes
}

fn read_comment(user_data: &[u8]) -> Option<&str> {
    let [0, length, text @ ..] = user_data else { return None };
    std::str::from_utf8(text.get(..usize::from(*length).checked_sub(1)?)?).ok()
}

pub(crate) fn read_elements(answer: &NetfilterMessage) -> Vec<Element> {
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
    let mut element = Element::key(Vec::new());
    for attribute in attributes {
        match attribute {
            SetElementAttribute::Key(DataAttribute::Value(key)) => element.key = key.clone(),
            SetElementAttribute::Data(DataAttribute::Verdict(verdict)) => {
                element.goto = verdict.iter().find_map(|attribute| match attribute {
                    VerdictAttribute::Chain(chain) => Some(chain.clone()),
                    _ => None,
                });
            }
            SetElementAttribute::UserData(bytes) => element.comment = read_comment(bytes).map(str::to_owned),
            _ => {}
        }
    }
    (!element.key.is_empty()).then_some(element)
}

/// An interface's name as a key: sixteen bytes, as the kernel keeps it.
pub fn name_key(name: &str) -> Vec<u8> {
    let mut key = name.as_bytes().to_vec();
    key.resize(16, 0);
    key
}

fn none_if_missing<T>(answers: Result<Vec<T>>) -> Result<Vec<T>> {
    match answers {
        Err(error) if error.is(Errno::ENOENT) => Ok(Vec::new()),
        other => other,
    }
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
