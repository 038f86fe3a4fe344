//! What should exist towards the other nodes, from the map, the configuration, and the node's links and addresses.

use std::collections::HashMap;
use std::net::IpAddr;

use dataplane::link::Link;
use dataplane::owner::NetworkTag;
use dataplane::peers::{Changes, FdbEntry, PeerNeighbor, PeerRoute, Peers};
use dataplane::vxlan::{self, Settings, Vxlan};
use dataplane::{At, Kernel, Mac, Object, address, link};
use libcni::Error;
use libcni::ipnetwork::IpNetwork;
use nodes::{Cluster, Family, Node};

use super::{Overlay, Reach};

/// What VXLAN puts before a Pod's packet: Ethernet, VXLAN, UDP, and IPv4 or IPv6 (RFC 7348).
const OVERHEAD_4: u32 = 50;
const OVERHEAD_6: u32 = 70;

/// The node's links and addresses.
#[derive(Debug)]
pub struct Facts {
    links: HashMap<u32, Link>,
    addresses: Vec<(u32, IpNetwork)>,
}

impl Facts {
    pub fn gather(kernel: &Kernel) -> dataplane::Result<Self> {
        let links = link::all(kernel, At::Host)?.into_iter().map(|link| (link.index, link)).collect();
        Ok(Facts { links, addresses: address::all(kernel, At::Host)? })
    }

    /// The machine's addresses.
    pub fn machine(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(|(_, address)| address.ip()).filter(|ip| !ip.is_loopback()).collect()
    }

    /// The link on which `ip` can be reached without a router.
    fn on_link(&self, ip: IpAddr) -> Option<u32> {
        let subnets = self.addresses.iter().filter(|(_, subnet)| subnet.contains(ip));
        subnets.max_by_key(|(_, subnet)| subnet.prefix()).map(|(link, _)| *link)
    }

    /// The link that has the address `ip`.
    fn with_address(&self, ip: IpAddr) -> Option<&Link> {
        let (link, _) = self.addresses.iter().find(|(_, address)| address.ip() == ip)?;
        self.links.get(link)
    }

    fn named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    fn subnets(&self) -> String {
        let subnets = self.addresses.iter().filter(|(_, address)| !address.ip().is_loopback());
        subnets.map(|(_, address)| address.to_string()).collect::<Vec<_>>().join(", ")
    }
}

/// What should exist on this node.
#[derive(Debug)]
pub struct Wanted {
    /// The map.
    pub cluster: Cluster,
    /// What is not masqueraded towards.
    pub inside: Vec<IpNetwork>,
    /// The overlay's devices, one for each family of the underlay in use.
    devices: Vec<Vxlan>,
    /// Routes past the overlay.
    direct: Vec<PeerRoute>,
    /// Peers behind the overlay.
    tunnelled: Vec<Tunnelled>,
    is_overlay: bool,
    tag: NetworkTag,
}

/// A peer behind one of the overlay's devices.
#[derive(Debug)]
struct Tunnelled {
    device: String,
    mac: Mac,
    remote: IpAddr,
    /// Its VTEP addresses, which are next hops.
    vteps: Vec<IpAddr>,
    /// Its Pod CIDRs that no direct route leads to.
    pod_cidrs: Vec<IpNetwork>,
}

impl Wanted {
    /// Code 7 if the map and this node don't go together; nothing is touched.
    pub fn new(cluster: Cluster, reach: &Reach, facts: &Facts, tag: NetworkTag) -> Result<Self, Error> {
        let inside = cluster.pod_cidrs().collect();
        let is_overlay = matches!(reach, Reach::Overlay(_));
        let mut wanted =
            Wanted { inside, cluster, devices: Vec::new(), direct: Vec::new(), tunnelled: Vec::new(), is_overlay, tag };
        match reach {
            Reach::NodeRoutes => wanted.add_node_routes(facts)?,
            Reach::Routers => {}
            Reach::Overlay(overlay) => wanted.add_overlay(overlay, facts)?,
        }
        if !is_overlay {
            wanted.inside.extend(wanted.cluster.node_addresses().map(IpNetwork::from));
        }
        Ok(wanted)
    }

