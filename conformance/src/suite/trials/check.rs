//! Section 2, CHECK: right after ADD, after each thing of the result is broken, after a later plugin's changes.

use serde_json::json;

use libcni::Version;

use super::super::attach::{Added, Pod};
use super::super::clause::{Clause, Kind, Step, Trial};
use super::super::exec::Reply;
use super::super::world::World;
use super::CHECK;

const AFTER_ADD: &str = "The plugin must handle CHECK being called immediately after an ADD, and therefore should allow a \
    reasonable convergence delay for any asynchronous resources.";
const BROKEN: &str = "The plugin should return an error if a resource included in the CNI Result type (interface, address or \
    route) was created by the plugin, and is listed in prevResult, but is missing or in an invalid state.";
const OTHERS: &str = "The plugin should return an error if other resources not tracked in the Result type such as the following \
    are missing or are in an invalid state: Firewall rules, Traffic shaping controls, IP reservations";
const LATER: &str =
    "The plugin must allow for a later chained plugin to have modified networking resources, e.g. routes, on ADD.";
const MAKER: &[Kind] = &[Kind::Interface, Kind::Chain];
const ADDRESSED: &[Kind] = &[Kind::Interface, Kind::Chain];

/// The trials.
pub const TRIALS: &[Trial] = &[
    Trial {
        name: "CHECK after ADD",
        clauses: &[
            Clause::must("check.after-add", "2, CHECK", AFTER_ADD, "ADD, CHECK at once: it succeeds.").since(CHECK),
            Clause::should("check.no-output", "Appendix, Check example",
                "Assuming the bridge plugin is satisfied, it produces no output on standard out and exits with a 0 return code.",
                "The same CHECK: stdout is empty.").since(CHECK),
            Clause::should("check.changes-nothing", "2, CHECK",
                "CHECK is a way for a runtime to probe the status of an existing container.",
                "The node and the container after the CHECK are as they were before it.").since(CHECK),
        ],
        run: after_add,
    },
    Trial {
        name: "CHECK of what is broken",
        clauses: &[
            Clause::should("check.interface-deleted", "2, CHECK", BROKEN,
                "ADD; the interface is deleted; CHECK fails.").only(MAKER).since(CHECK),
            Clause::should("check.interface-renamed", "2, CHECK", BROKEN,
                "ADD; the interface is renamed; CHECK fails.").only(MAKER).since(CHECK),
            Clause::should("check.interface-down", "2, CHECK", BROKEN,
                "ADD; the interface is set down; CHECK fails.").only(&[Kind::Interface, Kind::Loopback, Kind::Chain]).since(CHECK),
            Clause::should("check.mac-changed", "2, CHECK", BROKEN,
                "ADD; the interface gets another hardware address than prevResult has; CHECK fails.").only(MAKER).since(CHECK),
            Clause::should("check.mtu-changed", "2, CHECK", BROKEN,
                "ADD; the interface gets a larger MTU than prevResult has, as no chained plugin gives it (a smaller one may be \
                 a later plugin's of an earlier version); CHECK fails.").only(MAKER).since(super::GC),
            Clause::should("check.address-removed", "2, CHECK", BROKEN,
                "ADD; an address of the result is removed, and the routes that go with it are put back; CHECK fails.").only(ADDRESSED).since(CHECK),
            Clause::should("check.route-removed", "2, CHECK", BROKEN,
                "ADD; a route of the result is removed; CHECK fails.").only(ADDRESSED).since(CHECK),
            Clause::should("check.host-interface-down", "2, CHECK", BROKEN,
                "ADD; the node's end of a veth of the result is set down; CHECK fails.").only(MAKER).since(CHECK),
            Clause::should("check.host-interface-detached", "2, CHECK", BROKEN,
                "ADD; the node's end is taken out of its bridge; CHECK fails.").only(MAKER).since(CHECK),
            Clause::should("check.netns-gone", "2, CHECK", BROKEN,
                "ADD; the container's namespace is removed; CHECK fails.").only(&[Kind::Interface, Kind::Loopback, Kind::Chain]).since(CHECK),
        ],
        run: broken,
    },
    Trial {
        name: "CHECK without the reservation",
        clauses: &[
            Clause::should("check.reservation-gone", "2, CHECK", OTHERS,
                "ADD; the reservation is released behind the plugin's back, by a DEL of its delegate (of an IPAM plugin: its \
                 own); CHECK fails.").only(&[Kind::Interface, Kind::Ipam, Kind::Chain]).since(CHECK),
        ],
        run: reservation,
    },
    Trial {
        name: "CHECK after a later plugin",
        clauses: &[
            Clause::must("check.later-plugin.added", "2, CHECK", LATER,
                "ADD; an interface with an address and a route is added to the container and to prevResult; CHECK succeeds.")
                .only(&[Kind::Interface, Kind::Loopback, Kind::Chained, Kind::Chain]).since(CHECK),
            Clause::must("check.later-plugin.changed-routes", "2, CHECK", LATER,
                "ADD; the routes of the result are removed from the container and from prevResult, another is added to both; \
                 CHECK succeeds.").only(&[Kind::Interface, Kind::Chain]).since(CHECK),
            Clause::must("check.later-plugin.changed-mac", "2, CHECK",
                "First call the bridge plugin with the prevResult field containing the final JSON response from the Add operation, \
                 including the changed mac",
                "ADD; the interface gets another hardware address, and prevResult has it; CHECK succeeds.")
                .only(&[Kind::Interface]).since(CHECK),
        ],
        run: later,
    },
];

