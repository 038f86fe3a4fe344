//! A node on which something dies.
//!
//! The node has an uplink, and a Pod that lives through everything, the witness. A call is what a runtime makes of it: each
//! plugin of the chain in its turn, with the result of the one before. What is seen of the node is [`look`]'s affair.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use libcni::Version;
use serde_json::{Value, json};

use crate::crash::look;
use crate::crash::network::Subject;
use crate::crash::strace::{self, Traced};
use crate::crash::trial::Verb;
use crate::lab::{Node, Pod, Reply};

/// The longest that a call may take: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(90);

/// The Pod that lives through it, and its namespace in what is seen.
const WITNESS: &str = "witness";

/// So many addresses are counted at most.
const COUNTABLE: usize = 32;

/// What nodes of one network have in common.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The network.
    pub subject: &'a Subject,
    /// CNI_PATH.
    pub bin_dirs: &'a [PathBuf],
    /// The version spoken.
    pub version: Version,
    /// A node after its first ADD and DEL.
    used: Mutex<Option<Clean>>,
}

/// How a node looks when the Pod is not there.
#[derive(Clone, Debug, Default)]
pub struct Clean {
    /// A line for each object.
    pub objects: BTreeSet<String>,
    /// How many addresses IPAM can give, if that can be counted.
    pub capacity: usize,
}

/// A node, its witness, and the Pod to be harmed.
#[derive(Debug)]
pub struct Scene<'a> {
    /// The network.
    pub stage: &'a Stage<'a>,
    /// The node.
    pub node: Node,
    /// The Pod whose calls are harmed.
    pub pod: Pod,
    /// A Pod that lives through it; none on a node that is to know nothing yet.
    pub witness: Option<Pod>,
    /// How the node looks when the Pod is not there.
    pub clean: Clean,
    verb: Verb,
    /// Results of ADD, by container ID, as a runtime keeps them.
    results: RefCell<BTreeMap<String, Value>>,
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

impl<'a> Stage<'a> {
    /// For a network whose plugins are there.
    pub fn new(subject: &'a Subject, bin_dirs: &'a [PathBuf]) -> Result<Self, String> {
        let version = subject.version(bin_dirs)?;
        Ok(Stage { subject, bin_dirs, version, used: Mutex::default() })
    }

    /// How a node looks that has known the network, and has no Pod; found out once.
    fn used(&self) -> Result<Clean, String> {
        let mut used = self.used.lock().expect("no worker panicked");
        if let Some(clean) = &*used {
            return Ok(clean.clone());
        }
        let scene = Scene::new(self, Verb::Add)?;
        scene.must("DEL", scene.witness.as_ref().expect("a node that knows the network has one"))?;
        let mut objects = scene.look();
        objects.retain(|line| !line.starts_with(WITNESS));
        let clean = Clean { objects, capacity: scene.count_free()? };
        Ok(used.insert(clean).clone())
    }
}

impl<'a> Scene<'a> {
    /// A node for trials during `verb`. An error is the plugin's, before anything was harmed.
    pub fn new(stage: &'a Stage<'a>, verb: Verb) -> Result<Self, String> {
        let mut node = Node::new("crash");
        node.path = stage.bin_dirs.to_vec();
        let pod = fresh_pod("victim");
        let (clean, results) = (Clean::default(), RefCell::default());
        let mut scene = Scene { stage, node, pod, witness: None, clean, verb, results };
        fs::write(scene.node.file("batch"), look::BATCH).map_err(|error| error.to_string())?;
        scene.node.netns.sh(UPLINK);
        if let Some(setup) = &stage.subject.setup {
            scene.node.netns.try_sh(setup)?;
        }
        scene.set_map(0);
        strace::write_wrappers(&mut scene.node, &stage.subject.network);
        if verb == Verb::FirstAdd {
            scene.clean = stage.used()?;
            return Ok(scene);
        }
        let witness = fresh_pod(WITNESS);
        scene.must("ADD", &witness)?;
        scene.witness = Some(witness);
        // Once there and back: what is shared between Pods stands from here on.
        scene.must("ADD", &scene.pod)?;
        scene.must("DEL", &scene.pod)?;
        if verb.changes_map(stage.subject) {
            scene.set_map(1);
            succeeded("--sync", scene.sync())?;
        }
        scene.clean = Clean { objects: scene.look(), capacity: scene.count_free()? };
        Ok(scene)
    }

