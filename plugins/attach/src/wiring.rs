//! The facts about one attachment that a plugin's plan is made of: for ADD from the request and from IPAM, for CHECK from
//! the result of the ADD and from the label of the wire.

use cluster::Followed;
use ipnetwork::IpNetwork;
use kernel::veth::End;
use kernel::{At, Kernel, Mac, link};
use libcni::{Attachment, CniResult, Error, Request};

use crate::check::Expected;
use crate::error::told;
use crate::kinds::masquerade;
use crate::label::Label;
use crate::names;

/// The part of a label that says that [`crate::wire::WirePlugin::pins`] was true at the ADD.
pub(crate) const PINNED: &str = "pinned";

/// Everything that is known about one attachment.
#[derive(Debug)]
pub struct Wiring<'a, C> {
    /// The request that the plugin was executed with.
    pub request: &'a Request,
    /// The plugin's configuration.
    pub config: &'a C,
    /// The end of the pair on the node.
    pub host: End,
    /// The end in the Pod.
    pub pod: End,
    /// The MTU that fits the overlay, in bytes; none without one.
    pub overlay_mtu: Option<u32>,
    /// Addresses, routes and name resolution as the Pod gets them; empty until IPAM has answered.
    pub addresses: CniResult,
    /// Did podwire make this Pod's wire? Another implementation may have, before the plugins were replaced: then there are
    /// no labels and rules of ours to check.
    pub is_ours: bool,
    /// Did the links that the result lists keep their hardware addresses from this Pod's ADD on
    /// ([`crate::wire::WirePlugin::pins`])?
    pub(crate) is_pinned: bool,
    /// The attachment's label so far: its owner and its words.
    pub label: Label,
    /// The Pod's addresses with the subnets that they are not masqueraded towards.
    pub(crate) subnets: Vec<IpNetwork>,
    pub(crate) followed: Followed,
    pub(crate) sandbox: String,
}

impl<'a, C> Wiring<'a, C> {
    /// Does the Pod have an address of that family?
    pub fn has(&self, ipv4: bool) -> bool {
        self.addresses.ips.iter().any(|ip| ip.address.is_ipv4() == ipv4)
    }

    /// This node's Pod CIDRs in the network's node map; empty without one, and where only the map could tell.
    pub fn pod_cidrs(&self) -> &[IpNetwork] {
        &self.followed.pod_cidrs
    }

    /// What is known before IPAM has answered.
    pub(crate) fn new(request: &'a Request, config: &'a C, attachment: &Attachment, followed: Followed) -> Self {
        let label = names::label(request, &attachment.id);
        Wiring {
            request,
            config,
            host: End { name: label.owner.host_end(), mac: Mac::random() },
            pod: End { name: attachment.id.ifname.clone(), mac: Mac([0; 6]) },
            overlay_mtu: followed.mtu,
            addresses: CniResult::default(),
            is_ours: true,
            is_pinned: false,
            label,
            subnets: Vec::new(),
            followed,
            sandbox: attachment.sandbox(),
        }
    }

    /// What the result of the ADD says, for CHECK. The subnets of addresses that are masqueraded are in the label, since a
    /// routed Pod's result has none. Code 102 if a wire of ours has lost its label.
    pub(crate) fn expected(
        request: &'a Request,
        config: &'a C,
        attachment: &Attachment,
        kernel: &Kernel,
        expected: &Expected,
        followed: Followed,
    ) -> Result<Self, Error> {
        let mut wiring = Wiring::new(request, config, attachment, followed);
        if let Some(host) = &expected.host {
            wiring.host.name = host.name.clone();
        }
        wiring.is_ours = wiring.host.name == wiring.label.owner.host_end();
        let present = link::get(kernel, At::Host, &wiring.host.name).map_err(told)?;
        wiring.host.mac = present.as_ref().and_then(|link| link.mac).unwrap_or(wiring.host.mac);
        wiring.pod.mac = expected.pod.mac.parse().unwrap_or(wiring.pod.mac);
        wiring.addresses = expected.result.clone();
        let label = present.as_ref().and_then(Label::of).filter(|label| label.owner == wiring.label.owner);
        wiring.read_label(label.as_ref());
        wiring.is_pinned = label.as_ref().is_some_and(|label| label.part(PINNED).is_some());
        match (wiring.is_ours, present, label) {
            (true, Some(link), None) => {
                Err(Error::check(format!("interface {:?} on the node has no label of this attachment", link.name)))
            }
            _ => Ok(wiring),
        }
    }

    fn read_label(&mut self, label: Option<&Label>) {
        let by_label = label.map(masquerade::addresses_in).unwrap_or_default();
        let by_result = || self.addresses.ips.iter().map(|ip| ip.address).collect();
        self.subnets = if by_label.is_empty() { by_result() } else { by_label };
        // An overlay after this plugin may have written what is inside: then that is its own to check.
        let written = label.and_then(masquerade::inside_in);
        let is_written = |network| written.as_ref().is_some_and(|written| written.network == network);
        self.followed.inside = self.followed.inside.take().filter(|inside| is_written(inside.network));
    }
}
