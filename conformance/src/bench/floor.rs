//! The floor: what an ADD and a DEL cost if nothing but the kernel cost anything.
//!
//! The messages are those that make a wire: a veth pair (made, named, moved, a port of the bridge, up), its label, and
//! in the Pod an interface that is up, its addresses and its default routes. They are sent by this process, which is
//! running already, over blocking sockets, each answer waited for; opening the Pod's namespace and a socket in it is
//! counted, for whoever wires a Pod must do that. Two executions of an empty program follow: a plugin and its delegate.

use std::fs::File;
use std::net::IpAddr;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_sys::{Socket, SocketAddr};
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage};
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkMessage};
use rtnetlink::packet_route::route::{RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::measure::{Call, Sample, inside};
use super::series::{Round, Verb, at_a_time};
use crate::lab::Netns;

/// A node on which the floor is measured: a namespace with a bridge.
#[derive(Debug)]
pub struct Floor {
    netns: Netns,
    empty: PathBuf,
}

const NETLINK_ROUTE: isize = 0;

impl Floor {
    /// A node with a bridge. `empty` is the empty program.
    pub fn new(empty: PathBuf) -> Result<Self, String> {
        let floor = Floor { netns: Netns::new("floor"), empty };
        inside(&floor.netns.path(), || {
            let message = LinkBridge::new("bench0").up().build();
            open()?.change(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
        })??;
        Ok(floor)
    }

    /// Wires all of `pods`, with an address of each of `families` families, and takes the wires away again; so many
    /// Pods at a time.
    pub fn round(&self, pods: &[Netns], families: usize, parallel: usize) -> Result<[(Verb, Round); 2], String> {
        let bridge = inside(&self.netns.path(), || open()?.index("bench0"))??;
        let add = |number: usize| {
            let here = File::open("/proc/thread-self/ns/net").map_err(|error| error.to_string())?;
            let socket = open()?;
            self.timed(2, || wire(&socket, bridge, number, &pods[number].path(), &here, families))
        };
        let del = |number: usize| {
            let socket = open()?;
            let message = LinkUnspec::new_with_name(&host_end(number)).build();
            self.timed(2, || socket.change(RouteNetlinkMessage::DelLink(message), 0))
        };
        Ok([
            (Verb::Add, Round::from(at_a_time(&self.netns, pods.len(), parallel, add)?)),
            (Verb::Del, Round::from(at_a_time(&self.netns, pods.len(), parallel, del)?)),
        ])
    }

    /// Executes the empty program `count` times, one after another.
    pub fn executions(&self, count: usize) -> Result<Round, String> {
        Ok(Round::from(at_a_time(&self.netns, count, 1, |_| self.timed(1, || Ok(())))?))
    }

    /// What `messages` and `executions` of the empty program take. The CPU time of the messages is not known.
    fn timed(&self, executions: usize, messages: impl FnOnce() -> Result<(), String>) -> Result<Sample, String> {
        let empty =
            Call { executable: self.empty.clone(), arguments: Vec::new(), variables: Vec::new(), input: Vec::new() };
        let before = Instant::now();
        messages()?;
        for _ in 0..executions {
            empty.execute()?;
        }
        Ok(Sample { wall: before.elapsed(), cpu: Duration::ZERO })
    }
}

fn host_end(number: usize) -> String {
    format!("vethfloor{number}")
}

fn wire(host: &Blocking, bridge: u32, number: usize, netns: &Path, here: &File, families: usize) -> Result<(), String> {
    let said = |error: &dyn std::fmt::Display| format!("{}: {error}", netns.display());
    let file = File::open(netns).map_err(|error| said(&error))?;
    setns(&file, CloneFlags::CLONE_NEWNET).map_err(|error| said(&error))?;
    let pod = open();
    setns(here, CloneFlags::CLONE_NEWNET).map_err(|error| said(&error))?;
    let pod = pod?;

    let name = host_end(number);
    host.change(RouteNetlinkMessage::NewLink(pair(&name, bridge, &file)), NLM_F_CREATE | NLM_F_EXCL)?;
    let label = LinkUnspec::new_with_name(&name).alias(format!("podwire's floor, Pod {number}")).build();
    host.change(RouteNetlinkMessage::NewLink(label), 0)?;

    let index = pod.index("eth0")?;
    let [high, low] = (number as u16 + 2).to_be_bytes();
    let v4 = (IpAddr::from([10, 88, high, low]), 16, IpAddr::from([10, 88, 0, 1]));
    let [v6, v6_gateway] = [number as u16 + 2, 1].map(|last| IpAddr::from([0xfd88, 0, 0, 0, 0, 0, 0, last]));
    let families = &[v4, (v6, 64, v6_gateway)][..families];
    for (ip, prefix, _) in families {
        pod.change(RouteNetlinkMessage::NewAddress(address(index, *ip, *prefix)), NLM_F_CREATE | NLM_F_EXCL)?;
    }
    pod.change(RouteNetlinkMessage::NewLink(LinkUnspec::new_with_index(index).up().build()), 0)?;
    for (_, _, gateway) in families {
        pod.change(RouteNetlinkMessage::NewRoute(default_route(*gateway)), NLM_F_CREATE | NLM_F_EXCL)?;
    }
    Ok(())
}

fn pair(name: &str, bridge: u32, pod: &File) -> LinkMessage {
    let peer = LinkMessageBuilder::<LinkUnspec>::default().name("eth0").setns_by_fd(pod.as_raw_fd()).build();
    let data = InfoData::Veth(InfoVeth::Peer(peer));
    LinkVeth::new(name, "eth0").controller(bridge).up().set_info_data(data).build()
}

fn family(ip: IpAddr) -> AddressFamily {
    if ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn address(index: u32, ip: IpAddr, prefix: u8) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(ip);
    message.header.index = index;
    message.header.prefix_len = prefix;
    // IFA_F_NODAD of include/uapi/linux/if_addr.h.
    message.header.flags = rtnetlink::packet_route::address::AddressHeaderFlags::Nodad;
    message.attributes = vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)];
    message
}

