//! kube-proxy's rules for a Service, put on a node by hand: what a Pod's wiring has to get along with.
//!
//! They are those that `iptables -t nat -L` prints on a node of a cluster, chain for chain and in that order:
//!
//! ```text
//! KUBE-SERVICES ── to the ClusterIP ──> KUBE-SVC-… ── half of the time ──> KUBE-SEP-…  DNAT to the first back end
//!     │                                     └──────── else ──────────────> KUBE-SEP-…  DNAT to the second
//!     └─ to an address of this node ──> KUBE-NODEPORTS ── to the NodePort ──> KUBE-MARK-MASQ, KUBE-SVC-…
//! ```
//!
//! KUBE-MARK-MASQ marks what KUBE-POSTROUTING masquerades: what comes from outside of the cluster, by a NodePort, or from a
//! back end to itself. Everything else reaches the back end with the sender's own address. KUBE-FORWARD drops what
//! conntrack can't make sense of, such as an answer that came back another way.

use std::fmt::Write as _;
use std::io::{Read, Write as _};
use std::net::{IpAddr, Shutdown, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::lab::Netns;

/// A Service of TCP.
#[derive(Clone, Debug)]
pub struct Service {
    /// Letters that end the names of its chains; each Service has its own.
    pub name: &'static str,
    /// Its ClusterIP and port.
    pub cluster_ip: SocketAddr,
    /// Its port on every node's addresses.
    pub node_port: u16,
    /// Pods that serve it, by address and port.
    pub back_ends: Vec<SocketAddr>,
}

/// Puts the rules of these Services on a node, all of one family, in place of any that are there. `cluster_cidr` holds all Pods.
#[track_caller]
pub fn program(node: &Netns, cluster_cidr: &str, services: &[Service]) {
    let ipv4 = !cluster_cidr.contains(':');
    let restore = if ipv4 { "iptables-restore" } else { "ip6tables-restore" };
    node.sh(&format!("{restore} <<'RULES'\n{}RULES", rules(cluster_cidr, services)));
}

/// The rules as `iptables-restore` takes them.
fn rules(cluster_cidr: &str, services: &[Service]) -> String {
    let mut chains = String::new();
    let mut rules = String::new();
    for service in services {
        add_service(&mut chains, &mut rules, cluster_cidr, service);
    }
    format!(
        "*nat
:KUBE-SERVICES - [0:0]
:KUBE-NODEPORTS - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
{chains}\
-A PREROUTING -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A OUTPUT -m comment --comment \"kubernetes service portals\" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment \"kubernetes postrouting rules\" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
{rules}\
-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS
COMMIT
*filter
:KUBE-FORWARD - [0:0]
-A FORWARD -m comment --comment \"kubernetes forwarding rules\" -j KUBE-FORWARD
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
"
    )
}

fn add_service(chains: &mut String, rules: &mut String, cluster_cidr: &str, service: &Service) {
    let Service { name, cluster_ip, node_port, back_ends } = service;
    let to_cluster_ip = format!("-d {} -p tcp -m tcp --dport {}", cluster_ip.ip(), cluster_ip.port());
    let mut add = |rule: String| writeln!(rules, "-A {rule}").expect("a String takes everything");
    add(format!("KUBE-SERVICES ! -s {cluster_cidr} {to_cluster_ip} -j KUBE-MARK-MASQ"));
    add(format!("KUBE-SERVICES {to_cluster_ip} -j KUBE-SVC-{name}"));
    add(format!("KUBE-NODEPORTS -p tcp -m tcp --dport {node_port} -j KUBE-MARK-MASQ"));
    add(format!("KUBE-NODEPORTS -p tcp -m tcp --dport {node_port} -j KUBE-SVC-{name}"));
    let mut names = vec![format!("KUBE-SVC-{name}")];
    for (number, back_end) in back_ends.iter().enumerate() {
        let left = back_ends.len() - number;
        let chance = format!("-m statistic --mode random --probability {:.11} ", 1.0 / left as f64);
        let end_point = format!("KUBE-SEP-{name}{number}");
        add(format!("KUBE-SVC-{name} {}-j {end_point}", if left > 1 { &chance } else { "" }));
        add(format!("{end_point} -s {} -j KUBE-MARK-MASQ", back_end.ip()));
        add(format!("{end_point} -p tcp -m tcp -j DNAT --to-destination {back_end}"));
        names.push(end_point);
    }
    for name in names {
        writeln!(chains, ":{name} - [0:0]").expect("a String takes everything");
    }
}

/// How long an end waits for the other before it gives up, so that a test fails and does not hang.
const PATIENCE: Duration = Duration::from_secs(10);

/// A back end's program: it takes all that a client sends, then says who it is, whom it sees, and how much came.
#[derive(Debug)]
pub struct BackEnd<'a> {
    netns: &'a Netns,
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    serving: Option<JoinHandle<()>>,
}

/// What a back end said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The back end's own address.
    pub from: IpAddr,
    /// The client's address, as the back end sees it.
    pub seen: IpAddr,
    /// Bytes that came.
    pub bytes: usize,
}

impl<'a> BackEnd<'a> {
    /// Serves on `address` of that namespace until it is dropped.
    #[track_caller]
    pub fn new(netns: &'a Netns, address: SocketAddr) -> Self {
        let listener = netns.inside(|| TcpListener::bind(address));
        let listener = listener.unwrap_or_else(|error| panic!("listen on {address}: {error}"));
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let serving = std::thread::spawn(move || serve(&listener, &stop));
        BackEnd { netns, address, stopping, serving: Some(serving) }
    }
}

impl Drop for BackEnd<'_> {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
        // It waits for somebody to come.
        if self.netns.connect(self.address).is_ok() {
            let _ = self.serving.take().map(JoinHandle::join);
        }
    }
}

fn serve(listener: &TcpListener, stopping: &AtomicBool) {
    for client in listener.incoming() {
        if stopping.load(Ordering::SeqCst) {
            return;
        }
        let Ok(mut client) = client else { continue };
        let mut came = Vec::new();
        let _ = client.set_read_timeout(Some(PATIENCE));
        if client.read_to_end(&mut came).is_err() {
            continue;
        }
        if let (Ok(own), Ok(peer)) = (client.local_addr(), client.peer_addr()) {
            let _ = write!(client, "{} {} {}", own.ip(), peer.ip(), came.len());
        }
    }
}

/// Sends `bytes` from here to a Service and reads what a back end answers; in words what went wrong.
pub fn ask(netns: &Netns, service: SocketAddr, bytes: usize) -> Result<Answer, String> {
    let mut answer = String::new();
    let mut asked = || {
        let mut client = netns.connect(service)?;
        client.set_read_timeout(Some(PATIENCE))?;
        client.write_all(&vec![7; bytes])?;
        client.shutdown(Shutdown::Write)?;
        client.read_to_string(&mut answer)
    };
    asked().map_err(|error| format!("{} asks {service}: {error}", netns.name()))?;
    let mut words = answer.split(' ');
    let mut word = || words.next().ok_or_else(|| format!("{service} answered {answer:?}"));
    let (from, seen, bytes) = (word()?, word()?, word()?);
    let address = |text: &str| text.parse().map_err(|error| format!("{text:?}: {error}"));
    let bytes = bytes.parse().map_err(|error| format!("{bytes:?}: {error}"))?;
    Ok(Answer { from: address(from)?, seen: address(seen)?, bytes })
}
