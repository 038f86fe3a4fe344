//! The node map: which node owns which Pod CIDR. The cluster's half of IPAM.
//!
//! A network of many nodes has the same configuration on each of them, and in it the map: inline (`"nodes": [...]`) or
//! in a file of its own (`"nodes": "/etc/cni/nodes.json"`, holding `{"nodes": [...]}`). An entry uses the words of a
//! Kubernetes Node:
//!
//! ```json
//! {"name": "node-0", "addresses": ["10.240.0.4", "fd00:240::4"], "podCIDRs": ["10.244.0.0/24", "fd00:244::/64"]}
//! ```
//!
//! [`Source`] is where the map is, [`Map`] what it says, checked whole, [`View`] the same seen from one of its
//! nodes. All of it is plain data: which addresses the machine has is told by the caller.
#![warn(missing_docs)]

mod error;
mod map;
#[cfg(test)]
mod properties;
mod source;
mod view;

pub use error::Error;
pub use map::{Map, Node};
pub use source::{Inline, Keys, MapKeys, Source};
pub use view::{Family, View};

/// The variable by which a plugin that has read the map tells its IPAM plugin this node's Pod CIDRs, separated by commas.
/// Who finds it need not read the map.
pub const POD_CIDRS: &str = "CNI_PODWIRE_POD_CIDRS";

/// The variable by which a plugin that wires Pods tells its IPAM plugin which addresses the node uses for something else, separated by
/// commas. An ADD gives none of them.
pub const AVOID: &str = "CNI_PODWIRE_AVOID";

#[cfg(test)]
mod testing {
    use libcni::config::{Config, Document, Size};

    /// A configuration as a plugin with a node map has it.
    pub fn config(text: &str) -> Config {
        let keys = libcni::keys::Level::of::<crate::MapKeys>();
        let text = text.replacen('{', r#"{"name":"n","#, 1);
        let document = Document::decode(text.as_bytes(), &keys, Size::Usual).unwrap();
        Config::new(text.into(), document, libcni::Version::LATEST).unwrap()
    }
}
