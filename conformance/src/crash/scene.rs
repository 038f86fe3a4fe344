//! A node on which something dies, and what is seen of it.
//!
//! The node has a Pod that lives through everything, the witness. What is looked at is what an operator would find: links,
//! addresses, routes, permanent neighbors, nftables, the address files.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::crash::Options;
use crate::crash::points::Target;
use crate::crash::trial::{self, Verb};
use crate::lab::{Node, Pod, Reply};

/// The longest that a call may take: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(90);

/// A node, its witness, the Pod to be harmed, and how it looks when nobody was.
#[derive(Debug)]
pub struct Scene {
    /// The node.
    pub node: Node,
    /// The Pod whose calls are harmed.
    pub pod: Pod,
    /// A Pod that lives through it; none on a node that is to know nothing yet.
    pub witness: Option<Pod>,
    /// The configuration, with directories of this node.
    pub config: Value,
    /// How the node looks when the Pod is not there.
    pub clean: BTreeSet<String>,
    /// How many addresses IPAM has beside the witness's, if that can be counted.
    pub capacity: usize,
    verb: Verb,
    wrappers: PathBuf,
}

/// What strace wrote.
#[derive(Debug)]
pub struct Traced {
    /// Line by line.
    pub text: String,
}

/// How a call ended.
#[derive(Debug)]
pub struct Ended {
    /// What it said.
    pub reply: Reply,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// It had to be ended.
    pub hung: bool,
}

/// So many addresses are counted at most.
const COUNTABLE: usize = 32;

impl Scene {
    /// A node for trials during `verb`.
    pub fn new(options: &Options, verb: Verb) -> Self {
        let mut node = Node::new("crash");
        let wrappers = node.file("wrappers");
        fs::create_dir(&wrappers).expect("directory for wrappers");
        node.path = std::iter::once(wrappers.clone()).chain(options.bin_dirs.iter().cloned()).collect();
        let config = trial::with_directory(&options.config, &node.file("networks"));
        let pod = Pod::new("victim");
        let mut scene = Scene { node, pod, witness: None, config, clean: BTreeSet::new(), capacity: 0, verb, wrappers };
        scene.write_wrappers();
        if verb == Verb::FirstAdd {
            // What is shared stays: a node of its own tells how that looks.
            let measured = Scene::new(options, Verb::Add);
            let witness = measured.witness.as_ref().expect("a node that knows the network has one");
            measured.must(measured.call("DEL", witness));
            scene.clean = measured.look();
            scene.capacity = measured.count_free();
            return scene;
        }
        let witness = Pod::new("witness");
        scene.must(scene.call("ADD", &witness));
        scene.witness = Some(witness);
        // Once there and back: what is shared between Pods stands from here on.
        scene.must(scene.call("ADD", &scene.pod));
        scene.must(scene.call("DEL", &scene.pod));
        scene.capacity = scene.count_free();
        scene.clean = scene.look();
        scene
    }

    /// Can a trial during `verb` begin here?
    pub fn is_fit_for(&self, verb: Verb) -> bool {
        self.verb == verb && verb != Verb::FirstAdd
    }

    fn must(&self, ended: Ended) -> Value {
        assert!(ended.reply.success, "before anything was harmed: {:?}", ended.reply);
        ended.reply.json
    }

    /// A call of the plugin, for `pod`.
    pub fn call(&self, command: &str, pod: &Pod) -> Ended {
        self.call_with(command, pod, &self.config)
    }

    /// A call of the plugin with another configuration.
    pub fn call_with(&self, command: &str, pod: &Pod, config: &Value) -> Ended {
        let plugin = config["type"].as_str().expect("a configuration has a type");
        self.execute(plugin, command, pod, config)
    }

    /// Executes what CNI_PATH has first under that name. stderr is not waited for: an orphan may still hold it.
    fn execute(&self, plugin: &str, command: &str, pod: &Pod, config: &Value) -> Ended {
        let child = self.start(plugin, command, pod, config);
        self.finish(child)
    }

