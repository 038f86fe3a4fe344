//! What an attachment owns, and the drivers that every plugin runs on, between the protocol (`libcni`) and the kernel.
//!
//! A plugin is its configuration and its plan. Everything else is here, once for all plugins:
//!
//! * `wire.rs` (with `wiring.rs`) and `chain.rs`: the drivers, for plugins that wire a Pod and for those that adjust a wire. `undo.rs`,
//!   `ipam.rs`, `check.rs`, `status.rs` and `removal.rs` are parts of them.
//! * `owner.rs`, `label.rs`, `record.rs`: how the kernel knows what belongs to which attachment.
//! * `kinds/`: the registry of what an attachment can own beside its wire; `veth.rs`: the wire itself; `restore.rs`: what is
//!   put back after a flush; `living.rs` and `in_use.rs`: whose address must not be given again.
//! * `routed.rs`, `pod.rs`: wires that several plugins share.
//! * `follow.rs`: the node map in a configuration (`cluster` does the work). `reference.rs`: what the reference plugins left.
//! * `suite.rs`: every key of the suite, to warn of those that another plugin has.
//! * `foreign_pods.rs`: what STATUS says of another program's Pods.
//! * `keys.rs`, `mac.rs`: keys that several plugins share.
#![warn(missing_docs)]

pub mod chain;
pub mod check;
pub mod error;
pub mod follow;
mod foreign_pods;
mod in_use;
pub mod ipam;
pub mod keys;
pub mod kinds;
pub mod label;
pub mod living;
pub mod mac;
pub mod names;
pub mod owner;
pub mod pod;
#[cfg(test)]
mod properties;
pub mod record;
mod reference;
pub mod removal;
pub mod restore;
pub mod routed;
pub mod status;
pub mod suite;
pub mod undo;
pub mod veth;
pub mod wire;
pub mod wiring;

pub use error::told;
pub use label::Label;
pub use owner::Owner;
