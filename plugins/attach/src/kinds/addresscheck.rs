//! Address spoof check: what comes from a Pod's port of a bridge must come from the Pod's own addresses.
//!
//! ```text
//! table bridge podwire {
//!   set ports { ifname = "vethabc…" }                                   one element a Pod
//!   set senders4 { ifname . ipv4_addr = "vethabc…" . 10.22.0.5 }        one element an address
//!   set senders6 { ifname . ipv6_addr = "vethabc…" . fd00:22::5, "vethabc…" . fe80::… }
//!   chain addresscheck { type filter hook prerouting priority -300
//!     iifname != @ports accept
//!     ip:    iifname . ip saddr @senders4 accept
//!     arp:   iifname . sender address @senders4 accept
//!     ipv6:  router advertisement, redirect: drop
//!            neighbor advertisement: iifname . target != @senders6 drop
//!            from ::, neighbor solicitation: iifname . target @senders6 accept
//!            from ::, multicast listener report: accept
//!            iifname . ip6 saddr @senders6 accept
//!     drop }
//! }
//! ```
//!
//! A frame meets the same few rules however many Pods there are. What is neither IP nor ARP is dropped too: a tag or a
//! tunnel around a forged packet is no way around.
//!
//! Its part of the label: `senders=fe80::1`, the addresses that are not in the part of masquerade. As with the MAC check,
//! when the table is gone the next ADD puts back what the labels of living Pods say.
//! (ARP: RFC 826; neighbor discovery: RFC 4861; listener reports: RFC 3810.)

use std::net::{IpAddr, Ipv6Addr};

use netlink_packet_netfilter::nftables::{InetHookNumber, MetaKey, Register};

use kernel::kernel::changed;
use kernel::nft::{self, BaseChain, Element, Expression};
use kernel::{Kernel, Mac, Made, Object, Result};

use crate::kinds::{BRIDGE, Kind, Owned, by_comment, lost_with_table, masquerade};
use crate::label::Label;
use crate::owner::Owner;

const CHAIN: &str = "addresscheck";
const PORTS: &str = "ports";
const SENDERS4: &str = "senders4";
const SENDERS6: &str = "senders6";

/// The check for one Pod's port. Owned by its attachment.
#[derive(Clone, Debug)]
pub struct AddressCheck {
    /// The attachment.
    pub owner: Owner,
    /// The only source addresses that are let in.
    pub addresses: Vec<IpAddr>,
}

impl Object for AddressCheck {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        let take_over = || AddressChecks.sweep(kernel, &|owner| owner == self.owner);
        nft::insist("the address check", &|| self.add(kernel), &|| restore(kernel), &take_over)
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        if BRIDGE.rules(kernel, CHAIN)? != rules().len() {
            return Err(changed("address check: chain bridge podwire addresscheck is missing or was changed"));
        }
        for (set, key) in self.keys() {
            if BRIDGE.element(kernel, set, &key)?.is_none() {
                let port = self.owner.host_end();
                return Err(changed(format!("address check: no element for {port:?} in set bridge podwire {set}")));
            }
        }
        Ok(())
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        // The addresses first, should they go one by one: a port in the set that has no address left lets nothing in.
        let elements = self.keys().into_iter().rev().map(|(set, key)| (set, Element::key(key)));
        BRIDGE.remove_elements(kernel, &elements.collect::<Vec<_>>())
    }

    fn possible(&self, kernel: &Kernel) -> Result<()> {
        BRIDGE.rules(kernel, CHAIN).map(drop)
    }
}

impl Owned for AddressCheck {
    /// An address that is masqueraded too is written once, in the part of masquerade, which comes first.
    fn say(&self, label: &mut Label) {
        let more = masquerade::without_addresses_in(label, &self.addresses);
        label.set(PART, more.join(","));
    }
}

/// The name of its part of the label.
const PART: &str = "senders";

/// Address checks, among the kinds of objects that attachments own.
#[derive(Debug)]
pub struct AddressChecks;

impl Kind for AddressChecks {
    fn name(&self) -> &'static str {
        "address checks"
    }

    fn part(&self) -> &'static str {
        PART
    }

    fn read(&self, label: &Label) -> Option<Box<dyn Owned>> {
        AddressCheck::of(label).map(|check| Box::new(check) as Box<dyn Owned>)
    }

    fn sweep(&self, kernel: &Kernel, is_gone: &dyn Fn(Owner) -> bool) -> Result<()> {
        BRIDGE.sweep(kernel, &[SENDERS4, SENDERS6, PORTS], &by_comment(is_gone))
    }

    fn lost(&self, kernel: &Kernel, living: &[Label]) -> Result<usize> {
        lost_with_table(kernel, self, living, &is_lost)
    }

    fn restore(&self, kernel: &Kernel, _living: &[Label]) -> Result<()> {
        restore(kernel)
    }
}

