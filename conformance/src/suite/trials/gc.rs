//! Section 2, GC: nothing, some and all still valid; repeated; another network's attachments.

use super::super::attach::Pod;
use super::super::clause::{Clause, Kind, MAKERS, Step, Trial};
use super::super::exec::Reply;
use super::super::world::World;
use super::GC;
use super::del::{leaves_nothing, settled};

const SET: &str =
    "The network plugin may then remove any resources related to attachments that do not exist in this set.";
const STALE: &str = "A plugin SHOULD remove as many stale resources as possible. For example, a plugin should remove any IPAM \
    reservations associated with attachments not in the provided list.";
const GENERALLY: &str = "Plugins should generally complete a GC action without error.";

/// The trials.
pub const TRIALS: &[Trial] = &[
    Trial {
        name: "GC with all valid",
        clauses: &[
            Clause::must("gc.succeeds", "2, GC", GENERALLY, "ADD, GC with the attachment in the list: it succeeds.").since(GC),
            Clause::must("gc.no-output", "2, GC", "No output on success, \"error\" result structure on error.",
                "The same GC: stdout is empty.").since(GC),
            Clause::must("gc.keeps-valid", "2, GC", SET,
                "Two ADDs, GC with both valid: node and containers are as before, and CHECK succeeds.").since(GC),
            Clause::should("gc.repeated", "2, GC", GENERALLY, "GC twice more: both succeed.").since(GC),
            Clause::should("gc.on-a-fresh-node", "2, GC", GENERALLY, "GC where nothing was ever added: it succeeds.").since(GC),
        ],
        run: all_valid,
    },
    Trial {
        name: "GC with none valid",
        clauses: &[
            Clause::should("gc.removes-stale", "2, GC", STALE,
                "Two ADDs; their namespaces are removed; GC with an empty list: the node, its files included, is as after a DEL.")
                .since(GC),
        ],
        run: none_valid,
    },
    Trial {
        name: "GC with some valid",
        clauses: &[
            Clause::must("gc.keeps-valid-among-stale", "2, GC", SET,
                "Two ADDs, one namespace removed, GC with the other valid: its container is as before, and CHECK succeeds.").since(GC),
            Clause::should("gc.removes-stale-among-valid", "2, GC", STALE,
                "The same: after a DEL of the valid one nothing is left on the node.").since(GC),
        ],
        run: some_valid,
    },
    Trial {
        name: "GC by interface",
        clauses: &[
            Clause::must("gc.is-by-interface", "2, GC",
                "cni.dev/valid-attachments (array of objects): containerID (string), ifname (string): the value of CNI_IFNAME as \
                 provided during the CNI ADD operation",
                "One container with eth0 and net1, GC with eth0 valid: CHECK of eth0 succeeds, and its address stays its own.")
                .only(&[Kind::Interface, Kind::Ipam, Kind::Chain]).since(GC),
            Clause::should(
                "gc.removes-by-interface",
                "2, GC",
                STALE,
                "The same: CHECK of net1 fails, for what it had is gone, and so is the interface.",
            )
            .only(&[Kind::Interface, Kind::Ipam])
            .since(GC),
        ],
        run: by_interface,
    },
    Trial {
        name: "GC and another network",
        clauses: &[
            Clause::must("gc.leaves-other-networks", "2, GC",
                "cni.dev/valid-attachments (array of objects): The list of still valid attachments to this network",
                "ADD to a network; GC with an empty list of a network of another name, configured alike: the container is as \
                 before, and CHECK succeeds.").since(GC),
        ],
        run: other_network,
    },
    Trial {
        name: "GC of stale interfaces",
        clauses: &[
            Clause::should("gc.frees-for-add", "2, GC", STALE,
                "ADD; the namespace is removed; GC with an empty list; a container with the same ID is added: it succeeds.")
                .only(MAKERS).since(GC),
        ],
        run: again,
    },
];

fn succeeds(w: &World, id: &'static str, reply: &Reply) {
    w.expect(id, reply.success(), "GC succeeds", reply.summary());
}

