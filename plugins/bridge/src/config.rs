//! The configuration of `bridge`: every key of the reference plugin, with its meaning and default.

use libcni::{About, Dns, Error, Key, Request};
use serde::Deserialize;
use verbs::{keys, mac};

/// The plugin's keys. Numbers that are 0 count as not given, as in the reference.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Config {
    pub bridge: String,
    pub is_gateway: bool,
    pub is_default_gateway: bool,
    pub force_address: bool,
    pub ip_masq: bool,
    pub ip_masq_backend: Option<String>,
    pub mtu: u32,
    pub hairpin_mode: bool,
    pub promisc_mode: bool,
    pub vlan: u16,
    pub vlan_trunk: Vec<VlanTrunk>,
    pub preserve_default_vlan: bool,
    pub macspoofchk: bool,
    pub ipspoofchk: bool,
    pub enabledad: bool,
    pub disable_container_interface: bool,
    pub port_isolation: bool,
    pub dns: Dns,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            bridge: "cni0".to_owned(),
            is_gateway: false,
            is_default_gateway: false,
            force_address: false,
            ip_masq: false,
            ip_masq_backend: None,
            mtu: 0,
            hairpin_mode: false,
            promisc_mode: false,
            vlan: 0,
            vlan_trunk: Vec::new(),
            preserve_default_vlan: true,
            macspoofchk: false,
            ipspoofchk: false,
            enabledad: false,
            disable_container_interface: false,
            port_isolation: false,
            dns: Dns::default(),
        }
    }
}

/// One entry of `vlanTrunk`: a VLAN, or all from `minID` to `maxID`.
#[derive(Debug, Deserialize)]
pub struct VlanTrunk {
    #[serde(rename = "minID")]
    pub min_id: Option<u16>,
    #[serde(rename = "maxID")]
    pub max_id: Option<u16>,
    pub id: Option<u16>,
}

/// The VLANs that exist: 0 and 4095 are reserved (IEEE 802.1Q).
const VLANS: std::ops::RangeInclusive<u16> = 1..=4094;

impl Config {
    /// Does the node have an address on the bridge? A default gateway needs one too.
    pub fn has_gateway(&self) -> bool {
        self.is_gateway || self.is_default_gateway
    }

    /// The VLAN of the Pod's untagged frames.
    pub fn vlan(&self) -> Option<u16> {
        (self.vlan != 0).then_some(self.vlan)
    }

