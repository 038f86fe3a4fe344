//! What can be wrong with a node map; each error names both parties.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use libcni::code;

/// A node map that can't be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `nodes` is neither a list nor a path, or `nodeName` or `underlayFamily` is no such thing.
    #[error("key {key:?}, value {value}: {why}")]
    Key {
        /// The key.
        key: &'static str,
        /// Its value, shortened.
        value: String,
        /// What is wrong with it.
        why: String,
    },
    /// The file can't be read.
    #[error("node map {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// What is there is no node map: half-written, or with a value that does not fit.
    #[error("node map {place}: {why}")]
    Undecodable {
        /// The file, or "in the configuration".
        place: String,
        /// Line, column and what is wrong there, with its key.
        why: String,
    },
    /// Two entries have one name.
    #[error("node {name:?} is listed twice: entries {} and {} of \"nodes\"", places.0, places.1)]
    NodeTwice {
        /// The name.
        name: String,
        /// The entries' places, counted from 0.
        places: (usize, usize),
    },
    /// Two entries have one address.
    #[error("nodes {one:?} and {other:?} both have the address {address}")]
    AddressTwice {
        /// The address.
        address: IpAddr,
        /// A node.
        one: String,
        /// The other; the same, if one entry has the address twice.
        other: String,
    },
    /// No node can have that address.
    #[error("node {node:?} has the address {address}: {why}")]
    BadAddress {
        /// The node.
        node: String,
        /// The address.
        address: IpAddr,
        /// Why it can't be a node's.
        why: &'static str,
    },
    /// Two Pod CIDRs overlap.
    #[error("Pod CIDR {one_cidr} of node {one:?} overlaps with {other_cidr} of node {other:?}")]
    Overlap {
        /// A node.
        one: String,
        /// Its Pod CIDR.
        one_cidr: IpNetwork,
        /// The other node; may be the same.
        other: String,
        /// Its Pod CIDR.
        other_cidr: IpNetwork,
    },
    /// A node's address lies in a Pod CIDR.
    #[error("address {address} of node {node:?} lies in the Pod CIDR {cidr} of node {owner:?}")]
    AddressInPodCidr {
        /// The node.
        node: String,
        /// Its address.
        address: IpAddr,
        /// The Pod CIDR.
        cidr: IpNetwork,
        /// Whose it is.
        owner: String,
    },
    /// A Pod CIDR is no subnet.
    #[error("node {node:?} has the Pod CIDR {cidr}, which has host bits set; write {network}")]
    NotANetwork {
        /// The node.
        node: String,
        /// As it is written.
        cidr: IpNetwork,
        /// What was meant, perhaps.
        network: IpNetwork,
    },
    /// `nodeName` is not in the map.
    #[error("no node of the map is named {name:?} (nodeName); it has: {there}")]
    UnknownName {
        /// `nodeName`.
        name: String,
        /// The names that are there.
        there: String,
    },
    /// No entry has an address of this machine.
    #[error("no node of the map has an address of this machine; tried: {tried}. Set nodeName, or correct the map")]
    OwnNodeNotFound {
        /// The machine's addresses.
        tried: String,
    },
    /// Two entries have addresses of this machine.
    #[error(
        "this machine has addresses of two nodes: {one:?} ({one_address}) and {other:?} ({other_address}); set nodeName"
    )]
    TwoOwnNodes {
        /// A node.
        one: String,
        /// Its address here.
        one_address: IpAddr,
        /// The other.
        other: String,
        /// Its address here.
        other_address: IpAddr,
    },
    /// Two nodes have no address family in common.
    #[error("nodes {own:?} and {peer:?} have no address of the same family, so no Pod CIDR of {peer:?} can be reached")]
    NoCommonFamily {
        /// This node.
        own: String,
        /// The other.
        peer: String,
    },
    /// A Pod CIDR that nothing can carry.
    #[error(
        "Pod CIDR {cidr} of node {peer:?} can't be routed to from node {own:?}: {lacking:?} has no {family} address; \
         give it one, or use vxlan-overlay, which carries both families over either"
    )]
    NoCarrier {
        /// This node.
        own: String,
        /// The Pod CIDR's node.
        peer: String,
        /// The Pod CIDR.
        cidr: IpNetwork,
        /// Which of both has no address of that family.
        lacking: String,
        /// `IPv4` or `IPv6`.
        family: &'static str,
    },
}

impl From<Error> for libcni::Error {
    fn from(error: Error) -> Self {
        let (code, msg) = match &error {
            Error::Unreadable { .. } => (code::IO_FAILURE, "I/O failure"),
            Error::Undecodable { .. } => (code::DECODING_FAILURE, "failed to decode"),
            _ => (code::INVALID_CONFIG, "invalid network configuration"),
        };
        libcni::Error::new(code, msg, error.to_string())
    }
}
