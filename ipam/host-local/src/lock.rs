//! The store's lock: `flock` on the file `lock` in the network's directory, as the Go host-local takes it; others.rs locks the data
//! directory the same way.
//!
//! A lock that is free costs one system call. One that is busy is waited for by a thread that blocks in the kernel,
//! so it is ours the moment it is free; after the limit the wait ends with code 11 and the holder's name.

use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use fs2::FileExt;
use libcni::{Error, code};
use nix::fcntl::OFlag;

use crate::directory::Directory;

const NAME: &str = "lock";

/// Takes the lock, waiting for at most `limit`. It is held until the file is dropped.
pub fn take(directory: &Directory, limit: Duration) -> Result<File, Error> {
    let path = directory.path().join(NAME);
    let file = match directory.open_file(NAME, OFlag::O_RDWR | OFlag::O_CREAT) {
        Ok(Ok(file)) => file,
        Ok(Err(what)) => return Err(Error::io(path.display(), format!("{what} is in its place; remove it"))),
        Err(error) => return Err(directory.error(NAME, error)),
    };
    wait_for(file, &path, limit)
}

/// Takes the lock on an opened file or directory, waiting for at most `limit`. It is held until the file is dropped.
pub fn wait_for(file: File, path: &Path, limit: Duration) -> Result<File, Error> {
    let io = |error| Error::io(format!("locking {}", path.display()), error);
    match file.try_lock_exclusive() {
        Ok(()) => return Ok(file),
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
        Err(error) => return Err(io(error)),
    }
    let (device, inode) = file.metadata().map(|meta| (meta.dev(), meta.ino())).map_err(io)?;
    let (done, wait) = mpsc::channel();
    std::thread::spawn(move || {
        let locked = file.lock_exclusive();
        // If nobody waits any more the file, and with it the lock, goes here.
        let _ = done.send(locked.map(|()| file));
    });
    match wait.recv_timeout(limit) {
        Ok(locked) => locked.map_err(io),
        Err(_) => {
            let details = format!(
                "{} is held by {}, and did not come free within {} s",
                path.display(),
                holder(device, inode).unwrap_or_else(|| "a process that can't be seen from here".to_owned()),
                limit.as_secs_f32(),
            );
            Err(Error::new(code::TRY_AGAIN_LATER, "the address store is locked", details))
        }
    }
}

/// Who holds the flock on a file, from /proc/locks (`1: FLOCK ADVISORY WRITE 1234 fe:00:5678 0 EOF`).
fn holder(device: u64, inode: u64) -> Option<String> {
    // As the kernel prints it (fs/locks.c): hexadecimal major and minor number, decimal inode.
    let (major, minor) = (nix::sys::stat::major(device), nix::sys::stat::minor(device));
    let wanted = format!("{major:02x}:{minor:02x}:{inode}");
    let locks = std::fs::read_to_string("/proc/locks").ok()?;
    let pid = locks.lines().find_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            // A line with `->` is one that waits.
            [_, "FLOCK", _, _, pid, file, ..] if *file == wanted => Some((*pid).to_owned()),
            _ => None,
        }
    })?;
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    Some(format!("process {pid} ({})", if name.trim().is_empty() { "name unknown" } else { name.trim() }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_hangs_is_code_11_and_names_the_holder() {
        let files = tempfile::tempdir().unwrap();
        let directory = Directory::create(&files.path().join("net")).unwrap();
        let held = take(&directory, Duration::from_secs(5)).unwrap();
        let error = take(&directory, Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.code, code::TRY_AGAIN_LATER);
        assert!(error.details.contains(&format!("process {} (", std::process::id())), "{error}");
        drop(held);
        take(&directory, Duration::from_secs(5)).unwrap();
    }

    #[test]
    fn a_link_in_the_locks_place_is_not_followed() {
        let files = tempfile::tempdir().unwrap();
        let directory = Directory::create(&files.path().join("net")).unwrap();
        std::os::unix::fs::symlink(files.path().join("outside"), files.path().join("net/lock")).unwrap();
        let error = take(&directory, Duration::from_secs(5)).unwrap_err();
        assert!(error.code == code::IO_FAILURE && error.details.contains("symbolic link"), "{error}");
        assert!(!files.path().join("outside").exists());
    }
}
