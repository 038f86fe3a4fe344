//! What goes through a wire once it is there: TCP throughput, requests a second, CPU for each byte.
//!
//! Between two Pods of one node, wired by each set and by hand with `ip`, in turn. Throughput and CPU are what iperf3
//! says (both ends' processor time); a request is one byte there and one byte back over a TCP connection that stays.
//!
//! One wiring made twice differs more from itself than from another wiring (where the kernel puts its memory, which
//! processor the ends run on): so each round makes it anew [`TIMES`] times, measures shortly, and what counts is the
//! median, beside how far the middle half of all measurements reaches.

use std::io::{Read, Write};
use std::net::{IpAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::Set;
use super::measure::inside;
use super::series::Node;
use super::workload::Workload;
use crate::lab::Netns;

/// How long one throughput is measured, in seconds, and how long requests are.
const SECONDS: u64 = 1;

/// How often each round makes a wiring and measures it.
pub const TIMES: usize = 6;

/// One wiring, made in one way.
#[derive(Clone, Debug)]
pub struct Wire {
    /// The wiring, and who made it.
    pub name: String,
    /// Gigabits a second, of each round.
    pub gigabits: Vec<f64>,
    /// Requests a second, of each round.
    pub requests: Vec<f64>,
    /// Nanoseconds of both ends' processor time for each byte, of each round.
    pub cpu: Vec<f64>,
}

impl Wire {
    /// Not measured yet.
    pub fn new(name: String) -> Self {
        Wire { name, gigabits: Vec::new(), requests: Vec::new(), cpu: Vec::new() }
    }

    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({
            "wire": self.name,
            "gigabits_per_second": self.gigabits,
            "requests_per_second": self.requests,
            "cpu_ns_per_byte": self.cpu,
        })
    }

    /// For people: medians, and of the throughput its quartiles.
    pub fn to_text(&self) -> String {
        let [low, gigabits, high] = [1, 2, 3].map(|quarters| quantile(&self.gigabits, quarters));
        let (requests, cpu) = (quantile(&self.requests, 2), quantile(&self.cpu, 2));
        format!(
            "{:<50} {gigabits:>6.2} ({low:>5.2} to {high:>5.2}) Gbit/s {requests:>7.0} requests/s {cpu:>6.3} ns CPU/byte\n",
            self.name
        )
    }
}

/// The value that so many quarters of `values` stay below.
fn quantile(values: &[f64], quarters: usize) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() * quarters / 4).copied().unwrap_or(f64::NAN)
}

/// Measures the Pods of `workload`, wired by each set, and by the shell script `by_hand`.
pub fn run(workload: &Workload, sets: &[Set; 2], by_hand: &str, rounds: usize) -> Result<Vec<Wire>, String> {
    for set in sets {
        workload.chain_for(set)?;
    }
    let mut wires: Vec<_> = sets.iter().map(|set| Wire::new(format!("{} by {}", workload.name, set.label))).collect();
    wires.push(Wire::new(format!("{} by hand", workload.name)));
    for _ in 0..rounds {
        for (set, wire) in sets.iter().zip(&mut wires) {
            let (node, pods) = (Node::new(set)?, [Netns::new("pod"), Netns::new("pod")]);
            node.wire(&Workload { pods: 2, parallel: 1, check: false, ..workload.clone() }, &pods)?;
            measure(&pods, wire)?;
        }
        let (node, pods) = (Netns::new("hand"), [Netns::new("pod"), Netns::new("pod")]);
        let script = format!("A={} B={}\n{by_hand}", pods[0].name(), pods[1].name());
        node.try_sh(&script)?;
        measure(&pods, wires.last_mut().expect("pushed above"))?;
    }
    Ok(wires)
}

/// Two Pods, `$A` and `$B`, on a bridge.
pub const BRIDGE_BY_HAND: &str = "
ip link add br0 type bridge && ip link set br0 up && ip addr add 10.88.0.1/16 dev br0
sysctl -qw net.ipv4.ip_forward=1
n=2
for pod in $A $B; do
    ip link add veth$n master br0 type veth peer name eth0 netns $pod && ip link set veth$n up
    ip -n $pod addr add 10.88.0.$n/16 dev eth0 && ip -n $pod link set eth0 up
    ip -n $pod route add default via 10.88.0.1
    n=$((n + 1))
done";

