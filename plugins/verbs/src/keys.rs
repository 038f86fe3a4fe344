//! Groups of configuration keys that several plugins have with one meaning, and what they ask for.

use libcni::keys::{At, KeyType, Shape, Shaped};
use libcni::{Configuration, Dns, Error, IpConfig, Request};
use nodes::MapKeys;
use serde_json::Value;

use crate::cluster::{Network, Reach};
use crate::mac::MacKeys;

/// The keys of every plugin that wires a Pod.
#[derive(Debug, Configuration)]
pub struct WireKeys {
    /// The IPAM plugin and its keys: {"type": "host-local", …}.
    #[key(name = "ipam")]
    _ipam: Section,
    /// Name resolution, handed to the runtime.
    #[key(shown = "what IPAM says")]
    pub dns: Dns,
    /// `args.cni.mac` and `runtimeConfig.mac`.
    #[key(flatten)]
    pub mac: MacKeys,
}

/// `ipam`, which is for the IPAM plugin to read: see [`Config::ipam_type`](libcni::Config::ipam_type).
#[derive(Debug, Default)]
struct Section;

impl Shaped for Section {
    fn shape() -> Shape {
        Shape::Object(Default::default())
    }
}

impl KeyType for Section {
    fn read(_: &Value, _: &At<'_>) -> Result<Self, Error> {
        Ok(Section)
    }
}

/// The keys of a network whose nodes route to each other's Pods: those of the node map, and `nodeRoutes`.
#[derive(Debug, Configuration)]
pub struct NodeRouteKeys {
    /// `nodes`, `nodeName`.
    #[key(flatten)]
    pub map: MapKeys,
    /// Routes to other nodes' Pod CIDRs; false: routers have them.
    #[key(shown = "true")]
    node_routes: Option<bool>,
}

impl NodeRouteKeys {
    /// How other nodes' Pods are reached.
    pub fn reach(&self) -> Reach {
        if self.node_routes.unwrap_or(true) { Reach::NodeRoutes } else { Reach::Routers }
    }

    /// `nodeRoutes` without `nodes` would be read and ignored: code 7.
    pub fn validate(&self) -> Result<(), Error> {
        match self.node_routes {
            Some(_) if !self.map.are_given() => {
                Err(Error::config("nodeRoutes", "given", "has no effect without nodes"))
            }
            _ => Ok(()),
        }
    }

    /// The network's node map, if it has one.
    pub fn network(&self, request: &Request) -> Result<Option<Network>, Error> {
        Network::open(request, &self.map, self.reach())
    }
}

/// How other nodes' Pods are reached, for GC and `--sync`: nothing but these keys is read, whatever else the configuration has become.
pub fn reach_by_node_routes(request: &Request) -> Result<Reach, Error> {
    request.config.read::<NodeRouteKeys>().map(|keys| keys.reach())
}

/// The MTU asked for by `mtu`, in bytes; 0 counts as not given.
pub fn mtu(configured: u32) -> Option<u32> {
    (configured != 0).then_some(configured)
}

/// Is `mtu` one that a link can have? Code 7 if not.
pub fn validate_mtu(configured: u32) -> Result<(), Error> {
    match mtu(configured) {
        Some(mtu) if !(68..=65535).contains(&mtu) => Err(Error::config("mtu", mtu, "an MTU is from 68 to 65535 bytes")),
        _ => Ok(()),
    }
}

/// The least MTU of a link that carries IPv6, in bytes (RFC 8200, section 5): below it the kernel takes IPv6 off the link.
pub const LEAST_FOR_IPV6: u32 = 1280;

/// Code 7 if a Pod with these addresses can't have that MTU.
pub fn validate_mtu_for(mtu: Option<u32>, ips: &[IpConfig]) -> Result<(), Error> {
    let ipv6 = ips.iter().find(|ip| ip.address.is_ipv6());
    match (mtu.filter(|mtu| *mtu < LEAST_FOR_IPV6), ipv6) {
        (Some(mtu), Some(ip)) => {
            let why = format!("IPv6 takes {LEAST_FOR_IPV6} bytes at least, and the Pod gets {}", ip.address);
            Err(Error::config("mtu", mtu, why))
        }
        _ => Ok(()),
    }
}
