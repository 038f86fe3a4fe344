//! What an IPAM plugin owes to the plugins that delegate to it (section 4): addresses that are one's own, a full
//! range that is refused, and releases that release.

use std::collections::BTreeSet;

use super::super::attach::{Added, Pod};
use super::super::clause::{Clause, Kind, Step, Trial};
use super::super::exec::Reply;
use super::super::world::World;
use super::add::configured;

/// The largest range that is filled to see what happens at its end.
pub const MOST: usize = 300;

/// The trials.
pub const TRIALS: &[Trial] = &[
    Trial {
        name: "unique addresses",
        clauses: &[Clause::must(
            "ipam.unique",
            "Overview",
            "network refers to a group of endpoints that are uniquely addressable that can communicate amongst each other.",
            "ADD for eight containers: no two have an address in common, unless the configuration itself names it.",
        )
        .only(&[Kind::Ipam])],
        run: unique,
    },
    Trial {
        name: "full range",
        clauses: &[
            Clause::must(
                "ipam.full-is-refused",
                "2, Errors",
                "A plugin must exit with a return code of 0 on success, and non-zero on failure.",
                "ADD until it fails (ranges of up to 300 addresses): the last one is an orderly refusal, and no address was \
                 handed out twice.",
            )
            .only(&[Kind::Ipam]),
            Clause::should(
                "ipam.released-is-free",
                "2, DEL",
                "For example, an IPAM plugin should generally release an IP allocation and return success even if the \
                 container network namespace no longer exists",
                "With the range full, one container's namespace is removed and it is DELeted: the next ADD succeeds, with an \
                 address of that container.",
            )
            .only(&[Kind::Ipam]),
        ],
        run: full,
    },
];

fn texts(added: &Added) -> BTreeSet<String> {
    added.result.ips.iter().map(|ip| ip.address.ip().to_string()).collect()
}

fn unique(w: &World) -> Step {
    let mut seen = BTreeSet::new();
    for _ in 0..8 {
        let (_, added) = w.attached()?;
        for address in texts(&added) {
            let ok = seen.insert(address.clone()) || configured(w, &address);
            w.expect("ipam.unique", ok, "an address for each", format!("{address} twice"));
        }
    }
    w.skip("ipam.unique", "the results have no addresses");
    Ok(())
}

/// A Pod and the addresses that it got.
type Taken = (Pod, BTreeSet<String>);

/// ADDs until one fails. The reply that failed, or none within [`MOST`].
fn fill(w: &World) -> Step<(Vec<Taken>, Option<Reply>)> {
    let mut taken: Vec<Taken> = Vec::new();
    while taken.len() < MOST {
        // One namespace would do, but some plugins may open it.
        let mut pod = w.pod()?;
        let reply = w.add(&mut pod)?;
        if !reply.success() {
            return Ok((taken, Some(reply)));
        }
        let value = reply.document().unwrap_or_default();
        let result = libcni::CniResult::from_value(&value, w.job.version).unwrap_or_default();
        let addresses: BTreeSet<String> = result.ips.iter().map(|ip| ip.address.ip().to_string()).collect();
        let again = taken.iter().any(|(_, old)| !old.is_disjoint(&addresses));
        taken.push((pod, addresses));
        if again {
            break;
        }
    }
    Ok((taken, None))
}

fn full(w: &World) -> Step {
    let (first, added) = w.attached()?;
    if texts(&added).iter().any(|address| configured(w, address)) {
        for id in ["ipam.full-is-refused", "ipam.released-is-free"] {
            w.skip(id, "the configuration itself names the address: there is no range");
        }
        return Ok(());
    }
    w.deleted(&first)?;
    let (taken, refusal) = fill(w)?;
    let Some(refusal) = refusal else {
        let twice = taken
            .last()
            .is_some_and(|(_, last)| taken[..taken.len() - 1].iter().any(|(_, old)| !old.is_disjoint(last)));
        match twice {
            true => w.expect(
                "ipam.full-is-refused",
                false,
                "no address twice",
                format!("{:?} twice", taken.last().map(|(_, last)| last)),
            ),
            false => w.skip(
                "ipam.full-is-refused",
                format!("the range does not end within {MOST} addresses: configure a smaller one"),
            ),
        }
        w.skip("ipam.released-is-free", "the range was not filled");
        return Ok(());
    };
    w.expect("ipam.full-is-refused", refusal.refused(), "an orderly refusal", refusal.summary());
    let Some((pod, addresses)) = taken.get(taken.len() / 2) else {
        w.skip("ipam.released-is-free", "there was no address at all");
        return Ok(());
    };
    w.remove_netns(pod)?;
    w.deleted(pod)?;
    let mut next = w.pod()?;
    let reply = w.add(&mut next)?;
    // Of two ranges only the smaller was full.
    let same = reply.success() && addresses.iter().any(|address| reply.stdout.contains(&format!("\"{address}/")));
    w.expect("ipam.released-is-free", same, format!("one of {addresses:?}"), reply.summary());
    Ok(())
}
