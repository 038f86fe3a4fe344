//! One trial: harm a call at a point, do what a runtime does next, and look.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command as Program;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::crash::Harm;
use crate::crash::points::{Point, Target};
use crate::crash::scene::{Ended, Scene, Traced, addresses, with_valid};
use crate::lab::Pod;

/// During which call something is harmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// ADD on a node that knows the network.
    Add,
    /// The first ADD on a node: it makes what all Pods share.
    FirstAdd,
    /// DEL.
    Del,
    /// GC that finds an attachment which is not valid.
    Gc,
}

impl Verb {
    /// Every one.
    pub const ALL: [Verb; 4] = [Verb::Add, Verb::FirstAdd, Verb::Del, Verb::Gc];

    /// As a table's row and a command line name it.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Add => "add",
            Verb::FirstAdd => "first-add",
            Verb::Del => "del",
            Verb::Gc => "gc",
        }
    }

    fn command(self) -> &'static str {
        match self {
            Verb::Add | Verb::FirstAdd => "ADD",
            Verb::Del => "DEL",
            Verb::Gc => "GC",
        }
    }
}

/// What became of one point.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Which.
    pub point: Point,
    /// Was something killed, or did a call fail? The last call of a name is not always reached.
    pub hit: bool,
    /// What was wrong afterwards, in words. Empty: nothing.
    pub faults: Vec<Fault>,
}

/// Something wrong.
#[derive(Clone, Debug)]
pub struct Fault {
    /// Of which kind.
    pub kind: FaultKind,
    /// In words.
    pub words: String,
}

/// Kinds of what can be wrong afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// An address that nobody can have any more.
    Lost,
    /// An address that two have.
    Twice,
    /// A kernel object or an address file that should be gone.
    Left,
    /// Something that should be there, but is not.
    Gone,
    /// A call afterwards that failed.
    Stumbled,
    /// A call that failed without saying why, panicked or hung.
    Unclear,
}

/// Does a configuration's version have the command?
pub fn speaks(config: &Value, verb: Verb) -> bool {
    verb != Verb::Gc || config["cniVersion"].as_str() >= Some("1.1.0")
}

/// The IPAM plugin of a configuration.
pub fn delegate_of(config: &Value) -> Option<&str> {
    config["ipam"]["type"].as_str()
}

/// The configuration with its address files in `directory`.
pub fn with_directory(config: &Value, directory: &Path) -> Value {
    let mut config = config.clone();
    if config["ipam"].is_object() {
        config["ipam"]["dataDir"] = json!(directory);
    } else if config["type"] == "host-local" {
        config["ipam"] = json!({ "dataDir": directory });
    }
    config
}

/// One call of `verb`, traced, with everything before and after it that a call needs.
pub fn traced(scene: &mut Scene, verb: Verb, target: Target) -> Traced {
    prepare(scene, verb);
    let name = name_of(scene, target);
    scene.wrap(target, &name, &[]);
    let ended = act(scene, verb);
    let traced = scene.unwrap(&name);
    assert!(ended.reply.success, "{} under strace failed: {:?}", verb.name(), ended.reply);
    scene.call("DEL", &scene.pod);
    traced
}

/// Harms the call at the point, and judges what follows.
pub fn run(scene: &mut Scene, point: &Point) -> Outcome {
    prepare(scene, point.verb);
    let (hit, faults) = match point.harm {
        Harm::Kill => kill(scene, point),
        Harm::Outlive => outlive(scene, point),
        Harm::Fail => fail(scene, point),
    };
    Outcome { point: point.clone(), hit, faults: if hit { faults } else { Vec::new() } }
}

fn prepare(scene: &Scene, verb: Verb) {
    if matches!(verb, Verb::Del | Verb::Gc) {
        let added = scene.call("ADD", &scene.pod);
        assert!(added.reply.success, "ADD before anything was harmed: {:?}", added.reply);
    }
}

