//! The driver of plugins that wire a Pod: the five verbs, written once.
//!
//! A plugin declares what should exist ([`WirePlugin`]); the driver does the rest. ADD refuses a second ADD of the same
//! attachment, follows the node map, starts IPAM and meanwhile makes what needs no address, makes the rest when IPAM has
//! answered, and reports what there is then; one [`Undo`] takes everything back if a step fails. CHECK builds the same plan
//! from `prevResult` and looks at each object. DEL and GC go by names and labels (`removal.rs`). `wiring.rs` has the facts that
//! a plugin's plan is made of.

use std::marker::PhantomData;

use cluster::Network;
use kernel::link::Alias;
use kernel::sysctl;
use kernel::veth::Veth;
use kernel::{At, Kernel, Mac, Plan};
use libcni::plugin::Operator;
use libcni::{
    About, Attachment, AttachmentId, CniResult, Command, Configuration, Error, Interface, IpConfig, Kind, Plugin,
    Request,
};

use crate::check::{self, REMEDIES};
use crate::error::{check_failed, of_cluster, told};
use crate::follow;
use crate::foreign_pods;
use crate::in_use;
use crate::ipam::{self, Ipam};
use crate::keys::{NodeKeys, WireKeys};
use crate::kinds::Owned;
use crate::kinds::masquerade::Masquerade;
use crate::label::Label;
use crate::status::Wires;
use crate::undo::Undo;
use crate::veth::{Pair, Wire};
use crate::wiring::PINNED;
pub use crate::wiring::Wiring;
use crate::{names, removal, status, suite};

/// A plugin that wires a Pod: its configuration and its plan.
pub trait WirePlugin {
    /// What the plugin understands of its configuration.
    type Config: Configuration;

    /// The group of its keys that the node map is in. GC and `--sync` read these alone.
    type Nodes: NodeKeys;

    /// What the plugin says of itself.
    const ABOUT: About;

    /// How its wire is found and removed.
    const WIRE: &'static dyn Wire = &Pair;

    /// Can the pair be made before IPAM has answered? Not if a hardware address follows from the IP address.
    const PAIR_NEEDS_NO_ADDRESS: bool = false;

    /// What must hold of a configuration beyond types. Nothing has been touched yet.
    fn validate(request: &Request, config: &Self::Config) -> Result<(), Error>;

    /// The keys of the node map, and of how its nodes are reached.
    fn nodes(config: &Self::Config) -> &Self::Nodes;

    /// The keys that every wire has.
    fn keys(config: &Self::Config) -> &WireKeys;

    /// Does the Pod have masquerade, if it has an address?
    fn masquerades(config: &Self::Config) -> bool;

    /// Does the node route for the Pod?
    fn routes(_config: &Self::Config) -> bool {
        true
    }

    /// Do the listed links keep their hardware addresses from this ADD on? Then CHECK compares them. Pods from before, or of
    /// another implementation, have results with addresses that may have changed since.
    fn pins(_config: &Self::Config) -> bool {
        false
    }

    /// Facts on the node that forbid an ADD. Nothing has been touched yet.
    fn refuse(_config: &Self::Config, _kernel: &Kernel) -> Result<(), Error> {
        Ok(())
    }

    /// Shared objects that the network needs before it has any Pod: what STATUS asks about.
    fn network(_config: &Self::Config, _plan: &mut Plan) {}

    /// IPAM's answer, as the Pod gets it: with gateways and default routes. `dns` is the driver's work.
    fn complete(config: &Self::Config, kernel: &Kernel, from_ipam: CniResult) -> Result<CniResult, Error>;

    /// The Pod's hardware address if none is asked for.
    fn pod_mac(_addresses: &CniResult) -> Mac {
        Mac::random()
    }

    /// The pair, all but its alias.
    fn pair(wiring: &Wiring<Self::Config>) -> Veth;

    /// Forwarding, and settings of both ends: they come before rules and routes.
    fn settings(_wiring: &Wiring<Self::Config>, _plan: &mut Plan) {}

