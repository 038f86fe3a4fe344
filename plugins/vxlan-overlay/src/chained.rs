//! After the plugin that wired the Pod: both ends' MTU, and masquerade as an overlay needs it.

use dataplane::cluster::Inside;
use dataplane::link::{self, Link};
use dataplane::masquerade::Masquerade;
use dataplane::owner::Label;
use dataplane::{At, Kernel, Object};
use libcni::ipnetwork::IpNetwork;
use libcni::{Attachment, CniResult, Error, Request};
use verbs::cluster::Network;
use verbs::{removal, told, wire};

use crate::config::Config;

/// The two ends of the Pod's wire, as the kernel has them.
struct Wire {
    host: Link,
    pod: Link,
    /// Of the node's end, if a plugin of ours made it.
    label: Option<Label>,
}

impl Wire {
    /// The node's end is found by what the kernel says, not by its place in the result.
    fn find(kernel: &Kernel, ifname: &str) -> Result<Self, Error> {
        let pod = link::expect(kernel, At::Pod, ifname).map_err(told)?;
        let host = link::all(kernel, At::Host).map_err(told)?.into_iter().find(|link| {
            link.kind == "veth" && pod.kind == "veth" && pod.lower == Some(link.index) && link.lower == Some(pod.index)
        });
        let host = host.ok_or_else(|| {
            let details =
                format!("interface {ifname:?} in the Pod is no end of a veth pair whose other end is on the node");
            Error::config("plugins", "chained", format!("{details}; vxlan-overlay can follow bridge or routed-veth"))
        })?;
        let label = Label::parse(&host.alias);
        Ok(Wire { host, pod, label })
    }

    fn ends(&self) -> [(At, &Link); 2] {
        [(At::Pod, &self.pod), (At::Host, &self.host)]
    }

    /// One end alone would make a black hole: what is too large must be refused where it is sent, and answered where it
    /// comes in.
    fn lower_mtu(&self, kernel: &Kernel, mtu: u32) -> Result<(), Error> {
        for (at, link) in self.ends().into_iter().filter(|(_, link)| link.mtu > mtu) {
            link::set_mtu(kernel, at, &link.name, mtu).map_err(told)?;
        }
        Ok(())
    }

    fn restore(&self, kernel: &Kernel) {
        for (at, link) in self.ends() {
            if let Err(error) = link::set_mtu(kernel, at, &link.name, link.mtu) {
                log::error!("undoing: {error}");
            }
        }
        if let Err(error) = link::set_alias(kernel, At::Host, &self.host.name, &self.host.alias) {
            log::error!("undoing: {error}");
        }
    }
}

/// ADD.
pub fn add(
    request: &Request,
    config: &Config,
    attachment: &Attachment,
    kernel: &Kernel,
    network: &Network,
) -> Result<CniResult, Error> {
    let mut result = request.config.prev_result()?.unwrap_or_default();
    let wire = Wire::find(kernel, &attachment.id.ifname)?;
    let masquerade = addresses_to_masquerade(config, &wire, attachment, &result);
    let followed = network.follow(kernel, !masquerade.is_empty())?;
    let overlay = network.interfaces(kernel)?;
    let lowered = followed.mtu.map_or(Ok(()), |mtu| wire.lower_mtu(kernel, mtu));
    let masqueraded = lowered.and_then(|()| match followed.inside {
        Some(inside) => masquerade_outside(request, attachment, kernel, &wire, masquerade, inside),
        None => Ok(()),
    });
    let adjusted = masqueraded.and_then(|()| tell_mtus(kernel, &mut result));
    adjusted.inspect_err(|_| undo(request, attachment, &wire))?;
    result.interfaces.extend(overlay);
    if !config.wire.dns.is_empty() {
        result.dns = config.wire.dns.clone();
    }
    Ok(result)
}

/// Undoes an ADD that failed, on sockets of its own: those of the ADD may be why it failed. The plugins before it remove the
/// rest, masquerade of theirs included.
fn undo(request: &Request, attachment: &Attachment, wire: &Wire) {
    match wire::kernel(attachment) {
        Ok(kernel) => wire.restore(&kernel),
        Err(error) => log::error!("undoing: {error}"),
    }
    if let Err(error) = removal::remove_rules_of(request, attachment) {
        log::error!("undoing: {error}");
    }
}

/// Wherever in the chain `ipMasq` stands, it means the same: what leaves the cluster.
fn addresses_to_masquerade(
    config: &Config,
    wire: &Wire,
    attachment: &Attachment,
    result: &CniResult,
) -> Vec<IpNetwork> {
    let by_label = wire.label.as_ref().map(|label| label.masquerade.clone()).unwrap_or_default();
    if !by_label.is_empty() || !config.ip_masq {
        return by_label;
    }
    let is_pod = |index: usize| result.interfaces.get(index).is_some_and(|it| it.name == attachment.id.ifname);
    result.ips.iter().filter(|ip| ip.interface.is_none_or(is_pod)).map(|ip| ip.address).collect()
}

/// Masquerades by the overlay's inside, in place of what the plugin before did; its label says so, for its DEL and for
/// whoever restores a flushed ruleset.
fn masquerade_outside(
    request: &Request,
    attachment: &Attachment,
    kernel: &Kernel,
    wire: &Wire,
    addresses: Vec<IpNetwork>,
    inside: Inside,
) -> Result<(), Error> {
    let owner = wire::owner(request, &attachment.id);
    if let Some(label) = wire.label.clone().filter(|label| label.owner == owner) {
        let label = Label { masquerade: addresses.clone(), cluster: Some(inside.clone()), ..label };
        link::set_alias(kernel, At::Host, &wire.host.name, &label.to_string()).map_err(told)?;
    }
    let masquerade = Masquerade { owner, addresses, inside: Some(inside) };
    masquerade.remove(kernel).and_then(|()| masquerade.ensure(kernel)).map(drop).map_err(told)
}

/// The MTUs in the result as they are now; a bridge follows its ports.
fn tell_mtus(kernel: &Kernel, result: &mut CniResult) -> Result<(), Error> {
    for interface in result.interfaces.iter_mut().filter(|interface| interface.mtu.is_some()) {
        let at = if interface.sandbox.is_empty() { At::Host } else { At::Pod };
        if let Some(link) = link::get(kernel, at, &interface.name).map_err(told)? {
            interface.mtu = Some(link.mtu);
        }
    }
    Ok(())
}

/// CHECK: neither end sends more than fits.
pub fn check_mtu(kernel: &Kernel, ifname: &str, fits: Option<u32>) -> Result<(), Error> {
    let Some(fits) = fits else { return Ok(()) };
    let wire = Wire::find(kernel, ifname)?;
    match wire.ends().into_iter().find(|(_, link)| link.mtu > fits) {
        None => Ok(()),
        Some((at, link)) => Err(Error::check(format!(
            "interface {:?} {} has MTU {}, more than the {fits} that fit the overlay",
            link.name,
            at.words(),
            link.mtu
        ))),
    }
}

/// CHECK of masquerade, if the Pod has it.
pub fn check_masquerade(
    request: &Request,
    config: &Config,
    attachment: &Attachment,
    kernel: &Kernel,
    inside: Option<Inside>,
) -> Result<(), Error> {
    let wire = Wire::find(kernel, &attachment.id.ifname)?;
    let result = request.config.prev_result()?.unwrap_or_default();
    let addresses = addresses_to_masquerade(config, &wire, attachment, &result);
    if addresses.is_empty() {
        return Ok(());
    }
    Masquerade { owner: wire::owner(request, &attachment.id), addresses, inside }.check(kernel).map_err(told)
}
