//! DEL and GC: everything an attachment owns is found by its names, whatever the configuration has become.
//!
//! First the wire, then its address: an address must not be given to another while a wire still carries it. What can't
//! be removed keeps its address too, and the error makes the runtime call again.

use std::collections::HashSet;

use dataplane::addresscheck::{self, AddressCheck};
use dataplane::masquerade::Masquerade;
use dataplane::owner::{Label, NetworkTag};
use dataplane::sourcecheck::SourceCheck;
use dataplane::spoofcheck::SpoofCheck;
use dataplane::{At, Kernel, Object, Owner, link, masquerade, reference, restore, sourcecheck, spoofcheck};
use libcni::{Attachment, AttachmentId, Command, Error, Request, code};

use crate::error::told;
use crate::ipam;
use crate::wire::owner;

/// DEL.
pub fn del(request: &Request, attachment: &Attachment) -> Result<(), Error> {
    remove_wire(request, attachment)?;
    ipam::pass_on(request, Command::Del)
}

/// Removes the attachment's veth pair and what nftables holds for it.
pub fn remove_wire(request: &Request, attachment: &Attachment) -> Result<(), Error> {
    let mut kernel = Kernel::open().map_err(told)?;
    let owner = owner(request, &attachment.id);
    let host = link::get(&kernel, At::Host, &owner.host_end()).map_err(told)?;
    let label = host.as_ref().and_then(|link| Label::parse(&link.alias));
    let is_unlabelled = host.as_ref().is_some_and(|link| link.alias.is_empty());
    match label.filter(|label| label.owner == owner) {
        Some(label) => {
            // The kernel frees an element of nftables after a grace period, and whoever removed it waits for that when it
            // closes its socket. Removed before the wire, it is freed while the wire goes, which takes as long; a
            // dying Pod's last new connections may leave with its own address. Who checks what a Pod sends stays till
            // the wire is gone.
            let masquerade = Masquerade { owner, addresses: label.masquerade.clone(), inside: None };
            if let Err(error) = masquerade.remove(&kernel) {
                log::debug!("once more after the wire: {error}");
            }
            remove_link(&kernel, &owner.host_end())?;
            if !has_elements(&label) {
                return Ok(());
            }
            // Who restored the table meanwhile saw the wire, and has put the elements back.
            restore::wait().map_err(told)?;
            masquerade.remove(&kernel).map_err(told)?;
            if let Some(mac) = label.mac_check {
                SpoofCheck { owner, mac }.remove(&kernel).map_err(told)?;
            }
            if !label.address_check.is_empty() {
                AddressCheck { owner, addresses: label.address_check }.remove(&kernel).map_err(told)?;
            }
            if label.source_check {
                SourceCheck { owner }.remove(&kernel).map_err(told)?;
            }
            Ok(())
        }
        // Made by an ADD that was killed before it could say whose it is.
        None if is_unlabelled => remove_link(&kernel, &owner.host_end()),
        // The pair is gone, perhaps with the Pod's namespace; or the name is somebody else's.
        None => {
            remove_rules(&kernel, &|gone| gone == owner)?;
            let AttachmentId { container_id, ifname } = &attachment.id;
            let done = reference::remove_masquerade(&kernel, &request.config.name, container_id, ifname);
            nothing_where_lacking(done)?;
            remove_foreign_pair(&mut kernel, request, attachment)
        }
    }
}

/// Does nftables hold anything for it?
fn has_elements(label: &Label) -> bool {
    !label.masquerade.is_empty() || label.mac_check.is_some() || !label.address_check.is_empty() || label.source_check
}

/// After an ADD that ended with `error`: if the kernel did not answer, or refused in the middle, what was asked for may be
/// there all the same, and the sockets that undid the rest may be of no use any more. So what the attachment owns is looked
/// for anew.
pub fn undo_anew(request: &Request, attachment: &Attachment, error: Error) -> Error {
    if matches!(error.code, code::TRY_AGAIN_LATER | code::IO_FAILURE)
        && let Err(undoing) = remove_wire(request, attachment)
    {
        log::error!("undoing: {undoing}");
    }
    error
}

