//! The index: which attachment holds which address, so that nobody need read 60,000 files.
//!
//! It is a cache in one file, `index.podwire`, beside the address files. They are the truth, always: whatever the
//! index says is compared with the address file before it is acted on, and the index can be rebuilt from the files at
//! any moment. What must not happen unnoticed is that somebody else changes the files. Hence
//!
//! **the witness.** After our last change, still under the lock, we set the directory's time of last change to a
//! *signature* that no clock would give it (a second between 1971 and 1985) and that the index's header holds.
//! Whoever makes, removes or renames a file in the directory sets that time to now. So a call that finds the
//! signature knows that the index is in step; one that does not compares it with the files first (scan.rs).
//!
//! The order of writing makes a kill between any two system calls look like a stranger's change:
//! 1. the header's signature is cleared ("in flux");
//! 2. entries are written in place, and address files made or removed;
//! 3. the header gets a new signature;
//! 4. the directory's time is set to it.
//!
//! An entry is written *before* its address file is published, with the inode number and the time that the file
//! will have. If we are killed right after, the next call still knows that the reservation was ours. That matters
//! after a reboot: the header holds the boot, an entry says whether we made it (*own*) or found it (*adopted*), and
//! only own ones of an earlier boot are freed.
//!
//! What the witness can't see: a file edited in place, and a change made without the lock in the very moment in which
//! we work. A lookup of that file, a full range, GC and a reboot read the files themselves and put it right.
//!
//! The file is a header page and a power of two of 4 KiB buckets (page.rs). An entry lives in the bucket that its
//! key's hash says, or, if that is full and marked so, in one of the next. A lookup reads the header and nearly
//! always one bucket, whatever is in the others.

use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::Write;
use std::os::unix::fs::FileExt;

use nix::errno::Errno;
use nix::fcntl::{OFlag, renameat};
use twox_hash::XxHash64;

use crate::directory::{Directory, Stamp};

mod page;

pub use page::{Corrupt, Entry, Origin, hash};
use page::{
    ENTRIES, ENTRY, PAGE, PAGE_HEAD, Page, decode_entry, encode_entry, entries, field, overflowed, require_sealed, seal,
};

/// The index's name.
pub const NAME: &str = "index.podwire";
/// A new index before it gets that name.
const NEW_NAME: &str = "index.podwire.new";

const MAGIC: &[u8; 16] = b"podwire index 1\n";
/// How much of the header page is in use.
const HEADER: usize = 80;
/// Fewer buckets are not worth a file of their own size: enough for 476 addresses.
const FEWEST_BUCKETS: u32 = 8;
/// More are no index of ours: enough for 60 million addresses.
const MOST_BUCKETS: u32 = 1 << 20;

/// What the index knows of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// The boot in which its own entries were made; 0 if that could not be known.
    pub boot: u128,
    /// The directory's time of last change if nobody but us changed it; 0 while in flux.
    pub signature: i64,
    /// The directory's inode number: a copied directory is another one.
    pub directory: u64,
    /// Not every file was read since somebody else last wrote, so a key that is not found may yet be there.
    pub unverified: bool,
    /// How many addresses are taken.
    pub count: u64,
    buckets: u32,
}

/// An index that is open. Changes are made in memory and written by [`Index::flush`].
#[derive(Debug)]
pub struct Index {
    /// What it knows of itself.
    pub header: Header,
    /// `None`: in memory only, because it could not be written.
    file: Option<File>,
    pages: BTreeMap<u32, Page>,
    dirty: Vec<u32>,
    in_flux: bool,
}

