//! Section 2, ADD: success, names, an interface that exists already, every claimed version, connectivity.

use serde_json::{Value, json};

use libcni::{CniResult, Version};

use super::super::attach::Pod;
use super::super::clause::{Clause, Kind, Level, MAKERS, Step, Stop, Trial, Verdict, WIRED};
use super::super::exec::{Call, Ended};
use super::super::world::World;
use super::{LISTS, shape};

const EXISTS: &str = "If an interface of the requested name already exists in the container, the CNI plugin MUST \
    return with an error.";
const IFNAME: &str = "CNI_IFNAME: Name of the interface to create inside the container; if the plugin is unable to use \
    this interface name it must return an error.";
const CONNECTIVITY: &str = "\"Interface\" plugins, which create a network interface inside the container and ensure it \
    has connectivity.";

/// The trials.
pub const TRIALS: &[Trial] = &[
    Trial {
        name: "interface names",
        clauses: &[Clause::must(
            "add.ifname.any",
            "2, Parameters",
            IFNAME,
            "ADD with CNI_IFNAME net1 and with 15 letters, the longest that the kernel takes: each interface is there.",
        )
        .only(MAKERS)],
        run: names,
    },
    Trial {
        name: "interface exists",
        clauses: &[
            Clause::must(
                "add.interface-exists",
                "2, ADD",
                EXISTS,
                "ADD into a container that has an eth0 already: refused. (`lo`, which every container has, is apart.)",
            )
            .only(&[Kind::Interface]),
            Clause::should(
                "add.interface-exists.untouched",
                "2, ADD",
                EXISTS,
                "The eth0 that was there is there afterwards, with its hardware address.",
            )
            .only(&[Kind::Interface]),
        ],
        run: exists,
    },
    Trial {
        name: "every version",
        clauses: &[
            Clause::must(
                "add.every-version",
                "5, ADD Success",
                "cniVersion: The same version supplied on input",
                "ADD once in each version that VERSION claims: it succeeds, and the result carries that version and has \
                 its shape (`ip4` and `ip6` up to 0.2.0, `ips[].version` up to 0.4.0).",
            ),
            Clause::must(
                "add.every-version.kernel",
                "5, ADD Success",
                "ips: IPs assigned by this attachment; routes: Routes created by this attachment; interfaces: An array of all \
                 interfaces created by the attachment, including any host-level interfaces",
                "The same ADDs, up to the first version that is not told rightly: each interface, hardware address, MTU, address, \
                 route and sandbox of the result is there, and nothing else has appeared (what `result` tests in one version).",
            )
            .only(WIRED),
        ],
        run: every_version,
    },
    Trial {
        name: "connectivity",
        clauses: &[
            Clause::should(
                "add.reaches-gateway",
                "2, Overview",
                CONNECTIVITY,
                "One ping from the container to each gateway of the result that is an address of the node.",
            )
            .only(MAKERS),
            Clause::should(
                "add.pods-reach-each-other",
                "Overview",
                "network refers to a group of endpoints that are uniquely addressable that can communicate amongst \
                 each other.",
                "One ping between two containers, for each address of the second (unless both have the same).",
            )
            .only(MAKERS),
        ],
        run: connectivity,
    },
];

fn names(w: &World) -> Step {
    for name in ["net1", "abcdefghijklmno"] {
        let mut pod = w.pod()?;
        pod.ifname = name.to_owned();
        let reply = w.add(&mut pod)?;
        let there = w.link(Some(pod.netns_name()), name)?.is_some();
        w.expect("add.ifname.any", reply.success(), format!("ADD of {name} succeeds"), reply.summary());
        w.expect("add.ifname.any", there, format!("an interface {name} in the container"), "there is none");
        w.deleted(&pod)?;
    }
    Ok(())
}

fn exists(w: &World) -> Step {
    let mut pod = w.pod()?;
    occupy(w, &pod)?;
    let before = w.link(Some(pod.netns_name()), "eth0")?.map(|link| link.mac);
    let reply = w.add(&mut pod)?;
    w.expect("add.interface-exists", reply.refused(), "an exit status other than 0", reply.summary());
    let after = w.link(Some(pod.netns_name()), "eth0")?.map(|link| link.mac);
    let id = "add.interface-exists.untouched";
    match reply.ended {
        Ended::Hung(_) => w.skip(id, "the ADD came to no end"),
        _ => w.expect(id, before == after, format!("eth0 as before: {before:?}"), format!("{after:?}")),
    }
    Ok(())
}

/// Puts a foreign `eth0` into the container, as a forgotten or foreign interface would be there.
pub fn occupy(w: &World, pod: &Pod) -> Step {
    let netns = pod.netns_name();
    w.sh(None, &format!("ip -n {netns} link add eth0 type veth peer name foreign"))?;
    w.note("a foreign eth0 put into the container");
    Ok(())
}

