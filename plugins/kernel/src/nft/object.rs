//! Counters that have a name: several rules count with one, and it stays when they go.
//!
//! (include/uapi/linux/netfilter/nf_tables.h: NFTA_OBJ_…, NFTA_COUNTER_….)

use netlink_packet_core::{DecodeError, DefaultNla, NLM_F_CREATE};
use netlink_packet_netfilter::nftables::NfTablesMessage;

use super::field::long;
use super::{Table, Transaction};
use crate::attribute::within;
use crate::error::Result;
use crate::kernel::Kernel;

/// NFT_OBJECT_COUNTER.
pub(super) const COUNTER: u32 = 1;

/// What a counter has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Packets.
    pub packets: u64,
    /// Bytes, of the packets with their IP headers.
    pub bytes: u64,
}

impl Transaction {
    /// A counter that may be there already; it keeps what it has counted.
    pub fn counter(&mut self, name: &str) {
        let mut attributes = key(&self.table, name);
        // NFTA_OBJ_DATA: a counter's may be empty.
        attributes.push(DefaultNla::new(4, Vec::new()));
        self.push(NfTablesMessage::NewObject(attributes), NLM_F_CREATE);
    }
}

impl Table {
    /// What the counter of that name has counted; none if there is none.
    pub fn count(&self, kernel: &Kernel, name: &str) -> Result<Option<Count>> {
        let request = self.message(NfTablesMessage::GetObject(key(self, name)));
        let read = |_kind, message: &[u8], counts: &mut Vec<Count>| -> std::result::Result<(), DecodeError> {
            counts.extend(read_count(message));
            Ok(())
        };
        kernel.netfilter()?.get_as(request, 0, &read, &|| format!("reading the nftables counter {}/{name}", self.name))
    }
}

/// NFTA_OBJ_TABLE 1, NFTA_OBJ_NAME 2, NFTA_OBJ_TYPE 3.
fn key(table: &Table, name: &str) -> Vec<DefaultNla> {
    let text = |kind, text: &str| DefaultNla::new(kind, [text.as_bytes(), &[0]].concat());
    vec![text(1, table.name), text(2, name), long(3, COUNTER)]
}

/// Reads a counter behind the family, the version and the resource.
pub(crate) fn read_count(message: &[u8]) -> Option<Count> {
    const NFTA_OBJ_DATA: u16 = 4;
    const NFTA_COUNTER_BYTES: u16 = 1;
    const NFTA_COUNTER_PACKETS: u16 = 2;
    let data = within(message.get(4..)?, NFTA_OBJ_DATA)?;
    let one = |kind| within(data, kind)?.first_chunk().map(|bytes| u64::from_be_bytes(*bytes));
    Some(Count { packets: one(NFTA_COUNTER_PACKETS)?, bytes: one(NFTA_COUNTER_BYTES)? })
}