    /// Starts a call of the plugin; [`Scene::finish`] waits for it.
    pub fn start(&self, plugin: &str, command: &str, pod: &Pod, config: &Value) -> Child {
        let executable = self.node.path.iter().map(|directory| directory.join(plugin)).find(|path| path.exists());
        let executable = executable.unwrap_or_else(|| panic!("no {plugin:?} in {:?}", self.node.path));
        // IPAM wants some namespace named, and opens none.
        let netns = pod.netns.as_ref().unwrap_or_else(|| self.pod.netns()).path();
        let stderr = fs::OpenOptions::new().create(true).append(true).open(self.node.file("stderr"));
        let mut process = Command::new(&executable);
        process
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &pod.container_id)
            .env("CNI_IFNAME", &pod.ifname)
            .env("CNI_NETNS", &netns)
            .env("CNI_PATH", self.node.cni_path())
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr.expect("file for stderr"));
        let mut child = loop {
            match self.node.netns.spawn(&mut process) {
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
                spawned => break spawned.unwrap_or_else(|error| panic!("{executable:?}: {error}")),
            }
        };
        let mut stdin = child.stdin.take().expect("piped");
        let _ = stdin.write_all(config.to_string().as_bytes());
        child
    }

    /// Waits for a call's end, not forever.
    pub fn finish(&self, child: Child) -> Ended {
        let group = child.id();
        let (done, ended) = mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let watchdog = scope.spawn(move || {
                let hung = matches!(ended.recv_timeout(PATIENCE), Err(mpsc::RecvTimeoutError::Timeout));
                if hung {
                    let group = format!("-{group}");
                    let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
                }
                hung
            });
            let output = child.wait_with_output().expect("wait for a plugin");
            drop(done);
            let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
            Ended {
                reply: Reply {
                    success: output.status.success(),
                    json: serde_json::from_str(&stdout).unwrap_or(Value::Null),
                    stdout,
                    stderr: String::new(),
                },
                signal: output.status.signal(),
                hung: watchdog.join().expect("the watchdog ends"),
            }
        })
    }

    /// Puts strace in front of an executable, until [`Scene::unwrap`]. With its threads, without what it executes.
    /// A delegate gets a session of its own: the kernel wakes and hangs up a stopped process whose process group is orphaned.
    pub fn wrap(&self, target: Target, name: &str, arguments: &[&str]) {
        let session = match target {
            Target::Plugin => "",
            Target::Delegate => "setsid ",
        };
        let quoted: Vec<String> = arguments.iter().map(|argument| format!("'{argument}'")).collect();
        let (trace, quoted) = (self.trace_file(), quoted.join(" "));
        let before = format!("set -- {session}strace -f -y -b execve -o '{}' {quoted} \"$@\"\n", trace.display());
        let _ = fs::remove_file(trace);
        fs::write(self.before(name), before).expect("write what comes before");
    }

    fn before(&self, name: &str) -> PathBuf {
        self.node.file(&format!("before-{name}"))
    }

    /// Scripts in front of the plugin and its delegate. They are written once: a file that was just written can't
    /// be executed while a process forked in between still holds it open.
    fn write_wrappers(&self) {
        for name in [self.config["type"].as_str(), trial::delegate_of(&self.config)].into_iter().flatten() {
            let mut directories = self.node.path.iter().skip(1);
            let real = directories.find_map(|directory| Some(directory.join(name)).filter(|path| path.exists()));
            let real = real.unwrap_or_else(|| panic!("no {name:?} in {:?}", self.node.path));
            let (before, real) = (self.before(name).display().to_string(), real.display().to_string());
            let script = format!("#!/bin/sh\nset -- '{real}'\n[ ! -e '{before}' ] || . '{before}'\nexec \"$@\"\n");
            let path = self.wrappers.join(name);
            fs::write(&path, script).expect("write a wrapper");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod a wrapper");
        }
    }

    /// Takes strace away again; what it wrote.
    pub fn unwrap(&self, name: &str) -> Traced {
        let _ = fs::remove_file(self.before(name));
        self.trace()
    }

    /// What strace has written.
    pub fn trace(&self) -> Traced {
        Traced { text: String::from_utf8_lossy(&fs::read(self.trace_file()).unwrap_or_default()).into_owned() }
    }

    fn trace_file(&self) -> PathBuf {
        self.node.file("trace")
    }

    /// Waits until nothing of the plugin runs on this node.
    pub fn wait_for_orphans(&self) -> bool {
        let name = self.node.netns.name();
        for _ in 0..(PATIENCE.as_millis() / 5) {
            let output = Command::new("ip").args(["netns", "pids", name]).output().expect("execute ip");
            if output.stdout.iter().all(u8::is_ascii_whitespace) {
                return true;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        false
    }

    /// How many addresses IPAM can still give: takes all, and gives them back. 0 where that can't be counted.
    pub fn count_free(&self) -> usize {
        let Some(ipam) = trial::delegate_of(&self.config) else { return 0 };
        let pods: Vec<Pod> =
            (0..COUNTABLE).map(|at| Pod { ifname: format!("n{at}"), ..Pod::without_netns("counter") }).collect();
        let mut seen = BTreeSet::new();
        let mut count = 0;
        for pod in &pods {
            let mut call = self.execute(ipam, "ADD", pod, &self.config);
            if !call.reply.success {
                break;
            }
            count += 1;
            for ip in addresses(&call.reply.json.take()) {
                assert!(seen.insert(ip.clone()), "{ip} was given twice");
            }
        }
        for pod in &pods[..count.min(COUNTABLE)] {
            self.must(self.execute(ipam, "DEL", pod, &self.config));
        }
        if count < COUNTABLE { count } else { 0 }
    }

    /// What there is: one line for each object.
    pub fn look(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        kernel_lines(&self.node.netns.sh(LOOK), "node", &mut found);
        let rules = self.node.netns.sh("nft -s -n list ruleset");
        found.extend(
            rules.split([',', '\n']).map(str::trim).filter(|line| line.len() > 1).map(|line| format!("nft {line}")),
        );
        kernel_lines(&self.pod.netns().sh(LOOK), "pod", &mut found);
        address_files(&self.node.file("networks"), &mut found);
        found
    }
}

/// One document of each kind; `[]` where ip prints nothing.
const LOOK: &str = "ip -j link; echo; echo 1; ip -j addr; echo; echo 2; ip -j route show table all; echo; echo 3; \
                    ip -j -6 route show table all; echo; echo 4; ip -j neigh show nud permanent";

fn kernel_lines(text: &str, place: &str, found: &mut BTreeSet<String>) {
    let mut part = 0;
    for value in serde_json::Deserializer::from_str(text).into_iter::<Value>() {
        match value.expect("ip prints JSON") {
            Value::Array(objects) => {
                objects.iter().filter_map(|object| object_line(part, object)).for_each(|line| {
                    found.insert(format!("{place} {line}"));
                });
            }
            marker => part = marker.as_u64().unwrap_or(0),
        }
    }
}

fn object_line(part: u64, object: &Value) -> Option<String> {
    let text = |key: &str| object[key].as_str().unwrap_or_default().to_owned();
    // The kernel makes link-local addresses and multicast routes for itself, when it gets around to it.
    let is_link_local = |text: &str| text.starts_with("fe80") || text.starts_with("ff00");
    match part {
        0 => Some(format!("link {}", text("ifname"))),
        1 => {
            let addresses = object["addr_info"].as_array().into_iter().flatten();
            let addresses =
                addresses.map(|a| format!("{}/{}", a["local"].as_str().unwrap_or_default(), a["prefixlen"]));
            let addresses: BTreeSet<String> = addresses.filter(|text| !is_link_local(text)).collect();
            (!addresses.is_empty()).then(|| format!("address {} {addresses:?}", text("ifname")))
        }
        2 | 3 => {
            let (dst, kind) = (text("dst"), text("type"));
            let own = is_link_local(&dst) || matches!(kind.as_str(), "multicast" | "anycast" | "broadcast");
            (!own).then(|| format!("route {kind} {dst} via {:?} dev {}", text("gateway"), text("dev")))
        }
        _ => Some(format!("neighbor {} dev {}", text("dst"), text("dev"))),
    }
}

/// Address files: named like addresses, at any depth.
fn address_files(directory: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        if path.is_dir() {
            address_files(&path, found);
        } else if name.to_str().is_some_and(is_address) {
            let content = fs::read(&path).unwrap_or_default();
            found.insert(format!("address file {} {:?}", name.to_string_lossy(), String::from_utf8_lossy(&content)));
        }
    }
}

fn is_address(name: &str) -> bool {
    name.parse::<std::net::IpAddr>().is_ok() || OsStr::new(name) == "::"
}

/// The addresses in an ADD's result.
pub fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().into_iter().flatten();
    ips.filter_map(|ip| ip["address"].as_str()).map(str::to_owned).collect()
}

/// A configuration for GC: these attachments are valid.
pub fn with_valid(config: &Value, pods: &[&Pod]) -> Value {
    let valid: Vec<Value> =
        pods.iter().map(|pod| json!({ "containerID": pod.container_id, "ifname": pod.ifname })).collect();
    let mut config = config.clone();
    config["cni.dev/valid-attachments"] = Value::Array(valid);
    config
}
