//! Frames that a Pod with root in its own namespace can send, and what of them arrives.
//!
//! Each frame carries its name in its payload. The victim's interface is listened to until the last one, which is
//! honest, has come: frames of one port arrive in order, so what has not come by then was dropped.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use conformance::lab::{Netns, Pod};
use serde_json::Value;

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

/// argv: own MAC, own IPv4, own IPv6, the next hop's MAC, the victim's IPv4 and IPv6, another's IPv4 and IPv6.
const SEND: &str = r#"
import socket, struct, sys
mac = lambda text: bytes.fromhex(text.replace(":", ""))
four, six = lambda t: socket.inet_pton(socket.AF_INET, t), lambda t: socket.inet_pton(socket.AF_INET6, t)
me, me4, me6, it, it4, it6, other4, other6 = sys.argv[1:]
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
frame(0x800, ip4("ipv4 forged", it4)); frame(0x800, ip4("ipv4 another", other4)); frame(0x800, ip4("ipv4 own", me4))
frame(0x86dd, ip6(it6, 17, udp("ipv6 forged"))); frame(0x86dd, ip6(me6, 17, udp("ipv6 own")))
frame(0x806, arp("arp forged", other4)); frame(0x806, arp("arp own", me4))
frame(0x86dd, ip6(me6, 58, nd(136, other6, "na forged"))); frame(0x86dd, ip6(me6, 58, nd(136, me6, "na own")))
frame(0x86dd, ip6(other6, 58, nd(135, it6, "ns forged"))); frame(0x86dd, ip6("::", 58, nd(135, it6, "dad forged")))
frame(0x86dd, ip6(me6, 58, nd(134, other6, "ra"))); frame(0x86dd, ip6(me6, 58, nd(137, other6, "redirect")))
frame(0x88b5, tag("other protocol"))
frame(0x8100, struct.pack("!HH", 5, 0x800) + ip4("tagged", it4))
frame(0x800, ip4("end", me4))
"#;

/// Claims everything that can be claimed to a whole link: another's IPv4 and IPv6 address, and to be the router.
/// argv: own MAC, own link-local address, the other's IPv4 and IPv6.
const CLAIM: &str = r#"
import socket, struct, sys
four, six = lambda t: socket.inet_pton(socket.AF_INET, t), lambda t: socket.inet_pton(socket.AF_INET6, t)
me, me6, other4, other6 = bytes.fromhex(sys.argv[1].replace(":", "")), six(sys.argv[2]), four(sys.argv[3]), six(sys.argv[4])
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind(("eth0", 0))
def arp(operation): s.send(b"\xff" * 6 + me + struct.pack("!HHHBBH", 0x806, 1, 0x800, 6, 4, operation) + me + other4 + b"\xff" * 6 + other4)
def icmp6(body):
    to = six("ff02::1")
    total = sum(struct.unpack("!%dH" % ((40 + len(body)) // 2), me6 + to + struct.pack("!II", len(body), 58) + body))
    total = (total >> 16) + (total & 0xffff); total = ~(total + (total >> 16)) & 0xffff
    body = body[:2] + struct.pack("!H", total) + body[4:]
    s.send(b"\x33\x33\0\0\0\1" + me + struct.pack("!HIHBB", 0x86dd, 0x60000000, len(body), 58, 255) + me6 + to + body)
link = lambda kind: bytes([kind, 1]) + me
for _ in range(3):
    arp(1); arp(2)
    icmp6(bytes([136, 0, 0, 0, 0xa0, 0, 0, 0]) + other6 + link(2))
    icmp6(bytes([134, 0, 0, 0, 64, 0, 0x70, 8, 0, 0, 0, 0, 0, 0, 0, 0]) + link(1)
        + bytes([3, 4, 64, 0xc0]) + struct.pack("!III", 86400, 86400, 0) + six("2001:db8:bad::"))
"#;

/// A Pod and what its ADD answered.
pub type Added<'a> = (&'a Pod, &'a Value);

/// The Pod's address number `at`.
pub fn address(result: &Value, at: usize) -> &str {
    result["ips"][at]["address"].as_str().unwrap().split('/').next().unwrap()
}

/// The hardware address of the interface with that name in the result.
pub fn mac<'a>(result: &'a Value, name: &str) -> &'a str {
    let interfaces = result["interfaces"].as_array().unwrap();
    interfaces.iter().find(|one| one["name"] == name).and_then(|one| one["mac"].as_str()).unwrap()
}

/// What reaches `victim` of all that `forger` sends to `next_hop`; `another` is whose addresses are used besides the victim's.
pub fn arrivals(forger: Added, victim: Added, next_hop: &str, another: [&str; 2]) -> Vec<String> {
    let mut listener = Command::new("python3");
    listener.args(["-c", LISTEN]).stdout(Stdio::piped());
    let mut listening = victim.0.netns().spawn(&mut listener).expect("python3 (Debian's python3-minimal)");
    let mut output = BufReader::new(listening.stdout.take().unwrap());
    let mut ready = String::new();
    output.read_line(&mut ready).unwrap();
    assert_eq!(ready, "ready\n");
    let (from, to) = (forger.1, victim.1);
    let own = [mac(from, "eth0"), address(from, 0), address(from, 1)];
    run(forger.0.netns(), SEND, &[&own[..], &[next_hop, address(to, 0), address(to, 1)], &another].concat());
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

/// Has the forger claim another's addresses, and to be the router, to everybody on its link.
pub fn claim(forger: Added, another: [&str; 2]) {
    let link_local = forger.0.netns().sh("ip -6 -o addr show dev eth0 scope link | awk '{print $4}' | cut -d/ -f1");
    let own = [mac(forger.1, "eth0"), link_local.trim()];
    run(forger.0.netns(), CLAIM, &[own, another].concat());
}

fn run(netns: &Netns, script: &str, arguments: &[&str]) {
    let sent = netns.output(Command::new("python3").args(["-c", script]).args(arguments));
    assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
}