    /// What the attachment owns beside its wire, but for masquerade.
    fn owned(_wiring: &Wiring<Self::Config>) -> Vec<Box<dyn Owned>> {
        Vec::new()
    }

    /// Everything else, in the order in which it depends on one another, once the pair is there and labelled.
    fn plan(wiring: &Wiring<Self::Config>, plan: &mut Plan);

    /// Links of the node that Pods of the network are on, beside their own pairs.
    fn links_of_pods(_config: &Self::Config) -> Vec<String> {
        Vec::new()
    }

    /// Links of the node that the result lists before the pair: the bridge.
    fn listed(_config: &Self::Config) -> Vec<String> {
        Vec::new()
    }

    /// Links of the node that the result lists after the pair: the gateway's in a VLAN.
    fn listed_last(_config: &Self::Config) -> Vec<String> {
        Vec::new()
    }
}

/// The CNI plugin that a [`WirePlugin`] makes: `libcni::plugin::main::<Wired<Bridge>>()`.
#[derive(Debug)]
pub struct Wired<P>(PhantomData<P>);

impl<P: WirePlugin> Plugin for Wired<P> {
    type Config = P::Config;

    const ABOUT: About = P::ABOUT;
    const KIND: Kind = Kind::Interface;
    const COMMIT: Option<&str> = libcni::COMMIT;
    const KEYS_OF_OTHERS: &'static [(&'static str, &'static str)] = suite::KEYS;
    const OPERATOR: Option<Operator> = Some(follow::operator::<P>());

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
        removal::del(request, attachment, P::WIRE)
    }

    fn gc(request: &Request, valid: &[AttachmentId]) -> Result<(), Error> {
        removal::gc(request, valid, P::WIRE, &|kernel| follow::sync_if_any::<P::Nodes>(request, kernel))
    }

    fn status(request: &Request, config: P::Config) -> Result<(), Error> {
        status::<P>(request, &config)
    }
}

/// ADD.
fn add<P: WirePlugin>(request: &Request, config: &P::Config, attachment: &Attachment) -> Result<CniResult, Error> {
    let kernel = names::kernel(attachment)?;
    names::refuse_second(&kernel, request, &attachment.id)?;
    P::refuse(config, &kernel)?;
    let network = follow::open(request, P::nodes(config))?;
    let followed =
        network.as_ref().map(|network| follow::follow(network, &kernel, P::masquerades(config))).transpose()?;
    let followed = followed.unwrap_or_default();
    let ipam = Ipam::of(request, &followed.pod_cidrs)?;
    let wiring = Wiring::new(request, config, attachment, followed);
    let mut undo = Undo::new(request, attachment, &kernel, |request, attachment| {
        removal::remove_wire(request, attachment, P::WIRE)
    });
    match connect::<P>(request, wiring, &kernel, &ipam, network.as_ref(), &mut undo) {
        Ok(result) => Ok(result),
        Err(error) => Err(undo.because_of(error)),
    }
}

