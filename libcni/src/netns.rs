//! Is there a network namespace at a path, and which one?
//!
//! Device and inode number tell one namespace from another, but not a network namespace from, say, a mount namespace, and where
//! it is bind-mounted (`ip netns add`) its link in /proc names the mount instead of the kind. So a thread made for the purpose
//! asks to enter it, which the kernel refuses for another kind, and ends. That costs the same however many mounts a node has.

use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::sched::{CloneFlags, setns};

/// Which network namespace it is: device and inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Netns(u64, u64);

impl Netns {
    /// The namespace of the calling thread.
    pub(crate) fn current() -> std::io::Result<Self> {
        std::fs::metadata("/proc/thread-self/ns/net").map(|meta| Netns(meta.dev(), meta.ino()))
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
    let enter = || match setns(file, CloneFlags::CLONE_NEWNET) {
        Ok(()) => Ok(true),
        Err(Errno::EINVAL) => Ok(false),
        Err(errno) => Err(std::io::Error::from(errno)),
    };
    std::thread::scope(|scope| {
        let asked = std::thread::Builder::new().spawn_scoped(scope, enter)?.join();
        asked.unwrap_or_else(|_| Err(std::io::Error::from(ErrorKind::Other)))
    })
}
