//! Where one trial runs: a node of its own.
//!
//! [`World::enter`] puts this process into fresh mount and network namespaces. /run, /tmp, /var/tmp and /var/lib are
//! empty there, so that what a plugin keeps collides with nothing and what it leaves is seen; the rest of the file
//! system is the machine's. Its namespaces have [known settings](settings). The node has an uplink, `eth0` (192.0.2.2/24, 2001:db8::2/64), with default routes
//! through a neighbor. All of it goes away with the process, whatever happened in it.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

use libcni::Version;

use super::clause::{Kind, Step, Stop, Verdict};
use super::config::Network;
use super::exec::{LITTLE_PATIENCE, PATIENCE};
use crate::lab::settings;

/// The suite's own directory in a world; no residue of a plugin.
pub const HOME: &str = "/run/cni-conformance";
/// What is empty in a world, and looked through for residue.
pub const FRESH: [&str; 4] = ["/run", "/tmp", "/var/tmp", "/var/lib"];

/// All that a worker process needs to know.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// What is under test.
    pub network: Network,
    /// In which version.
    pub version: Version,
    /// As what.
    pub kind: Kind,
    /// The versions that every plugin under test claims.
    pub claims: Vec<Version>,
    /// Where the plugins are.
    pub bin_dirs: Vec<PathBuf>,
    /// A shell script that prepares the node.
    pub setup: Option<String>,
    /// Has it been seen to come to no end?
    pub hangs: bool,
    /// The trial's name; none to find out what the plugin is.
    pub trial: Option<String>,
}

/// A node in namespaces of its own, and what has been found out there.
#[derive(Debug)]
pub struct World {
    /// What this is about.
    pub job: Job,
    /// CNI_PATH without the suite's own directories.
    pub bin_dirs: Vec<PathBuf>,
    findings: Mutex<BTreeMap<&'static str, Verdict>>,
    journal: Mutex<Vec<String>>,
    pods: AtomicUsize,
    hung: AtomicBool,
}

impl World {
    /// Makes the world and puts this process into it. Call it before there is a second thread.
    pub fn enter(job: Job) -> Result<Self, String> {
        let bin_dirs = enter_namespaces(&job.bin_dirs).map_err(|error| {
            format!("making a mount and network namespace: {error} (the suite needs to be root, with CAP_SYS_ADMIN)")
        })?;
        let world = World {
            hung: AtomicBool::new(job.hangs),
            job,
            bin_dirs,
            findings: Mutex::default(),
            journal: Mutex::default(),
            pods: AtomicUsize::new(1),
        };
        world.connect_node().map_err(|stop| format!("{stop:?}"))?;
        Ok(world)
    }

    /// The uplink, and the user's own preparation.
    fn connect_node(&self) -> Step {
        self.without_dad(None)?;
        self.make_netns("outside")?;
        self.sh(
            None,
            "ip link set lo up
             ip link add eth0 type veth peer name eth0 netns outside
             ip -n outside addr add 192.0.2.1/24 dev eth0
             ip -n outside addr add 2001:db8::1/64 dev eth0 nodad
             ip -n outside link set eth0 up
             ip addr add 192.0.2.2/24 dev eth0
             ip addr add 2001:db8::2/64 dev eth0 nodad
             ip link set eth0 up
             ip route add default via 192.0.2.1
             ip route add default via 2001:db8::1",
        )?;
        if let Some(script) = &self.job.setup {
            self.sh(None, script)?;
        }
        Ok(())
    }

    /// A new namespace called `name`, with known settings.
    pub fn make_netns(&self, name: &str) -> Step {
        self.sh(None, &format!("ip netns add {name}"))?;
        let path = Path::new("/run/netns").join(name);
        settings::reset_at(&path).map_err(|error| Stop::Suite(format!("setting up the namespace {name}: {error}")))
    }

    /// New IPv6 addresses of a namespace are usable at once, without looking for duplicates for a second or two.
    pub fn without_dad(&self, netns: Option<&str>) -> Step {
        let script =
            "cd /proc/sys/net/ipv6/conf 2>/dev/null || exit 0; echo 0 > all/accept_dad; echo 0 > default/accept_dad";
        self.sh(netns, script).map(drop)
    }

    /// The same node for one procedure in another version: what is found out there is told apart.
    pub fn in_version(&self, version: Version) -> World {
        World {
            job: Job { version, ..self.job.clone() },
            bin_dirs: self.bin_dirs.clone(),
            findings: Mutex::default(),
            journal: Mutex::default(),
            // Far enough away from this one's: the kernel's names for them must differ.
            pods: AtomicUsize::new(self.pods.fetch_add(10, Ordering::Relaxed)),
            hung: AtomicBool::new(self.hung.load(Ordering::Relaxed)),
        }
    }

    /// Runs a shell script on the node, or in a namespace by name; what it prints. A failure is the suite's.
    pub fn sh(&self, netns: Option<&str>, script: &str) -> Step<String> {
        self.try_sh(netns, script).map_err(Stop::Suite)
    }

