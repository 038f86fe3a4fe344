//! Finding what an attachment holds: the index says where to look, the files say whether it is so.

use std::net::IpAddr;

use libcni::Error;

use super::{Store, key_hash};
use crate::index::{Entry, Origin, hash};
use crate::range;
use crate::reservation::{Content, Key};
use crate::scan::{self, Trust};

impl Store {
    /// The addresses that an attachment holds.
    pub fn held(&mut self, key: &Key) -> Result<Vec<IpAddr>, Error> {
        Ok(self.entries_of_surely(key)?.iter().map(|entry| range::address(entry.address)).collect())
    }

    /// The entries of an attachment, each compared with its file. The oldest versions' form counts if there is
    /// none in today's, as in the reference.
    pub(super) fn entries_of(&mut self, key: &Key) -> Result<Vec<Entry>, Error> {
        if let Some(found) = self.compared(key)? {
            return Ok(found);
        }
        // A file is not what the index says: the files decide.
        self.look_at_files(Trust::Nothing)?;
        Ok(self.compared(key)?.unwrap_or_default())
    }

    /// The same, where it would be wrong to find nothing although there is something.
    pub(super) fn entries_of_surely(&mut self, key: &Key) -> Result<Vec<Entry>, Error> {
        let found = self.entries_of(key)?;
        if !found.is_empty() || !self.index().header.unverified {
            return Ok(found);
        }
        self.look_at_files(Trust::Stamps)?;
        self.entries_of(key)
    }

    /// `None`: index and files differ.
    fn compared(&mut self, key: &Key) -> Result<Option<Vec<Entry>>, Error> {
        for text in [key.text(), key.old_text()] {
            let Ok(entries) = self.index().find(key_hash(text)) else { return Ok(None) };
            let mut found = Vec::new();
            for entry in entries.into_iter().filter(|entry| matches!(entry.origin, Origin::Adopted | Origin::Own)) {
                match self.directory.read_address(range::address(entry.address)) {
                    Some((content, _)) if content.is(text) => found.push(entry),
                    Some((content, stamp)) if scan::is_damaged(&self.directory, &entry, &content, &stamp) => {
                        found.push(entry);
                    }
                    // Two keys with one hash: the entry is right, and somebody else's.
                    Some((Content::Text(other), _)) if hash(&other) == entry.hash => {}
                    // As far as is known it is this attachment's: the caller had better try again.
                    Some((Content::Unread(why), _)) => return Err(self.unread(&entry, &why)),
                    _ => return Ok(None),
                }
            }
            if !found.is_empty() {
                return Ok(Some(found));
            }
        }
        Ok(Some(Vec::new()))
    }

    pub(super) fn unread(&self, entry: &Entry, why: &str) -> Error {
        Error::io(self.directory.path().join(range::address(entry.address).to_string()).display(), why)
    }
}
