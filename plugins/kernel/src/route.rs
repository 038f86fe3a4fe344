//! Routes.

use std::net::IpAddr;

use crate::message::Rtm;
use ipnetwork::IpNetwork;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_APPEND, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
    RouteType,
};

use crate::error::Result;
use crate::kernel::{At, Kernel, changed};
use crate::link;
use crate::plan::{Made, Object};

/// A unicast route out of a link.
#[derive(Clone, Debug)]
pub struct Route {
    /// Where.
    pub at: At,
    /// The link it leaves by.
    pub link: String,
    /// Destination.
    pub dst: IpNetwork,
    /// Next hop; none for what is directly on the link.
    pub gateway: Option<IpAddr>,
    /// The next hop is on the link, whatever the link's addresses say.
    pub on_link: bool,
    /// The rest, which most routes leave to the kernel.
    pub options: Options,
}

/// What a route may say besides.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Path MTU, in bytes.
    pub mtu: Option<u32>,
    /// The segment size to advertise, in bytes.
    pub advmss: Option<u32>,
    /// Priority: lower is preferred.
    pub priority: Option<u32>,
    /// Table; the main one if missing.
    pub table: Option<u32>,
    /// Scope; by default link without a next hop, global with one.
    pub scope: Option<u8>,
    /// Who made it (rtm_protocol): "static" by default.
    pub protocol: Option<u8>,
    /// Source address to prefer.
    pub source: Option<IpAddr>,
}

impl Object for Route {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        // A second interface of a Pod has its own default route behind the first's: when the first is deleted, it
        // takes over. The very same route is still refused as existing.
        match self.send(kernel, NLM_F_APPEND) {
            Ok(()) => Ok(Made::New),
            Err(error) if error.is(Errno::EEXIST) => Ok(Made::Already),
            Err(error) => Err(error),
        }
    }

    /// A later plugin may have moved it to another table or next hop: what counts is that the destination still has a
    /// route of its own.
    fn check(&self, kernel: &Kernel) -> Result<()> {
        let found = all(kernel, self.at, self.dst.is_ipv4())?.iter().any(|route| destination(route) == Some(self.dst));
        if found { Ok(()) } else { Err(changed(format!("{} is missing", self.words()))) }
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        let Some(link) = link::get(kernel, self.at, &self.link)? else { return Ok(()) };
        let message = Rtm::del_route(self.message(link.index));
        match kernel.route(self.at).change(message, 0, &|| format!("removing {}", self.words())) {
            Err(error) if !error.is(Errno::ESRCH) => Err(error),
            _ => Ok(()),
        }
    }
}

impl Route {
    /// Adds the route; EEXIST if its destination has one already.
    pub fn create(&self, kernel: &Kernel) -> Result<()> {
        self.send(kernel, NLM_F_EXCL)
    }

    /// Adds the route in place of the one that its destination has.
    pub fn replace(&self, kernel: &Kernel) -> Result<()> {
        self.send(kernel, NLM_F_REPLACE)
    }

    fn send(&self, kernel: &Kernel, flags: u16) -> Result<()> {
        let message = Rtm::new_route(self.message(link::index(kernel, self.at, &self.link)?));
        let sent = kernel.route(self.at).change(message, NLM_F_CREATE | flags, &|| format!("adding {}", self.words()));
        sent.map_err(|error| error.on_link(kernel, self.at, &self.link))
    }

    fn words(&self) -> String {
        let via = self.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        format!("route to {}{via} by interface {:?} {}", self.dst, self.link, self.at.words())
    }