fn remove_link(kernel: &Kernel, name: &str) -> Result<(), Error> {
    link::remove(kernel, At::Host, name).map(drop).map_err(told)
}

/// DEL of a plugin that left the wire to another: only what nftables holds.
pub fn remove_rules_of(request: &Request, attachment: &Attachment) -> Result<(), Error> {
    let kernel = Kernel::open().map_err(told)?;
    let owner = owner(request, &attachment.id);
    masquerade::remove_all_of(&kernel, &|gone| gone == owner).map_err(told)
}

/// What nftables holds for attachments whose wires are gone.
fn remove_rules(kernel: &Kernel, is_gone: &dyn Fn(Owner) -> bool) -> Result<(), Error> {
    restore::wait().map_err(told)?;
    nothing_where_lacking(masquerade::remove_all_of(kernel, is_gone))?;
    nothing_where_lacking(spoofcheck::remove_all_of(kernel, is_gone))?;
    nothing_where_lacking(addresscheck::remove_all_of(kernel, is_gone))?;
    nothing_where_lacking(sourcecheck::remove_all_of(kernel, is_gone))
}

/// A kernel without nftables holds no rules: what ADD had to refuse there can be removed.
fn nothing_where_lacking(done: dataplane::Result<()>) -> Result<(), Error> {
    match done {
        Err(dataplane::Error::Lacks(_)) => Ok(()),
        other => other.map_err(told),
    }
}

/// A pair that another implementation made, before the plugins were replaced under a living Pod: removed if the
/// result of that ADD lists both its ends, and the node's end is labelled as nobody's.
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
            return remove_link(kernel, &host.name);
        }
    }
    Ok(())
}

/// GC: removes the wires and rules of this network's attachments that are not in `valid`, then lets IPAM do the same. All
/// that can be removed is; the errors are reported together.
pub fn gc(request: &Request, valid: &[AttachmentId]) -> Result<(), Error> {
    gc_and(request, valid, &|_| Ok(()))
}

/// [`gc`], and `more` for what a plugin shares between attachments.
pub fn gc_and(
    request: &Request,
    valid: &[AttachmentId],
    more: &dyn Fn(&Kernel) -> Result<(), Error>,
) -> Result<(), Error> {
    let network = NetworkTag::new(&request.config.name);
    let valid: HashSet<Owner> = valid.iter().map(|attachment| owner(request, attachment)).collect();
    let mut errors = Vec::new();
    match Kernel::open().map_err(told) {
        Ok(kernel) => {
            errors.extend(remove_stale_wires(&kernel, network, &valid));
            let is_gone = |owner: Owner| owner.network() == network && !valid.contains(&owner);
            errors.extend(remove_rules(&kernel, &is_gone).err());
            errors.extend(more(&kernel).err());
        }
        Err(error) => errors.push(error),
    }
    errors.extend(ipam::pass_on(request, Command::Gc).err());
    Error::all(errors)
}

fn remove_stale_wires(kernel: &Kernel, network: NetworkTag, valid: &HashSet<Owner>) -> Vec<Error> {
    let links = match link::all(kernel, At::Host) {
        Ok(links) => links,
        Err(error) => return vec![told(error)],
    };
    let valid_names: HashSet<String> = valid.iter().map(|owner| owner.host_end()).collect();
    let stale = links.into_iter().filter(|link| {
        let is_ours = match Label::parse(&link.alias) {
            Some(label) => label.owner.network() == network,
            None => link.alias.is_empty(),
        };
        link.kind == "veth" && network.could_own(&link.name) && is_ours && !valid_names.contains(&link.name)
    });
    link::remove_many(kernel, At::Host, &stale.collect::<Vec<_>>()).into_iter().map(told).collect()
}
