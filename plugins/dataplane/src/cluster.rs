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
//! All Pods of the network go to that one chain ([`crate::masquerade`]), so a map that is replaced is followed by living
//! Pods too, and a packet's way is as long with a thousand nodes as with three. The sets are rewritten in one transaction: no
//! packet ever meets a half-written one.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use netlink_packet_netfilter::nftables::Verdict;

use crate::error::Result;
use crate::kernel::{Kernel, changed};
use crate::masquerade::{Family, INET};
use crate::nft::{self, Expression, Interval};
use crate::owner::NetworkTag;
use crate::plan::{Made, Object};

/// What is inside of a network of many nodes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inside {
    /// The network, by its tag for what leads to other nodes.
    pub network: NetworkTag,
    /// Pod CIDRs, and addresses that Pods reach with their own. They may overlap.
    pub subnets: Vec<IpNetwork>,
}

/// Rules of the network's chain: two for each family, and the last.
const RULES: usize = 5;

/// The chain that masquerades what leaves the network.
pub fn chain(network: NetworkTag) -> String {
    format!("net-{network}")
}

/// Is that such a chain?
pub(crate) fn is_chain(name: &str) -> bool {
    name.starts_with("net-")
}

/// The subnets that stand in the kernel, as few as say it all; empty if there is nothing.
pub fn present(kernel: &Kernel, network: NetworkTag) -> Result<Vec<IpNetwork>> {
    let mut subnets = Vec::new();
    for family in [Family::V4, Family::V6] {
        for (first, last) in INET.intervals(kernel, &set(&family, network))? {
            subnets.extend(cover(&family, &first, &last));
        }
    }
    Ok(subnets)
}

impl Object for Inside {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        if self.check(kernel).is_ok() {
            return Ok(Made::Already);
        }
        let chain = chain(self.network);
        let mut transaction = INET.transaction();
        transaction.table();
        for family in [Family::V4, Family::V6] {
            let name = set(&family, self.network);
            transaction.interval_set(&name, family.set_type(), family.bytes(), &self.intervals(&family));
        }
        transaction.empty_chain(&chain);
        for rule in self.rules() {
            transaction.rule(&chain, rule);
        }
        transaction.commit(kernel, &|| format!("writing what nftables chain {chain} does not masquerade"))?;
        Ok(Made::New)
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        for family in [Family::V4, Family::V6] {
            let name = set(&family, self.network);
            if INET.intervals(kernel, &name)? != self.intervals(&family) {
                return Err(changed(format!(
                    "masquerade: set inet podwire {name} does not hold what the node map says; the next ADD restores it"
                )));
            }
        }
        match INET.rules(kernel, &chain(self.network))? {
            RULES => Ok(()),
            _ => Err(changed(format!("masquerade: chain inet podwire {} is missing or changed", chain(self.network)))),
        }
    }

    fn remove(&self, _kernel: &Kernel) -> Result<()> {
        Ok(())
    }
}

impl Inside {
    /// Sorted, and such that none touches another.
    fn intervals(&self, family: &Family) -> Vec<Interval> {
        let mut ranges: Vec<(u128, u128)> =
            self.subnets.iter().filter(|subnet| Family::of(subnet).is(family)).map(range).collect();
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
        for family in [Family::V4, Family::V6] {
            let mut inside = family.destination();
            inside.push(nft::in_the_set(&set(&family, self.network), false));
            inside.push(nft::end(Verdict::Return));
            let mut multicast = family.towards(&family.multicast());
            multicast.push(nft::end(Verdict::Return));
            rules.extend([inside, multicast]);
        }
        rules.push(vec![nft::simple("masq")]);
        rules
    }
}

fn set(family: &Family, network: NetworkTag) -> String {
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

/// The fewest subnets that make up an interval.
fn cover(family: &Family, first: &[u8], last: &[u8]) -> Vec<IpNetwork> {
    let number = |key: &[u8]| key.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
    let bits = family.bytes() * 8;
    let (mut first, last) = (number(first), number(last));
    let mut subnets = Vec::new();
    while first <= last {
        // The largest block that begins here and does not reach beyond the end.
        let mut host_bits = first.trailing_zeros().min(bits);
        while host_bits == 128 || first + ((1 << host_bits) - 1) > last {
            host_bits -= 1;
        }
        let ip = match family {
            Family::V4 => IpAddr::V4(Ipv4Addr::from_bits(first as u32)),
            Family::V6 => IpAddr::V6(Ipv6Addr::from_bits(first)),
        };
        subnets.extend(IpNetwork::new(ip, (bits - host_bits) as u8));
        match first.checked_add(1 << host_bits) {
            Some(next) => first = next,
            None => break,
        }
    }
    subnets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbors_become_one_interval_and_an_interval_becomes_subnets() {
        let subnets = ["10.244.1.0/24", "10.244.0.0/24", "10.240.0.5/32", "fd00:1::/64", "10.244.0.7/32", "fd00::/64"];
        let inside = Inside {
            network: NetworkTag::new("n"),
            subnets: subnets.iter().map(|text| text.parse().unwrap()).collect(),
        };
        let intervals = inside.intervals(&Family::V4);
        assert_eq!(
            intervals,
            [(vec![10, 240, 0, 5], vec![10, 240, 0, 5]), (vec![10, 244, 0, 0], vec![10, 244, 1, 255]),]
        );
        assert_eq!(inside.intervals(&Family::V6).len(), 2);
        let text = |family: &Family, first: &[u8], last: &[u8]| {
            cover(family, first, last).iter().map(IpNetwork::to_string).collect::<Vec<_>>()
        };
        assert_eq!(text(&Family::V4, &[10, 0, 0, 0], &[10, 0, 2, 255]), ["10.0.0.0/23", "10.0.2.0/24"]);
        assert_eq!(text(&Family::V4, &[0; 4], &[255; 4]), ["0.0.0.0/0"]);
        assert_eq!(text(&Family::V6, &[255; 16], &[255; 16]), ["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff/128"]);
    }
}
