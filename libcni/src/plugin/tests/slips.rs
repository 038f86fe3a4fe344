//! Keys that are nearly those declared.

use super::super::misspelt::suspicious;
use super::*;
use crate::keys::Level;

#[derive(Configuration)]
#[expect(dead_code, reason = "declared alone")]
struct Keys {
    /// Masquerade.
    ip_masq: bool,
    /// A gateway.
    is_gateway: bool,
    /// A VLAN.
    vlan: u16,
    /// Several VLANs.
    vlan_trunk: Vec<Vlan>,
    ipam: Option<Section>,
}

#[derive(Configuration)]
#[expect(dead_code, reason = "declared alone")]
struct Section {
    /// Range sets.
    ranges: Vec<Vec<Range>>,
    /// A directory.
    data_dir: String,
}

#[derive(Configuration)]
#[expect(dead_code, reason = "declared alone")]
struct Range {
    /// A subnet.
    subnet: String,
}

#[derive(Configuration)]
#[expect(dead_code, reason = "declared alone")]
struct Vlan {
    /// Which.
    min_id: u16,
}

fn found(kind: Kind, config: Value) -> Vec<(String, String)> {
    suspicious(&Level::of::<Keys>(), kind, config.as_object().unwrap())
}

#[test]
fn a_key_near_a_declared_one_is_told_with_it() {
    for (key, meant) in [
        ("isGatway", "isGateway"),
        ("ipMasquerade", "ipMasq"),
        ("IPMASQUERADE", "ipMasq"),
        ("vlanTrunks", "vlanTrunk"),
        ("vlanId", "vlan"),
        ("vlanTrunkList", "vlanTrunk"),
        ("ipm", "ipam"),
        ("prevResults", "prevResult"),
    ] {
        assert_eq!(found(Kind::Interface, json!({key: 1})), [(key.to_owned(), meant.to_owned())]);
    }
    for fine in ["mine", "namespaceIsolation", "vl", "mtu", "description", "isGateway", "type", "args"] {
        assert_eq!(found(Kind::Interface, json!({fine: 1})), [], "{fine}");
    }
}

#[test]
fn keys_inside_of_lists_and_objects_are_looked_at_by_the_plugin_they_are_for() {
    let config = json!({
        "isGatway": true,
        "vlanTrunk": [{"minId": 1}, {"minld": 2}],
        "ipam": {"dataDri": "x", "ranges": [[{"subnet": "s"}, {"subent": "s"}]]},
    });
    let pair = |key: &str, meant: &str| (key.to_owned(), meant.to_owned());
    let of_the_wire = [pair("isGatway", "isGateway"), pair("vlanTrunk[1].minld", "vlanTrunk[1].minId")];
    assert_eq!(found(Kind::Interface, config.clone()), of_the_wire);
    let of_ipam = [pair("ipam.dataDri", "ipam.dataDir"), pair("ipam.ranges[0][1].subent", "ipam.ranges[0][1].subnet")];
    assert_eq!(found(Kind::Ipam, config), of_ipam);
}
