//! Virtual links, as `ip -d link` shows them. Kinds that the kernel lacks are skipped; what would be sent is compared with
//! iproute2's messages in device.rs itself.

mod common;

use common::Lab;
use kernel::controller::Controller;
use kernel::device::{self, Device, IpvlanFlag, IpvlanMode, Kind, MacvlanMode, Parent};
use kernel::{At, Error, Mac, Object, link};

fn device(at: At, kind: Kind, parent: Option<At>) -> Device {
    let parent = parent.map(|at| Parent { at, name: "n0".to_owned() });
    Device { at, name: "x0".to_owned(), kind, parent, mac: None, mtu: None, alias: None }
}

fn macvlan(mode: MacvlanMode) -> Kind {
    Kind::Macvlan { mode, broadcast_queue: None }
}

/// Makes it, compares what the kernel tells with what was asked, and removes it.
fn comes_and_goes(lab: &Lab, device: &Device, shown: &str) -> bool {
    if !lab.makes_if_known(device) {
        return false;
    }
    let netns = if device.at == At::Pod { &lab.pod } else { &lab.node };
    let text = netns.sh("ip -d link show x0");
    assert!(text.contains(shown), "{shown:?} in {text}");
    let told = lab.kernel(|kernel| link::expect(kernel, device.at, "x0").map(|link| device::read(&link))).unwrap();
    match (device.kind, told) {
        (Kind::Macvlan { mode, broadcast_queue: None }, Some(Kind::Macvlan { mode: told, .. })) => {
            assert_eq!(mode, told)
        }
        (kind, told) => assert_eq!(Some(kind), told),
    }
    lab.removes(device);
    true
}

#[test]
fn a_macvlan_in_the_pod_is_on_top_of_the_nodes_interface() {
    let lab = Lab::new();
    for (mode, name) in [
        (MacvlanMode::Bridge, "bridge"),
        (MacvlanMode::Private, "private"),
        (MacvlanMode::Vepa, "vepa"),
        (MacvlanMode::Passthru, "passthru"),
        (MacvlanMode::Source, "source"),
    ] {
        if !comes_and_goes(&lab, &device(At::Pod, macvlan(mode), Some(At::Host)), &format!("macvlan mode {name}")) {
            return;
        }
    }
    let kind = Kind::Macvlan { mode: MacvlanMode::Bridge, broadcast_queue: Some(2000) };
    comes_and_goes(&lab, &device(At::Pod, kind, Some(At::Host)), "bcqueuelen 2000");
    // In the Pod altogether.
    lab.node.sh(&format!("ip link add n2 type veth peer name n0 netns {}", lab.pod.name()));
    comes_and_goes(&lab, &device(At::Pod, kind, Some(At::Pod)), "macvlan mode bridge");
    comes_and_goes(&lab, &device(At::Host, kind, Some(At::Host)), "macvlan mode bridge");
}

#[test]
fn name_address_mtu_and_alias_are_set_whatever_the_node_has() {
    let lab = Lab::new();
    lab.node.sh("ip link add eth0 type veth peer name other; ip link set eth0 mtu 1300");
    let device = Device {
        name: "eth0".to_owned(),
        mac: Some(Mac([2, 0, 0, 0, 0, 7])),
        mtu: Some(1400),
        alias: Some("a: b".to_owned()),
        ..device(At::Pod, macvlan(MacvlanMode::Bridge), Some(At::Host))
    };
    if !lab.makes_if_known(&device) {
        return;
    }
    let text = lab.pod.sh("ip -d link show eth0");
    for words in ["02:00:00:00:00:07", "mtu 1400", "alias a: b"] {
        assert!(text.contains(words), "{words:?} in {text}");
    }
    assert!(!(lab.pod.sh("ip -br link") + &lab.node.sh("ip -br link")).contains("tmp"));
    lab.pod.sh("ip link set eth0 mtu 1000");
    lab.faults(&device, "has MTU 1000, not 1400");
    lab.mends(&device);
    lab.pod.sh("ip link set eth0 alias ''");
    lab.mends(&device);
    assert!(lab.pod.sh("ip link show eth0").contains("alias a: b"));
    lab.pod.sh("ip link set eth0 type macvlan mode vepa");
    lab.faults(&device, "is macvlan of mode Vepa with a queue of 1000, not macvlan of mode Bridge");
    assert!(matches!(lab.ensure(&device), Err(Error::Differs(why)) if why.contains("of mode Vepa")));
    lab.removes(&device);
    // Nothing was done to the node's own.
    assert!(lab.node.sh("ip link show eth0").contains("mtu 1300"));
}

