//! Links: finding, upping and removing them. Making them is the affair of each kind's file.

pub mod forwarding;

use crate::message::Rtm;
use netlink_packet_core::DecodeError;
use rtnetlink::packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use crate::attribute::{each, is_on, number, text, within};
use crate::error::{Error, Result};
use crate::kernel::{At, Kernel, changed};
use crate::mac::Mac;
use crate::plan::{Made, Object};

/// What the kernel says of a link.
#[derive(Clone, Debug, Default)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its kind: `bridge`, `veth`, `vxlan`; empty for hardware and `lo`.
    pub kind: String,
    /// Hardware address, if it has an Ethernet one.
    pub mac: Option<Mac>,
    /// MTU in bytes.
    pub mtu: u32,
    /// Administratively up?
    pub up: bool,
    /// Set to receive every frame?
    pub promiscuous: bool,
    /// The bridge (or bond, or VRF) it is a port of.
    pub controller: Option<u32>,
    /// The index of its lower device; of a veth, of its other end in that end's namespace.
    pub lower: Option<u32>,
    /// The text that `ip link` shows as alias.
    pub alias: String,
    /// Is what comes in by it over IPv4 forwarded (`net.ipv4.conf.NAME.forwarding`)? `None` without IPv4. IPv6 forwards by
    /// `net.ipv6.conf.all.forwarding` alone.
    pub forwards: Option<bool>,
    /// Of a bridge: does it filter VLANs? `None` where the kernel can't.
    pub vlan_filtering: Option<bool>,
    /// Of a bridge port: may frames leave where they came in?
    pub hairpin: bool,
    /// Of a bridge port: cut off from other isolated ports?
    pub isolated: bool,
    /// What the kind says of itself: attributes that the kind's file reads.
    pub data: Vec<u8>,
}

/// The link called `name`, if there is one.
pub fn get(kernel: &Kernel, at: At, name: &str) -> Result<Option<Link>> {
    let message = LinkUnspec::new_with_name(name).append_extra_attribute(without_statistics()).build();
    let doing = || format!("looking for link {name:?} {}", at.words());
    let link = kernel.route(at).get_as(Rtm::get_link(message), 0, &read_all, &doing)?;
    if let Some(link) = &link {
        kernel.indices.borrow_mut().insert((at, name.to_owned()), link.index);
    }
    Ok(link)
}

/// The index of the link called `name`, which must be there; asked of the kernel once.
pub fn index(kernel: &Kernel, at: At, name: &str) -> Result<u32> {
    let known = kernel.indices.borrow().get(&(at, name.to_owned())).copied();
    known.map_or_else(|| expect(kernel, at, name).map(|link| link.index), Ok)
}

/// The index of the link called `name`, if there is one; asked of the kernel once.
pub fn index_if_there(kernel: &Kernel, at: At, name: &str) -> Result<Option<u32>> {
    let known = kernel.indices.borrow().get(&(at, name.to_owned())).copied();
    known.map_or_else(|| Ok(get(kernel, at, name)?.map(|link| link.index)), |index| Ok(Some(index)))
}

/// The link with this index, if there is one.
pub fn with_index(kernel: &Kernel, at: At, index: u32) -> Result<Option<Link>> {
    let message = LinkUnspec::new_with_index(index).append_extra_attribute(without_statistics()).build();
    let doing = || format!("looking for link {index} {}", at.words());
    match kernel.route(at).get_as(Rtm::get_link(message), 0, &read_all, &doing) {
        Err(error) if error.is(nix::errno::Errno::ENODEV) => Ok(None),
        other => other,
    }
}

/// The link called `name`, which must be there.
pub fn expect(kernel: &Kernel, at: At, name: &str) -> Result<Link> {
    get(kernel, at, name)?.ok_or_else(|| changed(format!("interface {name:?} {} is missing", at.words())))
}

/// Every link.
pub fn all(kernel: &Kernel, at: At) -> Result<Vec<Link>> {
    let message = LinkMessageBuilder::<LinkUnspec>::default().append_extra_attribute(without_statistics()).build();
    let doing = || format!("listing the links {}", at.words());
    kernel.route(at).dump_as(Rtm::get_link(message), &read_all, &doing)
}

/// Changes a link that exists: `message` says which and what.
pub fn set(kernel: &Kernel, at: At, message: LinkMessage, doing: &dyn Fn() -> String) -> Result<()> {
    kernel.route(at).change(Rtm::set_link(message), 0, doing)
}

/// Ups the link called `name`.
pub fn up(kernel: &Kernel, at: At, name: &str) -> Result<()> {
    let message = LinkUnspec::new_with_name(name).up().build();
    // By name, and RTM_NEWLINK: RTM_SETLINK would want the index.
    let doing = || format!("setting link {name:?} {} up", at.words());
    kernel.route(at).change(Rtm::new_link(message), 0, &doing)
}

