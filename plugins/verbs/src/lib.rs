//! What every plugin that wires Pods does alike, between the protocol (`libcni`) and the kernel (`dataplane`).
//!
//! A plugin says what should exist; here is what follows without knowing what that was: an attachment's owner
//! and names, addresses from IPAM, the order of undoing, DEL and GC by names alone, and the kernel's errors in CNI's codes.
//! (The house has no such crate in its plan; without it each plugin would hold a copy of these files.)
#![warn(missing_docs)]

pub mod check;
pub mod cluster;
pub mod error;
pub mod ipam;
pub mod keys;
pub mod mac;
pub mod pod;
pub mod removal;
pub mod routed;
pub mod status;
pub mod wire;

pub use error::told;
pub use wire::owner;