    /// Can a trial during `verb` begin here?
    pub fn is_fit_for(&self, stage: &Stage<'_>, verb: Verb) -> bool {
        std::ptr::eq(self.stage, stage) && self.verb == verb && verb != Verb::FirstAdd
    }

    /// Puts the map in place as it is (0), or as it becomes (1), if there is one.
    pub fn set_map(&self, which: usize) {
        if let Some(maps) = &self.stage.subject.maps {
            let next = self.node.file("map.next");
            fs::write(&next, maps[which].to_string()).expect("write the node map");
            fs::rename(&next, self.map()).expect("put the node map in place");
        }
    }

    fn map(&self) -> PathBuf {
        self.node.file("map.json")
    }

    fn store(&self) -> PathBuf {
        self.node.file("networks")
    }

    /// A call that must succeed, before anything is harmed.
    pub fn must(&self, command: &str, pod: &Pod) -> Result<Value, String> {
        succeeded(command, self.call(command, pod))
    }

    /// A call of every plugin in its turn, up to the first that fails, as a runtime makes it. GC lets the witness live.
    pub fn call(&self, command: &str, pod: &Pod) -> Ended {
        let mut last = None;
        // Another's CHECK is not what is under test.
        let tested = self.stage.subject.tested(self.stage.bin_dirs).unwrap_or_default();
        for index in self.turns(command).into_iter().filter(|index| command != "CHECK" || tested.contains(index)) {
            let ended = self.execute_turn(command, pod, index, last.as_ref());
            if !ended.reply.success {
                return ended;
            }
            last = Some(ended);
        }
        let last = last.expect("a network has a plugin");
        let mut results = self.results.borrow_mut();
        match command {
            "ADD" => drop(results.insert(pod.container_id.clone(), last.reply.json.clone())),
            "DEL" => drop(results.remove(&pod.container_id)),
            _ => {}
        }
        last
    }

    /// DEL of the plugins that stand before one in the chain, up to the first that fails. `None`: there are none.
    pub fn remove_before(&self, pod: &Pod, index: usize) -> Option<Ended> {
        let mut last = None;
        for before in (0..index).rev() {
            let ended = self.execute_turn("DEL", pod, before, None);
            if !ended.reply.success {
                return Some(ended);
            }
            last = Some(ended);
        }
        last
    }

    fn execute_turn(&self, command: &str, pod: &Pod, index: usize, last: Option<&Ended>) -> Ended {
        let config = self.config_for(command, pod, index, last);
        self.finish(self.start(self.stage.subject.network.plugin_type(index), command, pod, &config))
    }

    fn turns(&self, command: &str) -> Vec<usize> {
        let all = 0..self.stage.subject.network.plugins.len();
        if command == "DEL" { all.rev().collect() } else { all.collect() }
    }

    /// Starts one plugin of the chain, those before it having had their turn.
    pub fn start_turn(&self, command: &str, pod: &Pod, index: usize) -> Result<Child, String> {
        let mut last = None;
        for before in self.turns(command).into_iter().take_while(|turn| *turn != index) {
            let ended = self.execute_turn(command, pod, before, last.as_ref());
            succeeded(command, Ended { reply: clone(&ended.reply), ..ended })?;
            last = Some(ended);
        }
        let config = self.config_for(command, pod, index, last.as_ref());
        Ok(self.start(self.stage.subject.network.plugin_type(index), command, pod, &config))
    }

    fn config(&self, index: usize) -> Value {
        self.stage.subject.config(index, self.stage.version, &self.store(), &self.map())
    }

