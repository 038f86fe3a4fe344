//! Section 5, ADD Success: the result of one ADD against what the kernel says.

use std::net::IpAddr;

use libcni::ipnetwork::IpNetwork;
use libcni::{CniResult, Interface, Version};

use super::super::attach::Pod;
use super::super::clause::{Clause, Kind, MAKERS, Step, Trial, WIRED};
use super::super::kernel::{Link, Route};
use super::super::world::World;
use super::{GC, LISTS, shape};

const SUCCESS: &str = "Plugins must output a JSON object with the following keys upon a successful ADD operation";
const INTERFACES: &str = "interfaces: An array of all interfaces created by the attachment, including any host-level \
    interfaces";
const SANDBOX: &str = "sandbox (string): The isolation domain reference (e.g. path to network namespace) for the \
    interface, or empty if on the host. For interfaces created inside the container, this should be the value passed \
    via CNI_NETNS.";
const IPS: &str = "ips: IPs assigned by this attachment. Plugins may include IPs assigned external to the container.";
const ROUTES: &str = "routes: Routes created by this attachment";
const CONTAINER: &[Kind] = &[Kind::Interface, Kind::Chained, Kind::Chain];

/// The trials.
pub const TRIALS: &[Trial] = &[Trial {
    name: "result",
    clauses: &[
        Clause::must(
            "result.succeeds",
            "2, ADD",
            "A plugin must exit with a return code of 0 on success",
            "ADD with the configuration as it is: exit status 0.",
        ),
        Clause::must(
            "result.one-document",
            "2, ADD",
            "If the CNI plugin is successful, it must output a result structure on standard out. In addition, stderr \
             can be used for unstructured output such as logs.",
            "stdout of the ADD is one JSON document and nothing else.",
        ),
        Clause::must(
            "result.cni-version",
            "5, ADD Success",
            "cniVersion: The same version supplied on input",
            "The result's cniVersion is the configuration's.",
        ),
        Clause::must("result.shape", "5, ADD Success", SUCCESS, "Every key of the result has the type it should have."),
        Clause::must(
            "result.interface.created",
            "2, ADD",
            "A CNI plugin, upon receiving an ADD command, should either create the interface defined by CNI_IFNAME \
             inside the container at CNI_NETNS, or adjust the configuration of the interface defined by CNI_IFNAME",
            "The container has an interface of that name.",
        )
        .only(CONTAINER),
        Clause::should(
            "result.interface.up",
            "2, Overview",
            "\"Interface\" plugins, which create a network interface inside the container and ensure it has connectivity.",
            "The interface is up.",
        )
        .only(&[Kind::Interface, Kind::Loopback, Kind::Chain]),
        Clause::must(
            "result.interface.listed",
            "5, ADD Success",
            INTERFACES,
            "The result lists an interface of that name with a sandbox.",
        )
        .only(WIRED)
        .since(LISTS),
        Clause::should("result.interface.sandbox", "5, ADD Success", SANDBOX, "Its sandbox is CNI_NETNS, to the letter.")
            .only(WIRED)
            .since(LISTS),
        Clause::must(
            "result.interfaces.exist",
            "5, ADD Success",
            INTERFACES,
            "Each interface of the result is where the result says.",
        )
        .only(WIRED)
        .since(LISTS),
        Clause::must(
            "result.interfaces.mac",
            "5, ADD Success",
            "mac (string): The hardware address of the interface (if applicable).",
            "Each `mac` of the result is the one that the kernel has.",
        )
        .only(WIRED)
        .since(LISTS),
        Clause::must(
            "result.interfaces.mtu",
            "5, ADD Success",
            "mtu: (uint) The MTU of the interface (if applicable).",
            "Each `mtu` of the result is the one that the kernel has.",
        )
        .only(WIRED)
        .since(GC),
        Clause::must(
            "result.interfaces.complete",
            "5, ADD Success",
            INTERFACES,
            "Each interface that appeared in the container and on the node is in the result.",
        )
        .only(WIRED)
        .since(LISTS),
        Clause::must(
            "result.addresses.exist",
            "5, ADD Success",
            IPS,
            "Each address of the result that belongs to an interface is on it, with that prefix length.",
        )
        .only(WIRED),
        Clause::must(
            "result.addresses.complete",
            "5, ADD Success",
            IPS,
            "Each address that appeared in the container is in the result (link-local and loopback ones apart).",
        )
        .only(WIRED),
        Clause::must(
            "result.routes.exist",
            "5, ADD Success",
            ROUTES,
            "Each route of the result is in the container, through the next hop that it names (or the gateway of an \
             address), with its mtu, advmss, priority, table and scope where given.",
        )
        .only(WIRED),
        Clause::must(
            "result.routes.complete",
            "5, ADD Success",
            ROUTES,
            "Each route that appeared in the container is in the result. What `ips` implies need not be: routes to an \
             address's own subnet or to its gateway.",
        )
        .only(MAKERS),
        Clause::must(
            "result.ipam.abbreviated",
            "5, Delegated plugins (IPAM)",
            "Delegated IPAM plugins must return an abbreviated Success object. Specifically, it is missing the \
             interfaces array, as well as the interface entry in ips.",
            "The result has no interfaces, and no `interface` in its ips.",
        )
        .only(&[Kind::Ipam]),
        Clause::must(
            "result.ipam.address",
            "4, Plugin Delegation",
            "The IPAM plugin must determine the interface IP/subnet, Gateway and Routes and return this information \
             to the \"main\" plugin to apply.",
            "The result has an address.",
        )
        .only(&[Kind::Ipam]),
    ],
    run: result,
}];

