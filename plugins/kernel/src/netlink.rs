//! Messages to the kernel and their answers.
//!
//! One [`Socket`] speaks one netlink protocol (routing or netfilter) in one namespace. rtnetlink builds the messages; they
//! are sent and answered here, without its connection and the runtime under that: the kernel does what it is asked within
//! the system call that asks, so its answer is there when that returns, and a program that asks one thing after another
//! has nothing to wait for beside it. One message is two system calls, and nothing is set up before the first.
//!
//! Messages that do not depend on one another go out together with [`Socket::change_all`]. An answer counts only when
//! it is complete: every message asks for an acknowledgement, or is a dump, which has an end.

mod answer;

use std::cell::{Cell, RefCell};
use std::io;
use std::marker::PhantomData;
use std::time::Duration;

use netlink_packet_core::{DecodeError, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use netlink_sys::{Socket as Plain, SocketAddr};
use nix::errno::Errno;
use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::{ReceiveTimeout, SndBufForce};
use nix::sys::time::TimeVal;

pub(crate) use self::answer::Answers;
#[cfg(feature = "fuzzing")]
pub(crate) use self::answer::extended_words;
use self::answer::{HEADER, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN};
use crate::error::{Error, Result};
use crate::message::{Body, Message, Rtm};

/// The kernel answers at once; this long only where something is broken.
const PATIENCE: Duration = Duration::from_secs(10);

/// How many messages of [`Socket::change_all`] are under way at once: few enough for every answer to fit the
/// socket's receive buffer.
const WINDOW: usize = 64;

/// The longest answer: the kernel fills at most half of it with a dump's (net/netlink/af_netlink.c).
const LONGEST_ANSWER: usize = 64 << 10;

/// A transaction of nftables is one message: ten thousand subnets of each family fit, in bytes.
const LONGEST_TRANSACTION: usize = 8 << 20;

/// How often a dump is asked for again because something changed while the kernel was telling it.
const DUMPS: usize = 16;

/// A netlink socket in the namespace it was opened in.
#[derive(Debug)]
pub struct Socket<T> {
    plain: Plain,
    /// The last message's number. An answer bears the number of what it answers.
    sequence: Cell<u32>,
    answer: RefCell<Vec<u8>>,
    speaks: PhantomData<fn(T) -> T>,
}

/// Links, addresses, routes, neighbors, rules, traffic control.
pub type RouteSocket = Socket<Rtm>;
/// nftables.
pub type NetfilterSocket = Socket<NetfilterMessage>;

impl RouteSocket {
    /// Opens a routing socket in the namespace this thread is in.
    pub fn open() -> Result<Self> {
        Socket::connect(NETLINK_ROUTE)
    }
}

impl NetfilterSocket {
    /// Opens a netfilter socket in the namespace this thread is in. A kernel without nfnetlink says so here.
    pub fn open() -> Result<Self> {
        let socket = Socket::connect(NETLINK_NETFILTER).map_err(|error| match error {
            Error::Refused { errno: Errno::EPROTONOSUPPORT, .. } => Error::Lacks(
                "this kernel has no nfnetlink (module nfnetlink, CONFIG_NETFILTER_NETLINK): load or build it, or do \
                     without masquerade and without checks of source addresses"
                    .to_owned(),
            ),
            other => other,
        })?;
        let _ = setsockopt(&socket.plain, SndBufForce, &LONGEST_TRANSACTION);
        Ok(socket)
    }
}

impl<T: Message> Socket<T> {
    fn connect(protocol: isize) -> Result<Self> {
        let plain = connected(protocol).map_err(|error| Error::Refused {
            doing: "opening a netlink socket".to_owned(),
            errno: errno_of(&error),
            said: String::new(),
        })?;
        // Both only make answers better: the kernel's own words with an error, and dumps filtered by the kernel.
        let _ = plain.set_ext_ack(true);
        let _ = plain.set_netlink_get_strict_chk(true);
        Ok(Socket { plain, sequence: Cell::default(), answer: RefCell::default(), speaks: PhantomData })
    }

    /// Asks for something to be changed; the kernel has done it when this returns.
    pub fn change(&self, message: T, flags: u16, doing: &dyn Fn() -> String) -> Result<()> {
        self.ask(&message, NLM_F_ACK | flags, &mut ignore).map_err(|fault| fault.into_error(doing()))
    }

    /// Asks for one object; `None` if the kernel has no such thing.
    pub fn get<B: Body>(&self, message: T, doing: &dyn Fn() -> String) -> Result<Option<B>> {
        self.get_as(message, 0, &keep, doing)
    }

    /// Asks for one object with more `flags`, read by `read` from its kind and what is behind its header.
    pub fn get_as<R>(&self, message: T, flags: u16, read: &Reader<R>, doing: &dyn Fn() -> String) -> Result<Option<R>> {
        let mut objects = Vec::new();
        match self.ask(&message, NLM_F_ACK | flags, &mut |_, kind, bytes| read(kind, bytes, &mut objects)) {
            Ok(()) => Ok(objects.pop()),
            Err(Fault::Refused(Errno::ENODEV | Errno::ENOENT, _)) => Ok(None),
            Err(fault) => Err(fault.into_error(doing())),
        }
    }

    /// Asks for all objects that `message` selects.
    pub fn dump<B: Body>(&self, message: T, doing: &dyn Fn() -> String) -> Result<Vec<B>> {
        self.dump_as(message, &keep, doing)
    }

    /// Asks for all objects that `message` selects, each read by `read` from its kind and what is behind its header.
    pub fn dump_as<R>(&self, message: T, read: &Reader<R>, doing: &dyn Fn() -> String) -> Result<Vec<R>> {
        let mut objects = Vec::new();
        for _ in 0..DUMPS {
            objects.clear();
            match self.ask(&message, NLM_F_DUMP, &mut |_, kind, bytes| read(kind, bytes, &mut objects)) {
                Err(Fault::Interrupted) => {}
                done => return done.map(|()| objects).map_err(|fault| fault.into_error(doing())),
            }
        }
        // Where things come and go without a pause, this must do: what stands still is told every time.
        log::debug!("{}: it kept changing meanwhile", doing());
        Ok(objects)
    }

    /// Asks for one object with each message, read by `read` from what is behind its header: what the kernel answered to each.
    pub fn get_all<R>(
        &self,
        messages: &[T],
        read: impl Fn(&[u8]) -> Option<R>,
        doing: &dyn Fn(usize) -> String,
    ) -> Result<Vec<Result<Option<R>>>> {
        let mut all = Vec::with_capacity(messages.len());
        for some in messages.chunks(WINDOW) {
            let requests: Vec<_> = some.iter().map(|message| (message, NLM_F_ACK)).collect();
            let mut objects: Vec<Option<R>> = some.iter().map(|_| None).collect();
            let mut object = |place: usize, _, bytes: &[u8]| {
                objects[place] = read(bytes);
                Ok(())
            };
            let outcomes = self.exchange(&requests, &mut object);
            let outcomes = outcomes.map_err(|fault| fault.into_error(doing(all.len())))?;
            for (outcome, object) in outcomes.into_iter().zip(objects) {
                let answer = outcome.map(|()| object).map_err(|fault| fault.into_error(doing(all.len())));
                all.push(answer);
            }
        }
        Ok(all)
    }

    /// Changes that do not depend on one another, sent without waiting between them: what became of each.
    pub fn change_all(&self, changes: Vec<(T, u16)>, doing: &dyn Fn(usize) -> String) -> Result<Vec<Result<()>>> {
        let mut all = Vec::with_capacity(changes.len());
        for some in changes.chunks(WINDOW) {
            let requests: Vec<_> = some.iter().map(|(message, flags)| (message, NLM_F_ACK | flags)).collect();
            let outcomes = self.exchange(&requests, &mut ignore);
            all.extend(outcomes.map_err(|fault| fault.into_error("changing many objects".to_owned()))?);
        }
        let all = all.into_iter().enumerate();
        Ok(all.map(|(index, outcome)| outcome.map_err(|fault| fault.into_error(doing(index)))).collect())
    }

    /// One datagram of several messages with their flags, of which those with NLM_F_ACK are answered: a transaction of
    /// nftables. The first refusal counts.
    pub fn transact(&self, messages: &[(T, u16)], doing: &dyn Fn() -> String) -> Result<()> {
        let requests: Vec<_> = messages.iter().map(|(message, flags)| (message, *flags)).collect();
        let done = self.exchange(&requests, &mut ignore).and_then(|outcomes| outcomes.into_iter().collect());
        done.map_err(|fault| fault.into_error(doing()))
    }

    fn ask(&self, message: &T, flags: u16, object: &mut Objects) -> Outcome {
        self.exchange(&[(message, flags)], object)?.into_iter().collect()
    }

    /// Sends messages with their flags in one datagram, and reads until each that is to be answered has been. Objects
    /// are given to `object` as they come; what became of each message is returned.
    fn exchange(&self, requests: &[(&T, u16)], object: &mut Objects) -> std::result::Result<Vec<Outcome>, Fault> {
        let first = self.sequence.get().wrapping_add(1);
        self.sequence.set(self.sequence.get().wrapping_add(requests.len() as u32));
        again(|| self.plain.send(&datagram(requests, first), 0)).map_err(Fault::silence)?;

        let is_answered = |(_, flags): &(&T, u16)| flags & (NLM_F_ACK | NLM_F_DUMP) != 0;
        let mut outcomes: Vec<Option<Outcome>> =
            requests.iter().map(|request| if is_answered(request) { None } else { Some(Ok(())) }).collect();
        let mut answers = self.answer.borrow_mut();
        let mut is_interrupted = false;
        while outcomes.iter().any(Option::is_none) {
            self.receive(&mut answers)?;
            for answer in Answers(&answers) {
                // The rest of what an earlier request was told, if that was given up.
                let place = answer.sequence.wrapping_sub(first) as usize;
                let Some(outcome) = outcomes.get_mut(place) else { continue };
                is_interrupted |= answer.flags & NLM_F_DUMP_INTR != 0;
                match answer.kind {
                    NLMSG_NOOP => {}
                    NLMSG_ERROR | NLMSG_DONE => {
                        let done = answer.outcome();
                        // Refused though it asked for no answer: it frames the others, and they will not be answered.
                        match outcome {
                            Some(_) => done?,
                            None => *outcome = Some(done),
                        }
                    }
                    NLMSG_OVERRUN => return Err(Fault::silence("answers overflowed the socket")),
                    kind => object(place, kind, answer.payload).map_err(Fault::silence)?,
                }
            }
        }
        if is_interrupted { Err(Fault::Interrupted) } else { Ok(outcomes.into_iter().flatten().collect()) }
    }

    fn receive(&self, answer: &mut Vec<u8>) -> std::result::Result<(), Fault> {
        answer.clear();
        answer.reserve(LONGEST_ANSWER);
        match again(|| self.plain.recv(answer, 0)) {
            Ok(0) => Err(Fault::silence("an empty one")),
            Ok(_) => Ok(()),
            Err(error) => Err(match errno_of(&error) {
                Errno::EAGAIN => Fault::silence("it took too long"),
                Errno::ENOBUFS => Fault::silence("answers overflowed the socket"),
                _ => Fault::silence(error),
            }),
        }
    }
}

/// Reads an object's kind and what is behind its header, and appends what it found.
pub type Reader<'a, R> = dyn Fn(u16, &[u8], &mut Vec<R>) -> std::result::Result<(), DecodeError> + 'a;

/// What becomes of objects in an answer: to which of the requests, their kind, and what is behind their header.
type Objects<'a> = dyn FnMut(usize, u16, &[u8]) -> std::result::Result<(), DecodeError> + 'a;

fn ignore(_place: usize, _kind: u16, _bytes: &[u8]) -> std::result::Result<(), DecodeError> {
    Ok(())
}

fn keep<B: Body>(kind: u16, bytes: &[u8], objects: &mut Vec<B>) -> std::result::Result<(), DecodeError> {
    objects.push(B::read(kind, bytes)?);
    Ok(())
}

/// A socket that nobody but the kernel (port 0) can send to.
fn connected(protocol: isize) -> io::Result<Plain> {
    let plain = Plain::new(protocol)?;
    plain.connect(&SocketAddr::new(0, 0))?;
    setsockopt(&plain, ReceiveTimeout, &TimeVal::new(PATIENCE.as_secs() as i64, 0))?;
    Ok(plain)
}

fn again<R>(mut call: impl FnMut() -> io::Result<R>) -> io::Result<R> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

fn errno_of(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or_default())
}

