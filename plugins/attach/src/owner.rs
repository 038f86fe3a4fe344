//! The owner of an object: an attachment of a network.
//!
//! An [`Owner`] is sixteen bytes: the network's tag, and eight more for the attachment. They are in the comments of nftables
//! elements and in the alias of the node's end of each veth pair ([`crate::label`]). So everything that belongs to an
//! attachment is found by its names alone, and an object of another one is never taken for it. The kernel is the only
//! place where this is kept: it goes when the object goes.

use std::fmt;

use cluster::tag::{NetworkTag, digest, unhex};

/// An attachment of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    network: NetworkTag,
    attachment: [u8; 8],
}

impl Owner {
    /// The attachment called `attachment` (its container ID and interface name) of the network called `network`.
    pub fn new(network: &str, attachment: &str) -> Self {
        Owner { network: NetworkTag::new(network), attachment: digest(&[network, attachment]) }
    }

    /// Its network.
    pub fn network(self) -> NetworkTag {
        self.network
    }

    /// The name of its veth's end on the node: `veth`, three characters of the network's tag, eight of its own.
    pub fn host_end(self) -> String {
        format!("{}{}", prefix(self.network), base32(self.attachment, 8))
    }

    /// Reads an owner as it is written, 32 hexadecimal digits; `None` for any other text.
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes = unhex(text)?;
        let (network, attachment) = bytes.split_first_chunk::<8>()?;
        Some(Owner { network: NetworkTag::from_bytes(*network), attachment: attachment.try_into().ok()? })
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.network)?;
        self.attachment.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Could a link of that name be a host end of this network? Its label says for sure, if it has one.
pub fn could_own(network: NetworkTag, name: &str) -> bool {
    name.len() == 15 && name.starts_with(&prefix(network)) && name.bytes().skip(4).all(|b| ALPHABET.contains(&b))
}

/// What the names of a network's host ends begin with.
fn prefix(network: NetworkTag) -> String {
    format!("veth{}", base32(network.bytes(), 3))
}

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

fn base32(bytes: [u8; 8], characters: u32) -> String {
    let number = u64::from_be_bytes(bytes);
    (0..characters).map(|at| ALPHABET[(number >> (59 - 5 * at)) as usize & 31] as char).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_ends_have_names_the_kernel_takes_and_tell_their_network() {
        let owner = Owner::new("mynet", "container/eth0");
        let name = owner.host_end();
        assert_eq!(name.len(), 15);
        assert!(could_own(owner.network(), &name));
        assert!(!could_own(NetworkTag::new("other"), &name));
        assert!(!could_own(owner.network(), "veth12345678"));
        assert_ne!(name, Owner::new("mynet", "container/eth1").host_end());
        // Names are found again after an upgrade: they must never change.
        assert_eq!(name, "vethcheaw4kbxn4");
    }

    #[test]
    fn an_owner_reads_as_it_is_written() {
        let owner = Owner::new("n", "c/eth0");
        assert_eq!(Owner::from_hex(&owner.to_string()), Some(owner));
        for foreign in ["", "12", "zz", "0123456789abcdef"] {
            assert_eq!(Owner::from_hex(foreign), None, "{foreign}");
        }
    }
}
