//! Whose an object is.
//!
//! An [`Owner`] is sixteen bytes: eight say the network, eight the attachment. They stand in the comments of
//! nftables elements and in the alias of the node's end of each veth pair ([`Label`]), so that what belongs to an attachment is
//! found with nothing but its names, and what belongs to another is never taken for it. The kernel is the only place where
//! this is kept: it goes when the object goes.

use std::fmt;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use sha2::{Digest, Sha256};

use crate::cluster::{Inside, as_many};
use crate::mac::Mac;

/// The longest alias, in bytes: the kernel takes 255 (IFALIASZ of include/uapi/linux/if.h, less one), and counts the final zero
/// that comes with a string in a message.
const MAX_ALIAS: usize = 254;

/// The first word of an alias of ours.
const MARK: &str = "podwire";

/// The highest bit of a tag that [`NetworkTag::number`] keeps, cleared in an overlay's.
const OVERLAY: u8 = 0x08;

/// A network's half of an [`Owner`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetworkTag([u8; 8]);

impl NetworkTag {
    /// The tag of the network called `name`.
    pub fn new(name: &str) -> Self {
        NetworkTag(digest(&[name]))
    }

    /// Reads a tag as it is written.
    pub(crate) fn from_hex(text: &str) -> Option<Self> {
        unhex(text)?.try_into().ok().map(NetworkTag)
    }

    /// A number for what only takes a number: the metric of the network's routes to other nodes, and its private
    /// routing table ([`crate::witness`]). Above all that people give out by hand, below 2^31.
    pub fn number(self) -> u32 {
        let [a, b, c, d, ..] = self.0;
        0x7000_0000 | (u32::from_be_bytes([a, b, c, d]) & 0x0fff_ffff)
    }

    /// The tag of what leads to the network's other nodes: apart from the network's own, and one for routes over the
    /// underlay, one for an overlay, for both may be in one chain. An overlay's number is the smaller one, so its
    /// routes win.
    pub fn of_cluster(self, overlay: bool) -> Self {
        let NetworkTag(mut bytes) = self;
        bytes[0] = if overlay { bytes[0] & !OVERLAY } else { bytes[0] | OVERLAY };
        NetworkTag(bytes)
    }

    /// What the names of this network's host ends begin with.
    fn prefix(self) -> String {
        format!("veth{}", base32(self.0, 3))
    }

    /// Could a link of that name be a host end of this network? Its label says for sure, if it has one.
    pub fn could_own(self, name: &str) -> bool {
        name.len() == 15 && name.starts_with(&self.prefix()) && name.bytes().skip(4).all(|b| ALPHABET.contains(&b))
    }
}

/// An attachment of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Owner {
    network: NetworkTag,
    attachment: [u8; 8],
}

impl Owner {
    /// The attachment called `attachment` (whatever identifies it there) of the network called `network`.
    pub fn new(network: &str, attachment: &str) -> Self {
        Owner { network: NetworkTag::new(network), attachment: digest(&[network, attachment]) }
    }

    /// Its network.
    pub fn network(self) -> NetworkTag {
        self.network
    }

    /// The name of its veth's end on the node: `veth`, three characters of the network's tag, eight of its own.
    pub fn host_end(self) -> String {
        format!("{}{}", self.network.prefix(), base32(self.attachment, 8))
    }

    /// From the 32 hexadecimal digits that it is written as; anything else is not ours.
    pub fn from_hex(text: &str) -> Option<Self> {
        let bytes = unhex(text)?;
        let (network, attachment) = bytes.split_first_chunk::<8>()?;
        Some(Owner { network: NetworkTag(*network), attachment: attachment.try_into().ok()? })
    }
}

