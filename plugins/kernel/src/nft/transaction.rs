//! Changes that happen together: all of a transaction, or none.

use netlink_packet_core::{NLM_F_ACK, NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, Hook, HookNumber, InetHookNumber, ListAttribute, NfTablesMessage,
    RuleAttribute, RuleMessage, SetAttribute, SetElementAttribute, SetElementFlags, SetElementList, SetFlags,
    SetMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::none::ControlMessage;
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};
use nix::errno::Errno;

use super::{Element, Expression, Interval, Table, after, write_comment};
use crate::error::{Error, Result};
use crate::kernel::Kernel;
use crate::plan::Made;

/// NFNL_SUBSYS_NFTABLES: which subsystem a batch is for.
const SUBSYSTEM: u16 = 10;

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

/// Changes that happen together.
#[derive(Debug)]
pub struct Transaction {
    table: Table,
    changes: Vec<(NetfilterMessage, u16)>,
}

impl Transaction {
    pub(super) fn new(table: Table) -> Self {
        Transaction { table, changes: Vec::new() }
    }

    fn table_name(&self) -> String {
        self.table.name.to_owned()
    }

    /// The table itself.
    pub fn table(&mut self) {
        let attributes = vec![TableAttribute::Name(self.table_name())];
        self.push(NfTablesMessage::NewTable(TableMessage { attributes }), NLM_F_CREATE);
    }

    /// A chain that is new (EEXIST if not): a base chain, or one to jump to.
    pub fn chain(&mut self, name: &str, base: Option<BaseChain>) {
        let mut attributes = vec![ChainAttribute::Table(self.table_name()), ChainAttribute::Name(name.to_owned())];
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
        let attributes = vec![ChainAttribute::Table(self.table_name()), ChainAttribute::Name(name.to_owned())];
        self.push(NfTablesMessage::NewChain(ChainMessage { attributes }), NLM_F_CREATE);
        let attributes = vec![RuleAttribute::Table(self.table_name()), RuleAttribute::Chain(name.to_owned())];
        self.push(NfTablesMessage::DeleteRule(RuleMessage { attributes }), 0);
    }

    /// A rule at the end of a chain.
    pub fn rule(&mut self, chain: &str, expressions: Vec<Expression>) {
        self.rule_with_comment(chain, expressions, None);
    }

    /// A rule at the end of a chain, with words that `nft list` shows: 127 bytes at most.
    pub fn rule_with_comment(&mut self, chain: &str, expressions: Vec<Expression>, comment: Option<&str>) {
        let mut attributes = vec![
            RuleAttribute::Table(self.table_name()),
            RuleAttribute::Chain(chain.to_owned()),
            RuleAttribute::Expressions(expressions),
        ];
        attributes.extend(comment.map(|comment| RuleAttribute::UserData(write_comment(comment))));
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
        self.push(NfTablesMessage::DeleteSetElement(self.table.in_set(name, &[])), 0);
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
            let mut message = self.table.in_set(name, &[]);
            message.attributes.push(SetElementList::Elements(some.to_vec()));
            self.push(NfTablesMessage::NewSetElement(message), NLM_F_CREATE | NLM_F_EXCL);
        }
    }

    fn new_set(&mut self, name: &str, key_type: u32, key_bytes: u32, more: Vec<SetAttribute>) {
        let mut attributes = vec![
            SetAttribute::Table(self.table_name()),
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
            self.push(NfTablesMessage::NewSetElement(self.table.in_set(set, some)), NLM_F_CREATE | NLM_F_EXCL);
        }
    }

    /// Elements to go (ENOENT if they are not there).
    pub fn remove_elements(&mut self, set: &str, elements: &[Element]) {
        let keys: Vec<_> = elements.iter().map(|element| Element::key(element.key.clone())).collect();
        for some in keys.chunks(200) {
            self.push(NfTablesMessage::DeleteSetElement(self.table.in_set(set, some)), 0);
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
        kernel.netfilter()?.transact(&messages, doing).map_err(|error| match error {
            Error::Refused { errno: Errno::EOPNOTSUPP | Errno::EINVAL, doing, said } if said.is_empty() => {
                Error::Lacks(format!(
                    "{doing}: this kernel refuses it; it needs CONFIG_NF_TABLES (with its inet and bridge families), \
                     CONFIG_NFT_NAT and CONFIG_NFT_MASQ"
                ))
            }
            other => other,
        })
    }

    /// Removes what `message` names.
    pub(super) fn delete(&mut self, message: NfTablesMessage) {
        self.push(message, 0);
    }

    fn push(&mut self, message: NfTablesMessage, flags: u16) {
        let message = NetfilterMessage::new(NetfilterHeader::new(self.table.family, 0, 0), message);
        self.changes.push((message, NLM_F_ACK | flags));
    }
}

/// BATCH_BEGIN and BATCH_END, not answered.
fn frame(message: ControlMessage) -> (NetfilterMessage, u16) {
    (NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, SUBSYSTEM), message), 0)
}

/// Adds elements with `add`. If their table is missing, `restore` makes it; if one of the keys is taken, `take_over` frees
/// it; then `add` is tried again, for other processes may do the same at the same moment.
pub fn insist(
    what: &str,
    add: &dyn Fn() -> Result<()>,
    restore: &dyn Fn() -> Result<()>,
    take_over: &dyn Fn() -> Result<()>,
) -> Result<Made> {
    for _ in 0..8 {
        match add() {
            Ok(()) => return Ok(Made::New),
            Err(error) if error.is(Errno::ENOENT) => restore()?,
            Err(error) if error.is(Errno::EEXIST) => take_over()?,
            Err(error) => return Err(error),
        }
    }
    Err(Error::NoAnswer { doing: format!("adding {what}"), why: "another program keeps removing its table".into() })
}

/// An object that another process made at the same moment is as good as made here.
pub fn accept_faster(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.is(Errno::EEXIST) => Ok(()),
        other => other,
    }
}
