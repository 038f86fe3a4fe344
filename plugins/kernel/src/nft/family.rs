//! The two address families, as rules and sets of nftables see them.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use netlink_packet_netfilter::nftables::{MetaKey, Register};

use super::{Expression, equals, masked, meta, payload};

/// NFT_PAYLOAD_NETWORK_HEADER of include/uapi/linux/netfilter/nf_tables.h.
const NETWORK_HEADER: u32 = 1;

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    /// nft's number for the type of a set of addresses (nftables' include/datatype.h): only `nft list` reads it.
    pub fn set_type(self) -> u32 {
        match self {
            Family::V4 => 7,
            Family::V6 => 8,
        }
    }

    /// Goes on only for packets of this family, with the source address in the first register.
    pub fn source(self) -> Vec<Expression> {
        self.address_at(self.source_offset())
    }

    /// Goes on only for packets of this family, with the destination address in the first register.
    pub fn destination(self) -> Vec<Expression> {
        self.address_at(self.source_offset() + self.bytes())
    }

    /// Goes on only for packets to `network`. The whole address is loaded and masked, as nft itself does, so that
    /// `nft list` shows `ip daddr 10.22.0.0/16`.
    pub fn towards(self, network: &IpNetwork) -> Vec<Expression> {
        let mut rule = self.destination();
        rule.extend([masked(&bytes(network.mask())), equals(&bytes(network.network()))]);
        rule
    }

    /// Every multicast address (RFC 5771, RFC 4291).
    pub fn multicast(self) -> IpNetwork {
        let text = match self {
            Family::V4 => "224.0.0.0/4",
            Family::V6 => "ff00::/8",
        };
        text.parse().expect("a network")
    }

    /// The length of an address.
    pub fn bytes(self) -> u32 {
        match self {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }

    fn address_at(self, offset: u32) -> Vec<Expression> {
        let address = payload(NETWORK_HEADER, offset, self.bytes(), Register::Reg1);
        vec![meta(MetaKey::Nfproto), equals(&[self.nfproto()]), address]
    }

    /// NFPROTO_IPV4 and NFPROTO_IPV6 of include/uapi/linux/netfilter.h.
    fn nfproto(self) -> u8 {
        match self {
            Family::V4 => 2,
            Family::V6 => 10,
        }
    }

    /// Where the source address is in the header (RFC 791, RFC 8200).
    fn source_offset(self) -> u32 {
        match self {
            Family::V4 => 12,
            Family::V6 => 8,
        }
    }
}

/// An address in network byte order.
pub fn bytes(ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    }
}
