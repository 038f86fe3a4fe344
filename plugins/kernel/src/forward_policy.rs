//! Does the node's own firewall drop what it forwards?
//!
//! Docker sets the policy of iptables' FORWARD chain to DROP, and so do many administrators. A rule in another table can't
//! override that, since a packet has to pass every chain at that hook. So it is only detected here.

use netlink_packet_netfilter::nftables::{ChainAttribute, ChainMessage, NfTablesMessage};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterMessageInner, NetfilterProtoFamily};

use crate::error::Result;
use crate::kernel::Kernel;

/// The programs (`iptables`, `ip6tables`) whose FORWARD chain in nftables has a policy of DROP.
pub fn dropping(kernel: &Kernel) -> Result<Vec<&'static str>> {
    let mut found = Vec::new();
    for (family, program) in [(NetfilterProtoFamily::IPv4, "iptables"), (NetfilterProtoFamily::IPv6, "ip6tables")] {
        if drops(kernel, family)? {
            found.push(program);
        }
    }
    Ok(found)
}

fn drops(kernel: &Kernel, family: NetfilterProtoFamily) -> Result<bool> {
    // NF_DROP of include/uapi/linux/netfilter.h.
    const DROP: u32 = 0;
    let attributes = vec![ChainAttribute::Table("filter".to_owned()), ChainAttribute::Name("FORWARD".to_owned())];
    let message = NfTablesMessage::GetChain(ChainMessage { attributes });
    let message = NetfilterMessage::new(NetfilterHeader::new(family, 0, 0), message);
    let answer = kernel.netfilter()?.get(message, &|| "looking for the chain FORWARD".to_owned())?;
    let Some(NetfilterMessageInner::NfTables(NfTablesMessage::NewChain(chain))) =
        answer.map(|answer: NetfilterMessage| answer.inner)
    else {
        return Ok(false);
    };
    Ok(chain.attributes.iter().any(|attribute| matches!(attribute, ChainAttribute::Policy(DROP))))
}
