//! Section 2, DEL: repeated, and with whatever may be missing by then.

use serde_json::Value;

use super::super::attach::Pod;
use super::super::clause::{Clause, Kind, MAKERS, Step, Stop, Trial, WIRED};
use super::super::exec::{Call, Reply};
use super::super::snapshot::Snapshot;
use super::super::world::World;
use super::CHECK;

const MULTIPLE: &str = "Plugins MUST accept multiple DEL calls for the same (CNI_CONTAINERID, CNI_IFNAME) pair, and return \
    success if the interface in question, or any modifications added, are missing.";
const EMPTY_PREV: &str = "Plugins should still return without error if prevResult is empty for a DEL command, however.";
const OPTIONAL: &str = "Required environment parameters: CNI_COMMAND, CNI_CONTAINERID, CNI_IFNAME. Optional environment \
    parameters: CNI_NETNS, CNI_ARGS, CNI_PATH";
const BEST_EFFORT: &str = "DEL command invocations are always considered best-effort - plugins should always complete a DEL \
    action without error to the fullest extent possible, even if some resources or state are missing.";
const CLEAN: &str = "For another example, the bridge plugin should delegate the DEL action to the IPAM plugin and clean up \
    its own resources even if the container network namespace and/or container network interface no longer exist.";
const AFTER_FAILED: &str = "A delete must still be executed even if the add fails.";
const NOTHING: &str = "Afterwards the node, its files included, is as it was after an ADD and an ordinary DEL.";

