//! A node map becomes routes, tunnels and neighbors in the kernel.
//!
//! [`reconcile`] brings this node to what a map says, and [`check`] looks whether it is there: a caller that has a map
//! calls them. A plugin has the map in its configuration and no daemon that watches it, so it goes through [`Network`]: ADD calls
//! [`Network::follow`], which reconciles only if the map, the configuration or the kernel changed since the last time. It
//! knows that from a digest that a witness in the kernel holds ([`witness`]): two questions to the kernel and one for each link, whatever the
//! number of nodes, and the map is not even parsed. GC and `--sync` look at everything.
//!
//! A process that changes something holds the network's lock (`lock.rs`).
//!
//! * `declaration.rs`: what should exist, as a plan, from the map and the node's links and addresses (`facts.rs`).
//! * `peers.rs`, `devices.rs`, `inside.rs`, `witness.rs`: the objects of that plan that only a cluster has.
//! * `ways.rs`, `competing.rs`: other programs' routes and links that decide too.
//! * `tag.rs`: how a network is named in the kernel.
//!
//! This crate knows nothing of CNI: it takes no request and no configuration.
#![warn(missing_docs)]

mod competing;
mod declaration;
mod devices;
mod error;
mod facts;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod inside;
mod lock;
mod network;
pub mod peers;
pub mod tag;
mod ways;
pub mod witness;

use ipnetwork::IpNetwork;
use kernel::{Changes, Kernel, Remedies};
use nodes::{Map, View};

pub use self::competing::Competing;
use self::declaration::Declaration;
pub use self::error::{Error, Result};
use self::facts::Facts;
use self::inside::Inside;
pub use self::network::Network;
use self::tag::NetworkTag;
pub use self::ways::Ways;
use self::witness::Witness;

/// The maker of our routes and neighbor entries (rtm_protocol, NDA_PROTOCOL), which `ip route` shows as `proto 112`: a
/// number that include/uapi/linux/rtnetlink.h gives to no other program.
pub const PROTOCOL: u8 = 112;

/// How Pods of other nodes are reached.
#[derive(Clone, Debug)]
pub enum Reach {
    /// By routes to the nodes, which are on one link with this one.
    NodeRoutes,
    /// By the underlay's own routers, which know every Pod CIDR.
    Routers,
    /// Through VXLAN.
    Overlay(Overlay),
}

/// The settings of an overlay.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// VXLAN network identifier, 1 to 16777215.
    pub vni: u32,
    /// UDP port.
    pub port: u16,
    /// The device's name, for an underlay of IPv4 and of IPv6.
    pub devices: [String; 2],
    /// MTU, in bytes; what fits the underlay if `None`.
    pub mtu: Option<u32>,
    /// The link that carries the tunnels; the one with the node's address if `None`.
    pub underlay_device: Option<String>,
    /// Route to nodes on the same link, and tunnel to the others?
    pub direct_routing: bool,
}

/// A map, and which of its nodes this machine is.
#[derive(Clone, Copy, Debug)]
pub struct Seat<'a> {
    /// The map.
    pub map: &'a Map,
    /// This node's name in the map; found by the machine's addresses if `None`.
    pub node_name: Option<&'a str>,
    /// The family over which nodes talk that have both.
    pub underlay_family: nodes::Family,
}

/// What [`reconcile`] does beside leading to the other nodes.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// Write what is inside of the network, for Pods that are masqueraded. Where it has been written before it is kept up
    /// to date in any case.
    pub masquerade: bool,
    /// Let VNI and port of an overlay's device change.
    pub renumber: bool,
}

/// What an attachment needs to know of its network.
#[derive(Clone, Debug, Default)]
pub struct Followed {
    /// What is inside, for masquerade; only if asked for.
    pub inside: Option<Inside>,
    /// The MTU that fits an overlay, in bytes.
    pub mtu: Option<u32>,
    /// This node's Pod CIDRs; empty if only the map could tell.
    pub pod_cidrs: Vec<IpNetwork>,
    /// Something was missing or had changed, so everything was looked at.
    pub was_reconciled: bool,
    /// What a full pass declared; none after a quick look.
    pub ways: Option<Ways>,
}

