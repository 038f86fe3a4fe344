//! The conflists in `examples/conflists`: each loads and wires Pods as it lies there. Only the store's directory is set,
//! so that the machine's own is not touched. And the scripts: each runs, says what it shows, and leaves nothing behind,
//! whether it ends by itself, by Ctrl-C, or because a step fails.

mod common;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use common::{addresses_of, outside, source_seen};
use conformance::lab::{Netns, Node, bin_dir};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};

/// One example on one node.
struct Example {
    node: Node,
    list: Value,
}

impl Example {
    fn new(name: &str) -> Self {
        let node = Node::new("example");
        let mut list: Value = serde_json::from_slice(&std::fs::read(directory().join(name)).unwrap()).unwrap();
        for plugin in list["plugins"].as_array_mut().unwrap() {
            if let Some(ipam) = plugin.get_mut("ipam") {
                ipam["dataDir"] = json!(node.file("networks"));
            }
        }
        std::fs::create_dir(node.file("net.d")).unwrap();
        std::fs::write(node.file("net.d").join(name), list.to_string()).unwrap();
        Example { node, list }
    }

    fn cnitool(&self, verb: &str, pod: &Netns, ifname: &str) -> Value {
        let mut command = Command::new(bin_dir().join("cnitool"));
        command
            .args([verb, self.list["name"].as_str().unwrap()])
            .arg(pod.path())
            .arg("--cache-dir")
            .arg(self.node.file("cache"))
            .env_clear()
            .env("NETCONFPATH", self.node.file("net.d"))
            .env("CNI_PATH", self.node.cni_path())
            .env("CNI_IFNAME", ifname);
        let output = self.node.netns.output(&mut command);
        assert!(output.status.success(), "cnitool {verb}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }
}

fn examples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join("examples")
}

fn directory() -> PathBuf {
    examples().join("conflists")
}

/// Two Pods have the addresses expected, reach each other, and reach the outside with the node's address.
fn wires_pods(name: &str, addresses: [&[&str]; 2]) {
    let example = Example::new(name);
    let outside = outside(&example.node);
    let pods = [Netns::new("pod"), Netns::new("pod")];
    for (pod, expected) in pods.iter().zip(addresses) {
        let result = example.cnitool("add", pod, "eth0");
        assert_eq!(result["cniVersion"], "1.1.0", "the newest of cniVersions is spoken");
        assert_eq!(addresses_of(pod, "eth0"), expected);
        example.cnitool("check", pod, "eth0");
    }
    for (own, other) in addresses[0].iter().zip(addresses[1]) {
        let (own, other) = (own.split('/').next().unwrap(), other.split('/').next().unwrap());
        let (node_address, outside_address) =
            if own.contains(':') { ("2001:db8::1", "2001:db8::2") } else { ("192.0.2.1", "192.0.2.2") };
        assert_eq!(source_seen(&pods[0], &pods[1], other), own);
        assert_eq!(source_seen(&pods[0], &outside, outside_address), node_address);
    }
    for pod in &pods {
        example.cnitool("del", pod, "eth0");
        assert!(pod.try_sh("ip link show dev eth0").is_err(), "eth0 is still there");
    }
}

#[test]
fn the_ipv4_example_wires_pods() {
    wires_pods("10-podwire-ipv4.conflist", [&["10.244.0.2/24"], &["10.244.0.3/24"]]);
}

#[test]
fn the_ipv6_example_wires_pods() {
    wires_pods("10-podwire-ipv6.conflist", [&["fd00:244::2/64"], &["fd00:244::3/64"]]);
}

#[test]
fn the_dual_stack_example_wires_pods() {
    let addresses: [&[&str]; 2] = [&["10.244.0.2/24", "fd00:244::2/64"], &["10.244.0.3/24", "fd00:244::3/64"]];
    wires_pods("10-podwire-dual-stack.conflist", addresses);
}

#[test]
fn the_loopback_example_ups_lo() {
    let example = Example::new("99-loopback.conflist");
    let pod = Netns::new("pod");
    pod.sh("ip link set lo down");
    let result = example.cnitool("add", &pod, "lo");
    assert_eq!(result["ips"][0]["address"], "127.0.0.1/8");
    assert!(pod.pings("127.0.0.1"));
    example.cnitool("check", &pod, "lo");
    example.cnitool("del", &pod, "lo");
    assert!(!pod.pings("127.0.0.1"));
}

#[test]
fn every_example_has_a_test_and_serves_old_and_new_runtimes() {
    let source = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/examples.rs")).unwrap();
    for entry in std::fs::read_dir(directory()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(source.contains(&format!("\"{name}\"")), "{name} has no test here");
        let list: Value = serde_json::from_slice(&std::fs::read(directory().join(&name)).unwrap()).unwrap();
        assert_eq!(list["cniVersion"], "1.0.0", "{name}");
        assert_eq!(list["cniVersions"].as_array().unwrap().last(), Some(&json!("1.1.0")), "{name}");
    }
}

/// The scripts, and a line that each prints when it has shown what it is for.
const SCRIPTS: [(&str, &str); 4] = [
    ("demo.sh", "pod-c asks fd00:88:0:2::2, by TCP: who am I to you?"),
    ("azure-routes/run.sh", "10.244.1.0/24 via 10.240.0.5 dev subnet"),
    ("routed-three-nodes/run.sh", "no route leads to it any more"),
    ("vxlan-three-nodes/run.sh", "ping: local error: message too long, mtu=1450"),
];

/// A run of a script. Its processes are known by a variable that all of them inherit.
struct Run {
    mark: String,
    command: Command,
    before: BTreeMap<&'static str, String>,
    files: tempfile::TempDir,
}

impl Run {
    fn new(script: &str, how: &str) -> Self {
        let mark = format!("PODWIRE_EXAMPLE_TEST={}-{how}-{script}", std::process::id());
        let (name, value) = mark.split_once('=').unwrap();
        // What runs in the background of a script ignores SIGINT, and a shell can't undo that.
        let mut command = Command::new("env");
        command
            .arg("--default-signal=INT")
            .arg(examples().join(script))
            .arg("--programs")
            .arg(bin_dir())
            .env(name, value);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        Run { before: machine(), command, mark, files: tempfile::tempdir().unwrap() }
    }

