//! What a namespace has, as text to compare, and what the kernel changes in it meanwhile.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

use crate::lab::Netns;

/// What changes by itself is left out: timers, counters, neighbors that were asked for, and what the kernel does a second
/// later when it has seen that nobody else has a link-local address.
const STATE: &str = "
    ip -o -d link | sed -E 's/_timer +[0-9.]+//g'
    ip -o addr | sed 's/ tentative//'
    ip -4 route show table all; ip -6 route show table all | sed '/ fe80::/d'
    ip neigh show nud permanent; bridge fdb show | sed '/^33:33:/d'
    nft -s list ruleset
    grep -rs '' /proc/sys/net | grep -vE 'nf_conntrack_count|_mem:|_orphans:|conntrack_max|conntrack_buckets'";

impl Netns {
    /// Links, addresses, routes, neighbors, FDB, nftables and sysctls.
    pub fn state(&self) -> String {
        self.sh(STATE)
    }

    /// The value of a sysctl, by its path under /proc/sys/net.
    #[track_caller]
    pub fn sysctl(&self, path: &str) -> String {
        self.sh(&format!("cat /proc/sys/net/{path}")).trim().to_owned()
    }
}

/// Writes down every link, address, route, neighbor and FDB entry that is made, changed or removed.
#[derive(Debug)]
pub struct Monitor<'a> {
    netns: &'a Netns,
    events: NamedTempFile,
    child: Child,
    marks: u32,
}

impl<'a> Monitor<'a> {
    /// Begins; what happens from now on is written down.
    pub fn start(netns: &'a Netns) -> Self {
        let events = NamedTempFile::new().expect("a temporary file");
        let mut command = Command::new("ip");
        command.args(["-o", "monitor", "link", "address", "route", "neigh"]).stdin(Stdio::null());
        command.stdout(events.reopen().expect("reopen")).stderr(Stdio::null());
        let child = netns.spawn(&mut command).expect("ip monitor (package iproute2)");
        let mut monitor = Monitor { netns, events, child, marks: 0 };
        monitor.mark();
        monitor
    }

    /// Ends; the lines since the beginning.
    pub fn stop(mut self) -> Vec<String> {
        self.mark();
        let text = std::fs::read_to_string(self.events.path()).expect("read events");
        text.lines().filter(|line| !line.contains(MARK)).map(str::to_owned).collect()
    }

    /// Changes something until it is told of: then all that was changed before has been, too.
    fn mark(&mut self) {
        self.marks += 1;
        let route = format!("blackhole {MARK} metric {}", self.marks);
        let end = Instant::now() + Duration::from_secs(20);
        while !std::fs::read_to_string(self.events.path()).expect("read events").contains(&route) {
            assert!(Instant::now() < end, "ip monitor tells of nothing");
            self.netns.sh(&format!("ip route add {route}; ip route del {route}"));
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Monitor<'_> {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A route that nobody else makes (RFC 5737).
const MARK: &str = "203.0.113.77";
