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

/// The VLANs that exist.
const FIRST: u16 = 1;
const LAST: u16 = 4094;

/// A port's VLANs. They go with the port.
#[derive(Clone, Debug)]
pub struct PortVlans {
    /// The port's name, on the node.
    pub port: String,
    /// The VLAN of untagged frames, if any.
    pub untagged: Option<u16>,
    /// VLANs of tagged frames: first and last of each range. The VLAN of untagged frames may be in one.
    pub tagged: Vec<(u16, u16)>,
    /// Keep the VLAN that the bridge gives every new port (`vlan_default_pvid`, which is 1 by default)?
    pub keep_default: bool,
}

impl Object for PortVlans {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        self.set(kernel, link::index(kernel, At::Host, &self.port)?)
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        self.check_at(kernel, link::index(kernel, At::Host, &self.port)?)
    }
}

impl PortVlans {
    /// Removes the others first. What the port has and should keep is not removed for a moment: its Pods would notice.
    fn set(&self, kernel: &Kernel, index: u32) -> Result<Made> {
        let socket = kernel.route(At::Host);
        if !self.keep_default {
            let message = self.message(index, &ranges(&self.others()));
            let removed = socket.change(Rtm::del_link(message), 0, &|| self.words());
            removed.or_else(|error| if error.is(Errno::ENOENT) { Ok(()) } else { Err(error) })?;
        }
        socket.change(Rtm::set_link(self.message(index, &self.entries())), 0, &|| self.words())?;
        Ok(Made::Already)
    }

