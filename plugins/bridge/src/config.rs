//! The configuration of `bridge`: every key of the reference plugin, with its meaning and default.

use attach::keys::{self, MasqueradeKeys, NodeRouteKeys, WireKeys};
use libcni::{About, Configuration, Error, Request};

/// The plugin's keys. Numbers that are 0 count as not given, as in the reference.
#[derive(Debug, Configuration)]
pub struct Config {
    /// Name of the bridge; made if it is not there.
    #[key(default = "cni0")]
    pub bridge: String,
    /// Give the node an address on the bridge, and route.
    pub is_gateway: bool,
    /// isGateway, and it is the Pods' default route.
    pub is_default_gateway: bool,
    /// Replace other IPv4 addresses, and IPv6 addresses of an overlapping subnet, on the bridge.
    pub force_address: bool,
    /// `ipMasq`, `ipMasqBackend`.
    #[key(flatten, describe("ipMasq", help = "masquerade what Pods send beyond their subnet"))]
    pub masquerade: MasqueradeKeys,
    /// MTU of the Pod's interface, in bytes.
    #[key(shown = "the kernel's, 1500")]
    pub mtu: u32,
    /// Let a Pod reach itself through the bridge.
    pub hairpin_mode: bool,
    /// Set the bridge to promiscuous mode.
    pub promisc_mode: bool,
    /// VLAN of the Pod's untagged frames, 1 to 4094.
    #[key(shown = "none; 1 with vlanTrunk")]
    pub vlan: u16,
    /// Tagged VLANs: [{"id": 5}, {"minID": 10, "maxID": 20}].
    pub vlan_trunk: Vec<VlanTrunk>,
    /// Keep the bridge's default VLAN (1) on the Pod's port beside vlan or vlanTrunk.
    pub preserve_default_vlan: bool,
    /// Drop frames whose source is not the Pod's MAC address.
    pub macspoofchk: bool,
    /// Drop what is not from the Pod's own addresses: IPv4, IPv6, ARP, neighbor discovery, and all else.
    pub ipspoofchk: bool,
    /// Wait for IPv6 duplicate address detection.
    pub enabledad: bool,
    /// Leave the Pod's interface down (without ipam).
    pub disable_container_interface: bool,
    /// Keep Pods from talking to each other on layer 2; by the gateway they can.
    pub port_isolation: bool,
    /// `nodes`, `nodeName`, `nodeRoutes`.
    #[key(flatten)]
    pub nodes: NodeRouteKeys,
    /// `ipam`, `dns`, and the Pod's MAC address.
    #[key(
        flatten,
        describe("ipam", shown = "none: layer 2 only"),
        describe("args.cni.mac", shown = "random"),
        describe("runtimeConfig.mac", shown = "random")
    )]
    pub wire: WireKeys,
}

/// One entry of `vlanTrunk`: a VLAN, all from `minID` to `maxID`, or both.
#[derive(Debug, Configuration)]
pub struct VlanTrunk {
    /// The first VLAN of several, with maxID.
    #[key(name = "minID")]
    pub min_id: Option<u16>,
    /// The last VLAN of several, with minID.
    #[key(name = "maxID")]
    pub max_id: Option<u16>,
    /// One VLAN.
    pub id: Option<u16>,
}

/// The VLANs that exist: 0 and 4095 are reserved (IEEE 802.1Q).
const VLANS: std::ops::RangeInclusive<u16> = 1..=4094;

impl Config {
    /// Does the node have an address on the bridge? A default gateway needs one too.
    pub fn has_gateway(&self) -> bool {
        self.is_gateway || self.is_default_gateway
    }

    /// The VLAN that the configuration gives the Pod's untagged frames.
    pub fn vlan(&self) -> Option<u16> {
        (self.vlan != 0).then_some(self.vlan)
    }

    /// The VLAN of the Pod's untagged frames: as in the reference, that of a trunk without `vlan` is 1. None without VLANs.
    pub fn native_vlan(&self) -> Option<u16> {
        self.vlan().or((!self.vlan_trunk.is_empty()).then_some(1))
    }

    /// The trunk's VLANs as ranges, first and last, in order, with at least one VLAN between two of them.
    pub fn trunk(&self) -> Result<Vec<(u16, u16)>, Error> {
        let entries = self.vlan_trunk.iter().enumerate().map(|(at, entry)| entry.ranges(at));
        Ok(joined(entries.collect::<Result<Vec<_>, _>>()?.concat()))
    }

    /// What must hold beyond types. Nothing has been touched yet.
    pub fn validate(&self, request: &Request) -> Result<(), Error> {
        if let Some(fault) = libcni::invocation::ifname_fault(&self.bridge) {
            return Err(Error::config("bridge", format!("{:?}", self.bridge), fault));
        }
        if self.hairpin_mode && self.promisc_mode {
            return Err(Error::config("hairpinMode", true, "can't be combined with promiscMode"));
        }
        keys::validate_mtu(self.mtu)?;
        self.nodes.validate()?;
        self.masquerade.validate()?;
        self.validate_vlans()?;
        let has_ipam = request.config.ipam_type().is_some();
        if !has_ipam {
            self.warn_of_keys_that_need_ipam();
        }
        if self.disable_container_interface && has_ipam {
            return Err(Error::config(
                "disableContainerInterface",
                true,
                "an interface that is down can't have addresses: remove the ipam section",
            ));
        }
        if self.ipspoofchk && !has_ipam {
            return Err(Error::config(
                "ipspoofchk",
                true,
                "without an ipam section the Pod has no address that could be its own: use macspoofchk",
            ));
        }
        if request.config.object.contains_key("ipam") && !has_ipam && !is_empty_section(request) {
            return Err(Error::config("ipam.type", "missing", "name an IPAM plugin, for example host-local"));
        }
        self.wire.mac.requested(&request.invocation).map(drop)
    }

