//! Bringing the index in step with the address files.
//!
//! * Nothing happened since our last call: nothing to do (the witness, index.rs).
//! * Somebody else wrote: names and inode numbers of the files are compared with the index, and only what is new is
//!   read. A small directory is read whole; it costs no more.
//! * We were killed in the middle, or there is no index that can be used: every file is read.
//! * The machine was rebooted: every file is read, and those that we made in an earlier boot and that still are as we
//!   wrote them (content, inode number, time of last change) are removed, for their Pods are gone. What another
//!   program wrote, or changed, is adopted: it stays until DEL or GC.
//!
//! A file that is no reservation (any more: empty, zeros, garbage) is *damaged*. If the index knows that the same file held
//! one, it still does: a disk that lost its content has not ended the Pod. If not, an empty file is free, and garbage
//! keeps its address taken until GC.

use libcni::Error;

use crate::directory::{Directory, Stamp};
use crate::index::{Corrupt, Entry, Index, Origin, hash};
use crate::range;
use crate::reservation::Content;

/// Up to so many addresses all files are read where names might do.
const FEW: u64 = 512;

/// The number of this boot; 0 if it can't be known (then nothing is freed, and what we make is adopted at once).
pub fn boot() -> u128 {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    let read = std::fs::read_to_string(PATH).map_err(|error| error.to_string());
    read.and_then(|text| boot_number(&text).ok_or_else(|| format!("{:?} is not a boot ID", text.trim())))
        .unwrap_or_else(|error| {
            log::warn!("{PATH}: {error}; reservations of earlier boots are not freed");
            0
        })
}

/// A boot ID as a number: 32 hexadecimal digits with hyphens between.
pub fn boot_number(text: &str) -> Option<u128> {
    let digits: String = text.trim().chars().filter(|&character| character != '-').collect();
    u128::from_str_radix(&digits, 16).ok().filter(|&number| number != 0 && digits.len() == 32)
}

/// The index, in step with the files.
pub fn in_step(directory: &Directory, boot: u128) -> Result<Index, Error> {
    let mut index = match Index::open(directory) {
        Ok(index) => index,
        Err(why) => return without_index(directory, boot, &why),
    };
    if boot != 0 && index.header.boot != boot {
        return after_reboot(directory, boot, &mut index);
    }
    if index.is_witnessed(&directory.stamp()?) {
        return Ok(index);
    }
    let in_flux = index.header.signature == 0;
    let scanned = if in_flux || index.header.count <= FEW {
        whole(directory, index, Trust::Nothing)
    } else {
        by_name(directory, &mut index).map(|outcome| outcome.map(|()| index))
    };
    match scanned? {
        Ok(index) => Ok(index),
        Err(Corrupt) => without_index(directory, boot, "damaged"),
    }
}

/// How much of the index is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Nothing: every file is read.
    Nothing,
    /// What it says of files whose inode number and time of last change are as it says.
    Stamps,
}

/// Looks at every file, whatever the names say; what the index knows of origins is kept.
pub fn in_step_by_file(directory: &Directory, index: Index, trust: Trust) -> Result<Index, Error> {
    let boot = index.header.boot;
    match whole(directory, index, trust)? {
        Ok(index) => Ok(index),
        Err(Corrupt) => without_index(directory, boot, "damaged"),
    }
}

fn without_index(directory: &Directory, boot: u128, why: &str) -> Result<Index, Error> {
    let found = read_all(directory, &[], Trust::Nothing)?;
    if !found.is_empty() || why != "missing" {
        let path = directory.path().display();
        log::warn!("{path}: index {why}: read {} address files, which stay until DEL or GC", found.len());
    }
    Ok(Index::build(directory, boot, &found))
}

