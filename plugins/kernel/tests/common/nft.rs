//! A node, a Pod, and a second node: what tests of nftables share.

use std::path::Path;

use kernel::Error;
use kernel::nft::{BaseChain, Entry, Holds, Set, Table, Transaction, Type, Value, concatenated};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::InetHookNumber;

use super::Lab;

/// The table of most tests.
pub const TABLE: Table = Table { family: NetfilterProtoFamily::Inet, name: "t" };

impl Lab {
    /// One transaction on the node, which makes the table too.
    pub fn commit(&self, table: Table, fill: impl Fn(&mut Transaction) + Sync) -> Result<(), Error> {
        self.kernel(|kernel| {
            let mut transaction = table.transaction();
            transaction.table();
            fill(&mut transaction);
            transaction.commit(kernel, &|| "making the tables".to_owned())
        })
    }

    /// What nft lists on the node is what it lists where it made the same from `text`.
    #[track_caller]
    pub fn is_listed_as(&self, text: &str) {
        let file = Path::new("/run").join(format!("{}.nft", self.other.name()));
        std::fs::write(&file, text).unwrap();
        self.other.sh(&format!("nft flush ruleset; nft -f {}", file.display()));
        std::fs::remove_file(&file).unwrap();
        assert_eq!(sorted(&self.node.sh("nft list ruleset")), sorted(&self.other.sh("nft list ruleset")));
    }
}

/// The elements of a set come in the order of their hashes, which the kernel seeds: here in that of their texts.
fn sorted(listed: &str) -> String {
    let mut parts = listed.split("elements = {");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (elements, rest) = part.split_once('}').expect("elements end");
        let mut elements: Vec<_> = elements.split(',').map(str::trim).collect();
        elements.sort_unstable();
        text += &format!("elements = {{ {} }}{rest}", elements.join(", "));
    }
    text
}

/// A base chain's place.
pub fn hooked(hook: InetHookNumber, kind: &'static str, priority: i32) -> BaseChain {
    BaseChain { kind, hook, priority }
}

/// A published address, protocol and port has a Pod's address and port.
pub const PUBLISHED: Set = Set {
    name: "published",
    key: &[Type::Ipv4, Type::Protocol, Type::Port],
    holds: Holds::Values(&[Type::Ipv4, Type::Port]),
    intervals: false,
    comment: Some("host ports"),
};
/// A Pod's address has a verdict.
pub const PODS: Set = Set { name: "pods", key: &[Type::Ipv4], holds: Holds::Verdicts, intervals: false, comment: None };
/// An element of [`PUBLISHED`].
pub fn published(host: [u8; 4], protocol: u8, port: u16, pod: [u8; 4], target: u16) -> Entry {
    let key = concatenated(&[&host, &[protocol], &port.to_be_bytes()]);
    Entry::new(key).with(Value::Data(concatenated(&[&pod, &target.to_be_bytes()])))
}
