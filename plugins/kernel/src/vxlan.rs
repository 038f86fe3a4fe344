//! A VXLAN device. Shared by a network's Pods.
//!
//! The device learns nothing, floods nothing and joins no group: it is told where the other nodes are by entries in its
//! forwarding database. Its alias begins with the caller's mark; a device without that mark is left alone.
//!
//! The kernel changes only the MTU of such a device while it exists. Any other difference is corrected by removing the
//! device and making it again, which cuts this node's overlay for some milliseconds. A new local address or underlay
//! device is applied that way at any time, since it concerns this node only. A new VNI or port is not: the other nodes
//! would lose this node until they have the new one too, so that is done only when asked for ([`Vxlan::renumber`]).

use std::net::IpAddr;

use crate::message::Rtm;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::{LinkUnspec, LinkVxlan};

use crate::address::{self, Address, Others};
use crate::attribute::{is_on, number, within};
use crate::error::{Error, Result};
use crate::kernel::{At, Kernel, changed};
use crate::link::{self, Link, forwarding};
use crate::mac::Mac;
use crate::plan::{Changes, Made, Object};
use crate::sysctl::{Setting, Sysctls};

/// A VXLAN device on the node.
#[derive(Clone, Debug)]
pub struct Vxlan {
    /// Its name.
    pub name: String,
    /// What its alias begins with: the caller's name for the network that the device belongs to.
    pub mark: String,
    /// Its VNI, 1 to 16777215.
    pub vni: u32,
    /// The UDP port.
    pub port: u16,
    /// This node's address on the underlay; its family is the underlay's.
    pub local: IpAddr,
    /// The underlay's device, by index.
    pub underlay: u32,
    /// MTU, in bytes.
    pub mtu: u32,
    /// Its hardware address.
    pub mac: Mac,
    /// This node's VTEP addresses: all that the device has.
    pub addresses: Vec<IpAddr>,
    /// May VNI and port of a device that exists be changed?
    pub renumber: bool,
    /// How to change them, for the error if they may not.
    pub advice: &'static str,
}

/// The VXLAN devices with that mark, whatever they are called.
pub fn marked(kernel: &Kernel, mark: &str) -> Result<Vec<Link>> {
    let links = link::all(kernel, At::Host)?.into_iter();
    Ok(links.filter(|link| is_marked(link, mark)).collect())
}

/// Is that a VXLAN device with that mark?
pub fn is_marked(link: &Link, mark: &str) -> bool {
    link.kind == "vxlan" && has_mark(link, mark)
}

/// The mark is followed by a space: one mark may begin like another.
fn has_mark(link: &Link, mark: &str) -> bool {
    link.alias.strip_prefix(mark).is_some_and(|rest| rest.starts_with(' '))
}

/// What a VXLAN device says of itself.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Its VXLAN network identifier.
    pub vni: u32,
    /// Its UDP port.
    pub port: u16,
    /// The address that it sends from.
    pub local: Option<IpAddr>,
    /// The index of the link that it sends over.
    pub underlay: Option<u32>,
    /// Does it learn where hardware addresses are?
    pub learns: bool,
}

/// Reads what a VXLAN device says of itself (IFLA_VXLAN_* of include/uapi/linux/if_link.h).
pub fn settings(link: &Link) -> Option<Settings> {
    const IFLA_VXLAN_ID: u16 = 1;
    const IFLA_VXLAN_LINK: u16 = 3;
    const IFLA_VXLAN_LOCAL: u16 = 4;
    const IFLA_VXLAN_LEARNING: u16 = 7;
    const IFLA_VXLAN_PORT: u16 = 15;
    const IFLA_VXLAN_LOCAL6: u16 = 17;
    let one = |kind| within(&link.data, kind);
    let local4 = one(IFLA_VXLAN_LOCAL).and_then(|bytes| bytes.first_chunk::<4>()).map(|bytes| IpAddr::from(*bytes));
    let local6 = one(IFLA_VXLAN_LOCAL6).and_then(|bytes| bytes.first_chunk::<16>()).map(|bytes| IpAddr::from(*bytes));
    Some(Settings {
        vni: number(one(IFLA_VXLAN_ID)?)?,
        port: u16::from_be_bytes(*one(IFLA_VXLAN_PORT)?.first_chunk()?),
        local: local4.or(local6),
        underlay: one(IFLA_VXLAN_LINK).and_then(number),
        learns: one(IFLA_VXLAN_LEARNING).is_some_and(is_on),
    })
}

