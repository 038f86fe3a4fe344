//! A node that is nearly a machine: network, files and processes of its own.
//!
//! Its `/etc` and `/opt` are the real ones with a writable layer in memory, `/run` and `/var/lib` start empty; so the
//! programs under test use the paths that everybody uses (`/opt/cni/bin`, `/etc/cni/net.d`, `/var/lib/cni`) and change
//! nothing of the machine that the tests run on. Everything in it ends with it: its first process ends when the pipe from the test
//! breaks, however the test ended, and the kernel then kills the others and drops the mounts.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use conformance::lab::{self, Netns, settings};
use serde_json::Value;

/// A node with files and processes of its own.
#[derive(Debug)]
pub struct Machine {
    holder: Child,
    first_process: u32,
    /// Its network namespace.
    pub netns: Netns,
}

/// Our plugins and tools.
const OURS: [&str; 6] = ["bridge", "host-local", "loopback", "ptp", "routed-veth", "vxlan-overlay"];
const TOOLS: [&str; 1] = ["cnitool"];

/// Makes the private files, then waits for the end of its stdin while collecting orphans.
const SET_UP: &str = r#"
    mount --make-rprivate /
    mount -t tmpfs tmpfs /run
    mount -t tmpfs tmpfs /var/lib
    for directory in etc opt; do
        mkdir -p /run/layers/$directory/upper /run/layers/$directory/work
        mount -t overlay overlay /$directory -o \
            lowerdir=/$directory,upperdir=/run/layers/$directory/upper,workdir=/run/layers/$directory/work
    done
    rm -rf /etc/cni /opt/cni
    mkdir -p /etc/cni/net.d /opt/cni/bin /run/bin /run/lock /run/netns
    # As `ip netns add` does it the first time, which must not be under the namespaces of a runtime that runs.
    mount --bind /run/netns /run/netns
    mount --make-shared /run/netns
    exec 3<&0
    cat <&3 >/dev/null &
    echo ready
    wait $!
"#;

/// The tests' program: image/pod.rs, by that name on every machine's PATH.
pub const POD_PROGRAM: &str = env!("POD_PROGRAM");

/// No command of a test takes longer, in seconds.
const PATIENCE: u32 = 120;

impl Machine {
    /// A machine with our plugins in `/opt/cni/bin` and our tools on its PATH.
    pub fn new(label: &str) -> Self {
        Machine::on(Netns::new(label))
    }

    /// The same in a namespace that is there already: a node of a cluster.
    pub fn on(netns: Netns) -> Self {
        let machine = Machine::bare_on(netns);
        machine.install(&OURS, &lab::bin_dir());
        machine
    }

    /// A machine without plugins.
    pub fn bare(label: &str) -> Self {
        Machine::bare_on(Netns::new(label))
    }

    fn bare_on(netns: Netns) -> Self {
        remove_cgroups();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-ec", SET_UP]);
        let mut holder =
            netns.spawn(command.stdin(Stdio::piped()).stdout(Stdio::piped())).expect("unshare (are you root?)");
        let mut line = String::new();
        let stdout = holder.stdout.as_mut().expect("piped");
        BufReader::new(stdout).read_line(&mut line).expect("read from the machine's first process");
        assert_eq!(line, "ready\n", "setting a machine up failed");
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", holder.id()));
        let first_process = children.expect("the children of unshare").trim().parse().expect("one child");
        let machine = Machine { holder, first_process, netns };
        TOOLS.iter().for_each(|tool| machine.link(&lab::bin_dir().join(tool), &format!("/run/bin/{tool}")));
        machine.link(Path::new(POD_PROGRAM), "/run/bin/pod");
        machine
    }

    /// Puts plugins into `/opt/cni/bin`, in place of any of that name.
    pub fn install(&self, plugins: &[&str], from: &Path) {
        plugins.iter().for_each(|name| self.link(&from.join(name), &format!("/opt/cni/bin/{name}")));
    }

    /// Puts Debian's reference plugins into `/opt/cni/bin`, in place of any of that name.
    pub fn install_reference(&self, plugins: &[&str]) {
        self.install(plugins, Path::new(lab::REFERENCE_DIR));
    }

    fn link(&self, target: &Path, name: &str) {
        assert!(target.exists(), "no {}: build the workspace, install containernetworking-plugins", target.display());
        self.sh(&format!("ln -sf {} {name}", target.display()));
    }

