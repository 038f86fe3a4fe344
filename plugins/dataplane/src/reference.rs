//! Masquerade that the reference plugins (containernetworking/plugins) made for an attachment, to be removed with it.
//!
//! A node is moved to these plugins with Pods running; what their ADD made is DELeted by ours. The reference keeps
//! masquerade in one of two places, and both are found by the attachment's names alone:
//!
//! ```text
//! table ip nat (and ip6 nat), made through iptables-nft:
//!   chain POSTROUTING { … ip saddr 10.22.0.5 jump CNI-0123456789abcdef01234567 }   one rule an address
//!   chain CNI-0123456789abcdef01234567 { … }      24 hexadecimal digits of SHA-512 of network and container ID
//! table inet cni_plugins_masquerade:
//!   chain masq_checks { … masquerade comment "HASH-HASH, net: …, if: …, id: …" }   HASH: 16 digits each
//! ```
//!
//! Only rules and chains of that one attachment go. Rules that legacy iptables keeps are out of nftables' reach.

use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, DataAttribute, ExpressionAttribute, Expressions, Immediate, ListAttribute,
    NfTablesMessage, RuleAttribute, RuleMessage, VerdictAttribute,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};
use nix::errno::Errno;
use sha2::{Digest, Sha512};

use crate::error::Result;
use crate::kernel::Kernel;
use crate::nft::Table;

/// Removes what the reference plugins hold in nftables for that attachment: usually nothing.
pub fn remove_masquerade(kernel: &Kernel, network: &str, container_id: &str, ifname: &str) -> Result<()> {
    let chain = format!("CNI-{}", digits(&format!("{network}{container_id}"), 24));
    for family in [NetfilterProtoFamily::IPv4, NetfilterProtoFamily::IPv6] {
        remove_chain(kernel, &In { family, table: "nat" }, &chain)?;
    }
    let comment = format!("{}-{}", digits(network, 16), digits(&format!("{ifname}:{container_id}"), 16));
    let masquerade = In { family: NetfilterProtoFamily::Inet, table: "cni_plugins_masquerade" };
    let rules = masquerade.rules(kernel, "masq_checks")?;
    let of_this = rules.into_iter().filter(|rule| rule.comment.starts_with(&comment)).collect();
    masquerade.remove(kernel, "masq_checks", of_this, None)
}

/// The first hexadecimal digits of SHA-512.
fn digits(text: &str, count: usize) -> String {
    let hash = Sha512::digest(text);
    hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>()[..count].to_owned()
}

/// A chain of that name, and the jumps to it.
fn remove_chain(kernel: &Kernel, place: &In, chain: &str) -> Result<()> {
    if !place.has_chain(kernel, chain)? {
        return Ok(());
    }
    let rules = place.rules(kernel, "POSTROUTING")?;
    let jumps = rules.into_iter().filter(|rule| rule.target.as_deref() == Some(chain)).collect();
    place.remove(kernel, "POSTROUTING", jumps, Some(chain))
}

/// Somebody else's table.
struct In {
    family: NetfilterProtoFamily,
    table: &'static str,
}

/// What is asked of a rule here.
pub(crate) struct Rule {
    handle: u64,
    target: Option<String>,
    comment: String,
}

impl In {
    fn message(&self, message: NfTablesMessage) -> NetfilterMessage {
        NetfilterMessage::new(NetfilterHeader::new(self.family, 0, 0), message)
    }

    fn has_chain(&self, kernel: &Kernel, chain: &str) -> Result<bool> {
        let message = self.message(NfTablesMessage::GetChain(self.chain(chain)));
        let doing = || format!("looking for nftables chain {}/{chain}", self.table);
        Ok(kernel.netfilter()?.get(message, &doing)?.is_some())
    }

    /// The rules of a chain; none if there is no such chain.
    fn rules(&self, kernel: &Kernel, chain: &str) -> Result<Vec<Rule>> {
        let attributes = vec![RuleAttribute::Table(self.table.to_owned()), RuleAttribute::Chain(chain.to_owned())];
        let message = self.message(NfTablesMessage::GetRule(RuleMessage { attributes }));
        let answers = kernel.netfilter()?.dump(message, &|| format!("listing nftables chain {}/{chain}", self.table));
        match answers {
            Err(error) if error.is(Errno::ENOENT) => Ok(Vec::new()),
            answers => Ok(answers?.iter().filter_map(read_rule).collect()),
        }
    }

    /// Removes rules of a chain, and then another chain with all that it holds; what went meanwhile is gone too.
    fn remove(&self, kernel: &Kernel, chain: &str, rules: Vec<Rule>, then: Option<&str>) -> Result<()> {
        let mut transaction = Table(self.family).transaction();
        for rule in rules {
            transaction.delete(NfTablesMessage::DeleteRule(self.rule(chain, Some(rule.handle))));
        }
        if let Some(chain) = then {
            transaction.delete(NfTablesMessage::DeleteRule(self.rule(chain, None)));
            transaction.delete(NfTablesMessage::DeleteChain(self.chain(chain)));
        }
        match transaction.commit(kernel, &|| format!("removing the reference plugins' masquerade in {}", self.table)) {
            Err(error) if error.is(Errno::ENOENT) => Ok(()),
            other => other,
        }
    }

    fn chain(&self, chain: &str) -> ChainMessage {
        let attributes = vec![ChainAttribute::Table(self.table.to_owned()), ChainAttribute::Name(chain.to_owned())];
        ChainMessage { attributes }
    }

    /// One rule of a chain, or without a handle all of them.
    fn rule(&self, chain: &str, handle: Option<u64>) -> RuleMessage {
        let mut attributes = vec![RuleAttribute::Table(self.table.to_owned()), RuleAttribute::Chain(chain.to_owned())];
        attributes.extend(handle.map(RuleAttribute::Handle));
        RuleMessage { attributes }
    }
}

pub(crate) fn read_rule(answer: &NetfilterMessage) -> Option<Rule> {
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

/// nft's comment: type 0, a length, text with a final zero.
fn comment(user_data: &[u8]) -> Option<String> {
    let [0, length, text @ ..] = user_data else { return None };
    let text = text.get(..usize::from(*length))?;
    Some(String::from_utf8_lossy(text).trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_reference_gives() {
        // printf netcontainer | sha512sum
        assert_eq!(digits("netcontainer", 24), "fe5df6e93339b8d95c9e39e0");
    }

    #[test]
    fn comments_are_read_and_garbage_is_none() {
        assert_eq!(comment(&[0, 3, b'h', b'i', 0]).as_deref(), Some("hi"));
        for garbage in [&[][..], &[0], &[0, 9, b'x'], &[1, 1, b'x']] {
            assert_eq!(comment(garbage), None);
        }
    }
}
