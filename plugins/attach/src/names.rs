//! An attachment's names, and its place in a result.

use cluster::tag::NetworkTag;
use kernel::link::{self, Link};
use kernel::{At, Error as KernelError, Kernel};
use libcni::{Attachment, AttachmentId, Error, Interface, Request, code};

use crate::error::told;
use crate::label::Label;
use crate::owner::Owner;

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

/// The tag of the request's network.
pub fn network(request: &Request) -> NetworkTag {
    NetworkTag::new(&request.config.name)
}

/// A label without any part, of an attachment of the request's network.
pub fn label(request: &Request, attachment: &AttachmentId) -> Label {
    Label::new(owner(request, attachment), format!("{}/{attachment}", request.config.name))
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

/// An attachment that is wired already is refused before IPAM is asked (code 103): IPAM would refuse too, and get the DEL
/// that follows a failed ADD, which would free the living Pod's address.
pub fn refuse_second(kernel: &Kernel, request: &Request, attachment: &AttachmentId) -> Result<(), Error> {
    let name = owner(request, attachment).host_end();
    if link::get(kernel, At::Host, &name).map_err(told)?.is_none() {
        return Ok(());
    }
    let details = format!(
        "{attachment} is attached to network {:?} already, by interface {name:?} on the node: a DEL is missing before this \
         ADD",
        request.config.name
    );
    Err(Error::new(code::EXISTS_ALREADY, "exists already", details))
}
