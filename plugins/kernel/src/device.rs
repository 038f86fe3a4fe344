//! Virtual links that one message makes: macvlan, ipvlan, vlan, dummy, VRF, ifb.
//!
//! The message goes to the namespace that the parent is in and names the new link's own (IFLA_NET_NS_FD), so a link in a Pod
//! over an interface of the node is never seen on the node. Before Linux 6.15 the kernel looks for the new name in the
//! namespace that is asked, which refuses `eth0` in a Pod where the node has an `eth0`; then the link is made under a
//! passing name and renamed inside the Pod.
//!
//! tun and tap devices can't be made by a message: the kernel answers EOPNOTSUPP and says that a program has to open
//! /dev/net/tun (`tun_validate`, drivers/net/tun.c). That takes the ioctl TUNSETIFF, which nix offers only as an `unsafe`
//! function, so here they are only read. (Attributes: include/uapi/linux/if_link.h.)

mod kind;

use std::os::fd::AsRawFd;

use netlink_packet_core::DefaultNla;
use nix::errno::Errno;
use rtnetlink::LinkUnspec;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::link::{LinkAttribute, LinkInfo, LinkMessage};

pub use self::kind::{IpvlanFlag, IpvlanMode, Kind, MacvlanMode, read};
use crate::error::{Error, Result};
use crate::kernel::{At, Kernel, changed};
use crate::link::{self, Link};
use crate::mac::Mac;
use crate::message::Rtm;
use crate::plan::{Changes, Made, Object};

/// A virtual link. It is made down: [`link::Up`] ups it.
#[derive(Clone, Debug)]
pub struct Device {
    /// Where it is.
    pub at: At,
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// The link that it is on top of. A macvlan, an ipvlan and a vlan need one, the others have none.
    pub parent: Option<Parent>,
    /// Its hardware address; the kernel's choice if `None`. An ipvlan always has its parent's. Not checked: a later plugin
    /// may have set another.
    pub mac: Option<Mac>,
    /// Its MTU in bytes: by default the parent's, of a device without one what its kind begins with.
    pub mtu: Option<u32>,
    /// The text that `ip link` shows as alias: what the caller wants to find there later.
    pub alias: Option<String>,
}

/// The link that a device is on top of.
#[derive(Clone, Debug)]
pub struct Parent {
    /// Where it is: on the node, or in the Pod itself.
    pub at: At,
    /// Its name.
    pub name: String,
}

impl Object for Device {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        if let Some(link) = link::get(kernel, self.at, &self.name)? {
            self.accept(kernel, &link)?;
            return self.adjust(kernel, &link);
        }
        match self.create(kernel) {
            Err(error) if error.is(Errno::EEXIST) => {
                // Another process was faster.
                let link = link::get(kernel, self.at, &self.name)?.ok_or(error)?;
                self.accept(kernel, &link).map(|()| Made::Already)
            }
            Err(error) => Err(error),
            // From here on the link is there: undo it ourselves, the plan only knows what was finished.
            Ok(()) => match self.describe(kernel) {
                Ok(()) => Ok(Made::New),
                Err(error) => {
                    if let Err(error) = self.remove(kernel) {
                        log::error!("undoing: {error}");
                    }
                    Err(error)
                }
            },
        }
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        let link = link::expect(kernel, self.at, &self.name)?;
        if let Some(difference) = self.difference(kernel, &link)? {
            return Err(changed(format!("interface {:?} {} {difference}", self.name, self.at.words())));
        }
        match self.mtu {
            Some(mtu) if mtu != link.mtu => {
                Err(changed(format!("interface {:?} {} has MTU {}, not {mtu}", self.name, self.at.words(), link.mtu)))
            }
            _ => Ok(()),
        }
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        link::remove(kernel, self.at, &self.name).map(drop)
    }

    fn possible(&self, kernel: &Kernel) -> Result<()> {
        if let Some(parent) = &self.parent {
            link::expect(kernel, parent.at, &parent.name)?;
        }
        let link = link::get(kernel, self.at, &self.name)?;
        link.map_or(Ok(()), |link| self.accept(kernel, &link))
    }
}

