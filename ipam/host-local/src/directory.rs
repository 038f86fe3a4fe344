//! The network's directory, and every access to what is in it.
//!
//! All names are looked up relative to the opened directory and no symbolic link is followed, not for the directory
//! itself either: whatever somebody planted there, nothing outside is read or written. FIFOs and devices are opened
//! without blocking and then left alone. The process's umask is cleared at the start (main.rs), so modes are exact.

use std::ffi::CStr;
use std::fs::File;
use std::io::{Read, Write};
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt};
use std::path::{Path, PathBuf};

use libcni::Error;
use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag, openat};
use nix::sys::stat::{FileStat, Mode, SFlag, fstat, fstatat, futimens};
use nix::sys::time::TimeSpec;
use nix::unistd::{LinkatFlags, UnlinkatFlags, linkat, unlinkat};

use crate::range;
use crate::reservation::{Content, MAX_BYTES};

/// The directory `<dataDir>/<network>`, opened.
#[derive(Debug)]
pub struct Directory {
    fd: OwnedFd,
    path: PathBuf,
}

/// What tells one writing of a file from another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Inode number.
    pub inode: u64,
    /// Last change of the content: seconds …
    pub seconds: i64,
    /// … and nanoseconds.
    pub nanoseconds: u32,
}

impl Stamp {
    fn of(stat: &FileStat) -> Self {
        Stamp {
            inode: stat.st_ino,
            seconds: stat.st_mtime,
            nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
        }
    }
}

/// What stands at an address's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nothing.
    Free,
    /// An empty file.
    Empty,
    /// Anything else.
    Taken,
}

/// What came of writing an address file.
#[derive(Debug)]
pub enum Claim {
    /// The file stands, with its content.
    Made,
    /// Something stands at the address's name already.
    Taken,
}

const READ: OFlag = OFlag::O_RDONLY.union(COMMON).union(OFlag::O_NONBLOCK);
const COMMON: OFlag = OFlag::O_NOFOLLOW.union(OFlag::O_CLOEXEC);
/// Address files, and all else in the directory: no other user need read them.
const FILE_MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);

impl Directory {
    /// Opens the directory; `None` if it is not there.
    pub fn open(path: &Path) -> Result<Option<Self>, Error> {
        match openat(AT_FDCWD, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY | COMMON, Mode::empty()) {
            Ok(fd) => Ok(Some(Directory { fd, path: path.to_owned() })),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(Error::io(path.display(), explain(error))),
        }
    }

    /// Opens the directory, made with mode 0755 as the reference does, with those above it, if it is not there.
    pub fn create(path: &Path) -> Result<Self, Error> {
        if let Some(directory) = Directory::open(path)? {
            return Ok(directory);
        }
        let io = |error| Error::io(format!("making the directory {}", path.display()), error);
        std::fs::DirBuilder::new().recursive(true).mode(0o755).create(path).map_err(io)?;
        Directory::open(path)?.ok_or_else(|| io(std::io::ErrorKind::NotFound.into()))
    }

    /// Its path, for messages.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// An I/O error about the file `name` in it (code 5).
    pub fn error(&self, name: &str, error: Errno) -> Error {
        Error::io(self.path.join(name).display(), explain(error))
    }

    /// The directory's own stamp.
    pub fn stamp(&self) -> Result<Stamp, Error> {
        fstat(&self.fd).map(|stat| Stamp::of(&stat)).map_err(|error| Error::io(self.path.display(), error))
    }

    /// Sets the directory's time of last change, in seconds.
    pub fn set_mtime(&self, seconds: i64) -> Result<(), Errno> {
        futimens(&self.fd, &TimeSpec::UTIME_OMIT, &TimeSpec::new(seconds, 0))
    }

    /// Opens a regular file with `flags`; anything else that stands there is an error in words.
    pub fn open_file(&self, name: &str, flags: OFlag) -> Result<Result<File, String>, Errno> {
        let file = match openat(&self.fd, name, flags | COMMON | OFlag::O_NONBLOCK, FILE_MODE) {
            Ok(file) => file,
            Err(Errno::ELOOP) => return Ok(Err("a symbolic link".to_owned())),
            Err(Errno::EISDIR) => return Ok(Err("a directory".to_owned())),
            Err(Errno::ENXIO) => return Ok(Err("a FIFO, a socket or a device".to_owned())),
            Err(error) => return Err(error),
        };
        let stat = fstat(&file)?;
        Ok(kind_fault(&stat).map_or(Ok(File::from(file)), |what| Err(what.to_owned())))
    }