#[test]
fn another_kind_or_another_parent_is_in_the_way() {
    let lab = Lab::new();
    lab.node.sh("ip link add x0 type veth peer name other");
    let on_the_node = device(At::Host, macvlan(MacvlanMode::Bridge), Some(At::Host));
    assert!(
        matches!(lab.ensure(&on_the_node), Err(Error::NotOurs(why)) if why.contains("is not a macvlan (it is veth)"))
    );
    assert!(lab.kernel(|kernel| on_the_node.possible(kernel)).is_err());
    lab.node.sh("ip link del x0");
    if !lab.makes_if_known(&on_the_node) {
        return;
    }
    let parent = Some(Parent { at: At::Host, name: "n1".to_owned() });
    let over_another = Device { parent, ..on_the_node.clone() };
    lab.faults(&over_another, "is not on top of \"n1\" on the node");
    lab.removes(&on_the_node);
    let parent = Some(Parent { at: At::Host, name: "none".to_owned() });
    assert!(
        matches!(lab.ensure(&Device { parent, ..on_the_node }), Err(Error::Changed(why)) if why.contains("\"none\""))
    );
}

#[test]
fn an_ipvlan_has_its_mode_and_flag() {
    let lab = Lab::new();
    for (mode, mode_name) in [(IpvlanMode::L2, "l2"), (IpvlanMode::L3, "l3"), (IpvlanMode::L3s, "l3s")] {
        let flags = [(IpvlanFlag::Bridge, "bridge"), (IpvlanFlag::Private, "private"), (IpvlanFlag::Vepa, "vepa")];
        for (flag, flag_name) in flags {
            let device = device(At::Pod, Kind::Ipvlan { mode, flag }, Some(At::Host));
            if !comes_and_goes(&lab, &device, &format!("ipvlan  mode {mode_name} {flag_name}")) {
                return;
            }
        }
    }
}

#[test]
fn a_vlan_has_its_id() {
    let lab = Lab::new();
    for (at, parent) in [(At::Pod, At::Host), (At::Host, At::Host)] {
        comes_and_goes(&lab, &device(at, Kind::Vlan { id: 4094 }, Some(parent)), "vlan protocol 802.1Q id 4094");
    }
}

#[test]
fn a_dummy_and_an_ifb_are_alone() {
    let lab = Lab::new();
    comes_and_goes(&lab, &device(At::Pod, Kind::Dummy, None), "dummy");
    comes_and_goes(&lab, &device(At::Pod, Kind::Ifb, None), "ifb");
    comes_and_goes(&lab, &device(At::Host, Kind::Ifb, None), "ifb");
}

#[test]
fn a_vrf_has_its_table_and_its_ports() {
    let lab = Lab::new();
    let vrf = device(At::Host, Kind::Vrf { table: 1000 }, None);
    if !lab.makes_if_known(&vrf) {
        return;
    }
    let port = Controller { at: At::Host, link: "n0".to_owned(), controller: "x0".to_owned() };
    lab.makes(&port);
    assert!(lab.node.sh("ip -d link show n0").contains("master x0"));
    assert!(lab.node.sh("ip vrf show").contains("1000"));
    lab.removes(&port);
    lab.removes(&vrf);
    comes_and_goes(&lab, &vrf, "vrf table 1000");
}

#[test]
fn a_port_is_attached_to_a_bridge_and_detached_from_no_other() {
    let lab = Lab::new();
    lab.node.sh("ip link add b0 type bridge; ip link add b1 type bridge");
    let port = |bridge: &str| Controller { at: At::Host, link: "n0".to_owned(), controller: bridge.to_owned() };
    lab.faults(&port("b0"), "interface \"n0\" on the node is not attached to \"b0\"");
    lab.makes(&port("b0"));
    assert!(lab.node.sh("ip link show n0").contains("master b0"));
    assert!(matches!(lab.ensure(&port("b1")), Err(Error::NotOurs(why)) if why.contains("is a port of another")));
    lab.removes(&port("b1"));
    lab.check(&port("b0")).unwrap();
    lab.removes(&port("b0"));
    assert!(!lab.node.sh("ip link show n0").contains("master"));
}

#[test]
fn a_tap_can_be_read_and_no_message_makes_one() {
    let lab = Lab::new();
    let tap = device(At::Pod, Kind::Tun { tap: true, persistent: true }, None);
    let Err(Error::Lacks(why)) = lab.ensure(&tap) else { panic!("no message makes a tap device") };
    assert!(why.contains("/dev/net/tun"), "{why}");
    eprintln!("the kernel says: {why}");
    match lab.pod.try_sh("ip tuntap add dev x0 mode tap") {
        Ok(_) => lab.check(&tap).unwrap(),
        Err(why) => return eprintln!("skipped: {why}"),
    }
    lab.faults(&device(At::Pod, Kind::Tun { tap: false, persistent: true }, None), "is tap, not tun");
    lab.removes(&tap);
}
