//! What leads to the other nodes: routes, permanent neighbors, FDB entries, as one object of a plan.
//!
//! Making it lists what is there, adds what is missing, replaces what differs and then removes what is stale. That order
//! (make before break) disturbs no node that stays. The network's objects are found exactly: its routes have our protocol
//! ([`PROTOCOL`]) and, as their metric, the network's number; its neighbors have our protocol and are on one of its
//! devices; the whole FDB of such a device is the network's, since the kernel keeps no protocol there.
//!
//! All changes are sent without waiting in between; the kernel takes a thousand nodes in some ten milliseconds.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::packet_route::route::{RouteHeader, RouteMessage, RouteProtocol};

use kernel::kernel::changed;
use kernel::message::Rtm;
use kernel::neighbor::hardware_address;
use kernel::route::{self, Options, Route};
use kernel::{At, Changes, Error, Kernel, Mac, Made, Object, Result, link};

use crate::PROTOCOL;
use crate::tag::NetworkTag;

/// Everything that leads to the other nodes of one network. Shared by its Pods.
#[derive(Clone, Debug)]
pub struct Peers {
    /// The network.
    pub network: NetworkTag,
    /// Names of the network's tunnel devices: neighbors and FDB entries are theirs.
    pub devices: Vec<String>,
    /// Routes over the underlay.
    pub direct: Vec<PeerRoute>,
    /// Peers behind the tunnel devices.
    pub tunnelled: Vec<Tunnelled>,
}

/// A peer behind one of the tunnel devices.
#[derive(Clone, Debug)]
pub struct Tunnelled {
    /// The device's name.
    pub device: String,
    /// The hardware address of the peer's VTEP.
    pub mac: Mac,
    /// The peer's address on the underlay.
    pub remote: IpAddr,
    /// Its VTEP addresses, one for each family: the next hops.
    pub vteps: Vec<IpAddr>,
    /// Its Pod CIDRs that no direct route leads to.
    pub pod_cidrs: Vec<IpNetwork>,
}

/// The same, once the devices exist and have indices.
#[derive(Debug)]
struct State {
    network: NetworkTag,
    devices: Vec<u32>,
    routes: Vec<PeerRoute>,
    neighbors: Vec<PeerNeighbor>,
    fdb: Vec<FdbEntry>,
}

/// A route to a Pod CIDR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerRoute {
    /// The Pod CIDR.
    pub dst: IpNetwork,
    /// The next hop.
    pub gateway: IpAddr,
    /// The link, by index.
    pub link: u32,
    /// The next hop is on the link whatever the link's addresses say.
    pub on_link: bool,
}

/// The hardware address of a peer's VTEP address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PeerNeighbor {
    /// The device, by index.
    pub link: u32,
    /// The VTEP address.
    pub ip: IpAddr,
    /// Its hardware address.
    pub mac: Mac,
}

/// Where on the underlay a VTEP's hardware address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FdbEntry {
    /// The device, by index.
    pub link: u32,
    /// The VTEP's hardware address.
    pub mac: Mac,
    /// Its node's address on the underlay.
    pub remote: IpAddr,
}

/// What to send: what is in the way, additions in the order in which they depend on one another, then removals in the
/// opposite one.
#[derive(Debug, Default)]
struct Difference {
    in_the_way: Vec<Change>,
    set: Vec<Change>,
    removed: Vec<Change>,
}

#[derive(Debug)]
struct Change {
    message: Rtm,
    words: String,
}

impl Peers {
    /// The first Pod CIDR of a family that is reached through a tunnel device.
    pub fn first_behind(&self, device: &str, ipv4: bool) -> Option<IpNetwork> {
        let behind = self.tunnelled.iter().filter(|peer| peer.device == device);
        behind.flat_map(|peer| &peer.pod_cidrs).copied().find(|cidr| cidr.is_ipv4() == ipv4)
    }
}

