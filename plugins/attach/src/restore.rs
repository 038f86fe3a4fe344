//! What a new table has to hold: the elements of every attachment that lives.
//!
//! The process that makes a table anew (the first Pod's ADD, or the first after nftables was flushed) restores what all
//! living attachments owned in the old one, by the labels of their wires. Suppose one of them gets its DEL between the look
//! at its label and the adding of its elements: those would be left for good. So a DEL removes the wire, then waits for
//! restorations that may have seen it ([`wait`]), and then removes the elements, also those that it had removed before.
//!
//! The restoring process holds a lock on the node's network namespace itself (flock(2) of /proc/thread-self/ns/net): there
//! is one for each node, and the kernel frees it with its holder. Nothing waits for the lock for long. Going on without it
//! may leave an element behind; waiting for a holder that never frees it would keep every Pod from being removed.

use std::fs::File;
use std::io::ErrorKind;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use cluster::tag::NetworkTag;
use fs2::FileExt;
use kernel::link::{self, Link, forwarding};
use kernel::sysctl::is_forwarding;
use kernel::{At, Error, Kernel, Result, address, nft};

use crate::kinds::podroutes::PodRoutes;
use crate::kinds::{KINDS, masquerade};
use crate::label::Label;

/// How long the lock is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns when every restoration that is under way is done. One that begins later sees no wire that is gone by now.
pub fn wait() -> Result<()> {
    lock(&FileExt::try_lock_shared).map(drop)
}

/// Adds, with `add`, what `object` makes of each living attachment's label.
pub(crate) fn elements<O>(
    kernel: &Kernel,
    object: &dyn Fn(&Label) -> Option<O>,
    add: &dyn Fn(&O) -> Result<()>,
) -> Result<()> {
    let _lock = lock(&FileExt::try_lock_exclusive)?;
    // One by one: those that another process has restored already exist.
    living(kernel)?.iter().filter_map(object).try_for_each(|one| nft::accept_faster(add(&one)))
}

/// Restores what living attachments have and have lost: their ends on the node that are down or do not forward, and every kind of
/// object that was lost as a whole. Returns what was restored, in words: `masquerade of 3 Pods`.
pub fn what_is_lost(kernel: &Kernel, dry: DryRun) -> Result<Vec<String>> {
    let wires = wires(kernel)?;
    let living: Vec<Label> = wires.iter().map(|(_, label)| label.clone()).collect();
    let mut restored = Vec::new();
    let mut restore = |name: &str, count: usize, restore: &dyn Fn() -> Result<()>| {
        if count > 0 && dry == DryRun::No {
            restore()?;
        }
        if count > 0 {
            restored.push(format!("{name} of {count} {}", if count == 1 { "Pod" } else { "Pods" }));
        }
        Ok(())
    };
    // Before the routes, which need them.
    let broken: Vec<_> = wires.iter().filter(|wire| is_broken(wire)).collect();
    restore("host ends", broken.len(), &|| broken.iter().try_for_each(|wire| mend(kernel, wire)))?;
    for kind in KINDS {
        match kind.lost(kernel, &living) {
            Ok(count) => restore(kind.name(), count, &|| kind.restore(kernel, &living))?,
            // A kernel without nftables has lost nothing.
            Err(Error::Lacks(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(restored)
}

/// The same; a line of the log says what was restored.
pub fn and_log(kernel: &Kernel) -> Result<()> {
    for what in what_is_lost(kernel, DryRun::No)? {
        log::warn!(
            "restored {what}, which another program had removed (a flush of nftables or of routes, a link set down)"
        );
    }
    Ok(())
}

/// Only say what would be done?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DryRun {
    /// It is done.
    No,
    /// Nothing is touched.
    Yes,
}

/// Does it forward nothing, or not what a routed Pod sends?
fn is_broken((link, label): &(Link, Label)) -> bool {
    !link.up || keeps_packets(link, label)
}

fn keeps_packets(link: &Link, label: &Label) -> bool {
    let has_ipv4 = PodRoutes::of(label).is_some_and(|routes| routes.addresses.iter().any(|ip| ip.is_ipv4()));
    has_ipv4 && link.forwards == Some(false) && is_forwarding(true)
}

fn mend(kernel: &Kernel, (link, label): &(Link, Label)) -> Result<()> {
    if keeps_packets(link, label) {
        link::unless_gone(forwarding::set(kernel, &link.name))?;
    }
    link::unless_gone(if link.up { Ok(()) } else { link::up(kernel, At::Host, &link.name) })
}

/// The families (IPv4, IPv6) that living Pods of the network need the node to forward: those of their own addresses, as far as
/// labels tell, and of the addresses of their bridges.
pub(crate) fn families(kernel: &Kernel, network: NetworkTag, bridges: &[String]) -> Result<[bool; 2]> {
    let links = link::all(kernel, At::Host)?;
    let labels: Vec<Label> = links.iter().filter_map(Label::of).filter(|it| it.owner.network() == network).collect();
    let mut addresses: Vec<IpAddr> = labels.iter().filter_map(PodRoutes::of).flat_map(|pod| pod.addresses).collect();
    addresses.extend(labels.iter().flat_map(masquerade::addresses_in).map(|address| address.ip()));
    let is_used =
        |link: &&Link| links.iter().any(|port| port.controller == Some(link.index) && Label::of(port).is_some());
    for bridge in links.iter().filter(|link| bridges.contains(&link.name)).filter(is_used) {
        let own = address::on(kernel, At::Host, bridge.index)?;
        addresses.extend(own.iter().map(|address| address.ip()).filter(|ip| !is_link_local(ip)));
    }
    Ok([true, false].map(|ipv4| addresses.iter().any(|ip| ip.is_ipv4() == ipv4)))
}

fn is_link_local(ip: &IpAddr) -> bool {
    matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
}

/// The labels of all attachments that live: a wire goes with its Pod's namespace.
fn living(kernel: &Kernel) -> Result<Vec<Label>> {
    Ok(wires(kernel)?.into_iter().map(|(_, label)| label).collect())
}

/// The same with the ends on the node.
fn wires(kernel: &Kernel) -> Result<Vec<(Link, Label)>> {
    let links = link::all(kernel, At::Host)?.into_iter();
    Ok(links.filter_map(|link| Label::of(&link).map(|label| (link, label))).collect())
}

/// The lock, freed when dropped; or only its file, if its holder keeps it too long.
fn lock(try_it: &dyn Fn(&File) -> std::io::Result<()>) -> Result<File> {
    const NODE: &str = "/proc/thread-self/ns/net";
    const MOMENT: Duration = Duration::from_millis(1);
    let file = File::open(NODE).map_err(Error::file(NODE))?;
    let end = Instant::now() + PATIENCE;
    loop {
        match try_it(&file) {
            Ok(()) => return Ok(file),
            Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Err(Error::file(NODE)(error));
            }
            Err(_) if Instant::now() >= end => {
                log::warn!("another process has kept {NODE} locked for {} s: going on without", PATIENCE.as_secs());
                return Ok(file);
            }
            Err(_) => std::thread::sleep(MOMENT),
        }
    }
}
