//! Everything that a plugin can leave behind, as sorted lines to compare.
//!
//! What changes by itself (counters, timers, link-local addresses, the state of a carrier) is left out. A bridge's or
//! a store's own growth counts by name: a file is a line, and so is each container ID in it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::clause::Step;
use super::world::{FRESH, HOME, World};

/// What is compared, in the order of reports.
pub const AREAS: [&str; 10] =
    ["interfaces", "addresses", "routes", "rules", "neighbors", "nftables", "iptables", "sysctls", "traffic", "files"];

/// A namespace's state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    areas: BTreeMap<&'static str, BTreeSet<String>>,
}

/// Prints each area under a heading. A program that is not installed has nothing to say.
const SCRIPT: &str = r#"
set +e; exec 2>/dev/null
echo '=== routes'; ip -o -4 route show table all; ip -o -6 route show table all
echo '=== rules'; ip -4 rule; ip -6 rule
echo '=== neighbors'; ip neigh show nud permanent; ip neigh show proxy; bridge fdb show
echo '=== nftables'; nft -s list ruleset
echo '=== iptables'; iptables-legacy-save; ip6tables-legacy-save
echo '=== traffic'; tc qdisc show
echo '=== sysctls'; grep -rs '' /proc/sys/net
true
"#;

impl World {
    /// The state of a Pod's namespace by name, or of the node with its files.
    pub fn snapshot(&self, netns: Option<&str>) -> Step<Snapshot> {
        let mut areas: BTreeMap<&'static str, BTreeSet<String>> =
            AREAS.into_iter().map(|area| (area, BTreeSet::new())).collect();
        for link in self.links(netns)? {
            let up = if link.up { "up" } else { "down" };
            let master = link.master.map(|master| format!(" master {master}")).unwrap_or_default();
            let line = format!("{} ({}) mtu {} {up}{master}", link.name, link.kind, link.mtu);
            areas.entry("interfaces").or_default().insert(line);
            // Link-local ones, and those of lo, are the kernel's own.
            let own = |ip: std::net::IpAddr| ip.is_loopback() || ip.to_string().starts_with("fe80:");
            for address in link.addresses.iter().filter(|address| !own(address.ip())) {
                areas.entry("addresses").or_default().insert(format!("{address} on {}", link.name));
            }
        }
        let text = self.sh(netns, SCRIPT)?;
        let mut area = "";
        let mut nesting = Vec::new();
        for line in text.lines() {
            if let Some(heading) = line.strip_prefix("=== ") {
                area = heading;
                continue;
            }
            let (name, lines) = areas.iter_mut().find(|(name, _)| **name == area).expect("SCRIPT prints areas only");
            let line = match *name {
                "nftables" => nested(line, &mut nesting),
                _ => steady(name, line),
            };
            lines.extend(line);
        }
        if netns.is_none() {
            areas.insert("files", files());
        }
        Ok(Snapshot { areas })
    }
}

impl Snapshot {
    /// The lines that are here and were not in `earlier`. A sysctl counts only if it was there with another value.
    pub fn since(&self, earlier: &Snapshot, area: &str) -> Vec<String> {
        let (now, then) = (&self.areas[area], &earlier.areas[area]);
        let new = now.difference(then).cloned();
        match area {
            "sysctls" => new.filter(|line| then.iter().any(|old| key(old) == key(line))).collect(),
            _ => new.collect(),
        }
    }

    /// The lines that speak of `word`.
    pub fn mentions(&self, word: &str, area: &str) -> Vec<String> {
        self.areas[area].iter().filter(|line| line.contains(word)).cloned().collect()
    }

    /// Everything that is new since `earlier`, each line with its area.
    pub fn all_since(&self, earlier: &Snapshot) -> Vec<String> {
        let lines = |area| self.since(earlier, area).into_iter().map(move |line| format!("{area}: {line}"));
        AREAS.into_iter().flat_map(lines).collect()
    }
}

fn key(sysctl: &str) -> &str {
    sysctl.split_once(" = ").map_or(sysctl, |(key, _)| key)
}

/// A line of `nft list ruleset` with the table and chain it stands in.
fn nested(line: &str, nesting: &mut Vec<String>) -> Option<String> {
    let line = line.trim();
    if line == "}" {
        nesting.pop();
        return None;
    }
    if line.is_empty() || line.starts_with('#') {
        return None;
    }
    let full = nesting.iter().map(String::as_str).chain([line.trim_end_matches(" {")]).collect::<Vec<_>>().join(" / ");
    if line.ends_with('{') {
        nesting.push(line.trim_end_matches(" {").to_owned());
    }
    Some(full)
}

