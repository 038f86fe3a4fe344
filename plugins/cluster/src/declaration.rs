//! What should exist on this node, from the map, the reach and the node's links and addresses: a plan.
//!
//! Nothing here asks the kernel for anything; [`Facts`] were gathered before.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::link::Link;
use kernel::sysctl::Forwarding;
use kernel::vxlan::Vxlan;
use kernel::{Mac, Plan};
use nodes::{Family, Node, View};

use crate::devices::{IdleDevices, MisnamedDevices, mark};
use crate::error::{Error, Result};
use crate::facts::Facts;
use crate::inside::Inside;
use crate::peers::{PeerRoute, Peers, Tunnelled};
use crate::tag::NetworkTag;
use crate::ways::Ways;
use crate::witness::{Exit, NoWitness, Way, Witness, Witnesses};
use crate::{Overlay, Reach};

/// The headers that VXLAN puts before a Pod's packet, in bytes: Ethernet, VXLAN, UDP, and IPv4 or IPv6 (RFC 7348).
const OVERHEAD_4: u32 = 50;
const OVERHEAD_6: u32 = 70;

/// How VNI and port of an overlay are changed.
const RENUMBERING: &str = "To change all of them, run vxlan-overlay --sync with the new configuration on each node";

/// What should exist on this node for one network.
#[derive(Debug)]
pub struct Declaration {
    /// The map, as this node sees it.
    pub view: View,
    /// What is not masqueraded towards.
    pub inside: Vec<IpNetwork>,
    /// The overlay's devices, one for each family of the underlay in use.
    devices: Vec<Vxlan>,
    peers: Peers,
    is_overlay: bool,
    needs_forwarding: bool,
}

impl Declaration {
    /// [`Error::Config`] if the map does not fit this node.
    pub fn new(view: View, reach: &Reach, facts: &Facts, tag: NetworkTag) -> Result<Self> {
        let peers = Peers { network: tag, devices: Vec::new(), direct: Vec::new(), tunnelled: Vec::new() };
        let mut declaration = Declaration {
            inside: view.pod_cidrs().collect(),
            view,
            devices: Vec::new(),
            peers,
            is_overlay: matches!(reach, Reach::Overlay(_)),
            needs_forwarding: !matches!(reach, Reach::Routers),
        };
        match reach {
            Reach::NodeRoutes => declaration.add_node_routes(facts)?,
            Reach::Routers => {}
            Reach::Overlay(overlay) => declaration.add_overlay(overlay, facts)?,
        }
        if !declaration.is_overlay {
            declaration.inside.extend(declaration.view.node_addresses().map(IpNetwork::from));
        }
        Ok(declaration)
    }

    /// The plan. While it is being made there is no witness. `masquerade` adds what is inside; `renumber` lets VNI and
    /// port of an existing device change.
    pub fn plan(&self, witness: Witness, masquerade: bool, renumber: bool) -> Plan {
        let mut plan = Plan::default();
        plan.shared(NoWitness(witness));
        if self.needs_forwarding {
            let has = |ipv4: bool| self.view.own.pod_cidrs.iter().any(|cidr| cidr.is_ipv4() == ipv4);
            plan.shared(Forwarding { ipv4: has(true), ipv6: has(false), advice: "" }).unchecked();
        }
        if self.is_overlay {
            let wanted = self.devices.iter().map(|device| Vxlan { renumber, ..device.clone() }).collect();
            plan.shared(MisnamedDevices { network: self.peers.network, wanted });
        }
        for device in &self.devices {
            plan.shared(Vxlan { renumber, ..device.clone() });
        }
        plan.shared(self.peers.clone());
        if self.is_overlay {
            let names = self.devices.iter().map(|device| device.name.clone()).collect();
            plan.shared(IdleDevices { network: self.peers.network, wanted: names });
        }
        if masquerade {
            // The check of a Pod's masquerade looks at this too.
            plan.shared(self.all_inside()).unchecked();
        }
        plan.shared(self.witnesses(witness));
        plan
    }

    /// What decides beside the plan whether the other nodes are reached.
    pub fn into_ways(self) -> Ways {
        let by_routers = match self.needs_forwarding {
            true => Vec::new(),
            false => self.view.peers.iter().flat_map(|peer| peer.pod_cidrs.clone()).collect(),
        };
        let mut underlay: Vec<u32> = self.peers.direct.iter().map(|route| route.link).collect();
        underlay.extend(self.devices.iter().map(|device| device.underlay));
        underlay.sort_unstable();
        underlay.dedup();
        Ways { peers: self.peers, by_routers, own: self.view.own.pod_cidrs, underlay }
    }

    /// What is inside of the network, complete.
    pub fn all_inside(&self) -> Inside {
        Inside { network: self.peers.network, subnets: self.inside.clone(), is_all: true }
    }

    /// The MTU that fits the overlay, in bytes; none without an overlay.
    pub fn mtu(&self) -> Option<u32> {
        self.devices.iter().map(|device| device.mtu).min()
    }

    fn add_node_routes(&mut self, facts: &Facts) -> Result<()> {
        let own = &self.view.own;
        for peer in &self.view.peers {
            for &dst in &peer.pod_cidrs {
                let gateway = self.view.next_hop(peer, dst)?;
                let link = facts.on_link(gateway).ok_or_else(|| not_on_link(own, peer, gateway, facts))?;
                self.peers.direct.push(PeerRoute { dst, gateway, link, on_link: false });
            }
        }
        Ok(())
    }