impl Device {
    /// A device that exists is taken for this one if it is of this kind and says the same of itself.
    fn accept(&self, kernel: &Kernel, link: &Link) -> Result<()> {
        if link.kind != self.kind.name() {
            return Err(link::wrong_kind(link, self.kind.name()));
        }
        let Some(difference) = self.difference(kernel, link)? else { return Ok(()) };
        Err(Error::Differs(format!(
            "interface {:?} exists already {} and {difference}; remove it, or configure another name",
            self.name,
            self.at.words()
        )))
    }

    /// Brings a device that was accepted to its MTU, and gives it its alias if whoever made it was killed before.
    fn adjust(&self, kernel: &Kernel, link: &Link) -> Result<Made> {
        let mtu = self.mtu.filter(|mtu| *mtu != link.mtu);
        let is_nameless = self.alias.is_some() && link.alias.is_empty();
        if let Some(mtu) = mtu {
            link::set_mtu(kernel, self.at, &self.name, mtu)?;
        }
        if is_nameless {
            self.describe(kernel)?;
        }
        let set = usize::from(mtu.is_some()) + usize::from(is_nameless);
        Ok(if set > 0 { Made::Changed(Changes { set, removed: 0 }) } else { Made::Already })
    }

    fn difference(&self, kernel: &Kernel, link: &Link) -> Result<Option<String>> {
        let found = read(link);
        if !found.as_ref().is_some_and(|found| self.kind.is_met_by(found)) {
            let found = found.map_or_else(|| format!("is of kind {:?}", link.kind), |found| format!("is {found}"));
            return Ok(Some(format!("{found}, not {}", self.kind)));
        }
        let Some(parent) = &self.parent else { return Ok(None) };
        let index = link::expect(kernel, parent.at, &parent.name)?.index;
        Ok((link.lower != Some(index)).then(|| format!("is not on top of {:?} {}", parent.name, parent.at.words())))
    }

    fn create(&self, kernel: &Kernel) -> Result<()> {
        match self.create_as(kernel, &self.name) {
            Err(error) if error.is(Errno::EEXIST) && self.asked() != self.at => {
                if link::get(kernel, self.at, &self.name)?.is_some() {
                    return Err(error);
                }
                let [.., a, b, c, d] = Mac::random().0;
                let passing = format!("tmp{a:02x}{b:02x}{c:02x}{d:02x}");
                self.create_as(kernel, &passing)?;
                self.rename(kernel, &passing)
            }
            done => done,
        }
    }

    fn create_as(&self, kernel: &Kernel, name: &str) -> Result<()> {
        let parent = self.parent.as_ref().map(|parent| link::index(kernel, parent.at, &parent.name)).transpose()?;
        let mut message = self.message(name, parent);
        if self.asked() != self.at {
            message.attributes.push(LinkAttribute::NetNsFd(kernel.pod_netns().file().as_raw_fd()));
        }
        let doing = || format!("making the {} {:?} {}", self.kind, self.name, self.at.words());
        let made = kernel.route(self.asked()).change(Rtm::new_link(message), NLM_F_CREATE | NLM_F_EXCL, &doing);
        made.map_err(|error| self.explain(error))
    }

    /// Where the message goes.
    fn asked(&self) -> At {
        self.parent.as_ref().map_or(self.at, |parent| parent.at)
    }

