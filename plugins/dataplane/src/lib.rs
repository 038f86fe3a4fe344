//! The kernel's networking as plain data.
//!
//! A caller lists the objects that should exist ([`plan::Plan`]): links, addresses, routes, neighbors, sysctls,
//! nftables elements. One list serves to make them, to check them and to remove them. One file here is one kind of
//! kernel object; [`netlink`] carries the messages, [`kernel`] holds the two namespaces that an attachment spans.
//!
//! Nothing here knows of CNI, and nothing here executes a program.
#![warn(missing_docs)]

pub mod address;
pub mod addresscheck;
mod attribute;
pub mod bridge;
pub mod cluster;
pub mod error;
pub mod forward_policy;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod kernel;
pub mod link;
pub mod living;
pub mod lock;
pub mod mac;
pub mod masquerade;
mod message;
pub mod neighbor;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod owner;
pub mod peers;
pub mod plan;
pub mod reference;
pub mod restore;
pub mod route;
pub mod sourcecheck;
pub mod spoofcheck;
pub mod sysctl;
pub mod veth;
pub mod vlan;
pub mod vxlan;
pub mod witness;

pub use error::{Error, Result};
pub use kernel::{At, Kernel};
pub use mac::Mac;
pub use owner::Owner;
pub use plan::{Object, Plan};