    /// Its status, and what it printed; into files, so that nobody waits for a process that it left.
    fn whole(&mut self) -> (ExitStatus, String, String) {
        let [stdout, stderr] = ["stdout", "stderr"].map(|name| self.files.path().join(name));
        self.command.stdout(File::create(&stdout).unwrap()).stderr(File::create(&stderr).unwrap());
        let status = self.command.status().unwrap();
        (status, std::fs::read_to_string(stdout).unwrap(), std::fs::read_to_string(stderr).unwrap())
    }

    #[track_caller]
    fn left_nothing(&self) {
        assert_eq!(machine(), self.before, "{}", self.mark);
        let all = std::fs::read_dir("/proc").unwrap().map(|entry| entry.unwrap().path().join("environ"));
        let left: Vec<PathBuf> = all
            .filter(|path| {
                let environment = std::fs::read(path).unwrap_or_default();
                environment.split(|byte| *byte == 0).any(|variable| variable == self.mark.as_bytes())
            })
            .collect();
        assert!(left.is_empty(), "processes that {} left: {left:?}", self.mark);
    }
}

/// What a script could leave in the machine's own namespaces, and the directories that a node keeps its things in.
fn machine() -> BTreeMap<&'static str, String> {
    let scripts = [
        ("links", "ip -o link show | cut -d' ' -f1-4"),
        ("addresses", "ip -o addr show | cut -d' ' -f1-7"),
        ("routes", "ip route show table all; ip -6 route show table all | sed 's/ expires [^ ]*//'"),
        ("namespaces", "ls /run/netns 2>/dev/null | grep -E '^(node|k8s|pod|router|gateway|outside)'"),
        ("mounts", "grep podwire-example /proc/self/mountinfo"),
        ("files", "ls -d /run/podwire; find /etc/cni /var/lib/cni /opt/cni 2>/dev/null"),
        ("rules", "nft list tables"),
    ];
    let run = |script: &str| Command::new("sh").args(["-c", script]).output().unwrap().stdout;
    scripts.map(|(name, script)| (name, String::from_utf8(run(script)).unwrap())).into()
}

