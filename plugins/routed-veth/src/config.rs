//! The configuration of `routed-veth`.

use libcni::{About, Configuration, Error, Request};
use verbs::keys::{self, NodeRouteKeys, WireKeys};

/// The plugin's keys.
#[derive(Debug, Configuration)]
pub struct Config {
    /// MTU of the Pod's interface, in bytes.
    #[key(shown = "the kernel's, 1500")]
    pub mtu: u32,
    /// Masquerade what Pods send beyond their subnet or cluster.
    pub ip_masq: bool,
    /// `nodes`, `nodeName`, `nodeRoutes`.
    #[key(flatten)]
    pub nodes: NodeRouteKeys,
    /// `ipam`, `dns`, and the Pod's MAC address.
    #[key(flatten, describe("ipam", shown = "none: it is needed"))]
    pub wire: WireKeys,
}

impl Config {
    /// What must hold beyond types. Nothing has been touched yet.
    pub fn validate(&self, request: &Request) -> Result<(), Error> {
        keys::validate_mtu(self.mtu)?;
        if request.config.ipam_type().is_none() {
            let why = "routed-veth routes addresses, and needs an IPAM plugin that gives them: host-local, for example";
            return Err(Error::config("ipam.type", "missing", why));
        }
        self.nodes.validate()?;
        self.wire.mac.requested(&request.invocation).map(drop)
    }
}

pub const ABOUT: About = About {
    name: "routed-veth",
    version: env!("CARGO_PKG_VERSION"),
    summary: "Pods on layer 3: each is routed to, without a bridge",
    example: r#"
{
  "cniVersion": "1.0.0",
  "cniVersions": ["1.0.0", "1.1.0"],
  "name": "pods",
  "plugins": [
    {
      "type": "routed-veth",
      "ipMasq": true,
      "nodes": [
        { "name": "node-0", "addresses": ["10.240.0.4"], "podCIDRs": ["10.244.0.0/24"] },
        { "name": "node-1", "addresses": ["10.240.0.5"], "podCIDRs": ["10.244.1.0/24"] }
      ],
      "ipam": { "type": "host-local" }
    }
  ]
}"#,
};