fn after_reboot(directory: &Directory, boot: u128, index: &mut Index) -> Result<Index, Error> {
    let known_boot = index.header.boot != 0;
    let Ok(known) = known_entries(index) else { return without_index(directory, boot, "damaged") };
    let mut kept = Vec::new();
    let mut freed = 0;
    for found in read_all(directory, &known, Trust::Nothing)? {
        // A damaged one has its origin from what is known already.
        let is_own = found.origin == Origin::Own || known_origin(&known, &found) == Origin::Own;
        let is_ours = known_boot && is_own;
        if is_ours && directory.remove(&range::address(found.address).to_string())? {
            freed += 1;
        } else {
            kept.push(found);
        }
    }
    let path = directory.path().display();
    log::info!("{path}: the machine was rebooted: {freed} reservations freed, {} kept", kept.len());
    Ok(Index::build(directory, boot, &kept))
}

fn whole(directory: &Directory, mut index: Index, trust: Trust) -> Result<Result<Index, Corrupt>, Error> {
    let Ok(known) = known_entries(&mut index) else { return Ok(Err(Corrupt)) };
    let mut found = read_all(directory, &known, trust)?;
    for entry in &mut found {
        if entry.origin == Origin::Adopted {
            entry.origin = known_origin(&known, entry);
        }
    }
    let same = known.len() == found.len() && known == found;
    if same && index.header.signature != 0 {
        index.begin();
        index.header.unverified = found.iter().any(|entry| entry.origin == Origin::Unread);
        return Ok(Ok(index));
    }
    Ok(Ok(Index::build(directory, index.header.boot, &found)))
}

/// Sorted by address, as [`read_all`]'s answer is.
fn known_entries(index: &mut Index) -> Result<Vec<Entry>, Corrupt> {
    let mut known = index.all()?;
    known.sort_unstable_by_key(|entry| entry.address);
    Ok(known)
}

/// Own only if the file is the one that we wrote, unchanged.
fn known_origin(known: &[Entry], found: &Entry) -> Origin {
    match known_at(known, found.address) {
        Some(entry) if entry.hash == found.hash && entry.stamp == found.stamp => entry.origin,
        _ => found.origin,
    }
}

fn known_at(known: &[Entry], address: u128) -> Option<&Entry> {
    known.binary_search_by_key(&address, |entry| entry.address).ok().map(|at| &known[at])
}

/// Every address file, sorted by address; with [`Trust::Stamps`] those that still are as `known` says are not read. Files
/// left empty by a crash are removed.
fn read_all(directory: &Directory, known: &[Entry], trust: Trust) -> Result<Vec<Entry>, Error> {
    let names = directory.addresses(known.len())?;
    let mut found = Vec::with_capacity(names.len());
    for (address, _) in names {
        let known = known_at(known, address);
        let is_same = |known: &&Entry| directory.stamp_of(range::address(address)) == Some(known.stamp);
        let may_believe = |known: &&Entry| trust == Trust::Stamps && known.origin != Origin::Unread;
        match known.filter(may_believe).filter(is_same) {
            Some(known) => found.push(*known),
            None => found.extend(read_one(directory, address, known)?),
        }
    }
    Ok(found)
}

/// What stands at an address, as an adopted entry, or as the one that is `known` if its file was damaged since; nothing
/// if it is free.
pub fn read_one(directory: &Directory, address: u128, known: Option<&Entry>) -> Result<Option<Entry>, Error> {
    let ip = range::address(address);
    let entry = |stamp: Stamp, text: &[u8], origin| Some(Entry { hash: hash(text), address, stamp, origin });
    let say = |what: &str| log::warn!("{}/{ip}: {what}", directory.path().display());
    let Some((content, stamp)) = directory.read_address(ip) else { return Ok(None) };
    if let Some(known) = known.filter(|known| is_damaged(directory, known, &content, &stamp)) {
        say("damaged: the address stays with the attachment that the index knows, until its DEL");
        return Ok(Some(Entry { stamp, ..*known }));
    }
    let is_damaged = content.is_damaged(false);
    Ok(match content {
        Content::Text(text) => {
            if is_damaged {
                say("no reservation: the address stays taken until GC, or until the file is removed");
            }
            entry(stamp, &text, Origin::Adopted)
        }
        Content::NoFile(what) => {
            say(&format!("{what}: the address stays taken until that is removed"));
            entry(stamp, b"", Origin::NoFile)
        }
        Content::Unread(why) => {
            say(&format!("{why}: the address stays taken until the file can be read, or is removed"));
            entry(stamp, b"", Origin::Unread)
        }
        Content::Free => {
            say("left empty by a crash: the address is free again");
            directory.remove(&ip.to_string())?;
            None
        }
    })
}