fn datagram<T: Message>(requests: &[(&T, u16)], first: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (sequence, (message, flags)) in (0..).map(|number| first.wrapping_add(number)).zip(requests) {
        let start = bytes.len();
        let length = HEADER + message.length();
        bytes.extend((length as u32).to_ne_bytes());
        bytes.extend(message.kind().to_ne_bytes());
        bytes.extend((NLM_F_REQUEST | flags).to_ne_bytes());
        bytes.extend(sequence.to_ne_bytes());
        bytes.extend([0; 4]);
        bytes.resize(start + length.next_multiple_of(4), 0);
        message.write(&mut bytes[start + HEADER..start + length]);
    }
    bytes
}

/// What became of a message.
pub(crate) type Outcome = std::result::Result<(), Fault>;

/// Why a request failed, before it is said what was being done.
#[derive(Debug)]
pub(crate) enum Fault {
    Refused(Errno, String),
    Silence(String),
    /// What was dumped changed meanwhile.
    Interrupted,
}

impl Fault {
    fn silence(why: impl ToString) -> Self {
        Fault::Silence(why.to_string())
    }

    fn into_error(self, doing: String) -> Error {
        match self {
            Fault::Refused(errno, said) => Error::Refused { doing, errno, said },
            Fault::Silence(why) => Error::NoAnswer { doing, why },
            Fault::Interrupted => Error::NoAnswer { doing, why: "it changed while it was being listed".to_owned() },
        }
    }
}
