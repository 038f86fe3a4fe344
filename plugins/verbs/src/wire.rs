//! An attachment's names: whose its objects are.

use dataplane::link::{self, Link};
use dataplane::owner::Label;
use dataplane::{At, Error as KernelError, Kernel, Mac, Owner};
use ipnetwork::IpNetwork;
use libcni::{Attachment, AttachmentId, Error, Interface, Request};

use crate::error::told;

/// Node and Pod of an attachment, which must have a namespace.
pub fn kernel(attachment: &Attachment) -> Result<Kernel, Error> {
    let mut kernel = Kernel::open().map_err(told)?;
    kernel.enter_pod(attachment.netns()?).map_err(told)?;
    Ok(kernel)
}

/// The owner of everything that belongs to an attachment of the request's network.
pub fn owner(request: &Request, attachment: &AttachmentId) -> Owner {
    Owner::new(&request.config.name, &attachment.to_string())
}

/// An interface of the result, as the kernel has it; `sandbox` is empty for one on the node.
pub fn interface(kernel: &Kernel, at: At, name: &str, sandbox: &str) -> Result<Interface, KernelError> {
    Ok(as_interface(link::expect(kernel, at, name)?, sandbox))
}

/// The same of a link that has been asked for already.
pub fn as_interface(link: Link, sandbox: &str) -> Interface {
    Interface {
        name: link.name,
        mac: link.mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: Some(link.mtu),
        sandbox: sandbox.to_owned(),
        ..Interface::default()
    }
}

/// What the alias of the attachment's host end says.
pub fn label(request: &Request, attachment: &AttachmentId, masquerade: Vec<IpNetwork>) -> Label {
    Label {
        owner: owner(request, attachment),
        masquerade,
        cluster: None,
        mac_check: None,
        address_check: Vec::new(),
        source_check: false,
        words: format!("{}/{attachment}", request.config.name),
    }
}

/// The Pod's end's address: what was asked for, or one that no other node has.
pub fn pod_mac(requested: Option<Mac>) -> Mac {
    requested.unwrap_or_else(Mac::random)
}

/// An attachment that is wired already is refused before IPAM is asked (code 103): IPAM would refuse too, and get the DEL
/// that follows a failed ADD, which would free the living Pod's address.
pub fn refuse_second(kernel: &Kernel, request: &Request, attachment: &AttachmentId) -> Result<(), Error> {
    match link::get(kernel, At::Host, &owner(request, attachment).host_end()).map_err(told)? {
        None => Ok(()),
        Some(link) => Err(told(KernelError::Exists(format!(
            "{attachment} is attached to network {:?} already, by interface {:?} on the node: a DEL is missing before \
             this ADD",
            request.config.name, link.name
        )))),
    }
}
