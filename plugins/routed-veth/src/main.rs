//! `routed-veth`: Pods on layer 3, without a bridge.
//!
//! Each Pod gets its address alone, and the node as its next hop: the wire itself is `attach::routed`. With a node map
//! (`nodes`) there are routes to the other nodes' Pod CIDRs too, unless the underlay's own routers have them
//! (`"nodeRoutes": false`). `config.rs` declares the keys; the five verbs are `attach::wire`'s.

mod config;

use std::process::ExitCode;

use attach::keys::{self, NodeRouteKeys, WireKeys};
use attach::kinds::Owned;
use attach::routed;
use attach::wire::{WirePlugin, Wired, Wiring};
use kernel::veth::Veth;
use kernel::{Kernel, Mac, Plan};
use libcni::{About, CniResult, Error, Request};

use crate::config::Config;

fn main() -> ExitCode {
    libcni::plugin::main::<Wired<Routed>>()
}

/// Pods that the node routes to.
struct Routed;

impl WirePlugin for Routed {
    type Config = Config;
    type Nodes = NodeRouteKeys;

    const ABOUT: About = config::ABOUT;

    fn validate(request: &Request, config: &Config) -> Result<(), Error> {
        config.validate(request)
    }

    fn nodes(config: &Config) -> &NodeRouteKeys {
        &config.nodes
    }

    fn keys(config: &Config) -> &WireKeys {
        &config.wire
    }

    fn masquerades(config: &Config) -> bool {
        config.ip_masq
    }

    fn complete(config: &Config, kernel: &Kernel, from_ipam: CniResult) -> Result<CniResult, Error> {
        routed::complete(config.shape(), kernel, from_ipam)
    }

    fn pod_mac(addresses: &CniResult) -> Mac {
        routed::pod_mac(addresses)
    }

    fn pair(wiring: &Wiring<Config>) -> Veth {
        routed::pair(wiring, keys::mtu(wiring.config.mtu))
    }

    fn settings(wiring: &Wiring<Config>, plan: &mut Plan) {
        routed::settings(wiring, plan);
    }

    fn owned(wiring: &Wiring<Config>) -> Vec<Box<dyn Owned>> {
        routed::owned(wiring, Some(wiring.pod.mac), Vec::new())
    }

    fn plan(wiring: &Wiring<Config>, plan: &mut Plan) {
        routed::plan(wiring, plan);
    }
}
