//! `model-ipam`: a file for each address, in /var/lib/model/NETWORK.

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use libcni::ipnetwork::{IpNetwork, Ipv4Network};
use libcni::{
    About, Attachment, AttachmentId, CniResult, Configuration, Error, Interface, IpConfig, Kind, Plugin, Request,
    Route, code,
};

use crate::tools::{fault, owner, text_at};

pub struct Model;

#[derive(Configuration)]
pub struct Config {
    #[key(name = "ipam.subnet")]
    subnet: Option<IpNetwork>,
}

impl Config {
    fn subnet(&self) -> Result<Ipv4Network, Error> {
        match self.subnet {
            Some(IpNetwork::V4(subnet)) => Ok(subnet),
            Some(other) => Err(Error::config("ipam.subnet", other, "not of IPv4")),
            None => Err(Error::config("ipam.subnet", "missing", "it is needed")),
        }
    }
}

impl Plugin for Model {
    type Config = Config;
    const ABOUT: About = About { name: "model-ipam", version: "1", summary: "addresses", example: "{}" };
    const KIND: Kind = Kind::Ipam;

    fn validate(_: &Request, config: &Config) -> Result<(), Error> {
        config.subnet().map(drop)
    }

    fn add(request: &Request, config: Config, _: &Attachment) -> Result<CniResult, Error> {
        let owner = text(request);
        let directory = store(request);
        fs::create_dir_all(&directory).map_err(|error| Error::io(directory.display(), error))?;
        let asked_range =
            text_at(request, "/runtimeConfig/ipRanges/0/0/subnet").filter(|_| !fault("ignores-ip-ranges"));
        let subnet = match asked_range {
            Some(text) => text.parse().map_err(|error| Error::config("runtimeConfig.ipRanges", text, error))?,
            None => config.subnet()?,
        };
        let asked = asked(request);
        for address in free(subnet).filter(|address| asked.is_none_or(|asked| asked == *address)) {
            let path = directory.join(address.to_string());
            if taken(&path, &owner)? {
                continue;
            }
            let gateway = subnet.nth(1).map(std::net::IpAddr::V4);
            let network = Ipv4Network::new(address, subnet.prefix())
                .map_err(|error| Error::config("ipam.subnet", subnet, error))?;
            let listed = fault("lists-interfaces");
            let ip = IpConfig { address: network.into(), gateway, interface: listed.then_some(0) };
            let interfaces = listed.then(|| Interface { name: "eth0".to_owned(), ..Interface::default() });
            let all = "0.0.0.0/0".parse().map_err(|error| Error::config("ipam", "route", error))?;
            return Ok(CniResult {
                interfaces: interfaces.into_iter().collect(),
                ips: if fault("no-address") { Vec::new() } else { vec![ip] },
                routes: vec![Route::new(all, None)],
                ..CniResult::default()
            });
        }
        Err(Error::new(code::NO_FREE_ADDRESS, "no free address", subnet.to_string()))
    }

    fn check(request: &Request, _: Config, _: &Attachment) -> Result<(), Error> {
        let owner = text(request);
        match reservations(request)?.iter().any(|(_, held)| *held == owner) || fault("check-always-true") {
            true => Ok(()),
            false => Err(Error::check(format!("no address is reserved for {owner}"))),
        }
    }

    fn del(request: &Request, _: &Attachment) -> Result<(), Error> {
        if fault("never-releases") {
            return Ok(());
        }
        let owner = text(request);
        for (path, _) in reservations(request)?.into_iter().filter(|(_, held)| *held == owner) {
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    fn gc(request: &Request, valid: &[AttachmentId]) -> Result<(), Error> {
        let keeps = |held: &str| {
            valid.iter().any(|id| held == format!("{} {}", id.container_id, id.ifname) || held == id.container_id)
        };
        for (path, _) in
            reservations(request)?.into_iter().filter(|(_, held)| !keeps(held) && !fault("gc-does-nothing"))
        {
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    fn status(request: &Request, config: Config) -> Result<(), Error> {
        let subnet = config.subnet()?;
        let all = free(subnet).count();
        match reservations(request)?.len() < all || fault("status-always-ok") {
            true => Ok(()),
            false if fault("status-has-another-code") => Err(Error::new(100, "full", "")),
            false => Err(Error::new(code::UNAVAILABLE, "no free address", subnet.to_string())),
        }
    }
}

fn store(request: &Request) -> PathBuf {
    PathBuf::from("/var/lib/model").join(&request.config.name)
}

/// Who holds an address.
fn text(request: &Request) -> String {
    let (_, container, ifname) = owner(request);
    if fault("by-container") { container } else { format!("{container} {ifname}") }
}

/// From the third on: network and gateway come first, the broadcast address last.
fn free(subnet: Ipv4Network) -> impl Iterator<Item = std::net::Ipv4Addr> {
    let all = subnet.size();
    (2..all - 1).filter_map(move |number| subnet.nth(number))
}

/// The address that the runtime asks for: as a capability, in `args`, in CNI_ARGS.
fn asked(request: &Request) -> Option<std::net::Ipv4Addr> {
    let args = std::env::var("CNI_ARGS").unwrap_or_default();
    let pair = args.split(';').find_map(|pair| pair.strip_prefix("IP=")).map(str::to_owned);
    let asked = text_at(request, "/runtimeConfig/ips/0")
        .filter(|_| !fault("ignores-ips"))
        .or_else(|| text_at(request, "/args/cni/ips/0").filter(|_| !fault("ignores-args-ips")))
        .or_else(|| pair.filter(|_| !fault("ignores-args-ip")))?;
    asked.split('/').next()?.parse().ok()
}

/// Is it somebody else's? If not, it is now ours.
fn taken(path: &std::path::Path, owner: &str) -> Result<bool, Error> {
    if fault("races") {
        let taken = path.exists();
        std::thread::sleep(std::time::Duration::from_millis(20));
        return if taken {
            Ok(true)
        } else {
            fs::write(path, owner).map(|()| false).map_err(|error| Error::io(path.display(), error))
        };
    }
    if fault("same-for-all") {
        return fs::write(path, owner).map(|()| false).map_err(|error| Error::io(path.display(), error));
    }
    match fs::File::create_new(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(true),
        Err(error) => Err(Error::io(path.display(), error)),
        Ok(mut file) => {
            file.write_all(owner.as_bytes()).map(|()| false).map_err(|error| Error::io(path.display(), error))
        }
    }
}

fn reservations(request: &Request) -> Result<Vec<(PathBuf, String)>, Error> {
    let entries = fs::read_dir(store(request)).into_iter().flatten().flatten();
    Ok(entries.map(|entry| (entry.path(), fs::read_to_string(entry.path()).unwrap_or_default())).collect())
}
