//! Where a process can be harmed: every system call of one traced run.

use std::collections::BTreeMap;

use crate::crash::Harm;
use crate::crash::scene::{Scene, Stage};
use crate::crash::strace::Traced;
use crate::crash::trial::{self, Verb};

/// Which process.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// The plugin's place in the chain.
    pub index: usize,
    /// The plugin itself, with its threads but not what it executes; or the IPAM plugin that it executes.
    pub is_delegate: bool,
    /// The executable's name.
    pub name: String,
}

/// One point, and what is done there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// In which network, by its place in [`crate::crash::Options::networks`].
    pub network: usize,
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
        let target = Target { index: 0, is_delegate: false, name: "example".to_owned() };
        Point { network: 0, verb: Verb::Add, target, call: "read".to_owned(), occurrence, harm: Harm::Kill, errno: "" }
    }
}

impl std::fmt::Display for Point {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let how = if self.errno.is_empty() { self.harm.name() } else { self.errno };
        write!(f, "{} {} {}#{} {how}", self.verb.name(), self.target.name, self.call, self.occurrence)
    }
}

/// Which processes can be harmed during a command.
pub fn targets(stage: &Stage<'_>, verb: Verb) -> Vec<Target> {
    let network = &stage.subject.network;
    let followers = stage.subject.followers();
    let tested = stage.subject.tested(stage.bin_dirs).unwrap_or_default();
    let mut targets = Vec::new();
    for index in tested {
        let plugin = Target { index, is_delegate: false, name: network.plugin_type(index).to_owned() };
        match verb {
            Verb::Gc if !stage.version.has_gc_and_status() => {}
            Verb::Sync if followers.contains(&index) => targets.push(plugin),
            Verb::Sync => {}
            _ => {
                targets.push(plugin);
                let delegate = network.delegate(index).map(str::to_owned);
                targets.extend(delegate.map(|name| Target { index, is_delegate: true, name }));
            }
        }
    }
    targets
}

/// Every point of a command in one process. Runs differ in how often somebody waits, so of so many runs the shortest counts:
/// what it does, every run does.
pub fn of_target<'a>(
    stage: &'a Stage<'a>,
    network: usize,
    verb: Verb,
    target: &Target,
    harms: &[Harm],
    runs: usize,
) -> Result<Vec<Point>, String> {
    let mut shortest: Option<Traced> = None;
    let mut scene = None;
    for _ in 0..runs {
        let fit = scene.take().filter(|scene: &Scene<'_>| scene.is_fit_for(stage, verb));
        let here = match fit {
            Some(scene) => scene,
            None => Scene::new(stage, verb)?,
        };
        let traced = trial::traced(&here, verb, target)?;
        scene = Some(here);
        if shortest.as_ref().is_none_or(|other| traced.text.lines().count() < other.text.lines().count()) {
            shortest = Some(traced);
        }
    }
    let traced = shortest.unwrap_or_default();
    let all = harms.iter().flat_map(|&harm| points_of(harm, target, &traced.text));
    let point = |(call, occurrence, harm, errno)| {
        let target = target.clone();
        Point { network, verb, target, call, occurrence, harm, errno }
    };
    Ok(all.map(point).collect())
}

fn points_of(harm: Harm, target: &Target, trace: &str) -> Vec<(String, u32, Harm, &'static str)> {
    let calls = occurrences(trace);
    let before_main = occurrences(before_main(trace));
    let mut points = Vec::new();
    for ((call, k), can_fail_so) in calls {
        let errors = match harm {
            Harm::Fail if before_main.contains_key(&(call, k)) || !can_fail_so => &[],
            Harm::Fail => errors_of(call),
            Harm::Outlive if !target.is_delegate => &[],
            Harm::Kill | Harm::Outlive => &[""],
        };
        points.extend(errors.iter().map(|&errno| (call.to_owned(), k, harm, errno)));
    }
    points
}

/// Can the call of this line fail as `errors_of` has it? A disk is full for files only: an event counter or a pipe has no
/// space to run out of.
pub fn can_fail_so(line: &str, call: &str) -> bool {
    const NO_FILE: [&str; 6] = ["(anon_inode:", "<anon_inode:", "<pipe:", "<socket:", "<UNIX", "<NETLINK"];
    !(matches!(call, "read" | "write" | "writev") && NO_FILE.iter().any(|no| line.contains(no)))
}

/// What comes before a program's own work is the loader's affair if it fails: the lines up to where Rust's start-up, or
/// Go's, is through.
fn before_main(text: &str) -> &str {
    let is_mark = |line: &str| {
        line.contains("rt_sigaction(SIGPIPE, {sa_handler=SIG_IGN")
            || line.contains("fcntl(0<") && line.contains("F_GETFL")
    };
    let mut end = 0;
    for line in text.split_inclusive('\n') {
        if is_mark(line) {
            return &text[..end];
        }
        end += line.len();
    }
    ""
}

/// Every (name, how-manieth of that name in a process or thread), and whether it can fail (in one of them). The first
/// execve is strace's own, which it neither counts nor harms.
fn occurrences(text: &str) -> BTreeMap<(&str, u32), bool> {
    let mut counts: BTreeMap<(&str, &str), u32> = BTreeMap::new();
    let mut found = BTreeMap::new();
    let calls = text.lines().filter_map(|line| Some((line, call_in(line)?))).enumerate();
    for (_, (line, (pid, call))) in calls.filter(|(at, (_, (_, call)))| *at > 0 || *call != "execve") {
        let count = counts.entry((pid, call)).or_default();
        *count += 1;
        *found.entry((call, *count)).or_default() |= can_fail_so(line, call);
    }
    found
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
8 execve(\"/bin/y\", [\"y\"], 0x7f /* 3 vars */ <unfinished ...>
8 read(3, <unfinished ...>
7 read(0<pipe:[9]>, \"\", 4096) = 0
7 read(4</x>, \"\", 4096) = 0
8 <... read resumed>\"\", 4096) = 0
8 +++ exited with 0 +++
7 --- SIGCHLD {si_signo=SIGCHLD} ---
7 exit_group(0) = ?
";

    #[test]
    fn calls_are_counted_in_each_process_by_itself() {
        let calls = occurrences(TRACE);
        let of = |name: &str| calls.keys().filter(|(call, _)| *call == name).count();
        assert_eq!((of("read"), of("execve")), (3, 1), "strace's own execve is none");
    }

    #[test]
    fn failures_begin_where_the_loader_is_through_and_are_on_files() {
        let points = points_of(Harm::Fail, &Point::example(1).target, TRACE);
        let of = |name: &str| points.iter().filter(|point| point.0 == name).map(|point| (point.1, point.3)).collect();
        let (reads, executions): (Vec<_>, Vec<_>) = (of("read"), of("execve"));
        assert_eq!(reads, [(3, "EIO")], "the first is the loader's, the second a pipe's");
        assert_eq!(executions, [(1, "ENOMEM"), (1, "EACCES")], "the delegate's");
    }

    #[test]
    fn gos_start_up_is_told_too() {
        let text = "7 execve(\"/x\") = 0\n7 openat(AT_FDCWD, \"/sys\") = 3\n7 fcntl(0</dev/null>, F_GETFL) = 0\n7 read(0) = 1\n";
        assert_eq!(before_main(text).lines().count(), 2);
        assert_eq!(before_main("7 read(0) = 1\n"), "");
    }
}
