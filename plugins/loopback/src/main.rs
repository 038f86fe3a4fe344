//! `loopback`: brings up the Pod's `lo`.
//!
//! The kernel makes `lo` with its namespace and gives it 127.0.0.1 and ::1 when it goes up; there is nothing else to do.
//! CNI_IFNAME does not matter: `lo` has one name.

use std::process::ExitCode;

use attach::told;
use kernel::link::{self, Link, Up};
use kernel::{At, Kernel, Plan, address};
use libcni::{
    About, Attachment, AttachmentId, CniResult, Configuration, Error, Interface, IpConfig, Kind, Plugin, Request, code,
};

const LO: &str = "lo";

struct Loopback;

/// There is nothing to configure.
#[derive(Configuration)]
struct Config {}

fn main() -> ExitCode {
    libcni::plugin::main::<Loopback>()
}

impl Plugin for Loopback {
    type Config = Config;

    const ABOUT: About = About {
        name: "loopback",
        version: env!("CARGO_PKG_VERSION"),
        summary: "brings the Pod's lo up",
        example: r#"{ "cniVersion": "1.0.0", "name": "lo", "plugins": [{ "type": "loopback" }] }"#,
    };
    const KIND: Kind = Kind::Interface;
    const COMMIT: Option<&str> = libcni::COMMIT;
    const KEYS_OF_OTHERS: &'static [(&'static str, &'static str)] = attach::suite::KEYS;

    fn add(request: &Request, _config: Config, attachment: &Attachment) -> Result<CniResult, Error> {
        let previous = request.config.prev_result()?;
        let kernel = in_pod(attachment)?;
        let lo = link::expect(&kernel, At::Pod, LO).map_err(told)?;
        let was_up = lo.up;
        let done = plan().add(&kernel).and_then(|_| match previous {
            Some(previous) => Ok(previous),
            None => describe(&kernel, attachment, lo),
        });
        done.map_err(told).inspect_err(|_| {
            if !was_up {
                down_again(attachment);
            }
        })
    }

    fn check(_request: &Request, _config: Config, attachment: &Attachment) -> Result<(), Error> {
        let kernel = in_pod(attachment)?;
        plan().check(&kernel).map_err(told)?;
        let index = link::index(&kernel, At::Pod, LO).map_err(told)?;
        match address::on(&kernel, At::Pod, index).map_err(told)? {
            none if none.is_empty() => {
                Err(Error::new(code::CHECK_FAILED, "check failed", "interface \"lo\" has no address"))
            }
            _ => Ok(()),
        }
    }

    fn del(request: &Request, attachment: &Attachment) -> Result<(), Error> {
        match request.usable_netns(attachment)? {
            Some(_) => Error::all(plan().remove(&in_pod(attachment)?).into_iter().map(told).collect()),
            None => Ok(()),
        }
    }

    fn gc(_request: &Request, _valid: &[AttachmentId]) -> Result<(), Error> {
        // lo goes with its namespace.
        Ok(())
    }

    fn status(_request: &Request, _config: Config) -> Result<(), Error> {
        Ok(())
    }
}

fn plan() -> Plan {
    let mut plan = Plan::default();
    plan.owned(Up { at: At::Pod, name: LO.to_owned() });
    plan
}

fn in_pod(attachment: &Attachment) -> Result<Kernel, Error> {
    let mut kernel = Kernel::open().map_err(told)?;
    kernel.enter_pod(attachment.netns()?).map_err(told)?;
    Ok(kernel)
}

/// Undoes an ADD that failed, on a socket of its own: the other one may be why it failed.
fn down_again(attachment: &Attachment) {
    match in_pod(attachment) {
        Ok(kernel) => plan().undo(&kernel),
        Err(error) => log::error!("undoing: {error}"),
    }
}

fn describe(kernel: &Kernel, attachment: &Attachment, lo: Link) -> Result<CniResult, kernel::Error> {
    let ips = address::on(kernel, At::Pod, lo.index)?;
    let interface = Interface {
        name: lo.name,
        mac: lo.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: Some(lo.mtu),
        sandbox: attachment.sandbox(),
        ..Interface::default()
    };
    let ips = ips.into_iter().map(|address| IpConfig { address, gateway: None, interface: Some(0) });
    Ok(CniResult { interfaces: vec![interface], ips: ips.collect(), ..CniResult::default() })
}
