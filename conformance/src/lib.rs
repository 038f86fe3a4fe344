//! What the tests, the suite and the benchmarks share.
//!
//! Plugins are executables here, ours like anybody's: this crate links `libcni` only.
#![warn(missing_docs)]

pub mod bench;
pub mod cluster;
pub mod crash;
pub mod kube_proxy;
pub mod lab;
pub mod network;
pub mod suite;
pub mod trace;
pub mod watch;