fn fails(w: &World, id: &'static str, reply: &Reply) {
    w.expect(id, reply.refused(), "CHECK fails with an exit status other than 0", reply.summary());
}

/// A Pod that has been added and whose CHECK succeeds, so that a failure later is news.
fn checked(w: &World) -> Step<(Pod, Added)> {
    let (pod, added) = w.attached()?;
    w.checked(&pod)?;
    Ok((pod, added))
}

fn after_add(w: &World) -> Step {
    let (pod, _) = w.attached()?;
    let before = (w.snapshot(None)?, w.snapshot(Some(pod.netns_name()))?);
    let reply = w.check(&pod)?;
    w.expect("check.after-add", reply.success(), "CHECK succeeds", reply.summary());
    let silent = reply.stdout.trim().is_empty();
    match reply.success() {
        true => w.expect("check.no-output", silent, "nothing on stdout", reply.summary()),
        false => w.skip("check.no-output", "CHECK does not succeed (see check.after-add)"),
    }
    let after = (w.snapshot(None)?, w.snapshot(Some(pod.netns_name()))?);
    let mut changes = after.0.all_since(&before.0);
    changes.extend(before.0.all_since(&after.0));
    changes.extend(after.1.all_since(&before.1));
    changes.extend(before.1.all_since(&after.1));
    w.expect("check.changes-nothing", changes.is_empty(), "node and container as before", changes.join("; "));
    Ok(())
}

fn broken(w: &World) -> Step {
    let down = |pod: &Pod| format!("ip -n {} link set {} down", pod.netns_name(), pod.ifname);
    let (pod, _) = checked(w)?;
    break_with(w, "check.interface-down", &pod, &down(&pod))?;
    let (pod, _) = checked(w)?;
    w.remove_netns(&pod)?;
    fails(w, "check.netns-gone", &w.check(&pod)?);
    if w.job.kind == Kind::Loopback {
        return Ok(());
    }
    let in_pod = |pod: &Pod, script: &str| format!("ip -n {} {}", pod.netns_name(), script.replace("IF", &pod.ifname));
    for (id, script) in [
        ("check.interface-deleted", "link del IF"),
        ("check.interface-renamed", "link set IF down name renamed"),
        ("check.mac-changed", "link set IF address 02:ff:ff:ff:ff:01"),
        ("check.mtu-changed", "link set IF mtu 9000"),
    ] {
        let (pod, _) = checked(w)?;
        match id == "check.mtu-changed" && !says_mtu(&pod) {
            true => w.skip(id, "the result does not tell the interface's mtu"),
            false => break_with(w, id, &pod, &in_pod(&pod, script))?,
        }
    }
    broken_addresses(w)?;
    broken_host(w)
}