impl Object for Peers {
    /// What can be done is done; the first error is returned.
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        let difference = self.state(kernel)?.difference(kernel)?;
        let changes = Changes { set: difference.set.len(), removed: difference.removed.len() };
        send(kernel, difference.in_the_way, 0, "removing")?;
        let set = send(kernel, difference.set, NLM_F_CREATE | NLM_F_REPLACE, "adding");
        // What is stale goes even if something could not be added: it leads nowhere.
        let removed = send(kernel, difference.removed, 0, "removing");
        set.and(removed).map(|()| if changes == Changes::default() { Made::Already } else { Made::Changed(changes) })
    }

    /// Nothing missing, and nothing stale.
    fn check(&self, kernel: &Kernel) -> Result<()> {
        let difference = self.state(kernel)?.difference(kernel)?;
        if let Some(missing) = difference.set.first() {
            let more = difference.set.len() - 1;
            let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
            return Err(changed(format!("{} is missing or changed{more}", missing.words)));
        }
        match difference.removed.first() {
            Some(stale) => Err(changed(format!("{} is stale", stale.words))),
            None => Ok(()),
        }
    }

    fn pending(&self, kernel: &Kernel) -> Result<Vec<String>> {
        // Without its devices nothing of it can be there.
        let difference = match self.state(kernel) {
            Err(Error::Changed(missing)) => return Ok(vec![missing]),
            other => other?.difference(kernel)?,
        };
        let set = difference.set.iter().map(|change| format!("{} is missing or changed", change.words));
        Ok(set.chain(difference.removed.iter().map(|change| format!("{} is stale", change.words))).collect())
    }
}

impl Peers {
    /// The routes to Pod CIDRs; those through a device that does not exist are left out.
    pub(crate) fn routes(&self, kernel: &Kernel) -> Result<Vec<PeerRoute>> {
        let exists = |device: &&String| link::get(kernel, At::Host, device).is_ok_and(|link| link.is_some());
        let devices: Vec<String> = self.devices.iter().filter(exists).cloned().collect();
        let tunnelled = self.tunnelled.iter().filter(|peer| devices.contains(&peer.device)).cloned().collect();
        Peers { devices, tunnelled, ..self.clone() }.state(kernel).map(|state| state.routes)
    }

    /// The devices must exist.
    fn state(&self, kernel: &Kernel) -> Result<State> {
        let index = |device: &String| link::index(kernel, At::Host, device);
        let mut state = State {
            network: self.network,
            devices: self.devices.iter().map(index).collect::<Result<_>>()?,
            routes: self.direct.clone(),
            neighbors: Vec::new(),
            fdb: Vec::new(),
        };
        for peer in &self.tunnelled {
            let link = index(&peer.device)?;
            state.fdb.push(FdbEntry { link, mac: peer.mac, remote: peer.remote });
            for &dst in &peer.pod_cidrs {
                let vtep = peer.vteps.iter().find(|vtep| vtep.is_ipv4() == dst.is_ipv4());
                state.routes.extend(vtep.map(|&gateway| PeerRoute { dst, gateway, link, on_link: true }));
            }
            let is_used = |vtep: &&IpAddr| peer.pod_cidrs.iter().any(|cidr| cidr.is_ipv4() == vtep.is_ipv4());
            let used = peer.vteps.iter().filter(is_used);
            state.neighbors.extend(used.map(|&ip| PeerNeighbor { link, ip, mac: peer.mac }));
        }
        Ok(state)
    }
}

impl State {
    fn difference(&self, kernel: &Kernel) -> Result<Difference> {
        let routes = self.compare_routes(kernel)?;
        let mut difference = Difference { in_the_way: routes.in_the_way, ..Difference::default() };
        let neighbors = self.compare_neighbors(kernel)?;
        let fdb = self.compare_fdb(kernel)?;
        // A route is of use only with its neighbor, a neighbor only with its FDB entry.
        for part in [fdb.set, neighbors.set, routes.set] {
            difference.set.extend(part);
        }
        for part in [routes.removed, neighbors.removed, fdb.removed] {
            difference.removed.extend(part);
        }
        Ok(difference)
    }

