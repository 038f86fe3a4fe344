//! The configuration of `routed-veth`.

use attach::keys::{self, DefaultRouteKey, NodeRouteKeys, WireKeys};
use attach::routed::Shape;
use libcni::{About, Configuration, Error, Request};

/// The plugin's keys.
#[derive(Debug, Configuration)]
pub struct Config {
    /// MTU of the Pod's interface, in bytes.
    #[key(shown = "the kernel's, 1500")]
    pub mtu: u32,
    /// Masquerade what Pods send beyond their subnet or cluster.
    pub ip_masq: bool,
    /// `defaultRoute`.
    #[key(flatten)]
    pub default_route: DefaultRouteKey,
    /// `nodes`, `nodeName`, `nodeRoutes`.
    #[key(flatten)]
    pub nodes: NodeRouteKeys,
    /// `ipam`, `dns`, and the Pod's MAC address.
    #[key(flatten, describe("ipam", shown = "none: required"))]
    pub wire: WireKeys,
}

impl Config {
    /// The keys that shape IPAM's answer.
    pub fn shape(&self) -> Shape {
        Shape { mtu: keys::mtu(self.mtu), default_route: self.default_route.wanted }
    }

    /// What must hold beyond types. Nothing has been touched yet.
    pub fn validate(&self, request: &Request) -> Result<(), Error> {
        keys::validate_mtu(self.mtu)?;
        keys::require_ipam(request, "routed-veth routes addresses")?;
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
