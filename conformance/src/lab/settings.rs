//! The network settings of a namespace, with the kernel's own values.
//!
//! A new network namespace inherits IPv4 settings from the machine's first one (and IPv6 settings too where
//! `net.core.devconf_inherit_init_net` says so): on a machine with Docker every new namespace forwards, on one with
//! systemd it filters reverse paths. A test must not depend on that, so whatever makes a namespace for a test calls
//! [`reset`] or [`reset_at`] next. On a machine whose settings were never changed they only read.

use std::io::{Error, ErrorKind, Result};
use std::path::Path;

use nix::sched::{CloneFlags, setns};

/// Settings of `/proc/sys/net/ipv4/conf` and their values for `all` and `default` (net/ipv4/devinet.c). `forwarding` of `all` is
/// `net.ipv4.ip_forward`; it comes first, for it sets some of the others.
const IPV4: [(&str, [&str; 2]); 21] = [
    ("forwarding", ["0", "0"]),
    ("rp_filter", ["0", "0"]),
    ("accept_local", ["0", "0"]),
    ("accept_redirects", ["1", "1"]),
    ("accept_source_route", ["0", "1"]),
    ("arp_accept", ["0", "0"]),
    ("arp_announce", ["0", "0"]),
    ("arp_evict_nocarrier", ["1", "1"]),
    ("arp_filter", ["0", "0"]),
    ("arp_ignore", ["0", "0"]),
    ("arp_notify", ["0", "0"]),
    ("drop_gratuitous_arp", ["0", "0"]),
    ("drop_unicast_in_l2_multicast", ["0", "0"]),
    ("ignore_routes_with_linkdown", ["0", "0"]),
    ("promote_secondaries", ["0", "0"]),
    ("proxy_arp", ["0", "0"]),
    ("route_localnet", ["0", "0"]),
    ("secure_redirects", ["1", "1"]),
    ("send_redirects", ["1", "1"]),
    ("shared_media", ["1", "1"]),
    ("src_valid_mark", ["0", "0"]),
];

/// The same of `/proc/sys/net/ipv6/conf` (net/ipv6/addrconf.c).
const IPV6: [(&str, [&str; 2]); 17] = [
    ("forwarding", ["0", "0"]),
    ("disable_ipv6", ["0", "0"]),
    ("accept_dad", ["0", "1"]),
    ("accept_ra", ["1", "1"]),
    ("accept_ra_defrtr", ["1", "1"]),
    ("accept_ra_pinfo", ["1", "1"]),
    ("accept_redirects", ["1", "1"]),
    ("accept_source_route", ["0", "0"]),
    ("addr_gen_mode", ["0", "0"]),
    ("autoconf", ["1", "1"]),
    ("dad_transmits", ["1", "1"]),
    ("drop_unsolicited_na", ["0", "0"]),
    ("ignore_routes_with_linkdown", ["0", "0"]),
    ("keep_addr_on_down", ["0", "0"]),
    ("ndisc_notify", ["0", "0"]),
    ("optimistic_dad", ["0", "0"]),
    ("use_tempaddr", ["0", "0"]),
];

/// Sets the settings of the calling thread's namespace, which is new: it has no interface but `lo`.
pub fn reset() -> Result<()> {
    for (family, settings) in [("ipv4", &IPV4[..]), ("ipv6", &IPV6[..])] {
        let directory = Path::new("/proc/sys/net").join(family).join("conf");
        for (name, [all, default]) in settings {
            for (interface, value) in [("all", all), ("default", default)] {
                set(&directory.join(interface).join(name), value)?;
            }
            // It was made with what `default` was then, but for two that it has of its own.
            if !["accept_dad", "use_tempaddr"].contains(name) {
                set(&directory.join("lo").join(name), default)?;
            }
        }
    }
    Ok(())
}

/// The same for the namespace at `path`.
pub fn reset_at(path: &Path) -> Result<()> {
    let file = std::fs::File::open(path)?;
    // Entering is a thread's affair: a thread of its own leaves the caller where it is.
    let job = || {
        setns(&file, CloneFlags::CLONE_NEWNET)?;
        reset()
    };
    std::thread::scope(|scope| scope.spawn(job).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}

/// Writes a setting that has another value. A kernel without IPv6, or too old for a setting, has none of that name.
fn set(path: &Path, value: &str) -> Result<()> {
    let in_words = |error: Error| Error::new(error.kind(), format!("{}: {error}", path.display()));
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim() == value => Ok(()),
        Ok(_) => std::fs::write(path, value).map_err(in_words),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(in_words(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::Netns;

    /// What the machine's own namespace may have, and a new one inherit.
    const SPOILT: &str = "net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=2 net.ipv4.conf.default.rp_filter=2 \
        net.ipv4.conf.default.promote_secondaries=1 net.ipv4.conf.all.accept_redirects=0 \
        net.ipv6.conf.all.forwarding=1 net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.accept_ra=0 \
        net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.lo.accept_ra=0 net.ipv4.conf.lo.arp_ignore=1";

    fn settings(netns: &Netns) -> String {
        netns.sh("sysctl -a 2>/dev/null | grep -E '^net\\.ipv[46]\\.(conf\\.(all|default|lo)\\.|ip_forward)'")
    }

    #[test]
    fn a_spoilt_namespace_becomes_as_a_new_one_is_where_nothing_is_configured() {
        let (untouched, spoilt) = (Netns::new("new"), Netns::new("spoilt"));
        let expected = settings(&untouched);
        spoilt.sh(&format!("sysctl -qw {SPOILT}"));
        assert_ne!(settings(&spoilt), expected);
        reset_at(&spoilt.path()).unwrap();
        assert_eq!(settings(&spoilt), expected);
        spoilt.sh("ping -n -c 1 -W 1 127.0.0.1 && ping -n -c 1 -W 1 ::1");
    }
}
