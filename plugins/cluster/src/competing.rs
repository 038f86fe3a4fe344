//! Routes that the kernel prefers to those of the node map: a peer's Pods are not reached, though everything of podwire's exists.
//!
//! The map's routes have a metric that loses to every other route of the same prefix, and a longer prefix wins in any case:
//! a bridge that an earlier network left with an address of the peer's Pod CIDR, routes of another overlay, of a VPN, or
//! set by hand. Rules may lead to other tables first. So the kernel itself is asked ([`fib::lookups`]) which route a Pod's packet
//! takes: one packet to each Pod CIDR, and one to each longer prefix that any table has inside of one.
//!
//! This takes a list of all routes and a lookup for each Pod CIDR (5,000 take some 20 ms): it is done after a full pass, not by
//! an ADD for which nothing changed.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use kernel::fib::{self, Action, Entry, Hop, Origin, Packet};
use kernel::link::Link;
use kernel::{At, Error, Kernel, Result, address, link};
use nix::errno::Errno;

use crate::PROTOCOL;
use crate::tag::NetworkTag;

/// A route that takes the place of one of the map's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Competing {
    /// The Pod CIDR that the map has.
    pub pod_cidr: IpNetwork,
    /// The route, as `ip route` shows it.
    pub route: String,
    /// The command that removes it.
    pub command: String,
}

impl Competing {
    /// What is wrong, and what to do.
    pub fn words(&self) -> String {
        format!(
            "Pods in Pod CIDR {} of another node are not reached: the kernel prefers the route {:?} to podwire's; `{}` \
             corrects that",
            self.pod_cidr, self.route, self.command
        )
    }
}

/// Where a Pod CIDR should be reached.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// The Pod CIDR.
    pub dst: IpNetwork,
    /// The next hop; none where the underlay's routers know the way, by whatever route.
    pub hop: Option<Hop>,
}

/// Finds the routes that compete with those in `wanted`. `own` are this node's Pod CIDRs, `network` is the tag of what leads to
/// the other nodes. `pod` are the addresses of the Pod that is meant, if one is.
pub fn find(
    kernel: &Kernel,
    network: NetworkTag,
    mut wanted: Vec<Wanted>,
    own: &[IpNetwork],
    pod: &[IpAddr],
) -> Result<Vec<Competing>> {
    wanted.sort_unstable_by_key(|wanted| number(wanted.dst.network()));
    let mut found: Vec<(Wanted, Entry)> = Vec::new();
    for ipv4 in [true, false] {
        let wanted: Vec<Wanted> = wanted.iter().filter(|wanted| wanted.dst.is_ipv4() == ipv4).copied().collect();
        if !wanted.is_empty() {
            let ours = numbers(network);
            Family { ours, wanted, own, pod }.find(kernel, ipv4, &mut found)?;
        }
    }
    match found.is_empty() {
        true => Ok(Vec::new()),
        false => told(kernel, found),
    }
}

/// The metrics of the network's routes: one chain may have routes over the underlay and an overlay.
fn numbers(network: NetworkTag) -> [u32; 2] {
    [true, false].map(|overlay| network.of_cluster(overlay).number())
}

/// One family.
struct Family<'a> {
    ours: [u32; 2],
    /// Sorted.
    wanted: Vec<Wanted>,
    own: &'a [IpNetwork],
    pod: &'a [IpAddr],
}

