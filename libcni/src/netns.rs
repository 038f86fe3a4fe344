//! Is there a network namespace at a path, and which one?
//!
//! Device and inode number tell one namespace from another, but not a network namespace from, say, a mount namespace, and where
//! it is bind-mounted (`ip netns add`) its link in /proc names the mount instead of the kind. So the calling thread asks to
//! enter it, which the kernel refuses for another kind, and returns at once. That costs two system calls, however many mounts a
//! node has; a thread made for the purpose would cost twenty.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

/// The calling thread's namespace.
const OWN: &str = "/proc/thread-self/ns/net";

/// Which network namespace it is: device and inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Netns(u64, u64);

impl Netns {
    /// The namespace of the calling thread.
    pub(crate) fn current() -> std::io::Result<Self> {
        std::fs::metadata(OWN).map(|meta| Netns(meta.dev(), meta.ino()))
    }

    /// The network namespace at `path`; `None` if something else is there. To tell takes the privilege to enter it.
    pub(crate) fn at(path: &Path) -> std::io::Result<Option<Self>> {
        // Opening a FIFO or a device could block or do something; a namespace is a regular file.
        if !std::fs::metadata(path)?.is_file() {
            return Ok(None);
        }
        const O_NONBLOCK: i32 = 0o4000;
        let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
        let meta = file.metadata()?;
        let (found, current) = (Netns(meta.dev(), meta.ino()), Netns::current()?);
        if found == current {
            return Ok(Some(found));
        }
        // All namespaces are files of one file system.
        Ok((found.0 == current.0 && is_of_network_kind(&file)?).then_some(found))
    }
}

fn is_of_network_kind(file: &File) -> std::io::Result<bool> {
    let own = File::open(OWN)?;
    match setns(file, CloneFlags::CLONE_NEWNET) {
        Ok(()) => {}
        Err(Errno::EINVAL) => return Ok(false),
        Err(errno) => return Err(std::io::Error::from(errno)),
    }
    // Nothing may go on in somebody else's namespace, and the way back into one's own is never closed; a kernel that is short
    // of memory has some a moment later.
    for _ in 0..100 {
        match setns(&own, CloneFlags::CLONE_NEWNET) {
            Ok(()) => return Ok(true),
            Err(_) => std::thread::sleep(Duration::from_millis(10)),
        }
    }
    panic!("can't return to the thread's own network namespace")
}
