//! The index's pages: entries as bytes, and the checksum that says whether they are as we wrote them.
//!
//! A bucket is 16 bytes of its own (checksum, overflow mark) and 85 entries of 48 bytes, little-endian. Hashes and
//! checksums are XXH64, which is the same in every build and on every machine.

use twox_hash::XxHash64;

use crate::directory::Stamp;

/// The size of a page, in bytes.
pub const PAGE: usize = 4096;
/// What a bucket keeps for itself, before its entries.
pub const PAGE_HEAD: usize = 16;
/// The size of an entry.
pub const ENTRY: usize = 48;
/// How many a bucket holds.
pub const ENTRIES: usize = (PAGE - PAGE_HEAD) / ENTRY;

/// A bucket.
pub type Page = Box<[u8; PAGE]>;

/// The hash of an address file's text.
pub fn hash(text: &[u8]) -> u64 {
    XxHash64::oneshot(0, text)
}

/// How an entry came about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Origin {
    /// Found in the directory: stays until DEL or GC.
    Adopted,
    /// Made by us in the header's boot.
    Own,
    /// Found, and no file at all: keeps its address taken.
    NoFile,
    /// Found, and it could not be read: keeps its address taken, and is tried again.
    Unread,
}

/// One address that is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// [`hash`] of what the address file holds.
    pub hash: u64,
    /// The address as a number (range.rs).
    pub address: u128,
    /// The address file, as it was when this was written down.
    pub stamp: Stamp,
    /// How it came about.
    pub origin: Origin,
}

/// A page whose checksum does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

/// The `N` bytes at `at`.
pub fn field<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("N bytes")
}

/// Was it full once? Then entries of its hashes may be in the next.
pub fn overflowed(page: &[u8; PAGE]) -> bool {
    page[8] != 0
}

/// Its entries.
pub fn entries(page: &[u8; PAGE]) -> impl Iterator<Item = Entry> + '_ {
    (0..ENTRIES).filter_map(|place| decode_entry(page, place))
}

/// The entry at a place, if there is one.
pub fn decode_entry(page: &[u8; PAGE], place: usize) -> Option<Entry> {
    let at = PAGE_HEAD + place * ENTRY;
    let origin = match page[at + 44] {
        1 => Origin::Adopted,
        2 => Origin::Own,
        3 => Origin::NoFile,
        4 => Origin::Unread,
        _ => return None,
    };
    Some(Entry {
        hash: u64::from_le_bytes(field(page, at)),
        address: u128::from_le_bytes(field(page, at + 8)),
        stamp: Stamp {
            inode: u64::from_le_bytes(field(page, at + 24)),
            seconds: i64::from_le_bytes(field(page, at + 32)),
            nanoseconds: u32::from_le_bytes(field(page, at + 40)),
        },
        origin,
    })
}

/// Writes an entry at a place.
pub fn encode_entry(page: &mut [u8; PAGE], place: usize, entry: &Entry) {
    let bytes = &mut page[PAGE_HEAD + place * ENTRY..][..ENTRY];
    bytes[..8].copy_from_slice(&entry.hash.to_le_bytes());
    bytes[8..24].copy_from_slice(&entry.address.to_le_bytes());
    bytes[24..32].copy_from_slice(&entry.stamp.inode.to_le_bytes());
    bytes[32..40].copy_from_slice(&entry.stamp.seconds.to_le_bytes());
    bytes[40..44].copy_from_slice(&entry.stamp.nanoseconds.to_le_bytes());
    bytes[44] = match entry.origin {
        Origin::Adopted => 1,
        Origin::Own => 2,
        Origin::NoFile => 3,
        Origin::Unread => 4,
    };
}

/// A page's checksum holds its number too, so that a page in another's place is noticed.
fn sum(page: &[u8; PAGE], bucket: u32) -> u64 {
    XxHash64::oneshot(u64::from(bucket) + 1, &page[8..])
}

/// Brings the checksum up to date.
pub fn seal(page: &mut [u8; PAGE], bucket: u32) {
    let sum = sum(page, bucket);
    page[..8].copy_from_slice(&sum.to_le_bytes());
}

/// Does the checksum hold?
pub fn require_sealed(page: &[u8; PAGE], bucket: u32) -> Result<(), Corrupt> {
    if u64::from_le_bytes(field(page, 0)) == sum(page, bucket) { Ok(()) } else { Err(Corrupt) }
}
