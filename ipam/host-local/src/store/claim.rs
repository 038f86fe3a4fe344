//! Reserving one address: its file is made, unless this store or another network's has one of that name.

use std::net::IpAddr;

use libcni::{Error, code};

use super::{INDEX, LOCK_LIMIT, Store, key_hash};
use crate::directory::{Claim, Draft};
use crate::index::{Entry, Origin};
use crate::others::Others;
use crate::range::{self, RangeSet};
use crate::reservation::{Content, Key};
use crate::scan::Trust;

/// What one ADD writes address files with.
#[derive(Debug, Default)]
pub(super) struct Writer {
    draft: Option<Draft>,
    without_drafts: bool,
}

impl Store {
    /// Reserves `address` if nothing has that name, here or in another network's store.
    pub(super) fn claim(&mut self, key: &Key, address: IpAddr, writer: &mut Writer) -> Result<Option<Entry>, Error> {
        if self.is_held(address)? {
            return Ok(None);
        }
        let Some(entry) = self.make(key, address, writer)? else { return Ok(None) };
        match self.is_ours_alone(address) {
            Ok(true) => return Ok(Some(entry)),
            Ok(false) => self.give_back(&entry, writer)?,
            Err(error) => {
                self.give_back(&entry, writer)?;
                return Err(error);
            }
        }
        // Another network may have given it back as well. From here on one at a time.
        if self.lock_others()? { self.claim(key, address, writer) } else { Ok(None) }
    }

    /// Has no other network the address that we have just made a file for? They are looked at now, not before (others.rs).
    fn is_ours_alone(&mut self, address: IpAddr) -> Result<bool, Error> {
        let Some(others) = Others::beside(&self.directory, self.boot)? else { return Ok(true) };
        let Some(holder) = others.holder(address) else { return Ok(true) };
        log::warn!("{address} is held by another network ({}): the next one is tried", holder.display());
        // A lock that is held stays.
        self.others.get_or_insert(others);
        Ok(false)
    }

    /// What is linked once can't be linked again: the next file needs a draft of its own.
    fn give_back(&mut self, entry: &Entry, writer: &mut Writer) -> Result<(), Error> {
        writer.draft = None;
        self.free(entry)
    }

    /// Takes the lock of the data directory; false if it was taken before.
    fn lock_others(&mut self) -> Result<bool, Error> {
        match &mut self.others {
            Some(others) => others.lock(LOCK_LIMIT),
            None => Ok(false),
        }
    }

    /// Makes the file of an address, unless there is one.
    fn make(&mut self, key: &Key, address: IpAddr, writer: &mut Writer) -> Result<Option<Entry>, Error> {
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

    pub(super) fn record(&mut self, entry: &Entry) -> Result<(), Error> {
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

    pub(super) fn forget(&mut self, entry: &Entry) -> Result<(), Error> {
        if self.index().remove(entry.hash, entry.address).is_err() {
            self.look_at_files(Trust::Nothing)?;
        }
        Ok(())
    }

    /// Why a set gave no address (code 101).
    pub(super) fn exhausted(&self, number: usize, set: &RangeSet, requested: Option<IpAddr>) -> Error {
        let details = match requested {
            None => self.why_full(number, set),
            Some(address) => {
                let why = self.why_not(address);
                format!("the requested address {address} of range set {number} ({set}) is {why}")
            }
        };
        Error::new(code::NO_FREE_ADDRESS, "no free address", details)
    }

    fn why_full(&self, number: usize, set: &RangeSet) -> String {
        let path = self.directory.path().display();
        let elsewhere = self.others.as_ref().map_or(0, |others| others.addresses(set).len());
        let in_use = self.avoided.iter().filter(|&&address| set.range_of(range::address(address)).is_some()).count();
        let mut why = format!("range set {number} ({set}) in {path} is full: remove Pods, or configure a larger range");
        if elsewhere > 0 {
            let data_dir = self.directory.path().parent().unwrap_or(self.directory.path()).display();
            why += &format!(
                "; other networks in {data_dir} hold {elsewhere} of its addresses: remove the directory of a network that has no Pods any more"
            );
        }
        if in_use > 0 {
            why += &format!("; the node uses {in_use} of its addresses for something else");
        }
        why
    }

    fn why_not(&self, address: IpAddr) -> String {
        if self.avoided.binary_search(&range::number(address)).is_ok() {
            return "in use elsewhere on the node".to_owned();
        }
        match (self.directory.read_address(address), self.others.as_ref().and_then(|others| others.holder(address))) {
            (Some((Content::Text(text), _)), _) => {
                format!("held by {}", String::from_utf8_lossy(&text).replace("\r\n", "/"))
            }
            (None, Some(path)) => format!(
                "held by another network: remove {} if its Pod is gone; two networks that may have the same addresses need an \
                 ipam.dataDir each",
                path.display()
            ),
            _ => "held by a file that is not a reservation".to_owned(),
        }
    }
}
