//! Where a process can be harmed: every system call of one traced run.

use std::collections::BTreeMap;

use crate::crash::scene::{Scene, Traced};
use crate::crash::trial::{self, Verb};
use crate::crash::{Harm, Options};

/// Which process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Target {
    /// The plugin itself, with its threads; not what it executes.
    Plugin,
    /// The IPAM plugin that it executes.
    Delegate,
}

/// One point, and what is done there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// During which command.
    pub verb: Verb,
    /// In which process.
    pub target: Target,
    /// The system call.
    pub call: String,
    /// Its how-manieth of that name in the process, from 1.
    pub occurrence: u32,
    /// What is done.
    pub harm: Harm,
    /// For [`Harm::Fail`]: with which error.
    pub errno: &'static str,
}

impl Point {
    /// strace's expression.
    pub fn injection(&self) -> String {
        let what = match self.harm {
            Harm::Kill => "signal=SIGKILL".to_owned(),
            Harm::Outlive => "signal=SIGSTOP".to_owned(),
            Harm::Fail => format!("error={}", self.errno),
        };
        format!("inject={}:{what}:when={}", self.call, self.occurrence)
    }

    #[cfg(test)]
    pub(crate) fn example(occurrence: u32) -> Self {
        let (verb, target, harm) = (Verb::Add, Target::Plugin, Harm::Kill);
        Point { verb, target, call: "read".to_owned(), occurrence, harm, errno: "" }
    }
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let target = match self.target {
            Target::Plugin => "plugin",
            Target::Delegate => "delegate",
        };
        let how = if self.errno.is_empty() { self.harm.name() } else { self.errno };
        write!(f, "{} {target} {}#{} {how}", self.verb.name(), self.call, self.occurrence)
    }
}

/// Every point of a command. Runs differ in how often somebody waits, so three are traced and the shortest counts: what it
/// does, every run does.
pub fn of_verb(options: &Options, verb: Verb) -> Vec<Point> {
    let mut points = Vec::new();
    for target in [Target::Plugin, Target::Delegate] {
        if target == Target::Delegate && trial::delegate_of(&options.config).is_none() {
            continue;
        }
        let mut runs = Vec::new();
        let mut scene = None;
        for _ in 0..3 {
            let mut here = scene.take().filter(|scene: &Scene| scene.is_fit_for(verb));
            let place = here.get_or_insert_with(|| Scene::new(options, verb));
            let traced = trial::traced(place, verb, target);
            runs.push((counted(&traced, None), counted(&traced, Some(SIGPIPE))));
            scene = here;
        }
        let (calls, loader) = runs.into_iter().min_by_key(|(calls, _)| calls.values().sum::<u32>()).unwrap_or_default();
        for &harm in &options.harms {
            points.extend(points_of(verb, target, harm, &calls, &loader));
        }
    }
    points
}

fn points_of(
    verb: Verb,
    target: Target,
    harm: Harm,
    calls: &BTreeMap<String, u32>,
    loader: &BTreeMap<String, u32>,
) -> Vec<Point> {
    let point = |call: &str, occurrence, errno| Point { verb, target, call: call.to_owned(), occurrence, harm, errno };
    let mut points = Vec::new();
    for (call, &count) in calls {
        match harm {
            Harm::Kill => points.extend((1..=count).map(|k| point(call, k, ""))),
            Harm::Outlive if target == Target::Delegate => points.extend((1..=count).map(|k| point(call, k, ""))),
            Harm::Outlive => {}
            Harm::Fail => {
                let first = loader.get(call).copied().unwrap_or(0) + 1;
                for &errno in errors_of(call) {
                    points.extend((first..=count).map(|k| point(call, k, errno)));
                }
            }
        }
    }
    points
}

/// What Rust's start-up does once the loader is through: what fails before that is the loader's affair.
const SIGPIPE: &str = "rt_sigaction(SIGPIPE, {sa_handler=SIG_IGN";

