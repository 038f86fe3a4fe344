//! Inside and outside of a network of many nodes, for masquerade: one interval set for each family.
//!
//! ```text
//! table inet podwire {
//!   set in4-0123456789abcdef { type ipv4_addr; flags interval; elements = { 10.244.0.0/16, 10.240.0.4-10.240.0.5 } }
//!   set in6-0123456789abcdef { type ipv6_addr; flags interval; … }
//!   chain net-0123456789abcdef { ip daddr @in4-… return; … multicast return; masquerade }
//! }
//! ```
//!
//! The masquerade of every Pod of the network leads to that one chain, so living Pods follow a map that is replaced, and a
//! packet meets as few rules with a thousand nodes as with three. The sets are rewritten in one transaction: no
//! packet ever meets a half-written one.

use ipnetwork::IpNetwork;
use netlink_packet_netfilter::nftables::Verdict;

use kernel::kernel::changed;
use kernel::nft::{self, Expression, Family, Interval, Table};
use kernel::{Kernel, Made, Object, Result};
use netlink_packet_netfilter::NetfilterProtoFamily;

use crate::tag::NetworkTag;

/// podwire's table for packets of IPv4 and IPv6.
pub const INET: Table = Table { family: NetfilterProtoFamily::Inet, name: "podwire" };

/// What is inside of a network of many nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// The network, by its tag for what leads to other nodes.
    pub network: NetworkTag,
    /// Pod CIDRs, and addresses that Pods reach with their own. They may overlap.
    pub subnets: Vec<IpNetwork>,
    /// Is that all of it? An outline ([`outline`], a label) replaces nothing that is there.
    pub is_all: bool,
}

/// As many of these, with commas, as `room` bytes hold.
pub fn as_many(networks: &[IpNetwork], room: usize) -> String {
    let mut list = String::new();
    for network in networks.iter().map(IpNetwork::to_string) {
        if list.len() + network.len() + usize::from(!list.is_empty()) > room {
            break;
        }
        list.push_str(if list.is_empty() { "" } else { "," });
        list.push_str(&network);
    }
    list
}

/// The longest comment of a rule, in bytes (NFTNL_UDATA_COMMENT_MAXLEN of libnftnl, less the final zero).
const MAX_COMMENT: usize = 127;

/// Rules of the network's chain: two for each family, and the last.
const RULES: usize = 5;

/// The chain that masquerades what leaves the network.
pub fn chain(network: NetworkTag) -> String {
    format!("net-{network}")
}

/// Is that the name of such a chain?
pub fn is_chain(name: &str) -> bool {
    name.starts_with("net-")
}

/// Does anything of the network go to its chain?
pub fn is_used(kernel: &Kernel, network: NetworkTag) -> Result<bool> {
    Ok(INET.rules(kernel, &chain(network))? > 0)
}

/// What the kernel holds, in outline: the largest subnets, as the comment of the chain's last rule has them. That says all
/// that an attachment needs, whatever the number of nodes. None if the chain is not there, or does not hold all of it.
pub fn outline(kernel: &Kernel, network: NetworkTag) -> Result<Option<Inside>> {
    let comments = INET.comments(kernel, &chain(network))?;
    let comment = comments.last().filter(|_| comments.len() == RULES).and_then(|comment| comment.as_deref());
    Ok(comment.and_then(Inside::read_outline).filter(|inside| inside.network == network))
}

impl Object for Inside {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        let is_there = match self.is_all {
            true => self.check(kernel).is_ok(),
            false => is_used(kernel, self.network)?,
        };
        if is_there {
            return Ok(Made::Already);
        }
        let chain = chain(self.network);
        let mut transaction = INET.transaction();
        transaction.table();
        for family in Family::ALL {
            let name = set(family, self.network);
            transaction.interval_set(&name, family.set_type(), family.bytes(), &self.intervals(family));
        }
        transaction.empty_chain(&chain);
        let mut rules = self.rules();
        let last = rules.pop();
        rules.into_iter().for_each(|rule| transaction.rule(&chain, rule));
        // Only what is complete says so: the next ADD looks for it.
        let comment = self.is_all.then(|| self.outline(MAX_COMMENT));
        last.into_iter().for_each(|rule| transaction.rule_with_comment(&chain, rule, comment.as_deref()));
        transaction.commit(kernel, &|| format!("writing what nftables chain {chain} does not masquerade"))?;
        Ok(Made::New)
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        for family in Family::ALL {
            let name = set(family, self.network);
            if INET.intervals(kernel, &name)? != self.intervals(family) {
                return Err(changed(format!(
                    "masquerade: set inet podwire {name} does not hold what the node map says"
                )));
            }
        }
        match outline(kernel, self.network)? {
            Some(_) => Ok(()),
            None => {
                Err(changed(format!("masquerade: chain inet podwire {} is missing or changed", chain(self.network))))
            }
        }
    }
}

