//! What the kernel says: the interfaces, addresses and routes of a namespace, asked of iproute2.

use std::net::IpAddr;

use libcni::ipnetwork::IpNetwork;
use serde_json::Value;

use super::clause::{Step, Stop};
use super::world::World;

/// An interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its name.
    pub name: String,
    /// Hardware address.
    pub mac: String,
    /// Bytes.
    pub mtu: u64,
    /// Administratively up?
    pub up: bool,
    /// `veth`, `bridge`, …; empty if the kernel gives none.
    pub kind: String,
    /// The bridge or the like it is enslaved to.
    pub master: Option<String>,
    /// Addresses with their prefix lengths.
    pub addresses: Vec<IpNetwork>,
}

/// A route of a table, unicast ones only.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// Destination.
    pub dst: IpNetwork,
    /// Next hop.
    pub gateway: Option<IpAddr>,
    /// Interface.
    pub device: String,
    /// The kernel made it, for an address.
    pub by_kernel: bool,
    /// Routing table: 254 is the main one.
    pub table: u64,
    /// Priority.
    pub metric: u64,
    /// Path MTU.
    pub mtu: Option<u64>,
    /// The segment size that is advertised.
    pub advmss: Option<u64>,
    /// 0 global, 253 link, 254 host.
    pub scope: u64,
}

impl World {
    /// The interfaces of a namespace by name, or of the node.
    pub fn links(&self, netns: Option<&str>) -> Step<Vec<Link>> {
        let list = self.ip(netns, "-d addr show")?;
        Ok(list.iter().filter(|link| !link["ifname"].is_null()).map(link).collect())
    }

    /// One interface.
    pub fn link(&self, netns: Option<&str>, name: &str) -> Step<Option<Link>> {
        Ok(self.links(netns)?.into_iter().find(|link| link.name == name))
    }

    /// The unicast routes of all tables, without multicast and link-local ones.
    pub fn routes(&self, netns: Option<&str>) -> Step<Vec<Route>> {
        let mut routes = Vec::new();
        for (family, all) in [("-4", "0.0.0.0/0"), ("-6", "::/0")] {
            let list = self.ip(netns, &format!("-d {family} route show table all"))?;
            routes.extend(list.iter().filter_map(|value| route(value, all)));
        }
        Ok(routes)
    }

    fn ip(&self, netns: Option<&str>, arguments: &str) -> Step<Vec<Value>> {
        let namespace = netns.map(|name| format!("-n {name} ")).unwrap_or_default();
        let text = self.sh(None, &format!("ip {namespace}-N -j {arguments}"))?;
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        let value: Value =
            serde_json::from_str(&text).map_err(|error| Stop::Suite(format!("ip -j {arguments}: {error}")))?;
        Ok(value.as_array().cloned().unwrap_or_default())
    }
}

fn link(value: &Value) -> Link {
    let text = |key: &str| value[key].as_str().unwrap_or_default().to_owned();
    let addresses = value["addr_info"].as_array().into_iter().flatten().filter_map(|address| {
        let ip: IpAddr = address["local"].as_str()?.parse().ok()?;
        IpNetwork::new(ip, address["prefixlen"].as_u64()? as u8).ok()
    });
    Link {
        name: text("ifname"),
        mac: text("address"),
        mtu: value["mtu"].as_u64().unwrap_or(0),
        up: value["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "UP")),
        kind: value["linkinfo"]["info_kind"].as_str().unwrap_or_default().to_owned(),
        master: value["master"].as_str().map(str::to_owned),
        addresses: addresses.collect(),
    }
}

fn route(value: &Value, all: &str) -> Option<Route> {
    let unicast = value.get("type").is_none_or(|kind| kind == "1" || kind == "unicast");
    let dst = value["dst"].as_str().filter(|_| unicast)?;
    let dst: IpNetwork = if dst == "default" { all } else { dst }.parse().ok()?;
    let link_local = |ip: IpAddr| matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local() || ip.is_multicast());
    let number =
        |text: &Value, default| text.as_str().and_then(|text| text.parse().ok()).or(text.as_u64()).unwrap_or(default);
    let metric = value["metrics"].get(0);
    (!link_local(dst.ip())).then(|| Route {
        dst,
        gateway: gateway(value),
        device: value["dev"].as_str().unwrap_or_default().to_owned(),
        by_kernel: number(&value["protocol"], 3) == 2,
        table: number(&value["table"], 254),
        metric: value["metric"].as_u64().unwrap_or(0),
        mtu: metric.and_then(|metric| metric["mtu"].as_u64()),
        advmss: metric.and_then(|metric| metric["advmss"].as_u64()),
        scope: number(&value["scope"], 0),
    })
}

/// The next hop; one of the other family stands in `via`.
fn gateway(value: &Value) -> Option<IpAddr> {
    value["gateway"].as_str().or(value["via"]["host"].as_str())?.parse().ok()
}