impl Family<'_> {
    fn find(&self, kernel: &Kernel, ipv4: bool, found: &mut Vec<(Wanted, Entry)>) -> Result<()> {
        let listed = fib::list(kernel, ipv4, &|entry| self.is_of_interest(entry))?;
        let (own, others): (Vec<Entry>, Vec<Entry>) = listed.into_iter().partition(|entry| self.is_within_own(entry));
        let inside = others.iter().filter_map(|entry| Some((*self.around(entry.dst)?, entry.dst.network())));
        let questions: Vec<(Wanted, IpAddr)> =
            self.wanted.iter().map(|wanted| (*wanted, a_pods_address(wanted.dst))).chain(inside).collect();
        for ((wanted, to), answer) in questions.iter().zip(ask(kernel, origin(&own, self.pod), &questions)?) {
            let taken = match answer {
                Ok(taken) => taken,
                Err(error) => dropping(&others, *to, &error).cloned(),
            };
            found.extend(taken.filter(|taken| self.competes(wanted, taken)).map(|taken| (*wanted, taken)));
        }
        Ok(())
    }

    /// The map's own routes are not: there are thousands of them.
    fn is_of_interest(&self, entry: &Entry) -> bool {
        if self.is_ours(entry) {
            return false;
        }
        is_dropping(entry) || self.is_within_own(entry) || self.around(entry.dst).is_some()
    }

    fn is_ours(&self, entry: &Entry) -> bool {
        entry.protocol == PROTOCOL && self.ours.contains(&entry.metric)
    }

    fn is_within_own(&self, entry: &Entry) -> bool {
        self.own.iter().any(|own| own.contains(entry.dst.network()) && entry.dst.prefix() >= own.prefix())
    }

    /// The Pod CIDR that has all of `dst`; no two overlap.
    fn around(&self, dst: IpNetwork) -> Option<&Wanted> {
        let address = number(dst.network());
        let after = self.wanted.partition_point(|wanted| number(wanted.dst.network()) <= address);
        let wanted = self.wanted.get(after.checked_sub(1)?)?;
        (wanted.dst.contains(dst.network()) && dst.prefix() >= wanted.dst.prefix()).then_some(wanted)
    }

    fn competes(&self, wanted: &Wanted, taken: &Entry) -> bool {
        // podwire's route to a Pod that has an address of the CIDR and lives on this node.
        let is_to_a_pod = taken.protocol == PROTOCOL && taken.dst.prefix() == a_whole_address(taken.dst);
        if self.is_ours(taken) || is_to_a_pod {
            return false;
        }
        let is_shorter = taken.dst.prefix() < wanted.dst.prefix();
        match wanted.hop {
            Some(hop) => {
                let is_same = !taken.hops.is_empty() && taken.hops.iter().all(|other| *other == hop);
                // In table main a longer prefix would win: then podwire's route is missing, which is another fault.
                !(is_same || is_shorter && taken.table == fib::MAIN)
            }
            // Whatever the routers' way is, it is not an address of this node, and drops nothing.
            None => !is_shorter && (taken.protocol == fib::BY_KERNEL || is_dropping(taken)),
        }
    }
}

/// The kernel's answers for a Pod's packets. A Pod is asked about in vain if its link does not forward, or if its source address
/// belongs elsewhere: then every answer is an error, also that for a packet to the Pod itself, and the node's own packets are
/// asked about instead.
fn ask(kernel: &Kernel, origin: Option<Origin>, to: &[(Wanted, IpAddr)]) -> Result<Vec<Result<Option<Entry>>>> {
    let packets = |from| to.iter().map(|(_, to)| Packet { to: *to, from }).collect::<Vec<_>>();
    let Some(from) = origin else { return fib::lookups(kernel, &packets(None)) };
    let back = Packet { to: from.source, from: origin };
    let mut answers = fib::lookups(kernel, &[packets(origin), vec![back]].concat())?;
    if answers.iter().all(|answer| answer.is_err()) {
        return fib::lookups(kernel, &packets(None));
    }
    answers.pop();
    Ok(answers)
}

/// A Pod of this node, by a route to it or by the subnet of its bridge; `pod` if its addresses are given.
fn origin(own: &[Entry], pod: &[IpAddr]) -> Option<Origin> {
    let leads_to_pods = |entry: &&Entry| {
        entry.action == Action::Forward
            && entry.table == fib::MAIN
            && matches!(*entry.hops, [Hop { gateway: None, .. }])
    };
    let has = |entry: &Entry| pod.iter().copied().find(|address| entry.dst.contains(*address));
    let entries = own.iter().filter(leads_to_pods);
    let entry = entries.max_by_key(|entry| (has(entry).is_some(), entry.protocol == PROTOCOL, entry.dst.prefix()))?;
    let link = entry.hops.first()?.link?;
    Some(Origin { link, source: has(entry).unwrap_or_else(|| a_pods_address(entry.dst)) })
}

/// An address that a Pod of that CIDR may have: the first two are a VTEP's and a gateway's.
fn a_pods_address(cidr: IpNetwork) -> IpAddr {
    let spare = a_whole_address(cidr) - cidr.prefix();
    let place = if spare >= 2 { 2 } else { 0 };
    match cidr {
        IpNetwork::V4(cidr) => IpAddr::V4((cidr.network().to_bits() + place).into()),
        IpNetwork::V6(cidr) => IpAddr::V6((cidr.network().to_bits() + u128::from(place)).into()),
    }
}

/// The length of an address, in bits.
fn a_whole_address(network: IpNetwork) -> u8 {
    if network.is_ipv4() { 32 } else { 128 }
}

fn number(ip: IpAddr) -> (bool, u128) {
    match ip {
        IpAddr::V4(ip) => (true, ip.to_bits().into()),
        IpAddr::V6(ip) => (false, ip.to_bits()),
    }
}