fn default_route(gateway: IpAddr) -> RouteMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family(gateway);
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.scope = RouteScope::Universe;
    message.header.kind = RouteType::Unicast;
    message.attributes.push(RouteAttribute::Gateway(gateway.into()));
    message
}

/// A netlink socket that waits for each answer.
struct Blocking(Socket);

fn open() -> Result<Blocking, String> {
    let socket = Socket::new(NETLINK_ROUTE).map_err(|error| format!("a netlink socket: {error}"))?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(|error| format!("a netlink socket: {error}"))?;
    Ok(Blocking(socket))
}

impl Blocking {
    fn change(&self, message: RouteNetlinkMessage, flags: u16) -> Result<(), String> {
        self.ask(message, NLM_F_ACK | flags).map(drop)
    }

    fn index(&self, name: &str) -> Result<u32, String> {
        match self.ask(RouteNetlinkMessage::GetLink(LinkUnspec::new_with_name(name).build()), 0)? {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(link.header.index),
            other => Err(format!("looking for {name}: {other:?}")),
        }
    }

    fn ask(&self, message: RouteNetlinkMessage, flags: u16) -> Result<NetlinkPayload<RouteNetlinkMessage>, String> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.0.send(&bytes, 0).map_err(|error| format!("the floor's netlink: {error}"))?;
        let (answer, _) = self.0.recv_from_full().map_err(|error| format!("the floor's netlink: {error}"))?;
        let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(&answer)
            .map_err(|error| format!("the floor's netlink: {error}"))?;
        match answer.payload {
            NetlinkPayload::Error(error) if error.code.is_some() => {
                Err(format!("the floor's message {:?}: {}", request.payload, error.to_io()))
            }
            payload => Ok(payload),
        }
    }
}