fn name_of(scene: &Scene, target: Target) -> String {
    let name = match target {
        Target::Plugin => scene.config["type"].as_str(),
        Target::Delegate => delegate_of(&scene.config),
    };
    name.expect("a point is in a plugin that the configuration names").to_owned()
}

fn act(scene: &Scene, verb: Verb) -> Ended {
    match verb {
        Verb::Gc => {
            let valid: Vec<&Pod> = scene.witness.iter().collect();
            scene.call_with("GC", &scene.pod, &with_valid(&scene.config, &valid))
        }
        verb => scene.call(verb.command(), &scene.pod),
    }
}

fn kill(scene: &mut Scene, point: &Point) -> (bool, Vec<Fault>) {
    let name = name_of(scene, point.target);
    let (injection, trace) = (point.injection(), format!("trace={}", point.call));
    scene.wrap(point.target, &name, &["-e", &trace, "-e", &injection]);
    let harmed = act(scene, point.verb);
    let traced = scene.unwrap(&name);
    let mut faults = Vec::new();
    if harmed.hung {
        faults.push(Fault::unclear(format!("{} hung", point.verb.name())));
    }
    recover(scene, &mut faults);
    (traced.text.contains("+++ killed by SIGKILL"), faults)
}

/// The delegate stops at the point, its parent is killed, DEL begins; then the delegate goes on.
fn outlive(scene: &mut Scene, point: &Point) -> (bool, Vec<Fault>) {
    let name = name_of(scene, Target::Delegate);
    let (injection, trace) = (point.injection(), format!("trace={}", point.call));
    scene.wrap(point.target, &name, &["-e", &trace, "-e", &injection]);
    let plugin = name_of(scene, Target::Plugin);
    let config = match (&scene.witness, point.verb) {
        (Some(witness), Verb::Gc) => with_valid(&scene.config, &[witness]),
        _ => scene.config.clone(),
    };
    let mut parent = scene.start(&plugin, point.verb.command(), &scene.pod, &config);
    let stopped = wait_for_stop(scene, &mut parent);
    let _ = parent.kill();
    scene.finish(parent);
    let traced = scene.unwrap(&name);
    let mut faults = Vec::new();
    if let Some(orphan) = stopped {
        let del = scene.start(&plugin, "DEL", &scene.pod, &scene.config);
        // DEL may wait for a lock that the orphan holds.
        std::thread::sleep(Duration::from_millis(100));
        let _ = Program::new("kill").args(["-CONT", &orphan]).status();
        expect_success("DEL beside the orphan", &scene.finish(del), &mut faults);
    }
    recover(scene, &mut faults);
    (stopped_in(&traced).is_some(), faults)
}