/// Brings this node to what the map says: devices, routes, neighbors, and what is not masqueraded. What exists already
/// is left as it is; stale objects of the network are removed. The caller holds the network's lock.
///
/// `witness` says which network, and vouches for the result.
fn reconcile_locked(
    kernel: &Kernel,
    witness: Witness,
    seat: Seat,
    reach: &Reach,
    how: How,
) -> Result<(Followed, Changes)> {
    let declaration = declare(kernel, witness.network, seat, reach)?;
    let masquerade = how.masquerade || inside::is_used(kernel, witness.network)?;
    let plan = declaration.plan(witness, masquerade, how.renumber);
    plan.possible(kernel)?;
    let done = plan.add(kernel)?;
    Ok((Followed { was_reconciled: true, ..followed(declaration, how.masquerade) }, done.changes))
}

/// Brings this node to what the map says: devices, routes, neighbors, and what is not masqueraded. What exists already
/// is left as it is; stale objects of the network are removed. What was changed is counted.
///
/// `network` is the tag of what leads to the network's other nodes ([`NetworkTag::of_cluster`]).
pub fn reconcile(
    kernel: &Kernel,
    network: NetworkTag,
    seat: Seat,
    reach: &Reach,
    how: How,
) -> Result<(Followed, Changes)> {
    let _lock = lock::Lock::take(network)?;
    // A digest of nothing: plugins that read the same map from a file look at everything once.
    reconcile_locked(kernel, Witness { network, digest: 0 }, seat, reach, how)
}

/// Is everything there that the map asks for, and nothing of the network's that it does not? Every fault is listed. What
/// is inside is left to the check of a Pod's masquerade.
pub fn check(
    kernel: &Kernel,
    network: NetworkTag,
    seat: Seat,
    reach: &Reach,
) -> Result<(Followed, Vec<kernel::Error>)> {
    let declaration = declare(kernel, network, seat, reach)?;
    let faults = declaration.plan(Witness { network, digest: 0 }, false, false).faults(kernel, REMEDIES);
    Ok((followed(declaration, true), faults))
}

/// What [`reconcile`] would change, in words; nothing is touched.
pub fn pending(kernel: &Kernel, network: NetworkTag, seat: Seat, reach: &Reach, how: How) -> Result<Vec<String>> {
    let declaration = declare(kernel, network, seat, reach)?;
    let masquerade = how.masquerade || inside::is_used(kernel, network)?;
    let plan = declaration.plan(Witness { network, digest: 0 }, masquerade, how.renumber);
    plan.possible(kernel)?;
    Ok(plan.pending(kernel)?)
}

/// What brings back what is missing or changed.
const REMEDIES: Remedies = {
    let by_sync = "--sync or the next GC restores it";
    Remedies { shared: by_sync, owned: by_sync }
};

/// Could this node be brought to what the map says? Nothing is touched.
pub fn possible(kernel: &Kernel, network: NetworkTag, seat: Seat, reach: &Reach) -> Result<Ways> {
    let declaration = declare(kernel, network, seat, reach)?;
    declaration.plan(Witness { network, digest: 0 }, false, false).possible(kernel)?;
    Ok(declaration.into_ways())
}

fn declare(kernel: &Kernel, network: NetworkTag, seat: Seat, reach: &Reach) -> Result<Declaration> {
    let facts = Facts::gather(kernel)?;
    let view = View::new(seat.map, seat.node_name, seat.underlay_family, &facts.machine())?;
    Declaration::new(view, reach, &facts, network)
}

fn followed(declaration: Declaration, masquerade: bool) -> Followed {
    Followed {
        inside: masquerade.then(|| declaration.all_inside()),
        mtu: declaration.mtu(),
        pod_cidrs: declaration.view.own.pod_cidrs.clone(),
        was_reconciled: false,
        ways: Some(declaration.into_ways()),
    }
}