    /// The trunk's VLANs as ranges, first and last.
    pub fn trunk(&self) -> Result<Vec<(u16, u16)>, Error> {
        self.vlan_trunk.iter().enumerate().map(|(at, entry)| entry.range(at)).collect()
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
        keys::validate_node_routes(request)?;
        self.validate_masquerade()?;
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
            return Err(Error::config("ipam.type", "missing", "which IPAM plugin? host-local, for example"));
        }
        mac::requested(request).map(drop)
    }

    /// The reference obeys such a configuration without a word, so that configurations are in use that have it.
    fn warn_of_keys_that_need_ipam(&self) {
        let keys = [
            ("isGateway", self.is_gateway),
            ("isDefaultGateway", self.is_default_gateway),
            ("forceAddress", self.force_address),
            ("ipMasq", self.ip_masq),
        ];
        for (key, _) in keys.iter().filter(|(_, is_set)| *is_set) {
            log::warn!(
                "key {key:?} has no effect without an ipam section: neither the Pod nor the bridge gets an address; \
                 add \"ipam\", or remove the key"
            );
        }
    }

    fn validate_masquerade(&self) -> Result<(), Error> {
        match self.ip_masq_backend.as_deref() {
            None | Some("" | "nftables") => Ok(()),
            Some("iptables") => Err(Error::config(
                "ipMasqBackend",
                "\"iptables\"",
                "this plugin masquerades with nftables and executes no iptables; remove the key, or write \"nftables\"",
            )),
            Some(other) => Err(Error::config("ipMasqBackend", format!("{other:?}"), "the only one is \"nftables\"")),
        }
    }

    fn validate_vlans(&self) -> Result<(), Error> {
        if self.vlan != 0 && !VLANS.contains(&self.vlan) {
            return Err(Error::config("vlan", self.vlan, "a VLAN is from 1 to 4094"));
        }
        if self.vlan != 0 && !self.vlan_trunk.is_empty() {
            return Err(Error::config("vlanTrunk", "given", "can't be combined with vlan"));
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

impl VlanTrunk {
    fn range(&self, at: usize) -> Result<(u16, u16), Error> {
        let refuse = |why: &str| {
            let show = |id: Option<u16>| id.map_or("missing".to_owned(), |id| id.to_string());
            let value = format!("minID {}, maxID {}, id {}", show(self.min_id), show(self.max_id), show(self.id));
            Err(Error::config(&format!("vlanTrunk[{at}]"), value, why))
        };
        match (self.min_id, self.max_id, self.id) {
            (Some(first), Some(last), None) if first > last => refuse("minID is greater than maxID"),
            (Some(first), Some(last), None) if VLANS.contains(&first) && VLANS.contains(&last) => Ok((first, last)),
            (None, None, Some(id)) if VLANS.contains(&id) => Ok((id, id)),
            (Some(_), Some(_), None) | (None, None, Some(_)) => refuse("a VLAN is from 1 to 4094"),
            _ => refuse("either id, or both minID and maxID"),
        }
    }
}

pub const ABOUT: About = About {
    name: "bridge",
    version: env!("CARGO_PKG_VERSION"),
    summary: "Pods on a Linux bridge",
    keys: &[
        Key { name: "bridge", default: "\"cni0\"", help: "name of the bridge; made if it is not there" },
        Key { name: "isGateway", default: "false", help: "give the node an address on the bridge, and route" },
        Key { name: "isDefaultGateway", default: "false", help: "isGateway, and it is the Pods' default route" },
        Key { name: "forceAddress", default: "false", help: "replace another address of the subnet on the bridge" },
        Key { name: "ipMasq", default: "false", help: "masquerade what Pods send beyond their subnet" },
        Key { name: "ipMasqBackend", default: "\"nftables\"", help: "how; nothing else is supported" },
        keys::MTU,
        Key { name: "hairpinMode", default: "false", help: "let a Pod reach itself through the bridge" },
        Key { name: "promiscMode", default: "false", help: "set the bridge to promiscuous mode" },
        Key { name: "vlan", default: "none", help: "VLAN of the Pod's untagged frames, 1 to 4094" },
        Key { name: "vlanTrunk", default: "[]", help: "tagged VLANs: [{\"id\": 5}, {\"minID\": 10, \"maxID\": 20}]" },
        Key {
            name: "preserveDefaultVlan",
            default: "true",
            help: "keep VLAN 1 on the Pod's port beside vlan or vlanTrunk",
        },
        Key { name: "macspoofchk", default: "false", help: "drop frames whose source is not the Pod's MAC address" },
        Key {
            name: "ipspoofchk",
            default: "false",
            help: "drop what is not from the Pod's own addresses: IPv4, IPv6, ARP, neighbor discovery, and all else",
        },
        Key { name: "enabledad", default: "false", help: "wait for IPv6 duplicate address detection" },
        Key {
            name: "disableContainerInterface",
            default: "false",
            help: "leave the Pod's interface down (without ipam)",
        },
        Key {
            name: "portIsolation",
            default: "false",
            help: "Pods can't talk to each other on layer 2; by the gateway they can",
        },
        keys::NODES,
        keys::NODE_ROUTES,
        keys::NODE_NAME,
        keys::DNS,
        keys::ipam("none: layer 2 only"),
        mac::args_key("random"),
        mac::runtime_key("random"),
    ],
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
