//! Does the node's own firewall drop what it forwards?
//!
//! Docker, and many an administrator, leave the FORWARD chain of iptables with a policy of DROP. No rule of ours can
//! override it: a packet has to pass every chain at that hook. All that can be done is to say so.

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
    let Some(NetfilterMessageInner::NfTables(NfTablesMessage::NewChain(chain))) = answer.map(|answer| answer.inner)
    else {
        return Ok(false);
    };
    Ok(chain.attributes.iter().any(|attribute| matches!(attribute, ChainAttribute::Policy(DROP))))
}
