//! The store of one network, locked: reserve, find, release.
//!
//! The format is the Go host-local's (reservation.rs says what a file holds), and both programs may work on one store
//! at once. Opening a store takes its lock, makes sure that somebody still waits for the answer (guard.rs), and
//! brings the index in step (scan.rs); closing it settles the index. Nothing here grows with the number of addresses
//! taken, but for the search of a nearly full range, which reads the index once. Addresses that other networks hold are
//! not given (others.rs), nor those that the caller says are in use (avoid.rs).

use std::fs::File;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use libcni::{Error, code};

use crate::directory::Directory;
use crate::index::{Corrupt, Entry, Index, NAME, Origin, hash};
use crate::others::Others;
use crate::range::{self, RangeSet};
use crate::reservation::{Content, Key};
use crate::scan::Trust;
use crate::{guard, lock, scan};
use claim::Writer;
use search::last_reserved;

/// How long the lock is waited for. A kubelet gives up on a Pod's network after minutes.
pub const LOCK_LIMIT: Duration = Duration::from_secs(30);

/// The store of one network, locked.
#[derive(Debug)]
pub struct Store {
    directory: Directory,
    /// `None` only while it is being replaced.
    index: Option<Index>,
    boot: u128,
    /// Other networks' stores, once one of them was found to hold an address that was tried.
    others: Option<Others>,
    /// What the caller says is in use, sorted.
    avoided: Vec<u128>,
    _lock: File,
}

impl Store {
    /// Opens the store, made if it is not there.
    pub fn create(data_dir: &Path, network: &str) -> Result<Self, Error> {
        Store::locked(Directory::create(&data_dir.join(network))?, scan::boot)
    }

    /// Opens the store; `None`: it is not there, so it holds nothing.
    pub fn open(data_dir: &Path, network: &str) -> Result<Option<Self>, Error> {
        Directory::open(&data_dir.join(network))?.map(|directory| Store::locked(directory, scan::boot)).transpose()
    }

    fn locked(directory: Directory, boot: fn() -> u128) -> Result<Self, Error> {
        let lock = lock::take(&directory, LOCK_LIMIT)?;
        guard::require_reader(std::io::stdout())?;
        let boot = boot();
        let index = scan::in_step(&directory, boot)?;
        Ok(Store { directory, index: Some(index), boot, others: None, avoided: Vec::new(), _lock: lock })
    }

    /// Addresses, sorted, that are in use elsewhere and not to be given.
    pub fn avoid(&mut self, addresses: Vec<u128>) {
        self.avoided = addresses;
    }

    /// Reserves an address from each set, the requested one where one is. All or nothing.
    ///
    /// Code 103 if the attachment holds an address already, 101 if a set has none left.
    pub fn reserve(
        &mut self,
        key: &Key,
        sets: &[RangeSet],
        requested: &[Option<IpAddr>],
    ) -> Result<Vec<IpAddr>, Error> {
        self.require_new(key)?;
        let mut made: Vec<Entry> = Vec::with_capacity(sets.len());
        let outcome = self.reserve_all(key, sets, requested, &mut made);
        if outcome.is_err() {
            for entry in &made {
                if let Err(error) = self.free(entry) {
                    log::error!("undoing the ADD failed: {error}");
                }
            }
        }
        outcome.map(|()| made.iter().map(|entry| range::address(entry.address)).collect())
    }

    fn require_new(&mut self, key: &Key) -> Result<(), Error> {
        let held = self.entries_of(key)?;
        if held.is_empty() {
            return Ok(());
        }
        let addresses = held.iter().map(|entry| range::address(entry.address).to_string());
        let addresses = addresses.collect::<Vec<_>>().join(", ");
        let details = format!(
            "{} holds {addresses} in {} already: DEL comes before a second ADD",
            key.text().replace("\r\n", "/"),
            self.directory.path().display()
        );
        Err(Error::new(code::EXISTS_ALREADY, "the attachment has addresses already", details))
    }