/// IPv6 has a route of the last metric that drops what no other route is for.
fn is_dropping(entry: &Entry) -> bool {
    matches!(entry.action, Action::Blackhole | Action::Unreachable | Action::Prohibit) && entry.metric != u32::MAX
}

/// The route because of which the kernel answered `error` for a packet to `to`.
fn dropping<'a>(entries: &'a [Entry], to: IpAddr, error: &Error) -> Option<&'a Entry> {
    let answers = |entry: &&Entry| match entry.action {
        Action::Blackhole => error.is(Errno::EINVAL),
        Action::Prohibit => error.is(Errno::EACCES),
        Action::Unreachable => error.is(Errno::EHOSTUNREACH),
        _ => false,
    };
    let around = entries.iter().filter(|entry| is_dropping(entry) && entry.dst.contains(to)).filter(answers);
    around.max_by_key(|entry| entry.dst.prefix())
}

/// In words, each command once.
fn told(kernel: &Kernel, found: Vec<(Wanted, Entry)>) -> Result<Vec<Competing>> {
    let names = Names { links: link::all(kernel, At::Host)?, addresses: address::all(kernel, At::Host)? };
    let all = found.into_iter().map(|(wanted, entry)| Competing {
        pod_cidr: wanted.dst,
        route: names.route(&entry),
        command: names.command(&wanted, &entry),
    });
    let mut commands = HashSet::new();
    Ok(all.filter(|competing| commands.insert(competing.command.clone())).collect())
}

/// The node's links and addresses, for words.
struct Names {
    links: Vec<Link>,
    addresses: Vec<(u32, IpNetwork)>,
}

impl Names {
    fn link(&self, index: Option<u32>) -> Option<&str> {
        let index = index?;
        self.links.iter().find(|link| link.index == index).map(|link| link.name.as_str())
    }

    fn route(&self, entry: &Entry) -> String {
        let mut text = self.beginning(entry);
        for hop in &entry.hops {
            text.push_str(if entry.hops.len() > 1 { " nexthop" } else { "" });
            text.push_str(&self.hop(hop));
        }
        if entry.table != fib::MAIN {
            text.push_str(&format!(" table {}", table(entry.table)));
        }
        text
    }

    fn beginning(&self, entry: &Entry) -> String {
        let kind = match entry.action {
            Action::Local => "local ",
            Action::Blackhole => "blackhole ",
            Action::Unreachable => "unreachable ",
            Action::Prohibit => "prohibit ",
            Action::Forward | Action::Other => "",
        };
        let dst = if entry.dst.prefix() == 0 { "default".to_owned() } else { entry.dst.to_string() };
        format!("{kind}{dst}")
    }

    fn hop(&self, hop: &Hop) -> String {
        let via = hop.gateway.map(|gateway| format!(" via {gateway}")).unwrap_or_default();
        let dev = self.link(hop.link).map(|name| format!(" dev {name}")).unwrap_or_default();
        format!("{via}{dev}")
    }

    /// A route that the kernel made goes with its address. A shorter one, in a table that a rule leads to, may be needed
    /// for everything else.
    fn command(&self, wanted: &Wanted, entry: &Entry) -> String {
        let ip = if wanted.dst.is_ipv4() { "ip" } else { "ip -6" };
        if entry.dst.prefix() < wanted.dst.prefix() {
            return format!("{ip} rule add to {} lookup main", wanted.dst);
        }
        if let Some((name, address)) = self.address_behind(entry) {
            return format!("ip address del {address} dev {name}");
        }
        let hop = match *entry.hops {
            [hop] => self.hop(&hop),
            _ => String::new(),
        };
        let metric = if entry.metric == 0 { String::new() } else { format!(" metric {}", entry.metric) };
        let in_table = if entry.table == fib::MAIN { String::new() } else { format!(" table {}", table(entry.table)) };
        format!("{ip} route del {}{hop}{metric}{in_table}", self.beginning(entry))
    }

    fn address_behind(&self, entry: &Entry) -> Option<(&str, IpNetwork)> {
        if entry.protocol != fib::BY_KERNEL {
            return None;
        }
        let link = entry.hops.first()?.link?;
        let is_behind = |(at, address): &&(u32, IpNetwork)| *at == link && address.contains(entry.dst.network());
        let (_, address) = self.addresses.iter().find(is_behind)?;
        Some((self.link(Some(link))?, *address))
    }
}

fn table(number: u32) -> String {
    const LOCAL: u32 = 255;
    if number == LOCAL { "local".to_owned() } else { number.to_string() }
}
