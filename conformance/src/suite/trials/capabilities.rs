//! Capabilities and well-known arguments (section 3, "Deriving runtimeConfig", and CONVENTIONS).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use serde_json::{Value, json};

use super::super::attach::Pod;
use super::super::clause::{Clause, Kind, Step, Stop, Trial, WIRED};
use super::super::exec::Call;
use super::super::world::World;
use super::LISTS;

const CAPABILITY: &str = "Specifically, any capability supported by the plugin configuration and provided by the \
    runtime should be inserted in the runtimeConfig.";
const ACT: &str = "CONVENTIONS, Dynamic Plugin specific fields";

/// The trials.
pub const TRIALS: &[Trial] = &[
    Trial {
        name: "capabilities",
        clauses: &[
            Clause::should(
                "capability.mac",
                ACT,
                "mac: Dynamically assign MAC. Runtime can pass this to plugins which need MAC as input.",
                "Where `mac` is declared: the interface, and the result, have the hardware address that was given.",
            )
            .only(WIRED),
            Clause::should(
                "capability.bandwidth",
                ACT,
                "bandwidth: Desired bandwidth limits. Rates are in bits per second, burst values are in bits.",
                "Where `bandwidth` is declared: a queueing discipline that shapes appears on the node or in the container.",
            )
            .only(WIRED),
            Clause::should(
                "capability.port-mappings",
                ACT,
                "portMappings: Pass mapping from ports on the host to ports in the container network namespace.",
                "Where `portMappings` is declared: a TCP connection from outside to the node's port is answered in the container.",
            )
            .only(WIRED),
            Clause::should(
                "capability.dns",
                ACT,
                "dns: Dynamically configure dns according to runtime",
                "Where `dns` is declared: the server and the search domain that were given are in the result.",
            )
            .only(WIRED),
        ],
        run: capabilities,
    },
    Trial {
        name: "addresses on request",
        clauses: &[
            Clause::should(
                "capability.ips",
                ACT,
                "ips: Dynamically allocate IPs for container interface. Runtime which has the ability of address \
                 allocation can pass these to plugins.",
                "Where `ips` is declared: an address of the subnet is asked for in runtimeConfig, and is in the result.",
            ),
            Clause::should(
                "capability.ip-ranges",
                ACT,
                "ipRanges: Dynamically configure the IP range(s) for address allocation. Runtimes that manage IP pools, but not \
                 individual IP addresses, can pass these to plugins.",
                "Where `ipRanges` is declared: the range 198.51.100.0/24 is given in runtimeConfig, and one of its addresses is \
                 in the result. (Who delegates may have its own reasons against a second subnet, and up to 0.2.0 there is \
                 one address of each family.)",
            )
            .only(&[Kind::Ipam])
            .since(LISTS),
            Clause::may(
                "args.cni.ips",
                "CONVENTIONS, \"args\" in network config",
                "ips: Request specific IPs",
                "An address of the subnet is asked for in args.cni.ips, and is in the result.",
            )
            .only(&[Kind::Interface, Kind::Ipam]),
            Clause::may(
                "args.ip",
                "CONVENTIONS, CNI_ARGS",
                "IP: Request a specific IP from IPAM plugins",
                "An address of the subnet is asked for with CNI_ARGS IP=…, and is in the result.",
            )
            .only(&[Kind::Interface, Kind::Ipam]),
        ],
        run: addresses,
    },
];

/// The plugin under test that declares a capability.
fn declaring(w: &World, capability: &str) -> Option<usize> {
    let network = &w.job.network;
    (network.first..network.plugins.len()).find(|&index| network.has_capability(index, capability))
}

fn capabilities(w: &World) -> Step {
    let asked = [
        ("capability.mac", "mac"),
        ("capability.bandwidth", "bandwidth"),
        ("capability.port-mappings", "portMappings"),
        ("capability.dns", "dns"),
    ];
    for (id, capability) in asked {
        if declaring(w, capability).is_none() {
            w.skip(id, format!("the configuration does not declare the capability {capability} ({CAPABILITY})"));
        }
    }
    if asked.iter().all(|(_, capability)| declaring(w, capability).is_none()) {
        return Ok(());
    }
    let (pod, added) = w.attached()?;
    if let Some(index) = declaring(w, "mac") {
        let mac = w.job.network.runtime_config(index, pod.number)["mac"].clone();
        let link = w.link(Some(pod.netns_name()), &pod.ifname)?.map(|link| link.mac).unwrap_or_default();
        w.expect("capability.mac", mac == link.as_str(), format!("{} has {mac}", pod.ifname), &link);
        let said = added
            .result
            .interfaces
            .iter()
            .find(|interface| interface.name == pod.ifname && !interface.sandbox.is_empty());
        let said = said.map(|interface| interface.mac.clone()).unwrap_or_default();
        let told = !w.speaks(LISTS) || mac == said.as_str();
        w.expect("capability.mac", told, format!("the result says {mac}"), &said);
    }
    if let Some(index) = declaring(w, "dns") {
        let given = w.job.network.runtime_config(index, pod.number)["dns"].clone();
        let (server, search) = (given["servers"][0].as_str(), given["searches"][0].as_str());
        let dns = &added.result.dns;
        let has = |list: &[String], wanted: Option<&str>| list.iter().any(|entry| Some(entry.as_str()) == wanted);
        let told = has(&dns.nameservers, server) && has(&dns.search, search);
        w.expect("capability.dns", told, &given, format!("{dns:?}"));
    }
    if declaring(w, "bandwidth").is_some() {
        let shapes =
            |text: String| ["tbf", "htb", "hfsc", "cake"].iter().any(|kind| text.contains(&format!("qdisc {kind} ")));
        let (host, inside) = (w.sh(None, "tc qdisc show")?, w.sh(Some(pod.netns_name()), "tc qdisc show")?);
        let there = shapes(host.clone()) || shapes(inside);
        w.expect("capability.bandwidth", there, "a qdisc that shapes", host);
    }
    if declaring(w, "portMappings").is_some() {
        let port = u16::try_from(20_000 + pod.number).map_err(|error| Stop::Suite(error.to_string()))?;
        let heard = exchange(&pod, SocketAddr::from(([192, 0, 2, 2], port)));
        w.note(format!("a TCP connection from outside to 192.0.2.2:{port}"));
        w.expect(
            "capability.port-mappings",
            heard.is_ok(),
            "an answer from the container",
            heard.err().unwrap_or_default(),
        );
    }
    Ok(())
}

