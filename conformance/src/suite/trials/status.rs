//! Section 2, STATUS: ready, range full, delegate missing.

use super::super::clause::{Clause, Kind, Step, Trial};
use super::super::exec::Reply;
use super::super::world::World;
use super::GC;
use super::ipam::MOST;

const READY: &str =
    "A plugin must exit with a zero (success) return code if the plugin is ready to service ADD requests.";
const NOT_READY: &str = "If the plugin knows that it is not able to service ADD requests, it must exit with a non-zero return \
    code and output an error on standard out.";
const LIMITED: &str = "Likewise, if a plugin has a limited number of resources (e.g. IP addresses, hardware queues), it should \
    return an error if those resources are exhausted and no new ADD requests can be serviced.";
const CODES: &str = "The following error codes are defined in the context of STATUS: 50: The plugin is not available; 51: The \
    plugin is not available, and existing containers in the network may have limited connectivity.";

/// The trials.
pub const TRIALS: &[Trial] = &[
    Trial {
        name: "STATUS ready",
        clauses: &[
            Clause::must(
                "status.ready",
                "2, STATUS",
                READY,
                "STATUS on a fresh node, and again after an ADD: exit status 0.",
            )
            .since(GC),
            Clause::should(
                "status.changes-nothing",
                "2, STATUS",
                "Status is purely informational.",
                "The node after a STATUS is as it was before.",
            )
            .since(GC),
        ],
        run: ready,
    },
    Trial {
        name: "STATUS with the range full",
        clauses: &[
            Clause::should(
                "status.range-full",
                "2, STATUS",
                LIMITED,
                "The range is filled (up to 300 addresses), through the delegate if there is one: STATUS fails.",
            )
            .only(&[Kind::Interface, Kind::Ipam, Kind::Chain])
            .since(GC),
            Clause::should("status.code", "2, STATUS", CODES, "The same STATUS: the error document has code 50 or 51.")
                .only(&[Kind::Interface, Kind::Ipam, Kind::Chain])
                .since(GC),
            Clause::must("status.recovers", "2, STATUS", READY, "One address is released: STATUS succeeds again.")
                .only(&[Kind::Interface, Kind::Ipam, Kind::Chain])
                .since(GC),
        ],
        run: full,
    },
    Trial {
        name: "STATUS without the delegate",
        clauses: &[Clause::must(
            "status.delegate-missing",
            "2, STATUS",
            NOT_READY,
            "STATUS with a CNI_PATH that has no delegate: it fails.",
        )
        .delegating()
        .since(GC)],
        run: missing,
    },
];

fn ready(w: &World) -> Step {
    let before = w.snapshot(None)?;
    let reply = w.status()?;
    w.expect("status.ready", reply.success(), "STATUS succeeds", reply.summary());
    let after = w.snapshot(None)?;
    let mut changes = after.all_since(&before);
    changes.extend(before.all_since(&after));
    // A store may make its directory and its lock: what counts is what would keep growing.
    changes.retain(|line| !line.starts_with("files: "));
    w.expect("status.changes-nothing", changes.is_empty(), "the node as before", changes.join("; "));
    w.attached()?;
    let reply = w.status()?;
    w.expect("status.ready", reply.success(), "STATUS succeeds after an ADD", reply.summary());
    Ok(())
}

fn full(w: &World) -> Step {
    let ids = ["status.range-full", "status.code", "status.recovers"];
    let skip = |reason: &str| ids.map(|id| w.skip(id, reason));
    let mut pod = w.pod()?;
    let add = match w.job.kind {
        Kind::Ipam => w.call("ADD", &mut pod)?,
        _ => match w.delegate_call("ADD", &pod)? {
            Some(call) => call,
            None => {
                skip("the configuration names no delegate (ipam.type)");
                return Ok(());
            }
        },
    };
    let numbered = |number: usize, command: &str| {
        add.clone().with("CNI_COMMAND", command).with("CNI_CONTAINERID", format!("c0ffeefill{number:054x}"))
    };
    let mut first = String::new();
    let mut number = 0;
    loop {
        let reply = w.execute(&numbered(number, "ADD"))?;
        if !reply.success() {
            break;
        }
        if number == 0 {
            first = reply.stdout;
        } else if number == MOST || reply.stdout == first {
            skip(&format!("the range does not end within {MOST} addresses: configure a smaller one"));
            return Ok(());
        }
        number += 1;
    }
    if number == 0 {
        skip("not one address could be had");
        return Ok(());
    }
    let reply = w.status()?;
    w.expect("status.range-full", reply.refused(), "STATUS fails", reply.summary());
    code(w, &reply);
    let released = w.execute(&numbered(0, "DEL"))?;
    let reply = w.status()?;
    w.expect("status.recovers", released.success() && reply.success(), "STATUS succeeds", reply.summary());
    Ok(())
}

fn code(w: &World, reply: &Reply) {
    match reply.refused() {
        true => w.expect("status.code", matches!(reply.code(), Some(50 | 51)), "code 50 or 51", reply.summary()),
        false => w.skip("status.code", "STATUS does not fail (see status.range-full)"),
    }
}

fn missing(w: &World) -> Step {
    let index =
        (w.job.network.first..w.job.network.plugins.len()).find(|&index| w.job.network.delegate(index).is_some());
    let call = w.status_call(index.unwrap_or(w.job.network.first))?;
    let reply = w.execute(&call.with("CNI_PATH", "/run/cni-conformance/nothing"))?;
    w.expect("status.delegate-missing", reply.refused(), "STATUS fails", reply.summary());
    Ok(())
}