/// The trials.
pub const TRIALS: &[Trial] = &[
    Trial {
        name: "DEL repeated",
        clauses: &[
            Clause::must("del.succeeds", "2, Errors", "A plugin must exit with a return code of 0 on success",
                "ADD, DEL: exit status 0."),
            Clause::must("del.repeated", "2, DEL", MULTIPLE, "ADD, then DEL three times: each succeeds."),
            Clause::must("del.never-added", "2, DEL", MULTIPLE, "DEL of a container that was never added: it succeeds."),
        ],
        run: repeated,
    },
    Trial {
        name: "DEL without prevResult",
        clauses: &[
            Clause::should("del.without-prev-result", "2, DEL", EMPTY_PREV,
                "ADD, DEL without prevResult: it succeeds.").since(CHECK),
            Clause::should("del.without-prev-result.leaves-nothing", "2, DEL", BEST_EFFORT, NOTHING).since(CHECK),
        ],
        run: |w| variant(w, "del.without-prev-result", "del.without-prev-result.leaves-nothing", Case::NoPrevious),
    },
    Trial {
        name: "DEL without CNI_NETNS",
        clauses: &[
            Clause::must("del.without-netns", "2, DEL", OPTIONAL,
                "ADD; the container's namespace goes; DEL with CNI_NETNS empty and then not set: both succeed."),
            Clause::should("del.without-netns.leaves-nothing", "2, DEL", CLEAN, NOTHING),
        ],
        run: |w| variant(w, "del.without-netns", "del.without-netns.leaves-nothing", Case::NoNetns),
    },
    Trial {
        name: "DEL with the namespace gone",
        clauses: &[
            Clause::should("del.netns-gone", "2, DEL", BEST_EFFORT,
                "ADD; the container's namespace is removed; DEL with its path: it succeeds."),
            Clause::should("del.netns-gone.leaves-nothing", "2, DEL", CLEAN, NOTHING),
        ],
        run: |w| variant(w, "del.netns-gone", "del.netns-gone.leaves-nothing", Case::Gone),
    },
    Trial {
        name: "DEL with a file for a namespace",
        clauses: &[
            Clause::should("del.netns-replaced", "2, DEL", BEST_EFFORT,
                "ADD; the namespace goes and an ordinary file has its path, as after a reboot of the node: DEL succeeds."),
            Clause::should("del.netns-replaced.leaves-nothing", "2, DEL", CLEAN, NOTHING),
        ],
        run: |w| variant(w, "del.netns-replaced", "del.netns-replaced.leaves-nothing", Case::Replaced),
    },
    Trial {
        name: "DEL with the interface gone",
        clauses: &[
            Clause::must("del.interface-gone", "2, DEL", MULTIPLE,
                "ADD; the interface is deleted in the container; DEL succeeds.").only(&[Kind::Interface, Kind::Chained, Kind::Chain]),
            Clause::should("del.interface-gone.leaves-nothing", "2, DEL", CLEAN, NOTHING)
                .only(&[Kind::Interface, Kind::Chained, Kind::Chain]),
        ],
        run: |w| variant(w, "del.interface-gone", "del.interface-gone.leaves-nothing", Case::NoInterface),
    },
    Trial {
        name: "DEL after a failed ADD",
        clauses: &[
            Clause::must("del.after-failed-add", "3, Lifecycle & Ordering", AFTER_FAILED,
                "ADD that is refused for an eth0 that is there already; DEL succeeds.").only(MAKERS),
            Clause::should("del.after-failed-add.leaves-nothing", "3, Lifecycle & Ordering", AFTER_FAILED, NOTHING).only(MAKERS),
        ],
        run: after_failed,
    },
    Trial {
        name: "DEL in any order",
        clauses: &[
            Clause::must("del.any-order", "3, Lifecycle & Ordering",
                "The container runtime must not invoke parallel operations for the same container, but is allowed to invoke \
                 parallel operations for different containers.",
                "Three ADDs; DEL of the second, the third, the first: each succeeds."),
            Clause::should("del.any-order.others-stay", "2, DEL",
                "delete the interface defined by CNI_IFNAME inside the container at CNI_NETNS, or undo any modifications \
                 applied in the plugin's ADD functionality",
                "Each interface of those not yet deleted is as it was, with its addresses.").only(WIRED),
            Clause::should("del.any-order.releases", "2, DEL",
                "For example, an IPAM plugin should generally release an IP allocation and return success even if the container \
                 network namespace no longer exists",
                "After each of the three DELs no file on the node names its container any more, and after the last the node is as \
                 it was after an ADD and a DEL before."),
            Clause::should("del.removes-interface", "2, DEL",
                "delete the interface defined by CNI_IFNAME inside the container at CNI_NETNS",
                "After its DEL a container has no interface of that name.").only(MAKERS),
        ],
        run: any_order,
    },
];

fn succeeds(w: &World, id: &'static str, reply: &Reply) {
    w.expect(id, reply.success(), "DEL succeeds", reply.summary());
}

fn repeated(w: &World) -> Step {
    let never = w.del(&w.pod()?)?;
    succeeds(w, "del.never-added", &never);
    let (pod, _) = w.attached()?;
    succeeds(w, "del.succeeds", &w.del(&pod)?);
    for _ in 0..2 {
        succeeds(w, "del.repeated", &w.del(&pod)?);
    }
    Ok(())
}

/// The node after an ADD and a DEL: what is shared is there, and nothing else.
pub fn settled(w: &World) -> Step<Snapshot> {
    let (pod, _) = w.attached()?;
    w.deleted(&pod)?;
    w.note("a round of ADD and DEL before, so that what is shared is there");
    w.snapshot(None)
}

/// Is the node as it was? The kernel takes a namespace's devices down after the namespace is gone, and what hangs on
/// them: what is still there of that is looked at again, for three seconds in all.
pub fn leaves_nothing(w: &World, id: &'static str, settled: &Snapshot) -> Step {
    let mut left = w.snapshot(None)?.all_since(settled);
    for milliseconds in [100, 300, 600, 2000] {
        if !left.iter().any(|line| goes_with_a_device(line)) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(milliseconds));
        left = w.snapshot(None)?.all_since(settled);
    }
    w.expect(id, left.is_empty(), "nothing left on the node", left.join("; "));
    Ok(())
}