    fn add_node_routes(&mut self, facts: &Facts) -> Result<(), Error> {
        let own = &self.cluster.own;
        for peer in &self.cluster.peers {
            for &dst in &peer.pod_cidrs {
                let gateway = self.cluster.next_hop(peer, dst)?;
                let link = facts.on_link(gateway).ok_or_else(|| not_on_link(own, peer, gateway, facts))?;
                self.direct.push(PeerRoute { dst, gateway, link, on_link: false });
            }
        }
        Ok(())
    }

    fn add_overlay(&mut self, overlay: &Overlay, facts: &Facts) -> Result<(), Error> {
        let vteps = vtep_addresses(&self.cluster.own)?;
        for peer in self.cluster.peers.clone() {
            let family = self.cluster.underlay(&peer)?;
            let pod_cidrs = match overlay.direct_routing {
                true => self.add_direct_routes(&peer, facts),
                false => peer.pod_cidrs.clone(),
            };
            if pod_cidrs.is_empty() {
                continue;
            }
            let device = self.device(family, overlay, facts, &vteps)?;
            let remote = peer.address(family.is_ipv4()).ok_or_else(|| lacks(&peer, family))?;
            let mac = vtep_mac(&peer, overlay.vni);
            self.tunnelled.push(Tunnelled { device, mac, remote, vteps: vtep_addresses(&peer)?, pod_cidrs });
        }
        if self.devices.is_empty() {
            // Nobody to talk to yet: ready for who comes.
            let preferred = self.cluster.underlay_family;
            let has = |family: Family| self.cluster.own.address(family.is_ipv4()).is_some();
            let family = if has(preferred) { preferred } else { preferred.other() };
            self.device(family, overlay, facts, &vteps)?;
        }
        Ok(())
    }

    /// Routes to those of a peer's Pod CIDRs whose next hop is on a link of ours; the others are returned.
    fn add_direct_routes(&mut self, peer: &Node, facts: &Facts) -> Vec<IpNetwork> {
        let mut rest = Vec::new();
        for &dst in &peer.pod_cidrs {
            let next_hop = self.cluster.next_hop(peer, dst).ok();
            match next_hop.and_then(|gateway| Some((gateway, facts.on_link(gateway)?))) {
                Some((gateway, link)) => {
                    self.direct.push(PeerRoute { dst, gateway, link, on_link: false });
                    // As on node routes, a Pod reaches that node with its own address.
                    self.inside.push(gateway.into());
                }
                None => rest.push(dst),
            }
        }
        rest
    }

    /// The name of the device for one family of the underlay, which is added if it is not there.
    fn device(&mut self, family: Family, overlay: &Overlay, facts: &Facts, vteps: &[IpAddr]) -> Result<String, Error> {
        let name = &overlay.devices[usize::from(!family.is_ipv4())];
        if self.devices.iter().any(|device| device.name == *name) {
            return Ok(name.clone());
        }
        let own = &self.cluster.own;
        let local = own.address(family.is_ipv4()).ok_or_else(|| lacks(own, family))?;
        let underlay = underlay_link(overlay, own, local, facts)?;
        let overhead = if family.is_ipv4() { OVERHEAD_4 } else { OVERHEAD_6 };
        let fits = underlay.mtu.saturating_sub(overhead);
        let needs_ipv6 = self.cluster.pod_cidrs().any(|cidr| cidr.is_ipv6());
        self.devices.push(Vxlan {
            name: name.clone(),
            network: self.tag,
            vni: overlay.vni,
            port: overlay.port,
            local,
            underlay: underlay.index,
            mtu: overlay_mtu(overlay.mtu, fits, &underlay.name, needs_ipv6)?,
            mac: vtep_mac(own, overlay.vni),
            addresses: vteps.to_vec(),
            renumber: false,
        });
        Ok(name.clone())
    }

    /// May VNI and port of a device that is there be changed?
    pub fn allow_renumbering(&mut self, renumber: bool) {
        self.devices.iter_mut().for_each(|device| device.renumber = renumber);
    }

