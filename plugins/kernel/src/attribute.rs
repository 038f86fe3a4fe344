//! Attributes, read one by one from the kernel's bytes.
//!
//! Where the library's decoder would build every attribute there is and a handful is wanted (links), or is too slow for
//! the longest answers (sets of nftables), the bytes are read here. Half an attribute ends the list.

use netlink_packet_core::NlasIterator;

/// Kind and value of each attribute.
pub fn each(attributes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(attributes).filter_map(|attribute| {
        const HEADER: usize = 4;
        let attribute = attribute.ok()?;
        let (kind, end) = (attribute.kind(), usize::from(attribute.length()));
        Some((kind, attribute.into_inner().get(HEADER..end)?))
    })
}

/// The value of the first attribute of that kind.
pub fn within(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    each(attributes).find(|(its_kind, _)| *its_kind == kind).map(|(_, value)| value)
}

/// A number of the machine's byte order.
pub fn number(value: &[u8]) -> Option<u32> {
    value.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

/// Text, with or without a zero byte at its end.
pub fn text(value: &[u8]) -> String {
    String::from_utf8_lossy(value).trim_end_matches('\0').to_owned()
}

/// Of an attribute of one byte: is it anything but 0?
pub fn is_on(value: &[u8]) -> bool {
    value.first().is_some_and(|byte| *byte != 0)
}