/// Sets the MTU of the link called `name`, in bytes.
pub fn set_mtu(kernel: &Kernel, at: At, name: &str, mtu: u32) -> Result<()> {
    let message = LinkUnspec::new_with_name(name).mtu(mtu).build();
    let doing = || format!("setting the MTU of link {name:?} {} to {mtu}", at.words());
    kernel.route(at).change(Rtm::new_link(message), 0, &doing)
}

/// Sets the alias of the link called `name`.
pub fn set_alias(kernel: &Kernel, at: At, name: &str, alias: &str) -> Result<()> {
    let message = LinkUnspec::new_with_name(name).alias(alias.to_owned()).build();
    let doing = || format!("setting the alias of link {name:?} {}", at.words());
    kernel.route(at).change(Rtm::new_link(message), 0, &doing)
}

/// Removes the link called `name`; of a veth both ends go. `false` if there was none.
pub fn remove(kernel: &Kernel, at: At, name: &str) -> Result<bool> {
    kernel.indices.borrow_mut().remove(&(at, name.to_owned()));
    let message = LinkUnspec::new_with_name(name).build();
    let doing = || format!("removing link {name:?} {}", at.words());
    match kernel.route(at).change(Rtm::del_link(message), 0, &doing) {
        Ok(()) => Ok(true),
        Err(error) if error.is(nix::errno::Errno::ENODEV) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Removes these links; of a veth both ends go. The errors are of links that stay.
///
/// Each removal by itself waits for a grace period of the kernel, some 20 ms; links of one group (rtnl_group_dellink in
/// net/core/rtnetlink.c) go together, in one. So they are first given a group that nobody else's link is in.
pub fn remove_many(kernel: &Kernel, at: At, links: &[Link]) -> Vec<Error> {
    // No group that a person gives, and no other process's.
    let group = 0x7000_0000 | std::process::id();
    let of_group = |index: Option<u32>| {
        let group = LinkAttribute::Group(group);
        let message = LinkMessageBuilder::<LinkUnspec>::default().append_extra_attribute(group);
        match index {
            Some(index) => message.index(index).build(),
            None => message.build(),
        }
    };
    let mut errors = Vec::new();
    for some in links.chunks(REMOVED_AT_ONCE) {
        let moves = some.iter().map(|link| (Rtm::set_link(of_group(Some(link.index))), 0));
        let doing = |at: usize| format!("adding link {:?} to the group that is removed", some[at].name);
        let removal = || {
            let names: Vec<_> = some.iter().map(|link| link.name.as_str()).collect();
            format!("removing links {}", names.join(" "))
        };
        match kernel.route(at).change_all(moves.collect(), &doing) {
            Ok(moved) => errors.extend(moved.into_iter().filter_map(|moved| unless_gone(moved).err())),
            Err(error) => errors.push(error),
        }
        let message = Rtm::del_link(of_group(None));
        errors.extend(unless_gone(kernel.route(at).change(message, 0, &removal)).err());
    }
    errors
}

/// The kernel lets nobody else change a link while it removes some: not for long.
const REMOVED_AT_ONCE: usize = 100;

/// What is gone already needs no removal.
pub fn unless_gone(done: Result<()>) -> Result<()> {
    match done {
        Err(error) if error.is(nix::errno::Errno::ENODEV) => Ok(()),
        other => other,
    }
}

/// The alias of a link that exists.
#[derive(Clone, Debug)]
pub struct Alias {
    /// The link's name, on the node.
    pub link: String,
    /// The alias that it gets back if this is undone; if `None`, the alias goes with the link.
    pub before: Option<String>,
    /// The new alias.
    pub alias: String,
}

impl Object for Alias {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        set_alias(kernel, At::Host, &self.link, &self.alias)?;
        Ok(if self.before.is_some() { Made::New } else { Made::Already })
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        match &self.before {
            Some(before) => unless_gone(set_alias(kernel, At::Host, &self.link, before)),
            None => Ok(()),
        }
    }
}

/// An MTU that a link must not exceed.
#[derive(Clone, Debug)]
pub struct MtuAtMost {
    /// Where the link is.
    pub at: At,
    /// Its name.
    pub link: String,
    /// Its MTU before, in bytes: what it gets back if this is undone.
    pub before: u32,
    /// The most that it may have, in bytes.
    pub mtu: u32,
    /// What the MTU has to fit, for errors: `the overlay`.
    pub fits: &'static str,
}

impl Object for MtuAtMost {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        if self.before <= self.mtu {
            return Ok(Made::Already);
        }
        set_mtu(kernel, self.at, &self.link, self.mtu).map(|()| Made::New)
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        let link = expect(kernel, self.at, &self.link)?;
        if link.mtu <= self.mtu {
            return Ok(());
        }
        Err(changed(format!(
            "interface {:?} {} has MTU {}, more than the {} that fit {}",
            self.link,
            self.at.words(),
            link.mtu,
            self.mtu,
            self.fits
        )))
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        unless_gone(set_mtu(kernel, self.at, &self.link, self.before))
    }
}

