//! Configuration keys that several plugins have with one meaning: what `--help` says of them, and what they ask for.

use libcni::{CniResult, Error, IpConfig, Key, Request, code};
use serde::Deserialize;

use cluster::Reach;

/// `dns`.
pub const DNS: Key = Key { name: "dns", default: "what IPAM says", help: "name resolution, handed to the runtime" };

/// `mtu` of a wire.
pub const MTU: Key = Key { name: "mtu", default: "the kernel's, 1500", help: "MTU of the Pod's interface, in bytes" };

/// `ipMasqBackend`.
pub const MASQUERADE_BACKEND: Key =
    Key { name: "ipMasqBackend", default: "\"nftables\"", help: "how; nothing else is supported" };

/// Is `ipMasqBackend` one that is supported? Code 7 if not.
pub fn validate_masquerade_backend(backend: Option<&str>) -> Result<(), Error> {
    match backend {
        None | Some("" | "nftables") => Ok(()),
        Some("iptables") => Err(Error::config(
            "ipMasqBackend",
            "\"iptables\"",
            "this plugin masquerades with nftables and executes no iptables; remove the key, or write \"nftables\"",
        )),
        Some(other) => Err(Error::config("ipMasqBackend", format!("{other:?}"), "the only one is \"nftables\"")),
    }
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

/// `defaultRoute` of a routed wire.
pub const DEFAULT_ROUTE: Key = Key {
    name: "defaultRoute",
    default: "true",
    help: "a default route to the node, unless IPAM gives one; false: only the routes that IPAM gives",
};

/// `ipam` of a wire; `default` says what there is without it.
pub const fn ipam(default: &'static str) -> Key {
    Key { name: "ipam", default, help: "the IPAM plugin and its keys: {\"type\": \"host-local\", …}" }
}

/// `nodes`, where a network may do without.
pub const NODES: Key = Key {
    name: "nodes",
    default: "none: one node",
    help: "the node map: a list, or the path of a file with one; ranges of host-local come from it",
};

/// `nodeName`.
pub const NODE_NAME: Key =
    Key { name: "nodeName", default: "by the machine's addresses", help: "which node of the map this is" };

/// `nodeRoutes`.
pub const NODE_ROUTES: Key =
    Key { name: "nodeRoutes", default: "true", help: "routes to other nodes' Pod CIDRs; false: routers have them" };

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

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeRoutes {
    node_routes: Option<bool>,
}

/// How other nodes' Pods are reached, as `nodeRoutes` says. Nothing else is read: GC has to know it whatever else the
/// configuration has become.
pub fn reach_by_node_routes(request: &Request) -> Result<Reach, Error> {
    let NodeRoutes { node_routes } = request.config.parse()?;
    Ok(if node_routes.unwrap_or(true) { Reach::NodeRoutes } else { Reach::Routers })
}

/// `nodeRoutes` without `nodes` would be read and ignored: code 7.
pub fn validate_node_routes(request: &Request) -> Result<(), Error> {
    let NodeRoutes { node_routes } = request.config.parse()?;
    if node_routes.is_some() && !nodes::Keys::are_in(&request.config) {
        return Err(Error::config("nodeRoutes", "given", "has no effect without \"nodes\""));
    }
    Ok(())
}
