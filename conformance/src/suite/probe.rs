//! What is under test? Asked of the plugin itself, before any trial.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use libcni::Version;

use super::attach::Pod;
use super::clause::{Kind, Step};
use super::config::Network;
use super::world::World;

/// What a look at the plugin tells.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Probe {
    /// The versions that every plugin under test claims; `None` if VERSION has no answer that reads.
    pub claims: Option<Vec<Version>>,
    /// What it looks like.
    pub kind: Kind,
    /// Did it come to no end?
    pub hangs: bool,
}

/// What can be known without executing anything: a chain, or an IPAM plugin's own configuration.
fn kind_by_configuration(network: &Network) -> Option<Kind> {
    if network.is_chain() {
        return Some(Kind::Chain);
    }
    let plugin = network.plugin_type(network.first);
    let own = network.plugins[network.first].get("ipam").is_some_and(|ipam| ipam["type"] == plugin);
    own.then_some(Kind::Ipam)
}

/// The versions that every plugin under test claims.
pub fn claims(w: &World) -> Step<Option<Vec<Version>>> {
    let network = &w.job.network;
    let mut common = Version::ALL.to_vec();
    for index in network.first..network.plugins.len() {
        let call = w.network_call(index, "VERSION")?.input(json!({"cniVersion": w.job.version}).to_string());
        let reply = w.execute(&call)?;
        let list =
            reply.document().ok().filter(|_| reply.success()).map(|document| document["supportedVersions"].clone());
        let Some(Value::Array(list)) = list else { return Ok(None) };
        common.retain(|version| list.iter().any(|claimed| claimed == version.as_str()));
    }
    Ok((!common.is_empty()).then_some(common))
}

/// What the plugin under test does with an ADD.
///
/// It makes eth0: an interface plugin. It sets `lo` up: a loopback plugin. It prints addresses and makes nothing: an
/// IPAM plugin. It wants a first plugin's result: a chained one.
pub fn kind(w: &World) -> Step<Kind> {
    let network = &w.job.network;
    if let Some(kind) = kind_by_configuration(network) {
        return Ok(kind);
    }
    if network.first > 0 {
        return Ok(Kind::Chained);
    }
    let mut pod = w.pod()?;
    let reply = w.execute(&w.call("ADD", &mut pod)?)?;
    if reply.success() {
        let has = |name: &str, up: bool| -> Step<bool> {
            Ok(w.link(Some(pod.netns_name()), name)?.is_some_and(|link| !up || link.up))
        };
        let document = reply.document().unwrap_or_default();
        let addressed = ["ips", "ip4", "ip6"]
            .iter()
            .any(|key| document.get(key).is_some_and(|value| !value.is_null() && *value != json!([])));
        return Ok(match (has("eth0", false)?, has("lo", true)?) {
            (true, _) => Kind::Interface,
            (_, true) => Kind::Loopback,
            _ if addressed => Kind::Ipam,
            _ => Kind::Chained,
        });
    }
    if chains(w)? {
        return Ok(Kind::Chained);
    }
    let lo: Pod = w.pod()?.second("lo");
    let reply = w.execute(&w.call("ADD", &mut lo.clone())?)?;
    let up = reply.success() && w.link(Some(lo.netns_name()), "lo")?.is_some_and(|link| link.up);
    Ok(if up { Kind::Loopback } else { Kind::Interface })
}

/// Does an ADD succeed onto a first plugin's result?
fn chains(w: &World) -> Step<bool> {
    let mut pod = w.pod()?;
    let base = w.make_base(&pod)?;
    let call = w.call("ADD", &mut pod)?.edit(|config| config["prevResult"] = base);
    Ok(w.execute(&call)?.success())
}
