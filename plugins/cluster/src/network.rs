//! A network whose map is in a configuration: followed by each ADD, at a cost that does not grow with the map.

use std::hash::{DefaultHasher, Hash, Hasher};

use kernel::link::Link;
use kernel::{At, Changes, Kernel, link};
use nodes::{Keys, Map};

use crate::error::Result;
use crate::lock::Lock;
use crate::tag::NetworkTag;
use crate::witness::Witness;
use crate::{Followed, How, Reach, Seat, Ways, devices, inside};

/// A network with a node map, on this node.
#[derive(Debug)]
pub struct Network {
    keys: Keys,
    reach: Reach,
    witness: Witness,
}

impl Network {
    /// The network called `name`. Of the map only the text is needed so far.
    pub fn new(name: &str, keys: Keys, reach: Reach) -> Self {
        let network = NetworkTag::new(name).of_cluster(matches!(reach, Reach::Overlay(_)));
        let witness = Witness { network, digest: digest(&keys, &reach) };
        Network { keys, reach, witness }
    }

    /// Brings the node to what the map says, unless it is there already.
    pub fn follow(&self, kernel: &Kernel, masquerade: bool) -> Result<Followed> {
        if let Some(followed) = self.quick(kernel, masquerade)? {
            return Ok(followed);
        }
        let _lock = Lock::take(self.tag())?;
        // The process that held the lock may have done it.
        if let Some(followed) = self.quick(kernel, masquerade)? {
            return Ok(followed);
        }
        self.reconcile(kernel, How { masquerade, renumber: false }).map(|(followed, _)| followed)
    }

    /// Looks at everything and corrects it. `renumber` lets VNI and port of an overlay's device change.
    pub fn sync(&self, kernel: &Kernel, renumber: bool) -> Result<(Followed, Changes)> {
        let _lock = Lock::take(self.tag())?;
        self.reconcile(kernel, How { masquerade: false, renumber })
    }

    /// [`crate::pending`], of [`Network::sync`].
    pub fn pending(&self, kernel: &Kernel, renumber: bool) -> Result<Vec<String>> {
        let map = self.map()?;
        crate::pending(kernel, self.tag(), self.seat(&map), &self.reach, How { masquerade: false, renumber })
    }

    /// The names of the overlay's devices that this node had routes through and that are gone: none before the first ADD.
    pub fn missing_devices(&self, kernel: &Kernel) -> kernel::Result<Vec<String>> {
        let Reach::Overlay(overlay) = &self.reach else { return Ok(Vec::new()) };
        let is_followed = self.witness.is_begun(kernel)?;
        let none_exists = self.devices(kernel)?.is_empty();
        Ok(if is_followed && none_exists { vec![overlay.devices[0].clone()] } else { Vec::new() })
    }

    /// [`crate::check`].
    pub fn check(&self, kernel: &Kernel) -> Result<(Followed, Vec<kernel::Error>)> {
        let map = self.map()?;
        crate::check(kernel, self.tag(), self.seat(&map), &self.reach)
    }

    /// [`crate::possible`], with a map that was read before.
    pub fn possible(&self, kernel: &Kernel, map: &Map) -> Result<Ways> {
        crate::possible(kernel, self.tag(), self.seat(map), &self.reach)
    }

    /// The map, read and checked whole.
    pub fn map(&self) -> Result<Map> {
        Ok(self.keys.source.parse()?)
    }

    /// The overlay's devices that exist; none without an overlay.
    pub fn devices(&self, kernel: &Kernel) -> kernel::Result<Vec<Link>> {
        match &self.reach {
            Reach::Overlay(overlay) => devices::existing(kernel, self.tag(), &overlay.devices),
            Reach::NodeRoutes | Reach::Routers => Ok(Vec::new()),
        }
    }

    /// The tag of what leads to the other nodes.
    pub fn tag(&self) -> NetworkTag {
        self.witness.network
    }

    /// If everything is there as it was last made: what an attachment needs to know.
    fn quick(&self, kernel: &Kernel, masquerade: bool) -> kernel::Result<Option<Followed>> {
        let Some(pod_cidrs) = self.witness.find(kernel)? else { return Ok(None) };
        let mtu = self.present_mtu(kernel)?;
        if matches!(self.reach, Reach::Overlay(_)) && mtu.is_none() {
            return Ok(None);
        }
        let inside = if masquerade { inside::outline(kernel, self.tag())? } else { None };
        let is_missing = masquerade && inside.is_none();
        Ok((!is_missing).then_some(Followed { inside, mtu, pod_cidrs, was_reconciled: false, ways: None }))
    }

    /// The least MTU of the overlay's devices that exist.
    fn present_mtu(&self, kernel: &Kernel) -> kernel::Result<Option<u32>> {
        let Reach::Overlay(overlay) = &self.reach else { return Ok(None) };
        let mut least = None;
        for name in &overlay.devices {
            if let Some(link) = link::get(kernel, At::Host, name)? {
                least = Some(least.map_or(link.mtu, |mtu: u32| mtu.min(link.mtu)));
            }
        }
        Ok(least)
    }

    fn reconcile(&self, kernel: &Kernel, how: How) -> Result<(Followed, Changes)> {
        let map = self.map()?;
        crate::reconcile_locked(kernel, self.witness, self.seat(&map), &self.reach, how)
    }

    fn seat<'a>(&'a self, map: &'a Map) -> Seat<'a> {
        Seat { map, node_name: self.keys.node_name.as_deref(), underlay_family: self.keys.underlay_family }
    }
}

/// 2: with samples.
const FORM_OF_WITNESSES: u8 = 2;

/// Of everything that decides what should exist, apart from the machine itself.
fn digest(keys: &Keys, reach: &Reach) -> u64 {
    let mut hasher = DefaultHasher::new();
    keys.source.digest().hash(&mut hasher);
    keys.node_name.hash(&mut hasher);
    keys.underlay_family.hash(&mut hasher);
    format!("{reach:?}").hash(&mut hasher);
    // A newer version may make other things of the same map, and a newer form of the witnesses says other things of it.
    (env!("CARGO_PKG_VERSION"), FORM_OF_WITNESSES).hash(&mut hasher);
    hasher.finish()
}
