//! `host-local`: the IPAM plugin that knows which Pod of this node owns which address.
//!
//! ADD reserves an address from each range set, DEL frees them, CHECK finds them, GC frees what no valid attachment
//! holds, STATUS says whether an ADD would find an address. The store is shared with the Go program of the same name.
//!
//! * `config.rs`, `range.rs`, `resolv.rs`: what the configuration says, checked before anything is touched.
//! * `store.rs`: the verbs, under `lock.rs` and `guard.rs`.
//! * `reservation.rs`, `directory.rs`: an address file, and every access to files.
//! * `others.rs`, `avoid.rs`: addresses that are in use elsewhere.
//! * `index.rs`, `scan.rs`: what makes it fast, and what keeps that honest.
//!
//! A library, so that the fuzzers (conformance/fuzz) reach what decodes; `main.rs` calls [`main`].

use std::process::ExitCode;

use libcni::ipnetwork::IpNetwork;
use libcni::{About, Attachment, AttachmentId, CniResult, Error, IpConfig, Kind, Plugin, Request, code};

pub mod avoid;
pub mod config;
pub mod directory;
mod guard;
pub mod index;
mod lock;
mod others;
#[cfg(test)]
mod properties;
pub mod range;
pub mod reservation;
pub mod resolv;
pub mod scan;
pub mod store;

use config::{HostLocal, Settings, data_dir};
use reservation::Key;
use store::Store;

/// The plugin's `main`.
pub fn main() -> ExitCode {
    // Files are made with exactly the modes that the code says.
    nix::sys::stat::umask(nix::sys::stat::Mode::empty());
    libcni::plugin::main::<Ipam>()
}

struct Ipam;

impl Plugin for Ipam {
    type Config = HostLocal;

    const ABOUT: About = About {
        name: "host-local",
        version: env!("CARGO_PKG_VERSION"),
        summary: "gives each Pod its own addresses from ranges, and keeps them on the node's disk",
        example: r#"{
  "cniVersion": "1.1.0", "name": "pods", "type": "bridge",
  "ipam": {
    "type": "host-local",
    "ranges": [
      [{ "subnet": "10.22.0.0/16", "rangeStart": "10.22.1.10", "rangeEnd": "10.22.3.250", "gateway": "10.22.0.1" }],
      [{ "subnet": "fd00:22::/64" }]
    ],
    "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
    "dataDir": "/var/lib/cni/networks"
  }
}"#,
    };

    const KIND: Kind = Kind::Ipam;
    const COMMIT: Option<&str> = libcni::COMMIT;

    fn add(request: &Request, config: HostLocal, attachment: &Attachment) -> Result<CniResult, Error> {
        let settings = Settings::resolve(request, &config)?;
        let dns = settings.resolv_conf.as_deref().map(resolv::read).transpose()?.unwrap_or_default();
        let avoided = avoid::from_environment()?;
        let mut store = Store::create(&settings.data_dir, &request.config.name)?;
        store.avoid(avoided);
        let addresses = store.reserve(&Key::new(&attachment.id), &settings.sets, &settings.requested)?;
        let ips = settings.sets.iter().zip(addresses).map(|(set, address)| {
            let range = set.range_of(address).expect("reserved from this set");
            let address = IpNetwork::new(address, range.subnet.prefix()).expect("a subnet's own prefix length");
            IpConfig { address, gateway: Some(range.gateway), interface: None }
        });
        Ok(CniResult { ips: ips.collect(), routes: settings.routes, dns, ..CniResult::default() })
    }

    fn check(request: &Request, config: HostLocal, attachment: &Attachment) -> Result<(), Error> {
        let settings = Settings::resolve(request, &config)?;
        let previous = request.config.prev_result()?.unwrap_or_default();
        let held = match Store::open(&settings.data_dir, &request.config.name)? {
            Some(mut store) => store.held(&Key::new(&attachment.id))?,
            None => Vec::new(),
        };
        let network = &request.config.name;
        if held.is_empty() {
            return Err(Error::check(format!("{} holds no address of network {network}", attachment.id)));
        }
        let ours = previous.ips.iter().map(|ip| ip.address.ip());
        let ours = ours.filter(|address| settings.sets.iter().any(|set| set.range_of(*address).is_some()));
        let missing: Vec<String> =
            ours.filter(|address| !held.contains(address)).map(|address| address.to_string()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let missing = missing.join(", ");
        Err(Error::check(format!("{missing} of network {network} is not reserved for {}", attachment.id)))
    }

    fn del(request: &Request, attachment: &Attachment) -> Result<(), Error> {
        match Store::open(&data_dir(request), &request.config.name)? {
            Some(mut store) => store.release(&Key::new(&attachment.id)),
            None => Ok(()),
        }
    }

    fn gc(request: &Request, valid: &[AttachmentId]) -> Result<(), Error> {
        match Store::open(&data_dir(request), &request.config.name)? {
            Some(mut store) => store.collect(&valid.iter().map(Key::new).collect::<Vec<_>>()),
            None => Ok(()),
        }
    }

    fn status(request: &Request, config: HostLocal) -> Result<(), Error> {
        let settings = Settings::resolve(request, &config)?;
        let unavailable = |details: String| Error::new(code::UNAVAILABLE, "no address can be given", details);
        let unusable = |error: Error| unavailable(error.to_string());
        let mut store = Store::create(&settings.data_dir, &request.config.name).map_err(unusable)?;
        for (number, set) in settings.sets.iter().enumerate() {
            if !store.has_free(number, &settings.sets).map_err(unusable)? {
                return Err(unavailable(format!(
                    "range set {number} ({set}) of network {} is full",
                    request.config.name
                )));
            }
        }
        Ok(())
    }
}
