//! `reconcile` and `check` as a caller without any CNI request uses them: a map in memory, in a network namespace of the
//! test's own. Needs root.

use std::process::Command;

use cluster::tag::NetworkTag;
use cluster::{How, Overlay, Reach, Seat, check, possible, reconcile};
use kernel::{Changes, Kernel};
use nix::sched::{CloneFlags, unshare};
use nodes::{Family, Map, Node};

/// Runs `test` on a thread in a new namespace whose `eth0` has the first node's address; without root, says so.
fn on_a_node(test: impl FnOnce(&Kernel) + Send + 'static) {
    let thread = std::thread::spawn(move || {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
            println!("skipped: no network namespace can be made here: {errno}");
            return;
        }
        sh(
            "echo 0 > /proc/sys/net/ipv4/ip_forward; ip link set lo up; ip link add eth0 type bridge; ip link set eth0 up; ip addr add 10.240.0.4/24 dev eth0",
        );
        test(&Kernel::open().unwrap());
    });
    thread.join().unwrap();
}

/// A child is in the namespace of the thread that starts it.
#[expect(clippy::disallowed_methods, reason = "a test asks the kernel with ip and nft")]
fn sh(script: &str) -> String {
    let output = Command::new("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{script}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn node(number: u8) -> Node {
    Node {
        name: format!("node-{number}"),
        addresses: vec![format!("10.240.0.{}", 4 + number).parse().unwrap()],
        pod_cidrs: vec![format!("10.244.{number}.0/24").parse().unwrap()],
    }
}

fn map(nodes: impl IntoIterator<Item = u8>) -> Map {
    Map::new(nodes.into_iter().map(node).collect()).unwrap()
}

fn seat(map: &Map) -> Seat<'_> {
    Seat { map, node_name: Some("node-0"), underlay_family: Family::V4 }
}

fn overlay() -> Reach {
    Reach::Overlay(Overlay {
        vni: 7,
        port: 4790,
        devices: ["vxlan.7".to_owned(), "vxlan6.7".to_owned()],
        mtu: None,
        underlay_device: None,
        direct_routing: false,
    })
}

#[test]
fn node_routes_follow_the_map_and_every_fault_is_listed() {
    on_a_node(|kernel| {
        let network = NetworkTag::new("pods").of_cluster(false);
        let three = map(0..3);
        possible(kernel, network, seat(&three), &Reach::NodeRoutes).unwrap();
        let (followed, changes) = reconcile(kernel, network, seat(&three), &Reach::NodeRoutes, How::default()).unwrap();
        assert_eq!(followed.pod_cidrs, three.nodes()[0].pod_cidrs);
        // Forwarding, which was off, and a route for each peer.
        assert_eq!(changes, Changes { set: 1 + 2, removed: 0 });
        let routes = sh("ip route show proto 112");
        for route in ["10.244.1.0/24 via 10.240.0.5", "10.244.2.0/24 via 10.240.0.6"] {
            assert!(routes.contains(route), "{route} is missing:\n{routes}");
        }
        let again = reconcile(kernel, network, seat(&three), &Reach::NodeRoutes, How::default()).unwrap();
        assert_eq!(again.1, Changes::default());

        let faults = |map: &Map| check(kernel, network, seat(map), &Reach::NodeRoutes).unwrap().1;
        assert_eq!(faults(&three).len(), 0);
        sh("ip route del 10.244.1.0/24");
        assert!(faults(&three)[0].to_string().contains("10.244.1.0/24"));
        // A node left while nobody looked.
        let two = map([0, 2]);
        let changes = reconcile(kernel, network, seat(&two), &Reach::NodeRoutes, How::default()).unwrap().1;
        assert_eq!(changes, Changes::default());
        let one = map([0]);
        let changes = reconcile(kernel, network, seat(&one), &Reach::NodeRoutes, How::default()).unwrap().1;
        assert_eq!(changes, Changes { set: 0, removed: 1 });
        assert!(!sh("ip route show table main").contains("10.244."));
    });
}

#[test]
fn an_overlay_is_a_device_and_what_leads_to_each_peer_and_masquerade_knows_the_inside() {
    on_a_node(|kernel| {
        let network = NetworkTag::new("pods").of_cluster(true);
        let three = map(0..3);
        let how = How { masquerade: true, ..How::default() };
        let (followed, changes) = reconcile(kernel, network, seat(&three), &overlay(), how).unwrap();
        assert_eq!(followed.mtu, Some(1450));
        assert_eq!(followed.inside.unwrap().subnets.len(), 3);
        // Forwarding, which was off, the device, the inside, and for each peer an FDB entry, a neighbor and a route.
        assert_eq!(changes, Changes { set: 3 + 2 * 3, removed: 0 });
        assert!(sh("bridge fdb show dev vxlan.7").contains("dst 10.240.0.6"));
        assert_eq!(check(kernel, network, seat(&three), &overlay()).unwrap().1.len(), 0);
        sh("ip link set vxlan.7 down");
        let faults = check(kernel, network, seat(&three), &overlay()).unwrap().1;
        assert!(faults.iter().any(|fault| fault.to_string().contains("\"vxlan.7\" is down")), "{faults:?}");
        reconcile(kernel, network, seat(&three), &overlay(), how).unwrap();
        assert_eq!(check(kernel, network, seat(&three), &overlay()).unwrap().1.len(), 0);
        assert!(sh("nft list ruleset").contains("10.244.0.0-10.244.2.255"), "{}", sh("nft list ruleset"));
    });
}