/// Listens on port 80 in the container, connects to `address` from outside, and hears one word.
fn exchange(pod: &Pod, address: SocketAddr) -> Result<(), String> {
    let listener = inside(pod.netns_name(), || TcpListener::bind("0.0.0.0:80"))?;
    listener.set_nonblocking(true).map_err(|error| error.to_string())?;
    let connect = || {
        let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(3))?;
        stream.set_read_timeout(Some(Duration::from_secs(3)))?;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..300 {
                    if let Ok((mut peer, _)) = listener.accept() {
                        let _ = peer.write_all(b"hello");
                        return;
                    }
                    std::thread::sleep(Duration::from_millis(10));
                }
            });
            let mut word = [0; 5];
            stream.read_exact(&mut word)
        })
    };
    inside("outside", connect)
}

/// Runs `job` in a namespace, on a thread of its own.
fn inside<T: Send>(netns: &str, job: impl FnOnce() -> std::io::Result<T> + Send) -> Result<T, String> {
    let path = format!("/run/netns/{netns}");
    std::thread::scope(|scope| {
        let done = scope.spawn(|| {
            let namespace = std::fs::File::open(&path)?;
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)?;
            job()
        });
        done.join().expect("no panic in a namespace").map_err(|error| error.to_string())
    })
}

/// Addresses from a range of the runtime's, which need not be the only one.
fn ranges(w: &World) -> Step {
    let id = "capability.ip-ranges";
    if declaring(w, "ipRanges").is_none() {
        w.skip(id, "the configuration does not declare the capability ipRanges");
        return Ok(());
    }
    let range = json!([[{"subnet": "198.51.100.0/24"}]]);
    let ask = |call: Call| call.edit(|config| config["runtimeConfig"]["ipRanges"] = range.clone());
    let mut pod = w.pod()?;
    let reply = w.add_with(&mut pod, ask)?;
    let got = reply.success() && reply.stdout.contains("\"198.51.100.");
    w.expect(id, got, "an address of 198.51.100.0/24 in the result", reply.summary());
    w.del_with(&pod, ask).map(drop)
}

fn addresses(w: &World) -> Step {
    let (pod, added) = w.attached()?;
    let ids = ["capability.ips", "args.cni.ips", "args.ip"];
    if w.job.kind == Kind::Ipam && w.speaks(LISTS) {
        ranges(w)?;
    }
    let Some(first) = added.result.ips.first().map(|ip| ip.address) else {
        ids.iter().for_each(|id| w.skip(id, "the result has no address"));
        return Ok(());
    };
    w.deleted(&pod)?;
    // A few further on, in the same subnet: free, as nothing else is attached.
    let wanted = |step: u128| {
        let ip = match first.ip() {
            std::net::IpAddr::V4(ip) => {
                std::net::IpAddr::from(std::net::Ipv4Addr::from_bits(ip.to_bits() + step as u32))
            }
            std::net::IpAddr::V6(ip) => std::net::IpAddr::from(std::net::Ipv6Addr::from_bits(ip.to_bits() + step)),
        };
        first.contains(ip).then(|| (ip, format!("{ip}/{}", first.prefix())))
    };
    let asks: [(&str, u128, bool); 3] =
        [(ids[0], 5, declaring(w, "ips").is_some()), (ids[1], 7, true), (ids[2], 9, true)];
    for (id, step, declared) in asks {
        if !declared {
            w.skip(id, "the configuration does not declare the capability ips");
            continue;
        }
        let Some((ip, cidr)) = wanted(step) else {
            w.skip(id, format!("the subnet of {first} has no address {step} further on"));
            continue;
        };
        let mut pod = w.pod()?;
        if id == "args.ip" {
            pod.args = Some(format!("IgnoreUnknown=1;IP={ip}"));
        }
        let ask = |config: &mut Value| match id {
            "capability.ips" => config["runtimeConfig"]["ips"] = json!([cidr]),
            "args.cni.ips" => config["args"] = json!({"cni": {"ips": [cidr]}}),
            _ => {}
        };
        let reply = w.add_with(&mut pod, |call| call.edit(ask))?;
        let got = reply.success() && reply.stdout.contains(&format!("\"{ip}/"));
        w.expect(id, got, format!("{ip} in the result"), reply.summary());
        w.del_with(&pod, |call| call.edit(ask))?;
    }
    Ok(())
}