impl Inside {
    /// `0123456789abcdef:10.244.0.0/16,fd00:244::/48`, with as many subnets, the largest first, as `room` bytes hold.
    pub fn outline(&self, room: usize) -> String {
        let mut text = format!("{}:", self.network);
        let mut largest_first = self.subnets.clone();
        largest_first.sort_by_key(|subnet| subnet.prefix());
        text.push_str(&as_many(&largest_first, room.saturating_sub(text.len())));
        text
    }

    /// Reads an outline.
    pub fn read_outline(text: &str) -> Option<Self> {
        let (network, list) = text.split_once(':')?;
        let subnets = list.split(',').filter_map(|subnet| subnet.parse().ok()).collect();
        Some(Inside { network: NetworkTag::from_hex(network)?, subnets, is_all: false })
    }

    /// Sorted, and such that none touches another.
    fn intervals(&self, family: Family) -> Vec<Interval> {
        let mut ranges: Vec<(u128, u128)> =
            self.subnets.iter().filter(|subnet| Family::of(subnet.ip()) == family).map(range).collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u128, u128)> = Vec::new();
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(earlier) if first <= earlier.1.saturating_add(1) => earlier.1 = earlier.1.max(last),
                _ => merged.push((first, last)),
            }
        }
        let bytes = family.bytes() as usize;
        let key = |number: u128| number.to_be_bytes()[16 - bytes..].to_vec();
        merged.into_iter().map(|(first, last)| (key(first), key(last))).collect()
    }

    fn rules(&self) -> Vec<Vec<Expression>> {
        let mut rules = Vec::with_capacity(RULES);
        for family in Family::ALL {
            let mut inside = family.destination();
            inside.push(nft::in_the_set(&set(family, self.network), false));
            inside.push(nft::end(Verdict::Return));
            let mut multicast = family.towards(&family.multicast());
            multicast.push(nft::end(Verdict::Return));
            rules.extend([inside, multicast]);
        }
        rules.push(vec![nft::simple("masq")]);
        rules
    }
}

fn set(family: Family, network: NetworkTag) -> String {
    match family {
        Family::V4 => format!("in4-{network}"),
        Family::V6 => format!("in6-{network}"),
    }
}

/// First and last address as numbers.
fn range(subnet: &IpNetwork) -> (u128, u128) {
    match subnet {
        IpNetwork::V4(net) => (net.network().to_bits().into(), net.broadcast().to_bits().into()),
        IpNetwork::V6(net) => (net.network().to_bits(), net.broadcast().to_bits()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbors_become_one_interval_and_an_outline_has_the_largest() {
        let subnets = ["10.244.1.0/24", "10.244.0.0/24", "10.240.0.5/32", "fd00:1::/64", "10.244.0.7/32", "fd00::/64"];
        let inside = Inside {
            network: NetworkTag::new("n"),
            subnets: subnets.iter().map(|text| text.parse().unwrap()).collect(),
            is_all: true,
        };
        let intervals = inside.intervals(Family::V4);
        assert_eq!(
            intervals,
            [(vec![10, 240, 0, 5], vec![10, 240, 0, 5]), (vec![10, 244, 0, 0], vec![10, 244, 1, 255]),]
        );
        assert_eq!(inside.intervals(Family::V6).len(), 2);
        let outline = inside.outline(50);
        assert!(outline.ends_with(":10.244.1.0/24,10.244.0.0/24"), "{outline}");
        let read = Inside::read_outline(&outline).unwrap();
        assert!(!read.is_all && read.network == inside.network && read.subnets.len() == 2, "{read:?}");
    }
}