/// The link-local address that the kernel gives a link with that hardware address (RFC 4291, appendix A).
pub fn link_local(mac: Mac) -> IpAddr {
    let [a, b, c, d, e, f] = mac.0;
    let mut bytes = [0; 16];
    bytes[..2].copy_from_slice(&[0xfe, 0x80]);
    bytes[8..].copy_from_slice(&[a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    IpAddr::V6(Ipv6Addr::from(bytes))
}

/// Is the table gone?
fn is_lost(kernel: &Kernel) -> Result<bool> {
    Ok(BRIDGE.rules(kernel, CHAIN)? == 0)
}

/// Makes the table, and the elements of all living Pods.
fn restore(kernel: &Kernel) -> Result<()> {
    nft::accept_faster(make_chain(kernel))?;
    crate::restore::elements(kernel, &AddressCheck::of, &|check| check.add(kernel))
}

impl AddressCheck {
    fn of(label: &Label) -> Option<Self> {
        let list = label.part(PART)?;
        Some(AddressCheck { owner: label.owner, addresses: masquerade::with_addresses_in(label, list) })
    }

    fn add(&self, kernel: &Kernel) -> Result<()> {
        let mut transaction = BRIDGE.transaction();
        for (set, key) in self.keys() {
            transaction.elements(set, &[Element { key, goto: None, comment: Some(self.owner.to_string()) }]);
        }
        transaction.commit(kernel, &|| format!("adding the address check of {:?}", self.owner.host_end()))
    }

    /// The key in each set: the port's name, and behind it an address.
    fn keys(&self) -> Vec<(&'static str, Vec<u8>)> {
        let name = nft::name_key(&self.owner.host_end());
        let senders = self.addresses.iter().map(|address| match address {
            IpAddr::V4(ip) => (SENDERS4, [name.as_slice(), &ip.octets()].concat()),
            IpAddr::V6(ip) => (SENDERS6, [name.as_slice(), &ip.octets()].concat()),
        });
        std::iter::once((PORTS, name.clone())).chain(senders).collect()
    }
}

fn make_chain(kernel: &Kernel) -> Result<()> {
    // nft's numbers for its data types (nftables' include/datatype.h): only `nft list` reads them.
    const IFNAME: u32 = 41;
    const IPV4_ADDR: u32 = 7;
    const IPV6_ADDR: u32 = 8;
    let mut transaction = BRIDGE.transaction();
    transaction.table();
    transaction.set(PORTS, IFNAME, 16);
    transaction.set(SENDERS4, IFNAME << 6 | IPV4_ADDR, 20);
    transaction.set(SENDERS6, IFNAME << 6 | IPV6_ADDR, 32);
    let hook = InetHookNumber::PreRouting;
    transaction.chain(CHAIN, Some(BaseChain { kind: "filter", hook, priority: -300 }));
    for rule in rules() {
        transaction.rule(CHAIN, rule);
    }
    transaction.commit(kernel, &|| "making chain bridge podwire addresscheck".to_owned())
}

/// Ethernet types (include/uapi/linux/if_ether.h).
const IPV4: [u8; 2] = [0x08, 0x00];
const ARP: [u8; 2] = [0x08, 0x06];
const IPV6: [u8; 2] = [0x86, 0xdd];

/// ICMPv6 types (RFC 4861, RFC 3810).
const ROUTER_ADVERTISEMENT: u8 = 134;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
const LISTENER_REPORT: u8 = 143;

/// NFT_PAYLOAD_NETWORK_HEADER and NFT_PAYLOAD_TRANSPORT_HEADER.
const NETWORK: u32 = 1;
const TRANSPORT: u32 = 2;

/// Where a field is: header, offset and length in bytes.
type Field = (u32, u32, u32);
const IPV4_SOURCE: Field = (NETWORK, 12, 4);
const ARP_SENDER: Field = (NETWORK, 14, 4);
const IPV6_SOURCE: Field = (NETWORK, 8, 16);
const ND_TARGET: Field = (TRANSPORT, 8, 16);

fn rules() -> Vec<Vec<Expression>> {
    let drop = || vec![nft::end(nft::DROP)];
    let accept = || vec![nft::end(nft::ACCEPT)];
    vec![
        [vec![nft::meta(MetaKey::Iifname), nft::in_the_set(PORTS, true)], accept()].concat(),
        [protocol(IPV4), from_port(IPV4_SOURCE, SENDERS4, false), accept()].concat(),
        [protocol(ARP), from_port(ARP_SENDER, SENDERS4, false), accept()].concat(),
        [icmpv6(ROUTER_ADVERTISEMENT), drop()].concat(),
        [icmpv6(REDIRECT), drop()].concat(),
        [icmpv6(NEIGHBOR_ADVERTISEMENT), from_port(ND_TARGET, SENDERS6, true), drop()].concat(),
        [icmpv6(NEIGHBOR_SOLICITATION), unspecified(), from_port(ND_TARGET, SENDERS6, false), accept()].concat(),
        [icmpv6(LISTENER_REPORT), unspecified(), accept()].concat(),
        [protocol(IPV6), from_port(IPV6_SOURCE, SENDERS6, false), accept()].concat(),
        drop(),
    ]
}

fn protocol(ether_type: [u8; 2]) -> Vec<Expression> {
    vec![nft::meta(MetaKey::EtherTypeProtocol), nft::equals(&ether_type)]
}

fn icmpv6(kind: u8) -> Vec<Expression> {
    const ICMPV6: u8 = 58;
    let layer4 = vec![nft::meta(MetaKey::L4Proto), nft::equals(&[ICMPV6])];
    let kind = vec![nft::payload(TRANSPORT, 0, 1, Register::Reg1), nft::equals(&[kind])];
    [protocol(IPV6), layer4, kind].concat()
}

/// The source of who has no address yet.
fn unspecified() -> Vec<Expression> {
    let (base, offset, length) = IPV6_SOURCE;
    vec![nft::payload(base, offset, length, Register::Reg1), nft::equals(&[0; 16])]
}

/// Goes on only if the port's name with the field is in the set; with `not`, only if it is not.
fn from_port((base, offset, length): Field, set: &str, not: bool) -> Vec<Expression> {
    vec![nft::meta(MetaKey::Iifname), nft::payload(base, offset, length, Register::Reg32_04), nft::in_the_set(set, not)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_local_address_is_the_one_that_the_kernel_makes() {
        assert_eq!(link_local(Mac([0x66, 0x8d, 0x5f, 0xfe, 0x22, 0x45])).to_string(), "fe80::648d:5fff:fefe:2245");
    }
}