/// Is what stands at a known entry's address what is left of its file? Of one that was removed and made again nothing is.
pub fn is_damaged(directory: &Directory, known: &Entry, content: &Content, stamp: &Stamp) -> bool {
    let held_one = matches!(known.origin, Origin::Own | Origin::Adopted);
    held_one
        && known.stamp.inode == stamp.inode
        && content.is_damaged(known.origin == Origin::Own)
        && !directory.is_made_after(range::address(known.address), &known.stamp)
}

/// Compares names and inode numbers, and reads what is new.
fn by_name(directory: &Directory, index: &mut Index) -> Result<Result<(), Corrupt>, Error> {
    let Ok(known) = known_entries(index) else { return Ok(Err(Corrupt)) };
    let names = directory.addresses(known.len())?;
    let (gone, new) = differences(&known, &names);
    log::debug!("{}: changed by others: {} gone, {} new", directory.path().display(), gone.len(), new.len());
    index.begin();
    // A file may have been replaced by another with the same inode number.
    index.header.unverified = true;
    for entry in gone {
        if index.remove(entry.hash, entry.address).is_err() {
            return Ok(Err(Corrupt));
        }
    }
    for address in new {
        let Some(entry) = read_one(directory, address, None)? else { continue };
        if index.insert(directory, &entry).is_err() {
            return Ok(Err(Corrupt));
        }
    }
    Ok(Ok(()))
}

/// Walks both lists, sorted by address, side by side. A file with another inode number is gone and new.
fn differences(known: &[Entry], names: &[(u128, u64)]) -> (Vec<Entry>, Vec<u128>) {
    let (mut gone, mut new) = (Vec::new(), Vec::new());
    let mut names = names.iter().copied().peekable();
    for entry in known {
        while let Some((address, _)) = names.next_if(|(address, _)| *address < entry.address) {
            new.push(address);
        }
        match names.next_if(|(address, _)| *address == entry.address) {
            Some((_, inode)) if inode == entry.stamp.inode => {}
            Some((address, _)) => {
                gone.push(*entry);
                new.push(address);
            }
            None => gone.push(*entry),
        }
    }
    new.extend(names.map(|(address, _)| address));
    (gone, new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(address: u128, inode: u64) -> Entry {
        let stamp = Stamp { inode, ..Stamp::default() };
        Entry { hash: 1, address, stamp, origin: Origin::Own }
    }

    #[test]
    fn differences_are_what_came_what_went_and_what_was_replaced() {
        let known = [entry(2, 20), entry(4, 40), entry(6, 60)];
        let (gone, new) = differences(&known, &[(1, 10), (2, 20), (3, 30), (6, 61), (7, 70)]);
        assert_eq!(gone, [entry(4, 40), entry(6, 60)]);
        assert_eq!(new, [1, 3, 6, 7]);
        assert_eq!(differences(&known, &[(2, 20), (4, 40), (6, 60)]), (vec![], vec![]));
        assert_eq!(differences(&[], &[(1, 10)]).1, [1]);
    }

    #[test]
    fn a_boot_id_is_a_number_and_nonsense_is_none() {
        assert_eq!(boot_number("00000000-0000-0000-0000-00000000002a\n"), Some(42));
        for bad in ["", "00000000-0000-0000-0000-000000000000", "xyz", "2a"] {
            assert_eq!(boot_number(bad), None, "{bad:?}");
        }
    }
}
