//! A veth pair: one end on the node, the other in the Pod.
//!
//! One message makes the pair, names both ends, gives them their addresses, puts one end into the Pod's namespace, makes
//! the other a port of the bridge and ups it. A second one, to the node's end, sets what the kernel does not take at
//! birth: the alias, a bridge port's flags, and that a port needs no IPv6 address of its own. The Pod's end is upped later, from inside, when its settings and addresses stand.

use std::os::fd::AsRawFd;

use crate::message::Rtm;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridgePort, InfoData, InfoPortData, InfoPortKind, InfoVeth,
    LinkAttribute,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use crate::error::{Error, Result};
use crate::kernel::{At, Kernel, changed};
use crate::link::{self, Link, forwarding};
use crate::mac::Mac;
use crate::plan::{Made, Object};

/// A veth pair. Owned by one attachment.
#[derive(Clone, Debug)]
pub struct Veth {
    /// The node's end.
    pub host: End,
    /// The Pod's end.
    pub pod: End,
    /// MTU of both ends, in bytes; the kernel's default if `None`.
    pub mtu: Option<u32>,
    /// The bridge that the node's end is a port of.
    pub port: Option<Port>,
    /// Does the node forward IPv4 that comes in by its end? For a pair that is no port of a bridge.
    pub forwards: bool,
    /// The alias of the node's end: what the caller wants to find there later.
    pub alias: String,
}

/// One end.
#[derive(Clone, Debug)]
pub struct End {
    /// Interface name.
    pub name: String,
    /// Hardware address. Not checked: a later plugin may have set another.
    pub mac: Mac,
}

/// The node's end as a port of a bridge.
#[derive(Clone, Debug)]
pub struct Port {
    /// The bridge's name.
    pub bridge: String,
    /// May frames leave where they came in?
    pub hairpin: bool,
    /// Cut off from other isolated ports?
    pub isolated: bool,
}

impl Object for Veth {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        self.create(kernel)?;
        // From here on the pair is there: undo it ourselves, the plan only knows what was finished.
        match self.describe(kernel) {
            Ok(()) => Ok(Made::New),
            Err(error) => {
                if let Err(error) = link::remove(kernel, At::Host, &self.host.name) {
                    log::error!("undoing: {error}");
                }
                Err(error)
            }
        }
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        let host = link::expect(kernel, At::Host, &self.host.name)?;
        let pod = link::expect(kernel, At::Pod, &self.pod.name)?;
        if host.kind != "veth" || pod.kind != "veth" || host.lower != Some(pod.index) {
            let names = (&self.host.name, &self.pod.name);
            return Err(changed(format!("interfaces {:?} and {:?} are not two ends of one veth", names.0, names.1)));
        }
        if !host.up {
            let name = &self.host.name;
            return Err(changed(format!("interface {name:?} on the node is down: `ip link set {name} up`")));
        }
        if self.forwards && host.forwards == Some(false) {
            return Err(changed(forwarding::is_off(&self.host.name)));
        }
        self.port.as_ref().map_or(Ok(()), |port| port.check(kernel, &host))
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        link::remove(kernel, At::Host, &self.host.name).map(drop)
    }
}

impl Veth {
    fn create(&self, kernel: &Kernel) -> Result<()> {
        let mut peer = LinkMessageBuilder::<LinkUnspec>::default()
            .name(&*self.pod.name)
            .address(self.pod.mac.to_vec())
            .setns_by_fd(kernel.pod_netns().file().as_raw_fd());
        let mut host = LinkVeth::new(&self.host.name, &self.pod.name).address(self.host.mac.to_vec()).up();
        if let Some(mtu) = self.mtu {
            peer = peer.mtu(mtu);
            host = host.mtu(mtu);
        }
        if let Some(port) = &self.port {
            host = host.controller(link::index(kernel, At::Host, &port.bridge)?);
        }
        let message = host.set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build()))).build();
        let doing = || format!("making the veth pair {:?} and {:?}", self.host.name, self.pod.name);
        let made = kernel.route(At::Host).change(Rtm::new_link(message), NLM_F_CREATE | NLM_F_EXCL, &doing);
        made.map_err(|error| match &self.port {
            _ if error.is(Errno::EEXIST) => self.what_exists(kernel, error),
            Some(port) if error.is(Errno::EXFULL) => full(port),
            _ => error,
        })
    }

    /// Both names were to be new: says which is not.
    fn what_exists(&self, kernel: &Kernel, refused: Error) -> Error {
        match link::get(kernel, At::Pod, &self.pod.name) {
            Ok(Some(_)) => Error::Exists { name: self.pod.name.clone(), at: At::Pod },
            Ok(None) => Error::Exists { name: self.host.name.clone(), at: At::Host },
            Err(_) => refused,
        }
    }

    /// The node's end: its alias, and its flags as a port.
    fn describe(&self, kernel: &Kernel) -> Result<()> {
        match self.describe_with(kernel, true) {
            // There is no such family here, or not on this link (its MTU is too small).
            Err(error) if error.is(Errno::EAFNOSUPPORT) => self.describe_with(kernel, false),
            done => done,
        }
    }

    fn describe_with(&self, kernel: &Kernel, families: bool) -> Result<()> {
        let mut message = LinkUnspec::new_with_name(&self.host.name).alias(self.alias.clone());
        if let Some(port) = self.port.as_ref().filter(|port| port.hairpin || port.isolated) {
            let flags = vec![InfoBridgePort::HairpinMode(port.hairpin), InfoBridgePort::Isolated(port.isolated)];
            message = message.set_port_kind(InfoPortKind::Bridge).set_port_data(InfoPortData::BridgePort(flags));
        }
        if families && self.port.is_some() {
            message = message.append_extra_attribute(no_own_ipv6());
        }
        if families && self.forwards {
            message = message.append_extra_attribute(forwarding::on());
        }
        let doing = || format!("describing interface {:?}", self.host.name);
        kernel.route(At::Host).change(Rtm::new_link(message.build()), 0, &doing)
    }
}

/// A port's frames are the bridge's: with an address of its own the kernel would join groups and look for duplicates, on
/// every port, for nothing.
fn no_own_ipv6() -> LinkAttribute {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])])
}

/// BR_MAX_PORTS of net/bridge/br_private.h, less the number 0.
const MOST_PORTS: usize = 1023;

fn full(port: &Port) -> Error {
    Error::Busy(format!(
        "bridge {:?} has {MOST_PORTS} ports, the most that the kernel allows: remove Pods from this node, or put further \
         Pods on another bridge",
        port.bridge
    ))
}

impl Port {
    fn check(&self, kernel: &Kernel, host: &Link) -> Result<()> {
        let bridge = link::expect(kernel, At::Host, &self.bridge)?;
        if host.controller != Some(bridge.index) {
            return Err(changed(format!("interface {:?} is not a port of bridge {:?}", host.name, self.bridge)));
        }
        if host.hairpin != self.hairpin || host.isolated != self.isolated {
            let found = (host.hairpin, host.isolated);
            return Err(changed(format!(
                "port {:?} has hairpin {} and isolated {}, not {} and {}",
                host.name, found.0, found.1, self.hairpin, self.isolated
            )));
        }
        Ok(())
    }
}
