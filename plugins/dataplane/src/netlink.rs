//! Messages to the kernel and their answers.
//!
//! One [`Socket`] speaks one netlink protocol (routing or netfilter) in one namespace. It stands on rtnetlink's and
//! netlink-proto's connection, run on tokio's current-thread runtime, but waits for each answer: callers here are plain
//! functions that say one thing after another. Messages that do not depend on one another go out together with
//! [`Socket::change_all`].
//!
//! An answer counts only when it is complete. By default netlink-proto swallows acknowledgements and simply ends the
//! stream, so that a closed connection looks like success; here acknowledgements are forwarded and required. A
//! message that is an answer to nothing (the kernel refusing a whole batch, a receive buffer that overflowed) fails the
//! request under way.

use std::cell::RefCell;
use std::fmt::Debug;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use futures::channel::mpsc::UnboundedReceiver;
use futures::future::{Either, select};
use futures::stream::{self, Stream, StreamExt};
use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkDeserializable, NetlinkHeader, NetlinkMessage,
    NetlinkPayload, NetlinkSerializable, NlasIterator,
};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_proto::sys::{AsyncSocket, SocketAddr, TokioSocket};
use netlink_proto::{Connection, ConnectionHandle, NetlinkProtoError, ReplyExpectation};
use nix::errno::Errno;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::SndBufForce;
use rtnetlink::packet_route::RouteNetlinkMessage;
use tokio::runtime::Runtime;

use crate::error::{Error, Result};

/// The kernel answers at once; this long only where something is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many messages of [`Socket::change_all`] are under way at once: few enough for every answer to fit the
/// socket's receive buffer.
const WINDOW: usize = 64;

/// How many of them are waited for together.
const AT_ONCE: usize = 8 * WINDOW;

/// A netlink socket in the namespace it was opened in.
#[derive(Debug)]
pub struct Socket<T: Debug> {
    runtime: Rc<Runtime>,
    handle: ConnectionHandle<T>,
    unsolicited: RefCell<UnboundedReceiver<(NetlinkMessage<T>, SocketAddr)>>,
}

/// Messages go to the kernel, port 0, no groups.
fn kernel() -> SocketAddr {
    SocketAddr::new(0, 0)
}

/// Links, addresses, routes, neighbors.
pub type RouteSocket = Socket<RouteNetlinkMessage>;
/// nftables.
pub type NetfilterSocket = Socket<NetfilterMessage>;

/// NETLINK_ROUTE and NETLINK_NETFILTER of include/uapi/linux/netlink.h.
const NETLINK_ROUTE: isize = 0;
const NETLINK_NETFILTER: isize = 12;

/// A transaction of nftables is one message: ten thousand subnets of each family fit, in bytes.
const MAX_TRANSACTION: usize = 8 << 20;

/// The runtime that the sockets of one process share.
pub fn runtime() -> Result<Rc<Runtime>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
    runtime.map(Rc::new).map_err(|error| Fault::silence(error).into_error("starting the netlink runtime".to_owned()))
}

impl RouteSocket {
    /// Opens a routing socket in the namespace this thread is in.
    pub fn open(runtime: &Rc<Runtime>) -> Result<Self> {
        Socket::connect(runtime, NETLINK_ROUTE, 0)
    }
}

impl NetfilterSocket {
    /// Opens a netfilter socket in the namespace this thread is in. A kernel without nfnetlink says so here.
    pub fn open(runtime: &Rc<Runtime>) -> Result<Self> {
        Socket::connect(runtime, NETLINK_NETFILTER, MAX_TRANSACTION).map_err(|error| match error {
            Error::Refused { errno: Errno::EPROTONOSUPPORT, .. } => Error::Lacks(
                "this kernel has no nfnetlink (module nfnetlink, CONFIG_NETFILTER_NETLINK): load or build it, or do \
                     without masquerade and without checks of source addresses"
                    .to_owned(),
            ),
            other => other,
        })
    }
}

