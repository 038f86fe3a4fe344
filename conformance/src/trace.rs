//! What strace has written, for tests that count.

/// The lines of `trace` (of `strace -f`) that are calls, each once: not the second half of one that was interrupted by
/// another process's line, and none that the kernel sent back to be made again. That it does, over and over and by itself,
/// to who writes a sysctl that needs the rtnl lock while somebody else on the machine holds it (`restart_syscall()` in
/// net/ipv6/addrconf.c).
pub fn calls_made(trace: &str) -> impl Iterator<Item = &str> {
    trace.lines().filter(|line| !line.contains(" resumed>") && !line.ends_with("(To be restarted)"))
}