/// Two Pods, `$A` and `$B`, each routed by its own veth.
pub const ROUTED_BY_HAND: &str = "
sysctl -qw net.ipv4.ip_forward=1
n=2
for pod in $A $B; do
    ip link add veth$n type veth peer name eth0 netns $pod && ip addr add 10.88.0.1/32 dev veth$n
    ip link set veth$n up && ip -n $pod addr add 10.88.0.$n/32 dev eth0 && ip -n $pod link set eth0 up
    ip -n $pod route add 10.88.0.1 dev eth0 scope link && ip -n $pod route add default via 10.88.0.1
    ip route add 10.88.0.$n dev veth$n scope link
    n=$((n + 1))
done";

/// Measures from the first Pod to the second.
pub fn measure(pods: &[Netns; 2], wire: &mut Wire) -> Result<(), String> {
    let address = address_of(&pods[1])?;
    let (gigabits, cpu) = throughput(pods, address)?;
    wire.gigabits.push(gigabits);
    wire.cpu.push(cpu);
    wire.requests.push(requests(pods, address)?);
    Ok(())
}

fn address_of(pod: &Netns) -> Result<IpAddr, String> {
    let said = pod.ip("-4 addr show dev eth0");
    let text = said[0]["addr_info"][0]["local"].as_str().ok_or("the Pod has no address")?;
    text.parse().map_err(|error| format!("{text}: {error}"))
}

/// Gigabits a second, and both ends' nanoseconds of CPU for each byte.
fn throughput(pods: &[Netns; 2], address: IpAddr) -> Result<(f64, f64), String> {
    let mut server = Command::new("iperf3");
    server.args(["-s", "-1", "--forceflush"]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let server = pods[1].spawn(&mut server).map_err(|error| format!("iperf3 (package iperf3): {error}"))?;
    let mut server = Ended(server);
    wait_until_it_listens(&mut server.0)?;
    let seconds = SECONDS.to_string();
    let mut client = Command::new("iperf3");
    client.args(["-J", "-t", &seconds, "-c", &address.to_string()]);
    let output = pods[0].output(&mut client);
    let said: Value = serde_json::from_slice(&output.stdout).map_err(|error| format!("iperf3: {error}"))?;
    let end = &said["end"];
    let number = |value: &Value| value.as_f64().ok_or_else(|| format!("iperf3: {}", said["error"]));
    let (bits, bytes) = (number(&end["sum_received"]["bits_per_second"])?, number(&end["sum_received"]["bytes"])?);
    let busy = &end["cpu_utilization_percent"];
    let percent = number(&busy["host_total"])? + number(&busy["remote_total"])?;
    let seconds = number(&end["sum_received"]["seconds"])?;
    Ok((bits / 1e9, percent / 100.0 * seconds * 1e9 / bytes))
}

/// A process that ends with its value.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// iperf3 says so on its stdout.
fn wait_until_it_listens(server: &mut Child) -> Result<(), String> {
    let stdout = server.stdout.as_mut().expect("piped");
    let mut said = Vec::new();
    let mut byte = [0];
    while !String::from_utf8_lossy(&said).contains("listening") {
        match stdout.read(&mut byte) {
            Ok(1) => said.push(byte[0]),
            _ => return Err("iperf3 -s ended".to_owned()),
        }
    }
    Ok(())
}

fn requests(pods: &[Netns; 2], address: IpAddr) -> Result<f64, String> {
    let failed = |error: std::io::Error| format!("requests to {address}: {error}");
    let listener = inside(&pods[1].path(), || TcpListener::bind((address, 0)))?.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    std::thread::scope(|scope| {
        let server = scope.spawn(move || -> std::io::Result<()> {
            let (mut stream, _) = listener.accept()?;
            stream.set_nodelay(true)?;
            let mut byte = [0];
            while stream.read(&mut byte)? == 1 {
                stream.write_all(&byte)?;
            }
            Ok(())
        });
        let client = || -> std::io::Result<f64> {
            let mut stream = TcpStream::connect((address, port))?;
            stream.set_nodelay(true)?;
            let (mut byte, mut count, before) = ([0], 0u32, Instant::now());
            while before.elapsed() < Duration::from_secs(SECONDS) {
                stream.write_all(&[1])?;
                stream.read_exact(&mut byte)?;
                count += 1;
            }
            Ok(f64::from(count) / before.elapsed().as_secs_f64())
        };
        // A client that can't connect leaves the listener waiting: then this connection ends it.
        let rate = inside(&pods[0].path(), client)?.map_err(failed);
        if rate.is_err() {
            let _ = inside(&pods[1].path(), || TcpStream::connect((address, port)));
        }
        server.join().expect("no panic").map_err(failed)?;
        rate
    })
}