fn result(w: &World) -> Step {
    judge(w, &mut w.pod()?)
}

/// ADD, and every clause of this file on it.
pub fn judge(w: &World, pod: &mut Pod) -> Step {
    w.begin(pod)?;
    let before = State::of(w, pod)?;
    let reply = w.add(pod)?;
    w.expect("result.succeeds", reply.success(), "exit status 0", reply.summary());
    if !reply.success() {
        return Err(super::super::clause::Stop::Unmet("is about a successful ADD (see result.succeeds)".to_owned()));
    }
    let document = reply.document();
    w.expect(
        "result.one-document",
        document.is_ok(),
        "one document",
        document.as_ref().err().cloned().unwrap_or_default(),
    );
    let Ok(value) = document else {
        return Err(super::super::clause::Stop::Unmet("is about a result (see result.one-document)".to_owned()));
    };
    let version = w.job.version;
    w.expect("result.cni-version", value["cniVersion"] == version.as_str(), version, &value["cniVersion"]);
    let faults = shape::faults(&value, version);
    w.expect("result.shape", faults.is_empty(), format!("a result as {version} has it"), faults.join("; "));

    // Read in the version asked for, also when it claims another: that is another clause's affair.
    let mut readable = value.clone();
    readable["cniVersion"] = serde_json::json!(version);
    let result = CniResult::from_value(&readable, version).map_err(|error| {
        super::super::clause::Stop::Unmet(format!("is about what the result says, but it does not read: {error}"))
    })?;
    if w.job.kind == Kind::Ipam {
        let bare = value.get("interfaces").is_none_or(|list| list.as_array().is_none_or(Vec::is_empty))
            && result.ips.iter().all(|ip| ip.interface.is_none());
        w.expect("result.ipam.abbreviated", bare, "no interfaces, and none in ips", &value);
        w.expect("result.ipam.address", !result.ips.is_empty(), "an address", &value);
        return Ok(());
    }
    let after = State::of(w, pod)?;
    interfaces(w, pod, &result, &before, &after);
    addresses(w, pod, &result, &before, &after);
    routes(w, &result, &before, &after);
    Ok(())
}

/// What the kernel has, on the node and in the container.
struct State {
    host: Vec<Link>,
    pod: Vec<Link>,
    routes: Vec<Route>,
}

impl State {
    fn of(w: &World, pod: &Pod) -> Step<State> {
        let netns = Some(pod.netns_name());
        Ok(State { host: w.links(None)?, pod: w.links(netns)?, routes: w.routes(netns)? })
    }

    /// The interface of the kernel that one of the result stands for.
    fn find(&self, interface: &Interface) -> Option<&Link> {
        let links = if interface.sandbox.is_empty() { &self.host } else { &self.pod };
        links.iter().find(|link| link.name == interface.name)
    }
}

fn names(links: &[Link]) -> String {
    links.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", ")
}

fn interfaces(w: &World, pod: &Pod, result: &CniResult, before: &State, after: &State) {
    let ours = after.pod.iter().find(|link| link.name == pod.ifname);
    let name = &pod.ifname;
    w.expect("result.interface.created", ours.is_some(), format!("an interface {name}"), names(&after.pod));
    match ours {
        Some(link) => w.expect("result.interface.up", link.up, format!("{name} is up"), "it is down"),
        None => w.skip("result.interface.up", format!("there is no {name} (see result.interface.created)")),
    }
    let listed = result.interfaces.iter().find(|interface| interface.name == *name && !interface.sandbox.is_empty());
    let list = format!("{:?}", result.interfaces);
    w.expect("result.interface.listed", listed.is_some(), format!("{name} with a sandbox"), &list);
    match listed {
        Some(interface) => {
            let path = pod.netns_path();
            w.expect("result.interface.sandbox", interface.sandbox == path, path, &interface.sandbox);
        }
        None => w.skip("result.interface.sandbox", format!("the result does not list {name}")),
    }
    for interface in &result.interfaces {
        let found = after.find(interface);
        let place = if interface.sandbox.is_empty() { "on the node" } else { "in the container" };
        let expected = format!("{} {place}", interface.name);
        w.expect("result.interfaces.exist", found.is_some(), &expected, format!("there is no {expected}"));
        let Some(link) = found else { continue };
        let mac_fits = interface.mac.is_empty() || interface.mac.eq_ignore_ascii_case(&link.mac);
        let of = |value: &str| format!("{} of {expected}", value);
        w.expect("result.interfaces.mac", mac_fits, of(&format!("mac {}", interface.mac)), &link.mac);
        let mtu_fits = interface.mtu.is_none_or(|mtu| u64::from(mtu) == link.mtu);
        w.expect("result.interfaces.mtu", mtu_fits, of(&format!("mtu {:?}", interface.mtu)), link.mtu);
    }
    w.skip("result.interfaces.exist", "the result lists none");
    w.skip("result.interfaces.mac", "the result lists none that exists");
    w.skip("result.interfaces.mtu", "the result lists none that exists");
    for (new, old, host) in [(&after.pod, &before.pod, false), (&after.host, &before.host, true)] {
        for link in new.iter().filter(|link| !old.iter().any(|old| old.name == link.name)) {
            let listed = result
                .interfaces
                .iter()
                .any(|interface| interface.name == link.name && interface.sandbox.is_empty() == host);
            let place = if host { "on the node" } else { "in the container" };
            w.expect("result.interfaces.complete", listed, format!("{} {place} is in the result", link.name), &list);
        }
    }
    w.expect("result.interfaces.complete", true, "", "");
}

