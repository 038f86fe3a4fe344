//! The node map in a plugin's configuration, for the verbs and for `--sync`.
//!
//! A full pass over the map ends with a look at what decides beside podwire's objects: other routes that the kernel prefers, and
//! whether the underlay's links are up. ADD and GC warn of it, CHECK and `--sync` fail, STATUS fails or warns.

use std::collections::HashSet;
use std::net::IpAddr;

use cluster::tag::NetworkTag;
use cluster::{Followed, Network, Ways};
use ipnetwork::IpNetwork;
use kernel::kernel::changed;
use kernel::sysctl::{Forwarding, is_forwarding};
use kernel::{Changes, Error as KernelError, Kernel, Plan};
use libcni::plugin::Operator;
use libcni::{Error, IpConfig, Request, code};
use nodes::Keys;

use crate::error::{of_cluster, told};
use crate::ipam::unavailable;
use crate::keys::NodeKeys;
use crate::restore::{self, DryRun};
use crate::wire::WirePlugin;

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
    match in_the_way(kernel, ways, pod) {
        Ok(found) => found.iter().for_each(|words| log::warn!("{words}")),
        Err(error) => log::warn!("{error}"),
    }
}

/// CHECK: the same as faults.
pub(crate) fn faults(kernel: &Kernel, followed: &Followed, pod: &[IpConfig]) -> Vec<KernelError> {
    let Some(ways) = &followed.ways else { return Vec::new() };
    match in_the_way(kernel, ways, pod) {
        Ok(found) => found.into_iter().map(changed).collect(),
        Err(error) => vec![error],
    }
}

fn in_the_way(kernel: &Kernel, ways: &Ways, pod: &[IpConfig]) -> kernel::Result<Vec<String>> {
    Ok([down(kernel, ways)?, competing(kernel, ways, pod)?].concat())
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
    for device in network.missing_devices(kernel).map_err(told)? {
        log::warn!(
            "device {device:?} of the overlay is missing, so Pods reach no other node: the next ADD or --sync makes it"
        );
    }
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
pub const fn operator<P: WirePlugin>() -> Operator {
    let help = "bring this node to what the list's node map says now, and restore what living Pods have lost";
    Operator { option: "--sync", help, run: sync_command::<P> }
}

/// Returns what it did, for people; with `dry_run` what it would do.
fn sync_command<P: WirePlugin>(request: &Request, dry_run: bool) -> Result<String, Error> {
    let kernel = Kernel::open().map_err(told)?;
    let network = network::<P::Nodes>(request)?;
    match dry_run {
        true => rehearse::<P>(request, &kernel, network.as_ref()),
        false => sync::<P>(request, &kernel, network.as_ref()),
    }
}

fn sync<P: WirePlugin>(request: &Request, kernel: &Kernel, network: Option<&Network>) -> Result<String, Error> {
    let mut changes = Changes::default();
    let forwarding = forwarding::<P>(request, kernel)?;
    changes += forwarding.add(kernel).map_err(told)?.changes;
    let mut ways = None;
    if let Some(network) = network {
        // An underlay that is down takes no routes: that says more than the kernel's error.
        let synced = network.sync(kernel, true).or_else(|error| {
            match network.map().and_then(|map| network.possible(kernel, &map)) {
                Ok(ways) => up(kernel, &ways).and(Err(of_cluster(error))),
                Err(_) => Err(of_cluster(error)),
            }
        });
        let (followed, made) = synced?;
        changes += made;
        ways = followed.ways;
    }
    let restored = restore::what_is_lost(kernel, DryRun::No).map_err(told)?;
    let restored: String = restored.iter().map(|what| format!(", restored {what}")).collect();
    let done = format!("network {:?}: {} set, {} removed{restored}", request.config.name, changes.set, changes.removed);
    if let Some(ways) = &ways {
        require_ways(kernel, ways)
            .map_err(|error| Error { details: format!("{} ({done})", error.details), ..error })?;
    }
    Ok(format!("{done}\n"))
}

fn rehearse<P: WirePlugin>(request: &Request, kernel: &Kernel, network: Option<&Network>) -> Result<String, Error> {
    let mut all = forwarding::<P>(request, kernel)?.pending(kernel).map_err(told)?;
    if let Some(network) = network {
        all.extend(network.pending(kernel, true).map_err(of_cluster)?);
    }
    let lost = restore::what_is_lost(kernel, DryRun::Yes).map_err(told)?;
    all.extend(lost.iter().map(|what| format!("{what} missing")));
    // The network needs forwarding too.
    let mut said = HashSet::new();
    all.retain(|words| said.insert(words.clone()));
    let name = &request.config.name;
    if all.is_empty() {
        return Ok(format!("network {name:?}: nothing would change\n"));
    }
    let lines: String = all.iter().map(|words| format!("  {words}\n")).collect();
    Ok(format!("network {name:?}: this would be corrected:\n{lines}"))
}

/// Forwarding for the families that living Pods have, if the node routes for them.
fn forwarding<P: WirePlugin>(request: &Request, kernel: &Kernel) -> Result<Plan, Error> {
    let config: P::Config = request.config.read()?;
    let mut plan = Plan::default();
    if P::routes(&config) {
        let [ipv4, ipv6] = families_in_use::<P>(request, kernel, &config)?;
        plan.shared(Forwarding { ipv4, ipv6, advice: "" });
    }
    Ok(plan)
}

fn families_in_use<P: WirePlugin>(request: &Request, kernel: &Kernel, config: &P::Config) -> Result<[bool; 2], Error> {
    restore::families(kernel, NetworkTag::new(&request.config.name), &P::listed(config)).map_err(told)
}

/// STATUS: warns if the node does not forward what living Pods send.
pub(crate) fn warn_of_no_forwarding<P: WirePlugin>(
    request: &Request,
    kernel: &Kernel,
    config: &P::Config,
) -> Result<(), Error> {
    let [ipv4, ipv6] = families_in_use::<P>(request, kernel, config)?;
    for (is_used, is_ipv4, key) in [(ipv4, true, "net.ipv4.ip_forward"), (ipv6, false, "net.ipv6.conf.all.forwarding")]
    {
        if is_used && !is_forwarding(is_ipv4) {
            let plugin = P::ABOUT.name;
            log::warn!(
                "{key} is 0, so Pods reach nothing beyond this node: the next ADD sets it, and `{plugin} --sync` does"
            );
        }
    }
    Ok(())
}

/// Code 51 if the underlay is down, 104 if other routes lead elsewhere.
fn require_ways(kernel: &Kernel, ways: &Ways) -> Result<(), Error> {
    up(kernel, ways)?;
    let competing = competing(kernel, ways, &[]).map_err(told)?;
    if competing.is_empty() { Ok(()) } else { Err(told(KernelError::NotOurs(competing.join("; ")))) }
}
