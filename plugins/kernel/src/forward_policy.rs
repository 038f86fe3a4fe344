//! Does the node's own firewall drop what it forwards?
//!
//! Docker sets the policy of iptables' FORWARD chain to DROP, firewalld ends its chain with a reject, and many administrators do
//! either. A rule in another table can't override that, since a packet has to pass every chain at that hook: so it is only
//! detected here. Rules before the end may accept what Pods send; that is not looked at.
//!
//! Legacy iptables keeps its chains where netlink does not lead: of those there is only a list of tables
//! ([`legacy_filter`]). (include/uapi/linux/netfilter/nf_tables.h: NFTA_RULE_…, NFTA_EXPR_….)

use netlink_packet_core::DecodeError;
use netlink_packet_netfilter::nftables::{InetHookNumber, NfTablesMessage, RuleAttribute, RuleMessage};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use crate::attribute::{each, text, within};
use crate::error::Result;
use crate::kernel::Kernel;
use crate::nft::{Hooked, Policy, base_chains};
use crate::sysctl;

/// A chain at the forward hook that drops what none of its rules accepted.
#[derive(Clone, Debug)]
pub struct Dropping {
    /// The chain.
    pub chain: Hooked,
    /// By a rule without a condition, the last that counts, and not by its policy?
    pub by_rule: bool,
}

/// The chains that drop what they forward, but for those of tables called `ours`.
pub fn dropping(kernel: &Kernel, ours: &str) -> Result<Vec<Dropping>> {
    let mut found = Vec::new();
    for chain in base_chains(kernel)? {
        if !forwards(&chain) || chain.table == ours {
            continue;
        }
        let by_rule = chain.policy == Policy::Accept;
        if !by_rule || ends_in_drop(kernel, &chain)? {
            found.push(Dropping { chain, by_rule });
        }
    }
    Ok(found)
}

/// The hook has the same number in all of these families.
fn forwards(chain: &Hooked) -> bool {
    use NetfilterProtoFamily::{Bridge, IPv4, IPv6, Inet};
    chain.hook == InetHookNumber::Forward && matches!(chain.family, IPv4 | IPv6 | Inet | Bridge)
}

/// Does legacy iptables have a filter table in this namespace? Whether that drops anything can't be read.
pub fn legacy_filter() -> Vec<&'static str> {
    let lists = [("iptables-legacy", "ip_tables_names"), ("ip6tables-legacy", "ip6_tables_names")];
    let has_filter = |list: &str| {
        let names = std::fs::read_to_string(format!("/proc/thread-self/net/{list}"));
        names.is_ok_and(|names| names.lines().any(|name| name == "filter"))
    };
    lists.into_iter().filter(|(_, list)| has_filter(list)).map(|(program, _)| program).collect()
}

impl Dropping {
    /// Does it see packets between the ports of a bridge? Chains for packets do only with br_netfilter.
    pub fn sees_bridges(&self) -> bool {
        let is_called = |key| sysctl::read(&format!("net/bridge/bridge-nf-call-{key}")).is_ok_and(|value| value == "1");
        match self.chain.family {
            NetfilterProtoFamily::Bridge => true,
            NetfilterProtoFamily::IPv4 => is_called("iptables"),
            NetfilterProtoFamily::IPv6 => is_called("ip6tables"),
            _ => is_called("iptables") || is_called("ip6tables"),
        }
    }

    /// Does it see what the node routes?
    pub fn sees_routes(&self) -> bool {
        self.chain.family != NetfilterProtoFamily::Bridge
    }

    /// The family, as nft calls it.
    pub fn family(&self) -> &'static str {
        match self.chain.family {
            NetfilterProtoFamily::Bridge => "bridge",
            NetfilterProtoFamily::IPv4 => "ip",
            NetfilterProtoFamily::IPv6 => "ip6",
            _ => "inet",
        }
    }
}

