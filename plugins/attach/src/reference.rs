//! Masquerade that the reference plugins (containernetworking/plugins) made for an attachment, to be removed with it.
//!
//! A node is moved to these plugins while Pods run, and what the reference's ADD made is removed by our DEL. The reference
//! keeps masquerade in one of two places, and both are found by the attachment's names alone:
//!
//! ```text
//! table ip nat (and ip6 nat), made through iptables-nft:
//!   chain POSTROUTING { … ip saddr 10.22.0.5 jump CNI-0123456789abcdef01234567 }   one rule for each address
//!   chain CNI-0123456789abcdef01234567 { … }      24 hexadecimal digits of SHA-512 of network and container ID
//! table inet cni_plugins_masquerade:
//!   chain masq_checks { … masquerade comment "HASH-HASH, net: …, if: …, id: …" }   HASH: 16 digits each
//! ```
//!
//! Only rules and chains of that one attachment are removed. Rules of legacy iptables are out of nftables' reach.

use kernel::nft::{Chains, Rule, Table};
use kernel::{Kernel, Result};
use netlink_packet_netfilter::NetfilterProtoFamily;
use sha2::{Digest, Sha512};

/// Removes what the reference plugins hold in nftables for that attachment: usually nothing.
pub fn remove_masquerade(kernel: &Kernel, network: &str, container_id: &str, ifname: &str) -> Result<()> {
    let chain = format!("CNI-{}", digits(&format!("{network}{container_id}"), 24));
    for family in [NetfilterProtoFamily::IPv4, NetfilterProtoFamily::IPv6] {
        remove_chain(kernel, Chains(Table { family, name: "nat" }), &chain)?;
    }
    let comment = format!("{}-{}", digits(network, 16), digits(&format!("{ifname}:{container_id}"), 16));
    let masquerade = Chains(Table { family: NetfilterProtoFamily::Inet, name: "cni_plugins_masquerade" });
    let rules = masquerade.rules(kernel, "masq_checks")?;
    let of_this: Vec<Rule> = rules.into_iter().filter(|rule| rule.comment.starts_with(&comment)).collect();
    masquerade.remove(kernel, "masq_checks", &of_this, None)
}

/// The first hexadecimal digits of SHA-512.
fn digits(text: &str, count: usize) -> String {
    let hash = Sha512::digest(text);
    hash.iter().map(|byte| format!("{byte:02x}")).collect::<String>()[..count].to_owned()
}

/// Removes a chain of that name, and the jumps to it.
fn remove_chain(kernel: &Kernel, chains: Chains, chain: &str) -> Result<()> {
    if !chains.has(kernel, chain)? {
        return Ok(());
    }
    let rules = chains.rules(kernel, "POSTROUTING")?;
    let jumps: Vec<Rule> = rules.into_iter().filter(|rule| rule.target.as_deref() == Some(chain)).collect();
    chains.remove(kernel, "POSTROUTING", &jumps, Some(chain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_reference_gives() {
        // printf netcontainer | sha512sum
        assert_eq!(digits("netcontainer", 24), "fe5df6e93339b8d95c9e39e0");
    }
}
