//! Traffic control, as `tc` shows it.

mod common;

use common::Lab;
use conformance::lab::Netns;
use kernel::tc::{Hooks, Ingress, Redirect, Tbf};
use kernel::{At, Error, Made};

fn tbf(rate: u64, burst: u32, latency: u32) -> Tbf {
    Tbf { at: At::Host, link: "n0".to_owned(), rate, burst, limit: Tbf::limit_for(rate, burst, latency) }
}

#[test]
fn a_token_bucket_is_what_tc_would_have_made() {
    let lab = Lab::new();
    let cases = [
        (tbf(1_000_000, 100_000, 25_000), "rate 8mbit burst 100000 latency 25ms"),
        (tbf(125, 5000, 1_000_000), "rate 1kbit burst 5000 latency 1s"),
        (tbf(10_000_000_000, 1 << 24, 1000), "rate 80gbit burst 16777216 latency 1ms"),
        (tbf(536_870_912, 65_536, 3000), "rate 4294967296bit burst 65536 latency 3ms"),
    ];
    for (tbf, words) in cases {
        lab.makes(&tbf);
        lab.other.sh(&format!("tc qdisc replace dev n0 root handle 1: tbf {words}"));
        let show = |node: &Netns| node.sh("tc -d -j qdisc show dev n0");
        assert_eq!(show(&lab.node), show(&lab.other), "{words}");
        lab.removes(&tbf);
        lab.other.sh("tc qdisc del dev n0 root");
    }
    assert!(!lab.node.sh("tc qdisc show dev n0").contains("tbf"));
}

#[test]
fn a_token_bucket_that_was_changed_is_found_and_mended() {
    let lab = Lab::new();
    let tbf = tbf(1_000_000, 100_000, 25_000);
    lab.makes(&tbf);
    for (by_hand, fault) in [
        ("rate 16mbit burst 100000 limit 125000", "a rate of 2000000 bytes per second, not 1000000"),
        ("rate 8mbit burst 100000 limit 125001", "a limit of 125001 bytes, not 125000"),
        ("rate 8mbit burst 90000 limit 125000", "a burst of about 90000 bytes, not 100000"),
    ] {
        lab.node.sh(&format!("tc qdisc replace dev n0 root handle 5: tbf {by_hand}"));
        lab.faults(&tbf, fault);
        lab.mends(&tbf);
    }
    lab.node.sh("tc qdisc del dev n0 root");
    lab.faults(&tbf, "no token bucket");
    lab.node.sh("tc qdisc add dev n0 root handle 7: pfifo");
    assert!(matches!(lab.ensure(&tbf), Err(Error::NotOurs(why)) if why.contains("pfifo 7:")));
    lab.kernel(|kernel| kernel::Object::remove(&tbf, kernel)).unwrap();
    assert!(lab.node.sh("tc qdisc show dev n0").contains("pfifo"));
}

#[test]
fn a_token_bucket_drops_what_exceeds_it() {
    let lab = Lab::new();
    lab.node.sh(&format!("ip link set n1 netns {} name eth0; ip addr add 10.5.0.1/24 dev n0", lab.pod.name()));
    lab.pod.sh("ip addr add 10.5.0.2/24 dev eth0; ip link set eth0 up");
    assert!(lab.node.pings("10.5.0.2"));
    // Two packets of 1000 bytes are let through, one may wait for a second or more.
    lab.makes(&Tbf { at: At::Host, link: "n0".to_owned(), rate: 500, burst: 2200, limit: 3000 });
    let _ = lab.node.try_sh("ping -n -q -c 12 -i 0.002 -W 1 -s 958 10.5.0.2");
    let shown = lab.node.sh("tc -s qdisc show dev n0");
    let dropped = shown.split("dropped ").nth(1).and_then(|rest| rest.split(',').next()).unwrap();
    assert!(dropped.parse::<u32>().unwrap() >= 5, "{shown}");
}

