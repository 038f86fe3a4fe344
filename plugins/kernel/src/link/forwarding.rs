//! Forwarding of IPv4 by one link: `net.ipv4.conf.NAME.forwarding`.
//!
//! A node can forward (`net.ipv4.ip_forward`) while one of its links does not: networkd sets such a link so, and `default.forwarding`
//! every new one. It is read and set within the messages of links (IFLA_AF_SPEC, AF_INET, IFLA_INET_CONF; `inet_fill_link_af` and
//! `inet_set_link_af` of net/ipv4/devinet.c), so it takes no message of its own. IPv6 has no such setting.

use netlink_packet_core::DefaultNla;
use rtnetlink::LinkUnspec;
use rtnetlink::packet_route::link::LinkAttribute;

use crate::attribute::{number, within};
use crate::error::Result;
use crate::kernel::{At, Kernel, changed};
use crate::link;
use crate::message::Rtm;
use crate::plan::{Made, Object};

const AF_INET: u16 = 2;
const IFLA_INET_CONF: u16 = 1;

/// Of an answer, in which all settings are numbers in the order of IPV4_DEVCONF_… (include/uapi/linux/ip.h), forwarding first.
pub(super) fn read(families: &[u8]) -> Option<bool> {
    let settings = within(within(families, AF_INET)?, IFLA_INET_CONF)?;
    number(settings).map(|forwarding| forwarding != 0)
}

/// Forwarding, for a message to a link that exists; in this direction each setting is an attribute. EAFNOSUPPORT where the link
/// has no IPv4.
pub(crate) fn on() -> LinkAttribute {
    const IFLA_AF_SPEC: u16 = 26;
    const IPV4_DEVCONF_FORWARDING: u16 = 1;
    const NESTED: u16 = 1 << 15;
    const HEADER: usize = 4;
    let mut bytes = 1_u32.to_ne_bytes().to_vec();
    for kind in [IPV4_DEVCONF_FORWARDING, IFLA_INET_CONF | NESTED, AF_INET | NESTED] {
        let length = (bytes.len() + HEADER) as u16;
        bytes = [&length.to_ne_bytes(), &kind.to_ne_bytes(), bytes.as_slice()].concat();
    }
    LinkAttribute::Other(DefaultNla::new(IFLA_AF_SPEC | NESTED, bytes))
}

/// Makes the node's link called `name` forward.
pub fn set(kernel: &Kernel, name: &str) -> Result<()> {
    let message = LinkUnspec::new_with_name(name).append_extra_attribute(on()).build();
    let doing = || format!("setting forwarding of link {name:?} on the node");
    kernel.route(At::Host).change(Rtm::new_link(message), 0, &doing)
}

/// What to say of a link that does not forward.
pub fn is_off(link: &str) -> String {
    // sysctl takes a dot of the name for a slash, and a slash for a dot.
    let key = format!("net.ipv4.conf.{}.forwarding", link.replace('.', "/"));
    format!(
        "{key} is 0, so what comes in by interface {link:?} is not forwarded: run `sysctl -w {key}=1`, and have it set so"
    )
}

/// A link that forwards. Only checked: what makes the link sets it, and what another program made is that program's.
#[derive(Clone, Debug)]
pub struct Forwards {
    /// The link's name, on the node.
    pub link: String,
}

impl Object for Forwards {
    fn ensure(&self, _kernel: &Kernel) -> Result<Made> {
        Ok(Made::Already)
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        match link::get(kernel, At::Host, &self.link)?.and_then(|link| link.forwards) {
            Some(false) => Err(changed(is_off(&self.link))),
            _ => Ok(()),
        }
    }
}
