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
use std::time::{Duration, Instant};

use fs2::FileExt;
use kernel::{At, Error, Kernel, Result, link, nft};

use crate::kinds::KINDS;
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

/// Restores every kind of object that living attachments have and that was lost as a whole. Returns what was restored, in
/// words: `masquerade of 3 Pods`.
pub fn what_is_lost(kernel: &Kernel) -> Result<Vec<String>> {
    let living = living(kernel)?;
    let mut restored = Vec::new();
    for kind in KINDS {
        match kind.restore_lost(kernel, &living) {
            Ok(0) => {}
            Ok(count) => {
                restored.push(format!("{} of {count} {}", kind.name(), if count == 1 { "Pod" } else { "Pods" }))
            }
            // A kernel without nftables has lost nothing.
            Err(Error::Lacks(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(restored)
}

/// The same; a line of the log says what was restored.
pub fn and_log(kernel: &Kernel) -> Result<()> {
    for what in what_is_lost(kernel)? {
        log::warn!(
            "restored {what}, which another program had removed (a flush of nftables or of routes, a link set down)"
        );
    }
    Ok(())
}

/// The labels of all attachments that live: a wire goes with its Pod's namespace.
fn living(kernel: &Kernel) -> Result<Vec<Label>> {
    Ok(link::all(kernel, At::Host)?.iter().filter_map(Label::of).collect())
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
