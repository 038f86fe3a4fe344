//! The configuration of `routed-veth`.

use libcni::{About, Dns, Error, Key, Request};
use serde::Deserialize;
use attach::routed::Shape;
use attach::{keys, mac};

/// The plugin's keys, those of the node map apart (`nodes::Keys`).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    pub mtu: u32,
    pub ip_masq: bool,
    pub default_route: Option<bool>,
    pub dns: Dns,
}

impl Config {
    /// The keys that shape IPAM's answer.
    pub fn shape(&self) -> Shape<'_> {
        Shape { mtu: keys::mtu(self.mtu), dns: &self.dns, default_route: self.default_route.unwrap_or(true) }
    }

    /// What must hold beyond types. Nothing has been touched yet.
    pub fn validate(&self, request: &Request) -> Result<(), Error> {
        keys::validate_mtu(self.mtu)?;
        keys::require_ipam(request, "routed-veth routes addresses")?;
        keys::validate_node_routes(request)?;
        mac::requested(request).map(drop)
    }
}

pub const ABOUT: About = About {
    name: "routed-veth",
    version: env!("CARGO_PKG_VERSION"),
    summary: "Pods on layer 3: each is routed to, without a bridge",
    keys: &[
        keys::ipam("none: it is needed"),
        keys::MTU,
        Key { name: "ipMasq", default: "false", help: "masquerade what Pods send beyond their subnet or cluster" },
        keys::DEFAULT_ROUTE,
        keys::NODES,
        keys::NODE_ROUTES,
        keys::NODE_NAME,
        keys::DNS,
        mac::args_key(mac::BY_ADDRESS),
        mac::runtime_key(mac::BY_ADDRESS),
    ],
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