/// Makes everything, and reports what exists then.
fn connect<'a, P: WirePlugin>(
    request: &Request,
    mut wiring: Wiring<P::Config>,
    kernel: &Kernel,
    ipam: &'a Ipam<'a>,
    network: Option<&Network>,
    undo: &mut Undo<'a>,
) -> Result<CniResult, Error> {
    let requested_mac = P::keys(wiring.config).mac.requested(&request.invocation)?;
    let asked = ipam.ask()?;
    let mut first = Plan::default();
    P::network(wiring.config, &mut first);
    let early = P::PAIR_NEEDS_NO_ADDRESS.then(|| {
        wiring.pod.mac = requested_mac.unwrap_or_else(|| P::pod_mac(&wiring.addresses));
        label::<P>(&wiring)
    });
    if let Some(label) = &early {
        plan_pair(&mut first, P::pair(&wiring), label);
    }
    let mut is_first = undo.add(first)?.is_first;
    let wires = wires::<P>(wiring.config);

    let from_ipam = asked.answer()?;
    undo.has_addresses(ipam);
    let from_ipam = in_use::unused(kernel, ipam, from_ipam, &P::links_of_pods(wiring.config))?;
    wiring.subnets = from_ipam.ips.iter().map(|ip| ip.address).collect();
    wiring.addresses = P::complete(wiring.config, kernel, from_ipam)?;
    wiring.addresses.dns = P::keys(wiring.config).dns.or(std::mem::take(&mut wiring.addresses.dns));
    if early.is_none() {
        wiring.pod.mac = requested_mac.unwrap_or_else(|| P::pod_mac(&wiring.addresses));
    }
    is_first |= undo.add(with_addresses::<P>(&wiring, early))?.is_first;
    is_first |= status::is_first(wiring.label.owner.network());
    if is_first || wiring.followed.ways.is_some() {
        status::warn_of_what_is_not_forwarded(kernel, &wires);
    }
    follow::warn(kernel, &wiring.followed, &wiring.addresses.ips);
    result::<P>(request, wiring, kernel, network)
}

/// The plan once there are addresses: the pair if it is not there yet, its label, what the attachment owns beside it, and
/// the rest. `early` is the label that the pair has, if it is there.
fn with_addresses<P: WirePlugin>(wiring: &Wiring<P::Config>, early: Option<Label>) -> Plan {
    let mut plan = Plan::default();
    let label = label::<P>(wiring);
    match early {
        None => plan_pair(&mut plan, P::pair(wiring), &label),
        Some(early) if early != label => {
            let (alias, record) = label.alias();
            // In this order: the DEL after an ADD that was killed in between goes by the alias.
            plan.owned(Alias { link: wiring.host.name.clone(), before: None, alias });
            if let Some(record) = record {
                plan.owned(record);
            }
        }
        Some(_) => {}
    }
    plan_rest::<P>(wiring, &mut plan);
    plan
}

/// The pair with its label. The record, if there is one, is written before the alias that refers to it.
fn plan_pair(plan: &mut Plan, pair: Veth, label: &Label) {
    let (alias, record) = label.alias();
    if let Some(record) = record {
        plan.owned(record);
    }
    plan.owned(Veth { alias, ..pair });
}

/// What needs the pair. Rules of nftables come before the Pod's end goes up: what checks a Pod is there before it can send.
fn plan_rest<P: WirePlugin>(wiring: &Wiring<P::Config>, plan: &mut Plan) {
    P::settings(wiring, plan);
    for object in owned::<P>(wiring) {
        plan.owned_box(object).checked_if(wiring.is_ours);
    }
    P::plan(wiring, plan);
}

/// What the attachment owns beside its wire.
fn owned<P: WirePlugin>(wiring: &Wiring<P::Config>) -> Vec<Box<dyn Owned>> {
    let mut owned: Vec<Box<dyn Owned>> = Vec::new();
    // First, for what is written in its part of the label is not written again.
    if P::masquerades(wiring.config) && !wiring.subnets.is_empty() {
        let (owner, inside) = (wiring.label.owner, wiring.followed.inside.clone());
        owned.push(Box::new(Masquerade { owner, addresses: wiring.subnets.clone(), inside }));
    }
    owned.extend(P::owned(wiring));
    owned
}

/// The label, with the part of everything that the attachment owns.
fn label<P: WirePlugin>(wiring: &Wiring<P::Config>) -> Label {
    let mut label = wiring.label.clone();
    owned::<P>(wiring).iter().for_each(|object| object.say(&mut label));
    if P::pins(wiring.config) {
        label.set(PINNED, "mac");
    }
    label
}

