//! The configuration of `routed-veth`.

use libcni::{About, Dns, Error, Key, Request};
use serde::Deserialize;
use verbs::cluster::{Network, Reach};
use verbs::mac::{self, Args, RuntimeConfig};

/// The plugin's keys, those of the node map apart (`nodes::Keys`).
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    pub mtu: u32,
    pub ip_masq: bool,
    pub node_routes: Option<bool>,
    pub dns: Dns,
    pub args: Args,
    pub runtime_config: RuntimeConfig,
}

impl Config {
    /// The MTU asked for, in bytes.
    pub fn mtu(&self) -> Option<u32> {
        (self.mtu != 0).then_some(self.mtu)
    }

    /// The network's node map, if it has one.
    pub fn network(&self, request: &Request) -> Result<Option<Network>, Error> {
        Network::read(request, self.reach())
    }

    fn reach(&self) -> Reach {
        if self.node_routes.unwrap_or(true) { Reach::NodeRoutes } else { Reach::Routers }
    }

    /// What must hold beyond types. Nothing has been touched yet.
    pub fn validate(&self, request: &Request) -> Result<(), Error> {
        if self.mtu != 0 && !(68..=65535).contains(&self.mtu) {
            return Err(Error::config("mtu", self.mtu, "an MTU is from 68 to 65535 bytes"));
        }
        if request.config.ipam_type().is_none() {
            let why = "routed-veth routes addresses, and needs an IPAM plugin that gives them: host-local, for example";
            return Err(Error::config("ipam.type", "missing", why));
        }
        if self.node_routes.is_some() && !request.config.object.contains_key("nodes") {
            return Err(Error::config("nodeRoutes", "given", "says something only together with nodes"));
        }
        mac::requested(request, &self.runtime_config, &self.args).map(drop)
    }
}

/// How other nodes' Pods are reached, for GC and `--sync`.
pub fn reach(request: &Request) -> Result<Reach, Error> {
    request.config.parse::<Config>().map(|config| config.reach())
}

pub const ABOUT: About = About {
    name: "routed-veth",
    version: env!("CARGO_PKG_VERSION"),
    summary: "Pods on layer 3: each is routed to, without a bridge",
    keys: &[
        Key {
            name: "ipam",
            default: "none: it is needed",
            help: "the IPAM plugin and its keys: {\"type\": \"host-local\", …}",
        },
        Key { name: "mtu", default: "the kernel's, 1500", help: "MTU of the Pod's interface, in bytes" },
        Key { name: "ipMasq", default: "false", help: "masquerade what Pods send beyond their subnet or cluster" },
        Key {
            name: "nodes",
            default: "none: one node",
            help: "the node map: a list, or the path of a file with one; ranges of host-local come from it",
        },
        Key { name: "nodeRoutes", default: "true", help: "routes to other nodes' Pod CIDRs; false: routers have them" },
        Key { name: "nodeName", default: "by the machine's addresses", help: "which node of the map this is" },
        Key { name: "dns", default: "what IPAM says", help: "name resolution, handed to the runtime" },
        Key { name: "args.cni.mac", default: "0a:58: and the address", help: "MAC address of the Pod's interface" },
        Key {
            name: "runtimeConfig.mac",
            default: "0a:58: and the address",
            help: "the same as a capability; wins over args.cni.mac",
        },
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
