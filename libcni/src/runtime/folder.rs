//! The cache's directories, and every access to what is in them.
//!
//! Names are looked up relative to the opened directory and no symbolic link is followed, not for `results` itself either:
//! whatever somebody planted there, nothing outside is read, written or removed. Modes are set on what is made, so that the
//! process's umask does not matter.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{Error, ErrorKind, Result, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};

use crate::file;

/// The largest file that is read, in bytes: a configuration in Base64, and a result.
const MAX_BYTES: u64 = 64 << 20;

/// An open directory.
#[derive(Debug)]
pub(super) struct Folder(File);

const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY).union(OFlag::O_CLOEXEC);

/// Makes one directory, if it is not there.
fn make(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => std::fs::set_permissions(path, Permissions::from_mode(0o700)),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

impl Folder {
    /// Opens the cache's own directory, which an administrator may have replaced by a link.
    pub(super) fn base(path: &Path) -> Result<Self> {
        Ok(Folder(openat(AT_FDCWD, path, DIRECTORY, Mode::empty())?.into()))
    }

    /// Opens a directory in it; a link that stands there is an error.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let directory = openat(AT_FDCWD, path, DIRECTORY | OFlag::O_NOFOLLOW, Mode::empty());
        let directory = directory.map_err(|error| match error {
            Errno::ELOOP | Errno::ENOTDIR => Error::other("not a directory, or a symbolic link, which is not followed"),
            error => error.into(),
        })?;
        Ok(Folder(directory.into()))
    }

    /// Opens a directory that is made (0700), with those above it, if it is not there.
    pub(super) fn create(path: &Path) -> Result<Self> {
        match (make(path), path.parent()) {
            // Once more and not again: a file system may say this of what it will never make (/proc).
            (Err(error), Some(above)) if error.kind() == ErrorKind::NotFound => {
                Folder::create(above)?;
                make(path)?;
            }
            (made, _) => made?,
        }
        Folder::open(path)
    }

    /// The content of a file; `None` if there is none. What is no file is an error.
    pub(super) fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.0, name, flags, Mode::empty()) {
            Ok(found) => file::read_open(found.into(), MAX_BYTES).map(Some),
            Err(Errno::ENOENT) => Ok(None),
            Err(Errno::ELOOP) => Err(Error::other("a symbolic link, which is not followed; remove it")),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes a new file (0600) called `draft` here and gives it the name `name` in `folder`: it appears there whole, or not at
    /// all.
    pub(super) fn write_into(&self, folder: &Folder, name: &str, draft: &str, bytes: &[u8]) -> Result<()> {
        // Of a process that was killed, or planted.
        self.remove(draft)?;
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let mut file = File::from(openat(&self.0, draft, flags, Mode::S_IRUSR | Mode::S_IWUSR)?);
        let written = file.set_permissions(Permissions::from_mode(0o600)).and_then(|()| file.write_all(bytes));
        let renamed = written.and_then(|()| Ok(renameat(&self.0, draft, &folder.0, name)?));
        renamed.inspect_err(|_| {
            let _ = self.remove(draft);
        })
    }

    /// Removes a file; there need not be one.
    pub(super) fn remove(&self, name: &str) -> Result<()> {
        match unlinkat(&self.0, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// The names of everything in it, sorted. One that is no UTF-8 is no file of ours.
    pub(super) fn names(&self) -> Result<Vec<String>> {
        let entries = std::fs::read_dir(format!("/proc/self/fd/{}", self.0.as_raw_fd()))?;
        let names = entries.map(|entry| Ok(entry?.file_name().into_string().ok())).collect::<Result<Vec<_>>>()?;
        let mut names: Vec<String> = names.into_iter().flatten().collect();
        names.sort();
        Ok(names)
    }

    /// The directory as a file, to be locked.
    pub(super) fn into_file(self) -> File {
        self.0
    }
}