impl<T> Socket<T>
where
    T: Debug + Send + Unpin + Clone + NetlinkSerializable + NetlinkDeserializable + 'static,
{
    /// `longest` is the longest message that will be sent, in bytes, if it may be longer than what fits anyway.
    fn connect(runtime: &Rc<Runtime>, protocol: isize, longest: usize) -> Result<Self> {
        let failed = |error: std::io::Error| Error::Refused {
            doing: "opening a netlink socket".to_owned(),
            errno: Errno::from_raw(error.raw_os_error().unwrap_or_default()),
            said: String::new(),
        };
        let _context = runtime.enter();
        let (mut connection, handle, unsolicited): (Connection<T, TokioSocket>, _, _) =
            netlink_proto::new_connection_with_socket(protocol).map_err(failed)?;
        connection.set_forward_ack(true);
        connection.set_forward_done(true);
        let socket = connection.socket_mut().socket_mut();
        // Both only make answers better: the kernel's own words with an error, and dumps filtered by the kernel.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_netlink_get_strict_chk(true);
        if longest > 0 {
            let _ = setsockopt(socket, SndBufForce, &longest);
        }
        runtime.spawn(connection);
        Ok(Socket { runtime: Rc::clone(runtime), handle, unsolicited: RefCell::new(unsolicited) })
    }

    /// Asks for something to be changed; the kernel has done it when this returns.
    pub fn change(&self, message: T, flags: u16, doing: &dyn Fn() -> String) -> Result<()> {
        self.ask(with_flags(message, NLM_F_REQUEST | NLM_F_ACK | flags), doing).map(drop)
    }

    /// Asks for one object; `None` if the kernel has no such thing.
    pub fn get(&self, message: T, doing: &dyn Fn() -> String) -> Result<Option<T>> {
        match self.ask(with_flags(message, NLM_F_REQUEST | NLM_F_ACK), doing) {
            Ok(answers) => Ok(answers.into_iter().next()),
            Err(error) if error.is(Errno::ENODEV) || error.is(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Asks for all objects that `message` selects.
    pub fn dump(&self, message: T, doing: &dyn Fn() -> String) -> Result<Vec<T>> {
        self.ask(with_flags(message, NLM_F_REQUEST | NLM_F_DUMP), doing)
    }

    /// Changes that do not depend on one another, sent without waiting between them: what became of each.
    pub fn change_all(&self, changes: Vec<(T, u16)>, doing: &dyn Fn(usize) -> String) -> Result<Vec<Result<()>>> {
        let mut all = Vec::with_capacity(changes.len());
        let mut changes = changes.into_iter();
        // Patience is for one answer: a busy machine may well take longer for thousands.
        while changes.len() > 0 {
            let requests = changes.by_ref().take(AT_ONCE).map(|(message, flags)| async move {
                match self.send(with_flags(message, NLM_F_REQUEST | NLM_F_ACK | flags)) {
                    Ok(answers) => collect(answers, 1).await.map(drop),
                    Err(error) => Err(Fault::silence(error)),
                }
            });
            let done = stream::iter(requests).buffered(WINDOW).collect::<Vec<_>>();
            let done = self.wait(async { Ok(done.await) });
            all.extend(done.map_err(|fault| fault.into_error("changing many objects".into()))?);
        }
        let all = all.into_iter().enumerate();
        Ok(all.map(|(index, one)| one.map_err(|fault| fault.into_error(doing(index)))).collect())
    }

    /// One datagram of several messages, of which those with NLM_F_ACK are answered: a transaction of nftables.
    /// The objects that came with the answers are returned.
    pub fn transact(&self, messages: Vec<NetlinkMessage<T>>, doing: &dyn Fn() -> String) -> Result<Vec<T>> {
        let is_answered = |message: &NetlinkMessage<T>| message.header.flags & NLM_F_ACK != 0;
        let expected = messages.iter().filter(|message| is_answered(message)).count();
        let messages = messages.into_iter().map(|message| match is_answered(&message) {
            true => (message, ReplyExpectation::Expected),
            false => (message, ReplyExpectation::NotExpected),
        });
        let answers = self.handle.request_batch_with_expectation(messages, kernel());
        let done = answers.map_err(Fault::silence).and_then(|answers| self.wait(collect(answers, expected)));
        done.map_err(|fault| fault.into_error(doing()))
    }

    fn ask(&self, message: NetlinkMessage<T>, doing: &dyn Fn() -> String) -> Result<Vec<T>> {
        let answers = self.send(message).map_err(Fault::silence);
        let done = answers.and_then(|answers| self.wait(collect(answers, 1)));
        done.map_err(|fault| fault.into_error(doing()))
    }

    fn send(
        &self,
        message: NetlinkMessage<T>,
    ) -> std::result::Result<impl Stream<Item = NetlinkMessage<T>> + use<T>, NetlinkProtoError> {
        self.handle.request(message, kernel())
    }

    /// Runs `work` to its end, unless time runs out or the kernel says something that answers none of our messages.
    fn wait<R>(&self, work: impl Future<Output = std::result::Result<R, Fault>>) -> std::result::Result<R, Fault> {
        let mut unsolicited = self.unsolicited.borrow_mut();
        self.runtime.block_on(async {
            let work = pin!(work);
            match tokio::time::timeout(PATIENCE, select(work, unsolicited.next())).await {
                Err(_) => Err(Fault::silence("it took too long")),
                Ok(Either::Left((done, _))) => done,
                Ok(Either::Right((None, _))) => Err(Fault::silence("the socket was closed")),
                Ok(Either::Right((Some((stray, _)), _))) => Err(Fault::of_stray(&stray.payload)),
            }
        })
    }
}

/// Reads answers until `expected` messages have been answered. The first error counts; the rest is still read.
async fn collect<T>(
    mut answers: impl Stream<Item = NetlinkMessage<T>> + Unpin,
    expected: usize,
) -> std::result::Result<Vec<T>, Fault> {
    let mut objects = Vec::new();
    let mut first_fault = None;
    let mut complete = 0;
    while complete < expected {
        let Some(answer) = answers.next().await else { return Err(Fault::silence("the socket was closed")) };
        let fault = match answer.payload {
            NetlinkPayload::InnerMessage(object) => {
                objects.push(object);
                continue;
            }
            NetlinkPayload::Done(done) if done.code == 0 => None,
            NetlinkPayload::Done(done) => Some(Fault::refused(done.code, "")),
            NetlinkPayload::Error(error) => error.code.map(|_| Fault::of_error(&error)),
            _ => Some(Fault::silence("an answer of an unknown kind")),
        };
        complete += 1;
        first_fault = first_fault.or(fault);
    }
    first_fault.map_or(Ok(objects), Err)
}

fn with_flags<T>(message: T, flags: u16) -> NetlinkMessage<T> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message))
}

