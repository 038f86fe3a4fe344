//! The configuration of `vxlan-overlay`.

use attach::keys::{DefaultRouteKey, NodeKeys, WireKeys};
use attach::routed::Shape;
use cluster::{Overlay, Reach};
use libcni::invocation::ifname_fault;
use libcni::{About, Configuration, Error, Request};
use nodes::MapKeys;

/// The plugin's keys.
#[derive(Debug, Configuration)]
pub struct Config {
    /// The node map and the overlay.
    #[key(flatten)]
    pub overlay: OverlayKeys,
    /// Masquerade what Pods send beyond the cluster.
    pub ip_masq: bool,
    /// `defaultRoute`.
    #[key(
        flatten,
        describe("defaultRoute", help = "first in a chain: a default route to the node, unless IPAM gives one")
    )]
    pub default_route: DefaultRouteKey,
    /// `ipam`, `dns`, and the Pod's MAC address.
    #[key(
        flatten,
        describe(
            "ipam",
            shown = "none: after bridge or routed-veth",
            help = "first in a chain: the IPAM plugin and its keys; the Pod is wired as routed-veth does"
        )
    )]
    pub wire: WireKeys,
}

/// The overlay's own keys, which the network's nodes have to agree on.
#[derive(Debug, Configuration)]
pub struct OverlayKeys {
    /// `nodes`, `nodeName`, `underlayFamily`.
    #[key(
        flatten,
        describe("nodes", shown = "none: required", help = "the node map: a list, or the path of a file with one"),
        describe("underlayFamily", help = "over which addresses nodes talk that have both: \"ipv4\" or \"ipv6\"")
    )]
    nodes: MapKeys,
    /// VXLAN network identifier, 1 to 16777215; the same on every node.
    #[key(default = 1)]
    pub vni: u32,
    /// UDP port; the same on every node.
    #[key(default = 4789)]
    pub port: u16,
    /// The VXLAN device's name; with "-6" for an underlay of IPv6.
    #[key(shown = "\"vxlan.VNI\", \"vxlan6.VNI\"")]
    pub device: Option<String>,
    /// MTU of overlay and Pods, in bytes.
    #[key(shown = "the underlay's less 50, or 70 over IPv6")]
    pub mtu: u32,
    /// What carries the tunnels.
    #[key(shown = "the one with the node's address")]
    pub underlay_device: Option<String>,
    /// Route to nodes on the same link, tunnel to the others.
    pub direct_routing: bool,
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
    pub fn shape(&self) -> Shape {
        Shape { mtu: None, default_route: self.default_route.wanted }
    }

    /// What must hold beyond types. Nothing has been touched yet.
    pub fn validate(&self, request: &Request) -> Result<(), Error> {
        self.overlay.validate()?;
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
        self.wire.mac.requested(&request.invocation).map(drop)
    }
}

impl NodeKeys for OverlayKeys {
    fn map(&self) -> &MapKeys {
        &self.nodes
    }

    fn reach(&self) -> Reach {
        let devices = match &self.device {
            Some(name) => [name.clone(), format!("{name}{SUFFIX_6}")],
            None => [format!("vxlan.{}", self.vni), format!("vxlan6.{}", self.vni)],
        };
        Reach::Overlay(Overlay {
            vni: self.vni,
            port: self.port,
            devices,
            mtu: (self.mtu != 0).then_some(self.mtu),
            underlay_device: self.underlay_device.clone(),
            direct_routing: self.direct_routing,
        })
    }
}

impl OverlayKeys {
    fn validate(&self) -> Result<(), Error> {
        if !(1..1 << 24).contains(&self.vni) {
            return Err(Error::config("vni", self.vni, "a VNI is from 1 to 16777215"));
        }
        if self.port == 0 {
            return Err(Error::config("port", self.port, "a UDP port is from 1 to 65535"));
        }
        if !self.nodes.are_given() {
            let why = "an overlay needs the node map: a list, or the path of a file";
            return Err(Error::config("nodes", "missing", why));
        }
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

pub const ABOUT: About = About {
    name: "vxlan-overlay",
    version: env!("CARGO_PKG_VERSION"),
    summary: "the Pods of all nodes in one network, over VXLAN",
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