    fn add_overlay(&mut self, overlay: &Overlay, facts: &Facts) -> Result<()> {
        let vteps = vtep_addresses(&self.view.own)?;
        for peer in self.view.peers.clone() {
            let family = self.view.underlay(&peer)?;
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
            self.peers.tunnelled.push(Tunnelled { device, mac, remote, vteps: vtep_addresses(&peer)?, pod_cidrs });
        }
        if self.devices.is_empty() {
            // No peer yet, or all are on the link: the device is there for the first one that needs it.
            let preferred = self.view.underlay_family;
            let has = |family: Family| self.view.own.address(family.is_ipv4()).is_some();
            let family = if has(preferred) { preferred } else { preferred.other() };
            self.device(family, overlay, facts, &vteps)?;
        }
        Ok(())
    }

    /// Routes to those of a peer's Pod CIDRs whose next hop is on a link of ours; the others are returned.
    fn add_direct_routes(&mut self, peer: &Node, facts: &Facts) -> Vec<IpNetwork> {
        let mut rest = Vec::new();
        for &dst in &peer.pod_cidrs {
            let next_hop = self.view.next_hop(peer, dst).ok();
            match next_hop.and_then(|gateway| Some((gateway, facts.on_link(gateway)?))) {
                Some((gateway, link)) => {
                    self.peers.direct.push(PeerRoute { dst, gateway, link, on_link: false });
                    // As on node routes, a Pod reaches that node with its own address.
                    self.inside.push(gateway.into());
                }
                None => rest.push(dst),
            }
        }
        rest
    }

    /// The name of the device for one family of the underlay, which is added if it is not declared yet.
    fn device(&mut self, family: Family, overlay: &Overlay, facts: &Facts, vteps: &[IpAddr]) -> Result<String> {
        let name = &overlay.devices[usize::from(!family.is_ipv4())];
        if self.devices.iter().any(|device| device.name == *name) {
            return Ok(name.clone());
        }
        let own = &self.view.own;
        let local = own.address(family.is_ipv4()).ok_or_else(|| lacks(own, family))?;
        let underlay = underlay_link(overlay, own, local, facts)?;
        let overhead = if family.is_ipv4() { OVERHEAD_4 } else { OVERHEAD_6 };
        let fits = underlay.mtu.saturating_sub(overhead);
        let needs_ipv6 = self.view.pod_cidrs().any(|cidr| cidr.is_ipv6());
        self.devices.push(Vxlan {
            name: name.clone(),
            mark: mark(self.peers.network),
            vni: overlay.vni,
            port: overlay.port,
            local,
            underlay: underlay.index,
            mtu: overlay_mtu(overlay.mtu, fits, &underlay.name, needs_ipv6)?,
            mac: vtep_mac(own, overlay.vni),
            addresses: vteps.to_vec(),
            renumber: false,
            advice: RENUMBERING,
        });
        self.peers.devices.push(name.clone());
        Ok(name.clone())
    }

    /// On every link and family on which the loss of routes would be noticed nowhere else.
    fn witnesses(&self, witness: Witness) -> Witnesses {
        let mut ways: Vec<Way> = Vec::new();
        for route in &self.peers.direct {
            let (exit, ipv4) = (Exit::Link(route.link), route.dst.is_ipv4());
            if !ways.iter().any(|way| way.exit == exit && way.ipv4 == ipv4) {
                ways.push(Way { exit, ipv4, sample: Some(route.dst) });
            }
        }
        for device in &self.devices {
            for ipv4 in [true, false] {
                if ipv4 || device.addresses.iter().any(IpAddr::is_ipv6) {
                    let sample = self.peers.first_behind(&device.name, ipv4);
                    ways.push(Way { exit: Exit::Device(device.name.clone()), ipv4, sample });
                }
            }
        }
        Witnesses { witness, ways, pod_cidrs: self.view.own.pod_cidrs.clone() }
    }
}

/// A VTEP's hardware address follows from its node's name and the VNI: every node can derive it, and a node that reboots
/// or changes its address keeps it.
fn vtep_mac(node: &Node, vni: u32) -> Mac {
    Mac::of_words(&["podwire VTEP", &node.name, &vni.to_string()])
}

/// A node's VTEP addresses: the first address of its first Pod CIDR of each family, which no Pod ever gets.
fn vtep_addresses(node: &Node) -> Result<Vec<IpAddr>> {
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
fn underlay_link<'a>(overlay: &Overlay, own: &Node, local: IpAddr, facts: &'a Facts) -> Result<&'a Link> {
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
fn overlay_mtu(configured: Option<u32>, fits: u32, underlay: &str, needs_ipv6: bool) -> Result<u32> {
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
    if let [down, ..] = *facts.down() {
        let why =
            format!("address of node {:?}, on no link; interface {down:?} is down: `ip link set {down} up`", peer.name);
        return Error::config("nodes", gateway, why);
    }
    let why = format!(
        "address of node {:?}, on no link of node {:?} (which has {}), so no route can lead there. Use vxlan-overlay, or let \
         the underlay's routers know the Pod CIDRs and set \"nodeRoutes\": false",
        peer.name,
        own.name,
        facts.subnets()
    );
    Error::config("nodes", gateway, why)
}