    /// What a plugin gets on its stdin: with prevResult, what the runtime has to say, or the valid attachments.
    fn config_for(&self, command: &str, pod: &Pod, index: usize, last: Option<&Ended>) -> Value {
        let mut config = self.config(index);
        let number = 1 + pod.container_id.bytes().map(usize::from).sum::<usize>() % 200;
        let runtime_config = self.stage.subject.network.runtime_config(index, number);
        if !runtime_config.is_empty() {
            config["runtimeConfig"] = Value::Object(runtime_config);
        }
        let results = self.results.borrow();
        let previous = match command {
            "ADD" => last.map(|ended| &ended.reply.json),
            _ => results.get(&pod.container_id),
        };
        if command == "GC" {
            let valid = self.witness.iter().map(|pod| json!({ "containerID": pod.container_id, "ifname": pod.ifname }));
            config["cni.dev/valid-attachments"] = valid.collect();
        } else if let Some(previous) = previous {
            config["prevResult"] = previous.clone();
        }
        config
    }

    /// `--sync` of every plugin that follows the map, up to the first that fails.
    pub fn sync(&self) -> Ended {
        let network = &self.stage.subject.network;
        let plugins: Vec<Value> = (0..network.plugins.len()).map(|index| self.config(index)).collect();
        let list = json!({ "cniVersion": self.stage.version, "name": network.name, "plugins": plugins });
        let file = self.node.file("crash.conflist");
        fs::write(&file, list.to_string()).expect("write the list");
        let mut last = None;
        for index in self.stage.subject.followers() {
            let mut command = self.program(network.plugin_type(index));
            command.arg("--sync").arg(&file);
            let ended = self.finish(self.spawn(&mut command));
            if !ended.reply.success {
                return ended;
            }
            last = Some(ended);
        }
        last.expect("a map is followed by somebody")
    }

    /// Starts a call of one plugin; [`Scene::finish`] waits for it.
    fn start(&self, plugin: &str, command: &str, pod: &Pod, config: &Value) -> Child {
        // IPAM wants some namespace named, and opens none.
        let netns = pod.netns.as_ref().unwrap_or_else(|| self.pod.netns()).path();
        let mut process = self.program(plugin);
        process
            .env("CNI_COMMAND", command)
            .env("CNI_CONTAINERID", &pod.container_id)
            .env("CNI_IFNAME", &pod.ifname)
            .env("CNI_NETNS", &netns)
            .env("CNI_PATH", self.node.cni_path());
        let mut child = self.spawn(&mut process);
        let mut stdin = child.stdin.take().expect("piped");
        let _ = stdin.write_all(config.to_string().as_bytes());
        child
    }

    /// What CNI_PATH has first under that name. stderr is not waited for: an orphan may still hold it.
    fn program(&self, plugin: &str) -> Command {
        let executable = self.node.path.iter().map(|directory| directory.join(plugin)).find(|path| path.exists());
        let executable = executable.unwrap_or_else(|| panic!("no {plugin:?} in {:?}", self.node.path));
        let stderr = fs::OpenOptions::new().create(true).append(true).open(self.node.file("stderr"));
        let mut process = Command::new(executable);
        process
            .env_clear()
            .env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(stderr.expect("file for stderr"));
        process
    }

