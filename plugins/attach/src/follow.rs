//! The node map in a plugin's configuration, for the verbs and for `--sync`.

use cluster::{Network, Reach};
use kernel::Kernel;
use libcni::plugin::Operator;
use libcni::{Error, Request, code};
use nodes::{Keys, MapKeys};

use crate::error::{of_cluster, told};
use crate::ipam::unavailable;
use crate::restore;

/// The request's network with its map, of which only the text is read; `None` if the configuration has no `nodes`.
pub fn open(request: &Request, (map, reach): (&MapKeys, Reach)) -> Result<Option<Network>, Error> {
    Ok(map.open(&request.config)?.map(|keys| Network::new(&request.config.name, keys, reach)))
}

/// The same for GC and `--sync`, which read nothing else of the configuration.
fn network(request: &Request, reach: ReachOf) -> Result<Option<Network>, Error> {
    let Some(keys) = Keys::read(&request.config)? else { return Ok(None) };
    Ok(Some(Network::new(&request.config.name, keys, reach(request)?)))
}

/// How a plugin's configuration says that other nodes are reached. It reads nothing else: GC has to know it whatever else
/// the configuration has become.
pub type ReachOf = fn(&Request) -> Result<Reach, Error>;

/// GC: brings the node to what the map says, if the configuration has one.
pub fn sync_if_any(request: &Request, reach: ReachOf, kernel: &Kernel) -> Result<(), Error> {
    match network(request, reach)? {
        Some(network) => network.sync(kernel, false).map(drop).map_err(of_cluster),
        None => Ok(()),
    }
}

/// STATUS: code 51 if the map can't be used, 50 if this node is not as the map and the configuration say.
pub fn status(network: &Network, kernel: &Kernel) -> Result<(), Error> {
    let map = network.map().map_err(|error| limited(of_cluster(error)))?;
    network.possible(kernel, &map).map_err(|error| unavailable(of_cluster(error)))
}

/// A map that can't be used: running Pods may have lost other nodes already.
pub fn limited(error: Error) -> Error {
    let details = format!("{}: {}", error.msg, error.details);
    Error::new(code::UNAVAILABLE_AND_LIMITED, "not available, and Pods may have lost other nodes", details)
}

/// `--sync`: `run` is [`sync_command`], with how to read the plugin's configuration.
pub const fn operator(run: fn(&Request) -> Result<String, Error>) -> Operator {
    Operator { option: "--sync", help: "bring this node to what the list's node map says now; no Pod is touched", run }
}

/// `--sync`: what an operator runs, or a systemd path unit, when the map changed. Returns what it did, for people.
pub fn sync_command(request: &Request, reach: ReachOf) -> Result<String, Error> {
    let name = &request.config.name;
    let Some(network) = network(request, reach)? else {
        return Err(Error::config("nodes", "missing", format!("network {name:?} has no node map to follow")));
    };
    let kernel = Kernel::open().map_err(told)?;
    let changes = network.sync(&kernel, true).map_err(of_cluster)?;
    let restored = restore::what_is_lost(&kernel).map_err(told)?;
    let restored: String = restored.iter().map(|what| format!(", restored {what}")).collect();
    Ok(format!("network {name:?}: {} set, {} removed{restored}\n", changes.set, changes.removed))
}