    /// The same, where a failure says something.
    pub fn try_sh(&self, netns: Option<&str>, script: &str) -> Result<String, String> {
        let mut command = match netns {
            None => Command::new("sh"),
            Some(name) => {
                let mut command = Command::new("nsenter");
                command.arg(format!("--net=/run/netns/{name}")).arg("sh");
                command
            }
        };
        let output = command.args(["-ec", script]).stdin(Stdio::null()).output();
        let output = output.map_err(|error| format!("sh or nsenter: {error}"))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let script = script.split_whitespace().collect::<Vec<_>>().join(" ");
        Err(format!("{script}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim()))
    }

    /// CNI_PATH: the suite's delegates (none unless a trial puts one there), then the plugins.
    pub fn cni_path(&self) -> String {
        let spies = Path::new(HOME).join("spy");
        let all = std::iter::once(&spies).chain(&self.bin_dirs);
        all.map(|path| path.display().to_string()).collect::<Vec<_>>().join(":")
    }

    /// The executable of a plugin.
    pub fn find(&self, name: &str) -> Step<PathBuf> {
        let mut candidates = self.bin_dirs.iter().map(|directory| directory.join(name));
        candidates.find(|path| path.is_file()).ok_or_else(|| {
            let searched = self.job.bin_dirs.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
            let leads_astray = self.bin_dirs.iter().any(|directory| directory.join(name).is_symlink());
            let why = match leads_astray {
                true => {
                    format!(": a symbolic link of that name leads nowhere here, where {} are empty", FRESH.join(", "))
                }
                false => ": put it there, or name its directory with --bin-dir".to_owned(),
            };
            Stop::Suite(format!("no plugin {name:?} in {}{why}", searched.join(", ")))
        })
    }

    /// The next number for a Pod, from 1.
    pub fn next_pod(&self) -> usize {
        self.pods.fetch_add(1, Ordering::Relaxed)
    }

    /// How long a plugin is waited for.
    pub fn patience(&self) -> Duration {
        if self.hung.load(Ordering::Relaxed) { LITTLE_PATIENCE } else { PATIENCE }
    }

    /// From now on the suite waits for less long.
    pub fn lose_patience(&self) {
        self.hung.store(true, Ordering::Relaxed);
    }

    /// The delegate of the first plugin under test that has one.
    pub fn delegate(&self) -> Option<&str> {
        let network = &self.job.network;
        (network.first..network.plugins.len()).find_map(|index| network.delegate(index))
    }

    /// Is it under test in this version, or a later one?
    pub fn speaks(&self, version: Version) -> bool {
        self.job.version >= version
    }

    /// Writes down what was done, for a report of what came of it.
    pub fn note(&self, step: impl Into<String>) {
        self.journal.lock().expect("no panic while noting").push(step.into());
    }

    /// One thing that a clause asks for. The first that does not hold is the clause's verdict.
    pub fn expect(&self, id: &'static str, holds: bool, expected: impl Display, got: impl Display) {
        let mut findings = self.findings.lock().expect("no panic while judging");
        match (holds, findings.get(id)) {
            (_, Some(Verdict::Failed { .. })) => {}
            (true, _) => {
                findings.insert(id, Verdict::Passed);
            }
            (false, _) => {
                let done = self.journal.lock().expect("no panic while noting").clone();
                let (expected, got) = (expected.to_string(), got.to_string());
                findings.insert(id, Verdict::Failed { done, expected, got });
            }
        }
    }

    /// A clause that can't be tested here.
    pub fn skip(&self, id: &'static str, reason: impl Into<String>) {
        let mut findings = self.findings.lock().expect("no panic while judging");
        findings.entry(id).or_insert(Verdict::Skipped { reason: reason.into() });
    }

    /// All verdicts.
    pub fn into_findings(self) -> BTreeMap<&'static str, Verdict> {
        self.findings.into_inner().expect("no panic while judging")
    }
}

/// Unshares, and returns where the plugins' directories are now.
fn enter_namespaces(bin_dirs: &[PathBuf]) -> Result<Vec<PathBuf>, Box<dyn std::error::Error>> {
    std::env::set_current_dir("/")?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWNET)?;
    settings::reset()?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)?;
    // Held open, for some lie beneath what is about to be covered. Opened here: a mount of another namespace can't be
    // bound. The others keep their place, and with it what relative links in them lead to.
    let open = |path: &PathBuf| std::fs::File::open(path).map_err(|error| format!("{}: {error}", path.display()));
    let directories = bin_dirs.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    for path in FRESH.iter().filter(|path| Path::new(path).is_dir()) {
        mount(Some("tmpfs"), *path, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))
            .map_err(|error| format!("mounting an empty {path}: {error}"))?;
    }
    // /sys shows the interfaces of the namespace it was mounted in. Plugins can do without.
    let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), MsFlags::empty(), None::<&str>);
    let mut visible = Vec::new();
    for (index, (path, directory)) in bin_dirs.iter().zip(&directories).enumerate() {
        if !FRESH.iter().any(|fresh| path.starts_with(fresh)) {
            visible.push(path.clone());
            continue;
        }
        let target = Path::new(HOME).join("bin").join(index.to_string());
        std::fs::create_dir_all(&target)?;
        let source = format!("/proc/self/fd/{}", directory.as_raw_fd());
        mount(Some(source.as_str()), &target, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        visible.push(target);
    }
    Ok(visible)
}
