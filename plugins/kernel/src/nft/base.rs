//! Base chains: where a table's rules meet the packets.
//!
//! They are listed over all tables, for a packet has to pass every base chain at its hook: what one accepts, the next may drop.
//! (include/uapi/linux/netfilter/nf_tables.h: NFTA_CHAIN_…, NFTA_HOOK_….)

use netlink_packet_core::{DecodeError, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::{
    ChainAttribute, ChainMessage, Hook, HookNumber, InetHookNumber, NfTablesMessage, TableAttribute, TableMessage,
};
use netlink_packet_netfilter::{NetfilterHeader, NetfilterMessage, NetfilterProtoFamily};

use super::{BaseChain, Transaction};
use crate::attribute::{each, text, within};
use crate::error::Result;
use crate::kernel::Kernel;

/// What becomes of a packet that reaches the end of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// It goes on.
    Accept,
    /// It is dropped.
    Drop,
}

/// A base chain that exists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hooked {
    /// Its table's family.
    pub family: NetfilterProtoFamily,
    /// Its table's name.
    pub table: String,
    /// Its name.
    pub name: String,
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// Its hook. In family netdev, 0 is ingress and 1 egress.
    pub hook: InetHookNumber,
    /// Its place among the chains at the hook: lower comes first.
    pub priority: i32,
    /// What becomes of packets at its end.
    pub policy: Policy,
}

impl Transaction {
    /// A base chain that may be there already, with its policy. In family netdev it has the interface that it is for.
    pub fn base_chain(&mut self, name: &str, base: BaseChain, policy: Policy, device: Option<&str>) {
        let mut hook = vec![Hook::Number(HookNumber::Inet(base.hook)), Hook::Priority(base.priority as u32)];
        hook.extend(device.map(|device| Hook::NetDeviceName(device.to_owned())));
        let attributes = vec![
            ChainAttribute::Table(self.table.name.to_owned()),
            ChainAttribute::Name(name.to_owned()),
            ChainAttribute::Hook(hook),
            ChainAttribute::Policy(match policy {
                Policy::Drop => 0,
                Policy::Accept => 1,
            }),
            ChainAttribute::Type(base.kind.to_owned()),
        ];
        self.push(NfTablesMessage::NewChain(ChainMessage { attributes }), NLM_F_CREATE);
    }

    /// The table goes, with all that is in it (ENOENT if it is not there).
    pub fn remove_table(&mut self) {
        let attributes = vec![TableAttribute::Name(self.table.name.to_owned())];
        self.push(NfTablesMessage::DeleteTable(TableMessage { attributes }), 0);
    }
}

/// The base chains of all tables of all families.
pub fn base_chains(kernel: &Kernel) -> Result<Vec<Hooked>> {
    let request = NfTablesMessage::GetChain(ChainMessage { attributes: Vec::new() });
    let request = NetfilterMessage::new(NetfilterHeader::new(NetfilterProtoFamily::Unspec, 0, 0), request);
    let read = |_kind, message: &[u8], chains: &mut Vec<Hooked>| -> std::result::Result<(), DecodeError> {
        chains.extend(read_chain(message));
        Ok(())
    };
    kernel.netfilter()?.dump_as(request, &read, &|| "listing nftables' base chains".to_owned())
}

/// Reads a chain; none if it is no base chain. In front of the attributes are the family, the version and the resource.
pub(crate) fn read_chain(message: &[u8]) -> Option<Hooked> {
    const NFTA_CHAIN_TABLE: u16 = 1;
    const NFTA_CHAIN_NAME: u16 = 3;
    const NFTA_CHAIN_HOOK: u16 = 4;
    const NFTA_CHAIN_POLICY: u16 = 5;
    const NFTA_CHAIN_TYPE: u16 = 7;
    const NFTA_HOOK_HOOKNUM: u16 = 1;
    const NFTA_HOOK_PRIORITY: u16 = 2;
    let number = |value: &[u8]| value.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
    let attributes = message.get(4..)?;
    let hook = within(attributes, NFTA_CHAIN_HOOK)?;
    let mut chain = Hooked {
        family: (*message.first()?).into(),
        table: String::new(),
        name: String::new(),
        kind: String::new(),
        hook: within(hook, NFTA_HOOK_HOOKNUM).and_then(number)?.into(),
        priority: within(hook, NFTA_HOOK_PRIORITY).and_then(number)? as i32,
        policy: Policy::Accept,
    };
    for (kind, value) in each(attributes) {
        match kind {
            NFTA_CHAIN_TABLE => chain.table = text(value),
            NFTA_CHAIN_NAME => chain.name = text(value),
            NFTA_CHAIN_TYPE => chain.kind = text(value),
            NFTA_CHAIN_POLICY if number(value) == Some(0) => chain.policy = Policy::Drop,
            _ => {}
        }
    }
    Some(chain)
}