/// Node and containers are as they were, and CHECK succeeds.
fn untouched(w: &World, id: &'static str, pods: &[&Pod], act: impl FnOnce() -> Step) -> Step {
    let look = || pods.iter().map(|pod| w.snapshot(Some(pod.netns_name()))).collect::<Step<Vec<_>>>();
    for pod in pods {
        w.checked(pod)?;
    }
    let before = look()?;
    act()?;
    let after = look()?;
    let changes: Vec<_> = before.iter().zip(&after).flat_map(|(before, after)| before.all_since(after)).collect();
    w.expect(id, changes.is_empty(), "the containers as before", format!("gone: {}", changes.join("; ")));
    for pod in pods {
        let reply = w.check(pod)?;
        w.expect(id, reply.success(), "CHECK succeeds", reply.summary());
    }
    Ok(())
}

fn all_valid(w: &World) -> Step {
    succeeds(w, "gc.on-a-fresh-node", &w.gc(&[])?);
    let (first, _) = w.attached()?;
    let (second, _) = w.attached()?;
    let valid = [&first, &second];
    let before = w.snapshot(None)?;
    untouched(w, "gc.keeps-valid", &valid, || {
        let reply = w.gc(&valid)?;
        succeeds(w, "gc.succeeds", &reply);
        w.expect(
            "gc.no-output",
            !reply.success() || reply.stdout.trim().is_empty(),
            "nothing on stdout",
            reply.summary(),
        );
        Ok(())
    })?;
    let gone = before.all_since(&w.snapshot(None)?);
    w.expect("gc.keeps-valid", gone.is_empty(), "the node as before", format!("gone: {}", gone.join("; ")));
    for _ in 0..2 {
        succeeds(w, "gc.repeated", &w.gc(&valid)?);
    }
    Ok(())
}

fn none_valid(w: &World) -> Step {
    let before = settled(w)?;
    let (first, _) = w.attached()?;
    let (second, _) = w.attached()?;
    for pod in [&first, &second] {
        w.remove_netns(pod)?;
        w.end(pod, |call| call)?;
    }
    w.gc(&[])?;
    leaves_nothing(w, "gc.removes-stale", &before)
}

fn some_valid(w: &World) -> Step {
    let before = settled(w)?;
    let (stale, _) = w.attached()?;
    let (valid, _) = w.attached()?;
    w.remove_netns(&stale)?;
    w.end(&stale, |call| call)?;
    untouched(w, "gc.keeps-valid-among-stale", &[&valid], || w.gc(&[&valid]).map(drop))?;
    w.deleted(&valid)?;
    leaves_nothing(w, "gc.removes-stale-among-valid", &before)
}

fn by_interface(w: &World) -> Step {
    let id = "gc.is-by-interface";
    let (first, added) = w.attached()?;
    let mut second = first.second("net1");
    w.added(&mut second)?;
    w.checked(&first)?;
    w.gc(&[&first])?;
    let reply = w.check(&first)?;
    w.expect(id, reply.success(), "CHECK of eth0 succeeds", reply.summary());
    let reply = w.check(&second)?;
    w.expect("gc.removes-by-interface", reply.refused(), "CHECK of net1 fails", reply.summary());
    let gone = w.link(Some(second.netns_name()), "net1")?.is_none();
    w.expect("gc.removes-by-interface", gone, "no net1 in the container", "it is still there");
    let (_, next) = w.attached()?;
    for ip in &added.result.ips {
        let named = super::add::configured(w, &ip.address.ip().to_string());
        let own = named || next.result.ips.iter().all(|other| other.address.ip() != ip.address.ip());
        w.expect(id, own, format!("{} is still eth0's", ip.address), "another container got it");
    }
    Ok(())
}

fn other_network(w: &World) -> Step {
    let (pod, _) = w.attached()?;
    untouched(w, "gc.leaves-other-networks", &[&pod], || {
        for index in w.job.network.first..w.job.network.plugins.len() {
            let call = w.gc_call(index, &[])?;
            w.execute(&call.edit(|config| config["name"] = serde_json::json!("conformance-other")))?;
        }
        Ok(())
    })
}

fn again(w: &World) -> Step {
    let (pod, _) = w.attached()?;
    w.remove_netns(&pod)?;
    w.gc(&[])?;
    w.make_netns(pod.netns_name())?;
    let mut again = pod.second(&pod.ifname);
    let reply = w.add(&mut again)?;
    w.expect("gc.frees-for-add", reply.success(), "ADD succeeds", reply.summary());
    Ok(())
}