/// Why a request failed, before it is said what was being done.
enum Fault {
    Refused(Errno, String),
    Silence(String),
}

impl Fault {
    fn silence(why: impl ToString) -> Self {
        Fault::Silence(why.to_string())
    }

    fn refused(code: i32, said: &str) -> Self {
        Fault::Refused(Errno::from_raw(code.abs()), said.to_owned())
    }

    fn of_error(error: &ErrorMessage) -> Self {
        Fault::refused(error.raw_code(), &extended_words(&error.header).unwrap_or_default())
    }

    fn of_stray<T>(payload: &NetlinkPayload<T>) -> Self {
        match payload {
            NetlinkPayload::Error(error) if error.code.is_some() => Fault::of_error(error),
            NetlinkPayload::Overrun(_) => Fault::silence("answers overflowed the socket"),
            _ => Fault::silence("an answer to nothing that was asked"),
        }
    }

    fn into_error(self, doing: String) -> Error {
        match self {
            Fault::Refused(errno, said) => Error::Refused { doing, errno, said },
            Fault::Silence(why) => Error::NoAnswer { doing, why },
        }
    }
}

/// The kernel's own explanation (NLMSGERR_ATTR_MSG, include/uapi/linux/netlink.h) behind the refused message's
/// header: the message itself follows the header unless NLM_F_CAPPED says that it was left out.
fn extended_words(after_code: &[u8]) -> Option<String> {
    const NLM_F_CAPPED: u16 = 0x100;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    const HEADER: usize = 16;
    let length = u32::from_ne_bytes(after_code.get(0..4)?.try_into().ok()?) as usize;
    let flags = u16::from_ne_bytes(after_code.get(6..8)?.try_into().ok()?);
    let echoed = if flags & NLM_F_CAPPED != 0 { HEADER } else { length.next_multiple_of(4).max(HEADER) };
    NlasIterator::new(after_code.get(echoed..)?)
        .filter_map(|attribute| attribute.ok())
        .find(|attribute| attribute.kind() == NLMSGERR_ATTR_MSG)
        .map(|attribute| String::from_utf8_lossy(attribute.value()).trim_end_matches('\0').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_are_found_and_garbage_is_not_read() {
        let mut bytes = vec![0; 16];
        bytes[0] = 16;
        bytes.extend([8, 0, 1, 0, b'n', b'o', b'!', 0]);
        assert_eq!(extended_words(&bytes).as_deref(), Some("no!"));
        for end in 0..bytes.len() {
            let _ = extended_words(&bytes[..end]);
        }
        bytes[0..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(extended_words(&bytes), None);
    }
}
