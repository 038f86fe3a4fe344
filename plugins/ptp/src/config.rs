//! The configuration of `ptp`.

use attach::{keys, mac};
use libcni::{About, Dns, Error, Key, Request};
use serde::Deserialize;

/// The plugin's keys, those of the node map apart (`nodes::Keys`).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    pub mtu: u32,
    pub ip_masq: bool,
    pub ip_masq_backend: Option<String>,
    pub dns: Dns,
}

impl Config {
    /// What must hold beyond types. Nothing has been touched yet.
    pub fn validate(&self, request: &Request) -> Result<(), Error> {
        keys::validate_mtu(self.mtu)?;
        keys::validate_masquerade_backend(self.ip_masq_backend.as_deref())?;
        keys::require_ipam(request, "ptp routes addresses")?;
        keys::validate_node_routes(request)?;
        mac::requested(request).map(drop)
    }
}

pub const ABOUT: About = About {
    name: "ptp",
    version: env!("CARGO_PKG_VERSION"),
    summary: "Pods on a veth pair each, with the node as their gateway",
    keys: &[
        keys::ipam("none: it is needed"),
        keys::MTU,
        Key { name: "ipMasq", default: "false", help: "masquerade what Pods send beyond their subnet or cluster" },
        keys::MASQUERADE_BACKEND,
        keys::NODES,
        keys::NODE_ROUTES,
        keys::NODE_NAME,
        keys::DNS,
        mac::args_key("random"),
        mac::runtime_key("random"),
    ],
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
