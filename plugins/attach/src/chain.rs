//! The driver of chained plugins: those that adjust an interface that an earlier plugin of the chain made.
//!
//! A plugin declares what should exist ([`ChainedPlugin`]). ADD needs `prevResult`, finds both ends of the Pod's wire, makes
//! what the plan says, and passes the result on with the MTUs as they are then; one [`Undo`] takes everything back if a
//! step fails. CHECK builds the same plan and looks at each object. DEL removes what the attachment owns beside the wire;
//! the wire itself is the earlier plugin's.

use std::marker::PhantomData;

use cluster::Followed;
use kernel::link::{self, Link};
use kernel::{At, Kernel, Plan};
use libcni::{About, Attachment, AttachmentId, CniResult, Configuration, Error, Kind, Plugin, Request};

use crate::check::REMEDIES;
use crate::error::{check_failed, of_cluster, told};
use crate::ipam::unavailable;
use crate::keys::NodeKeys;
use crate::kinds::Kind as OwnedKind;
use crate::label::Label;
use crate::owner::Owner;
use crate::undo::Undo;
use crate::wire::overlay_interfaces;
use crate::{follow, names, removal, suite};

/// A plugin that adjusts an interface which an earlier plugin made: its configuration and its plan.
pub trait ChainedPlugin {
    /// What the plugin understands of its configuration.
    type Config: Configuration;

    /// The group of its keys that the node map is in. GC reads these
    /// alone.
    type Nodes: NodeKeys;

    /// What the plugin says of itself.
    const ABOUT: About;

    /// What an attachment owns by this plugin: DEL and GC remove these kinds, and leave others to the plugin that made
    /// the wire.
    const OWNS: &'static [&'static dyn OwnedKind];

    /// Which plugins it can follow, for the error that it can't.
    const FOLLOWS: &'static str;

    /// What must hold of a configuration beyond types. Nothing has been touched yet.
    fn validate(request: &Request, config: &Self::Config) -> Result<(), Error>;

    /// The keys of the node map, and of how its nodes are reached.
    fn nodes(config: &Self::Config) -> &Self::Nodes;

    /// Does the plan need to know what is inside of the network?
    fn needs_inside(chained: &Chained<Self::Config>) -> bool;

    /// What should exist.
    fn plan(chained: &Chained<Self::Config>, plan: &mut Plan);

    /// What the plugin changes in the result, beside MTUs and the overlay's devices.
    fn amend(_config: &Self::Config, _result: &mut CniResult) {}
}

/// The CNI plugin that a [`ChainedPlugin`] makes: `libcni::plugin::main::<InChain<Tuning>>()`.
#[derive(Debug)]
pub struct InChain<P>(PhantomData<P>);

impl<P: ChainedPlugin> Plugin for InChain<P> {
    type Config = P::Config;

    const ABOUT: About = P::ABOUT;
    const KIND: Kind = Kind::Interface;
    const COMMIT: Option<&str> = libcni::COMMIT;
    const KEYS_OF_OTHERS: &'static [(&'static str, &'static str)] = suite::KEYS;

    fn validate(request: &Request, config: &P::Config) -> Result<(), Error> {
        P::validate(request, config)
    }

    fn add(request: &Request, config: P::Config, attachment: &Attachment) -> Result<CniResult, Error> {
        add::<P>(request, &config, attachment)
    }

    fn check(request: &Request, config: P::Config, attachment: &Attachment) -> Result<(), Error> {
        check::<P>(request, &config, attachment)
    }

    fn del(request: &Request, attachment: &Attachment) -> Result<(), Error> {
        removal::del_chained(request, attachment, P::OWNS)
    }

    /// What attachments own beside their wires. The wires are the earlier plugin's, which gets a GC of its own.
    fn gc(request: &Request, valid: &[AttachmentId]) -> Result<(), Error> {
        removal::gc_chained(request, valid, P::OWNS, &|kernel| follow::sync_if_any::<P::Nodes>(request, kernel))
    }

    fn status(request: &Request, config: P::Config) -> Result<(), Error> {
        let kernel = Kernel::open().map_err(|error| unavailable(told(error)))?;
        match follow::open(request, P::nodes(&config)).map_err(follow::limited)? {
            Some(network) => follow::status(&network, &kernel).map(drop),
            None => Ok(()),
        }
    }
}

