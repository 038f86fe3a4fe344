//! The node map in a plugin's configuration, for the verbs and for `--sync`.
//!
//! A full pass over the map ends with a look at what decides beside podwire's objects: other routes that the kernel prefers, and
//! whether the underlay's links are up. ADD and GC warn of it, CHECK and `--sync` fail, STATUS fails or warns.

use std::net::IpAddr;

use cluster::{Followed, Network, Ways};
use ipnetwork::IpNetwork;
use kernel::kernel::changed;
use kernel::{Changes, Error as KernelError, Kernel};
use libcni::plugin::Operator;
use libcni::{Error, IpConfig, Request, code};
use nodes::Keys;

use crate::error::{of_cluster, told};
use crate::ipam::unavailable;
use crate::keys::NodeKeys;
use crate::restore;

/// The request's network with its map, of which only the text is read; `None` if the configuration has no `nodes`.
pub fn open<N: NodeKeys>(request: &Request, nodes: &N) -> Result<Option<Network>, Error> {
    let keys = nodes.map().open(&request.config)?;
    Ok(keys.map(|keys| Network::new(&request.config.name, keys, nodes.reach())))
}

/// The same for GC and `--sync`, which read nothing else of the configuration, whatever it has become.
fn network<N: NodeKeys>(request: &Request) -> Result<Option<Network>, Error> {
    match Keys::are_in(&request.config) {
        true => open(request, &request.config.read::<N>()?),
        false => Ok(None),
    }
}

/// ADD: brings the node to what the map says. What removed the ways to other nodes may have removed those to this node's
/// own Pods too, so they are looked at where the former were missing.
pub fn follow(network: &Network, kernel: &Kernel, masquerade: bool) -> Result<Followed, Error> {
    let followed = network.follow(kernel, masquerade).map_err(of_cluster)?;
    if followed.was_reconciled
        && let Err(error) = restore::and_log(kernel)
    {
        log::warn!("other Pods of this node may have lost routes or rules, and could not be looked at: {error}");
    }
    Ok(followed)
}

/// GC: brings the node to what the map says, if the configuration has one.
pub fn sync_if_any<N: NodeKeys>(request: &Request, kernel: &Kernel) -> Result<(), Error> {
    match network::<N>(request)? {
        Some(network) => {
            let (followed, _) = network.sync(kernel, false).map_err(of_cluster)?;
            warn(kernel, &followed, &[]);
            Ok(())
        }
        None => Ok(()),
    }
}

/// After a full pass of ADD or GC: says in the log why other nodes' Pods may not be reached.
pub(crate) fn warn(kernel: &Kernel, followed: &Followed, pod: &[IpConfig]) {
    let Some(ways) = &followed.ways else { return };
    let found = down(kernel, ways).and_then(|down| Ok([down, competing(kernel, ways, pod)?].concat()));
    match found {
        Ok(found) => found.iter().for_each(|words| log::warn!("{words}")),
        Err(error) => log::warn!("{error}"),
    }
}

/// CHECK: the same as faults.
pub(crate) fn faults(kernel: &Kernel, followed: &Followed, pod: &[IpConfig]) -> Vec<KernelError> {
    let Some(ways) = &followed.ways else { return Vec::new() };
    match down(kernel, ways).and_then(|down| Ok([down, competing(kernel, ways, pod)?].concat())) {
        Ok(found) => found.into_iter().map(changed).collect(),
        Err(error) => vec![error],
    }
}

/// How many competing routes are listed: where there are more, they have one reason.
const MOST_LISTED: usize = 10;

fn competing(kernel: &Kernel, ways: &Ways, pod: &[IpConfig]) -> kernel::Result<Vec<String>> {
    let pod: Vec<IpAddr> = pod.iter().map(|ip| ip.address.ip()).collect();
    let found = ways.competing(kernel, &pod)?;
    let mut words: Vec<String> = found.iter().take(MOST_LISTED).map(|route| route.words()).collect();
    if let Some(more @ 1..) = found.len().checked_sub(MOST_LISTED) {
        words.push(format!("{more} more routes compete with podwire's"));
    }
    Ok(words)
}

/// The underlay's links that are down.
fn down(kernel: &Kernel, ways: &Ways) -> kernel::Result<Vec<String>> {
    let links = ways.underlay(kernel)?;
    let down = links.iter().filter(|link| !link.up).map(|link| &link.name);
    Ok(down
        .map(|name| format!("interface {name:?}, which leads to the other nodes, is down: `ip link set {name} up`"))
        .collect())
}

/// STATUS: code 51 if the map can't be used, 50 if this node is not as the map and the configuration say. Returns this
/// node's Pod CIDRs.
pub fn status(network: &Network, kernel: &Kernel) -> Result<Vec<IpNetwork>, Error> {
    let map = network.map().map_err(|error| limited(of_cluster(error)))?;
    let ways = network.possible(kernel, &map).map_err(|error| unavailable(of_cluster(error)))?;
    competing(kernel, &ways, &[]).map_err(told)?.iter().for_each(|words| log::warn!("{words}"));
    up(kernel, &ways)?;
    Ok(ways.into_pod_cidrs())
}

/// Code 51 if a link of the underlay is down.
fn up(kernel: &Kernel, ways: &Ways) -> Result<(), Error> {
    let down = down(kernel, ways).map_err(told)?;
    if down.is_empty() { Ok(()) } else { Err(cut_off(down.join("; "))) }
}

/// A map that can't be used: running Pods may have lost other nodes already.
pub fn limited(error: Error) -> Error {
    cut_off(format!("{}: {}", error.msg, error.details))
}

fn cut_off(details: String) -> Error {
    Error::new(code::UNAVAILABLE_AND_LIMITED, "not available, and Pods may have lost other nodes", details)
}

/// `--sync`: what an operator runs, or a systemd path unit, when the map changed.
pub const fn operator<N: NodeKeys>() -> Operator {
    let help = "bring this node to what the list's node map says now, and restore what living Pods have lost";
    Operator { option: "--sync", help, run: sync_command::<N> }
}

/// Returns what it did, for people.
fn sync_command<N: NodeKeys>(request: &Request) -> Result<String, Error> {
    let name = &request.config.name;
    let kernel = Kernel::open().map_err(told)?;
    let (followed, changes) = match network::<N>(request)? {
        Some(network) => network.sync(&kernel, true).map_err(of_cluster)?,
        None => (Followed::default(), Changes::default()),
    };
    let restored = restore::what_is_lost(&kernel).map_err(told)?;
    let restored: String = restored.iter().map(|what| format!(", restored {what}")).collect();
    let done = format!("network {name:?}: {} set, {} removed{restored}", changes.set, changes.removed);
    if let Some(ways) = &followed.ways {
        require_ways(&kernel, ways)
            .map_err(|error| Error { details: format!("{} ({done})", error.details), ..error })?;
    }
    Ok(format!("{done}\n"))
}

/// Code 51 if the underlay is down, 104 if other routes lead elsewhere.
fn require_ways(kernel: &Kernel, ways: &Ways) -> Result<(), Error> {
    up(kernel, ways)?;
    let competing = competing(kernel, ways, &[]).map_err(told)?;
    if competing.is_empty() { Ok(()) } else { Err(told(KernelError::NotOurs(competing.join("; ")))) }
}
