//! VLANs on the ports of a bridge that filters them, and a gateway inside one.
//!
//! Bridge messages go by RTM_SETLINK and RTM_DELLINK of family AF_BRIDGE with the port's index (kernel:
//! net/bridge/br_netlink.c). They need CONFIG_BRIDGE_VLAN_FILTERING; [`crate::bridge::Bridge`] says so when it is missing.

use crate::message::Rtm;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::link::{
    AfSpecBridge, BridgeVlanInfo, BridgeVlanInfoFlags, InfoData, InfoVeth, LinkAttribute, LinkExtentMask, LinkMessage,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use crate::attribute::{each, within};
use crate::error::Result;
use crate::kernel::{At, Kernel, changed};
use crate::link;
use crate::mac::Mac;
use crate::plan::{Made, Object};

/// The VLAN that every port has to start with (the kernel's `default_pvid`).
const DEFAULT_VLAN: u16 = 1;

/// A port's VLANs. They go with the port.
#[derive(Clone, Debug)]
pub struct PortVlans {
    /// The port's name, on the node.
    pub port: String,
    /// The VLAN of untagged frames, if any.
    pub untagged: Option<u16>,
    /// VLANs of tagged frames: first and last of each range.
    pub tagged: Vec<(u16, u16)>,
    /// Keep VLAN 1, which every port has to start with?
    pub keep_default: bool,
}

impl Object for PortVlans {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        let index = link::index(kernel, At::Host, &self.port)?;
        if !self.keep_default && self.untagged != Some(DEFAULT_VLAN) {
            let message = self.message(index, &[(DEFAULT_VLAN, BridgeVlanInfoFlags::empty())]);
            let removed = kernel.route(At::Host).change(Rtm::del_link(message), 0, &|| self.words());
            removed.or_else(|error| if error.is(Errno::ENOENT) { Ok(()) } else { Err(error) })?;
        }
        let message = self.message(index, &self.entries());
        kernel.route(At::Host).change(Rtm::set_link(message), 0, &|| self.words())?;
        Ok(Made::Already)
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        let index = link::index(kernel, At::Host, &self.port)?;
        let mut request = LinkMessage::default();
        request.header.interface_family = AddressFamily::Bridge;
        request.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::Brvlan]));
        let read = move |_kind, link: &[u8], present: &mut Vec<u16>| {
            if link::index_of(link) == Some(index) {
                present.extend(vlans(link.get(link::HEADER..).unwrap_or_default()));
            }
            Ok(())
        };
        let present = kernel.route(At::Host).dump_as(Rtm::get_link(request), &read, &|| self.words())?;
        let ids = self.tagged.iter().flat_map(|(first, last)| *first..=*last).chain(self.untagged);
        match ids.into_iter().find(|id| !present.contains(id)) {
            Some(id) => Err(changed(format!("port {:?} has no VLAN {id}", self.port))),
            None => Ok(()),
        }
    }
}

impl PortVlans {
    fn words(&self) -> String {
        format!("VLANs of port {:?}", self.port)
    }

    fn entries(&self) -> Vec<(u16, BridgeVlanInfoFlags)> {
        let untagged = self.untagged.map(|id| (id, BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged));
        let tagged = self.tagged.iter().flat_map(|&(first, last)| match first == last {
            true => vec![(first, BridgeVlanInfoFlags::empty())],
            false => vec![(first, BridgeVlanInfoFlags::RangeBegin), (last, BridgeVlanInfoFlags::RangeEnd)],
        });
        untagged.into_iter().chain(tagged).collect()
    }

    fn message(&self, index: u32, entries: &[(u16, BridgeVlanInfoFlags)]) -> LinkMessage {
        let mut message = LinkMessage::default();
        message.header.interface_family = AddressFamily::Bridge;
        message.header.index = index;
        let entries = entries.iter().map(|&(vid, flags)| AfSpecBridge::VlanInfo(BridgeVlanInfo { flags, vid }));
        message.attributes.push(LinkAttribute::AfSpecBridge(entries.collect()));
        message
    }
}

/// The VLANs of a port, of struct bridge_vlan_info: flags u16, ID u16 (include/uapi/linux/if_bridge.h).
pub(crate) fn vlans(attributes: &[u8]) -> impl Iterator<Item = u16> {
    const IFLA_AF_SPEC: u16 = 26;
    const IFLA_BRIDGE_VLAN_INFO: u16 = 2;
    let entries = each(within(attributes, IFLA_AF_SPEC).unwrap_or_default());
    let entries = entries.filter(|(kind, _)| *kind == IFLA_BRIDGE_VLAN_INFO);
    entries.filter_map(|(_, info)| info.get(2..)?.first_chunk().map(|id| u16::from_ne_bytes(*id)))
}

/// The node's own place in a VLAN of a bridge: a veth pair of which one end is an untagged port in that VLAN and the other
/// carries the gateway's address. Shared by the VLAN's Pods.
#[derive(Clone, Debug)]
pub struct VlanGateway {
    /// The bridge.
    pub bridge: String,
    /// The VLAN.
    pub vlan: u16,
    /// Keep VLAN 1 on the port?
    pub keep_default: bool,
}

impl VlanGateway {
    /// The interface that carries the address: `cni0.100`, as the reference bridge names it.
    pub fn interface(&self) -> String {
        format!("{}.{}", self.bridge, self.vlan)
    }

    /// The other end. The kernel takes 15 bytes, so the bridge is named by its index there.
    fn port(&self, bridge_index: u32) -> String {
        format!("vlan{bridge_index}.{}", self.vlan)
    }
}

impl Object for VlanGateway {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        let bridge = link::index(kernel, At::Host, &self.bridge)?;
        let (interface, port) = (self.interface(), self.port(bridge));
        let made = match link::get(kernel, At::Host, &interface)? {
            Some(link) if link.kind != "veth" => return Err(link::wrong_kind(&link, "veth")),
            Some(_) => Made::Already,
            None => {
                let inner =
                    LinkMessageBuilder::<LinkUnspec>::default().name(&*interface).address(Mac::random().to_vec());
                let message = LinkVeth::new(&port, &interface)
                    .address(Mac::random().to_vec())
                    .controller(bridge)
                    .up()
                    .set_info_data(InfoData::Veth(InfoVeth::Peer(inner.build())));
                let message = Rtm::new_link(message.build());
                let doing = || format!("making the gateway {interface:?}");
                match kernel.route(At::Host).change(message, NLM_F_CREATE | NLM_F_EXCL, &doing) {
                    Err(error) if !error.is(Errno::EEXIST) => return Err(error),
                    _ => Made::New,
                }
            }
        };
        link::up(kernel, At::Host, &interface)?;
        self.vlans(port).ensure(kernel)?;
        Ok(made)
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        let bridge = link::index(kernel, At::Host, &self.bridge)?;
        match link::expect(kernel, At::Host, &self.interface())?.up {
            true => self.vlans(self.port(bridge)).check(kernel),
            false => Err(changed(format!("interface {:?} on the node is down", self.interface()))),
        }
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        link::remove(kernel, At::Host, &self.interface()).map(drop)
    }
}

impl VlanGateway {
    fn vlans(&self, port: String) -> PortVlans {
        PortVlans { port, untagged: Some(self.vlan), tagged: Vec::new(), keep_default: self.keep_default }
    }
}
