//! Chains and rules of a table that another program made: finding and removing single ones.

use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute,
    NfTablesMessage, RuleAttribute, RuleMessage, VerdictAttribute,
};
use netlink_packet_netfilter::{NetfilterMessage, NetfilterMessageInner};
use nix::errno::Errno;

use super::{Table, none_if_missing};
use crate::error::Result;
use crate::kernel::Kernel;

/// The chains of a table that another program made.
#[derive(Clone, Copy, Debug)]
pub struct Chains(pub Table);

/// As much of a rule as it takes to recognize it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The kernel's number for it.
    pub handle: u64,
    /// The chain that it jumps to.
    pub target: Option<String>,
    /// Its comment, without a final zero; empty if it has none.
    pub comment: String,
}

impl Chains {
    /// Is there a chain of that name?
    pub fn has(&self, kernel: &Kernel, chain: &str) -> Result<bool> {
        let message = self.0.message(NfTablesMessage::GetChain(self.chain(chain)));
        let doing = || format!("looking for nftables chain {}/{chain}", self.0.name);
        Ok(kernel.netfilter()?.get::<NetfilterMessage>(message, &doing)?.is_some())
    }

    /// The rules of a chain; none if there is no such chain.
    pub fn rules(&self, kernel: &Kernel, chain: &str) -> Result<Vec<Rule>> {
        let message = self.0.message(NfTablesMessage::GetRule(self.rule(chain, None)));
        let doing = || format!("listing nftables chain {}/{chain}", self.0.name);
        let answers: Vec<NetfilterMessage> = none_if_missing(kernel.netfilter()?.dump(message, &doing))?;
        Ok(answers.iter().filter_map(read_rule).collect())
    }

    /// Removes rules of a chain, and then the chain `then` with all that is in it. It is no error if they are gone.
    pub fn remove(&self, kernel: &Kernel, chain: &str, rules: &[Rule], then: Option<&str>) -> Result<()> {
        let mut transaction = self.0.transaction();
        for rule in rules {
            transaction.delete(NfTablesMessage::DeleteRule(self.rule(chain, Some(rule.handle))));
        }
        if let Some(chain) = then {
            transaction.delete(NfTablesMessage::DeleteRule(self.rule(chain, None)));
            transaction.delete(NfTablesMessage::DeleteChain(self.chain(chain)));
        }
        match transaction.commit(kernel, &|| format!("removing rules of nftables table {}", self.0.name)) {
            Err(error) if error.is(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }

    fn chain(&self, chain: &str) -> ChainMessage {
        let attributes = vec![ChainAttribute::Table(self.0.name.to_owned()), ChainAttribute::Name(chain.to_owned())];
        ChainMessage { attributes }
    }

    /// One rule of a chain, or without a handle all of them.
    fn rule(&self, chain: &str, handle: Option<u64>) -> RuleMessage {
        let mut attributes = vec![RuleAttribute::Table(self.0.name.to_owned()), RuleAttribute::Chain(chain.to_owned())];
        attributes.extend(handle.map(RuleAttribute::Handle));
        RuleMessage { attributes }
    }
}

/// Reads a rule; `None` if the message is none.
pub fn read_rule(answer: &NetfilterMessage) -> Option<Rule> {
    let NetfilterMessageInner::NfTables(NfTablesMessage::NewRule(message)) = &answer.inner else { return None };
    let mut rule = Rule { handle: 0, target: None, comment: String::new() };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Handle(handle) => rule.handle = *handle,
            RuleAttribute::Expressions(expressions) => rule.target = expressions.iter().find_map(target),
            RuleAttribute::UserData(bytes) => rule.comment = comment(bytes).unwrap_or_default(),
            _ => {}
        }
    }
    (rule.handle != 0).then_some(rule)
}

/// The chain that an expression jumps to.
fn target(expression: &ListAttribute<ExpressionAttribute>) -> Option<String> {
    let ListAttribute::Element(attributes) = expression else { return None };
    let immediate = attributes.iter().find_map(|attribute| match attribute {
        ExpressionAttribute::Data(Expressions::Immediate(immediate)) => Some(immediate),
        _ => None,
    })?;
    let verdict = immediate.iter().find_map(|attribute| match attribute {
        Immediate::Data(DataAttribute::Verdict(verdict)) => Some(verdict),
        _ => None,
    })?;
    verdict.iter().find_map(|attribute| match attribute {
        VerdictAttribute::Chain(chain) => Some(chain.clone()),
        _ => None,
    })
}

/// A comment (type 0, a length, text), with or without a final zero: not every program writes one.
fn comment(user_data: &[u8]) -> Option<String> {
    let [0, length, text @ ..] = user_data else { return None };
    let text = text.get(..usize::from(*length))?;
    Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_read_and_garbage_is_none() {
        assert_eq!(comment(&[0, 3, b'h', b'i', 0]).as_deref(), Some("hi"));
        for garbage in [&[][..], &[0], &[0, 9, b'x'], &[1, 1, b'x']] {
            assert_eq!(comment(garbage), None);
        }
    }
}
