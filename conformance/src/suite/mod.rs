//! The conformance suite: does a plugin keep the CNI specification, clause by clause?
//!
//! A [`clause::Clause`] is one sentence of the specification as plain data. A [`clause::Trial`] is a procedure that
//! finds out about one clause or a few that the same procedure shows. Each trial runs in a process of its own, in a
//! [`world::World`]: fresh mount and network namespaces, so that trials run side by side and nothing outlives them.
//!
//! ```text
//! cni-conformance run ── probe: what is this plugin, which versions does it claim?
//!                     └─ runner: for each version, for each trial, a worker process ── World ── the plugin
//!                                 each clause: passed / failed / skipped / error ──> report
//! ```
//!
//! A plugin is an executable and its documents are JSON: nothing here knows what a particular plugin does.

pub mod attach;
pub mod base;
pub mod clause;
pub mod config;
pub mod exec;
pub mod kernel;
pub mod probe;
pub mod report;
pub mod runner;
pub mod snapshot;
pub mod spy;
pub mod trials;
pub mod world;