/// Everything that is known about an attachment that an earlier plugin wired.
#[derive(Debug)]
pub struct Chained<'a, C> {
    /// The plugin's configuration.
    pub config: &'a C,
    /// The attachment.
    pub owner: Owner,
    /// The Pod's interface.
    pub pod: Link,
    /// Its other end on the node.
    pub host: Link,
    /// The label of the node's end, if a plugin of ours made it.
    pub label: Option<Label>,
    /// The result so far, with only the addresses of the Pod's interface.
    pub result: CniResult,
    /// What an attachment needs to know of its network's node map.
    pub followed: Followed,
}

impl<C> Chained<'_, C> {
    /// Both ends of the wire, with where they are.
    pub fn ends(&self) -> [(At, &Link); 2] {
        [(At::Pod, &self.pod), (At::Host, &self.host)]
    }
}

/// The facts, gathered before anything is touched. The node's end is found by what the kernel says, not by its place in
/// the result.
fn gather<'a, P: ChainedPlugin>(
    request: &Request,
    config: &'a P::Config,
    attachment: &Attachment,
    kernel: &Kernel,
) -> Result<Chained<'a, P::Config>, Error> {
    let ifname = &attachment.id.ifname;
    let pod = link::expect(kernel, At::Pod, ifname).map_err(told)?;
    let host = link::all(kernel, At::Host).map_err(told)?.into_iter().find(|link| {
        link.kind == "veth" && pod.kind == "veth" && pod.lower == Some(link.index) && link.lower == Some(pod.index)
    });
    let host = host.ok_or_else(|| {
        let details =
            format!("interface {ifname:?} in the Pod is not one end of a veth pair with its other end on the node");
        Error::config("plugins", "chained", format!("{details}; {}", P::FOLLOWS))
    })?;
    let owner = names::owner(request, &attachment.id);
    let label = Label::of(&host);
    let mut result = request.config.prev_result()?.unwrap_or_default();
    let is_pod = |at: usize| result.interfaces.get(at).is_some_and(|interface| interface.name == *ifname);
    let ips = result.ips.iter().filter(|ip| ip.interface.is_none_or(is_pod)).cloned().collect();
    result.ips = ips;
    Ok(Chained { config, owner, pod, host, label, result, followed: Followed::default() })
}

/// ADD.
fn add<P: ChainedPlugin>(request: &Request, config: &P::Config, attachment: &Attachment) -> Result<CniResult, Error> {
    let kernel = names::kernel(attachment)?;
    let network = follow::open(request, P::nodes(config))?;
    let mut chained = gather::<P>(request, config, attachment, &kernel)?;
    if let Some(network) = &network {
        chained.followed = follow::follow(network, &kernel, P::needs_inside(&chained))?;
    }
    let overlay = overlay_interfaces(&kernel, network.as_ref())?;
    let mut plan = Plan::default();
    P::plan(&chained, &mut plan);
    let anew = |request: &Request, attachment: &Attachment| removal::del_chained(request, attachment, P::OWNS);
    let mut undo = Undo::new(request, attachment, &kernel, anew);
    let result = undo.add(plan).and_then(|_| with_present_mtus(request, &kernel));
    let mut result = match result {
        Ok(result) => result,
        Err(error) => return Err(undo.because_of(error)),
    };
    follow::warn(&kernel, &chained.followed, &chained.result.ips);
    result.interfaces.extend(overlay);
    P::amend(config, &mut result);
    Ok(result)
}

/// `prevResult` with the MTUs as they are now; a bridge follows its ports.
fn with_present_mtus(request: &Request, kernel: &Kernel) -> Result<CniResult, Error> {
    let mut result = request.config.prev_result()?.unwrap_or_default();
    for interface in result.interfaces.iter_mut().filter(|interface| interface.mtu.is_some()) {
        let at = if interface.sandbox.is_empty() { At::Host } else { At::Pod };
        if let Some(link) = link::get(kernel, at, &interface.name).map_err(told)? {
            interface.mtu = Some(link.mtu);
        }
    }
    Ok(result)
}

/// CHECK.
fn check<P: ChainedPlugin>(request: &Request, config: &P::Config, attachment: &Attachment) -> Result<(), Error> {
    let kernel = names::kernel(attachment)?;
    let mut faults = Vec::new();
    let mut followed = Followed::default();
    if let Some(network) = follow::open(request, P::nodes(config))? {
        (followed, faults) = network.check(&kernel).map_err(of_cluster)?;
    }
    let chained = Chained { followed, ..gather::<P>(request, config, attachment, &kernel)? };
    faults.extend(follow::faults(&kernel, &chained.followed, &chained.result.ips));
    let mut plan = Plan::default();
    P::plan(&chained, &mut plan);
    faults.extend(plan.faults(&kernel, REMEDIES));
    check_failed(faults)
}