/// Does the result tell the interface's MTU?
fn says_mtu(pod: &Pod) -> bool {
    let interfaces = pod.result.as_ref().and_then(|result| result["interfaces"].as_array());
    interfaces.into_iter().flatten().any(|interface| interface["name"] == pod.ifname && interface["mtu"].is_u64())
}

fn break_with(w: &World, id: &'static str, pod: &Pod, script: &str) -> Step {
    if let Err(why) = w.try_sh(None, script) {
        w.skip(id, format!("the kernel does not let it be broken: {why}"));
        return Ok(());
    }
    w.note(script);
    fails(w, id, &w.check(pod)?);
    Ok(())
}

fn broken_addresses(w: &World) -> Step {
    let (pod, added) = checked(w)?;
    match added.result.ips.iter().find(|ip| ip.interface.is_some()) {
        None => w.skip("check.address-removed", "the result has no address on an interface"),
        Some(ip) => {
            // The routes go with the address: they are put back, so that it is the address that is missed.
            let script = format!(
                "ip -n {netns} addr del {address} dev {ifname}
                 {routes}",
                netns = pod.netns_name(),
                address = ip.address,
                ifname = pod.ifname,
                routes = put_back(&pod, &added.result),
            );
            break_with(w, "check.address-removed", &pod, &script)?;
        }
    }
    let (pod, added) = checked(w)?;
    match added.result.routes.first() {
        None => w.skip("check.route-removed", "the result has no routes"),
        Some(route) => {
            break_with(w, "check.route-removed", &pod, &remove_route(&pod, route))?;
        }
    }
    Ok(())
}

/// Adds the routes of a result again, whatever the addresses say; what can't be added stays away.
fn put_back(pod: &Pod, result: &libcni::CniResult) -> String {
    let add = |route: &libcni::Route| {
        let of_family = |ip: &&libcni::IpConfig| ip.address.is_ipv4() == route.dst.is_ipv4();
        let gateway = route.gw.or_else(|| result.ips.iter().filter(of_family).find_map(|ip| ip.gateway));
        let via = gateway.map(|gateway| format!("via {gateway}")).unwrap_or_default();
        let (netns, ifname) = (pod.netns_name(), &pod.ifname);
        format!("ip -n {netns} route replace {} {via} dev {ifname} onlink 2>/dev/null || true\n", route.dst)
    };
    result.routes.iter().map(add).collect()
}

fn remove_route(pod: &Pod, route: &libcni::Route) -> String {
    let family = if route.dst.is_ipv4() { "-4" } else { "-6" };
    let table = route.table.map(|table| format!(" table {table}")).unwrap_or_default();
    format!("ip -n {} {family} route del {}{table}", pod.netns_name(), route.dst)
}

/// What the result lists on the node and is a veth: this attachment's own end.
fn broken_host(w: &World) -> Step {
    let ids = ["check.host-interface-down", "check.host-interface-detached"];
    for id in ids {
        let (pod, added) = checked(w)?;
        let links = w.links(None)?;
        let listed = added.result.interfaces.iter().filter(|interface| interface.sandbox.is_empty());
        let own = listed
            .filter_map(|interface| links.iter().find(|link| link.name == interface.name && link.kind == "veth"))
            .next();
        let Some(link) = own else {
            w.skip(id, "the result lists no veth on the node");
            continue;
        };
        match (id, &link.master) {
            ("check.host-interface-detached", None) => w.skip(id, format!("{} is in no bridge", link.name)),
            ("check.host-interface-detached", Some(_)) => {
                break_with(w, id, &pod, &format!("ip link set {} nomaster", link.name))?;
            }
            _ => break_with(w, id, &pod, &format!("ip link set {} down", link.name))?,
        }
    }
    Ok(())
}

