//! What a new table has to hold: the elements of every attachment that lives.
//!
//! Whoever makes a table anew (the first Pod's ADD, or the first after somebody flushed nftables) restores what all living
//! attachments owned in the old one, by the labels of their wires. Were one of them to get its DEL between the look at its
//! label and the adding of its elements, those would be left for good. So a DEL removes the wire, then waits for
//! restorations that may have seen it ([`wait`]), and then removes the elements, also those that it had removed before.
//!
//! The restorer holds a lock on the node's network namespace itself (flock(2) of /proc/thread-self/ns/net): there is one
//! for each node, and the kernel frees it with its holder. Nobody waits for it for long: without it something may be
//! left behind; with somebody who never frees it no Pod could be removed.

use std::fs::File;
use std::io::ErrorKind;
use std::time::{Duration, Instant};

use fs2::FileExt;

use crate::error::{Error, Result};
use crate::kernel::{At, Kernel};
use crate::link;
use crate::nft;
use crate::owner::Label;

/// How long anybody waits for the lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// Returns when every restoration that is under way is done. One that begins later sees no wire that is gone by now.
pub fn wait() -> Result<()> {
    lock(&FileExt::try_lock_shared).map(drop)
}

/// Adds, with `add`, what `object` makes of each living attachment's label.
pub(crate) fn elements<O>(
    kernel: &Kernel,
    object: &dyn Fn(Label) -> Option<O>,
    add: &dyn Fn(&O) -> Result<()>,
) -> Result<()> {
    let _lock = lock(&FileExt::try_lock_exclusive)?;
    let labels = link::all(kernel, At::Host)?.into_iter().filter_map(|link| Label::parse(&link.alias));
    // One by one: of those that another restored already, some are there.
    labels.filter_map(object).try_for_each(|one| nft::accept_faster(add(&one)))
}

/// The lock, freed when dropped; or only its file, if its holder does not get done.
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
                log::warn!("somebody keeps {NODE} locked and does not get done: going on without");
                return Ok(file);
            }
            Err(_) => std::thread::sleep(MOMENT),
        }
    }
}
