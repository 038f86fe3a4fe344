//! The node map in a plugin's configuration, for the verbs and for `--sync`.

use cluster::{Followed, Network};
use ipnetwork::IpNetwork;
use kernel::{Changes, Kernel};
use libcni::plugin::Operator;
use libcni::{Error, Request, code};
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
        Some(network) => network.sync(kernel, false).map(drop).map_err(of_cluster),
        None => Ok(()),
    }
}

/// STATUS: code 51 if the map can't be used, 50 if this node is not as the map and the configuration say. Returns this
/// node's Pod CIDRs.
pub fn status(network: &Network, kernel: &Kernel) -> Result<Vec<IpNetwork>, Error> {
    let map = network.map().map_err(|error| limited(of_cluster(error)))?;
    network.possible(kernel, &map).map_err(|error| unavailable(of_cluster(error)))
}

/// A map that can't be used: running Pods may have lost other nodes already.
pub fn limited(error: Error) -> Error {
    let details = format!("{}: {}", error.msg, error.details);
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
    let changes = match network::<N>(request)? {
        Some(network) => network.sync(&kernel, true).map_err(of_cluster)?,
        None => Changes::default(),
    };
    let restored = restore::what_is_lost(&kernel).map_err(told)?;
    let restored: String = restored.iter().map(|what| format!(", restored {what}")).collect();
    Ok(format!("network {name:?}: {} set, {} removed{restored}\n", changes.set, changes.removed))
}