impl Object for Vxlan {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        let made = match link::get(kernel, At::Host, &self.name)? {
            Some(link) => self.adjust(kernel, &link)?,
            None => self.make(kernel).map(|()| Made::New)?,
        };
        let mut changes = self.set_addresses(kernel)?;
        match made {
            Made::New => return Ok(made),
            Made::Changed(earlier) => changes += earlier,
            Made::Already => {}
        }
        Ok(changes.into())
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        let link = link::expect(kernel, At::Host, &self.name)?;
        self.require_ours(&link)?;
        if let Some(difference) = self.difference(&link) {
            return Err(changed(format!("device {:?} {difference}", self.name)));
        }
        if !link.up {
            return Err(changed(format!("device {:?} is down", self.name)));
        }
        if self.forwards() && link.forwards == Some(false) {
            return Err(changed(format!(
                "device {:?} does not forward IPv4: /proc/sys/net/ipv4/conf/{}/forwarding is 0",
                self.name, self.name
            )));
        }
        if link.mtu != self.mtu {
            return Err(changed(format!("device {:?} has MTU {}, not {}", self.name, link.mtu, self.mtu)));
        }
        let present = address::on(kernel, At::Host, link.index)?;
        match self.addresses.iter().find(|wanted| !present.iter().any(|there| there.ip() == **wanted)) {
            Some(missing) => Err(changed(format!("device {:?} lacks the VTEP address {missing}", self.name))),
            None => Ok(()),
        }
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        link::remove(kernel, At::Host, &self.name).map(drop)
    }

    fn possible(&self, kernel: &Kernel) -> Result<()> {
        let Some(link) = link::get(kernel, At::Host, &self.name)? else { return Ok(()) };
        self.require_ours(&link)?;
        self.difference(&link).map_or(Ok(()), |difference| self.require_rebuildable(&link, &difference))
    }
}

impl Vxlan {
    fn adjust(&self, kernel: &Kernel, link: &Link) -> Result<Made> {
        self.require_ours(link)?;
        if let Some(difference) = self.difference(link) {
            self.require_rebuildable(link, &difference)?;
            log::warn!("device {:?} {difference}: making it anew", self.name);
            link::remove(kernel, At::Host, &self.name)?;
            return self.make(kernel).map(|()| Made::New);
        }
        let keeps_packets = self.forwards() && link.forwards == Some(false);
        if link.alias.is_empty() || link.mtu != self.mtu || !link.up || keeps_packets {
            self.finish(kernel)?;
            return Ok(Made::Changed(Changes { set: 1, removed: 0 }));
        }
        Ok(Made::Already)
    }

    /// A device with the mark is ours. So is one without an alias that has our hardware address: whoever made it was killed
    /// before it could set the alias.
    fn require_ours(&self, link: &Link) -> Result<()> {
        if link.kind != "vxlan" {
            return Err(link::wrong_kind(link, "VXLAN device of this network"));
        }
        let is_unnamed = link.alias.is_empty() && link.mac == Some(self.mac);
        if is_unnamed || has_mark(link, &self.mark) {
            return Ok(());
        }
        Err(Error::NotOurs(format!(
            "device {:?} is a VXLAN device that this network did not make{}; remove it, or configure another name \
             (device)",
            self.name,
            if link.alias.is_empty() { String::new() } else { format!(" (its alias is {:?})", link.alias) },
        )))
    }

    /// What can only be changed by making the device anew.
    fn difference(&self, link: &Link) -> Option<String> {
        let Some(Settings { vni, port, local, underlay, learns }) = settings(link) else {
            return Some("has no VXLAN attributes".to_owned());
        };
        match () {
            () if vni != self.vni => Some(format!("has VNI {vni}, not {}", self.vni)),
            () if port != self.port => Some(format!("has port {port}, not {}", self.port)),
            () if local != Some(self.local) => {
                let local = local.map_or("no local address".to_owned(), |local| format!("local address {local}"));
                Some(format!("has {local}, not {}", self.local))
            }
            () if underlay != Some(self.underlay) => Some("has another underlay device than configured".to_owned()),
            () if learns => Some("learns addresses".to_owned()),
            () if link.mac != Some(self.mac) => {
                Some(format!("has hardware address {}, not {}", link.mac.unwrap_or(Mac([0; 6])), self.mac))
            }
            () => None,
        }
    }

    fn is_same_wire(&self, link: &Link) -> bool {
        settings(link).is_some_and(|there| (there.vni, there.port) == (self.vni, self.port))
    }