    /// The MTU that fits the overlay.
    pub fn mtu(&self) -> Option<u32> {
        self.devices.iter().map(|device| device.mtu).min()
    }

    /// Makes the kernel's state this one.
    pub fn apply(&self, kernel: &Kernel) -> dataplane::Result<Changes> {
        if self.is_overlay {
            self.move_devices(kernel)?;
        }
        for device in &self.devices {
            device.ensure(kernel)?;
        }
        let changes = self.peers(kernel)?.reconcile(kernel)?;
        if self.is_overlay {
            self.remove_idle_devices(kernel)?;
        }
        Ok(changes)
    }

    /// A device of ours that has the wanted one's VNI and port under another name would be in its way.
    fn move_devices(&self, kernel: &Kernel) -> dataplane::Result<()> {
        for there in self.misnamed_devices(kernel)? {
            log::warn!("device {:?} has another name now: making it anew", there.name);
            link::remove(kernel, At::Host, &there.name)?;
        }
        Ok(())
    }

    /// Devices of ours that are called otherwise than the wanted one of their family; an error if that has another VNI or
    /// port, which may not be changed just so.
    fn misnamed_devices(&self, kernel: &Kernel) -> dataplane::Result<Vec<Link>> {
        let mut misnamed = Vec::new();
        for there in vxlan::of_network(kernel, self.tag)? {
            let Some(Settings { vni, port, local: Some(local), .. }) = vxlan::settings(&there) else { continue };
            let same_family = |device: &&Vxlan| device.local.is_ipv4() == local.is_ipv4();
            let Some(device) = self.devices.iter().find(same_family).filter(|device| device.name != there.name) else {
                continue;
            };
            if (vni, port) != (device.vni, device.port) && !device.renumber {
                return Err(dataplane::Error::Differs(format!(
                    "this network has device {:?} with VNI {vni} and port {port}, not {} and {} as configured: other \
                     nodes that still have the old ones would lose this node. To change all of them, run vxlan-overlay \
                     --sync with the new configuration on each node",
                    there.name, device.vni, device.port
                )));
            }
            misnamed.push(there);
        }
        Ok(misnamed)
    }

    /// A device for a family of the underlay that no peer has any more.
    fn remove_idle_devices(&self, kernel: &Kernel) -> dataplane::Result<()> {
        for there in vxlan::of_network(kernel, self.tag)? {
            if !self.devices.iter().any(|device| device.name == there.name) {
                link::remove(kernel, At::Host, &there.name)?;
            }
        }
        Ok(())
    }

    /// Is everything there, and nothing too much?
    pub fn check(&self, kernel: &Kernel) -> dataplane::Result<()> {
        self.devices.iter().try_for_each(|device| device.check(kernel))?;
        self.peers(kernel)?.check(kernel)
    }

    /// Could it be made? Nothing is touched.
    pub fn possible(&self, kernel: &Kernel) -> dataplane::Result<()> {
        if self.is_overlay {
            self.misnamed_devices(kernel)?;
        }
        self.devices.iter().try_for_each(|device| device.possible(kernel))
    }

    /// Links and families on which the loss of routes would be noticed nowhere else.
    pub fn witness_links(&self, kernel: &Kernel) -> dataplane::Result<Vec<(u32, bool)>> {
        let mut links: Vec<(u32, bool)> = self.direct.iter().map(|route| (route.link, route.dst.is_ipv4())).collect();
        for device in &self.devices {
            let index = link::index(kernel, At::Host, &device.name)?;
            links.push((index, true));
            if device.addresses.iter().any(IpAddr::is_ipv6) {
                links.push((index, false));
            }
        }
        if links.is_empty() {
            links.push((link::index(kernel, At::Host, "lo")?, true));
        }
        links.sort_unstable();
        links.dedup();
        Ok(links)
    }

