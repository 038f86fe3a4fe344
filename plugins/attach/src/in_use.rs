//! An address that is in use elsewhere on this node is not given to a Pod.
//!
//! IPAM knows what it gave itself. It does not know of the Pods of another program that gives addresses of the same
//! subnet: of a network that the node had before, or of a second one by mistake. The node knows them: its routes lead to
//! them, or its neighbor entries have their hardware addresses. So the driver asks the kernel where packets to each address
//! would go. If that is to another place, IPAM takes the address back and is asked for the next one.

use std::net::IpAddr;

use kernel::fib::{self, Action, Hop};
use kernel::link::{self, Link};
use kernel::{At, Kernel, Result as KernelResult, neighbor};
use libcni::{CniResult, Error, code};

use crate::error::told;
use crate::ipam::Ipam;
use crate::label::Label;

/// IPAM is asked so many times; each time it is told of the addresses that it must not give.
const MOST: usize = 16;

/// IPAM's `answer`, if none of its addresses is in use elsewhere, or a later answer of which that holds. `own` are the
/// links on which the network's Pods are.
///
/// Code 11 if there is none. The addresses of the last answer are IPAM's again or the caller's to give back.
pub fn unused(kernel: &Kernel, ipam: &Ipam<'_>, answer: CniResult, own: &[String]) -> Result<CniResult, Error> {
    let mut answer = answer;
    let mut avoided: Vec<IpAddr> = Vec::new();
    loop {
        let uses = uses(kernel, &answer, own).map_err(told)?;
        let Some((ip, place)) = uses.first() else { return Ok(answer) };
        if avoided.len() >= MOST || avoided.contains(ip) {
            let details = format!("IPAM gave {ip}, which is in use already: {place}");
            return Err(Error::new(code::TRY_AGAIN_LATER, "try again later", details));
        }
        uses.iter()
            .for_each(|(ip, place)| log::warn!("{ip} is in use already: {place}; asking IPAM for another address"));
        avoided.extend(uses.iter().map(|(ip, _)| *ip));
        ipam.give_back();
        answer = ipam.ask_for_others(&avoided)?;
    }
}

/// The addresses in use elsewhere, each with the place in words.
fn uses(kernel: &Kernel, answer: &CniResult, own: &[String]) -> KernelResult<Vec<(IpAddr, String)>> {
    let mut uses = Vec::new();
    for ip in answer.ips.iter().map(|ip| ip.address.ip()) {
        if let Some(place) = place(kernel, ip, own)? {
            uses.push((ip, place));
        }
    }
    Ok(uses)
}

/// Where else on this node an address is in use, in words.
fn place(kernel: &Kernel, ip: IpAddr, own: &[String]) -> KernelResult<Option<String>> {
    let Some(route) = fib::lookup(kernel, ip)? else { return Ok(None) };
    let is_alone = route.dst == ip.into();
    let index = match (route.action, &*route.hops) {
        (Action::Local, _) => return Ok(Some("it is an address of this node".to_owned())),
        (Action::Forward, [Hop { link: Some(index), .. }]) if is_alone => *index,
        (Action::Forward, [Hop { link: Some(index), gateway: None }]) if route.dst.prefix() > 0 => *index,
        _ => return Ok(None),
    };
    for name in own {
        if link::index_if_there(kernel, At::Host, name)? == Some(index) {
            return Ok(None);
        }
    }
    if is_alone {
        return Ok(link::with_index(kernel, At::Host, index)?.map(|link| holder(&link)));
    }
    let Some(mac) = neighbor::known(kernel, At::Host, index, ip)? else { return Ok(None) };
    let words = |link: Link| format!("interface {:?} of this node has a neighbor with it, {mac}", link.name);
    Ok(link::with_index(kernel, At::Host, index)?.map(words))
}

fn holder(link: &Link) -> String {
    match Label::of(link) {
        Some(label) => format!("the living Pod {} has it (interface {:?} on the node)", label.words, link.name),
        None => format!("a route of this node leads to it alone, by interface {:?}", link.name),
    }
}