/// The result: what earlier plugins reported, then the node's links, both ends, and the overlay's devices.
fn result<P: WirePlugin>(
    request: &Request,
    wiring: Wiring<P::Config>,
    kernel: &Kernel,
    network: Option<&Network>,
) -> Result<CniResult, Error> {
    let mut result = request.config.prev_result()?.unwrap_or_default();
    let on_the_node = P::listed(wiring.config).into_iter().chain([wiring.host.name.clone()]);
    for name in on_the_node {
        result.interfaces.push(names::interface(kernel, At::Host, &name, "").map_err(told)?);
    }
    let pod = result.interfaces.len();
    result.interfaces.push(names::interface(kernel, At::Pod, &wiring.pod.name, &wiring.sandbox).map_err(told)?);
    for name in P::listed_last(wiring.config) {
        result.interfaces.push(names::interface(kernel, At::Host, &name, "").map_err(told)?);
    }
    result.interfaces.extend(overlay_interfaces(kernel, network)?);
    let addresses = wiring.addresses;
    result.ips.extend(addresses.ips.into_iter().map(|ip| IpConfig { interface: Some(pod), ..ip }));
    result.routes.extend(addresses.routes);
    if !addresses.dns.is_empty() {
        result.dns = addresses.dns;
    }
    Ok(result)
}

/// The overlay's devices: like the bridge, they were made for the first attachment, and serve all.
pub(crate) fn overlay_interfaces(kernel: &Kernel, network: Option<&Network>) -> Result<Vec<Interface>, Error> {
    let devices = network.map_or(Ok(Vec::new()), |network| network.devices(kernel)).map_err(told)?;
    Ok(devices.into_iter().map(|device| names::as_interface(device, "")).collect())
}

/// CHECK.
fn check<P: WirePlugin>(request: &Request, config: &P::Config, attachment: &Attachment) -> Result<(), Error> {
    let expected = check::expected(request, attachment, &P::listed(config))?;
    let kernel = names::kernel(attachment)?;
    let network = follow::open(request, P::nodes(config))?;
    let (followed, mut faults) = match &network {
        Some(network) => network.check(&kernel).map_err(of_cluster)?,
        None => Default::default(),
    };
    faults.extend(follow::faults(&kernel, &followed, &expected.result.ips));
    let wiring = Wiring::expected(request, config, attachment, &kernel, &expected, followed)?;
    faults.extend(whole_plan::<P>(&wiring).faults(&kernel, REMEDIES));
    faults.extend(expected.faults(&kernel));
    if wiring.is_pinned {
        faults.extend(expected.faults_of_listed(&kernel, &P::listed(config)));
    }
    if wiring.has(false) {
        sysctl::warn_of_ipv6_off();
    }
    check_failed(faults)?;
    ipam::pass_on(request, Command::Check)
}

/// The plan of an ADD from its beginning to its end.
fn whole_plan<P: WirePlugin>(wiring: &Wiring<P::Config>) -> Plan {
    let mut plan = Plan::default();
    P::network(wiring.config, &mut plan);
    plan.owned(P::pair(wiring));
    plan_rest::<P>(wiring, &mut plan);
    plan
}

/// How Pods reach others.
fn wires<P: WirePlugin>(config: &P::Config) -> Wires {
    Wires { routed: P::routes(config), bridges: P::listed(config) }
}

/// STATUS: could an ADD be served?
fn status<P: WirePlugin>(request: &Request, config: &P::Config) -> Result<(), Error> {
    let kernel = Kernel::open().map_err(|error| ipam::unavailable(told(error)))?;
    let mut plan = Plan::default();
    P::network(config, &mut plan);
    plan.possible(&kernel).map_err(|error| ipam::unavailable(told(error)))?;
    status::warn_of_what_is_not_forwarded(&kernel, &wires::<P>(config));
    if P::routes(config) {
        follow::warn_of_no_forwarding::<P>(request, &kernel, config)?;
    }
    let mut subnets = foreign_pods::subnets_of_ipam(request);
    if let Some(network) = follow::open(request, P::nodes(config)).map_err(follow::limited)? {
        subnets.extend(follow::status(&network, &kernel)?);
    }
    foreign_pods::warn(&kernel, &subnets);
    ipam::status(request)
}
