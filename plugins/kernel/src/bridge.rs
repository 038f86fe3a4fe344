//! A bridge. Shared: the first attachment makes it, nobody removes it.
//!
//! A bridge that is made here gets a hardware address, which the kernel then keeps: it is pinned. A bridge without one of its own
//! takes the lowest address of its ports, and changes it as Pods come and go, so the address of a bridge that another program made is pinned when it
//! becomes a gateway. Its MTU is never set: the kernel keeps it at the least of its ports', and once
//! set it would stay above a port that is lowered later.

use crate::message::Rtm;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::{LinkBridge, LinkUnspec};

use crate::error::{Error, Result};
use crate::kernel::{At, Kernel, changed};
use crate::link::{self, Link};
use crate::mac::Mac;
use crate::plan::{Made, Object};

/// A bridge on the node.
#[derive(Clone, Debug)]
pub struct Bridge {
    /// Its name.
    pub name: String,
    /// Receive every frame, also those not for the bridge itself?
    pub promiscuous: bool,
    /// Filter VLANs? Needs a kernel with CONFIG_BRIDGE_VLAN_FILTERING.
    pub vlan_filtering: bool,
    /// Must its hardware address stay? A gateway's must.
    pub pinned: bool,
    /// The alias of a bridge that was made here. One without it was made by another program.
    pub mark: &'static str,
    /// Forward IPv4 that comes in by it? Another program's bridge is left as it is.
    pub forwards: bool,
}

impl Object for Bridge {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        if let Some(link) = link::get(kernel, At::Host, &self.name)? {
            self.adjust(kernel, &link)?;
            return Ok(Made::Already);
        }
        let made = match self.create(kernel) {
            Ok(()) => {
                link::set_alias(kernel, At::Host, &self.name, self.mark)?;
                Made::New
            }
            // Another attachment's ADD was faster.
            Err(error) if error.is(Errno::EEXIST) => Made::Already,
            Err(error) => return Err(error),
        };
        let link = link::expect(kernel, At::Host, &self.name)?;
        self.adjust(kernel, &link)?;
        Ok(made)
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        let link = link::expect(kernel, At::Host, &self.name)?;
        let wrong = |what: &str| Err(changed(format!("bridge {:?} {what}", self.name)));
        match () {
            () if link.kind != "bridge" => Err(link::wrong_kind(&link, "bridge")),
            () if !link.up => wrong("is down"),
            () if self.promiscuous && !link.promiscuous => wrong("is not in promiscuous mode"),
            () if self.vlan_filtering && link.vlan_filtering != Some(true) => wrong("does not filter VLANs"),
            () => Ok(()),
        }
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        link::remove(kernel, At::Host, &self.name).map(drop)
    }

    fn possible(&self, kernel: &Kernel) -> Result<()> {
        match link::get(kernel, At::Host, &self.name)? {
            Some(link) if link.kind != "bridge" => Err(link::wrong_kind(&link, "bridge")),
            _ => Ok(()),
        }
    }
}

impl Bridge {
    fn create(&self, kernel: &Kernel) -> Result<()> {
        let mut message = LinkBridge::new(&self.name).address(Mac::random().to_vec()).up();
        if self.vlan_filtering {
            message = message.vlan_filtering(true);
        }
        if self.promiscuous {
            message = message.promiscuous(true);
        }
        let doing = || format!("making bridge {:?}", self.name);
        let message = Rtm::new_link(message.build());
        let made = kernel.route(At::Host).change(message, NLM_F_CREATE | NLM_F_EXCL, &doing);
        made.map_err(|error| self.explain(error))
    }

    /// A kernel without VLAN filtering refuses it, or ignores it.
    fn explain(&self, error: Error) -> Error {
        if self.vlan_filtering && error.is(Errno::EOPNOTSUPP) { self.lacks_vlans() } else { error }
    }

    fn lacks_vlans(&self) -> Error {
        Error::Lacks(format!(
            "bridge {:?} can't filter VLANs: this kernel has no CONFIG_BRIDGE_VLAN_FILTERING, which the keys vlan and \
             vlanTrunk need",
            self.name
        ))
    }

    /// Brings an existing bridge to what is wanted, without taking anything back that somebody else set.
    fn adjust(&self, kernel: &Kernel, link: &Link) -> Result<()> {
        if link.kind != "bridge" {
            return Err(link::wrong_kind(link, "bridge"));
        }
        if self.pinned && link.alias != self.mark {
            self.pin(kernel, link)?;
        }
        if self.forwards && link.alias == self.mark && link.forwards == Some(false) {
            link::forwarding::set(kernel, &self.name)?;
        }
        let filter = self.vlan_filtering && link.vlan_filtering != Some(true);
        if filter {
            self.filter_vlans(kernel)?;
        }
        if link.up && (link.promiscuous || !self.promiscuous) {
            return Ok(());
        }
        let mut message = LinkUnspec::new_with_index(link.index).up();
        if self.promiscuous {
            message = message.promiscuous(true);
        }
        link::set(kernel, At::Host, message.build(), &|| format!("setting bridge {:?} up", self.name))
    }

    /// Sets the hardware address that the bridge has: what was set stays. Only where it is not set yet, for the kernel forgets
    /// the link's neighbors when it is. A bridge without ports may have none, and gets a random one.
    fn pin(&self, kernel: &Kernel, link: &Link) -> Result<()> {
        let mac = link.mac.filter(|mac| *mac != NO_MAC);
        if mac.is_some_and(|mac| is_pinned(&self.name, mac)) {
            return Ok(());
        }
        let mac = mac.unwrap_or_else(Mac::random);
        let message = LinkUnspec::new_with_index(link.index).address(mac.to_vec()).build();
        link::set(kernel, At::Host, message, &|| format!("pinning the hardware address of bridge {:?}", self.name))
    }

    /// Read back, for a kernel without VLAN filtering may ignore the attribute in silence.
    fn filter_vlans(&self, kernel: &Kernel) -> Result<()> {
        let message = LinkBridge::new(&self.name).vlan_filtering(true).build();
        let doing = || format!("switching on VLAN filtering of bridge {:?}", self.name);
        let changed = kernel.route(At::Host).change(Rtm::new_link(message), 0, &doing);
        changed.map_err(|error| self.explain(error))?;
        match link::expect(kernel, At::Host, &self.name)?.vlan_filtering {
            Some(true) => Ok(()),
            _ => Err(self.lacks_vlans()),
        }
    }
}

/// The hardware address of a bridge without ports that never had one.
const NO_MAC: Mac = Mac([0; 6]);

/// Has the link's address been set? Only /sys tells (NET_ADDR_SET of include/uapi/linux/netdevice.h is 3). It may show the
/// interfaces of another namespace, so the address there has to be the link's; if not, nothing is known.
fn is_pinned(link: &str, mac: Mac) -> bool {
    const NET_ADDR_SET: &str = "3";
    let read = |file: &str| std::fs::read_to_string(format!("/sys/class/net/{link}/{file}")).unwrap_or_default();
    read("address").trim() == mac.to_string() && read("addr_assign_type").trim() == NET_ADDR_SET
}