    fn require_rebuildable(&self, link: &Link, difference: &str) -> Result<()> {
        let same_wire = self.is_same_wire(link);
        if same_wire || self.renumber {
            return Ok(());
        }
        Err(Error::Differs(format!(
            "device {:?} {difference} as configured: other nodes that still have the old one would lose this node, so it \
             is left as it is. {}",
            self.name, self.advice
        )))
    }

    fn make(&self, kernel: &Kernel) -> Result<()> {
        let builder = LinkVxlan::new(&self.name, self.vni)
            .port(self.port)
            .dev(self.underlay)
            .learning(false)
            .address(self.mac.to_vec())
            .mtu(self.mtu);
        let builder = match self.local {
            IpAddr::V4(ip) => builder.local(ip),
            IpAddr::V6(ip) => builder.local6(ip),
        };
        let message = Rtm::new_link(builder.build());
        let doing = || format!("making VXLAN device {:?} (VNI {}, port {})", self.name, self.vni, self.port);
        let made = kernel.route(At::Host).change(message, NLM_F_CREATE | NLM_F_EXCL, &doing);
        made.map_err(|error| self.explain(kernel, error))?;
        self.finish(kernel).map_err(|error| {
            if let Err(error) = link::remove(kernel, At::Host, &self.name) {
                log::error!("undoing: {error}");
            }
            self.explain(kernel, error)
        })
    }

    /// Alias, settings, MTU, up: in this order, so that a device that is left half made has its mark.
    fn finish(&self, kernel: &Kernel) -> Result<()> {
        let alias = format!("{} VTEP {}", self.mark, self.mac);
        let doing = || format!("naming VXLAN device {:?}", self.name);
        let mut message = LinkUnspec::new_with_name(&self.name).alias(alias).mtu(self.mtu);
        if self.forwards() {
            message = message.append_extra_attribute(forwarding::on());
        }
        kernel.route(At::Host).change(Rtm::new_link(message.build()), 0, &doing)?;
        self.sysctls().ensure(kernel)?;
        link::up(kernel, At::Host, &self.name)
    }

    /// IPv4 that comes out of the tunnel is for Pods.
    fn forwards(&self) -> bool {
        self.addresses.iter().any(IpAddr::is_ipv4)
    }

    /// Nothing that comes out of the tunnel configures this node.
    fn sysctls(&self) -> Sysctls {
        let ipv6 = |key: &str| format!("net/ipv6/conf/{}/{key}", self.name);
        let mut settings = vec![
            Setting::if_there(ipv6("accept_ra"), "0"),
            Setting::if_there(ipv6("accept_redirects"), "0"),
            // No link-local address of its own: nobody could know it.
            Setting::if_there(ipv6("addr_gen_mode"), "1"),
        ];
        if self.addresses.iter().any(IpAddr::is_ipv6) {
            settings.push(Setting::ipv6_on(&self.name));
        }
        Sysctls { at: At::Host, settings }
    }

    /// Exactly the VTEP addresses: those of Pod CIDRs that this node had before may be another node's now.
    fn set_addresses(&self, kernel: &Kernel) -> Result<Changes> {
        let index = link::index(kernel, At::Host, &self.name)?;
        let mut changes = Changes::default();
        let wanted: Vec<Address> = self.addresses.iter().map(|ip| self.address(*ip)).collect();
        for stale in address::on(kernel, At::Host, index)? {
            if !wanted.iter().any(|address| address.address == stale) {
                Address { address: stale, ..self.address(stale.ip()) }.remove(kernel)?;
                changes.removed += 1;
            }
        }
        for address in wanted {
            changes.set += usize::from(address.ensure(kernel)? == Made::New);
        }
        Ok(changes)
    }

    fn address(&self, ip: IpAddr) -> Address {
        Address {
            at: At::Host,
            link: self.name.clone(),
            address: ip.into(),
            detect_duplicates: false,
            prefix_route: true,
            others: Others::Keep,
        }
    }

    /// Says in the configuration's words what the kernel refused.
    fn explain(&self, kernel: &Kernel, error: Error) -> Error {
        if error.is(Errno::EADDRINUSE) {
            return Error::NotOurs(format!(
                "UDP port {} is in use by another program (`ss -ulpn` shows which); configure another port on every node",
                self.port
            ));
        }
        if !error.is(Errno::EEXIST) {
            return error;
        }
        let others = link::all(kernel, At::Host).unwrap_or_default();
        let same = others.iter().find(|link| self.is_same_wire(link));
        match same {
            Some(other) => Error::NotOurs(format!(
                "VNI {} on port {} is in use by device {:?}, which this network did not make; configure another vni",
                self.vni, self.port, other.name
            )),
            None => error,
        }
    }
}
