//! Rules of policy routing: which packets are routed by which table.
//!
//! The kernel keeps a rule as often as it is added, and removes the first one that fits a request, in which whatever is not
//! said fits everything (`rule_find`, net/core/fib_rules.c). So a rule is looked for among all rules, compared in full, before
//! it is added or removed; a removal then says all that the kernel said of the rule, its priority included, and is not tried
//! where the kernel would take another rule for it. A rule that says more than a [`Rule`] can (ports, users, "not") is never taken
//! for one. (Messages: include/uapi/linux/fib_rules.h.)

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use nix::errno::Errno;
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::route::RouteProtocol;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};

use crate::error::{Error, Result};
use crate::kernel::{At, Kernel, changed};
use crate::message::Rtm;
use crate::plan::{Made, Object};

/// A rule: packets that fit all of its conditions are routed by its table, if that has a route for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Where.
    pub at: At,
    /// For IPv4 packets, or for IPv6 packets?
    pub ipv4: bool,
    /// The packet's source address is in this network.
    pub from: Option<IpNetwork>,
    /// The packet's destination address is in this network.
    pub to: Option<IpNetwork>,
    /// The interface that the packet came in by; `lo` for the node's own packets. It need not exist yet.
    pub input: Option<String>,
    /// The interface that the packet's socket is bound to. It need not exist yet.
    pub output: Option<String>,
    /// The packet's mark.
    pub mark: Option<Mark>,
    /// The table, 1 to 4294967295 (`main` is 254).
    pub table: u32,
    /// In which order: lower is asked first, `local` is 0 and `main` 32766. By default before all that are there but `local`.
    /// A rule without one is as described at any priority.
    pub priority: Option<u32>,
    /// Who made it (FRA_PROTOCOL): RTPROT_… of include/uapi/linux/rtnetlink.h, 0 if nobody says.
    pub protocol: u8,
}

/// A condition on a packet's mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mark {
    /// What it has to be.
    pub value: u32,
    /// In these bits.
    pub mask: u32,
}

