//! Calls on a node: what a runtime makes of one, plugin by plugin, and how it ended.
//!
//! ADD, CHECK, DEL and GC run every plugin of the chain in its turn, with the result of the one before. A process is
//! in a group of its own, so that what hangs is ended with all that it started.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::crash::look;
use crate::crash::scene::Scene;
use crate::crash::strace::{self, Traced};
use crate::lab::{Pod, Reply};

/// The longest that a call may take: what takes longer hangs.
const PATIENCE: Duration = Duration::from_secs(90);

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

impl Scene<'_> {
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
            succeeded(command, Ended { reply: ended.reply.clone(), ..ended })?;
            last = Some(ended);
        }
        let config = self.config_for(command, pod, index, last.as_ref());
        Ok(self.start(self.stage.subject.network.plugin_type(index), command, pod, &config))
    }

    /// The configuration of a plugin of the chain, as it stands in the list.
    pub(super) fn config(&self, index: usize) -> Value {
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
    pub(super) fn start(&self, plugin: &str, command: &str, pod: &Pod, config: &Value) -> Child {
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
            Ended {
                signal: output.status.signal(),
                reply: Reply::from(output),
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
}

/// The result of a call that must succeed, before anything is harmed.
pub(super) fn succeeded(command: &str, ended: Ended) -> Result<Value, String> {
    match ended.reply.success {
        true => Ok(ended.reply.json),
        false => Err(format!("{command} failed before anything was harmed: {}", ended.reply.stdout.trim())),
    }
}