    /// The route as a message, with its link's index.
    pub fn message(&self, index: u32) -> RouteMessage {
        let options = &self.options;
        let mut message = RouteMessage::default();
        let header = &mut message.header;
        header.address_family = family(self.dst.is_ipv4());
        header.destination_prefix_length = self.dst.prefix();
        header.kind = RouteType::Unicast;
        header.protocol = options.protocol.map_or(RouteProtocol::Static, RouteProtocol::from);
        header.scope = match (options.scope, self.gateway) {
            (Some(scope), _) => RouteScope::from(scope),
            (None, None) if self.dst.is_ipv4() => RouteScope::Link,
            _ => RouteScope::Universe,
        };
        if self.on_link {
            header.flags |= RouteFlags::Onlink;
        }
        let attributes = &mut message.attributes;
        match options.table.map(u8::try_from) {
            None => header.table = RouteHeader::RT_TABLE_MAIN,
            Some(Ok(table)) => header.table = table,
            Some(Err(_)) => attributes.push(RouteAttribute::Table(options.table.unwrap_or_default())),
        }
        attributes.push(RouteAttribute::Destination(self.dst.network().into()));
        attributes.push(RouteAttribute::Oif(index));
        attributes.extend(self.gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
        attributes.extend(options.priority.map(RouteAttribute::Priority));
        attributes.extend(options.source.map(|source| RouteAttribute::PrefSource(source.into())));
        let metrics: Vec<_> =
            options.mtu.map(RouteMetric::Mtu).into_iter().chain(options.advmss.map(RouteMetric::Advmss)).collect();
        if !metrics.is_empty() {
            attributes.push(RouteAttribute::Metrics(metrics));
        }
        message
    }
}

/// Does what is sent to `ip` stay here: has the kernel made the local route of an address?
pub fn is_local(kernel: &Kernel, at: At, ip: IpAddr) -> Result<bool> {
    let mut message = RouteMessage::default();
    message.header.address_family = family(ip.is_ipv4());
    message.header.destination_prefix_length = if ip.is_ipv4() { 32 } else { 128 };
    message.attributes.push(RouteAttribute::Destination(ip.into()));
    let doing = || format!("looking for the route to {ip} {}", at.words());
    match kernel.route(at).get(Rtm::get_route(message), &doing) {
        Ok(route) => Ok(route.is_some_and(|route: RouteMessage| route.header.kind == RouteType::Local)),
        Err(error) if error.is(Errno::ENETUNREACH) || error.is(Errno::EHOSTUNREACH) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Every route of one family, in every table.
pub fn all(kernel: &Kernel, at: At, ipv4: bool) -> Result<Vec<RouteMessage>> {
    dump(kernel, at, ipv4, None, None)
}

/// The routes of one family in `table` (in every one if `None`) that say `protocol`.
pub fn dump(
    kernel: &Kernel,
    at: At,
    ipv4: bool,
    table: Option<u32>,
    protocol: Option<u8>,
) -> Result<Vec<RouteMessage>> {
    let mut message = RouteMessage::default();
    message.header.address_family = family(ipv4);
    message.header.protocol = protocol.map_or(RouteProtocol::Unspec, RouteProtocol::from);
    message.attributes.extend(table.map(RouteAttribute::Table));
    let doing = || format!("listing routes {}", at.words());
    let routes: Vec<RouteMessage> = kernel.route(at).dump(Rtm::get_route(message), &doing)?;
    // A kernel that is not strict (NETLINK_GET_STRICT_CHK of include/uapi/linux/netlink.h) sends all of them, and who asks may be
    // about to remove what it gets.
    let is_asked_for = |route: &RouteMessage| {
        table.is_none_or(|table| table == table_of(route))
            && protocol.is_none_or(|protocol| RouteProtocol::from(protocol) == route.header.protocol)
    };
    Ok(routes.into_iter().filter(is_asked_for).collect())
}

/// A table beyond 255 does not fit in the header.
fn table_of(route: &RouteMessage) -> u32 {
    let attribute = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Table(table) => Some(*table),
        _ => None,
    });
    attribute.unwrap_or_else(|| route.header.table.into())
}

/// The destination of a unicast route; a route without one is the default route.
pub fn destination(route: &RouteMessage) -> Option<IpNetwork> {
    if route.header.kind != RouteType::Unicast {
        return None;
    }
    let ip = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        RouteAttribute::Destination(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    });
    let any = match route.header.address_family {
        AddressFamily::Inet => IpAddr::from([0; 4]),
        _ => IpAddr::from([0; 16]),
    };
    IpNetwork::new(ip.unwrap_or(any), route.header.destination_prefix_length).ok()
}

/// The metric of a route; what has none is preferred over all that have.
pub fn metric(route: &RouteMessage) -> u32 {
    let metric = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Priority(metric) => Some(*metric),
        _ => None,
    });
    metric.unwrap_or_default()
}

/// The next hop of a route, and its link.
pub fn next_hop(route: &RouteMessage) -> (Option<IpAddr>, Option<u32>) {
    let gateway = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(RouteAddress::Inet(ip)) => Some(IpAddr::V4(*ip)),
        RouteAttribute::Gateway(RouteAddress::Inet6(ip)) => Some(IpAddr::V6(*ip)),
        _ => None,
    });
    let link = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    });
    (gateway, link)
}

/// A route that the kernel told of, as a message to remove exactly it: less what only the kernel may say.
pub fn key(mut route: RouteMessage) -> RouteMessage {
    route.header.flags = RouteFlags::empty();
    route.attributes.retain(|attribute| {
        matches!(
            attribute,
            RouteAttribute::Destination(_)
                | RouteAttribute::Gateway(_)
                | RouteAttribute::Oif(_)
                | RouteAttribute::Priority(_)
                | RouteAttribute::Table(_)
        )
    });
    route
}

fn family(ipv4: bool) -> AddressFamily {
    if ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 }
}
