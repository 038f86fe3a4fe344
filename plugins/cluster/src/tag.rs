//! A network's tag: eight bytes that stand for its name wherever the kernel has room for no more.
//!
//! The tag is in the names of nftables sets and chains, in the aliases of VXLAN devices, and, as a number, in the metric of
//! routes and in the number of a routing table. It follows from the name alone, so every process derives the same one.

use std::fmt;

use sha2::{Digest, Sha256};

/// The highest bit of a tag that [`NetworkTag::number`] keeps, cleared in an overlay's.
const OVERLAY: u8 = 0x08;

/// A network, by its tag. It is written as sixteen hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetworkTag([u8; 8]);

impl NetworkTag {
    /// The tag of the network called `name`.
    pub fn new(name: &str) -> Self {
        NetworkTag(digest(&[name]))
    }

    /// The tag with these bytes.
    pub fn from_bytes(bytes: [u8; 8]) -> Self {
        NetworkTag(bytes)
    }

    /// Its bytes.
    pub fn bytes(self) -> [u8; 8] {
        self.0
    }

    /// Reads a tag as it is written; `None` for any other text.
    pub fn from_hex(text: &str) -> Option<Self> {
        unhex(text)?.try_into().ok().map(NetworkTag)
    }

    /// A number for what only takes a number: the metric of the network's routes to other nodes, and its private
    /// routing table ([`crate::witness`]). Above all that people give out by hand, below 2^31.
    pub fn number(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        0x7000_0000 | (u32::from_be_bytes([a, b, c, d]) & 0x0fff_ffff)
    }

    /// The tag of what leads to the network's other nodes. It differs from the network's own, and an overlay's differs from
    /// that of routes over the underlay, since one chain may have both. An overlay's number is the smaller one, so its
    /// routes win.
    pub fn of_cluster(self, overlay: bool) -> Self {
        let NetworkTag(mut bytes) = self;
        bytes[0] = if overlay { bytes[0] & !OVERLAY } else { bytes[0] | OVERLAY };
        NetworkTag(bytes)
    }
}

impl fmt::Display for NetworkTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The first eight bytes of SHA-256 over the parts, which contain no zero bytes: nobody can choose names that collide.
pub fn digest(parts: &[&str]) -> [u8; 8] {
    let hash = Sha256::digest(parts.join("\0"));
    *hash.first_chunk().expect("a SHA-256 has 32 bytes")
}

/// The bytes that hexadecimal digits stand for; `None` for any other text.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_reads_as_it_is_written_and_an_overlay_has_a_smaller_number() {
        let tag = NetworkTag::new("mynet");
        assert_eq!(NetworkTag::from_hex(&tag.to_string()), Some(tag));
        assert!(tag.of_cluster(true).number() < tag.of_cluster(false).number());
        for foreign in ["", "12", "zz", "0123456789abcdef0"] {
            assert_eq!(NetworkTag::from_hex(foreign), None, "{foreign}");
        }
    }
}