impl fmt::Display for NetworkTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.network.0.iter().chain(&self.attachment).try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// What the alias of a host end says: whose it is, and what nftables should hold for it. From the latter the rules of
/// every living Pod are restored after somebody flushed nftables.
///
/// `podwire 0123…cdef mac=0a:58:0a:16:00:05 masquerade=10.22.0.5/16,fd00::5/64 cluster=0123456789abcdef:10.244.0.0/16 mynet/container/eth0`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Whose.
    pub owner: Owner,
    /// The Pod's addresses that are masqueraded, each with the subnet that it is not masqueraded towards; as many as the
    /// alias has room for, which is three at least, with `address_check` two.
    pub masquerade: Vec<IpNetwork>,
    /// Of a Pod in a network of many nodes: what else is not masqueraded towards. As many subnets as the alias has room
    /// for, the largest first.
    pub cluster: Option<Inside>,
    /// The only hardware address that may send from the Pod, if that is checked.
    pub mac_check: Option<Mac>,
    /// The only addresses that may send from the Pod, if that is checked. Those that are masqueraded too are written
    /// once.
    pub address_check: Vec<IpAddr>,
    /// Must what the Pod sends by IPv6 have a source address that is routed to it?
    pub source_check: bool,
    /// For people: network, container and interface. Cut where the alias would be too long.
    pub words: String,
}

impl Label {
    /// Reads an alias; `None` if it is not one of ours.
    pub fn parse(alias: &str) -> Option<Self> {
        let mut parts = alias.split(' ');
        if parts.next()? != MARK {
            return None;
        }
        let owner = Owner::from_hex(parts.next()?)?;
        let mut label = Label {
            owner,
            masquerade: Vec::new(),
            cluster: None,
            mac_check: None,
            address_check: Vec::new(),
            source_check: false,
            words: String::new(),
        };
        for part in parts {
            match part.split_once('=') {
                Some(("masquerade", list)) => {
                    label.masquerade = list.split(',').filter_map(|a| a.parse().ok()).collect()
                }
                Some(("cluster", text)) => label.cluster = Inside::read_outline(text),
                Some(("mac", mac)) => label.mac_check = mac.parse().ok(),
                Some(("senders", list)) => {
                    label.address_check = label.masquerade.iter().map(IpNetwork::ip).collect();
                    label.address_check.extend(list.split(',').filter_map(|a| a.parse::<IpAddr>().ok()));
                }
                Some(("check", "sources")) => label.source_check = true,
                _ => label.words = part.to_owned(),
            }
        }
        Some(label)
    }

    /// Has an alias room for all the addresses that may send? Those that it has none for could not be restored.
    pub fn fits(&self) -> bool {
        self.to_string().len() <= MAX_ALIAS
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = format!("{MARK} {}", self.owner);
        if let Some(mac) = self.mac_check {
            text.push_str(&format!(" mac={mac}"));
        }
        if self.source_check {
            text.push_str(" check=sources");
        }
        // At least its network.
        let cluster = self.cluster.as_ref().map(|inside| format!(" cluster={}", inside.outline(0))).unwrap_or_default();
        let mut masquerade = String::new();
        if !self.masquerade.is_empty() {
            text.push_str(" masquerade=");
            let senders = if self.address_check.is_empty() { 0 } else { ROOM_FOR_LINK_LOCAL };
            masquerade = as_many(&self.masquerade, room_after(&text).saturating_sub(cluster.len() + senders));
            text.push_str(&masquerade);
        }
        if !self.address_check.is_empty() {
            let is_written = |address: &&IpAddr| masquerade.split(',').any(|it| is_of(it, **address));
            let more = self.address_check.iter().filter(|address| !is_written(address)).map(IpAddr::to_string);
            text.push_str(&format!(" senders={}", more.collect::<Vec<_>>().join(",")));
        }
        if let Some(inside) = &self.cluster {
            text.push_str(" cluster=");
            text.push_str(&inside.outline(room_after(&text).min(MAX_FOR_CLUSTER)));
        }
        let room = room_after(&text);
        let end = (0..=room.min(self.words.len())).rev().find(|&at| self.words.is_char_boundary(at)).unwrap_or(0);
        write!(f, "{text} {}", &self.words[..end])
    }
}

