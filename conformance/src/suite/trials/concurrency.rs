//! Section 3, Lifecycle & Ordering: many containers at once, and two interfaces of one.

use std::collections::BTreeMap;

use super::super::attach::Pod;
use super::super::clause::{Clause, Kind, Step, Stop, Trial};
use super::super::exec::Reply;
use super::super::world::World;
use super::add::configured;
use super::del::settled;

const CONCURRENT: &str = "Plugins must handle being executed concurrently across different containers. If necessary, they must \
    implement locking on shared resources (e.g. IPAM databases).";
const AT_ONCE: usize = 32;
const TWO: &[Kind] = &[Kind::Interface, Kind::Chained, Kind::Ipam, Kind::Chain];

/// The trials.
pub const TRIALS: &[Trial] = &[
    Trial {
        name: "32 at once",
        clauses: &[
            Clause::must("concurrency.adds", "3, Lifecycle & Ordering", CONCURRENT,
                "32 containers on a fresh node, added at the same time: each ADD succeeds."),
            Clause::must("concurrency.unique-addresses", "3, Lifecycle & Ordering", CONCURRENT,
                "No two of the 32 have an address in common, unless the configuration itself names it."),
            Clause::must("concurrency.dels", "3, Lifecycle & Ordering", CONCURRENT,
                "The 32 deleted at the same time: each DEL succeeds."),
            Clause::should("concurrency.leaves-nothing", "3, Lifecycle & Ordering", CONCURRENT,
                "Afterwards the node, its files included, is as it was after one ADD and DEL."),
        ],
        run: at_once,
    },
    Trial {
        name: "two interfaces",
        clauses: &[
            Clause::must("concurrency.two-interfaces", "2, ADD",
                "This implies that a given container ID may be added to a specific network more than once only if each addition is \
                 done with a different interface name.",
                "One container is added with eth0 and with net1: both succeed, with addresses of their own.").only(TWO),
            Clause::must("concurrency.two-interfaces.apart", "3, Execution of Network Configurations",
                "An attachment may be uniquely identified by the (CNI_CONTAINERID, CNI_IFNAME) tuple.",
                "DEL of eth0: net1 is as it was, its CHECK succeeds, and no other container gets its address.").only(TWO),
        ],
        run: two_interfaces,
    },
];

/// Runs `job` for each Pod, all at the same time.
fn together(pods: &mut [Pod], job: impl Fn(&mut Pod) -> Step<Reply> + Sync) -> Step<Vec<Reply>> {
    let start = std::sync::Barrier::new(pods.len());
    std::thread::scope(|scope| {
        let threads: Vec<_> = pods
            .iter_mut()
            .map(|pod| {
                let (job, start) = (&job, &start);
                scope.spawn(move || {
                    start.wait();
                    job(pod)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic in a Pod's thread")).collect()
    })
}

fn all_succeed(w: &World, id: &'static str, replies: &[Reply]) {
    let failed: Vec<_> = replies.iter().filter(|reply| !reply.success()).collect();
    let first = failed.first().map(|reply| reply.summary()).unwrap_or_default();
    w.expect(id, failed.is_empty(), "each succeeds", format!("{} of {} failed: {first}", failed.len(), replies.len()));
}

fn at_once(w: &World) -> Step {
    let mut pods = (0..AT_ONCE).map(|_| w.pod()).collect::<Step<Vec<_>>>()?;
    for pod in &mut pods {
        w.begin(pod)?;
    }
    let replies = together(&mut pods, |pod| w.add(pod))?;
    all_succeed(w, "concurrency.adds", &replies);

    let mut owners: BTreeMap<String, usize> = BTreeMap::new();
    for reply in replies.iter().filter(|reply| reply.success()) {
        let value = reply.document().unwrap_or_default();
        for ip in libcni::CniResult::from_value(&value, w.job.version).unwrap_or_default().ips {
            *owners.entry(ip.address.ip().to_string()).or_default() += 1;
        }
    }
    // A plugin's own addresses in every container, as lo's, are no addresses of the network.
    let twice: Vec<_> = owners
        .iter()
        .filter(|(address, count)| **count > 1 && !configured(w, address) && w.job.kind != Kind::Loopback)
        .map(|(address, count)| format!("{address} {count} times"))
        .collect();
    match replies.iter().any(Reply::success) {
        true => w.expect("concurrency.unique-addresses", twice.is_empty(), "an address for each", twice.join(", ")),
        false => w.skip("concurrency.unique-addresses", "not one ADD succeeds (see concurrency.adds)"),
    }

    let replies = together(&mut pods, |pod| w.del(pod))?;
    all_succeed(w, "concurrency.dels", &replies);
    let before = w.snapshot(None)?;
    let after = settled(w)?;
    // The round after must add nothing to what the 32 left, and the 32 nothing that names one of them.
    let mut left = after.all_since(&before);
    left.extend(pods.iter().flat_map(|pod| after.mentions(&pod.id, "files")));
    left.extend(links_left(w)?);
    w.expect("concurrency.leaves-nothing", left.is_empty(), "nothing left on the node", left.join("; "));
    Ok(())
}

/// Ends of veths that no container has any more.
fn links_left(w: &World) -> Step<Vec<String>> {
    let links = w.links(None)?;
    Ok(links.into_iter().filter(|link| link.kind == "veth" && link.name != "eth0").map(|link| link.name).collect())
}

fn two_interfaces(w: &World) -> Step {
    let (first, added) = w.attached()?;
    let mut second = first.second("net1");
    second.number = w.next_pod();
    let reply = w.add(&mut second)?;
    w.expect("concurrency.two-interfaces", reply.success(), "ADD of net1 succeeds", reply.summary());
    if !reply.success() {
        return Err(Stop::Unmet(
            "is about two interfaces of one container (see concurrency.two-interfaces)".to_owned(),
        ));
    }
    let value = reply.document().unwrap_or_default();
    let other = libcni::CniResult::from_value(&value, w.job.version).unwrap_or_default();
    let of = |result: &libcni::CniResult| result.ips.iter().map(|ip| ip.address.ip().to_string()).collect::<Vec<_>>();
    let (own, others) = (of(&added.result), of(&other));
    let shared: Vec<_> = own.iter().filter(|ip| others.contains(ip) && !configured(w, ip)).collect();
    w.expect(
        "concurrency.two-interfaces",
        shared.is_empty(),
        "addresses of their own",
        format!("both have {shared:?}"),
    );

    let id = "concurrency.two-interfaces.apart";
    if w.speaks(super::CHECK) {
        w.checked(&second)?;
    }
    let before = w.link(Some(second.netns_name()), "net1")?;
    w.deleted(&first)?;
    let after = w.link(Some(second.netns_name()), "net1")?;
    w.expect(id, before == after, format!("net1 as before: {before:?}"), format!("{after:?}"));
    if w.speaks(super::CHECK) {
        let reply = w.check(&second)?;
        w.expect(id, reply.success(), "CHECK of net1 succeeds", reply.summary());
    }
    let (_, third) = w.attached()?;
    let taken: Vec<_> = of(&third.result).into_iter().filter(|ip| others.contains(ip) && !configured(w, ip)).collect();
    w.expect(id, taken.is_empty(), "net1 keeps its address", format!("another container got {taken:?}"));
    Ok(())
}