#[test]
fn every_script_shows_what_it_is_for_and_leaves_nothing() {
    for (script, shows) in SCRIPTS {
        let mut run = Run::new(script, "whole");
        let (status, stdout, stderr) = run.whole();
        assert!(status.success(), "{script}: {stdout}\n{stderr}");
        assert!(stdout.contains(shows), "{script} does not print {shows:?}: {stdout}");
        assert!(stdout.contains("Everything is gone"), "{script}: {stdout}");
        run.left_nothing();
    }
}

#[test]
fn a_script_that_is_interrupted_leaves_nothing() {
    for (script, _) in SCRIPTS {
        for step in [1, 3, 5, 8] {
            let mut run = Run::new(script, "interrupted");
            let mut child = run.command.spawn().unwrap();
            let mut output = BufReader::new(child.stdout.take().unwrap());
            let mut line = String::new();
            let mut steps = 0;
            while steps < step {
                line.clear();
                assert_ne!(output.read_line(&mut line).unwrap(), 0, "{script} has no step {step}");
                steps += u32::from(line.starts_with("==> "));
            }
            // As Ctrl-C does it: to all that the terminal runs in the foreground.
            killpg(Pid::from_raw(child.id() as i32), Signal::SIGINT).unwrap();
            let status = child.wait().unwrap();
            assert_eq!(status.code(), Some(130), "{script}, at step {step}: {status}");
            run.left_nothing();
        }
    }
}

#[test]
fn a_script_whose_step_fails_says_so_and_leaves_nothing() {
    let files = tempfile::tempdir().unwrap();
    let ping = files.path().join("ping");
    std::fs::write(&ping, "#!/bin/sh\necho \"ping: nobody is there\"\nexit 1\n").unwrap();
    std::fs::set_permissions(&ping, PermissionsExt::from_mode(0o755)).unwrap();
    for (script, _) in SCRIPTS {
        let mut run = Run::new(script, "failing");
        run.command.env("PATH", format!("{}:{}", files.path().display(), std::env::var("PATH").unwrap()));
        let (status, _, stderr) = run.whole();
        assert_eq!(status.code(), Some(1), "{script}: {stderr}");
        let says = "ping: nobody is there\n";
        assert!(stderr.contains(says) && stderr.contains("did not show what it should: no answer from"), "{stderr}");
        run.left_nothing();
    }
}

/// What is beside a script is to be copied: each file loads, and serves every kind of runtime as the conflists do.
#[test]
fn what_lies_beside_a_script_is_ready_to_copy() {
    for (script, _) in SCRIPTS.iter().filter(|(script, _)| script.contains('/')) {
        let directory = examples().join(script).parent().unwrap().to_owned();
        let read = |name: &str| -> Value {
            serde_json::from_slice(&std::fs::read(directory.join(name)).unwrap()).unwrap_or_else(|e| panic!("{e}"))
        };
        let list = read("10-podwire.conflist");
        assert_eq!(list["cniVersions"], json!(["0.4.0", "1.0.0", "1.1.0"]), "{script}");
        for plugin in list["plugins"].as_array().unwrap() {
            assert_eq!(plugin["nodes"], "/etc/cni/nodes.json", "{script}");
        }
        assert!(read("nodes.json")["nodes"].as_array().unwrap().len() >= 2, "{script}");
        for entry in std::fs::read_dir(&directory).unwrap() {
            let entry = entry.unwrap();
            let is_executable = entry.metadata().unwrap().permissions().mode() & 0o111 != 0;
            assert_eq!(is_executable, entry.file_name() == "run.sh", "{:?}", entry.path());
        }
    }
}