/// A line without what changes by itself; none if nothing of it stays.
fn steady(area: &str, line: &str) -> Option<String> {
    let line = line.trim();
    let words = |skip_after: &[&str], skip: &[&str]| {
        let mut kept = Vec::new();
        let mut words = line.split_whitespace();
        while let Some(word) = words.next() {
            if skip_after.contains(&word) {
                words.next();
            } else if !skip.contains(&word) {
                kept.push(word);
            }
        }
        kept.join(" ")
    };
    let lower = line.to_lowercase();
    match area {
        "routes" if line.contains("fe80:") || line.contains("ff00::/8") || line.starts_with("anycast") => None,
        // They follow from the addresses, for IPv6 a little later.
        "routes" if line.contains("proto kernel") => None,
        "routes" => Some(words(&["expires", "pref", "error"], &["linkdown", "dead"])),
        "neighbors" if line.starts_with("33:33:") || line.starts_with("01:00:5e:") => None,
        // The kernel's own, for its own devices.
        "neighbors" if line.contains("lladdr 00:00:00:00:00:00") => None,
        // What a bridge has learned comes and goes with the traffic.
        "neighbors" if !["permanent", "static", "proxy"].iter().any(|word| lower.contains(word)) => None,
        "neighbors" => Some(line.to_owned()),
        "iptables" if line.starts_with('#') || line == "COMMIT" => None,
        "iptables" => Some(line.split(" [").next().unwrap_or(line).to_owned()),
        "traffic" if line.starts_with("qdisc noqueue") => None,
        "traffic" => Some(words(&["refcnt"], &[])),
        "sysctls" => {
            let (path, value) = line.strip_prefix("/proc/sys/")?.split_once(':')?;
            let by_itself =
                ["nf_conntrack_count", "conntrack_max", "conntrack_buckets", "tcp_mem", "udp_mem", "_max_orphans"];
            (!by_itself.iter().any(|part| path.ends_with(part)))
                .then(|| format!("{} = {}", path.replace('/', "."), value.trim()))
        }
        _ => Some(line.to_owned()),
    }
}

/// Every file and directory under [`FRESH`], and the container IDs that each file holds.
fn files() -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for root in FRESH {
        walk(Path::new(root), &mut lines);
    }
    lines
}

fn walk(directory: &Path, lines: &mut BTreeSet<String>) {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    for path in entries.map(|entry| entry.path()) {
        if path == Path::new(HOME) || path == Path::new("/run/netns") {
            continue;
        }
        lines.insert(path.display().to_string());
        if path.is_dir() && !path.is_symlink() {
            walk(&path, lines);
        } else if path.is_file() {
            let text = std::fs::read(&path).unwrap_or_default();
            lines.extend(
                container_ids(&String::from_utf8_lossy(&text)).map(|id| format!("{} holds {id}", path.display())),
            );
        }
    }
}

/// The container IDs of this suite in a text.
fn container_ids(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("c0ffee").filter_map(|(at, _)| text.get(at..at + 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_stands_in_its_table_and_chain() {
        let mut nesting = Vec::new();
        let text = "table ip nat {\n\tchain POSTROUTING {\n\t\tip saddr 10.0.0.0/8 masquerade\n\t}\n}\n";
        let lines: Vec<_> = text.lines().filter_map(|line| nested(line, &mut nesting)).collect();
        assert_eq!(lines[2], "table ip nat / chain POSTROUTING / ip saddr 10.0.0.0/8 masquerade");
        assert!(nesting.is_empty());
    }

    #[test]
    fn what_changes_by_itself_is_left_out() {
        assert_eq!(steady("routes", "10.0.0.0/24 dev b linkdown "), steady("routes", "10.0.0.0/24 dev b"));
        assert_eq!(steady("neighbors", "02:c0:de:00:00:01 dev veth0 master br0"), None);
        assert!(steady("neighbors", "02:c0:de:00:00:01 dev veth0 master br0 permanent").is_some());
        assert_eq!(steady("iptables", ":INPUT ACCEPT [12:340]"), Some(":INPUT ACCEPT".to_owned()));
        assert_eq!(steady("sysctls", "/proc/sys/net/netfilter/nf_conntrack_count:7"), None);
        assert_eq!(steady("sysctls", "/proc/sys/net/ipv4/ip_forward:1").unwrap(), "net.ipv4.ip_forward = 1");
    }

    #[test]
    fn a_sysctl_that_came_with_an_interface_is_not_a_change() {
        let snapshot = |lines: &[&str]| {
            let mut areas: BTreeMap<_, _> = AREAS.into_iter().map(|area| (area, BTreeSet::new())).collect();
            areas.insert("sysctls", lines.iter().map(|line| (*line).to_owned()).collect());
            Snapshot { areas }
        };
        let before = snapshot(&["net.ipv4.ip_forward = 0"]);
        let after = snapshot(&["net.ipv4.ip_forward = 1", "net.ipv4.conf.br0.forwarding = 1"]);
        assert_eq!(after.since(&before, "sysctls"), ["net.ipv4.ip_forward = 1"]);
    }
}
