//! `prevResult`: passed through, extended, and what a plugin must not lose of it (sections 2 and 5).

use serde_json::{Value, json};

use libcni::{CniResult, Version};

use super::super::clause::{Clause, Kind, Step, Stop, Trial};
use super::super::world::World;
use super::LISTS;

const OUTPUT: &str = "Plugins provided a prevResult key as part of their request configuration must output it as their \
    result, with any possible modifications made by that plugin included. If a plugin makes no changes that would be \
    reflected in the Success result type, then it must output a result equivalent to the provided prevResult.";
const HANDLE: &str = "If the plugin was supplied a prevResult as part of its input configuration, it MUST handle \
    prevResult by either passing it through, or modifying it appropriately.";

/// The trials.
pub const TRIALS: &[Trial] = &[
    Trial {
        name: "prevResult of a chained plugin",
        clauses: &[
            Clause::must(
                "prev-result.kept",
                "5, ADD Success",
                OUTPUT,
                "ADD onto a first plugin's result: each of its interfaces, addresses and routes is in the result.",
            )
            .only(&[Kind::Chained])
            .since(LISTS),
            Clause::must(
                "prev-result.dns-kept",
                "5, ADD Success",
                OUTPUT,
                "ADD onto a result with dns: each name server, search domain and option, and the domain, is in the result.",
            )
            .only(&[Kind::Chained])
            .since(LISTS),
            Clause::should(
                "prev-result.malformed",
                "2, Errors",
                "A plugin must exit with a return code of 0 on success, and non-zero on failure.",
                "ADD with a prevResult that is none (a text in place of its ips): refused.",
            )
            .only(&[Kind::Chained])
            .since(LISTS),
        ],
        run: chained,
    },
    Trial {
        name: "prevResult of an interface plugin",
        clauses: &[Clause::must(
            "prev-result.handled",
            "2, ADD",
            HANDLE,
            "ADD with a prevResult that tells of another interface of the container, net0, with an address: both are in the \
             result, and so is an interface that the plugin made.",
        )
        .only(&[Kind::Interface, Kind::Loopback])
        .since(LISTS)],
        run: interface,
    },
];

fn read(value: &Value, version: Version) -> Step<CniResult> {
    CniResult::from_value(value, version).map_err(|error| Stop::Unmet(format!("the result does not read: {error}")))
}

/// The parts of `before` that `after` lacks, for a person. Hardware addresses and MTUs may have changed.
fn lost(before: &CniResult, after: &CniResult) -> Vec<String> {
    let interface = |interface: &libcni::Interface| (interface.name.clone(), interface.sandbox.clone());
    let mut lost = Vec::new();
    for wanted in &before.interfaces {
        if !after.interfaces.iter().any(|there| interface(there) == interface(wanted)) {
            lost.push(format!("interface {}", wanted.name));
        }
    }
    for wanted in &before.ips {
        let of = |result: &CniResult, index: Option<usize>| {
            index.and_then(|index| Some(result.interfaces.get(index)?.name.clone()))
        };
        let same = |there: &libcni::IpConfig| {
            there.address == wanted.address
                && there.gateway == wanted.gateway
                && of(after, there.interface) == of(before, wanted.interface)
        };
        if !after.ips.iter().any(same) {
            lost.push(format!("address {}", wanted.address));
        }
    }
    lost.extend(
        before.routes.iter().filter(|route| !after.routes.contains(route)).map(|route| format!("route {}", route.dst)),
    );
    lost
}

fn chained(w: &World) -> Step {
    let (pod, added) = w.attached()?;
    let before = pod.before.clone().ok_or_else(|| Stop::Suite("a chained plugin without a base".to_owned()))?;
    let before = read(&before, w.job.version)?;
    let lost = lost(&before, &added.result);
    w.expect(
        "prev-result.kept",
        lost.is_empty(),
        "all of prevResult in the result",
        format!("lost: {}", lost.join(", ")),
    );

    let (then, now) = (&before.dns, &added.result.dns);
    let kept = [(&then.nameservers, &now.nameservers), (&then.search, &now.search), (&then.options, &now.options)]
        .iter()
        .all(|(then, now)| then.iter().all(|entry| now.contains(entry)))
        && (then.domain.is_empty() || then.domain == now.domain);
    match then.is_empty() {
        true => w.skip("prev-result.dns-kept", "the first plugin's result has no dns"),
        false => w.expect("prev-result.dns-kept", kept, format!("{then:?}"), format!("{now:?}")),
    }

    let mut other = w.pod()?;
    let call = w.call("ADD", &mut other)?;
    let reply = w.execute(&call.edit(|config| config["prevResult"]["ips"] = json!("nonsense")))?;
    w.expect("prev-result.malformed", reply.refused(), "an exit status other than 0", reply.summary());
    Ok(())
}

fn interface(w: &World) -> Step {
    let mut pod = w.pod()?;
    let netns = pod.netns_name().to_owned();
    w.sh(
        None,
        &format!(
            "ip link add other type veth peer name net0 netns {netns}
             ip -n {netns} addr add 198.51.100.2/24 dev net0
             ip -n {netns} link set net0 up"
        ),
    )?;
    let mac = w.link(Some(&netns), "net0")?.map(|link| link.mac).unwrap_or_default();
    let mut previous = json!({
        "cniVersion": w.job.version,
        "interfaces": [{"name": "net0", "mac": mac, "sandbox": pod.netns_path()}],
        "ips": [{"address": "198.51.100.2/24", "interface": 0}],
        "routes": [], "dns": {},
    });
    if w.job.version < Version::V1_0_0 {
        previous["ips"][0]["version"] = json!("4");
    }
    let reply = w.add_with(&mut pod, |call| call.edit(|config| config["prevResult"] = previous.clone()))?;
    if !reply.success() {
        w.expect("prev-result.handled", false, "ADD succeeds", reply.summary());
        return Ok(());
    }
    let before = read(&previous, w.job.version)?;
    let after = read(&reply.document().map_err(Stop::Unmet)?, w.job.version)?;
    let lost = lost(&before, &after);
    w.expect(
        "prev-result.handled",
        lost.is_empty(),
        "net0 and its address in the result",
        format!("lost: {}", lost.join(", ")),
    );
    if w.job.kind == Kind::Loopback {
        // It may pass prevResult through as it came; an interface that a plugin made has to be told of.
        return Ok(());
    }
    let own = after.interfaces.iter().any(|interface| interface.name == pod.ifname);
    w.expect(
        "prev-result.handled",
        own,
        format!("{} in the result too", pod.ifname),
        format!("{:?}", after.interfaces),
    );
    Ok(())
}