fn ends_in_drop(kernel: &Kernel, chain: &Hooked) -> Result<bool> {
    let attributes = vec![RuleAttribute::Table(chain.table.clone()), RuleAttribute::Chain(chain.name.clone())];
    let request = NfTablesMessage::GetRule(RuleMessage { attributes });
    let request = NetfilterMessage::new(NetfilterHeader::new(chain.family, 0, 0), request);
    let read = |_kind, message: &[u8], rules: &mut Vec<bool>| -> std::result::Result<(), DecodeError> {
        rules.push(drops_everything(message));
        Ok(())
    };
    let doing = || format!("listing nftables chain {}/{}", chain.table, chain.name);
    Ok(kernel.netfilter()?.dump_as(request, &read, &doing)?.contains(&true))
}

/// Does a rule drop or reject whatever meets it? In front of the attributes are the family, the version and the resource.
pub(crate) fn drops_everything(message: &[u8]) -> bool {
    const NFTA_RULE_EXPRESSIONS: u16 = 4;
    const NFTA_EXPR_NAME: u16 = 1;
    const NFTA_EXPR_DATA: u16 = 2;
    let Some(expressions) = message.get(4..).and_then(|rule| within(rule, NFTA_RULE_EXPRESSIONS)) else { return false };
    let mut drops = false;
    for (_, expression) in each(expressions) {
        let data = within(expression, NFTA_EXPR_DATA).unwrap_or_default();
        match within(expression, NFTA_EXPR_NAME).map(text).as_deref() {
            Some("counter" | "log") => {}
            Some("reject") => drops = true,
            Some("immediate") if is_drop(data) => drops = true,
            // iptables speaks of its own targets by name.
            Some("target") if is_reject(data) => drops = true,
            _ => return false,
        }
    }
    drops
}

fn is_drop(immediate: &[u8]) -> bool {
    const NFTA_IMMEDIATE_DATA: u16 = 2;
    const NFTA_DATA_VERDICT: u16 = 2;
    const NFTA_VERDICT_CODE: u16 = 1;
    const NF_DROP: [u8; 4] = [0; 4];
    let verdict = within(immediate, NFTA_IMMEDIATE_DATA).and_then(|data| within(data, NFTA_DATA_VERDICT));
    verdict.and_then(|verdict| within(verdict, NFTA_VERDICT_CODE)).is_some_and(|code| code == NF_DROP)
}

fn is_reject(target: &[u8]) -> bool {
    const NFTA_TARGET_NAME: u16 = 1;
    within(target, NFTA_TARGET_NAME).map(text).is_some_and(|name| name == "REJECT")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = (value.len() + 4) as u16;
        let mut bytes = [&length.to_ne_bytes(), &kind.to_ne_bytes(), value].concat();
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn only_a_rule_without_a_condition_drops_everything() {
        let expression =
            |name: &str, data: &[u8]| attribute(1, &[attribute(1, name.as_bytes()), attribute(2, data)].concat());
        let verdict = |code: u32| {
            let verdict = attribute(2, &attribute(1, &code.to_be_bytes()));
            expression("immediate", &attribute(2, &verdict))
        };
        let rule = |expressions: &[Vec<u8>]| [vec![0; 4], attribute(4, &expressions.concat())].concat();
        let (counter, reject) = (expression("counter", &[]), expression("reject", &[]));
        let target = expression("target", &attribute(1, b"REJECT\0"));
        for drops in [vec![verdict(0)], vec![counter.clone(), verdict(0)], vec![reject], vec![counter.clone(), target]]
        {
            let rule = rule(&drops);
            assert!(drops_everything(&rule), "{rule:?}");
            for end in 0..rule.len() {
                let _ = drops_everything(&rule[..end]);
            }
        }
        for passes in [vec![], vec![counter], vec![verdict(1)], vec![expression("meta", &[]), verdict(0)]] {
            assert!(!drops_everything(&rule(&passes)), "{passes:?}");
        }
    }
}