impl Index {
    /// Opens the index: `Err` says in words why there is none that can be used.
    pub fn open(directory: &Directory) -> Result<Self, String> {
        let file = match directory.open_file(NAME, OFlag::O_RDWR) {
            Ok(file) => file?,
            Err(Errno::ENOENT) => return Err("missing".to_owned()),
            Err(error) => return Err(error.to_string()),
        };
        let mut bytes = [0; HEADER];
        file.read_exact_at(&mut bytes, 0).map_err(|error| error.to_string())?;
        let header = Header::decode(&bytes).ok_or("its header is damaged")?;
        let expected = (u64::from(header.buckets) + 1) * PAGE as u64;
        let length = file.metadata().map_err(|error| error.to_string())?.len();
        if length != expected {
            return Err(format!("{length} bytes long instead of {expected}"));
        }
        let in_flux = header.signature == 0;
        Ok(Index { header, file: Some(file), pages: BTreeMap::new(), dirty: Vec::new(), in_flux })
    }

    /// A new index of `entries`, in the place of the one that is there, if any. Where it can't be written it serves
    /// from memory, and the next call makes it anew.
    pub fn build(directory: &Directory, boot: u128, entries: &[Entry]) -> Self {
        Index::build_with(directory, boot, entries, FEWEST_BUCKETS)
    }

    fn build_with(directory: &Directory, boot: u128, entries: &[Entry], buckets: u32) -> Self {
        let mut index = Index::in_memory(boot, entries, buckets);
        match index.write_new(directory) {
            Ok(file) => index.file = Some(file),
            Err(error) => {
                log::warn!("{}: the index can't be written, going on without: {error}", directory.path().display())
            }
        }
        index
    }

    fn in_memory(boot: u128, entries: &[Entry], mut buckets: u32) -> Self {
        while is_too_full(entries.len() as u64, buckets) && buckets < MOST_BUCKETS {
            buckets *= 2;
        }
        let unverified = entries.iter().any(|entry| entry.origin == Origin::Unread);
        let header = Header { boot, buckets, unverified, ..Header::default() };
        let pages = (0..buckets).map(|bucket| (bucket, Box::new([0; PAGE]))).collect();
        let mut index = Index { header, file: None, pages, dirty: Vec::new(), in_flux: true };
        for entry in entries {
            index.put(entry).expect("pages in memory hold");
        }
        index
    }

    fn write_new(&mut self, directory: &Directory) -> Result<File, String> {
        let failed = |error: libcni::Error| error.details;
        directory.remove(NEW_NAME).map_err(failed)?;
        let file = directory
            .open_file(NEW_NAME, OFlag::O_RDWR | OFlag::O_CREAT | OFlag::O_EXCL)
            .map_err(|error| error.to_string())??;
        let written = self
            .write_pages(&file)
            .map_err(|error| error.to_string())
            .and_then(|()| renameat(directory, NEW_NAME, directory, NAME).map_err(|error| format!("{NAME}: {error}")));
        if let Err(error) = written {
            let _ = directory.remove(NEW_NAME);
            return Err(error);
        }
        self.dirty.clear();
        Ok(file)
    }

    /// All of it, empty buckets too: what is in use later has its place on the disk already.
    fn write_pages(&mut self, file: &File) -> std::io::Result<()> {
        let mut header = [0; PAGE];
        header[..HEADER].copy_from_slice(&self.header.encode());
        let mut output = std::io::BufWriter::with_capacity(16 * PAGE, file);
        output.write_all(&header)?;
        for (bucket, page) in &mut self.pages {
            seal(page, *bucket);
            output.write_all(page.as_slice())?;
        }
        output.flush()
    }

    /// The entries of one key's hash.
    pub fn find(&mut self, hash: u64) -> Result<Vec<Entry>, Corrupt> {
        let mut found = Vec::new();
        for bucket in self.chain(hash) {
            let page = self.page(bucket)?;
            found.extend(entries(page).filter(|entry| entry.hash == hash));
            if !overflowed(page) {
                break;
            }
        }
        Ok(found)
    }

    /// Adds an entry. An index that gets too full is made anew, twice the size.
    pub fn insert(&mut self, directory: &Directory, entry: &Entry) -> Result<(), Corrupt> {
        let buckets = self.header.buckets;
        if is_too_full(self.header.count + 1, buckets) && buckets < MOST_BUCKETS {
            let all = self.all()?;
            let grown = Index::build_with(directory, self.header.boot, &all, buckets * 2);
            let unverified = self.header.unverified;
            *self = grown;
            self.header.unverified = unverified;
        }
        self.put(entry)
    }

