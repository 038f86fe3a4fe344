//! The other networks of the data directory: an address that one of their stores holds is not given.
//!
//! A node that changes networks has Pods whose addresses are reserved in the store of the old one. Each network has a lock of its
//! own, so ADDs of two networks may try the same address at once. Hence the order of a reservation: first the address file is made
//! in our own store, *then* the other stores are looked at, and if one has a file of that name ours is removed again. Of
//! two networks that do this at once, the one that looks last sees the other's file: no address is given twice.
//! Both may see each other. So an ADD that gave an address back tries it again under the lock of the data directory (an
//! flock on the directory itself, which nothing else takes), looking before it makes a file: the last free address goes to one of
//! them. That lock is taken after the network's own and nothing is waited for under it. The Go host-local looks at its own store
//! only, so what it has reserved is seen, and what it reserves later is not prevented.
//!
//! Mostly there is no other network, and the link count of the data directory says so: one system call. Where there are
//! some, the directory is listed, and the address looked up in each: that depends on the number of networks, not of addresses.
//!
//! Whatever has an address's name holds the address: an empty file may be the Go program's, which makes the file before it writes.
//! Reservations that podwire made in an earlier boot hold nothing, as in its own store (scan.rs).

use std::cell::OnceCell;
use std::ffi::OsStr;
use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use libcni::{Error, code};
use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::sys::stat::{Mode, fstatat};

use crate::directory::Directory;
use crate::index::{Entry, Index, Origin};
use crate::lock;
use crate::range::{self, RangeSet};

/// The other networks' stores, as they were when the directory was listed.
#[derive(Debug)]
pub struct Others {
    parent: Dir,
    path: PathBuf,
    networks: Vec<Network>,
    boot: u128,
    was_locked: bool,
}

/// One of them.
#[derive(Debug)]
struct Network {
    path: PathBuf,
    /// Opened when one of its files is asked for.
    store: OnceCell<Option<Store>>,
}

/// Its directory.
#[derive(Debug)]
struct Store {
    directory: Directory,
    /// What of it is left from an earlier boot, sorted by address.
    left: Vec<Entry>,
}

impl Others {
    /// The networks beside `directory`, which is one network's; `None`: there is none.
    pub fn beside(directory: &Directory, boot: u128) -> Result<Option<Self>, Error> {
        let io = |error| Error::io(format!("looking for other networks beside {}", directory.path().display()), error);
        // 3 of a directory with one in it: its name, its own `.`, and the other's `..`. File systems that do not count
        // say 1 or some other number.
        let parent = fstatat(directory, "..", AtFlags::AT_SYMLINK_NOFOLLOW).map_err(io)?;
        if parent.st_nlink == 3 {
            return Ok(None);
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut parent = Dir::openat(directory, "..", flags, Mode::empty()).map_err(io)?;
        let own = directory.path().file_name().unwrap_or_default();
        let path = directory.path().parent().unwrap_or(Path::new("/")).to_owned();
        let mut networks = Vec::new();
        for entry in parent.iter() {
            let entry = entry.map_err(io)?;
            let name = entry.file_name();
            // A symbolic link is not followed, as for the network's own directory.
            let may_be_one = matches!(entry.file_type(), Some(Type::Directory) | None);
            if may_be_one && name != c"." && name != c".." && name.to_bytes() != own.as_bytes() {
                let path = path.join(OsStr::from_bytes(name.to_bytes()));
                networks.push(Network { path, store: OnceCell::new() });
            }
        }
        if networks.is_empty() {
            return Ok(None);
        }
        Ok(Some(Others { parent, path, networks, boot, was_locked: false }))
    }

    /// Takes the lock of the data directory, which is held as long as this. False if that was done, or tried, before: without
    /// it two networks may refuse each other the last free address.
    pub fn lock(&mut self, limit: Duration) -> Result<bool, Error> {
        if std::mem::replace(&mut self.was_locked, true) {
            return Ok(false);
        }
        let descriptor = self.parent.as_fd().try_clone_to_owned();
        let descriptor = descriptor.map_err(|error| Error::io(self.path.display(), error))?;
        match lock::wait_for(File::from(descriptor), &self.path, limit) {
            // The lock is the open file's, which `parent` keeps open.
            Ok(_) => Ok(true),
            Err(error) if error.code == code::TRY_AGAIN_LATER => Err(error),
            // Not every file system locks directories.
            Err(error) => {
                log::debug!("{error}; going on without");
                Ok(false)
            }
        }
    }

    /// The path of the file with which another network holds `address`.
    pub fn holder(&self, address: IpAddr) -> Option<PathBuf> {
        let name = address.to_string();
        self.networks.iter().find_map(|network| {
            let path = network.path.join(&name);
            let relative = path.strip_prefix(&self.path).unwrap_or(&path);
            match fstatat(&self.parent, relative, AtFlags::AT_SYMLINK_NOFOLLOW) {
                // A directory that even this program may not enter is no store.
                Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => None,
                // What can't be looked at may be a reservation.
                _ => (!self.store(network).is_some_and(|store| store.is_left(address))).then_some(path),
            }
        })
    }

    /// Every address of the set that another network holds.
    pub fn addresses(&self, set: &RangeSet) -> Vec<u128> {
        let stores = self.networks.iter().filter_map(|network| self.store(network));
        let held = stores.flat_map(|store| {
            let all = store.directory.addresses(0).unwrap_or_default().into_iter().map(|(number, _)| number);
            all.filter(|&number| {
                let address = range::address(number);
                set.range_of(address).is_some() && !store.is_left(address)
            })
        });
        held.collect()
    }

    fn store<'a>(&self, network: &'a Network) -> Option<&'a Store> {
        let open = || {
            let directory = Directory::open(&network.path).ok()??;
            let left = left_in(&directory, self.boot);
            Some(Store { directory, left })
        };
        network.store.get_or_init(open).as_ref()
    }
}

impl Store {
    /// Is the file at an address one that podwire made in an earlier boot, unchanged?
    fn is_left(&self, address: IpAddr) -> bool {
        let number = range::number(address);
        let known = self.left.binary_search_by_key(&number, |entry| entry.address).ok().map(|at| self.left[at].stamp);
        known.is_some() && self.directory.stamp_of(address) == known
    }
}

/// What an index of an earlier boot calls podwire's own, sorted by address. Without the lock: an index that is being written
/// can't be read, and then nothing is left over.
fn left_in(directory: &Directory, boot: u128) -> Vec<Entry> {
    let Ok(mut index) = Index::open(directory) else { return Vec::new() };
    if boot == 0 || index.header.boot == 0 || index.header.boot == boot {
        return Vec::new();
    }
    let mut left = index.all().unwrap_or_default();
    left.retain(|entry| entry.origin == Origin::Own);
    left.sort_unstable_by_key(|entry| entry.address);
    left
}
