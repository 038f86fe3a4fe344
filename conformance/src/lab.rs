//! Network namespaces to test in: a node is one, a Pod another.
//!
//! [`Netns`] is a namespace that goes away with its value. [`Node`] is one with directories of its own, in which
//! plugins are executed. Nothing here touches the machine's own namespace.

pub mod leave;
pub mod settings;

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use fs2::FileExt;
use serde_json::Value;
use tempfile::TempDir;

/// A network namespace under /run/netns, with `lo` up and with known [`settings`], removed when dropped.
#[derive(Debug)]
pub struct Netns {
    name: String,
    inner: Option<netns_rs::NetNs>,
}

impl Netns {
    /// Makes a namespace. `label` is a few letters for a person who looks at `ip netns`.
    pub fn new(label: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pw-{}-{count}-{label}", std::process::id());
        let inner = Some(locked(|| netns_rs::NetNs::new(&name)).expect("make a network namespace (are you root?)"));
        let netns = Netns { name, inner };
        settings::reset_at(&netns.path()).expect("set the settings of a new namespace");
        netns.sh("ip link set lo up");
        netns
    }

    /// Its name under /run/netns.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its path, as CNI_NETNS takes it.
    pub fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Does `job` inside the namespace. Sockets opened there stay there.
    pub fn inside<T: Send>(&self, job: impl FnOnce() -> T + Send) -> T {
        let netns = self.inner.as_ref().expect("there until dropped");
        // Entering is a thread's affair: a thread of its own leaves the caller where it is, whatever happens.
        std::thread::scope(|scope| {
            let entered = scope.spawn(|| {
                netns.enter().expect("enter the namespace");
                job()
            });
            entered.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Starts `command` inside the namespace.
    pub fn spawn(&self, command: &mut Command) -> std::io::Result<std::process::Child> {
        self.inside(|| command.spawn())
    }

    /// Runs `command` inside the namespace and collects what it prints.
    pub fn output(&self, command: &mut Command) -> Output {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let child = self.spawn(command).unwrap_or_else(|error| panic!("{command:?}: {error}"));
        child.wait_with_output().expect("wait for a child")
    }

    /// Runs a shell script inside the namespace; `Ok` is its stdout, `Err` all that it printed.
    pub fn try_sh(&self, script: &str) -> Result<String, String> {
        let output = self.output(Command::new("sh").args(["-ec", script]));
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(stdout);
        }
        Err(format!("{script}: {}\n{stdout}{}", output.status, String::from_utf8_lossy(&output.stderr)))
    }

    /// Runs a shell script inside the namespace that must succeed; its stdout.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.try_sh(script).unwrap_or_else(|error| panic!("in {}: {error}", self.name))
    }

    /// What `ip -j ARGUMENTS` prints.
    #[track_caller]
    pub fn ip(&self, arguments: &str) -> Value {
        let text = self.sh(&format!("ip -j {arguments}"));
        if text.trim().is_empty() {
            return Value::Array(Vec::new());
        }
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("ip -j {arguments}: {error}: {text}"))
    }

    /// Does one ping from here arrive at `address` and come back within a second?
    pub fn pings(&self, address: &str) -> bool {
        self.try_sh(&format!("ping -n -c 1 -W 1 {address}")).is_ok()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Some(inner) = self.inner.take() {
            let _ = locked(|| inner.remove());
        }
    }
}

/// One at a time over all processes: making the first namespace mounts /run/netns onto itself.
fn locked<T>(job: impl FnOnce() -> T) -> T {
    let file = std::fs::File::create("/run/podwire-lab.lock").expect("create the lab's lock (are you root?)");
    file.lock_exclusive().expect("lock");
    let done = job();
    let _ = FileExt::unlock(&file);
    done
}

/// The directory of the binaries under test: where cargo put this program's siblings.
pub fn bin_dir() -> PathBuf {
    let exe = std::env::current_exe().expect("path of this program");
    let directory = exe.parent().expect("a program is in a directory");
    if directory.ends_with("deps") {
        directory.parent().expect("deps has a parent").to_owned()
    } else {
        directory.to_owned()
    }
}

/// Debian's reference plugins (package containernetworking-plugins).
pub const REFERENCE_DIR: &str = "/usr/lib/cni";

/// A node: a namespace to run plugins in, and directories for what they keep.
#[derive(Debug)]
pub struct Node {
    /// Where its plugins run.
    pub netns: Netns,
    /// Its files: a temporary directory.
    pub files: TempDir,
    /// CNI_PATH.
    pub path: Vec<PathBuf>,
}

