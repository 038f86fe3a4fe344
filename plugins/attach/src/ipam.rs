//! Addresses from IPAM, given back if the attachment fails.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use libcni::delegate::{Delegate, Running};
use libcni::{CniResult, Command, Error, Request, code};

/// An attachment's IPAM; without an `ipam` section it is none, and gives no addresses.
#[derive(Debug)]
pub struct Ipam<'a>(Option<Delegate<'a>>);

/// IPAM that is looking for addresses. Dropped unanswered, it is waited for, and what it found is given back.
#[derive(Debug)]
#[must_use = "dropped, the addresses are given back: answer() has them"]
pub struct Asked<'a> {
    ipam: &'a Ipam<'a>,
    running: Option<Running<'a>>,
}

impl<'a> Ipam<'a> {
    /// Finds the request's. `pod_cidrs` are this node's in the network's node map, or none if that is not known: then
    /// IPAM has to look itself.
    pub fn of(request: &'a Request, pod_cidrs: &[IpNetwork]) -> Result<Self, Error> {
        let mut delegate = Delegate::ipam(request).transpose()?;
        if let (Some(delegate), false) = (&mut delegate, pod_cidrs.is_empty()) {
            let list: Vec<String> = pod_cidrs.iter().map(IpNetwork::to_string).collect();
            delegate.tell(nodes::POD_CIDRS, list.join(","));
        }
        Ok(Ipam(delegate))
    }

    /// Asks for addresses; what is done until [`Asked::answer`] is done beside it.
    pub fn ask(&'a self) -> Result<Asked<'a>, Error> {
        Ok(Asked { ipam: self, running: self.0.as_ref().map(Delegate::start_add).transpose()? })
    }

    /// Asks for addresses once more, after they were given back: IPAM that knows the variable [`nodes::AVOID`] gives none of `avoided`.
    pub fn ask_for_others(&self, avoided: &[IpAddr]) -> Result<CniResult, Error> {
        let Some(delegate) = &self.0 else { return Ok(CniResult::default()) };
        let mut delegate = delegate.clone();
        let list: Vec<String> = avoided.iter().map(IpAddr::to_string).collect();
        delegate.tell(nodes::AVOID, list.join(","));
        self.some(delegate.add()?)
    }

    /// The answer, if it has an address.
    fn some(&self, answer: CniResult) -> Result<CniResult, Error> {
        match answer.ips.is_empty() {
            true => {
                self.give_back();
                Err(Error::new(code::PLUGIN_FAILED, "delegate failed", "IPAM gave no address"))
            }
            false => Ok(answer),
        }
    }

    /// Gives the addresses back.
    pub fn give_back(&self) {
        if let Some(delegate) = &self.0
            && let Err(error) = delegate.call(Command::Del)
        {
            log::error!("undoing: {error}");
        }
    }
}

impl Asked<'_> {
    /// Waits for the answer: empty without IPAM. IPAM that gives no address is an error.
    pub fn answer(self) -> Result<CniResult, Error> {
        let Some(running) = self.running else { return Ok(CniResult::default()) };
        self.ipam.some(running.finish_add()?)
    }
}

/// Passes a command on to IPAM, if there is any.
pub fn pass_on(request: &Request, command: Command) -> Result<(), Error> {
    match Delegate::ipam(request) {
        Some(delegate) => delegate?.call(command),
        None => Ok(()),
    }
}

/// STATUS of IPAM: whatever is wrong with it, no ADD can be served (code 50, unless it says 51 itself).
pub fn status(request: &Request) -> Result<(), Error> {
    pass_on(request, Command::Status).map_err(unavailable)
}

/// An error as STATUS reports it.
pub fn unavailable(error: Error) -> Error {
    match error.code {
        code::UNAVAILABLE | code::UNAVAILABLE_AND_LIMITED => error,
        _ => Error::new(code::UNAVAILABLE, "not available", format!("{}: {}", error.msg, error.details)),
    }
}