    fn reserve_all(
        &mut self,
        key: &Key,
        sets: &[RangeSet],
        requested: &[Option<IpAddr>],
        made: &mut Vec<Entry>,
    ) -> Result<(), Error> {
        let never = self.never_given(sets);
        for (number, (set, requested)) in sets.iter().zip(requested).enumerate() {
            let mut writer = Writer::default();
            let entry = match requested {
                Some(address) if self.avoided.binary_search(&range::number(*address)).is_ok() => None,
                Some(address) => self.claim(key, *address, &mut writer)?,
                None => {
                    self.first_free(number, set, &never, |store, address| store.claim(key, address, &mut writer))?
                }
            };
            made.push(entry.ok_or_else(|| self.exhausted(number, set, *requested))?);
        }
        for (number, entry) in made.iter().enumerate() {
            self.directory.write_text(&last_reserved(number), &range::address(entry.address).to_string())?;
        }
        Ok(())
    }

    /// Every entry. An index that can't be read any more, because it could not be written, is made anew from the files.
    fn all(&mut self) -> Result<Vec<Entry>, Error> {
        if let Ok(entries) = self.index().all() {
            return Ok(entries);
        }
        self.look_at_files(Trust::Nothing)?;
        let path = self.directory.path().join(NAME);
        self.index().all().map_err(|Corrupt| Error::io(path.display(), "can't be read back"))
    }

    /// Frees what an attachment holds. Nothing held is fine. Goes on after an error.
    pub fn release(&mut self, key: &Key) -> Result<(), Error> {
        let errors = self.entries_of_surely(key)?.iter().filter_map(|entry| self.free(entry).err()).collect();
        Error::all(errors)
    }

    /// Frees what none of `valid` holds; `valid` lists the attachments. Goes on after an error.
    pub fn collect(&mut self, valid: &[Key]) -> Result<(), Error> {
        self.look_at_files(Trust::Nothing)?;
        let mut kept: Vec<u64> = valid.iter().flat_map(|key| [key.text(), key.old_text()]).map(key_hash).collect();
        kept.sort_unstable();
        let mut texts: Vec<&str> = valid.iter().map(Key::text).collect();
        texts.sort_unstable();
        let all = self.all()?;
        let mut errors = Vec::new();
        for entry in all.iter().filter(|entry| kept.binary_search(&entry.hash).is_err()) {
            match entry.origin {
                Origin::Adopted | Origin::Own if self.is_cut(entry, &texts) => {}
                Origin::Adopted | Origin::Own => errors.extend(self.free(entry).err()),
                Origin::Unread => errors.push(self.unread(entry, "can't be read, so it was not freed")),
                Origin::NoFile => {}
            }
        }
        Error::all(errors)
    }

    /// Is an entry's file the beginning of what a valid attachment's would be? Then it is that, cut short: it stays until
    /// the attachment is gone.
    fn is_cut(&self, entry: &Entry, sorted: &[&str]) -> bool {
        let address = range::address(entry.address);
        let Some((Content::Text(text), _)) = self.directory.read_address(address) else { return false };
        let after = sorted.partition_point(|key| key.as_bytes() < text.as_slice());
        let is_cut = sorted.get(after).is_some_and(|key| key.as_bytes().starts_with(&text));
        if is_cut {
            let path = self.directory.path().display();
            log::warn!("{path}/{address}: cut short: it may be the reservation of {:?}, so it stays", sorted[after]);
        }
        is_cut
    }

    fn free(&mut self, entry: &Entry) -> Result<(), Error> {
        self.index().begin();
        self.directory.remove(&range::address(entry.address).to_string())?;
        self.forget(entry)
    }

    fn look_at_files(&mut self, trust: Trust) -> Result<(), Error> {
        let index = self.index.take().expect(INDEX);
        self.index = Some(scan::in_step_by_file(&self.directory, index, trust)?);
        Ok(())
    }

    fn index(&mut self) -> &mut Index {
        self.index.as_mut().expect(INDEX)
    }
}

impl Drop for Store {
    /// The index is settled whatever came of the call; what it could not say, the files do.
    fn drop(&mut self) {
        if let Some(mut index) = self.index.take() {
            index.settle(&self.directory);
        }
    }
}

const INDEX: &str = "there but while it is read anew";

/// The hash under which a key's entries are: of the text as it is read back.
fn key_hash(text: &str) -> u64 {
    hash(text.trim().as_bytes())
}

mod claim;
mod lookup;
mod search;
#[cfg(test)]
mod tests;
