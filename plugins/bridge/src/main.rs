//! `bridge`: Pods on a Linux bridge.
//!
//! Each Pod gets a veth pair; its end on the node is a port of one bridge that all Pods of the network share. With
//! `isGateway` the node has an address on the bridge and routes for the Pods; with `ipMasq` what they send beyond their
//! subnet leaves with the node's address.
//!
//! `config.rs` declares the keys, `plan.rs` what should exist for them, `gateway.rs` the node's addresses on the bridge. The five verbs are `attach::wire`'s.

mod config;
mod gateway;
mod plan;

use std::process::ExitCode;

use attach::wire::Wired;

fn main() -> ExitCode {
    libcni::plugin::main::<Wired<plan::OnBridge>>()
}