    fn check_at(&self, kernel: &Kernel, index: u32) -> Result<()> {
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

    fn words(&self) -> String {
        format!("VLANs of port {:?}", self.port)
    }

    /// The VLAN of untagged frames comes last: what is said of a VLAN last counts, and a trunk may include it.
    fn entries(&self) -> Vec<(u16, BridgeVlanInfoFlags)> {
        let untagged = self.untagged.map(|id| (id, BridgeVlanInfoFlags::Pvid | BridgeVlanInfoFlags::Untagged));
        ranges(&self.tagged).into_iter().chain(untagged).collect()
    }

    /// Every VLAN that the port should not have, as ranges.
    fn others(&self) -> Vec<(u16, u16)> {
        let mut wanted = self.tagged.clone();
        wanted.extend(self.untagged.map(|id| (id, id)));
        wanted.sort_unstable();
        let (mut others, mut next) = (Vec::new(), FIRST);
        for (first, last) in wanted {
            if first > next {
                others.push((next, first - 1));
            }
            next = next.max(last + 1);
        }
        if next <= LAST {
            others.push((next, LAST));
        }
        others
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

/// Tagged VLANs as the kernel takes them: a range is two entries.
fn ranges(vlans: &[(u16, u16)]) -> Vec<(u16, BridgeVlanInfoFlags)> {
    let entries = vlans.iter().flat_map(|&(first, last)| match first == last {
        true => vec![(first, BridgeVlanInfoFlags::empty())],
        false => vec![(first, BridgeVlanInfoFlags::RangeBegin), (last, BridgeVlanInfoFlags::RangeEnd)],
    });
    entries.collect()
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
    /// Keep the bridge's default VLAN on the port?
    pub keep_default: bool,
    /// The alias of an interface that was made here.
    pub mark: &'static str,
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
        let interface = self.interface();
        let (made, link) = match link::get(kernel, At::Host, &interface)? {
            Some(link) if link.kind != "veth" => return Err(link::wrong_kind(&link, "veth")),
            Some(link) => (Made::Already, link),
            None => (self.create(kernel, bridge)?, link::expect(kernel, At::Host, &interface)?),
        };
        if !link.up {
            link::up(kernel, At::Host, &interface)?;
        }
        if link.alias == self.mark && link.forwards == Some(false) {
            link::forwarding::set(kernel, &interface)?;
        }
        self.vlans().set(kernel, link.lower.unwrap_or_default())?;
        Ok(made)
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        let link = link::expect(kernel, At::Host, &self.interface())?;
        match link.up {
            true => self.vlans().check_at(kernel, link.lower.unwrap_or_default()),
            false => Err(changed(format!("interface {:?} on the node is down", self.interface()))),
        }
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        link::remove(kernel, At::Host, &self.interface()).map(drop)
    }
}

impl VlanGateway {
    /// Makes the pair. [`Made::Already`] if another attachment's ADD was faster.
    fn create(&self, kernel: &Kernel, bridge: u32) -> Result<Made> {
        let (interface, port) = (self.interface(), self.port(bridge));
        let inner = LinkMessageBuilder::<LinkUnspec>::default().name(&*interface).address(Mac::random().to_vec());
        let message = LinkVeth::new(&port, &interface)
            .address(Mac::random().to_vec())
            .controller(bridge)
            .up()
            .set_info_data(InfoData::Veth(InfoVeth::Peer(inner.build())));
        let doing = || format!("making the gateway {interface:?}");
        match kernel.route(At::Host).change(Rtm::new_link(message.build()), NLM_F_CREATE | NLM_F_EXCL, &doing) {
            Err(error) if error.is(Errno::EEXIST) => return Ok(Made::Already),
            made => made?,
        }
        link::set_alias(kernel, At::Host, &interface, self.mark).map(|()| Made::New)
    }

    /// The VLANs of the pair's other end. It is found by its index: the reference plugin gives it another name.
    fn vlans(&self) -> PortVlans {
        let port = format!("of the gateway {}", self.interface());
        PortVlans { port, untagged: Some(self.vlan), tagged: Vec::new(), keep_default: self.keep_default }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rtnetlink::packet_core::Emitable;

    fn port(untagged: Option<u16>, tagged: &[(u16, u16)]) -> PortVlans {
        PortVlans { port: "veth0".to_owned(), untagged, tagged: tagged.to_vec(), keep_default: false }
    }

    /// The entries as the kernel gets them: flags and ID of each (struct bridge_vlan_info).
    fn sent(entries: &[(u16, BridgeVlanInfoFlags)]) -> Vec<(u16, u16)> {
        let message = port(None, &[]).message(7, entries);
        let mut bytes = vec![0; message.buffer_len()];
        message.emit(&mut bytes);
        assert_eq!((bytes[0], &bytes[4..8]), (7, &7_u32.to_ne_bytes()[..]), "AF_BRIDGE and the port's index");
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        // After struct ifinfomsg: IFLA_AF_SPEC (26), and in it IFLA_BRIDGE_VLAN_INFO (2) for each entry, eight bytes.
        assert_eq!((word(16), word(18)), (4 + 8 * entries.len() as u16, 26));
        let entry = |at: usize| {
            assert_eq!((word(at), word(at + 2)), (8, 2));
            (word(at + 4), word(at + 6))
        };
        (0..entries.len()).map(|n| entry(20 + 8 * n)).collect()
    }

    const PVID_UNTAGGED: u16 = 2 | 4;
    const BEGIN: u16 = 8;
    const END: u16 = 16;

    #[test]
    fn the_vlan_of_untagged_frames_comes_after_a_trunk_that_includes_it() {
        let entries = sent(&port(Some(5), &[(3, 3), (5, 9)]).entries());
        assert_eq!(entries, [(0, 3), (BEGIN, 5), (END, 9), (PVID_UNTAGGED, 5)]);
        assert_eq!(sent(&port(None, &[(7, 7)]).entries()), [(0, 7)]);
    }

    #[test]
    fn what_a_port_should_not_have_is_removed_and_what_it_should_is_not() {
        let removed = |untagged, tagged: &[_]| sent(&ranges(&port(untagged, tagged).others()));
        assert_eq!(removed(Some(100), &[]), [(BEGIN, 1), (END, 99), (BEGIN, 101), (END, 4094)]);
        assert_eq!(removed(Some(1), &[(3, 4094)]), [(0, 2)]);
        assert_eq!(removed(Some(4094), &[(5, 9), (1, 3), (7, 20)]), [(0, 4), (BEGIN, 21), (END, 4093)]);
        assert_eq!(removed(None, &[(1, 4094)]), []);
    }
}
