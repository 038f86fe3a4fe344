//! Every key of the suite's plugins, with the plugins that have it.
//!
//! A key in the configuration of a plugin that does not have it would be ignored in silence, though it means something to
//! another plugin of the same list: `vni` in `bridge`. The plugin warns. A test compares the table with what the plugins say
//! of themselves (`conformance/tests/keys.rs`).

/// Keys on the outermost level of a configuration, and the plugins that have them.
pub const KEYS: &[(&str, &str)] = &[
    ("bridge", "bridge"),
    ("defaultRoute", "routed-veth and vxlan-overlay"),
    ("device", "vxlan-overlay"),
    ("directRouting", "vxlan-overlay"),
    ("disableContainerInterface", "bridge"),
    ("enabledad", "bridge"),
    ("forceAddress", "bridge"),
    ("hairpinMode", "bridge"),
    ("ipMasq", "bridge, ptp, routed-veth and vxlan-overlay"),
    ("ipMasqBackend", "bridge and ptp"),
    ("ipspoofchk", "bridge"),
    ("isDefaultGateway", "bridge"),
    ("isGateway", "bridge"),
    ("macspoofchk", "bridge"),
    ("mtu", "bridge, ptp, routed-veth and vxlan-overlay"),
    ("nodeName", "bridge, host-local, ptp, routed-veth and vxlan-overlay"),
    ("nodeRoutes", "bridge, ptp and routed-veth"),
    ("nodes", "bridge, host-local, ptp, routed-veth and vxlan-overlay"),
    ("port", "vxlan-overlay"),
    ("portIsolation", "bridge"),
    ("preserveDefaultVlan", "bridge"),
    ("promiscMode", "bridge"),
    ("underlayDevice", "vxlan-overlay"),
    ("underlayFamily", "vxlan-overlay"),
    ("vlan", "bridge"),
    ("vlanTrunk", "bridge"),
    ("vni", "vxlan-overlay"),
];