    fn compare_routes(&self, kernel: &Kernel) -> Result<Difference> {
        let mut present: HashMap<IpNetwork, Vec<RouteMessage>> = HashMap::new();
        let mut others: HashMap<IpNetwork, RouteMessage> = HashMap::new();
        for ipv4 in [true, false] {
            let table = Some(u32::from(RouteHeader::RT_TABLE_MAIN));
            let routes = match route::dump(kernel, At::Host, ipv4, table, Some(PROTOCOL)) {
                Err(error) if error.is(Errno::ENOENT) || error.is(Errno::EOPNOTSUPP) => Vec::new(),
                other => other?,
            };
            for route in routes.into_iter().filter(|route| route.header.protocol == RouteProtocol::from(PROTOCOL)) {
                let Some(dst) = route::destination(&route) else { continue };
                if route::metric(&route) == self.network.number() {
                    present.entry(dst).or_default().push(route);
                } else {
                    others.insert(dst, route);
                }
            }
        }
        let mut difference = Difference::default();
        for wanted in &self.routes {
            let there = present.remove(&wanted.dst).unwrap_or_default();
            let is_wanted = |route: &RouteMessage| route::next_hop(route) == (Some(wanted.gateway), Some(wanted.link));
            if there.iter().any(is_wanted) {
                let others = there.into_iter().filter(|route| !is_wanted(route));
                difference.removed.extend(others.map(removed_route));
                continue;
            }
            // IPv6 takes no next hop that a route out of another link leads to: that one is not replaced, but goes first.
            let is_in_the_way = |route: &RouteMessage| {
                wanted.on_link && wanted.dst.is_ipv6() && route::next_hop(route).1 != Some(wanted.link)
            };
            if let Some(other) = others.get(&wanted.dst).filter(|other| is_in_the_way(other)) {
                return Err(refuse_anothers(wanted, other));
            }
            difference.in_the_way.extend(there.into_iter().filter(is_in_the_way).map(removed_route));
            difference.set.push(Change {
                message: Rtm::new_route(self.route(wanted).message(wanted.link)),
                words: format!("the route to Pod CIDR {} via {}", wanted.dst, wanted.gateway),
            });
        }
        difference.removed.extend(present.into_values().flatten().map(removed_route));
        Ok(difference)
    }

    fn route(&self, wanted: &PeerRoute) -> Route {
        let options = Options { priority: Some(self.network.number()), protocol: Some(PROTOCOL), ..Options::default() };
        Route {
            at: At::Host,
            link: String::new(),
            dst: wanted.dst,
            gateway: Some(wanted.gateway),
            on_link: wanted.on_link,
            options,
        }
    }

    fn compare_neighbors(&self, kernel: &Kernel) -> Result<Difference> {
        let mut present = HashSet::new();
        for (&device, family) in
            self.devices.iter().flat_map(|device| [(device, AddressFamily::Inet), (device, AddressFamily::Inet6)])
        {
            let mut request = NeighbourMessage::default();
            request.header.family = family;
            request.attributes.push(NeighbourAttribute::IfIndex(device));
            let entries = dump_neighbors(kernel, request, "neighbors")?;
            present.extend(entries.iter().filter(|entry| entry.header.ifindex == device).filter_map(read_neighbor));
        }
        let change = |neighbor: &PeerNeighbor, message| Change {
            message,
            words: format!("neighbor {} ({}) of the overlay", neighbor.ip, neighbor.mac),
        };
        let mut difference = Difference::default();
        for wanted in self.neighbors.iter().filter(|wanted| !present.contains(wanted)) {
            difference.set.push(change(wanted, Rtm::new_neighbor(neighbor_message(wanted))));
        }
        let kept: HashSet<(u32, IpAddr)> = self.neighbors.iter().map(|wanted| (wanted.link, wanted.ip)).collect();
        for stale in present.iter().filter(|entry| !kept.contains(&(entry.link, entry.ip))) {
            difference.removed.push(change(stale, Rtm::del_neighbor(neighbor_message(stale))));
        }
        Ok(difference)
    }

    fn compare_fdb(&self, kernel: &Kernel) -> Result<Difference> {
        let mut present = HashSet::new();
        for &device in &self.devices {
            let mut request = NeighbourMessage::default();
            request.header.family = AddressFamily::Bridge;
            request.header.ifindex = device;
            let entries = dump_neighbors(kernel, request, "FDB entries")?;
            present.extend(entries.iter().filter(|entry| entry.header.ifindex == device).filter_map(read_fdb));
        }
        let change = |entry: &FdbEntry, message| Change {
            message,
            words: format!("FDB entry {} dst {}", entry.mac, entry.remote),
        };
        let mut difference = Difference::default();
        for wanted in self.fdb.iter().filter(|wanted| !present.contains(wanted)) {
            difference.set.push(change(wanted, Rtm::new_neighbor(fdb_message(wanted))));
        }
        // A replaced entry is no stale one: its hardware address has one remote.
        let kept: HashSet<(u32, Mac)> = self.fdb.iter().map(|wanted| (wanted.link, wanted.mac)).collect();
        for stale in present.iter().filter(|entry| !kept.contains(&(entry.link, entry.mac))) {
            difference.removed.push(change(stale, Rtm::del_neighbor(fdb_message(stale))));
        }
        Ok(difference)
    }
}