fn wait_for_stop(scene: &Scene, parent: &mut std::process::Child) -> Option<String> {
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if let Some(pid) = stopped_in(&scene.trace()) {
            return Some(pid);
        }
        if parent.try_wait().expect("wait for a plugin").is_some() {
            return None;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    None
}

fn stopped_in(traced: &Traced) -> Option<String> {
    let line = traced.text.lines().find(|line| line.contains("--- stopped by SIGSTOP ---"))?;
    Some(line.split_whitespace().next()?.to_owned())
}

/// A call fails: the plugin says so, or goes on without; and undoes what it did.
fn fail(scene: &mut Scene, point: &Point) -> (bool, Vec<Fault>) {
    let name = name_of(scene, point.target);
    let (injection, trace) = (point.injection(), format!("trace={}", point.call));
    scene.wrap(point.target, &name, &["-e", &trace, "-e", &injection]);
    let harmed = act(scene, point.verb);
    let traced = scene.unwrap(&name);
    let Some(call) = traced.text.lines().find(|line| line.contains("(INJECTED)") && can_fail_so(line, point)) else {
        scene.call("DEL", &scene.pod);
        return (false, Vec::new());
    };
    // Who can't write to stdout can't say why, nor whether it was heard.
    let is_answer = call.contains(" write(1<") || call.contains(" write(2<");
    let mut faults = Vec::new();
    if !is_answer {
        judge_failure(&harmed, &mut faults);
    }
    let failed_add = matches!(point.verb, Verb::Add) && !harmed.reply.success;
    if failed_add && !is_answer && faults.is_empty() {
        compare(scene, "after the failed ADD, before any DEL", &mut faults);
    }
    recover(scene, &mut faults);
    (true, faults)
}

/// A disk is full for files only: an event counter or a pipe has no space to run out of.
fn can_fail_so(line: &str, point: &Point) -> bool {
    let is_no_file =
        ["(anon_inode:", "<anon_inode:", "<pipe:", "<socket:", "<UNIX", "<NETLINK"].iter().any(|no| line.contains(no));
    !(is_no_file && matches!(point.call.as_str(), "read" | "write" | "writev"))
}

fn judge_failure(harmed: &Ended, faults: &mut Vec<Fault>) {
    let (reply, code) = (&harmed.reply, harmed.reply.code());
    if harmed.hung {
        faults.push(Fault::unclear("the call hung".to_owned()));
    } else if let Some(signal) = harmed.signal {
        faults.push(Fault::unclear(format!("the call ended by signal {signal}")));
    } else if !reply.success && (code == 0 || code == u64::MAX || reply.details().is_empty() && reply.json["msg"] == "")
    {
        faults.push(Fault::unclear(format!("no error document; stdout: {:?}", reply.stdout)));
    } else if code == 999 {
        faults.push(Fault::unclear(format!("panic: {}", reply.details())));
    }
}

/// What a runtime does next: DEL, then ADD and DEL again. Afterwards all must be as it was.
fn recover(scene: &mut Scene, faults: &mut Vec<Fault>) {
    expect_success("DEL", &scene.call("DEL", &scene.pod), faults);
    let added = scene.call("ADD", &scene.pod);
    expect_success("ADD again", &added, faults);
    let theirs = witness_addresses(scene);
    for address in addresses(&added.reply.json) {
        let ip = address.split('/').next().unwrap_or_default();
        if theirs.contains(ip) {
            faults.push(Fault { kind: FaultKind::Twice, words: format!("{ip} is the witness's, and was given again") });
        }
    }
    if !scene.wait_for_orphans() {
        faults.push(Fault::unclear("a process outlived everything".to_owned()));
    }
    expect_success("DEL again", &scene.call("DEL", &scene.pod), faults);
    compare(scene, "at the end", faults);
    if faults.iter().any(|fault| fault.words.contains("address file")) {
        let free = scene.count_free();
        if free < scene.capacity {
            let words = format!("{free} addresses can be given, where {} could before", scene.capacity);
            faults.push(Fault { kind: FaultKind::Lost, words });
        }
    }
}

fn witness_addresses(scene: &Scene) -> BTreeSet<String> {
    let Some(witness) = &scene.witness else { return BTreeSet::new() };
    let found = witness.netns().ip(&format!("addr show dev {}", witness.ifname));
    let addresses = found[0]["addr_info"].as_array().into_iter().flatten();
    addresses.filter_map(|address| address["local"].as_str()).map(str::to_owned).collect()
}

fn expect_success(what: &str, ended: &Ended, faults: &mut Vec<Fault>) {
    if ended.hung {
        faults.push(Fault::unclear(format!("{what} hung")));
    } else if !ended.reply.success {
        let words = format!("{what} failed: {}", ended.reply.stdout.trim());
        faults.push(Fault { kind: FaultKind::Stumbled, words });
    }
}

fn compare(scene: &Scene, when: &str, faults: &mut Vec<Fault>) {
    let found = scene.look();
    for left in found.difference(&scene.clean) {
        faults.push(Fault { kind: FaultKind::Left, words: format!("{when}: left: {left}") });
    }
    for gone in scene.clean.difference(&found) {
        faults.push(Fault { kind: FaultKind::Gone, words: format!("{when}: gone: {gone}") });
    }
}

impl Fault {
    fn unclear(words: String) -> Self {
        Fault { kind: FaultKind::Unclear, words }
    }
}