    /// What stands at an address's name, with its stamp; `None`: nothing. A file that can't be read is an answer, not
    /// an error: one bad file must not stop the others.
    pub fn read_address(&self, address: IpAddr) -> Option<(Content, Stamp)> {
        // Once more, for what fails in passing.
        let read = self.try_read_address(address).or_else(|_| self.try_read_address(address));
        read.unwrap_or_else(|error| Some((Content::Unread(error.to_string()), self.stamp_of(address)?)))
    }

    fn try_read_address(&self, address: IpAddr) -> std::io::Result<Option<(Content, Stamp)>> {
        let name = address.to_string();
        let file = match openat(&self.fd, name.as_str(), READ, Mode::empty()) {
            Ok(file) => file,
            Err(Errno::ENOENT) => return Ok(None),
            // A link or a socket is not opened at all.
            Err(Errno::ELOOP | Errno::ENXIO) => {
                let stat = fstatat(&self.fd, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW)?;
                return Ok(kind_fault(&stat).map(|what| (Content::NoFile(what), Stamp::of(&stat))));
            }
            Err(error) => return Err(error.into()),
        };
        let stat = fstat(&file)?;
        if let Some(what) = kind_fault(&stat) {
            return Ok(Some((Content::NoFile(what), Stamp::of(&stat))));
        }
        let mut bytes = [0; MAX_BYTES];
        let length = read_some(&mut File::from(file), &mut bytes)?;
        Ok(Some((Content::of(&bytes[..length]), Stamp::of(&stat))))
    }

    /// The text of a small file such as `last_reserved_ip.0`; `None` if there is none to be read.
    pub fn read_text(&self, name: &str) -> Option<String> {
        let mut bytes = [0; 256];
        let mut file = self.open_file(name, OFlag::O_RDONLY).ok()?.ok()?;
        let length = read_some(&mut file, &mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    /// Writes a small file in place. The new text goes over the old before the length changes, so that a full disk
    /// or a kill loses no more than the round robin.
    pub fn write_text(&self, name: &str, text: &str) -> Result<(), Error> {
        let file = match self.open_file(name, OFlag::O_RDWR | OFlag::O_CREAT) {
            Ok(Ok(file)) => file,
            Ok(Err(what)) => {
                return Err(Error::io(self.path.join(name).display(), format!("{what} is in its place; remove it")));
            }
            Err(error) => return Err(self.error(name, error)),
        };
        let io = |error: std::io::Error| Error::io(self.path.join(name).display(), error);
        let there = file.metadata().map_err(io)?;
        if there.nlink() != 1 {
            return Err(io(std::io::Error::other(
                "a hard link: the file has another name too, perhaps in another directory; remove it",
            )));
        }
        file.write_all_at(text.as_bytes(), 0).map_err(io)?;
        if there.len() != text.len() as u64 {
            file.set_len(text.len() as u64).map_err(io)?;
        }
        Ok(())
    }

    /// What stands at an address's name, without reading it.
    pub fn place(&self, address: IpAddr) -> Result<Place, Error> {
        let name = address.to_string();
        match fstatat(&self.fd, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.st_size == 0 && kind_fault(&stat).is_none() => Ok(Place::Empty),
            Ok(_) => Ok(Place::Taken),
            Err(Errno::ENOENT) => Ok(Place::Free),
            Err(error) => Err(self.error(&name, error)),
        }
    }

    /// Was the file at an address's name made after `stamp`? Then it is another, though it has the inode number of one
    /// that was there before. Of file systems that don't know when a file was made: no.
    pub fn is_made_after(&self, address: IpAddr, stamp: &Stamp) -> bool {
        let Ok(Ok(file)) = self.open_file(&address.to_string(), OFlag::O_RDONLY) else { return false };
        let made = file.metadata().and_then(|meta| meta.created()).ok();
        let made = made.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
        let before = (stamp.seconds, stamp.nanoseconds);
        made.is_some_and(|made| (i64::try_from(made.as_secs()).unwrap_or(i64::MAX), made.subsec_nanos()) > before)
    }

    /// Prepares a file that has no name yet and holds `text`. `None`: this file system has no such files.
    pub fn draft(&self, text: &str) -> Result<Option<Draft>, Error> {
        let flags = OFlag::O_TMPFILE | OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        match openat(&self.fd, ".", flags, FILE_MODE) {
            Ok(fd) => self.written(File::from(fd), "new address file", text).map(Some),
            Err(Errno::EOPNOTSUPP | Errno::EISDIR | Errno::EINVAL | Errno::ENOENT) => Ok(None),
            Err(error) => Err(self.error("new address file", error)),
        }
    }

    /// Gives a draft its name, unless something has that name.
    pub fn publish(&self, draft: &Draft, address: IpAddr) -> Result<Claim, Errno> {
        let source = format!("/proc/self/fd/{}", draft.file.as_raw_fd());
        let name = address.to_string();
        match linkat(AT_FDCWD, source.as_str(), &self.fd, name.as_str(), LinkatFlags::AT_SYMLINK_FOLLOW) {
            Ok(()) => Ok(Claim::Made),
            Err(Errno::EEXIST) => Ok(Claim::Taken),
            Err(error) => Err(error),
        }
    }

    /// Makes an address file where there are no drafts. A kill between leaves it empty, and empty is free.
    pub fn make(&self, address: IpAddr, text: &str) -> Result<Option<Draft>, Error> {
        let name = address.to_string();
        match openat(&self.fd, name.as_str(), OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | COMMON, FILE_MODE) {
            Ok(fd) => self.written(File::from(fd), &name, text).map(Some).inspect_err(|_| {
                let _ = self.remove(&name);
            }),
            Err(Errno::EEXIST) => Ok(None),
            Err(error) => Err(self.error(&name, error)),
        }
    }

    fn written(&self, mut file: File, name: &str, text: &str) -> Result<Draft, Error> {
        let io = |error: std::io::Error| Error::io(self.path.join(name).display(), error);
        file.write_all(text.as_bytes()).map_err(io)?;
        let stat = fstat(&file).map_err(|error| self.error(name, error))?;
        Ok(Draft { file, stamp: Stamp::of(&stat) })
    }

    /// Removes a file; was there one? What is not a file is an error.
    pub fn remove(&self, name: &str) -> Result<bool, Error> {
        match unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) => Ok(true),
            Err(Errno::ENOENT) => Ok(false),
            Err(error) => Err(self.error(name, error)),
        }
    }