/// A link that is there already and should be up: `lo`, or a Pod's end once its settings stand.
#[derive(Clone, Debug)]
pub struct Up {
    /// Where.
    pub at: At,
    /// Which.
    pub name: String,
}

impl Object for Up {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        up(kernel, self.at, &self.name).map(|()| Made::Already)
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        match expect(kernel, self.at, &self.name)?.up {
            true => Ok(()),
            false => Err(changed(format!("interface {:?} {} is down", self.name, self.at.words()))),
        }
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        let message = LinkUnspec::new_with_name(&self.name).down().build();
        let doing = || format!("setting link {:?} {} down", self.name, self.at.words());
        unless_gone(kernel.route(self.at).change(Rtm::new_link(message), 0, &doing))
    }
}

/// Statistics are half of a link's answer, and nobody here reads them.
fn without_statistics() -> LinkAttribute {
    LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats])
}

fn read_all(_kind: u16, bytes: &[u8], links: &mut Vec<Link>) -> std::result::Result<(), DecodeError> {
    links.push(read(bytes).ok_or_else(|| DecodeError::from("half a link"))?);
    Ok(())
}

/// The length of struct ifinfomsg (include/uapi/linux/rtnetlink.h), which stands before the attributes.
pub(crate) const HEADER: usize = 16;

/// The index in struct ifinfomsg.
pub(crate) fn index_of(bytes: &[u8]) -> Option<u32> {
    number(bytes.get(4..)?)
}

/// Of include/uapi/linux/if_link.h.
pub(crate) fn read(bytes: &[u8]) -> Option<Link> {
    const IFF_UP: u32 = 1;
    const IFF_PROMISC: u32 = 0x100;
    const IFLA_ADDRESS: u16 = 1;
    const IFLA_IFNAME: u16 = 3;
    const IFLA_MTU: u16 = 4;
    const IFLA_LINK: u16 = 5;
    const IFLA_MASTER: u16 = 10;
    const IFLA_LINKINFO: u16 = 18;
    const IFLA_IFALIAS: u16 = 20;
    const IFLA_AF_SPEC: u16 = 26;
    let flags = number(bytes.get(8..)?)?;
    let mut link = Link {
        index: index_of(bytes)?,
        up: flags & IFF_UP != 0,
        promiscuous: flags & IFF_PROMISC != 0,
        ..Link::default()
    };
    for (kind, value) in each(bytes.get(HEADER..)?) {
        match kind {
            IFLA_IFNAME => link.name = text(value),
            IFLA_MTU => link.mtu = number(value)?,
            IFLA_ADDRESS => link.mac = Mac::from_bytes(value),
            IFLA_MASTER => link.controller = number(value),
            IFLA_LINK => link.lower = number(value),
            IFLA_IFALIAS => link.alias = text(value),
            IFLA_LINKINFO => read_info(&mut link, value),
            IFLA_AF_SPEC => link.forwards = forwarding::read(value),
            _ => {}
        }
    }
    Some(link)
}

fn read_info(link: &mut Link, attributes: &[u8]) {
    const IFLA_INFO_KIND: u16 = 1;
    const IFLA_INFO_DATA: u16 = 2;
    const IFLA_INFO_PORT_KIND: u16 = 4;
    const IFLA_INFO_PORT_DATA: u16 = 5;
    const IFLA_BR_VLAN_FILTERING: u16 = 7;
    const IFLA_BRPORT_MODE: u16 = 4;
    const IFLA_BRPORT_ISOLATED: u16 = 33;
    link.kind = within(attributes, IFLA_INFO_KIND).map(text).unwrap_or_default();
    link.data = within(attributes, IFLA_INFO_DATA).unwrap_or_default().to_vec();
    if link.kind == "bridge" {
        link.vlan_filtering = within(&link.data, IFLA_BR_VLAN_FILTERING).map(is_on);
    }
    if within(attributes, IFLA_INFO_PORT_KIND).map(text).as_deref() == Some("bridge") {
        let port = within(attributes, IFLA_INFO_PORT_DATA).unwrap_or_default();
        link.hairpin = within(port, IFLA_BRPORT_MODE).is_some_and(is_on);
        link.isolated = within(port, IFLA_BRPORT_ISOLATED).is_some_and(is_on);
    }
}

/// An error that says of which kind a link is that stands in the way.
pub(crate) fn wrong_kind(link: &Link, wanted: &str) -> Error {
    let kind = if link.kind.is_empty() { "hardware or loopback" } else { &link.kind };
    Error::NotOurs(format!(
        "interface {:?} exists and is not a {wanted} (it is {kind}); remove it, or configure another name",
        link.name
    ))
}