    /// With the devices there: what leads to the peers.
    fn peers(&self, kernel: &Kernel) -> dataplane::Result<Peers> {
        let mut peers = Peers {
            network: self.tag,
            devices: Vec::new(),
            routes: self.direct.clone(),
            neighbors: Vec::new(),
            fdb: Vec::new(),
        };
        for device in &self.devices {
            peers.devices.push(link::index(kernel, At::Host, &device.name)?);
        }
        for peer in &self.tunnelled {
            let link = link::index(kernel, At::Host, &peer.device)?;
            peers.fdb.push(FdbEntry { link, mac: peer.mac, remote: peer.remote });
            for &dst in &peer.pod_cidrs {
                let vtep = peer.vteps.iter().find(|vtep| vtep.is_ipv4() == dst.is_ipv4());
                peers.routes.extend(vtep.map(|&gateway| PeerRoute { dst, gateway, link, on_link: true }));
            }
            let is_used = |vtep: &&IpAddr| peer.pod_cidrs.iter().any(|cidr| cidr.is_ipv4() == vtep.is_ipv4());
            let used = peer.vteps.iter().filter(is_used);
            peers.neighbors.extend(used.map(|&ip| PeerNeighbor { link, ip, mac: peer.mac }));
        }
        Ok(peers)
    }
}

/// A VTEP's hardware address follows from its node's name and the VNI: every node knows it without being told, and a node
/// that reboots or is renumbered keeps it.
fn vtep_mac(node: &Node, vni: u32) -> Mac {
    Mac::of_words(&["podwire VTEP", &node.name, &vni.to_string()])
}

/// A node's VTEP addresses: the first address of its first Pod CIDR of each family, which no Pod ever gets.
fn vtep_addresses(node: &Node) -> Result<Vec<IpAddr>, Error> {
    let mut addresses: Vec<IpAddr> = Vec::new();
    for cidr in &node.pod_cidrs {
        if addresses.iter().any(|address| address.is_ipv4() == cidr.is_ipv4()) {
            continue;
        }
        if cidr.prefix() > if cidr.is_ipv4() { 30 } else { 126 } {
            let why = format!("too small for node {:?}: its VTEP takes the first address", node.name);
            return Err(Error::config("nodes", cidr, why));
        }
        addresses.push(cidr.network());
    }
    Ok(addresses)
}

/// The device that carries the tunnels.
fn underlay_link<'a>(overlay: &Overlay, own: &Node, local: IpAddr, facts: &'a Facts) -> Result<&'a Link, Error> {
    let with_address = facts.with_address(local).ok_or_else(|| {
        let why = format!(
            "no interface of this machine has that address of node {:?}; there are: {}",
            own.name,
            facts.subnets()
        );
        Error::config("nodes", local, why)
    });
    match &overlay.underlay_device {
        None => with_address,
        Some(name) => {
            let named = facts.named(name);
            let named =
                named.ok_or_else(|| Error::config("underlayDevice", format!("{name:?}"), "no such interface"))?;
            with_address.map(|_| named)
        }
    }
}

/// IPv6 needs links of 1280 bytes (RFC 8200), IPv4 of 68.
fn overlay_mtu(configured: Option<u32>, fits: u32, underlay: &str, needs_ipv6: bool) -> Result<u32, Error> {
    let mtu = configured.unwrap_or(fits);
    if mtu > fits {
        let why = format!("larger than {fits}, which is what fits the underlay's device {underlay:?}");
        return Err(Error::config("mtu", mtu, why));
    }
    let least = if needs_ipv6 { 1280 } else { 68 };
    if mtu < least {
        let why = format!("less than the {least} bytes that Pods need; underlay device {underlay:?} leaves {fits}");
        return Err(Error::config("mtu", mtu, why));
    }
    Ok(mtu)
}

fn lacks(node: &Node, family: Family) -> Error {
    Error::config("nodes", format!("{:?}", node.name), format!("the node has no {} address", family.words()))
}

fn not_on_link(own: &Node, peer: &Node, gateway: IpAddr, facts: &Facts) -> Error {
    let why = format!(
        "address of node {:?}, on no link of node {:?} (which has {}), so no route can lead there. Use vxlan-overlay, or let \
         the underlay's routers know the Pod CIDRs and set \"nodeRoutes\": false",
        peer.name,
        own.name,
        facts.subnets()
    );
    Error::config("nodes", gateway, why)
}