/// What one execution of a plugin left.
#[derive(Clone, Debug)]
pub struct Reply {
    /// Exit status 0?
    pub success: bool,
    /// The document on stdout; `Null` if there is none.
    pub json: Value,
    /// stdout as it came.
    pub stdout: String,
    /// stderr as it came.
    pub stderr: String,
}

impl From<Output> for Reply {
    fn from(output: Output) -> Self {
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        Reply {
            success: output.status.success(),
            json: serde_json::from_str(&stdout).unwrap_or(Value::Null),
            stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Reply {
    /// The document of a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!(self.success, "the plugin failed: {}\n{}", self.stdout, self.stderr);
        self.json
    }

    /// The error's code; 0 of a success.
    pub fn code(&self) -> u64 {
        if self.success { 0 } else { self.json["code"].as_u64().unwrap_or(u64::MAX) }
    }

    /// The error's details.
    pub fn details(&self) -> &str {
        self.json["details"].as_str().unwrap_or_default()
    }
}

impl Node {
    /// A node that runs the binaries under test.
    pub fn new(label: &str) -> Self {
        Node {
            netns: Netns::new(label),
            files: tempfile::tempdir().expect("temporary directory"),
            path: vec![bin_dir()],
        }
    }

    /// A file or directory of this node.
    pub fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    /// An execution of `plugin` (looked up in [`Node::path`], or a path) with the variables given, nothing else.
    pub fn execute(&self, plugin: impl AsRef<OsStr>, variables: &[(&str, &str)], input: &[u8]) -> Reply {
        let executable = self.find(plugin.as_ref());
        let mut command = Command::new(&executable);
        command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        for (name, value) in [("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")].iter().chain(variables) {
            command.env(name, value);
        }
        let mut child = self.netns.spawn(&mut command).unwrap_or_else(|error| panic!("{executable:?}: {error}"));
        let mut stdin = child.stdin.take().expect("piped");
        let output = std::thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(input));
            child.wait_with_output().expect("wait for a plugin")
        });
        Reply::from(output)
    }

    /// `command` for one attachment, with a configuration.
    pub fn call(&self, plugin: &str, command: &str, pod: &Pod, config: &Value) -> Reply {
        let netns = pod.netns.as_ref().map(|netns| netns.path().display().to_string()).unwrap_or_default();
        let variables = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", pod.container_id.as_str()),
            ("CNI_IFNAME", pod.ifname.as_str()),
            ("CNI_NETNS", netns.as_str()),
            ("CNI_PATH", &self.cni_path()),
            ("CNI_ARGS", pod.args.as_str()),
        ];
        self.execute(plugin, &variables, config.to_string().as_bytes())
    }

    /// GC, STATUS or VERSION, with a configuration.
    pub fn call_network(&self, plugin: &str, command: &str, config: &Value) -> Reply {
        let variables = [("CNI_COMMAND", command), ("CNI_PATH", &self.cni_path())];
        self.execute(plugin, &variables, config.to_string().as_bytes())
    }

    /// CNI_PATH as one string.
    pub fn cni_path(&self) -> String {
        self.path.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":")
    }

    fn find(&self, plugin: &OsStr) -> PathBuf {
        if Path::new(plugin).is_absolute() {
            return plugin.into();
        }
        let found = self.path.iter().map(|directory| directory.join(plugin)).find(|path| path.exists());
        found.unwrap_or_else(|| panic!("no {plugin:?} in {:?}: build the workspace first", self.path))
    }
}

/// A Pod: a container ID, an interface name and a namespace (or none any more).
#[derive(Debug)]
pub struct Pod {
    /// CNI_CONTAINERID.
    pub container_id: String,
    /// CNI_IFNAME.
    pub ifname: String,
    /// CNI_ARGS.
    pub args: String,
    /// CNI_NETNS.
    pub netns: Option<Netns>,
}

impl Pod {
    /// A Pod with a namespace of its own and `eth0` to be.
    pub fn new(container_id: &str) -> Self {
        Pod { netns: Some(Netns::new("pod")), ..Pod::without_netns(container_id) }
    }

    /// A Pod whose namespace is gone, or that an IPAM plugin need not open.
    pub fn without_netns(container_id: &str) -> Self {
        Pod { container_id: container_id.to_owned(), ifname: "eth0".to_owned(), args: String::new(), netns: None }
    }

    /// Its namespace, which must be there.
    #[track_caller]
    pub fn netns(&self) -> &Netns {
        self.netns.as_ref().expect("this Pod has no namespace")
    }
}
