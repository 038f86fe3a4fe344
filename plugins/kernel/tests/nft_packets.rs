//! Packets obey the rules of nftables that are made here.

mod common;

use common::Lab;
use common::nft::{PODS, PUBLISHED, TABLE, hooked, published};
use kernel::nft::condition::*;
use kernel::nft::statement::*;
use kernel::nft::{self, Entry, Expression, Family, Field, Policy, Value, concatenated, register};
use netlink_packet_netfilter::nftables::{InetHookNumber, Register};

const TCP: u8 = 6;

fn rule(parts: &[Vec<Expression>]) -> Vec<Expression> {
    parts.concat()
}

/// The node forwards between `out` (198.51.100.1) and the Pod (10.0.0.5); `other` is outside.
fn wired() -> Lab {
    let lab = Lab::new();
    let (pod, other) = (lab.pod.name(), lab.other.name());
    lab.other.sh("ip link del n0");
    lab.node.sh(&format!(
        "ip link set n1 netns {pod} name eth0; ip addr add 10.0.0.1/24 dev n0
         ip link add out type veth peer name eth0 netns {other}; ip link set out up; ip addr add 198.51.100.1/24 dev out
         echo 1 > /proc/sys/net/ipv4/ip_forward"
    ));
    lab.pod.sh("ip addr add 10.0.0.5/24 dev eth0; ip link set eth0 up; ip route add default via 10.0.0.1");
    lab.other.sh("ip addr add 198.51.100.9/24 dev eth0; ip link set eth0 up");
    lab
}

/// A TCP server in one namespace is asked from another: the address that it says it was asked from.
fn asks(server: &str, client: &conformance::lab::Netns, at: &conformance::lab::Netns) -> std::io::Result<String> {
    use std::io::Read;
    use std::net::{TcpListener, TcpStream};
    let (target, listen) = server.split_once(" at ").unwrap();
    let listener = at.inside(|| TcpListener::bind(listen)).unwrap();
    let stream =
        client.inside(|| TcpStream::connect_timeout(&target.parse().unwrap(), std::time::Duration::from_secs(2)));
    let mut stream = stream?;
    let (accepted, from) = listener.accept()?;
    drop(accepted);
    stream.read_to_end(&mut Vec::new())?;
    Ok(from.ip().to_string())
}

#[test]
fn a_port_is_forwarded_by_a_map_and_connections_are_masqueraded() {
    let lab = wired();
    let target =
        Nat { of: NatOf::Destination, family: Family::V4, address: Some(Register::Reg1), port: Some(register(1)) };
    let key = [Field::Destination(Family::V4), Field::Protocol, Field::DestinationPort];
    lab.commit(TABLE, |it| {
        it.declare(&PUBLISHED);
        it.counter("forwarded");
        it.base_chain("pre", hooked(InetHookNumber::PreRouting, "nat", -100), Policy::Accept, None);
        it.rule(
            "pre",
            rule(&[is_of(Family::V4), nft::load(&key), vec![map("published", Register::Reg1), nat(target)]]),
        );
        it.base_chain("post", hooked(InetHookNumber::PostRouting, "nat", 100), Policy::Accept, None);
        it.rule("post", rule(&[leaves_by("out"), vec![named_counter("forwarded"), masquerade(Ports::FullyRandom)]]));
        it.insert(&PUBLISHED, &[published([198, 51, 100, 1], TCP, 8080, [10, 0, 0, 5], 80)]);
    })
    .unwrap();
    assert_eq!(asks("198.51.100.1:8080 at 0.0.0.0:80", &lab.other, &lab.pod).unwrap(), "198.51.100.9");
    assert!(asks("198.51.100.1:8081 at 0.0.0.0:80", &lab.other, &lab.pod).is_err());
    assert_eq!(asks("198.51.100.9:80 at 0.0.0.0:80", &lab.pod, &lab.other).unwrap(), "198.51.100.1");
    let count = lab.kernel(|kernel| TABLE.count(kernel, "forwarded")).unwrap().unwrap();
    assert_eq!((count.packets, count.bytes), (1, 60));
    lab.is_listed_as(
        "table inet t {
            map published { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; comment \"host ports\"
                elements = { 198.51.100.1 . tcp . 8080 : 10.0.0.5 . 80 } }
            counter forwarded { packets 1 bytes 60 }
            chain pre { type nat hook prerouting priority -100; policy accept;
                dnat ip to ip daddr . meta l4proto . th dport map @published
            }
            chain post { type nat hook postrouting priority 100; policy accept;
                oifname \"out\" counter name forwarded masquerade fully-random
            }
        }",
    );
}

#[test]
fn fixed_addresses_are_those_of_nft_and_verdict_maps_decide() {
    let lab = wired();
    let to = |of, family, address, port| Nat { of, family, address, port };
    let loaded = |bytes: &[u8]| vec![value(bytes, Register::Reg1)];
    let v6 = concatenated(&[&[0xfd; 16]]);
    let (first, second) = (Some(Register::Reg1), Some(Register::Reg2));
    lab.commit(TABLE, |it| {
        it.empty_chain("aside");
        it.declare(&PODS);
        it.base_chain("post", hooked(InetHookNumber::PostRouting, "nat", 100), Policy::Accept, None);
        let snat = vec![nat(to(NatOf::Source, Family::V4, first, None))];
        it.rule("post", rule(&[leaves_by("out"), loaded(&[198, 51, 100, 77]), snat]));
        it.base_chain("pre", hooked(InetHookNumber::PreRouting, "nat", -100), Policy::Accept, None);
        let dnat =
            vec![value(&80u16.to_be_bytes(), Register::Reg2), nat(to(NatOf::Destination, Family::V6, first, second))];
        let web = [is_of(Family::V6), is_protocol(TCP), is(Field::DestinationPort, &8080u16.to_be_bytes())].concat();
        it.rule("pre", rule(&[web, loaded(&v6), dnat]));
        it.base_chain("fwd", hooked(InetHookNumber::Forward, "filter", 0), Policy::Accept, None);
        it.rule(
            "fwd",
            rule(&[is_of(Family::V4), nft::load(&[Field::Source(Family::V4)]), vec![nft::verdict_map("pods")]]),
        );
        it.rule("aside", vec![counter(), nft::end(nft::DROP)]);
    })
    .unwrap();
    lab.node.sh("ip addr add 198.51.100.77/32 dev out");
    let asked_from = || asks("198.51.100.9:80 at 0.0.0.0:80", &lab.pod, &lab.other);
    assert_eq!(asked_from().unwrap(), "198.51.100.77");
    let pod = Entry::new(vec![10, 0, 0, 5]);
    let set = |value: Value| {
        let _ = lab.commit(TABLE, |it| it.take_out(&PODS, std::slice::from_ref(&pod)));
        lab.commit(TABLE, |it| it.insert(&PODS, &[pod.clone().with(value.clone())])).unwrap();
    };
    for (value, passes) in [
        (Value::Drop, false),
        (Value::Accept, true),
        (Value::Goto("aside".to_owned()), false),
        (Value::Return, true),
        (Value::Jump("aside".to_owned()), false),
    ] {
        set(value.clone());
        assert_eq!(lab.pod.pings("198.51.100.9"), passes, "{value:?}");
    }
    let listed = lab.node.sh("nft list ruleset");
    for words in [
        "oifname \"out\" snat ip to 198.51.100.77",
        "tcp dport 8080 dnat ip6 to [fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd:fdfd]:80",
        "ip saddr vmap @pods",
        "elements = { 10.0.0.5 : jump aside }",
    ] {
        assert!(listed.contains(words), "{words:?} in\n{listed}");
    }
}