    /// The attributes in the order in which `ip link add` sends them.
    fn message(&self, name: &str, parent: Option<u32>) -> LinkMessage {
        const IFLA_INFO_KIND: u16 = 1;
        let mut message = LinkMessage::default();
        let attributes = &mut message.attributes;
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.to_vec())));
        attributes.extend(parent.map(LinkAttribute::Link));
        attributes.push(LinkAttribute::IfName(name.to_owned()));
        let data = self.kind.data().map(LinkInfo::Data);
        let kind = LinkInfo::Other(DefaultNla::new(IFLA_INFO_KIND, self.kind.name().as_bytes().to_vec()));
        attributes.push(LinkAttribute::LinkInfo([kind].into_iter().chain(data).collect()));
        message
    }

    fn rename(&self, kernel: &Kernel, passing: &str) -> Result<()> {
        let index = link::expect(kernel, self.at, passing)?.index;
        let message = LinkUnspec::new_with_index(index).name(&*self.name).build();
        let doing = || format!("naming interface {:?} {}", self.name, self.at.words());
        let named = link::set(kernel, self.at, message, &doing);
        if named.is_err()
            && let Err(error) = link::remove(kernel, self.at, passing)
        {
            log::error!("undoing: {error}");
        }
        named
    }

    /// The kernel does not take an alias at birth.
    fn describe(&self, kernel: &Kernel) -> Result<()> {
        self.alias.as_ref().map_or(Ok(()), |alias| link::set_alias(kernel, self.at, &self.name, alias))
    }

    /// A kernel without the kind says EOPNOTSUPP, and "Unknown device type" where it has words.
    fn explain(&self, error: Error) -> Error {
        match error {
            Error::Refused { doing, errno: Errno::EOPNOTSUPP, said } => Error::Lacks(format!(
                "{doing}: this kernel has no such interfaces{}{said}; they need {}",
                if said.is_empty() { "" } else { ": " },
                self.kind.option()
            )),
            other => other,
        }
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::Emitable;

    use super::*;

    /// What `ip link add link n0 name x0 mtu 1400 address 02:00:00:00:00:01 type …` of iproute2 6.1 sends, n0 being number 3,
    /// behind struct ifinfomsg. Kernels without these kinds can't say whether they were asked well.
    #[test]
    fn messages_are_those_of_iproute2() {
        const ON_TOP: &str = "08000400 78050000 0a000100 020000000001 0000 08000500 03000000 07000300 783000 00";
        const ALONE: &str = "07000300 783000 00";
        let cases = [
            (Kind::Vlan { id: 100 }, ON_TOP, "18001200 08000100 766c616e 0c000200 06000100 64000000"),
            (
                Kind::Macvlan { mode: MacvlanMode::Bridge, broadcast_queue: Some(2000) },
                ON_TOP,
                "24001200 0b000100 6d6163766c616e 00 14000200 08000700 d0070000 08000100 04000000",
            ),
            (
                Kind::Ipvlan { mode: IpvlanMode::L3, flag: IpvlanFlag::Bridge },
                ON_TOP,
                "24001200 0a000100 6970766c616e 0000 14000200 06000100 01000000 06000200 00000000",
            ),
            (
                Kind::Ipvlan { mode: IpvlanMode::L2, flag: IpvlanFlag::Vepa },
                ON_TOP,
                "24001200 0a000100 6970766c616e 0000 14000200 06000100 00000000 06000200 02000000",
            ),
            (Kind::Dummy, ALONE, "10001200 09000100 64756d6d79 000000"),
            (Kind::Vrf { table: 1000 }, ALONE, "18001200 07000100 767266 00 0c000200 08000100 e8030000"),
            (Kind::Ifb, ALONE, "0c001200 07000100 696662 00"),
        ];
        for (kind, before, info) in cases {
            let on_top = (before == ON_TOP).then_some(3);
            let device = Device {
                at: At::Host,
                name: "x0".to_owned(),
                kind,
                parent: None,
                mac: on_top.map(|_| Mac([2, 0, 0, 0, 0, 1])),
                mtu: on_top.map(|_| 1400),
                alias: None,
            };
            let message = device.message("x0", on_top);
            let mut bytes = vec![0; message.buffer_len()];
            message.emit(&mut bytes);
            assert_eq!(bytes[..link::HEADER], [0; link::HEADER], "{kind}");
            let hex: String = bytes[link::HEADER..].iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(hex, format!("{before}{info}").replace(' ', ""), "{kind}");
        }
    }
}