    /// Where a file of this machine is seen from outside of it.
    pub fn file(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.first_process))
    }

    /// Writes a file of this machine.
    pub fn write(&self, path: &str, content: &str) {
        let script = format!("mkdir -p $(dirname {path}) && cat > {path} <<'END'\n{content}\nEND");
        self.sh(&script);
    }

    /// Writes a network configuration list where runtimes look for it.
    pub fn configure(&self, list: &Value) {
        let name = list["name"].as_str().expect("a network has a name");
        self.write(&format!("/etc/cni/net.d/10-{name}.conflist"), &list.to_string());
    }

    /// A command that runs on this machine, for at most two minutes.
    pub fn command(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("timeout");
        // Kills the whole group: whoever lives on has the pipes open that the test reads.
        command.args(["--signal=KILL", &PATIENCE.to_string(), "nsenter", "--mount", "--net", "--pid", "--target"]);
        command.arg(self.first_process.to_string()).arg(program).args(arguments);
        command.env_clear().env("HOME", "/root").env("CNI_PATH", "/opt/cni/bin");
        command.env("PATH", "/run/bin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a shell script on this machine; `Ok` is its stdout, `Err` all that it printed.
    pub fn try_sh(&self, script: &str) -> Result<String, String> {
        let output = self.command("sh", &["-ec", script]).output().expect("run nsenter");
        let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(stdout);
        }
        Err(format!("{script}: {}\n{stdout}{}", output.status, String::from_utf8_lossy(&output.stderr)))
    }

    /// Runs a shell script that must succeed; its stdout.
    #[track_caller]
    pub fn sh(&self, script: &str) -> String {
        self.try_sh(script).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Makes a Pod by hand: a network namespace, with known settings.
    pub fn make_pod(&self, pod: &str) {
        self.sh(&format!("ip netns add {pod}"));
        settings::reset_at(&self.file(&format!("/run/netns/{pod}"))).expect("set the settings of a new namespace");
    }

    /// What `cnitool COMMAND` says for a Pod made by hand, with `variables` (`CAP_ARGS='…'`) set.
    pub fn cnitool(&self, variables: &str, command: &str, network: &str, pod: &str) -> Result<String, String> {
        self.try_sh(&format!("{variables} cnitool {command} {network} /run/netns/{pod}"))
    }

    /// ADD with cnitool for a new Pod; the result.
    #[track_caller]
    pub fn add(&self, network: &str, pod: &str) -> Value {
        self.make_pod(pod);
        let result = self.cnitool("", "add", network, pod).unwrap_or_else(|error| panic!("{error}"));
        serde_json::from_str(&result).expect("a result is JSON")
    }

    /// CHECK with cnitool.
    #[track_caller]
    pub fn check(&self, network: &str, pod: &str) {
        self.cnitool("", "check", network, pod).unwrap_or_else(|error| panic!("{error}"));
    }

    /// DEL with cnitool.
    #[track_caller]
    pub fn del(&self, network: &str, pod: &str) {
        self.cnitool("", "del", network, pod).unwrap_or_else(|error| panic!("{error}"));
    }

    /// A shell script in a Pod that was made by hand.
    pub fn in_pod(&self, pod: &str, script: &str) -> Result<String, String> {
        self.try_sh(&format!("ip netns exec {pod} sh -ec '{script}'"))
    }

    /// Starts a program on this machine that goes on until it ends with it or by itself.
    pub fn start(&self, command: &str) {
        self.sh(&format!("setsid {command} </dev/null >/dev/null 2>&1 &"));
    }

    /// A host outside of the node, a namespace called `outside`: 192.0.2.2 and fd00:2::2, the node is 192.0.2.1 and fd00:2::1
    /// to it. It has no route to Pods.
    pub fn add_outside(&self) {
        self.make_pod("outside");
        self.sh("ip link add uplink type veth peer name eth0 netns outside
            ip addr add 192.0.2.1/24 dev uplink; ip addr add fd00:2::1/64 dev uplink nodad
            ip link set uplink up
            ip -n outside addr add 192.0.2.2/24 dev eth0; ip -n outside addr add fd00:2::2/64 dev eth0 nodad
            ip -n outside link set lo up; ip -n outside link set eth0 up");
    }

    /// What of Pods is left on this machine: veth pairs, reserved addresses, cached results, and elements and rules
    /// in nftables and iptables that name an address, each as a line.
    pub fn residue(&self) -> Vec<String> {
        let script = r#"
            ip -br link show type veth | grep ^veth | sed 's/^/link /' || true
            find /var/lib/cni/networks -type f 2>/dev/null | grep -v -e /lock$ -e /last_reserved_ip -e /index.podwire | sed 's/^/reserved /' || true
            find /var/lib/cni/results -type f 2>/dev/null | sed 's/^/cached /' || true
            # What a network of many nodes does not masquerade is written beside its rule: that is all Pods'.
            nft list ruleset 2>/dev/null | grep -e 'goto leave-' -e 'comment "' | grep -vE 'masquerade comment "[0-9a-f]{16}:' | sed 's/^/nftables /' || true
            nft list ruleset 2>/dev/null | grep -E 'chain CNI-[0-9a-f]{24}|chain CNI-(DN|SN)-' | sed 's/^/iptables /' || true
        "#;
        self.sh(script).lines().map(str::to_owned).collect()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // The end of its stdin ends the first process, and with it all others.
        drop(self.holder.stdin.take());
        let _ = self.holder.wait();
        remove_cgroups();
    }
}

/// The parent of the control groups of this process's containers, as a runtime takes it. They outlive a machine.
pub fn cgroup() -> String {
    format!("/podwire-{}", std::process::id())
}

/// Removes the control groups that no process is in any more, also those of a test run that was killed.
fn remove_cgroups() {
    let script = "find /sys/fs/cgroup -depth -path '*/podwire-*' -type d -exec rmdir {} + 2>/dev/null";
    // Those in use stay, and say so.
    let _ = Command::new("sh").args(["-c", script]).stderr(Stdio::null()).status();
}

/// The first address of an ADD's result, without its prefix length.
#[track_caller]
pub fn address(result: &Value) -> String {
    let address = result["ips"][0]["address"].as_str().unwrap_or_else(|| panic!("no address in {result}"));
    address.split('/').next().expect("the address").to_owned()
}

/// The first success within a minute: a server that was started takes a moment to listen, a runtime one to notice a file or
/// to be there again.
#[track_caller]
pub fn eventually<T>(mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    loop {
        match attempt() {
            Ok(answer) => return answer,
            Err(error) if std::time::Instant::now() > deadline => panic!("{error}"),
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(100)),
        }
    }
}
