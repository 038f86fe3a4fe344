//! The Container Network Interface in Rust: write plugins, run plugins.
//!
//! * Writing a plugin: declare its configuration ([`keys`]), implement [`plugin::Plugin`], call [`plugin::main`]. `examples/hosts.rs` is a complete one, of
//!   less than 60 lines.
//! * Delegating addresses to an IPAM plugin: [`delegate`].
//! * Running plugins, as a container runtime does: [`runtime`].
//!
//! This crate is the protocol alone: JSON, environment, execution. It knows nothing of the kernel's networking.
//! The specification it follows is [CNI 1.1.0](https://www.cni.dev/docs/spec/), with every earlier version.
#![warn(missing_docs)]

// What derive(Configuration) writes names this crate, also within it.
extern crate self as libcni;

pub mod config;
pub mod delegate;
pub mod error;
mod exec;
pub mod file;
pub mod invocation;
pub mod keys;
mod netns;
pub mod plugin;
#[cfg(test)]
mod properties;
mod repeated;
pub mod result;
pub mod runtime;
pub mod syntax;
#[cfg(test)]
mod testing;
#[cfg(feature = "tool")]
#[doc(hidden)]
pub mod tool;
mod value;
pub mod version;

/// The commit of podwire that this crate was built from, if that is known: twelve digits, and `-modified` where files differed from it.
/// `None` in a debug build.
pub const COMMIT: Option<&str> = option_env!("LIBCNI_COMMIT");

pub use config::Config;
pub use error::{Error, code};
pub use invocation::{Attachment, AttachmentId, Command, Invocation};
pub use ipnetwork;
pub use keys::Configuration;
pub use plugin::{About, Kind, Plugin, Request};
pub use result::{CniResult, Dns, Interface, IpConfig, Route};
pub use version::Version;