    fn spawn(&self, process: &mut Command) -> Child {
        loop {
            match self.node.netns.spawn(process) {
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => std::thread::yield_now(),
                spawned => break spawned.unwrap_or_else(|error| panic!("{process:?}: {error}")),
            }
        }
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

    /// What was written to stderr since [`Scene::forget_stderr`].
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.node.file("stderr")).unwrap_or_default()).into_owned()
    }

    /// Begins stderr anew.
    pub fn forget_stderr(&self) {
        let _ = fs::remove_file(self.node.file("stderr"));
    }

    /// What strace has written.
    pub fn trace(&self) -> Traced {
        strace::read(&self.node)
    }

    /// Waits until nothing of the plugin runs on this node.
    pub fn wait_for_orphans(&self) -> bool {
        const MOMENT: Duration = Duration::from_millis(5);
        for _ in 0..PATIENCE.as_millis() / MOMENT.as_millis() {
            if !look::is_inhabited(&self.node.netns) {
                return true;
            }
            std::thread::sleep(MOMENT);
        }
        false
    }

    /// The plugin that asks IPAM for addresses, and IPAM.
    pub fn ipam(&self) -> Option<(usize, &str)> {
        let plugins = self.stage.subject.network.plugins.iter().enumerate();
        plugins.filter_map(|(index, plugin)| Some((index, plugin.get("ipam")?["type"].as_str()?))).next()
    }

    /// How many addresses IPAM can still give: takes all, and gives them back. 0 where that can't be counted.
    pub fn count_free(&self) -> Result<usize, String> {
        let Some((index, ipam)) = self.ipam() else { return Ok(0) };
        let config = self.config(index);
        let pods: Vec<Pod> =
            (0..COUNTABLE).map(|at| Pod { ifname: format!("n{at}"), ..Pod::without_netns("counter") }).collect();
        let mut seen = BTreeSet::new();
        let mut count = 0;
        for pod in &pods {
            let ended = self.finish(self.start(ipam, "ADD", pod, &config));
            if !ended.reply.success {
                break;
            }
            count += 1;
            for ip in addresses(&ended.reply.json) {
                assert!(seen.insert(ip.clone()), "{ip} was given twice");
            }
        }
        for pod in &pods[..count.min(COUNTABLE)] {
            succeeded("DEL", self.finish(self.start(ipam, "DEL", pod, &config)))?;
        }
        Ok(if count < COUNTABLE { count } else { 0 })
    }

    /// The addresses that the witness was given, and lives with.
    pub fn addresses_of_witness(&self) -> Vec<String> {
        let results = self.results.borrow();
        let given = self.witness.as_ref().filter(|_| self.ipam().is_some());
        given.and_then(|witness| results.get(&witness.container_id)).map(addresses).unwrap_or_default()
    }

    /// What there is: one line for each object.
    pub fn look(&self) -> BTreeSet<String> {
        let batch = self.node.file("batch");
        let mut found = BTreeSet::new();
        look::namespace(&self.node.netns, "node", &batch, &mut found);
        look::namespace(self.pod.netns(), "pod", &batch, &mut found);
        if let Some(witness) = &self.witness {
            look::namespace(witness.netns(), WITNESS, &batch, &mut found);
        }
        look::node_only(&self.node.netns, &mut found);
        look::store(&self.store(), &mut found);
        found
    }
}

/// A node's link to the world. Who is at its other end does not matter.
const UPLINK: &str = "\
sysctl -qw net.ipv6.conf.default.accept_dad=0
ip link add eth0 address 02:00:00:00:00:02 type veth peer name world0
ip link set world0 up; ip link set eth0 up
ip addr add 192.0.2.2/24 dev eth0; ip addr add 2001:db8::2/64 dev eth0 nodad
ip route add default via 192.0.2.1 dev eth0; ip -6 route add default via 2001:db8::1 dev eth0
until ip -6 route show table local 2001:db8::2 | grep -q local; do sleep 0.01; done";

/// A Pod as a runtime makes it: with `lo` down.
fn fresh_pod(container_id: &str) -> Pod {
    let pod = Pod::new(container_id);
    pod.netns().sh("ip link set lo down");
    pod
}

fn succeeded(command: &str, ended: Ended) -> Result<Value, String> {
    match ended.reply.success {
        true => Ok(ended.reply.json),
        false => Err(format!("{command} failed before anything was harmed: {}", ended.reply.stdout.trim())),
    }
}

fn clone(reply: &Reply) -> Reply {
    Reply { success: reply.success, json: reply.json.clone(), stdout: reply.stdout.clone(), stderr: String::new() }
}

/// The addresses in an ADD's result.
pub fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().into_iter().flatten();
    let ips = ips.filter_map(|ip| ip["address"].as_str());
    ips.map(|address| address.split('/').next().unwrap_or_default().to_owned()).collect()
}
