//! Addresses from IPAM, given back if the attachment fails.

use ipnetwork::IpNetwork;
use libcni::delegate::Delegate;
use libcni::{CniResult, Command, Error, Request, code};

/// Addresses that IPAM gave and that somebody has to give back.
#[derive(Debug)]
pub struct Lease<'a> {
    delegate: Option<Delegate<'a>>,
    /// What IPAM answered; empty without IPAM.
    pub result: CniResult,
}

impl<'a> Lease<'a> {
    /// Asks IPAM for addresses; without an `ipam` section there are none. IPAM that gives none is an error. `pod_cidrs` are
    /// this node's in the network's node map, or none if that is not known: then IPAM has to look itself.
    pub fn take(request: &'a Request, pod_cidrs: &[IpNetwork]) -> Result<Self, Error> {
        let Some(mut delegate) = Delegate::ipam(request).transpose()? else {
            return Ok(Lease { delegate: None, result: CniResult::default() });
        };
        if !pod_cidrs.is_empty() {
            let list: Vec<String> = pod_cidrs.iter().map(IpNetwork::to_string).collect();
            delegate.tell(nodes::POD_CIDRS, list.join(","));
        }
        let result = delegate.add()?;
        let lease = Lease { delegate: Some(delegate), result };
        if lease.result.ips.is_empty() {
            let error = Error::new(code::PLUGIN_FAILED, "delegate failed", "IPAM gave no address");
            return Err(lease.give_back(error));
        }
        Ok(lease)
    }

    /// Gives the addresses back because of `error`, which is returned.
    pub fn give_back(&self, error: Error) -> Error {
        if let Some(delegate) = &self.delegate
            && let Err(undoing) = delegate.call(Command::Del)
        {
            log::error!("undoing: {undoing}");
        }
        error
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