fn reservation(w: &World) -> Step {
    let id = "check.reservation-gone";
    let (pod, added) = checked(w)?;
    let named = added.result.ips.iter().any(|ip| super::add::configured(w, &ip.address.ip().to_string()));
    if named || added.result.ips.is_empty() {
        w.skip(id, "the configuration itself names the address: nothing is reserved");
        return Ok(());
    }
    let released = match w.job.kind {
        Kind::Ipam => w.del(&pod)?,
        _ => match w.delegate_call("DEL", &pod)? {
            Some(call) => w.execute(&call)?,
            None => {
                w.skip(id, "the configuration names no delegate (ipam.type)");
                return Ok(());
            }
        },
    };
    if !released.success() {
        w.skip(id, format!("the reservation could not be released: {}", released.summary()));
        return Ok(());
    }
    fails(w, id, &w.check(&pod)?);
    Ok(())
}

fn later(w: &World) -> Step {
    let succeeds = |id: &'static str, pod: &Pod| -> Step {
        let reply = w.check(pod)?;
        w.expect(id, reply.success(), "CHECK succeeds", reply.summary());
        Ok(())
    };
    let (mut pod, _) = checked(w)?;
    let netns = pod.netns_name().to_owned();
    w.sh(
        None,
        &format!(
            "ip -n {netns} link add later0 type veth peer name later1
             ip -n {netns} addr add 198.51.100.2/24 dev later0
             ip -n {netns} link set later1 up
             ip -n {netns} link set later0 up
             ip -n {netns} route add 203.0.113.0/24 via 198.51.100.1"
        ),
    )?;
    w.note("later0 with an address and a route added to the container, and to prevResult");
    let path = pod.netns_path();
    if let Some(result) = &mut pod.result {
        let number = push(result, "interfaces", json!({"name": "later0", "sandbox": path}));
        let mut ip = json!({"address": "198.51.100.2/24", "interface": number});
        if w.job.version < Version::V1_0_0 {
            ip["version"] = json!("4");
        }
        push(result, "ips", ip);
        push(result, "routes", json!({"dst": "203.0.113.0/24", "gw": "198.51.100.1"}));
    }
    succeeds("check.later-plugin.added", &pod)?;
    if !matches!(w.job.kind, Kind::Interface | Kind::Chain) {
        return Ok(());
    }

    let (mut pod, added) = checked(w)?;
    for route in &added.result.routes {
        w.sh(None, &remove_route(&pod, route))?;
    }
    w.sh(None, &format!("ip -n {} route add 203.0.113.0/24 dev {}", pod.netns_name(), pod.ifname))?;
    w.note("the result's routes replaced by another, in the container and in prevResult");
    if let Some(result) = &mut pod.result {
        result["routes"] = json!([{"dst": "203.0.113.0/24"}]);
    }
    match added.result.routes.is_empty() {
        true => w.skip("check.later-plugin.changed-routes", "the result has no routes"),
        false => succeeds("check.later-plugin.changed-routes", &pod)?,
    }

    let (mut pod, _) = checked(w)?;
    let mac = "02:ff:ff:ff:ff:02";
    w.sh(None, &format!("ip -n {} link set {} address {mac}", pod.netns_name(), pod.ifname))?;
    w.note(format!("the hardware address changed to {mac}, in prevResult too"));
    let ifname = pod.ifname.clone();
    for interface in pod.result.iter_mut().flat_map(|result| result["interfaces"].as_array_mut()).flatten() {
        if interface["name"] == ifname.as_str() && interface["sandbox"].as_str().is_some_and(|path| !path.is_empty()) {
            interface["mac"] = json!(mac);
        }
    }
    succeeds("check.later-plugin.changed-mac", &pod)
}

/// Appends to a list of a result, which may be missing or `null`; where it stands there.
fn push(result: &mut serde_json::Value, key: &str, value: serde_json::Value) -> usize {
    if !result[key].is_array() {
        result[key] = json!([]);
    }
    let list = result[key].as_array_mut().expect("made one above");
    list.push(value);
    list.len() - 1
}