/// The route in the way is another network's, so it stays.
fn refuse_anothers(wanted: &PeerRoute, other: &RouteMessage) -> Error {
    let metric = route::metric(other);
    Error::NotOurs(format!(
        "another network has a route to Pod CIDR {} by another way (metric {metric}): if that is the plugin before \
         vxlan-overlay in this chain, give it \"nodeRoutes\": false; if that network is gone, \
         `ip -6 route flush proto {PROTOCOL} metric {metric}` removes what it left",
        wanted.dst
    ))
}

fn removed_route(route: RouteMessage) -> Change {
    let dst = route::destination(&route).map(|dst| dst.to_string()).unwrap_or_default();
    let words = format!("the route to Pod CIDR {dst}");
    Change { message: Rtm::del_route(route::key(route)), words }
}

/// Sends changes with the same flags. Removing what is gone already is no error.
fn send(kernel: &Kernel, changes: Vec<Change>, flags: u16, verb: &str) -> Result<()> {
    let (messages, words): (Vec<_>, Vec<_>) =
        changes.into_iter().map(|change| ((change.message, flags), change.words)).unzip();
    let done = kernel.route(At::Host).change_all(messages, &|at| format!("{verb} {}", words[at]))?;
    let is_gone = |error: &Error| flags == 0 && (error.is(Errno::ESRCH) || error.is(Errno::ENOENT));
    done.into_iter().find(|done| done.as_ref().is_err_and(|error| !is_gone(error))).unwrap_or(Ok(()))
}

fn dump_neighbors(kernel: &Kernel, request: NeighbourMessage, what: &str) -> Result<Vec<NeighbourMessage>> {
    let doing = || format!("listing {what} on the node");
    kernel.route(At::Host).dump(Rtm::get_neighbor(request), &doing)
}

/// A permanent neighbor of our protocol.
pub(crate) fn read_neighbor(entry: &NeighbourMessage) -> Option<PeerNeighbor> {
    let ours = NeighbourAttribute::Protocol(RouteProtocol::from(PROTOCOL));
    if !entry.attributes.contains(&ours) || entry.header.state != NeighbourState::Permanent {
        return None;
    }
    Some(PeerNeighbor { link: entry.header.ifindex, ip: destination(entry)?, mac: hardware_address(entry)? })
}

pub(crate) fn read_fdb(entry: &NeighbourMessage) -> Option<FdbEntry> {
    Some(FdbEntry { link: entry.header.ifindex, mac: hardware_address(entry)?, remote: destination(entry)? })
}

/// In the FDB only the length of an address tells its family.
fn destination(entry: &NeighbourMessage) -> Option<IpAddr> {
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => match bytes.len() {
            4 => <[u8; 4]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            16 => <[u8; 16]>::try_from(bytes.as_slice()).ok().map(IpAddr::from),
            _ => None,
        },
        _ => None,
    })
}

fn neighbor_message(neighbor: &PeerNeighbor) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = if neighbor.ip.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    message.header.ifindex = neighbor.link;
    message.header.state = NeighbourState::Permanent;
    message.attributes.push(NeighbourAttribute::Destination(neighbor.ip.into()));
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(neighbor.mac.to_vec()));
    message.attributes.push(NeighbourAttribute::Protocol(RouteProtocol::from(PROTOCOL)));
    message
}

fn fdb_message(entry: &FdbEntry) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = entry.link;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Own;
    message.attributes.push(NeighbourAttribute::LinkLayerAddress(entry.mac.to_vec()));
    message.attributes.push(NeighbourAttribute::Destination(entry.remote.into()));
    message
}
