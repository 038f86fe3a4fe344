//! Traffic control: queueing disciplines, and filters that redirect.
//!
//! [`Tbf`] holds what a link sends to a rate. What a link receives can't be queued: [`Ingress`] gives it a place for filters,
//! a [`Redirect`] there hands every packet to an ifb device ([`crate::device::Kind::Ifb`]), and that has the queue.
//!
//! The options of a kind are written and read here byte by byte; the library has none for tbf, and of the others many more than
//! are wanted. (include/uapi/linux/rtnetlink.h, pkt_sched.h, pkt_cls.h; net/sched/.)

mod ingress;
mod redirect;
mod tbf;

use netlink_packet_core::{DecodeError, DefaultNla, Emitable, NLM_F_ECHO};
use nix::errno::Errno;
use rtnetlink::packet_route::tc::{TcAttribute, TcHandle, TcMessage};

pub use self::ingress::{Hooks, Ingress};
pub use self::redirect::Redirect;
pub use self::tbf::Tbf;
use crate::attribute::{each, number, text};
use crate::error::{Error, Result};
use crate::kernel::{At, Kernel};
use crate::message::Rtm;

/// struct tcmsg: family u8 and padding, link's index i32, handle u32, parent u32, info u32.
const HEADER: usize = 20;
/// TCA_OPTIONS of rtnetlink.h.
const OPTIONS: u16 = 2;

/// A queueing discipline or a filter, as the kernel tells it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Told {
    index: u32,
    handle: u32,
    /// Of a filter: its priority in the upper half, its protocol in the lower.
    info: u32,
    kind: String,
    options: Vec<u8>,
}

/// A message about the link with that index.
fn message(index: u32, handle: TcHandle, parent: TcHandle, kind: Option<&str>) -> TcMessage {
    let mut message = TcMessage::with_index(index as i32);
    message.header.handle = handle;
    message.header.parent = parent;
    message.attributes.extend(kind.map(|kind| TcAttribute::Kind(kind.to_owned())));
    message
}

fn options(attributes: &[DefaultNla]) -> TcAttribute {
    TcAttribute::Other(nest(OPTIONS, attributes))
}

/// An attribute of attributes.
fn nest(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
    let mut bytes = vec![0; attributes.buffer_len()];
    attributes.emit(&mut bytes);
    DefaultNla::new(kind, bytes)
}

/// Reads an answer; none if it is half of one.
pub(crate) fn read(bytes: &[u8]) -> Option<Told> {
    const TCA_KIND: u16 = 1;
    let one = |at: usize| number(bytes.get(at..)?);
    let mut told = Told { index: one(4)?, handle: one(8)?, info: one(16)?, ..Told::default() };
    for (kind, value) in each(bytes.get(HEADER..)?) {
        match kind {
            TCA_KIND => told.kind = text(value),
            OPTIONS => told.options = value.to_vec(),
            _ => {}
        }
    }
    Some(told)
}

fn read_all(_kind: u16, bytes: &[u8], all: &mut Vec<Told>) -> std::result::Result<(), DecodeError> {
    all.push(read(bytes).ok_or_else(|| DecodeError::from("half an answer of traffic control"))?);
    Ok(())
}

/// Reads an answer as everything that is looked for here, for the fuzzers.
#[cfg(feature = "fuzzing")]
pub(crate) fn look_into(told: &Told) {
    redirect::redirects_all(told);
    tbf::read(&told.options);
}

/// The queueing discipline at `parent` of a link; none if it has none there that a person gave it.
fn qdisc(kernel: &Kernel, at: At, link: &str, index: u32, parent: TcHandle) -> Result<Option<Told>> {
    // The answer goes to those who listen to all changes, and to who asks only with NLM_F_ECHO (qdisc_notify).
    let request = Rtm::get_qdisc(message(index, TcHandle::UNSPEC, parent, None));
    let doing = || format!("looking for the queueing discipline of interface {link:?} {}", at.words());
    match kernel.route(at).get_as(request, NLM_F_ECHO, &read_all, &doing) {
        // What the kernel itself gives a link has no handle, and some of that it does not tell of.
        Ok(found) => Ok(found.filter(|found| found.handle != 0)),
        Err(error) if error.is(Errno::EINVAL) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Removes the queueing discipline at `parent` of a link if it is of one of `kinds`.
fn remove_qdisc(kernel: &Kernel, at: At, link: &str, parent: TcHandle, kinds: &[&str]) -> Result<()> {
    let Some(index) = crate::link::get(kernel, at, link)?.map(|link| link.index) else { return Ok(()) };
    let found = qdisc(kernel, at, link, index, parent)?;
    let Some(found) = found.filter(|found| kinds.contains(&found.kind.as_str())) else { return Ok(()) };
    let request = Rtm::del_qdisc(message(index, found.handle.into(), parent, None));
    let doing = || format!("removing the {} of interface {link:?} {}", found.kind, at.words());
    match kernel.route(at).change(request, 0, &doing) {
        Err(error) if !(error.is(Errno::ENOENT) || error.is(Errno::EINVAL)) => Err(error),
        _ => Ok(()),
    }
}

/// Another program's queueing discipline is in the way.
fn in_the_way(at: At, link: &str, found: &Told, wanted: &str) -> Error {
    Error::NotOurs(format!(
        "interface {link:?} {} has the queueing discipline {} {:x}:, where {wanted} is to be; remove it (tc qdisc del)",
        at.words(),
        found.kind,
        found.handle >> 16
    ))
}

/// A kernel without a kind says ENOENT, and which one where it has words.
fn explain(error: Error, lacking: &str) -> Error {
    match error {
        Error::Refused { doing, errno: Errno::ENOENT | Errno::EOPNOTSUPP, said } => {
            let said = if said.is_empty() { said } else { format!(" ({said})") };
            Error::Lacks(format!("{doing}: this kernel lacks {lacking}{said}"))
        }
        other => other,
    }
}
