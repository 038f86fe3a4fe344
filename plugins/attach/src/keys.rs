//! Groups of configuration keys that several plugins have with one meaning, and what they ask for.

use cluster::Reach;
use libcni::keys::{At, KeyType, Shape, Shaped};
use libcni::{CniResult, Configuration, Dns, Error, IpConfig, Request, code};
use nodes::MapKeys;
use serde_json::Value;

use crate::mac::MacKeys;

/// The keys of every plugin that wires a Pod.
#[derive(Debug, Configuration)]
pub struct WireKeys {
    /// The IPAM plugin and its keys: {"type": "host-local", …}.
    #[key(name = "ipam")]
    _ipam: Section,
    /// Name resolution, handed to the runtime.
    #[key(shown = "what IPAM says")]
    pub dns: DnsKey,
    /// `args.cni.mac` and `runtimeConfig.mac`.
    #[key(flatten)]
    pub mac: MacKeys,
}

/// `dns`: name resolution that takes the place of what IPAM says. As in the reference, any list that is given takes its
/// place, also an empty one.
#[derive(Debug, Default)]
pub struct DnsKey {
    dns: Dns,
    is_given: bool,
}

impl DnsKey {
    /// What the configuration says, or else `from_ipam`.
    pub fn or(&self, from_ipam: Dns) -> Dns {
        if self.is_given { self.dns.clone() } else { from_ipam }
    }
}

impl Shaped for DnsKey {
    fn shape() -> Shape {
        Dns::shape()
    }
}

impl KeyType for DnsKey {
    fn read(value: &Value, at: &At<'_>) -> Result<Self, Error> {
        let dns = Dns::read(&without_nulls(value), at)?;
        let has_list = |name: &str| value.get(name).is_some_and(Value::is_array);
        let is_given = !dns.domain.is_empty() || ["nameservers", "search", "options"].into_iter().any(has_list);
        Ok(DnsKey { dns, is_given })
    }
}

/// As Go reads it, a null in an object is like no value.
fn without_nulls(value: &Value) -> Value {
    match value {
        Value::Object(object) => {
            object.iter().filter(|(_, value)| !value.is_null()).map(|(k, v)| (k.clone(), v.clone())).collect()
        }
        other => other.clone(),
    }
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

/// The keys of a network of many nodes: the map, and how its nodes are reached.
pub trait NodeKeys: Configuration {
    /// The map.
    fn map(&self) -> &MapKeys;

    /// How other nodes' Pods are reached.
    fn reach(&self) -> Reach;
}

/// The keys of a network whose nodes route to each other's Pods: those of the node map, and `nodeRoutes`.
#[derive(Debug, Configuration)]
pub struct NodeRouteKeys {
    /// `nodes`, `nodeName`.
    #[key(flatten)]
    map: MapKeys,
    /// Routes to other nodes' Pod CIDRs; false: routers have them.
    #[key(shown = "true")]
    node_routes: Option<bool>,
}

impl NodeKeys for NodeRouteKeys {
    fn map(&self) -> &MapKeys {
        &self.map
    }

    fn reach(&self) -> Reach {
        if self.node_routes.unwrap_or(true) { Reach::NodeRoutes } else { Reach::Routers }
    }
}

impl NodeRouteKeys {
    /// `nodeRoutes` without `nodes` would be read and ignored: code 7.
    pub fn validate(&self) -> Result<(), Error> {
        match self.node_routes {
            Some(_) if !self.map.are_given() => {
                Err(Error::config("nodeRoutes", "given", "has no effect without \"nodes\""))
            }
            _ => Ok(()),
        }
    }
}

/// The keys of masquerade.
#[derive(Debug, Configuration)]
pub struct MasqueradeKeys {
    /// Masquerade what Pods send beyond their subnet or cluster.
    pub ip_masq: bool,
    /// Accepted as the reference has it; podwire always uses nftables.
    #[key(shown = "\"nftables\"")]
    ip_masq_backend: Option<String>,
}

impl MasqueradeKeys {
    /// Is `ipMasqBackend` one that exists? Code 7 if not.
    pub fn validate(&self) -> Result<(), Error> {
        match self.ip_masq_backend.as_deref() {
            None | Some("" | "nftables") => Ok(()),
            // Configurations that were written for the reference plugins have it: the effect is the same.
            Some("iptables") => {
                log::warn!(
                    "key \"ipMasqBackend\" is \"iptables\", but podwire masquerades with nftables: remove the key"
                );
                Ok(())
            }
            Some(other) => Err(Error::config(
                "ipMasqBackend",
                format!("{other:?}"),
                "either \"nftables\" or \"iptables\", and podwire uses nftables for both",
            )),
        }
    }
}

/// The key of a routed wire that can do without a default route.
#[derive(Debug, Configuration)]
pub struct DefaultRouteKey {
    /// A default route to the node, unless IPAM gives one; false: only the routes that IPAM gives.
    #[key(name = "defaultRoute", default = true)]
    pub wanted: bool,
}

/// Code 7 without an IPAM plugin; `why` says what the plugin does with addresses.
pub fn require_ipam(request: &Request, why: &str) -> Result<(), Error> {
    match request.config.ipam_type() {
        Some(_) => Ok(()),
        None => {
            let why = format!("{why}, and needs an IPAM plugin that gives them: host-local, for example");
            Err(Error::config("ipam.type", "missing", why))
        }
    }
}

/// Code 102 if IPAM gave no address to a wire that is made of addresses.
pub fn require_addresses(from_ipam: &CniResult) -> Result<(), Error> {
    match from_ipam.ips.is_empty() {
        true => Err(Error::new(code::PLUGIN_FAILED, "delegate failed", "IPAM gave no address")),
        false => Ok(()),
    }
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