/// A line of [`Snapshot::all_since`]: a file or a rule stays until somebody removes it.
fn goes_with_a_device(line: &str) -> bool {
    ["interfaces", "addresses", "routes", "neighbors", "traffic"].iter().any(|area| line.starts_with(area))
}

/// What is missing at the time of the DEL.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Case {
    NoPrevious,
    NoNetns,
    Gone,
    Replaced,
    NoInterface,
}

fn variant(w: &World, id: &'static str, leaves: &'static str, case: Case) -> Step {
    let before = settled(w)?;
    let (pod, _) = w.attached()?;
    match case {
        Case::NoPrevious => {}
        Case::NoNetns | Case::Gone => w.remove_netns(&pod)?,
        Case::Replaced => {
            w.remove_netns(&pod)?;
            w.sh(None, &format!("touch {}", pod.netns_path()))?;
            w.note("an ordinary file put in its place");
        }
        Case::NoInterface => {
            if w.link(Some(pod.netns_name()), &pod.ifname)?.is_none() {
                return Err(Stop::Unmet(format!("is about {}, which is not there after an ADD", pod.ifname)));
            }
            w.sh(None, &format!("ip -n {} link del {}", pod.netns_name(), pod.ifname))?;
            w.note(format!("{} deleted in the container", pod.ifname));
        }
    }
    let without_previous = |call: Call| call.edit(|config| without(config, "prevResult"));
    match case {
        Case::NoPrevious => succeeds(w, id, &w.del_with(&pod, without_previous)?),
        Case::NoNetns => {
            succeeds(w, id, &w.del_with(&pod, |call| call.with("CNI_NETNS", ""))?);
            succeeds(w, id, &w.del_with(&pod, |call| call.without("CNI_NETNS"))?);
        }
        _ => succeeds(w, id, &w.del(&pod)?),
    }
    leaves_nothing(w, leaves, &before)
}

fn after_failed(w: &World) -> Step {
    let before = settled(w)?;
    let mut pod = w.pod()?;
    super::add::occupy(w, &pod)?;
    let reply = w.add(&mut pod)?;
    if reply.success() {
        return Err(Stop::Unmet(
            "begins with an ADD that is refused, which it was not (see add.interface-exists)".to_owned(),
        ));
    }
    w.expect("del.after-failed-add", true, "", "");
    succeeds(w, "del.after-failed-add", &w.del(&pod)?);
    w.remove_netns(&pod)?;
    leaves_nothing(w, "del.after-failed-add.leaves-nothing", &before)
}

fn any_order(w: &World) -> Step {
    let settled = settled(w)?;
    let pods = [w.attached()?.0, w.attached()?.0, w.attached()?.0];
    let state = |pod: &Pod| -> Step<_> { w.link(Some(pod.netns_name()), &pod.ifname) };
    let before = [state(&pods[0])?, state(&pods[1])?, state(&pods[2])?];
    let mut left = vec![0, 1, 2];
    for index in [1, 2, 0] {
        succeeds(w, "del.any-order", &w.del(&pods[index])?);
        left.retain(|&other| other != index);
        let held = w.snapshot(None)?.mentions(&pods[index].id, "files");
        w.expect("del.any-order.releases", held.is_empty(), "no file that names it", held.join("; "));
        let gone = state(&pods[index])?.is_none();
        w.expect("del.removes-interface", gone, format!("no {}", pods[index].ifname), "it is still there");
        for &other in &left {
            let now = state(&pods[other])?;
            w.expect(
                "del.any-order.others-stay",
                now == before[other],
                format!("{:?}", before[other]),
                format!("{now:?}"),
            );
        }
    }
    leaves_nothing(w, "del.any-order.releases", &settled)
}

/// A configuration without one key.
pub fn without(config: &mut Value, key: &str) {
    config.as_object_mut().expect("a configuration is an object").remove(key);
}
