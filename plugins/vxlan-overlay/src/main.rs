//! `vxlan-overlay`: the Pods of all nodes in one network, over VXLAN.
//!
//! First in a chain it wires the Pod as routed-veth does (`first.rs`). After a plugin that wired it (bridge, routed-veth) it
//! leaves the wire as it is, lowers the MTU of both ends to what fits, and masquerades as an overlay needs it
//! (`chained.rs`). The overlay itself, one device and what leads to the other nodes, is the `cluster` crate's work.

mod chained;
mod config;
mod first;

use std::process::ExitCode;

use attach::chain::InChain;
use attach::wire::Wired;
use libcni::plugin::Operator;
use libcni::{About, Attachment, AttachmentId, CniResult, Error, Kind, Plugin, Request};

use crate::chained::Chained;
use crate::config::{Config, is_chained};
use crate::first::First;

struct VxlanOverlay;

fn main() -> ExitCode {
    libcni::plugin::main::<VxlanOverlay>()
}

/// One of two plugins, by the configuration.
impl Plugin for VxlanOverlay {
    type Config = Config;

    const ABOUT: About = config::ABOUT;
    const KIND: Kind = Kind::Interface;
    const COMMIT: Option<&str> = libcni::COMMIT;
    const KEYS_OF_OTHERS: &'static [(&'static str, &'static str)] = Wired::<First>::KEYS_OF_OTHERS;
    const OPERATOR: Option<Operator> = Wired::<First>::OPERATOR;

    fn validate(request: &Request, config: &Config) -> Result<(), Error> {
        config.validate(request)
    }

    fn add(request: &Request, config: Config, attachment: &Attachment) -> Result<CniResult, Error> {
        match is_chained(request) {
            true => InChain::<Chained>::add(request, config, attachment),
            false => Wired::<First>::add(request, config, attachment),
        }
    }

    fn check(request: &Request, config: Config, attachment: &Attachment) -> Result<(), Error> {
        match is_chained(request) {
            true => InChain::<Chained>::check(request, config, attachment),
            false => Wired::<First>::check(request, config, attachment),
        }
    }

    fn del(request: &Request, attachment: &Attachment) -> Result<(), Error> {
        match is_chained(request) {
            true => InChain::<Chained>::del(request, attachment),
            false => Wired::<First>::del(request, attachment),
        }
    }

    fn gc(request: &Request, valid: &[AttachmentId]) -> Result<(), Error> {
        Wired::<First>::gc(request, valid)
    }

    fn status(request: &Request, config: Config) -> Result<(), Error> {
        Wired::<First>::status(request, config)
    }
}