#[test]
fn hooks_for_filters_come_and_go() {
    let lab = Lab::new();
    for (hooks, kind) in [(Hooks::Received, "ingress"), (Hooks::Both, "clsact")] {
        let ingress = Ingress { at: At::Host, link: "n0".to_owned(), hooks };
        lab.makes(&ingress);
        lab.other.sh(&format!("tc qdisc add dev n0 {kind}"));
        let show = |node: &Netns| node.sh("tc -d qdisc show dev n0");
        assert_eq!(show(&lab.node), show(&lab.other));
        lab.node.sh(&format!("tc qdisc del dev n0 {kind}"));
        lab.other.sh(&format!("tc qdisc del dev n0 {kind}"));
        lab.faults(&ingress, kind);
        lab.makes(&ingress);
        lab.removes(&ingress);
    }
    // A clsact serves who wants to see what is received; it is not removed for that.
    lab.node.sh("tc qdisc add dev n0 clsact");
    let received = Ingress { at: At::Host, link: "n0".to_owned(), hooks: Hooks::Received };
    assert_eq!(lab.ensure(&received).unwrap(), Made::Already);
    lab.kernel(|kernel| kernel::Object::remove(&received, kernel)).unwrap();
    lab.check(&received).unwrap();
    lab.node.sh("tc qdisc del dev n0 clsact; tc qdisc add dev n0 ingress");
    let both = Ingress { hooks: Hooks::Both, ..received };
    assert!(matches!(lab.ensure(&both), Err(Error::NotOurs(why)) if why.contains("ingress ffff:")));
}

#[test]
fn a_redirection_hands_over_every_packet() {
    let lab = Lab::new();
    for node in [&lab.node, &lab.other] {
        node.sh("ip link add m0 type veth peer name m1; ip link set m0 up; ip link set m1 up");
    }
    let redirect = Redirect { at: At::Host, link: "n0".to_owned(), to: "m0".to_owned() };
    for hooks in ["clsact", "ingress"] {
        for node in [&lab.node, &lab.other] {
            node.sh(&format!("tc qdisc add dev n0 {hooks}"));
        }
        lab.makes(&redirect);
        lab.other.sh("tc filter add dev n0 ingress protocol all u32 match u32 0 0 flowid 1:1 action mirred egress redirect dev m0");
        let show = |node: &Netns| {
            let text = node.sh("tc -d filter show dev n0 ingress");
            // Actions are numbered over all filters.
            text.lines().filter(|line| !line.contains("index ")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(show(&lab.node), show(&lab.other));
        lab.node.sh("tc filter del dev n0 ingress");
        lab.faults(&redirect, "the redirection to \"m0\"");
        // Filters that say something else are others.
        lab.node.sh("tc filter add dev n0 ingress protocol all u32 match u32 1 1 action mirred egress redirect dev m0
             tc filter add dev n0 ingress protocol all u32 match u32 0 0 action mirred egress mirror dev m0
             tc filter add dev n0 ingress protocol all u32 match u32 0 0 action mirred egress redirect dev m1");
        let before = show(&lab.node);
        lab.makes(&redirect);
        lab.removes(&redirect);
        assert_eq!(show(&lab.node), before);
        lab.node.sh(&format!("tc qdisc del dev n0 {hooks}"));
        lab.faults(&redirect, "is missing");
        lab.other.sh(&format!("tc qdisc del dev n0 {hooks}"));
    }
    lab.makes(&Ingress { at: At::Host, link: "n0".to_owned(), hooks: Hooks::Received });
    lab.makes(&redirect);
    lab.node.sh("ip link del m0; ip link add m0 type veth peer name m1; ip link set m0 up; ip link set m1 up");
    lab.faults(&redirect, "is missing");
    lab.node.sh("ip link del m0");
    lab.kernel(|kernel| kernel::Object::remove(&redirect, kernel)).unwrap();
    assert_eq!(lab.node.sh("tc filter show dev n0 ingress"), "");
    lab.node.sh("ip link add m0 type veth peer name m1; ip link set m0 up; ip link set m1 up");
    // What n1 sends is received by n0, and leaves by m0 for m1.
    lab.makes(&redirect);
    lab.node.sh("ip link set m1 down; ip link set m1 up");
    let received = || lab.node.ip("-s link show m1")[0]["stats64"]["rx"]["packets"].as_u64().unwrap();
    let before = received();
    lab.node.sh("ip addr add 10.7.0.1/24 dev n1; ping -n -c 5 -i 0.01 -W 1 10.7.0.9 || true");
    assert!(received() > before, "{before}");
}
