//! Following the node map: what leads to the other nodes is brought to what the map says.
//!
//! No daemon does this. ADD does it when the map, the configuration or the kernel changed since it was last done, which
//! it knows from a digest that a witness in the kernel holds ([`dataplane::witness`]); then it costs two questions to the kernel,
//! whatever the number of nodes, and the map is not even parsed. GC and the operator's `--sync` look at everything. All
//! of them hold the network's lock while they change something ([`dataplane::lock`]).
//!
//! `wanted.rs` says what should exist, from the map and the node's links and addresses alone.

mod wanted;

use std::hash::{DefaultHasher, Hash, Hasher};

use dataplane::cluster::{self, Inside};
use dataplane::lock::Lock;
use dataplane::owner::NetworkTag;
use dataplane::peers::Changes;
use dataplane::sysctl::Forwarding;
use dataplane::witness::Witness;
use dataplane::{Kernel, Object, link, vxlan};
use ipnetwork::IpNetwork;
use libcni::plugin::Operator;
use libcni::{Error, Interface, Request, code};
use nodes::{Cluster, Keys, MapKeys};

use self::wanted::{Facts, Wanted};
use crate::error::told;
use crate::wire;

/// How Pods of other nodes are reached.
#[derive(Clone, Debug)]
pub enum Reach {
    /// By routes to the nodes, which are on one link with this one.
    NodeRoutes,
    /// By what the underlay's own routers know (`"nodeRoutes": false`).
    Routers,
    /// Through VXLAN.
    Overlay(Overlay),
}

/// The configuration of an overlay.
#[derive(Clone, Debug)]
pub struct Overlay {
    /// `vni`.
    pub vni: u32,
    /// `port`.
    pub port: u16,
    /// The device's name, for an underlay of IPv4 and of IPv6.
    pub devices: [String; 2],
    /// `mtu`, in bytes; what fits the underlay if `None`.
    pub mtu: Option<u32>,
    /// `underlayDevice`; the one with the node's address if `None`.
    pub underlay_device: Option<String>,
    /// `directRouting`.
    pub direct_routing: bool,
}

/// A network with a node map, on this node.
#[derive(Debug)]
pub struct Network {
    keys: Keys,
    tag: NetworkTag,
    reach: Reach,
    witness: Witness,
}

/// What an attachment needs to know of its network.
#[derive(Debug, Default)]
pub struct Followed {
    /// What is inside, for masquerade; there only if asked for.
    pub inside: Option<Inside>,
    /// The MTU that fits an overlay, in bytes.
    pub mtu: Option<u32>,
    /// This node's Pod CIDRs; none if only the map could tell.
    pub pod_cidrs: Vec<IpNetwork>,
}

impl Network {
    /// Opens the map of the request's network, its text only; `None` if the configuration has no `nodes`.
    pub fn open(request: &Request, keys: &MapKeys, reach: Reach) -> Result<Option<Self>, Error> {
        Ok(keys.open(&request.config)?.map(|keys| Network::new(request, keys, reach)))
    }

    /// The same for GC and `--sync`, which have no typed configuration.
    pub fn read(request: &Request, reach: Reach) -> Result<Option<Self>, Error> {
        Ok(Keys::read(&request.config)?.map(|keys| Network::new(request, keys, reach)))
    }

    fn new(request: &Request, keys: Keys, reach: Reach) -> Self {
        let tag = NetworkTag::new(&request.config.name).of_cluster(matches!(reach, Reach::Overlay(_)));
        let witness = Witness { network: tag, digest: digest(&keys, &reach) };
        Network { keys, tag, reach, witness }
    }

    /// GC: [`sync`](Network::sync), if the configuration has a map. `reach` reads the configuration only as far as that needs.
    pub fn sync_if_any(
        request: &Request,
        reach: &dyn Fn(&Request) -> Result<Reach, Error>,
        kernel: &Kernel,
    ) -> Result<(), Error> {
        if !Keys::are_in(&request.config) {
            return Ok(());
        }
        match Network::read(request, reach(request)?)? {
            Some(network) => network.sync(kernel, false).map(drop),
            None => Ok(()),
        }
    }

    /// ADD: brings the node to what the map says, unless it is there already.
    pub fn follow(&self, kernel: &Kernel, masquerade: bool) -> Result<Followed, Error> {
        if let Some(followed) = self.quick(kernel, masquerade).map_err(told)? {
            return Ok(followed);
        }
        let _lock = Lock::take(self.tag).map_err(told)?;
        // Whoever had the lock may have done it.
        if let Some(followed) = self.quick(kernel, masquerade).map_err(told)? {
            return Ok(followed);
        }
        self.apply(kernel, masquerade, false).map(|(followed, _)| followed)
    }

    /// The overlay's devices, for an ADD's result: as the bridge is, they are the first attachment's work, and all the
    /// others'. None without an overlay.
    pub fn interfaces(&self, kernel: &Kernel) -> Result<Vec<Interface>, Error> {
        let Reach::Overlay(overlay) = &self.reach else { return Ok(Vec::new()) };
        let mut interfaces = Vec::new();
        for name in &overlay.devices {
            let link = link::get(kernel, dataplane::At::Host, name).map_err(told)?;
            interfaces
                .extend(link.filter(|link| vxlan::is_of(link, self.tag)).map(|link| wire::as_interface(link, "")));
        }
        Ok(interfaces)
    }

    /// GC and `--sync`: looks at everything. Masquerade is followed where there is any; `renumber` allows VNI and port of
    /// an overlay's device to be changed.
    pub fn sync(&self, kernel: &Kernel, renumber: bool) -> Result<Changes, Error> {
        let _lock = Lock::take(self.tag).map_err(told)?;
        self.apply(kernel, false, renumber).map(|(_, changes)| changes)
    }