    fn put(&mut self, entry: &Entry) -> Result<(), Corrupt> {
        for bucket in self.chain(entry.hash) {
            let page = self.page(bucket)?;
            if let Some(place) = (0..ENTRIES).find(|&place| decode_entry(page, place).is_none()) {
                encode_entry(page, place, entry);
                self.mark(bucket);
                self.header.count += 1;
                return Ok(());
            }
            if !overflowed(page) {
                page[8] = 1;
                self.mark(bucket);
            }
        }
        // Every bucket full although the header counts fewer: the count is wrong.
        Err(Corrupt)
    }

    /// Removes the entry of an address, if it is there.
    pub fn remove(&mut self, hash: u64, address: u128) -> Result<(), Corrupt> {
        for bucket in self.chain(hash) {
            let page = self.page(bucket)?;
            let place = (0..ENTRIES).find(|&place| {
                decode_entry(page, place).is_some_and(|entry| entry.hash == hash && entry.address == address)
            });
            if let Some(place) = place {
                let start = PAGE_HEAD + place * ENTRY;
                page[start..start + ENTRY].fill(0);
                self.mark(bucket);
                self.header.count = self.header.count.saturating_sub(1);
                return Ok(());
            }
            if !overflowed(page) {
                break;
            }
        }
        Ok(())
    }

    /// Every entry, in no order.
    pub fn all(&mut self) -> Result<Vec<Entry>, Corrupt> {
        // Not kept as pages: the largest index is larger than what a plugin should hold.
        const CHUNK: usize = 16;
        let mut all = Vec::with_capacity(self.header.count.min(1 << 20) as usize);
        let mut chunk = vec![0; CHUNK * PAGE];
        for first in (0..self.header.buckets).step_by(CHUNK) {
            let last = self.header.buckets.min(first + CHUNK as u32);
            let bytes = &mut chunk[..(last - first) as usize * PAGE];
            if let Some(file) = &self.file {
                file.read_exact_at(bytes, (u64::from(first) + 1) * PAGE as u64).map_err(|_| Corrupt)?;
            }
            for (bucket, bytes) in (first..last).zip(bytes.chunks_exact(PAGE)) {
                match self.pages.get(&bucket) {
                    Some(page) => all.extend(entries(page)),
                    None => {
                        let page: &[u8; PAGE] = bytes.try_into().expect("a chunk of a page's size");
                        require_sealed(page, bucket)?;
                        all.extend(entries(page));
                    }
                }
            }
        }
        Ok(all)
    }

    /// The buckets in which a hash may be, the likely one first.
    fn chain(&self, hash: u64) -> impl Iterator<Item = u32> + use<> {
        let buckets = self.header.buckets;
        // The low bits choose; `buckets` is a power of two.
        let home = hash as u32 & (buckets - 1);
        (0..buckets).map(move |step| (home + step) & (buckets - 1))
    }

    fn page(&mut self, bucket: u32) -> Result<&mut Page, Corrupt> {
        if let std::collections::btree_map::Entry::Vacant(vacant) = self.pages.entry(bucket) {
            let mut page = Box::new([0; PAGE]);
            let file = self.file.as_ref().ok_or(Corrupt)?;
            file.read_exact_at(page.as_mut_slice(), (u64::from(bucket) + 1) * PAGE as u64).map_err(|_| Corrupt)?;
            require_sealed(&page, bucket)?;
            vacant.insert(page);
        }
        self.pages.get_mut(&bucket).ok_or(Corrupt)
    }

    fn mark(&mut self, bucket: u32) {
        if !self.dirty.contains(&bucket) {
            self.dirty.push(bucket);
        }
    }

    /// Says in the header that changes are under way. Before the first of them, once.
    pub fn begin(&mut self) {
        if !self.in_flux {
            self.in_flux = true;
            let header = Header { signature: 0, ..self.header };
            self.write(&header.encode(), 0);
        }
    }