    /// The reference obeys such a configuration without a word, so that configurations are in use that have it.
    fn warn_of_keys_that_need_ipam(&self) {
        let keys = [
            ("isGateway", self.is_gateway),
            ("isDefaultGateway", self.is_default_gateway),
            ("forceAddress", self.force_address),
            ("ipMasq", self.masquerade.ip_masq),
        ];
        for (key, _) in keys.iter().filter(|(_, is_set)| *is_set) {
            log::warn!(
                "key {key:?} has no effect without an ipam section: neither the Pod nor the bridge gets an address; \
                 add \"ipam\", or remove the key"
            );
        }
    }

    fn validate_vlans(&self) -> Result<(), Error> {
        if self.vlan != 0 && !VLANS.contains(&self.vlan) {
            return Err(Error::config("vlan", self.vlan, "a VLAN is from 1 to 4094"));
        }
        let gateway = format!("{}.{}", self.bridge, self.vlan);
        if self.vlan != 0 && self.has_gateway() && gateway.len() > 15 {
            return Err(Error::config(
                "bridge",
                format!("{:?}", self.bridge),
                format!("the gateway's interface would be {gateway:?}, longer than 15 bytes"),
            ));
        }
        if self.vlan_trunk.len() > usize::from(*VLANS.end()) {
            let why = "more entries than there are VLANs";
            return Err(Error::config("vlanTrunk", format!("{} entries", self.vlan_trunk.len()), why));
        }
        self.trunk().map(drop)
    }
}

/// `"ipam": {}` is layer 2 only, like no section at all.
fn is_empty_section(request: &Request) -> bool {
    request
        .config
        .object
        .get("ipam")
        .is_none_or(|ipam| ipam.is_null() || ipam.as_object().is_some_and(|o| o.is_empty()))
}

/// Ranges that overlap or adjoin, as one.
fn joined(mut ranges: Vec<(u16, u16)>) -> Vec<(u16, u16)> {
    ranges.sort_unstable();
    let mut joined: Vec<(u16, u16)> = Vec::new();
    for (first, last) in ranges {
        match joined.last_mut() {
            Some((_, end)) if first <= *end + 1 => *end = last.max(*end),
            _ => joined.push((first, last)),
        }
    }
    joined
}

impl VlanTrunk {
    fn ranges(&self, at: usize) -> Result<Vec<(u16, u16)>, Error> {
        let refuse = |why: &str| {
            let show = |id: Option<u16>| id.map_or("missing".to_owned(), |id| id.to_string());
            let value = format!("minID {}, maxID {}, id {}", show(self.min_id), show(self.max_id), show(self.id));
            Err(Error::config(&format!("vlanTrunk[{at}]"), value, why))
        };
        let range = match (self.min_id, self.max_id) {
            (Some(first), Some(last)) if first > last => return refuse("minID is greater than maxID"),
            (Some(first), Some(last)) => Some((first, last)),
            (None, None) => None,
            _ => return refuse("minID and maxID only together"),
        };
        let ranges: Vec<_> = range.into_iter().chain(self.id.map(|id| (id, id))).collect();
        match ranges.iter().all(|(first, last)| VLANS.contains(first) && VLANS.contains(last)) {
            _ if ranges.is_empty() => refuse("id, or minID and maxID, or all three"),
            true => Ok(ranges),
            false => refuse("a VLAN is from 1 to 4094"),
        }
    }
}

pub const ABOUT: About = About {
    name: "bridge",
    version: env!("CARGO_PKG_VERSION"),
    summary: "Pods on a Linux bridge",
    example: r#"
{
  "cniVersion": "1.0.0",
  "cniVersions": ["1.0.0", "1.1.0"],
  "name": "pods",
  "plugins": [
    {
      "type": "bridge",
      "isDefaultGateway": true,
      "ipMasq": true,
      "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.22.0.0/16" }], [{ "subnet": "fd00:22::/64" }]] }
    }
  ]
}"#,
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trunk_is_the_union_of_its_entries() {
        assert_eq!(joined(vec![(10, 20), (5, 5), (21, 30), (15, 18), (6, 8), (40, 40)]), [(5, 8), (10, 30), (40, 40)]);
        let entry = |min_id, max_id, id| VlanTrunk { min_id, max_id, id }.ranges(0);
        assert_eq!(entry(Some(10), Some(12), Some(5)).unwrap(), [(10, 12), (5, 5)]);
        assert_eq!(entry(None, None, Some(4094)).unwrap(), [(4094, 4094)]);
        for (min, max, id) in [
            (None, None, None),
            (Some(1), None, Some(5)),
            (None, Some(5), Some(5)),
            (Some(9), Some(3), Some(5)),
            (Some(1), Some(5), Some(0)),
            (Some(1), Some(4095), None),
        ] {
            assert!(entry(min, max, id).is_err(), "{min:?} {max:?} {id:?}");
        }
    }
}
