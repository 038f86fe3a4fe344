//! The configuration of `vxlan-overlay`.

use libcni::invocation::ifname_fault;
use libcni::{About, Dns, Error, Key, Request};
use serde::Deserialize;
use attach::routed::Shape;
use attach::{keys, mac};
use cluster::{Overlay, Reach};

/// The plugin's keys, those of the node map apart (`nodes::Keys`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    pub vni: u32,
    pub port: u16,
    pub device: Option<String>,
    pub mtu: u32,
    pub underlay_device: Option<String>,
    pub direct_routing: bool,
    pub ip_masq: bool,
    pub default_route: Option<bool>,
    pub dns: Dns,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            vni: 1,
            port: 4789,
            device: None,
            mtu: 0,
            underlay_device: None,
            direct_routing: false,
            ip_masq: false,
            default_route: None,
            dns: Dns::default(),
        }
    }
}

/// What comes to a configured device name for an underlay of IPv6.
const SUFFIX_6: &str = "-6";

/// What the MTU of a Pod's wire has to fit.
pub const FITS: &str = "the overlay";

/// Has a plugin before this one wired the Pod? Then there are no addresses to ask for. Told by the configuration alone,
/// so that DEL knows what ADD knew.
pub fn is_chained(request: &Request) -> bool {
    request.config.ipam_type().is_none()
}

/// Does the result so far list the Pod's interface? Others are none of this plugin's affair.
fn is_wired(request: &Request) -> Result<bool, Error> {
    let ifname = request.invocation.attachment.as_ref().map(|attachment| attachment.id.ifname.as_str());
    let result = request.config.prev_result()?.unwrap_or_default();
    Ok(result.interfaces.iter().any(|it| Some(it.name.as_str()) == ifname && !it.sandbox.is_empty()))
}

impl Config {
    /// The keys that shape IPAM's answer.
    pub fn shape(&self) -> Shape<'_> {
        Shape { mtu: None, dns: &self.dns, default_route: self.default_route.unwrap_or(true) }
    }

    fn overlay(&self) -> Overlay {
        let devices = match &self.device {
            Some(name) => [name.clone(), format!("{name}{SUFFIX_6}")],
            None => [format!("vxlan.{}", self.vni), format!("vxlan6.{}", self.vni)],
        };
        Overlay {
            vni: self.vni,
            port: self.port,
            devices,
            mtu: (self.mtu != 0).then_some(self.mtu),
            underlay_device: self.underlay_device.clone(),
            direct_routing: self.direct_routing,
        }
    }

    /// What must hold beyond types. Nothing has been touched yet.
    pub fn validate(&self, request: &Request) -> Result<(), Error> {
        if !(1..1 << 24).contains(&self.vni) {
            return Err(Error::config("vni", self.vni, "a VNI is from 1 to 16777215"));
        }
        if self.port == 0 {
            return Err(Error::config("port", self.port, "a UDP port is from 1 to 65535"));
        }
        self.validate_names()?;
        if !nodes::Keys::are_in(&request.config) {
            let why = "an overlay needs the node map: a list, or the path of a file";
            return Err(Error::config("nodes", "missing", why));
        }
        let has_prev_result = request.config.object.get("prevResult").is_some_and(|result| !result.is_null());
        let needs_prev_result = request.invocation.command == libcni::Command::Add;
        if needs_prev_result && is_chained(request) && !has_prev_result {
            let why =
                "first in a chain, vxlan-overlay needs an IPAM plugin that gives addresses: host-local, for example";
            return Err(Error::config("ipam.type", "missing", why));
        }
        if needs_prev_result && !is_chained(request) && is_wired(request)? {
            let why = "a plugin before this one has wired the Pod already: remove the ipam section here";
            return Err(Error::config("ipam.type", "given", why));
        }
        mac::requested(request).map(drop)
    }

    fn validate_names(&self) -> Result<(), Error> {
        for (key, name) in [("device", &self.device), ("underlayDevice", &self.underlay_device)] {
            if let Some((name, fault)) = name.as_ref().and_then(|name| Some((name, ifname_fault(name)?))) {
                return Err(Error::config(key, format!("{name:?}"), fault));
            }
        }
        match &self.device {
            Some(name) if name.len() + SUFFIX_6.len() > 15 => {
                let why = "longer than 13 bytes: for an underlay of IPv6, \"-6\" comes to it";
                Err(Error::config("device", format!("{name:?}"), why))
            }
            _ => Ok(()),
        }
    }
}

/// How other nodes' Pods are reached, for GC and `--sync`.
pub fn reach(request: &Request) -> Result<Reach, Error> {
    request.config.parse::<Config>().map(|config| Reach::Overlay(config.overlay()))
}

pub const ABOUT: About = About {
    name: "vxlan-overlay",
    version: env!("CARGO_PKG_VERSION"),
    summary: "the Pods of all nodes in one network, over VXLAN",
    keys: &[
        Key {
            name: "nodes",
            default: "none: it is needed",
            help: "the node map: a list, or the path of a file with one",
        },
        keys::NODE_NAME,
        Key {
            name: "underlayFamily",
            default: "\"ipv4\"",
            help: "over which addresses nodes talk that have both: \"ipv4\" or \"ipv6\"",
        },
        Key { name: "vni", default: "1", help: "VXLAN network identifier, 1 to 16777215; the same on every node" },
        Key { name: "port", default: "4789", help: "UDP port; the same on every node" },
        Key {
            name: "device",
            default: "\"vxlan.VNI\", \"vxlan6.VNI\"",
            help: "the VXLAN device's name; with \"-6\" for an underlay of IPv6",
        },
        Key {
            name: "mtu",
            default: "the underlay's less 50, or 70 over IPv6",
            help: "MTU of overlay and Pods, in bytes",
        },
        Key { name: "underlayDevice", default: "the one with the node's address", help: "what carries the tunnels" },
        Key { name: "directRouting", default: "false", help: "route to nodes on the same link, tunnel to the others" },
        Key { name: "ipMasq", default: "false", help: "masquerade what Pods send beyond the cluster" },
        Key {
            name: "ipam",
            default: "none: after bridge or routed-veth",
            help: "first in a chain: the IPAM plugin and its keys; the Pod is wired as routed-veth does",
        },
        keys::DEFAULT_ROUTE,
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
      "type": "vxlan-overlay",
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
