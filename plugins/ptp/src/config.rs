//! The configuration of `ptp`.

use attach::keys::{self, MasqueradeKeys, NodeRouteKeys, WireKeys};
use libcni::{About, Configuration, Error, Request};

/// The plugin's keys.
#[derive(Debug, Configuration)]
pub struct Config {
    /// MTU of the Pod's interface, in bytes.
    #[key(shown = "the kernel's, 1500")]
    pub mtu: u32,
    /// `ipMasq`, `ipMasqBackend`.
    #[key(flatten)]
    pub masquerade: MasqueradeKeys,
    /// `nodes`, `nodeName`, `nodeRoutes`.
    #[key(flatten)]
    pub nodes: NodeRouteKeys,
    /// `ipam`, `dns`, and the Pod's MAC address.
    #[key(
        flatten,
        describe("ipam", shown = "none: required"),
        describe("args.cni.mac", shown = "random"),
        describe("runtimeConfig.mac", shown = "random")
    )]
    pub wire: WireKeys,
}

impl Config {
    /// What must hold beyond types. Nothing has been touched yet.
    pub fn validate(&self, request: &Request) -> Result<(), Error> {
        keys::validate_mtu(self.mtu)?;
        self.masquerade.validate()?;
        keys::require_ipam(request, "ptp routes addresses")?;
        self.nodes.validate()?;
        self.wire.mac.requested(&request.invocation).map(drop)
    }
}

pub const ABOUT: About = About {
    name: "ptp",
    version: env!("CARGO_PKG_VERSION"),
    summary: "Pods on a veth pair each, with the node as their gateway",
    example: r#"
{
  "cniVersion": "1.0.0",
  "cniVersions": ["1.0.0", "1.1.0"],
  "name": "pods",
  "plugins": [
    {
      "type": "ptp",
      "ipMasq": true,
      "ipam": {
        "type": "host-local",
        "ranges": [[{ "subnet": "10.33.0.0/16" }], [{ "subnet": "fd00:33::/64" }]],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]
      }
    }
  ]
}"#,
};