    /// Writes changed entries.
    pub fn flush(&mut self) {
        self.begin();
        for bucket in std::mem::take(&mut self.dirty) {
            let Some(page) = self.pages.get_mut(&bucket) else { continue };
            seal(page, bucket);
            let page = page.clone();
            self.write(page.as_slice(), (u64::from(bucket) + 1) * PAGE as u64);
        }
    }

    /// Ends a change: entries, header, and then the witness. Without changes nothing is written.
    pub fn settle(&mut self, directory: &Directory) {
        if !self.in_flux {
            return;
        }
        self.flush();
        let Ok(stamp) = directory.stamp() else { return };
        self.header.directory = stamp.inode;
        self.header.signature = next_signature(self.header.signature);
        let header = self.header.encode();
        self.write(&header, 0);
        if self.file.is_none() {
            return;
        }
        match directory.set_mtime(self.header.signature) {
            Ok(()) => self.in_flux = false,
            // Correct all the same, only slower: the next call compares index and files.
            Err(error) => log::debug!("{}: setting the time of last change: {error}", directory.path().display()),
        }
    }

    /// Whatever can't be written is left as it is: the header is in flux, so the next call starts from the files.
    fn write(&mut self, bytes: &[u8], offset: u64) {
        let Some(file) = &self.file else { return };
        if let Err(error) = file.write_all_at(bytes, offset) {
            log::warn!("{NAME}: {error}; the next call rebuilds it");
            // What was not read yet can't be read any more, and is not needed: files are asked instead.
            self.file = None;
        }
    }

    /// Does `stamp` of the directory say that nobody but us changed it?
    pub fn is_witnessed(&self, stamp: &Stamp) -> bool {
        let Header { signature, directory, .. } = self.header;
        signature != 0 && (stamp.seconds, stamp.nanoseconds) == (signature, 0) && stamp.inode == directory
    }
}

impl Header {
    fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..16].copy_from_slice(MAGIC);
        bytes[24..40].copy_from_slice(&self.boot.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.signature.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.directory.to_le_bytes());
        bytes[56..60].copy_from_slice(&self.buckets.to_le_bytes());
        bytes[60] = u8::from(self.unverified);
        bytes[64..72].copy_from_slice(&self.count.to_le_bytes());
        let sum = XxHash64::oneshot(0, &bytes[24..]);
        bytes[16..24].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER]) -> Option<Self> {
        let sum = u64::from_le_bytes(field(bytes, 16));
        let buckets = u32::from_le_bytes(field(bytes, 56));
        let count = u64::from_le_bytes(field(bytes, 64));
        let sound = bytes.starts_with(MAGIC)
            && sum == XxHash64::oneshot(0, &bytes[24..])
            && buckets.is_power_of_two()
            && (FEWEST_BUCKETS..=MOST_BUCKETS).contains(&buckets)
            && count <= u64::from(buckets) * ENTRIES as u64;
        sound.then(|| Header {
            boot: u128::from_le_bytes(field(bytes, 24)),
            signature: i64::from_le_bytes(field(bytes, 40)),
            directory: u64::from_le_bytes(field(bytes, 48)),
            unverified: bytes[60] != 0,
            count,
            buckets,
        })
    }
}

/// Up to seven tenths nearly every entry is in the bucket of its hash.
fn is_too_full(count: u64, buckets: u32) -> bool {
    count * 10 > u64::from(buckets) * ENTRIES as u64 * 7
}

/// Another even second from 1971 to 1985: even because some file systems count in twos, not 1970 because clocks that
/// were never set start there.
fn next_signature(last: i64) -> i64 {
    const FIRST: i64 = 31_536_000;
    const END: i64 = 473_385_600;
    if (FIRST..END - 2).contains(&last) {
        return last + 2;
    }
    // A new index starts anywhere, so that it never meets the time that an older one left.
    let random = RandomState::new().build_hasher().finish();
    FIRST + (random % ((END - FIRST) as u64 / 2)) as i64 * 2
}

#[cfg(test)]
mod tests;
