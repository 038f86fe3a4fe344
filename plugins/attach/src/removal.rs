//! DEL and GC: everything an attachment owns is found by its names, whatever the configuration has become.
//!
//! First the wire, then its address: an address must not be given to another Pod while a wire still carries it. What can't
//! be removed keeps its address too, and the error makes the runtime call again.

use std::collections::HashSet;

use cluster::tag::NetworkTag;
use kernel::{At, Error as KernelError, Kernel, link};
use libcni::{Attachment, AttachmentId, Command, Error, Request};

use crate::error::told;
use crate::kinds::{KINDS, Kind, owned_by};
use crate::label::Label;
use crate::owner::Owner;
use crate::veth::{Found, Wire};
use crate::{ipam, names, reference, restore};

/// DEL of a plugin that made the wire.
pub fn del(request: &Request, attachment: &Attachment, wire: &dyn Wire) -> Result<(), Error> {
    remove_wire(request, attachment, wire)?;
    ipam::pass_on(request, Command::Del)
}

/// DEL of a plugin that left the wire to another: objects of these kinds only. What checks the Pod's wire stays as long as
/// the wire does.
pub fn del_chained(request: &Request, attachment: &Attachment, kinds: &[&dyn Kind]) -> Result<(), Error> {
    let kernel = Kernel::open().map_err(told)?;
    sweep(&kernel, kinds, &is_of(names::owner(request, &attachment.id)))
}

/// Removes the attachment's wire and everything that it owns beside it.
pub fn remove_wire(request: &Request, attachment: &Attachment, wire: &dyn Wire) -> Result<(), Error> {
    let kernel = Kernel::open().map_err(told)?;
    let owner = names::owner(request, &attachment.id);
    match wire.find(&kernel, owner).map_err(told)? {
        Found::Labelled(label) => remove_labelled(&kernel, &label, wire),
        // A record may have been written before.
        Found::Unlabelled => {
            wire.remove(&kernel, owner).map_err(told).and_then(|()| sweep(&kernel, &KINDS, &is_of(owner)))
        }
        Found::Nothing => remove_what_is_left(kernel, request, attachment, owner),
    }
}

/// The label says what there is to remove; if its record is lost, everything of its owner's is looked for instead.
fn remove_labelled(kernel: &Kernel, label: &Label, wire: &dyn Wire) -> Result<(), Error> {
    let owned: Vec<_> = owned_by(label).filter(|(kind, _)| !kind.goes_with_the_wire()).collect();
    for (kind, object) in owned.iter().filter(|(kind, _)| kind.goes_before_the_wire()) {
        if let Err(error) = object.remove(kernel) {
            log::debug!("{} is removed again after the wire: {error}", kind.name());
        }
    }
    wire.remove(kernel, label.owner).map_err(told)?;
    if owned.is_empty() && label.is_complete() {
        return Ok(());
    }
    // A process that restored a flushed table meanwhile saw the wire, and has put the elements back.
    restore::wait().map_err(told)?;
    match label.is_complete() {
        true => owned.iter().try_for_each(|(_, object)| object.remove(kernel)).map_err(told),
        false => sweep(kernel, &KINDS, &is_of(label.owner)),
    }
}

/// The wire is gone, perhaps with the Pod's namespace; or another implementation made it.
fn remove_what_is_left(
    mut kernel: Kernel,
    request: &Request,
    attachment: &Attachment,
    owner: Owner,
) -> Result<(), Error> {
    restore::wait().map_err(told)?;
    sweep(&kernel, &KINDS, &is_of(owner))?;
    let AttachmentId { container_id, ifname } = &attachment.id;
    let done = reference::remove_masquerade(&kernel, &request.config.name, container_id, ifname);
    nothing_where_lacking(done)?;
    remove_foreign_pair(&mut kernel, request, attachment)
}

fn is_of(owner: Owner) -> impl Fn(Owner) -> bool {
    move |gone| gone == owner
}