/// ` senders=` and a link-local address.
const ROOM_FOR_LINK_LOCAL: usize = 9 + 25;

fn is_of(network: &str, address: IpAddr) -> bool {
    network.parse().is_ok_and(|network: IpNetwork| network.ip() == address)
}

/// Room for the cluster's outline in an alias, in bytes, so that some is left for the words.
const MAX_FOR_CLUSTER: usize = 107;

/// What an alias that begins with `text` has room for, in bytes, less the space before the words.
fn room_after(text: &str) -> usize {
    MAX_ALIAS.saturating_sub(text.len() + 1)
}

/// The first eight bytes of SHA-256 over the parts, which have no zero bytes: nobody can choose names that collide.
fn digest(parts: &[&str]) -> [u8; 8] {
    let hash = Sha256::digest(parts.join("\0"));
    *hash.first_chunk().expect("a SHA-256 has 32 bytes")
}

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

fn base32(bytes: [u8; 8], characters: u32) -> String {
    let number = u64::from_be_bytes(bytes);
    (0..characters).map(|at| ALPHABET[(number >> (59 - 5 * at)) as usize & 31] as char).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| (byte as char).to_digit(16).map(|digit| digit as u8);
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(*pair.get(1)?)?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_ends_have_names_the_kernel_takes_and_tell_their_network() {
        let owner = Owner::new("mynet", "container/eth0");
        let name = owner.host_end();
        assert_eq!(name.len(), 15);
        assert!(owner.network().could_own(&name));
        assert!(!NetworkTag::new("other").could_own(&name));
        assert!(!owner.network().could_own("veth12345678"));
        assert_ne!(name, Owner::new("mynet", "container/eth1").host_end());
        // Names are found again after an upgrade: they must never change.
        assert_eq!(name, "vethcheaw4kbxn4");
    }

    #[test]
    fn a_label_reads_as_it_is_written_and_fits() {
        let label = Label {
            owner: Owner::new("n", "c/eth0"),
            masquerade: vec!["10.22.0.5/16".parse().unwrap(), "fd00::5/64".parse().unwrap()],
            cluster: Some(Inside {
                network: NetworkTag::new("n"),
                subnets: vec!["10.0.0.0/8".parse().unwrap()],
                is_all: false,
            }),
            mac_check: Some(Mac([2, 0, 0, 0, 0, 1])),
            address_check: ["10.22.0.5", "fd00::5", "fe80::1"].map(|ip| ip.parse().unwrap()).to_vec(),
            source_check: true,
            words: "n/c/eth0".into(),
        };
        assert_eq!(Label::parse(&label.to_string()), Some(label.clone()));
        let long = Label { words: "ä".repeat(300), ..label.clone() };
        assert!(long.to_string().len() <= MAX_ALIAS);
        assert_eq!(Label::parse(&long.to_string()).unwrap().owner, label.owner);
        let crowded = Label {
            masquerade: (1..9)
                .map(|n| format!("2001:db8:1111:2222:3333:4444:5555:{n}666/64").parse().unwrap())
                .collect(),
            address_check: Vec::new(),
            ..long
        };
        assert!(crowded.to_string().len() <= MAX_ALIAS, "{crowded}");
        let read = Label::parse(&crowded.to_string()).unwrap();
        assert_eq!(read.masquerade, crowded.masquerade[..read.masquerade.len()]);
        assert!(read.masquerade.len() > 2 && read.cluster.unwrap().network == NetworkTag::new("n"));
        let checked = Label { address_check: crowded.masquerade.iter().map(IpNetwork::ip).collect(), ..crowded };
        assert!(label.fits() && !checked.fits());
        for foreign in ["", "podwire", "podwire 12", "podwire zz", "uplink to rack 7"] {
            assert_eq!(Label::parse(foreign), None, "{foreign}");
        }
    }
}
