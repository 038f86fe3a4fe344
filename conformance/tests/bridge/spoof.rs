//! A Pod with root in its own namespace against its neighbors: raw frames, forged, on IPv4 and IPv6.
//!
//! Each frame carries its name in its payload. The victim's interface is listened to until the last one, which is
//! honest, has come: frames of one port arrive in order, so what has not come by then was dropped.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use conformance::lab::Pod;
use serde_json::{Value, json};

use crate::{network, node};

/// Prints "ready", and then the names of the frames that came, up to "end".
const LISTEN: &str = r#"
import re, socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3)); s.bind(("eth0", 0)); s.settimeout(20)
print("ready", flush=True)
while True:
    name = re.search(rb"<([a-z0-9 -]+)>", s.recv(2048))
    if name: print(name[1].decode(), flush=True)
    if name and name[1] == b"end": break
"#;

/// argv: own MAC, own IPv4, own IPv6, the victim's MAC, IPv4, IPv6, the gateway's IPv4 and IPv6.
const SEND: &str = r#"
import socket, struct, sys
mac = lambda text: bytes.fromhex(text.replace(":", ""))
four, six = lambda t: socket.inet_pton(socket.AF_INET, t), lambda t: socket.inet_pton(socket.AF_INET6, t)
me, me4, me6, it, it4, it6, gw4, gw6 = sys.argv[1:]
me, it = mac(me), mac(it)
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0))
def checksum(data):
    total = sum(struct.unpack("!%dH" % (len(data) // 2), data)); total = (total >> 16) + (total & 0xffff)
    return ~(total + (total >> 16)) & 0xffff
def frame(kind, payload): s.send(it + me + struct.pack("!H", kind) + payload)
def tag(name): return b"<" + name.encode() + b">"
def udp(name):
    return struct.pack("!HHHH", 9, 9, 8 + len(tag(name)), 0) + tag(name)
def ip4(name, source):
    head = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp(name)), 0, 0, 64, 17, 0, four(source), four(it4))
    head = head[:10] + struct.pack("!H", checksum(head)) + head[12:]
    return head + udp(name)
def ip6(source, next_header, payload):
    return struct.pack("!IHBB", 0x60000000, len(payload), next_header, 255) + six(source) + six(it6) + payload
def arp(name, source): return struct.pack("!HHBBH", 1, 0x800, 6, 4, 2) + me + four(source) + it + four(it4) + tag(name)
def nd(kind, target, name): return bytes([kind, 0, 0, 0, 0x20, 0, 0, 0]) + six(target) + tag(name)
frame(0x800, ip4("ipv4 forged", it4)); frame(0x800, ip4("ipv4 gateway", gw4)); frame(0x800, ip4("ipv4 own", me4))
frame(0x86dd, ip6(it6, 17, udp("ipv6 forged"))); frame(0x86dd, ip6(me6, 17, udp("ipv6 own")))
frame(0x806, arp("arp forged", gw4)); frame(0x806, arp("arp own", me4))
frame(0x86dd, ip6(me6, 58, nd(136, gw6, "na forged"))); frame(0x86dd, ip6(me6, 58, nd(136, me6, "na own")))
frame(0x86dd, ip6(gw6, 58, nd(135, it6, "ns forged"))); frame(0x86dd, ip6("::", 58, nd(135, it6, "dad forged")))
frame(0x86dd, ip6(me6, 58, nd(134, gw6, "ra"))); frame(0x86dd, ip6(me6, 58, nd(137, gw6, "redirect")))
frame(0x88b5, tag("other protocol"))
frame(0x8100, struct.pack("!HH", 5, 0x800) + ip4("tagged", it4))
frame(0x800, ip4("end", me4))
"#;

const HONEST: [&str; 5] = ["ipv4 own", "ipv6 own", "arp own", "na own", "end"];

fn address(result: &Value, at: usize) -> &str {
    result["ips"][at]["address"].as_str().unwrap().split('/').next().unwrap()
}

/// What reaches `victim` of all that `forger` sends.
fn arrivals(forger: (&Pod, &Value), victim: (&Pod, &Value)) -> Vec<String> {
    let mut listener = Command::new("python3");
    listener.args(["-c", LISTEN]).stdout(Stdio::piped());
    let mut listening = victim.0.netns().spawn(&mut listener).expect("python3 (Debian's python3-minimal)");
    let mut output = BufReader::new(listening.stdout.take().unwrap());
    let mut ready = String::new();
    output.read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    let mac = |result: &'_ Value| result["interfaces"][2]["mac"].as_str().unwrap().to_owned();
    let (from, to) = (forger.1, victim.1);
    let mut sender = Command::new("python3");
    sender.args(["-c", SEND, &mac(from), address(from, 0), address(from, 1), &mac(to), address(to, 0), address(to, 1)]);
    sender.args(["10.22.0.1", "fd00:22::1"]);
    let sent = forger.0.netns().output(&mut sender);
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
    let mut names = String::new();
    output.read_to_string(&mut names).unwrap();
    listening.wait().unwrap();
    // The victim's own complaints (port unreachable) repeat what they are about.
    let mut once: Vec<String> = Vec::new();
    for name in names.lines() {
        if !once.iter().any(|before| before == name) {
            once.push(name.to_owned());
        }
    }
    once
}

#[test]
fn ipspoofchk_lets_only_the_pods_own_addresses_in() {
    let node = node();
    let keys = json!({"isGateway": true, "macspoofchk": true, "ipMasq": true});
    let open = network(&node, keys.clone());
    let (forger, victim) = (Pod::new("forger"), Pod::new("victim"));
    let (from, to) = (open.add(&forger), open.add(&victim));
    let all = arrivals((&forger, &from), (&victim, &to));
    assert_eq!(all.len(), 16, "without the key every frame arrives: {all:?}");
    open.del(&forger);

    let mut keys = keys;
    keys["ipspoofchk"] = json!(true);
    let checked = network(&node, keys);
    let from = checked.add(&forger);
    assert_eq!(arrivals((&forger, &from), (&victim, &to)), HONEST);
    assert!(forger.netns().pings("10.22.0.1") && forger.netns().pings("fd00:22::1"));
    checked.check(&forger, &from).ok();

    node.netns.sh("nft flush ruleset");
    assert_eq!(checked.check(&forger, &from).code(), 102);
    let third = Pod::new("third");
    checked.add(&third);
    checked.check(&forger, &from).ok();
    assert_eq!(arrivals((&forger, &from), (&victim, &to)), HONEST);

    checked.del(&forger);
    checked.del(&third);
    open.del(&victim);
    assert!(!node.netns.sh("nft list ruleset").contains("elements"));
}

#[test]
fn gc_removes_the_address_check_of_who_is_gone() {
    let node = node();
    let network = network(&node, json!({"ipspoofchk": true}));
    network.add(&Pod::new("a"));
    let mut config = network.config.clone();
    config["cni.dev/valid-attachments"] = json!([]);
    node.call_network("bridge", "GC", &config).ok();
    assert!(!node.netns.sh("nft list ruleset").contains("elements"));
}

#[test]
fn an_address_check_without_addresses_is_refused() {
    let node = node();
    let layer2 = crate::Network::new(&node, "bridge", json!({"ipspoofchk": true}), Value::Null);
    let refused = layer2.call("ADD", &Pod::new("a"));
    assert_eq!(refused.code(), 7);
    assert!(refused.details().contains("ipspoofchk"), "{}", refused.stdout);
}

#[test]
fn isolated_pods_meet_through_the_gateway_only() {
    let node = node();
    let network = network(&node, json!({"isDefaultGateway": true, "portIsolation": true}));
    let (a, b) = (Pod::new("a"), Pod::new("b"));
    network.add(&a);
    let there = network.add(&b);
    let other = address(&there, 0);
    assert!(!a.netns().pings(other));
    // A route by the gateway is all it takes: the key is about layer 2.
    a.netns().sh(&format!("ip route add {other}/32 via 10.22.0.1"));
    b.netns().sh("ip route add 10.22.0.0/24 via 10.22.0.1");
    assert!(a.netns().pings(other));
}
