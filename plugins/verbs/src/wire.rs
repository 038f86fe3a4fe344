//! An attachment's names: whose its objects are.

use dataplane::owner::Label;
use dataplane::{Mac, Owner};
use ipnetwork::IpNetwork;
use libcni::{AttachmentId, Request};

/// The owner of everything that belongs to an attachment of the request's network.
pub fn owner(request: &Request, attachment: &AttachmentId) -> Owner {
    Owner::new(&request.config.name, &attachment.to_string())
}

/// What the alias of the attachment's host end says.
pub fn label(request: &Request, attachment: &AttachmentId, masquerade: Vec<IpNetwork>) -> Label {
    Label {
        owner: owner(request, attachment),
        masquerade,
        mac_check: None,
        words: format!("{}/{attachment}", request.config.name),
    }
}

/// The Pod's end's address: what was asked for, or one that no other node has.
pub fn pod_mac(requested: Option<Mac>) -> Mac {
    requested.unwrap_or_else(Mac::random)
}