/// How often each name occurs, in the process or thread that has most of it. With `until`, only up to the first line
/// that says so (nowhere if none does).
fn counted(trace: &Traced, until: Option<&str>) -> BTreeMap<String, u32> {
    let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let end = until.map_or(trace.text.len(), |mark| trace.text.find(mark).unwrap_or(0));
    for line in trace.text[..end].lines() {
        if let Some((pid, call)) = call_in(line) {
            *counts.entry((pid, call)).or_default() += 1;
        }
    }
    let mut most: BTreeMap<String, u32> = BTreeMap::new();
    for ((_, call), count) in counts {
        let entry = most.entry(call.to_owned()).or_default();
        *entry = count.max(*entry);
    }
    most
}

/// `1234  openat(AT_FDCWD, …`: the process and the call. Exits, signals and the second half of a call that was
/// interrupted by another thread's are none.
fn call_in(line: &str) -> Option<(&str, &str)> {
    let (pid, rest) = line.split_once(' ')?;
    let (call, _) = rest.trim_start().split_once('(')?;
    let is_name = !call.is_empty() && call.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    // These never return, so nothing can be injected after them that was not there before.
    (is_name && pid.bytes().all(|b| b.is_ascii_digit())).then_some((pid, call))
}

/// With which errors a call can fail in an operator's life; others are left alone.
fn errors_of(call: &str) -> &'static [&'static str] {
    match call {
        "open" | "openat" | "openat2" => &["ENOSPC", "EIO", "EDQUOT", "EMFILE", "EINTR"],
        "write" | "pwrite64" | "writev" => &["ENOSPC", "EIO", "EDQUOT", "EINTR"],
        "mkdir" | "mkdirat" | "link" | "linkat" | "rename" | "renameat" | "renameat2" | "ftruncate" | "fallocate" => {
            &["ENOSPC", "EIO", "EDQUOT"]
        }
        "read" | "pread64" | "getdents64" | "fsync" | "fdatasync" | "fstat" | "newfstatat" | "statx" | "unlink"
        | "unlinkat" | "utimensat" => &["EIO"],
        "flock" | "fcntl" => &["EINTR", "ENOLCK"],
        "socket" => &["EMFILE", "ENOBUFS"],
        "bind" | "setsockopt" => &["ENOBUFS"],
        "send" | "sendto" | "sendmsg" => &["ENOBUFS", "EINTR", "EAGAIN"],
        // EAGAIN leaves the reply where it is: as good as lost.
        "recv" | "recvfrom" | "recvmsg" => &["ENOBUFS", "EINTR", "EAGAIN"],
        "clone" | "clone3" | "fork" | "vfork" => &["EAGAIN"],
        "execve" => &["ENOMEM", "EACCES"],
        "pipe" | "pipe2" | "dup" | "dup2" | "epoll_create1" | "eventfd2" | "socketpair" => &["EMFILE"],
        "poll" | "ppoll" | "epoll_wait" | "epoll_pwait" | "wait4" | "waitid" => &["EINTR"],
        "setns" => &["ENOMEM"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "\
7 execve(\"/bin/x\", [\"x\"], 0x7f /* 3 vars */) = 0
7 read(0, \"{\", 4096) = 1
7 rt_sigaction(SIGPIPE, {sa_handler=SIG_IGN, sa_mask=[PIPE]}, NULL, 8) = 0
7 clone(child_stack=NULL) = 8
8 read(3, <unfinished ...>
7 read(0, \"\", 4096) = 0
8 <... read resumed>\"\", 4096) = 0
8 +++ exited with 0 +++
7 --- SIGCHLD {si_signo=SIGCHLD} ---
7 exit_group(0) = ?
";

    #[test]
    fn calls_are_counted_in_each_process_by_itself() {
        let counts = counted(&Traced { text: TRACE.to_owned() }, None);
        assert_eq!(counts["read"], 2);
        assert_eq!(counts["execve"], 1);
        assert_eq!(counts.len(), 5);
    }

    #[test]
    fn failures_begin_where_the_loader_is_through() {
        let traced = Traced { text: TRACE.to_owned() };
        let (calls, loader) = (counted(&traced, None), counted(&traced, Some(SIGPIPE)));
        let points = points_of(Verb::Add, Target::Plugin, Harm::Fail, &calls, &loader);
        let reads: Vec<_> = points.iter().filter(|point| point.call == "read").collect();
        assert_eq!((reads.len(), reads[0].occurrence, reads[0].errno), (1, 2, "EIO"));
    }
}