    /// CHECK: everything is there that the map asks for, and nothing of ours that it does not. What is inside is for the
    /// masquerade's own check.
    pub fn check(&self, kernel: &Kernel) -> Result<Followed, Error> {
        let wanted = self.wanted(kernel)?;
        wanted.check(kernel).map_err(told)?;
        Ok(self.followed(&wanted, true))
    }

    /// STATUS: code 51 if the map can't be used, 50 if this node is not as the map and the configuration say.
    pub fn status(&self, kernel: &Kernel) -> Result<(), Error> {
        let map = self.keys.source.parse().map_err(|error| limited(error.into()))?;
        drop(map);
        let wanted = self.wanted(kernel).map_err(crate::ipam::unavailable)?;
        wanted.possible(kernel).map_err(|error| crate::ipam::unavailable(told(error)))
    }

    fn quick(&self, kernel: &Kernel, masquerade: bool) -> dataplane::Result<Option<Followed>> {
        let Some(pod_cidrs) = self.witness.stands(kernel)? else { return Ok(None) };
        let mtu = self.present_mtu(kernel)?;
        if matches!(self.reach, Reach::Overlay(_)) && mtu.is_none() {
            return Ok(None);
        }
        let inside = if masquerade { cluster::outline(kernel, self.tag)? } else { None };
        let is_missing = masquerade && inside.is_none();
        Ok((!is_missing).then_some(Followed { inside, mtu, pod_cidrs }))
    }

    /// The least MTU of the overlay's devices that are there.
    fn present_mtu(&self, kernel: &Kernel) -> dataplane::Result<Option<u32>> {
        let Reach::Overlay(overlay) = &self.reach else { return Ok(None) };
        let mut least = None;
        for name in &overlay.devices {
            if let Some(link) = link::get(kernel, dataplane::At::Host, name)? {
                least = Some(least.map_or(link.mtu, |mtu: u32| mtu.min(link.mtu)));
            }
        }
        Ok(least)
    }

    /// With the lock held: facts first, then the kernel, the witness last.
    fn apply(&self, kernel: &Kernel, masquerade: bool, renumber: bool) -> Result<(Followed, Changes), Error> {
        let mut wanted = self.wanted(kernel)?;
        wanted.allow_renumbering(renumber);
        wanted.possible(kernel).map_err(told)?;
        self.witness.remove(kernel).map_err(told)?;
        let has = |ipv4: bool| wanted.cluster.own.pod_cidrs.iter().any(|cidr| cidr.is_ipv4() == ipv4);
        if !matches!(self.reach, Reach::Routers) {
            Forwarding { ipv4: has(true), ipv6: has(false) }.ensure(kernel).map_err(told)?;
        }
        let changes = wanted.apply(kernel).map_err(told)?;
        let followed = self.followed(&wanted, masquerade);
        // Followed where there is any, whether this attachment is masqueraded or not.
        if masquerade || cluster::is_used(kernel, self.tag).map_err(told)? {
            self.inside(&wanted).ensure(kernel).map_err(told)?;
        }
        let links = wanted.witness_links(kernel).map_err(told)?;
        self.witness.put(kernel, &links, &followed.pod_cidrs).map_err(told)?;
        Ok((followed, changes))
    }

    fn wanted(&self, kernel: &Kernel) -> Result<Wanted, Error> {
        let facts = Facts::gather(kernel).map_err(told)?;
        let cluster = Cluster::new(&self.keys, &facts.machine())?;
        Wanted::new(cluster, &self.reach, &facts, self.tag)
    }

    fn followed(&self, wanted: &Wanted, masquerade: bool) -> Followed {
        let pod_cidrs = wanted.cluster.own.pod_cidrs.clone();
        Followed { inside: masquerade.then(|| self.inside(wanted)), mtu: wanted.mtu(), pod_cidrs }
    }

    fn inside(&self, wanted: &Wanted) -> Inside {
        Inside { network: self.tag, subnets: wanted.inside.clone(), is_all: true }
    }
}

/// `--sync`: `run` is [`sync_command`], with how to read the plugin's configuration.
pub const fn operator(run: fn(&Request) -> Result<String, Error>) -> Operator {
    Operator { option: "--sync", help: "bring this node to what the list's node map says now; no Pod is touched", run }
}

/// `--sync`: what an operator runs, or a systemd path unit, when the map changed. Says what it did.
pub fn sync_command(request: &Request, reach: &dyn Fn(&Request) -> Result<Reach, Error>) -> Result<String, Error> {
    let name = &request.config.name;
    let Some(network) = Network::read(request, reach(request)?)? else {
        return Err(Error::config("nodes", "missing", format!("network {name:?} has no node map to follow")));
    };
    let kernel = Kernel::open().map_err(told)?;
    let changes = network.sync(&kernel, true)?;
    Ok(format!("network {name:?}: {} set, {} removed\n", changes.set, changes.removed))
}

/// A map that can't be used: what runs may have lost nodes already.
pub fn limited(error: Error) -> Error {
    let details = format!("{}: {}", error.msg, error.details);
    Error::new(code::UNAVAILABLE_AND_LIMITED, "not available, and Pods may have lost other nodes", details)
}

/// Of everything that decides what should exist, the machine itself apart.
fn digest(keys: &Keys, reach: &Reach) -> u64 {
    let mut hasher = DefaultHasher::new();
    keys.source.digest().hash(&mut hasher);
    keys.node_name.hash(&mut hasher);
    keys.underlay_family.hash(&mut hasher);
    format!("{reach:?}").hash(&mut hasher);
    // A newer version may make other things of the same map.
    env!("CARGO_PKG_VERSION").hash(&mut hasher);
    hasher.finish()
}