fn addresses(w: &World, pod: &Pod, result: &CniResult, before: &State, after: &State) {
    let said: Vec<IpNetwork> = result.ips.iter().map(|ip| ip.address).collect();
    for ip in &result.ips {
        // Up to 0.2.0 there is one interface; later an address without one lies outside the container.
        let link = match ip.interface.and_then(|index| result.interfaces.get(index)) {
            Some(interface) => after.find(interface),
            None if w.job.version <= Version::V0_2_0 => after.pod.iter().find(|link| link.name == pod.ifname),
            None => continue,
        };
        let there = link.is_some_and(|link| link.addresses.contains(&ip.address));
        let got = link.map_or("no such interface".to_owned(), |link| format!("{}: {:?}", link.name, link.addresses));
        w.expect("result.addresses.exist", there, format!("{} on its interface", ip.address), got);
    }
    w.skip("result.addresses.exist", "the result has no address on an interface");
    let old: Vec<_> = before.pod.iter().flat_map(|link| &link.addresses).collect();
    for address in after.pod.iter().flat_map(|link| &link.addresses).filter(|address| !old.contains(address)) {
        if is_link_local(address.ip()) || address.ip().is_loopback() {
            continue;
        }
        w.expect(
            "result.addresses.complete",
            said.contains(address),
            format!("{address} in the result"),
            format!("{said:?}"),
        );
    }
    w.expect("result.addresses.complete", true, "", "");
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

fn routes(w: &World, result: &CniResult, before: &State, after: &State) {
    for wanted in &result.routes {
        let there = after.routes.iter().any(|route| is_route(route, wanted, result));
        let to: Vec<_> = after.routes.iter().filter(|route| same_network(route.dst, wanted.dst)).collect();
        w.expect("result.routes.exist", there, format!("{wanted:?}"), format!("routes to {}: {to:?}", wanted.dst));
    }
    w.skip("result.routes.exist", "the result has no routes");
    let new =
        after.routes.iter().filter(|route| !before.routes.contains(route) && !route.by_kernel && route.table != 255);
    for route in new {
        let said = result.routes.iter().any(|wanted| same_network(wanted.dst, route.dst));
        let implied = result.ips.iter().any(|ip| {
            same_network(ip.address, route.dst)
                || ip.gateway.is_some_and(|gateway| route.dst.ip() == gateway && is_host(route.dst))
        });
        w.expect(
            "result.routes.complete",
            said || implied,
            format!("{route:?} in the result"),
            format!("{:?}", result.routes),
        );
    }
    w.expect("result.routes.complete", true, "", "");
}

fn is_host(network: IpNetwork) -> bool {
    network.prefix() == if network.is_ipv4() { 32 } else { 128 }
}

fn same_network(a: IpNetwork, b: IpNetwork) -> bool {
    a.network() == b.network() && a.prefix() == b.prefix()
}

/// Is a route of the kernel the one that the result speaks of?
fn is_route(route: &Route, wanted: &libcni::Route, result: &CniResult) -> bool {
    let gateways: Vec<IpAddr> = match wanted.gw {
        Some(gateway) => vec![gateway],
        None => result.ips.iter().filter_map(|ip| ip.gateway).collect(),
    };
    let hop_fits = match (route.gateway, wanted.gw) {
        (None, None) => true,
        (Some(hop), _) => gateways.contains(&hop),
        // A next hop that means "on the link".
        (None, Some(gateway)) => gateway.is_unspecified(),
    };
    let fits = |wanted: Option<u32>, there: Option<u64>| wanted.is_none_or(|wanted| there == Some(u64::from(wanted)));
    same_network(route.dst, wanted.dst)
        && hop_fits
        && fits(wanted.mtu, route.mtu)
        && fits(wanted.advmss, route.advmss)
        && fits(wanted.priority, Some(route.metric))
        && fits(wanted.table, Some(route.table))
        && fits(wanted.scope.map(u32::from), Some(route.scope))
}
