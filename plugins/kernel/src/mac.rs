//! Hardware addresses.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::str::FromStr;

use sha2::{Digest, Sha256};

/// An Ethernet address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// An address that no other node has: 46 random bits, locally administered, unicast.
    ///
    /// Links get theirs from us when they are made, for an address that the kernel picked is "random" in its books,
    /// and udev replaces those.
    ///
    /// The bits are a hash of nothing under std's random keys: the kernel gave those once, with no file to open.
    pub fn random() -> Self {
        let [mut bytes @ .., _, _] = RandomState::new().build_hasher().finish().to_ne_bytes();
        bytes[0] = bytes[0] & 0xfc | 0x02;
        Mac(bytes)
    }

    /// The address derived from an IP address, as Kubernetes' own network plugins did: `0a:58:` and the four bytes of
    /// an IPv4 address, or the last four of an IPv6 one.
    pub fn of_ip(ip: IpAddr) -> Self {
        let [a, b, c, d] = match ip {
            IpAddr::V4(ip) => ip.octets(),
            IpAddr::V6(ip) => {
                let octets = ip.octets();
                [octets[12], octets[13], octets[14], octets[15]]
            }
        };
        Mac([0x0a, 0x58, a, b, c, d])
    }

    /// The address that follows from some words, locally administered, unicast: whoever knows the words knows it.
    pub fn of_words(words: &[&str]) -> Self {
        let hash = Sha256::digest(words.join("\0"));
        let mut bytes: [u8; 6] = *hash.first_chunk().expect("a SHA-256 has 32 bytes");
        bytes[0] = bytes[0] & 0xfc | 0x02;
        Mac(bytes)
    }

    /// From the bytes of a netlink attribute; none if they are not six (a tunnel has four or sixteen).
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Mac)
    }

    /// As netlink takes it.
    pub fn to_vec(self) -> Vec<u8> {
        self.0.to_vec()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl FromStr for Mac {
    type Err = String;

    /// `aa:bb:cc:dd:ee:ff`, or with hyphens. A multicast address or an interface cannot have the address of all zeros.
    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Vec<&str> = text.split([':', '-']).collect();
        let byte = |part: &&str| match part.as_bytes() {
            [high, low] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => u8::from_str_radix(part, 16).ok(),
            _ => None,
        };
        let bytes: Option<Vec<u8>> = parts.iter().map(byte).collect();
        let mac = bytes.and_then(|bytes| Mac::from_bytes(&bytes)).ok_or("not six bytes as aa:bb:cc:dd:ee:ff")?;
        match mac.0 {
            [0, 0, 0, 0, 0, 0] => Err("an interface cannot have the address of all zeros".to_owned()),
            [first, ..] if first & 1 == 1 => Err("an interface cannot have a multicast address".to_owned()),
            _ => Ok(mac),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_refuses_what_no_interface_can_have() {
        let mac: Mac = "0A:58:0a-f4:00:06".parse().unwrap();
        assert_eq!(mac.to_string(), "0a:58:0a:f4:00:06");
        assert_eq!(mac, Mac::of_ip("10.244.0.6".parse().unwrap()));
        for bad in ["", "0a:58", "0a:58:0a:f4:00:0g", "01:00:5e:00:00:01", "00:00:00:00:00:00", "+a:58:0a:f4:00:06"] {
            assert!(bad.parse::<Mac>().is_err(), "{bad}");
        }
        assert_eq!(Mac::random().0[0] & 3, 2);
        let many: std::collections::HashSet<Mac> = (0..10_000).map(|_| Mac::random()).collect();
        assert_eq!(many.len(), 10_000);
    }
}