impl Object for Rule {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        if self.is_there(kernel)? {
            return Ok(Made::Already);
        }
        let made = self.send(kernel, NLM_F_EXCL);
        let Err(error) = made else { return Ok(Made::New) };
        if !error.is(Errno::EEXIST) {
            return Err(error);
        }
        // Another process was faster, or the kernel takes a rule with more conditions for this one.
        if self.is_there(kernel)? {
            return Ok(Made::Already);
        }
        self.send(kernel, 0).map(|()| Made::New)
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        match self.is_there(kernel)? {
            true => Ok(()),
            false => Err(changed(format!("{} is missing", self.words()))),
        }
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        let told = tell(kernel, self.at, self.ipv4)?;
        for (place, Told { rule, .. }) in told.iter().enumerate().filter(|(_, told)| self.is(told)) {
            if told[..place].iter().any(|other| other.rule != *rule && rule.would_take(&other.rule)) {
                return Err(self.behind_another());
            }
            let message = Rtm::del_rule(rule.message());
            match kernel.route(self.at).change(message, 0, &|| format!("removing {}", self.words())) {
                Err(error) if !error.is(Errno::ENOENT) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Rule {
    /// A rule without conditions, for packets of one family.
    pub fn lookup(at: At, ipv4: bool, table: u32) -> Self {
        let (from, to, input, output, mark, priority) = (None, None, None, None, None, None);
        Rule { at, ipv4, from, to, input, output, mark, table, priority, protocol: 0 }
    }

    /// Is there a rule that is as this one describes?
    fn is_there(&self, kernel: &Kernel) -> Result<bool> {
        Ok(tell(kernel, self.at, self.ipv4)?.iter().any(|told| self.is(told)))
    }

    fn is(&self, told: &Told) -> bool {
        let wanted = self.normal();
        told.is_all && Rule { priority: wanted.priority.and(told.rule.priority), ..told.rule.clone() } == wanted
    }

    /// Asked to remove this rule, would the kernel take that one? It does not look at the protocol, nor at what is not said.
    fn would_take(&self, other: &Rule) -> bool {
        fn fits<T: PartialEq>(asked: &Option<T>, other: &Option<T>) -> bool {
            asked.is_none() || asked == other
        }
        (self.table, self.priority) == (other.table, other.priority)
            && fits(&self.from, &other.from)
            && fits(&self.to, &other.to)
            && fits(&self.input, &other.input)
            && fits(&self.output, &other.output)
            && fits(&self.mark, &other.mark)
    }

    fn behind_another(&self) -> Error {
        Error::NotOurs(format!(
            "{} can't be removed: a rule with the same priority and more conditions comes first, and the kernel would remove that \
             one; remove it, or give it another priority",
            self.words()
        ))
    }

    /// As the kernel tells it: networks without host bits, no condition that every packet fits.
    fn normal(&self) -> Rule {
        let network = |network: Option<IpNetwork>| {
            let network = network.filter(|network| network.prefix() > 0)?;
            IpNetwork::new(network.network(), network.prefix()).ok()
        };
        let mark = self.mark.filter(|mark| *mark != Mark { value: 0, mask: 0 });
        Rule { from: network(self.from), to: network(self.to), mark, ..self.clone() }
    }

    fn send(&self, kernel: &Kernel, flags: u16) -> Result<()> {
        let message = Rtm::new_rule(self.normal().message());
        kernel.route(self.at).change(message, NLM_F_CREATE | flags, &|| format!("adding {}", self.words()))
    }

    fn words(&self) -> String {
        let family = if self.ipv4 { "IPv4" } else { "IPv6" };
        let from = self.from.map(|from| format!(" from {from}")).unwrap_or_default();
        let to = self.to.map(|to| format!(" to {to}")).unwrap_or_default();
        let input = self.input.as_ref().map(|link| format!(" iif {link:?}")).unwrap_or_default();
        let output = self.output.as_ref().map(|link| format!(" oif {link:?}")).unwrap_or_default();
        let mark = self.mark.map(|mark| format!(" fwmark {:#x}/{:#x}", mark.value, mark.mask)).unwrap_or_default();
        let place = self.at.words();
        format!("the {family} routing rule{from}{to}{input}{output}{mark} to table {} {place}", self.table)
    }

    /// The rule as a message.
    fn message(&self) -> RuleMessage {
        let mut message = RuleMessage::default();
        let prefix = |network: &Option<IpNetwork>| network.map(|network| network.prefix()).unwrap_or_default();
        message.header.family = if self.ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
        message.header.src_len = prefix(&self.from);
        message.header.dst_len = prefix(&self.to);
        message.header.action = RuleAction::ToTable;
        let attributes = &mut message.attributes;
        // The header has a byte for the table; what does not fit goes beside it.
        match u8::try_from(self.table) {
            Ok(table) => message.header.table = table,
            Err(_) => attributes.push(RuleAttribute::Table(self.table)),
        }
        attributes.extend(self.priority.map(RuleAttribute::Priority));
        attributes.extend(self.from.map(|network| RuleAttribute::Source(network.ip())));
        attributes.extend(self.to.map(|network| RuleAttribute::Destination(network.ip())));
        attributes.extend(self.input.clone().map(RuleAttribute::Iifname));
        attributes.extend(self.output.clone().map(RuleAttribute::Oifname));
        if let Some(Mark { value, mask }) = self.mark {
            attributes.extend([RuleAttribute::FwMark(value), RuleAttribute::FwMask(mask)]);
        }
        attributes.push(RuleAttribute::Protocol(RouteProtocol::from(self.protocol)));
        message
    }
}

/// Every rule of one family that a [`Rule`] describes in full, in the kernel's order.
pub fn all(kernel: &Kernel, at: At, ipv4: bool) -> Result<Vec<Rule>> {
    Ok(tell(kernel, at, ipv4)?.into_iter().filter(|told| told.is_all).map(|told| told.rule).collect())
}

/// What the kernel tells of a rule.
pub(crate) struct Told {
    rule: Rule,
    /// Does it say no more than that?
    is_all: bool,
}

/// The rules of one family that lead to a table, in the kernel's order.
fn tell(kernel: &Kernel, at: At, ipv4: bool) -> Result<Vec<Told>> {
    let mut message = RuleMessage::default();
    message.header.family = if ipv4 { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let rules = kernel.route(at).dump(Rtm::get_rule(message), &|| format!("listing routing rules {}", at.words()))?;
    Ok(rules.iter().filter_map(|message| read(at, message)).collect())
}

/// Reads a rule; none if it leads to no table.
pub(crate) fn read(at: At, message: &RuleMessage) -> Option<Told> {
    let header = &message.header;
    let ipv4 = header.family == AddressFamily::Inet;
    if header.action != RuleAction::ToTable {
        return None;
    }
    // "not", and a type of service. The other flags tell whether the interfaces exist.
    let mut is_all = !header.flags.contains(RuleFlags::Invert) && header.tos == 0;
    let network = |ip: &IpAddr, prefix| IpNetwork::new(*ip, prefix).ok();
    let mut rule = Rule { priority: Some(0), ..Rule::lookup(at, ipv4, header.table.into()) };
    let (mut value, mut mask) = (0, 0);
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Table(table) => rule.table = *table,
            RuleAttribute::Priority(priority) => rule.priority = Some(*priority),
            RuleAttribute::Source(ip) => rule.from = network(ip, header.src_len),
            RuleAttribute::Destination(ip) => rule.to = network(ip, header.dst_len),
            RuleAttribute::Iifname(name) => rule.input = Some(name.clone()),
            RuleAttribute::Oifname(name) => rule.output = Some(name.clone()),
            RuleAttribute::FwMark(mark) => value = *mark,
            RuleAttribute::FwMask(mark) => mask = *mark,
            RuleAttribute::Protocol(protocol) => rule.protocol = (*protocol).into(),
            // The kernel always tells it: -1 if it is not set.
            RuleAttribute::SuppressPrefixLen(u32::MAX) => {}
            _ => is_all = false,
        }
    }
    rule.mark = (value != 0 || mask != 0).then_some(Mark { value, mask });
    Some(Told { rule, is_all })
}
