//! Finding an address to give: round robin, first by trying, then by what the index leaves.

use std::net::IpAddr;

use libcni::Error;

use super::Store;
use crate::directory::Place;
use crate::index::Entry;
use crate::others::Others;
use crate::range::{self, RangeSet, candidates};
use crate::scan::{self, Trust};

/// So many addresses are tried one by one before the index is asked which are taken.
const ATTEMPTS: usize = 64;

/// What the search leaves out, ever more of it.
#[derive(Clone, Copy)]
enum Excluded {
    NeverGiven,
    Indexed,
    Read,
}

impl Store {
    /// Is an address of the set numbered `number` free?
    pub fn has_free(&mut self, number: usize, sets: &[RangeSet]) -> Result<bool, Error> {
        self.others = Others::beside(&self.directory, self.boot)?;
        let never = self.never_given(sets);
        let free = self
            .first_free(number, &sets[number], &never, |store, address| Ok((!store.is_held(address)?).then_some(())))?;
        Ok(free.is_some())
    }

    /// What `attempt` makes of the first address of the set for which it is something, in round-robin order. Those in
    /// `never`, which is sorted, are not tried.
    pub(super) fn first_free<T>(
        &mut self,
        number: usize,
        set: &RangeSet,
        never: &[u128],
        mut attempt: impl FnMut(&mut Self, IpAddr) -> Result<Option<T>, Error>,
    ) -> Result<Option<T>, Error> {
        let stretches = set.stretches(self.last_given(number));
        // An index that is too long out of use for this knows of addresses that are free again: the files decide.
        for excluded in [Excluded::NeverGiven, Excluded::Indexed, Excluded::Read] {
            let (excluded, limit) = match excluded {
                Excluded::NeverGiven => (never.to_vec(), ATTEMPTS),
                Excluded::Indexed => (self.taken(set, never)?, usize::MAX),
                Excluded::Read => {
                    self.look_at_files(Trust::Nothing)?;
                    (self.taken(set, never)?, usize::MAX)
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
            log::warn!("{path}/{name} contains no address: the search starts at the beginning of the range");
        }
        last
    }

    /// The gateways of all sets, for one range's may lie in another range, and what the caller says is in use; sorted.
    pub(super) fn never_given(&self, sets: &[RangeSet]) -> Vec<u128> {
        let gateways = sets.iter().flat_map(|set| &set.0).map(|range| range::number(range.gateway));
        sorted(gateways.chain(self.avoided.iter().copied()))
    }

    /// All addresses taken, those of the set that other networks hold, and those never given, sorted.
    fn taken(&mut self, set: &RangeSet, never: &[u128]) -> Result<Vec<u128>, Error> {
        if self.others.is_none() {
            self.others = Others::beside(&self.directory, self.boot)?;
        }
        let elsewhere = self.others.as_ref().map(|others| others.addresses(set));
        let entries = self.all()?;
        let all = entries.iter().map(|entry| entry.address).chain(never.iter().copied());
        Ok(sorted(all.chain(elsewhere.unwrap_or_default())))
    }

    /// Is an address taken here, or, as far as was looked, in another network's store?
    pub(super) fn is_held(&mut self, address: IpAddr) -> Result<bool, Error> {
        let elsewhere = |others: &Others| others.holder(address).is_some();
        Ok(self.is_taken(address)? || self.others.as_ref().is_some_and(elsewhere))
    }

    /// Is there a file at `address`? An empty one counts as none, and is removed, unless it held a reservation before.
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
}

/// The file that holds the address last reserved from a set.
pub(super) fn last_reserved(number: usize) -> String {
    format!("last_reserved_ip.{number}")
}

fn sorted(addresses: impl Iterator<Item = u128>) -> Vec<u128> {
    let mut all: Vec<u128> = addresses.collect();
    all.sort_unstable();
    all.dedup();
    all
}
