//! What CHECK compares with: the result of the whole chain (`prevResult`), not what this plugin would do today.

use kernel::kernel::changed;
use kernel::link::Link;
use kernel::{At, Error as KernelError, Kernel, Remedies, link};
use libcni::{Attachment, CniResult, Error, Interface, Request};

/// What brings back what CHECK finds missing or changed: an ADD makes what Pods share again, and nothing makes a single Pod's part
/// again while the Pod lives.
pub const REMEDIES: Remedies =
    Remedies { shared: "the next ADD on this network restores it", owned: "DEL and ADD the Pod" };

/// The attachment's part of `prevResult`.
#[derive(Debug)]
pub struct Expected {
    /// The result, with only the addresses of the Pod's interface.
    pub result: CniResult,
    /// The Pod's interface.
    pub pod: Interface,
    /// Its other end on the node, if the result lists one.
    pub host: Option<Interface>,
}

/// Reads `prevResult` (code 7 if there is none, or it does not list the Pod's interface). `not_the_host_end` names
/// the links on the node that are no end of the Pod's wire: the bridge.
pub fn expected(request: &Request, attachment: &Attachment, not_the_host_end: &[String]) -> Result<Expected, Error> {
    let missing = |why: &str| Error::config("prevResult", "missing or incomplete", why);
    let mut result = request.config.prev_result()?.ok_or_else(|| missing("CHECK needs the result of the ADD"))?;
    let is_pod = |interface: &Interface| interface.name == attachment.id.ifname && !interface.sandbox.is_empty();
    let index = result
        .interfaces
        .iter()
        .position(is_pod)
        .ok_or_else(|| missing(&format!("it does not list interface {:?} in the Pod", attachment.id.ifname)))?;
    result.ips.retain(|ip| ip.interface.is_none_or(|at| at == index));
    let host = result.interfaces[..index]
        .iter()
        .rev()
        .find(|interface| interface.sandbox.is_empty() && !not_the_host_end.contains(&interface.name));
    Ok(Expected { pod: result.interfaces[index].clone(), host: host.cloned(), result })
}

impl Expected {
    /// Compares hardware addresses and MTU, and lists what differs. A later plugin that changed them has written the new
    /// ones into the result; it may also have lowered the MTU without a word, for only 1.1.0 has a field for it.
    pub fn faults(&self, kernel: &Kernel) -> Vec<KernelError> {
        let ends = [(At::Pod, Some(&self.pod)), (At::Host, self.host.as_ref())];
        let ends = ends.into_iter().filter_map(|(at, interface)| Some((at, interface?)));
        ends.flat_map(|(at, interface)| differences(kernel, at, interface)).collect()
    }

    /// Compares the hardware addresses of these links on the node with the result's.
    pub fn faults_of_listed(&self, kernel: &Kernel, names: &[String]) -> Vec<KernelError> {
        let is_listed = |interface: &&Interface| interface.sandbox.is_empty() && names.contains(&interface.name);
        let listed = self.result.interfaces.iter().filter(is_listed);
        let fault = |interface: &Interface| match link::expect(kernel, At::Host, &interface.name) {
            Ok(link) => another_mac(&link, At::Host, interface),
            Err(error) => Some(error),
        };
        listed.filter_map(fault).collect()
    }
}

fn differences(kernel: &Kernel, at: At, interface: &Interface) -> Vec<KernelError> {
    let link = match link::expect(kernel, at, &interface.name) {
        Ok(link) => link,
        Err(error) => return vec![error.with_remedy(REMEDIES.owned)],
    };
    another_mac(&link, at, interface).into_iter().chain(greater_mtu(&link, at, interface)).collect()
}

fn another_mac(link: &Link, at: At, interface: &Interface) -> Option<KernelError> {
    let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    let is_another = !interface.mac.is_empty() && !interface.mac.eq_ignore_ascii_case(&mac);
    is_another.then(|| differs(at, interface, "hardware address", mac, &interface.mac))
}

fn greater_mtu(link: &Link, at: At, interface: &Interface) -> Option<KernelError> {
    let mtu = interface.mtu.filter(|mtu| link.mtu > *mtu)?;
    Some(differs(at, interface, "MTU", link.mtu.to_string(), &format!("{mtu} or less")))
}

fn differs(at: At, interface: &Interface, what: &str, found: String, wanted: &str) -> KernelError {
    let words = format!("interface {:?} {} has {what} {found}, not {wanted}", interface.name, at.words());
    changed(words).with_remedy(REMEDIES.owned)
}
