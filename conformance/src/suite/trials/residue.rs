//! After the last DEL everything is as it was before the first ADD. What is shared may stay, if a second round adds
//! nothing to it.

use super::super::clause::{Clause, Kind, Step, Stop, Trial, WIRED};
use super::super::snapshot::{AREAS, Snapshot};
use super::super::world::World;

const UNDO: &str = "A CNI plugin, upon receiving a DEL command, should either delete the interface defined by CNI_IFNAME inside the \
    container at CNI_NETNS, or undo any modifications applied in the plugin's ADD functionality";
const HOW: &str = "Two rounds of ADD and DEL on one node, the second with two containers: the second leaves nothing in this area \
    that the first did not leave too, and nothing names a deleted container.";

const fn area(id: &'static str) -> Clause {
    Clause::should(id, "2, DEL", UNDO, HOW)
}

/// The IDs in the order of [`AREAS`].
const IDS: [&str; 10] = [
    "residue.interfaces",
    "residue.addresses",
    "residue.routes",
    "residue.rules",
    "residue.neighbors",
    "residue.nftables",
    "residue.iptables",
    "residue.sysctls",
    "residue.traffic",
    "residue.files",
];

/// The trials.
pub const TRIALS: &[Trial] = &[Trial {
    name: "residue",
    clauses: &[
        area(IDS[0]), area(IDS[1]), area(IDS[2]), area(IDS[3]), area(IDS[4]), area(IDS[5]), area(IDS[6]), area(IDS[7]),
        area(IDS[8]), area(IDS[9]),
        Clause::should("residue.container", "2, DEL", UNDO,
            "ADD and DEL: the container's namespace, sysctls included, is as it was before.").only(WIRED),
        Clause::should("residue.bystanders", "2, DEL", UNDO,
            "A bridge, an nftables table, an iptables chain, a rule, a route, a neighbor and files of others, and another network's \
             address, are there before the first ADD: they are there after the last DEL.")
            .only(&[Kind::Interface, Kind::Loopback, Kind::Chained, Kind::Ipam, Kind::Chain]),
    ],
    run: residue,
}];

fn residue(w: &World) -> Step {
    bystanders(w)?;
    let fresh = w.snapshot(None)?;
    let mut first = w.pod()?;
    w.begin(&mut first)?;
    let inside = w.snapshot(Some(first.netns_name()))?;
    w.added(&mut first)?;
    let reply = w.del_without_end(&first, |call| call)?;
    if !reply.success() {
        return Err(Stop::Unmet(format!("has a DEL in it, which did not succeed: {}", reply.summary())));
    }
    let inside_after = w.snapshot(Some(first.netns_name()))?;
    w.end(&first, |call| call)?;
    let after_one = w.snapshot(None)?;

    let ((second, _), (third, _)) = (w.attached()?, w.attached()?);
    w.deleted(&second)?;
    w.deleted(&third)?;
    let after_two = w.snapshot(None)?;

    for (id, area) in IDS.into_iter().zip(AREAS) {
        let mut left = after_two.since(&after_one, area);
        for pod in [&first, &second, &third] {
            left.extend(after_two.mentions(&pod.id, area));
        }
        left.sort();
        left.dedup();
        w.expect(id, left.is_empty(), "nothing more than after the first round", left.join("; "));
    }
    let changes = differences(&inside, &inside_after);
    w.expect("residue.container", changes.is_empty(), "the container as before", changes);
    let gone = fresh.all_since(&after_two);
    // A sysctl that changed is both gone and new; it is residue.sysctls' affair.
    let gone: Vec<_> = gone.into_iter().filter(|line| !line.starts_with("sysctls: ")).collect();
    w.expect("residue.bystanders", gone.is_empty(), "what was there is there", format!("gone: {}", gone.join("; ")));
    Ok(())
}

fn differences(before: &Snapshot, after: &Snapshot) -> String {
    let new = after.all_since(before).into_iter().map(|line| format!("new: {line}"));
    let gone = before.all_since(after).into_iter().map(|line| format!("gone: {line}"));
    new.chain(gone).collect::<Vec<_>>().join("; ")
}

/// What others have on the node. What is not installed is not there.
fn bystanders(w: &World) -> Step {
    w.sh(
        None,
        "ip link add bystander0 type bridge
         ip addr add 198.18.0.1/24 dev bystander0
         ip link set bystander0 up
         ip route add 198.19.0.0/16 via 192.0.2.9
         ip rule add from 198.18.0.0/24 table 77 priority 7700
         ip neigh add 192.0.2.77 lladdr 02:00:00:00:00:77 dev eth0 nud permanent
         mkdir -p /var/lib/bystander /run/bystander
         echo kept > /var/lib/bystander/file
         echo kept > /run/bystander/file
         nft add table inet bystander 2>/dev/null || true
         nft 'add chain inet bystander forward { type filter hook forward priority 10 ; }' 2>/dev/null || true
         nft add rule inet bystander forward ip saddr 198.18.0.9 drop 2>/dev/null || true
         iptables -t nat -N BYSTANDER 2>/dev/null || true
         iptables -t nat -A BYSTANDER -s 198.18.0.9 -j RETURN 2>/dev/null || true
         iptables -t nat -A POSTROUTING -j BYSTANDER 2>/dev/null || true",
    )?;
    w.note("a bridge, rules, a route, a neighbor and files of others put on the node");
    Ok(())
}
