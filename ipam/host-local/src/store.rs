//! The store of one network, locked: reserve, find, release.
//!
//! The format is the Go host-local's (reservation.rs says what a file holds), and both programs may work on one store
//! at once. Opening a store takes its lock, makes sure that somebody still waits for the answer (guard.rs), and
//! brings the index in step (scan.rs); closing it settles the index. Nothing here grows with the number of addresses
//! taken, but for the search of a nearly full range, which reads the index once.

use std::fs::File;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use libcni::{Error, code};

use crate::directory::{Claim, Directory, Draft, Place};
use crate::index::{Corrupt, Entry, Index, NAME, Origin, hash};
use crate::range::{self, RangeSet, candidates};
use crate::reservation::{Content, Key};
use crate::scan::Trust;
use crate::{guard, lock, scan};

/// How long the lock is waited for. A kubelet gives up on a Pod's network after minutes.
pub const LOCK_LIMIT: Duration = Duration::from_secs(30);

/// So many addresses are tried one by one before the index is asked which are taken.
const ATTEMPTS: usize = 64;

/// The store of one network, locked.
#[derive(Debug)]
pub struct Store {
    directory: Directory,
    /// `None` only while it is being replaced.
    index: Option<Index>,
    boot: u128,
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
        Ok(Store { directory, index: Some(index), boot, _lock: lock })
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
                    log::error!("undoing the ADD: {error}");
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
        let gateways = gateways(sets);
        for (number, (set, requested)) in sets.iter().zip(requested).enumerate() {
            let mut writer = Writer::default();
            let entry = match requested {
                Some(address) => self.claim(key, *address, &mut writer)?,
                None => {
                    self.first_free(number, set, &gateways, |store, address| store.claim(key, address, &mut writer))?
                }
            };
            made.push(entry.ok_or_else(|| self.exhausted(number, set, *requested))?);
        }
        for (number, entry) in made.iter().enumerate() {
            self.directory.write_text(&last_reserved(number), &range::address(entry.address).to_string())?;
        }
        Ok(())
    }

    fn exhausted(&self, number: usize, set: &RangeSet, requested: Option<IpAddr>) -> Error {
        let Some(address) = requested else {
            let details = format!(
                "range set {number} ({set}) in {} is full: remove Pods, or configure a larger range",
                self.directory.path().display()
            );
            return Error::new(code::NO_FREE_ADDRESS, "no free address", details);
        };
        let holder = match self.directory.read_address(address) {
            Some((Content::Text(text), _)) => String::from_utf8_lossy(&text).replace("\r\n", "/"),
            _ => "something that is no reservation".to_owned(),
        };
        let details = format!("the requested address {address} of range set {number} ({set}) is held by {holder}");
        Error::new(code::NO_FREE_ADDRESS, "no free address", details)
    }

    /// Is an address of the set numbered `number` free?
    pub fn has_free(&mut self, number: usize, sets: &[RangeSet]) -> Result<bool, Error> {
        let free = self.first_free(number, &sets[number], &gateways(sets), |store, address| {
            Ok((!store.is_taken(address)?).then_some(()))
        })?;
        Ok(free.is_some())
    }

    /// What `attempt` makes of the first address of the set for which it is something, in round-robin order.
    fn first_free<T>(
        &mut self,
        number: usize,
        set: &RangeSet,
        gateways: &[u128],
        mut attempt: impl FnMut(&mut Self, IpAddr) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let stretches = set.stretches(self.last_given(number));
        // An index that is too long out of use for this knows of addresses that are free again: the files decide.
        for excluded in [Excluded::Gateways, Excluded::Indexed, Excluded::Read] {
            let (excluded, limit) = match excluded {
                Excluded::Gateways => (gateways.to_vec(), ATTEMPTS),
                Excluded::Indexed => (self.taken(gateways)?, usize::MAX),
                Excluded::Read => {
                    self.look_at_files(Trust::Nothing)?;
                    (self.taken(gateways)?, usize::MAX)
                }
            };
            let mut tried = 0;
            for candidate in candidates(&stretches, &excluded).take(limit) {
                tried += 1;
                if let Some(done) = attempt(self, range::address(candidate))? {
                    return Ok(Some(done));
                }
            }
            log::debug!("range set {number}: none of {tried} candidates was free");
        }
        Ok(None)
    }

    /// Where the round robin is.
    fn last_given(&self, number: usize) -> Option<IpAddr> {
        let name = last_reserved(number);
        let text = self.directory.read_text(&name)?;
        let last = text.trim().parse().ok();
        if last.is_none() {
            let path = self.directory.path().display();
            log::warn!("{path}/{name}: holds no address: the next one is given from the range's beginning on");
        }
        last
    }

    /// All addresses taken, and those never given, sorted.
    fn taken(&mut self, gateways: &[u128]) -> Result<Vec<u128>, Error> {
        let entries = self.all()?;
        let mut taken: Vec<u128> = entries.iter().map(|entry| entry.address).chain(gateways.iter().copied()).collect();
        taken.sort_unstable();
        taken.dedup();
        Ok(taken)
    }

    /// Does something stand at `address`? An empty file counts as nothing, and is removed, unless it was somebody's.
    fn is_taken(&mut self, address: IpAddr) -> Result<bool, Error> {
        match self.directory.place(address)? {
            Place::Free => Ok(false),
            Place::Taken => Ok(true),
            Place::Empty => {
                let known = self.known_at(range::number(address))?;
                Ok(scan::read_one(&self.directory, range::number(address), known.as_ref())?.is_some())
            }
        }
    }

    /// The entry of an address. The index is ordered by keys, so this reads all of it.
    fn known_at(&mut self, address: u128) -> Result<Option<Entry>, Error> {
        Ok(self.all()?.into_iter().find(|entry| entry.address == address))
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

    /// Reserves `address` if nothing stands there.
    fn claim(&mut self, key: &Key, address: IpAddr, writer: &mut Writer) -> Result<Option<Entry>, Error> {
        if self.is_taken(address)? {
            return Ok(None);
        }
        if !writer.without_drafts && writer.draft.is_none() {
            self.index().begin();
            writer.draft = self.directory.draft(key.text())?;
            writer.without_drafts = writer.draft.is_none();
        }
        match &writer.draft {
            Some(draft) => {
                let entry = self.entry(key, address, draft);
                // First the entry, so that a kill between does not lose that the file is ours.
                self.record(&entry)?;
                match self.directory.publish(draft, address) {
                    Ok(Claim::Made) => return Ok(Some(entry)),
                    Ok(Claim::Taken) => {
                        self.forget(&entry)?;
                        return Ok(None);
                    }
                    Err(error) => {
                        log::debug!("publishing {address}: {error}; making the file in place");
                        self.forget(&entry)?;
                        *writer = Writer { draft: None, without_drafts: true };
                    }
                }
            }
            None => self.index().begin(),
        }
        let Some(made) = self.directory.make(address, key.text())? else { return Ok(None) };
        let entry = self.entry(key, address, &made);
        self.record(&entry)?;
        Ok(Some(entry))
    }

    /// Where the boot is not known, nothing is ours: the next boot could not tell.
    fn entry(&self, key: &Key, address: IpAddr, draft: &Draft) -> Entry {
        let origin = if self.boot == 0 { Origin::Adopted } else { Origin::Own };
        Entry { hash: key_hash(key.text()), address: range::number(address), stamp: draft.stamp, origin }
    }

    fn record(&mut self, entry: &Entry) -> Result<(), Error> {
        let index = self.index.as_mut().expect(INDEX);
        if index.insert(&self.directory, entry).is_err() {
            self.look_at_files(Trust::Nothing)?;
            self.forget(entry)?;
            let index = self.index.as_mut().expect(INDEX);
            let _ = index.insert(&self.directory, entry);
        }
        self.index().flush();
        Ok(())
    }

    fn forget(&mut self, entry: &Entry) -> Result<(), Error> {
        if self.index().remove(entry.hash, entry.address).is_err() {
            self.look_at_files(Trust::Nothing)?;
        }
        Ok(())
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

/// What one ADD writes address files with.
#[derive(Debug, Default)]
struct Writer {
    draft: Option<Draft>,
    without_drafts: bool,
}

/// What the search leaves out, ever more of it.
#[derive(Clone, Copy)]
enum Excluded {
    Gateways,
    Indexed,
    Read,
}

/// The gateways of all sets, sorted. One range's gateway may lie in another range.
fn gateways(sets: &[RangeSet]) -> Vec<u128> {
    let mut all: Vec<u128> = sets.iter().flat_map(|set| &set.0).map(|range| range::number(range.gateway)).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// The hash under which a key's entries are: of the text as it is read back.
fn key_hash(text: &str) -> u64 {
    hash(text.trim().as_bytes())
}

/// The file that holds the address last reserved from a set.
fn last_reserved(number: usize) -> String {
    format!("last_reserved_ip.{number}")
}

mod lookup;
#[cfg(test)]
mod tests;
