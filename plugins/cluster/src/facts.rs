//! What the machine has: its links and addresses, gathered before anything is changed.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::link::Link;
use kernel::{At, Kernel, Result, address, link};

/// The node's links and addresses.
#[derive(Debug)]
pub struct Facts {
    links: HashMap<u32, Link>,
    addresses: Vec<(u32, IpNetwork)>,
}

impl Facts {
    /// Asks the kernel for them.
    pub fn gather(kernel: &Kernel) -> Result<Self> {
        let links = link::all(kernel, At::Host)?.into_iter().map(|link| (link.index, link)).collect();
        Ok(Facts { links, addresses: address::all(kernel, At::Host)? })
    }

    /// The machine's addresses.
    pub fn machine(&self) -> Vec<IpAddr> {
        self.addresses.iter().map(|(_, address)| address.ip()).filter(|ip| !ip.is_loopback()).collect()
    }

    /// The link on which `ip` can be reached without a router.
    pub fn on_link(&self, ip: IpAddr) -> Option<u32> {
        let subnets = self.addresses.iter().filter(|(_, subnet)| subnet.contains(ip));
        subnets.max_by_key(|(_, subnet)| subnet.prefix()).map(|(link, _)| *link)
    }

    /// The link that has the address `ip`.
    pub fn with_address(&self, ip: IpAddr) -> Option<&Link> {
        let (link, _) = self.addresses.iter().find(|(_, address)| address.ip() == ip)?;
        self.links.get(link)
    }

    /// The link called `name`.
    pub fn named(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// The links with an address of IPv4 that are down: those of IPv6 go when a link is set down.
    pub fn down(&self) -> Vec<&str> {
        let down =
            self.links.values().filter(|link| !link.up && self.addresses.iter().any(|(at, _)| *at == link.index));
        down.map(|link| link.name.as_str()).collect()
    }

    /// Its addresses with their prefix lengths, for errors.
    pub fn subnets(&self) -> String {
        let subnets = self.addresses.iter().filter(|(_, address)| !address.ip().is_loopback());
        subnets.map(|(_, address)| address.to_string()).collect::<Vec<_>>().join(", ")
    }
}