    /// The stamp of what stands at an address's name.
    pub fn stamp_of(&self, address: IpAddr) -> Option<Stamp> {
        let name = address.to_string();
        fstatat(&self.fd, name.as_str(), AtFlags::AT_SYMLINK_NOFOLLOW).ok().map(|stat| Stamp::of(&stat))
    }

    /// Every entry whose name is an address in canonical text, with its inode number, sorted by address. Other names
    /// are not ours. About `expected` many.
    pub fn addresses(&self, expected: usize) -> Result<Vec<(u128, u64)>, Error> {
        let io = |error| Error::io(format!("reading the directory {}", self.path.display()), error);
        let mut listing =
            Dir::openat(&self.fd, ".", OFlag::O_RDONLY | OFlag::O_DIRECTORY | COMMON, Mode::empty()).map_err(io)?;
        let mut found = Vec::with_capacity(expected);
        for entry in listing.iter() {
            let entry = entry.map_err(io)?;
            if let Some(address) = named_address(entry.file_name()) {
                found.push((range::number(address), entry.ino()));
            }
        }
        found.sort_unstable();
        Ok(found)
    }
}

impl AsFd for Directory {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A file that is written whole.
#[derive(Debug)]
pub struct Draft {
    file: File,
    /// How it will be known.
    pub stamp: Stamp,
}

/// The address that a file's name is, if it is one as both programs write it.
pub fn named_address(name: &CStr) -> Option<IpAddr> {
    // Most other names end here.
    let text = name.to_str().ok()?;
    if !text.starts_with(|first: char| first.is_ascii_hexdigit() || first == ':') {
        return None;
    }
    match text.parse().ok()? {
        // There is one way to write it that parses.
        IpAddr::V4(address) => Some(address.into()),
        IpAddr::V6(address) => (address.to_canonical().to_string() == text).then_some(address.into()),
    }
}

/// What an entry is, if it is not a regular file.
fn kind_fault(stat: &FileStat) -> Option<&'static str> {
    match SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) {
        SFlag::S_IFREG => None,
        SFlag::S_IFDIR => Some("a directory"),
        SFlag::S_IFLNK => Some("a symbolic link"),
        _ => Some("a FIFO, a socket or a device"),
    }
}

fn explain(error: Errno) -> String {
    match error {
        Errno::ELOOP => "a symbolic link, which is not followed".to_owned(),
        Errno::ENOTDIR => "not a directory, or a symbolic link, which is not followed".to_owned(),
        error => std::io::Error::from(error).to_string(),
    }
}

fn read_some(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < buffer.len() {
        match file.read(&mut buffer[length..]) {
            Ok(0) => break,
            Ok(count) => length += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(length)
}