/// A call in another version: the configuration's, and that of a `prevResult`.
pub fn in_version(call: Call, version: Version) -> Call {
    call.edit(|config| {
        config["cniVersion"] = json!(version);
        if let Some(previous) = config.get_mut("prevResult").filter(|previous| !previous.is_null()) {
            let translated = CniResult::from_value(previous, version).and_then(|result| result.to_value(version));
            *previous = translated.unwrap_or_else(|_| previous.clone());
        }
    })
}

fn every_version(w: &World) -> Step {
    let chained = matches!(w.job.kind, Kind::Chained | Kind::Chain);
    for &version in w.job.claims.iter().filter(|&&version| !chained || version >= LISTS) {
        let mut pod = w.pod()?;
        let reply = w.add_with(&mut pod, |call| in_version(call, version))?;
        w.expect("add.every-version", reply.success(), format!("ADD in {version} succeeds"), reply.summary());
        let value = reply.document().unwrap_or_default();
        if reply.success() {
            let echoed = value["cniVersion"] == version.as_str();
            w.expect("add.every-version", echoed, format!("cniVersion {version}"), &value["cniVersion"]);
            let faults = shape::faults(&value, version);
            w.expect(
                "add.every-version",
                faults.is_empty(),
                format!("a result as {version} has it"),
                faults.join("; "),
            );
        }
        w.del_with(&pod, |call| in_version(call, version))?;
    }
    if w.job.kind == Kind::Ipam {
        return Ok(());
    }
    for &version in w.job.claims.iter().filter(|&&version| !chained || version >= LISTS) {
        as_the_kernel_has_it(w, version)?;
    }
    Ok(())
}

/// All that `result` says of interfaces, addresses and routes, in one version.
fn as_the_kernel_has_it(w: &World, version: Version) -> Step {
    let inner = w.in_version(version);
    let mut pod = inner.pod()?;
    let ended = super::result::judge(&inner, &mut pod);
    match ended {
        Err(Stop::Suite(reason)) => return Err(Stop::Suite(reason)),
        Err(Stop::Unmet(reason)) => {
            w.skip("add.every-version.kernel", format!("in {version}: {reason}"));
            return Ok(());
        }
        Ok(()) => inner.del(&pod)?,
    };
    for (id, verdict) in inner.into_findings() {
        let about = ["result.interface", "result.addresses.", "result.routes."];
        let told = about.iter().any(|beginning| id.starts_with(beginning));
        let applies = super::clauses().any(|clause| {
            clause.id == id
                && clause.level == Level::Must
                && clause.does_not_apply(w.job.kind, version, w.delegate()).is_none()
        });
        if let (true, true, Verdict::Failed { expected, got, .. }) = (told, applies, verdict) {
            w.note(format!("ADD in {version} ({id})"));
            w.expect("add.every-version.kernel", false, format!("{expected}, in {version}"), got);
        }
    }
    w.expect("add.every-version.kernel", true, "", "");
    Ok(())
}

fn connectivity(w: &World) -> Step {
    let (first, added) = w.attached()?;
    let (_second, other) = w.attached()?;
    let pings = |address: std::net::IpAddr| {
        let word = if address.is_ipv6() { "ping -6" } else { "ping" };
        // A new address of IPv6 takes part after its duplicates were looked for (a second or two).
        let script = format!("for try in 1 2 3 4; do {word} -n -c 1 -W 1 {address} >/dev/null && exit 0; done; exit 1");
        w.note(format!("ping {address} from {}", first.netns_name()));
        w.try_sh(Some(first.netns_name()), &script).is_ok()
    };

    let here: Vec<_> = w.links(None)?.into_iter().flat_map(|link| link.addresses).map(|address| address.ip()).collect();
    let gateways: Vec<_> = added.result.ips.iter().filter_map(|ip| ip.gateway).filter(|ip| here.contains(ip)).collect();
    for &gateway in &gateways {
        w.expect("add.reaches-gateway", pings(gateway), format!("{gateway} answers"), "no answer");
    }
    if gateways.is_empty() {
        w.skip("add.reaches-gateway", "no gateway of the result is an address of the node");
    }

    let own: Vec<_> = added.result.ips.iter().map(|ip| ip.address.ip()).collect();
    for address in other.result.ips.iter().map(|ip| ip.address.ip()).filter(|ip| !own.contains(ip)) {
        w.expect("add.pods-reach-each-other", pings(address), format!("{address} answers"), "no answer");
    }
    w.skip("add.pods-reach-each-other", "the two containers have no addresses of their own");
    Ok(())
}

/// Does the configuration itself name this very address, in CIDR notation, as a static one?
pub fn configured(w: &World, address: &str) -> bool {
    let cidr = format!("\"{address}/");
    w.job.network.plugins.iter().any(|plugin| Value::Object(plugin.clone()).to_string().contains(&cidr))
}
