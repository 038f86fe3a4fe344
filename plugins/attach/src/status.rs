//! What STATUS, and a node's first ADD, say beside yes and no: to the log, for it keeps no Pod from being wired.
//!
//! Which ADD is the first one? A bridge of podwire's own tells by being new. A routed wire has nothing that all Pods share, nor has a
//! bridge that was there, and asking the kernel for other Pods would cost every ADD a message. So there is a file below
//! /run/podwire, named by the node's namespace and the network, that the first ADD makes.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

use cluster::inside::INET;
use cluster::tag::NetworkTag;
use kernel::fib;
use kernel::forward_policy::{self, Dropping};
use kernel::link::{self, Link, forwarding};
use kernel::sysctl::is_forwarding;
use kernel::{At, Kernel, Result};

use crate::record::namespace;

/// How the Pods of a network reach others, as far as a firewall is concerned.
#[derive(Clone, Debug, Default)]
pub struct Wires {
    /// Does the node route for them?
    pub routed: bool,
    /// The bridges that they are on.
    pub bridges: Vec<String>,
}

/// Says what on this node may keep packets of Pods from being forwarded.
pub fn warn_of_what_is_not_forwarded(kernel: &Kernel, wires: &Wires) {
    let warn = |found: Result<Vec<String>>| match found {
        Ok(found) => found.iter().for_each(|words| log::warn!("{words}")),
        Err(error) => log::debug!("{error}"),
    };
    warn(dropped(kernel, wires));
    if wires.routed {
        warn(links_that_do_not_forward(kernel, wires));
    }
}

/// Firewalls that drop what they forward. A later plugin in the chain may let Pods through, so it is no error.
fn dropped(kernel: &Kernel, wires: &Wires) -> Result<Vec<String>> {
    let dropping = forward_policy::dropping(kernel, INET.name)?;
    let mut found: Vec<String> = dropping.iter().filter_map(|chain| words(chain, wires)).collect();
    if wires.routed {
        found.extend(forward_policy::legacy_filter().into_iter().map(|program| {
            format!(
                "this node has rules of {program}, which can't be read over netlink: `{program} -S FORWARD` shows whether they drop \
                 what Pods send (its policy, and its last rule)"
            )
        }));
    }
    Ok(found)
}

/// None if no packet of these Pods meets the chain.
fn words(dropping: &Dropping, wires: &Wires) -> Option<String> {
    let chain = &dropping.chain;
    let is_routed = wires.routed && dropping.sees_routes();
    let is_bridged = !wires.bridges.is_empty() && dropping.sees_bridges();
    let lost = match (is_routed, is_bridged) {
        (true, false) => "reach nothing beyond this node",
        (true, true) => {
            "reach nothing beyond this node, nor each other on one bridge (net.bridge.bridge-nf-call-iptables is 1),"
        }
        (false, true) if dropping.sees_routes() => {
            "do not reach each other on one bridge (net.bridge.bridge-nf-call-iptables is 1)"
        }
        (false, true) => "do not reach each other on one bridge",
        (false, false) => return None,
    };
    let program = match dropping.family() {
        "ip" => "iptables",
        _ => "ip6tables",
    };
    let is_iptables = chain.table == "filter" && chain.name == "FORWARD" && matches!(dropping.family(), "ip" | "ip6");
    if is_iptables && !dropping.by_rule {
        return Some(format!(
            "the FORWARD chain of {program} has a policy of DROP, which nothing here can override: Pods {lost} unless rules \
             let them; chain the plugin \"firewall\" after this one, or run {program} -P FORWARD ACCEPT"
        ));
    }
    let name = format!("{} {} {}", dropping.family(), chain.table, chain.name);
    let how = if dropping.by_rule { "has a rule that drops or rejects everything" } else { "has policy drop" };
    let advice = match chain.table.as_str() {
        "firewalld" => {
            "`firewall-cmd --zone=trusted --add-source=SUBNET` with the Pods' subnet lets them (and the same with \
                        --permanent)"
                .to_owned()
        }
        _ => format!(
            "`nft insert rule {name} {} SUBNET accept`, and the same with daddr, let the Pods' subnet",
            address(dropping)
        ),
    };
    Some(format!(
        "nftables chain {name:?} {how}, which nothing here can override: Pods {lost} unless rules before let them; {advice}"
    ))
}

fn address(dropping: &Dropping) -> &'static str {
    if dropping.family() == "ip6" { "ip6 saddr" } else { "ip saddr" }
}

/// Where Pods' packets and the answers to them come in: the bridges, and the links of default routes. A node that does not
/// forward at all is another matter.
fn links_that_do_not_forward(kernel: &Kernel, wires: &Wires) -> Result<Vec<String>> {
    if !is_forwarding(true) {
        return Ok(Vec::new());
    }
    let defaults = fib::list(kernel, true, &|entry| entry.dst.prefix() == 0 && entry.table == fib::MAIN)?;
    let uplinks: BTreeSet<u32> = defaults.iter().flat_map(|route| &route.hops).filter_map(|hop| hop.link).collect();
    let links = link::all(kernel, At::Host)?;
    let is_meant = |link: &&Link| uplinks.contains(&link.index) || wires.bridges.contains(&link.name);
    let off = links.iter().filter(is_meant).filter(|link| link.forwards == Some(false));
    Ok(off.map(|link| forwarding::is_off(&link.name)).collect())
}

/// Is this the first ADD of the network in this namespace since the machine booted? Where no file can be made, none is.
pub(crate) fn is_first(network: NetworkTag) -> bool {
    const DIRECTORY: &str = "/run/podwire/first";
    let Ok(namespace) = namespace() else { return false };
    let path = Path::new(DIRECTORY).join(format!("{namespace}-{network}"));
    let make = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
    match make() {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(DIRECTORY);
            made.and_then(|()| make()).is_ok()
        }
        other => other.is_ok(),
    }
}
