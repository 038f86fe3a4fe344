//! The kernel's networking as plain data.
//!
//! A caller lists the objects that should exist ([`plan::Plan`]): links, addresses, routes, neighbors, rules, sysctls,
//! queueing disciplines, nftables elements. One list serves to make them, to check them and to remove them. One file here
//! is one kind of kernel object; [`netlink`] carries the messages, [`kernel`] holds the two namespaces that a Pod's
//! network spans: the node's and the Pod's.
//!
//! This crate knows neither CNI nor podwire: who owns an object, and which names, comments and protocol numbers say so,
//! is for the caller to decide. Nothing here executes a program.
#![warn(missing_docs)]

pub mod address;
mod attribute;
pub mod bridge;
pub mod controller;
pub mod device;
pub mod error;
pub mod fib;
pub mod forward_policy;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod kernel;
pub mod link;
pub mod mac;
pub mod message;
pub mod neighbor;
pub mod netlink;
pub mod netns;
pub mod nft;
pub mod plan;
pub mod route;
pub mod rule;
pub mod sysctl;
pub mod tc;
pub mod veth;
pub mod vlan;
pub mod vxlan;

pub use error::{Error, Result};
pub use kernel::{At, Kernel};
pub use mac::Mac;
pub use nix::errno::Errno;
pub use plan::{Changes, Made, Object, Plan, Remedies};
