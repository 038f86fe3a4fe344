//! The part of a label that its alias has no room for: a file under /run/podwire.
//!
//! ```text
//! /run/podwire/labels/4026533311-0123456789abcdef0123456789abcdef      the node's namespace, and the owner
//! ```
//!
//! The file is written before anything that it names is made, and removed after all of that. The alias of a wire that exists
//! already refers to the file before it is written, so that a DEL after a killed ADD finds it. The alias has a digest of the
//! text, so a file that was left by an earlier attachment of the same names, or of another namespace with the same number, is
//! never taken for this one. A label whose record is lost or damaged is not complete: DEL then goes by the owner alone
//! (`removal.rs`). /run is empty after a reboot, and so is the kernel.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use cluster::tag::digest;
use kernel::{Error, Kernel, Made, Object, Result};
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

use crate::kinds::{Kind, Owned};
use crate::label::{Label, MORE};
use crate::owner::Owner;

const DIRECTORY: &str = "/run/podwire/labels";

/// No label is nearly as long, in bytes: a Pod with a thousand addresses fits.
const MAX_BYTES: u64 = 64 << 10;

/// The complete label of an attachment, as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    owner: Owner,
    text: String,
}

impl Record {
    /// The record of an attachment with that label.
    pub fn new(owner: Owner, text: String) -> Self {
        Record { owner, text }
    }

    /// What the alias says of it: sixteen hexadecimal digits.
    pub fn digest(&self) -> String {
        hex(&self.text)
    }

    /// The complete label.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text of the attachment's record, which must have that digest.
    pub fn read(owner: Owner, digest: &str) -> Result<String> {
        let path = path_of(owner)?;
        let mut text = String::new();
        // Nothing that is not a record of ours is followed or waited for.
        let read = OpenOptions::new().read(true).custom_flags(O_NOFOLLOW | O_NONBLOCK).open(&path);
        read.and_then(|file| file.take(MAX_BYTES).read_to_string(&mut text)).map_err(Error::file(&path))?;
        match hex(&text) == digest {
            true => Ok(text),
            false => {
                Err(Error::file(path)(io::Error::new(ErrorKind::InvalidData, "not the record that the alias names")))
            }
        }
    }

    /// Writes a new file and gives it its name: no reader ever sees half of it.
    fn write(&self, path: &Path) -> io::Result<()> {
        if self.text.len() as u64 > MAX_BYTES {
            let why = format!(
                "a record of {} bytes, where {MAX_BYTES} is the most: the Pod has too many addresses",
                self.text.len()
            );
            return Err(io::Error::new(ErrorKind::FileTooLarge, why));
        }
        DirBuilder::new().recursive(true).mode(0o700).create(DIRECTORY)?;
        let new = path.with_extension(format!("new-{}", std::process::id()));
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600).custom_flags(O_NOFOLLOW);
        let written = options.open(&new).and_then(|mut file| file.write_all(self.text.as_bytes()));
        written.and_then(|()| fs::rename(&new, path)).inspect_err(|_| drop(fs::remove_file(&new)))
    }
}

fn hex(text: &str) -> String {
    digest(&[text]).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The node's network namespace, by its inode number.
pub(crate) fn namespace() -> Result<u64> {
    const OWN: &str = "/proc/thread-self/ns/net";
    fs::metadata(OWN).map(|found| found.ino()).map_err(Error::file(OWN))
}

fn path_of(owner: Owner) -> Result<PathBuf> {
    Ok(Path::new(DIRECTORY).join(format!("{}-{owner}", namespace()?)))
}

/// A directory in a record's place is no record: it stays, and is in no Pod's way.
fn remove(path: PathBuf) -> Result<()> {
    match fs::remove_file(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == ErrorKind::IsADirectory => {
            log::warn!("{}: a directory in the place of a record: left as it is", path.display());
            Ok(())
        }
        other => other.map_err(Error::file(path)),
    }
}

impl Object for Record {
    fn ensure(&self, _kernel: &Kernel) -> Result<Made> {
        let path = path_of(self.owner)?;
        self.write(&path).map(|()| Made::New).map_err(Error::file(path))
    }

    fn remove(&self, _kernel: &Kernel) -> Result<()> {
        remove(path_of(self.owner)?)
    }
}

impl Owned for Record {
    /// Its part is written by [`Label::alias`], which alone knows whether there is a record.
    fn say(&self, _label: &mut Label) {}
}

/// Records, among the kinds of objects that attachments own.
#[derive(Debug)]
pub struct Records;

impl Kind for Records {
    fn name(&self) -> &'static str {
        "record"
    }

    fn part(&self) -> &'static str {
        MORE
    }

    fn read(&self, label: &Label) -> Option<Box<dyn Owned>> {
        // A label that was read from a record no longer says that there is one; it is as long as it was.
        if !label.needs_record() {
            return None;
        }
        let (_, record) = label.alias();
        record.map(|record| Box::new(record) as Box<dyn Owned>)
    }

    /// Files are found by their names: those of this node's namespace, of owners that are gone, and what a writer that was
    /// killed has left.
    fn sweep(&self, _kernel: &Kernel, is_gone: &dyn Fn(Owner) -> bool) -> Result<()> {
        let entries = match fs::read_dir(DIRECTORY) {
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => return Ok(()),
            other => other.map_err(Error::file(DIRECTORY))?,
        };
        let namespace = format!("{}-", namespace()?);
        for entry in entries {
            let name = entry.map_err(Error::file(DIRECTORY))?.file_name();
            let Some(owner) = name.to_str().and_then(|name| name.strip_prefix(&namespace)) else { continue };
            let owner = owner.split_once('.').map_or(owner, |(owner, _)| owner);
            if Owner::from_hex(owner).is_some_and(is_gone) {
                remove(Path::new(DIRECTORY).join(name))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_by_its_digest_only_and_swept_with_its_owner() {
        let kernel = Kernel::open().unwrap();
        let owner = Owner::new("record-test", &std::process::id().to_string());
        let record = Record::new(owner, format!("podwire {owner} mac=02:00:00:00:00:01 words"));
        if let Err(error) = record.ensure(&kernel) {
            println!("skipped: {error}");
            return;
        }
        assert_eq!(Record::read(owner, &record.digest()).unwrap(), record.text());
        let other = Record::new(owner, "podwire".to_owned());
        assert!(Record::read(owner, &other.digest()).is_err());
        Records.sweep(&kernel, &|gone| gone == owner).unwrap();
        assert!(Record::read(owner, &record.digest()).is_err());
        record.remove(&kernel).unwrap();
    }
}