/// What attachments whose wires are gone own beside them.
fn sweep(kernel: &Kernel, kinds: &[&dyn Kind], is_gone: &dyn Fn(Owner) -> bool) -> Result<(), Error> {
    kinds.iter().try_for_each(|kind| nothing_where_lacking(kind.sweep(kernel, is_gone)))
}

/// A kernel without nftables holds no rules, and ADD refused to make any.
fn nothing_where_lacking(done: kernel::Result<()>) -> Result<(), Error> {
    match done {
        Err(KernelError::Lacks(_)) => Ok(()),
        other => other.map_err(told),
    }
}

/// A pair that another implementation made, before the plugins were replaced under a living Pod: removed if the
/// result of that ADD lists both its ends, and the node's end has no label.
fn remove_foreign_pair(kernel: &mut Kernel, request: &Request, attachment: &Attachment) -> Result<(), Error> {
    let Some(netns) = request.usable_netns(attachment)? else { return Ok(()) };
    let Some(result) = request.config.prev_result().ok().flatten() else { return Ok(()) };
    if kernel.enter_pod(netns).is_err() {
        return Ok(());
    }
    let Some(pod) = link::get(kernel, At::Pod, &attachment.id.ifname).map_err(told)? else { return Ok(()) };
    let on_the_node = result.interfaces.iter().filter(|interface| interface.sandbox.is_empty());
    for interface in on_the_node {
        let Some(host) = link::get(kernel, At::Host, &interface.name).map_err(told)? else { continue };
        let is_the_pair = pod.kind == "veth" && host.kind == "veth" && pod.lower == Some(host.index);
        if is_the_pair && host.lower == Some(pod.index) && Label::parse(&host.alias).is_none() {
            return link::remove(kernel, At::Host, &host.name).map(drop).map_err(told);
        }
    }
    Ok(())
}

/// GC of a plugin that left the wire to another: objects of these kinds that attachments which are not in `valid` own, and
/// `more`, for what the plugin shares between attachments.
pub fn gc_chained(
    request: &Request,
    valid: &[AttachmentId],
    kinds: &[&dyn Kind],
    more: &dyn Fn(&Kernel) -> Result<(), Error>,
) -> Result<(), Error> {
    let kernel = Kernel::open().map_err(told)?;
    let swept = sweep_stale(&kernel, kinds, names::network(request), &owners(request, valid));
    Error::all(swept.err().into_iter().chain(more(&kernel).err()).collect())
}

fn owners(request: &Request, valid: &[AttachmentId]) -> HashSet<Owner> {
    valid.iter().map(|attachment| names::owner(request, attachment)).collect()
}

fn sweep_stale(kernel: &Kernel, kinds: &[&dyn Kind], network: NetworkTag, valid: &HashSet<Owner>) -> Result<(), Error> {
    restore::wait().map_err(told)?;
    sweep(kernel, kinds, &|owner| owner.network() == network && !valid.contains(&owner))
}

/// GC: removes the wires of this network's attachments that are not in `valid`, and everything that those own beside them;
/// restores what living Pods have lost; does `more`, for what a plugin shares between attachments; then lets IPAM collect.
/// All that can be done is done; the errors are reported together.
pub fn gc(
    request: &Request,
    valid: &[AttachmentId],
    wire: &dyn Wire,
    more: &dyn Fn(&Kernel) -> Result<(), Error>,
) -> Result<(), Error> {
    let network = names::network(request);
    let valid = owners(request, valid);
    let mut errors = Vec::new();
    match Kernel::open().map_err(told) {
        Ok(kernel) => {
            errors.extend(wire.sweep(&kernel, network, &valid).into_iter().map(told));
            errors.extend(sweep_stale(&kernel, &KINDS, network, &valid).err());
            errors.extend(restore_living(&kernel).err());
            errors.extend(more(&kernel).err());
        }
        Err(error) => errors.push(error),
    }
    errors.extend(ipam::pass_on(request, Command::Gc).err());
    Error::all(errors)
}

fn restore_living(kernel: &Kernel) -> Result<(), Error> {
    restore::and_log(kernel).map_err(told)
}
