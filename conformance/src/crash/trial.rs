//! One trial: harm a call at a point, do what a runtime does next, and look.

use std::process::Child;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill as kill_with};
use nix::unistd::Pid;

use crate::crash::Harm;
use crate::crash::call::Ended;
use crate::crash::network::Subject;
use crate::crash::points::{self, Point, Target};
use crate::crash::scene::{Scene, addresses};
use crate::crash::strace::{self, Session, Traced};

/// During which call something is harmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// ADD on a node that knows the network.
    Add,
    /// The first ADD on a node: it makes what all Pods share.
    FirstAdd,
    /// DEL.
    Del,
    /// GC that finds an attachment which is not valid, and a node map that has changed, if there is one.
    Gc,
    /// Reconciling: `--sync` after the node map has changed.
    Sync,
}

impl Verb {
    /// Every one.
    pub const ALL: [Verb; 5] = [Verb::Add, Verb::FirstAdd, Verb::Del, Verb::Gc, Verb::Sync];

    /// As a table's row and a command line name it.
    pub fn name(self) -> &'static str {
        match self {
            Verb::Add => "add",
            Verb::FirstAdd => "first-add",
            Verb::Del => "del",
            Verb::Gc => "gc",
            Verb::Sync => "sync",
        }
    }

    /// CNI_COMMAND; none of reconciling.
    fn command(self) -> Option<&'static str> {
        match self {
            Verb::Add | Verb::FirstAdd => Some("ADD"),
            Verb::Del => Some("DEL"),
            Verb::Gc => Some("GC"),
            Verb::Sync => None,
        }
    }

    fn adds(self) -> bool {
        self.command() == Some("ADD")
    }

    /// Does the network's node map change before it?
    pub fn changes_map(self, subject: &Subject) -> bool {
        subject.maps.is_some() && matches!(self, Verb::Gc | Verb::Sync)
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

/// One call of `verb`, traced, with everything before and after it that a call needs.
pub fn traced(scene: &Scene<'_>, verb: Verb, target: &Target) -> Result<Traced, String> {
    prepare(scene, verb)?;
    strace::wrap(&scene.node, &target.name, Session::Own, &[]);
    let ended = act(scene, verb);
    let traced = strace::unwrap(&scene.node, &target.name);
    if !ended.reply.success {
        return Err(format!("{} under strace failed: {}", verb.name(), ended.reply.stdout.trim()));
    }
    scene.must("DEL", &scene.pod)?;
    Ok(traced)
}

/// Harms the call at the point, and judges what follows. An error is the plugin's, before anything was harmed.
pub fn run(scene: &Scene<'_>, point: &Point) -> Result<Outcome, String> {
    prepare(scene, point.verb)?;
    let (hit, faults) = match point.harm {
        Harm::Kill => kill(scene, point),
        Harm::Outlive => outlive(scene, point)?,
        Harm::Fail => fail(scene, point),
    };
    Ok(Outcome { point: point.clone(), hit, faults: if hit { faults } else { Vec::new() } })
}

fn prepare(scene: &Scene<'_>, verb: Verb) -> Result<(), String> {
    let subject = scene.stage.subject;
    if verb.changes_map(subject) {
        scene.set_map(0);
        let ended = scene.sync();
        if !ended.reply.success {
            return Err(format!("--sync before anything was harmed: {}", ended.reply.stdout));
        }
    }
    if matches!(verb, Verb::Del | Verb::Gc) {
        scene.must("ADD", &scene.pod)?;
    }
    if verb.changes_map(subject) {
        scene.set_map(1);
    }
    Ok(())
}

fn act(scene: &Scene<'_>, verb: Verb) -> Ended {
    match verb.command() {
        Some(command) => scene.call(command, &scene.pod),
        None => scene.sync(),
    }
}

/// The call, with strace in front of the point's process.
fn harmed(scene: &Scene<'_>, point: &Point) -> (Ended, Traced) {
    let (injection, trace) = (point.injection(), format!("trace={}", point.call));
    strace::wrap(&scene.node, &point.target.name, Session::Own, &["-e", &trace, "-e", &injection]);
    scene.forget_stderr();
    let mut ended = act(scene, point.verb);
    ended.reply.stderr = scene.stderr();
    (ended, strace::unwrap(&scene.node, &point.target.name))
}

fn kill(scene: &Scene<'_>, point: &Point) -> (bool, Vec<Fault>) {
    let (ended, traced) = harmed(scene, point);
    let mut faults = Vec::new();
    if ended.hung {
        faults.push(Fault::unclear(format!("{} hung", point.verb.name())));
    }
    recover(scene, &mut faults);
    (traced.text.contains("+++ killed by SIGKILL"), faults)
}

/// The delegate stops at the point, its parent is killed, DEL begins; then the delegate goes on.
fn outlive(scene: &Scene<'_>, point: &Point) -> Result<(bool, Vec<Fault>), String> {
    let (injection, trace) = (point.injection(), format!("trace={}", point.call));
    let (node, name) = (&scene.node, &point.target.name);
    let command = point.verb.command().expect("who reconciles has no delegate");
    strace::wrap(node, name, Session::New, &["-e", &trace, "-e", &injection]);
    let mut parent = scene.start_turn(command, &scene.pod, point.target.index)?;
    let stopped = wait_for_stop(scene, &mut parent);
    let _ = parent.kill();
    scene.finish(parent);
    let traced = strace::unwrap(node, name);
    let mut faults = Vec::new();
    if let Some(orphan) = stopped {
        std::thread::scope(|scope| {
            // DEL may wait for a lock that the orphan holds.
            scope.spawn(|| {
                for _ in 0..10 {
                    std::thread::sleep(Duration::from_millis(100));
                    if kill_with(orphan, Signal::SIGCONT).is_err() {
                        break;
                    }
                }
            });
            expect_success("DEL beside the orphan", &delete(scene), &mut faults);
        });
    }
    recover(scene, &mut faults);
    Ok((stopped_in(&traced).is_some(), faults))
}

fn wait_for_stop(scene: &Scene<'_>, parent: &mut Child) -> Option<Pid> {
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

fn stopped_in(traced: &Traced) -> Option<Pid> {
    let line = traced.text.lines().find(|line| line.contains("--- stopped by SIGSTOP ---"))?;
    line.split_whitespace().next()?.parse().ok().map(Pid::from_raw)
}

/// A call fails: the plugin says so, or goes on without; and undoes what it did.
fn fail(scene: &Scene<'_>, point: &Point) -> (bool, Vec<Fault>) {
    let (ended, traced) = harmed(scene, point);
    let injected = |line: &&str| line.contains("(INJECTED)") && points::can_fail_so(line, &point.call);
    let Some(call) = traced.text.lines().find(injected) else {
        scene.call("DEL", &scene.pod);
        return (false, Vec::new());
    };
    // Who can't write to stdout can't say why, nor whether it was heard.
    let is_answer = call.contains(" write(1<") || call.contains(" write(2<");
    let mut faults = Vec::new();
    if !is_answer {
        judge_failure(point.verb, &ended, &traced, &mut faults);
        if faults.is_empty() {
            judge_state(scene, point, &ended, &mut faults);
        }
    }
    recover(scene, &mut faults);
    (true, faults)
}

/// A failure has a reason: an error document of a plugin, words on stderr of `--sync`, which is run by a person.
fn judge_failure(verb: Verb, harmed: &Ended, traced: &Traced, faults: &mut Vec<Fault>) {
    let (reply, code) = (&harmed.reply, harmed.reply.code());
    let says_nothing = match verb.command() {
        Some(_) => code == u64::MAX || code == 0 || reply.details().is_empty() && reply.json["msg"] == "",
        None => reply.stderr.trim().is_empty(),
    };
    if harmed.hung {
        faults.push(Fault::unclear(format!("the call hung; its last calls:\n{}", traced.end())));
    } else if let Some(signal) = harmed.signal {
        faults.push(Fault::unclear(format!("the call ended by signal {signal}")));
    } else if ["panicked at", "goroutine "].iter().any(|words| reply.stderr.contains(words)) {
        faults.push(Fault::unclear(format!("panic: {}{}", reply.details(), reply.stderr)));
    } else if !reply.success && says_nothing {
        faults.push(Fault::unclear(format!("no reason; stdout: {:?}, stderr: {:?}", reply.stdout, reply.stderr)));
    }
}

/// What was said must be so: an ADD that failed has left nothing, one that succeeded stands; a DEL or GC that succeeded
/// has removed everything.
fn judge_state(scene: &Scene<'_>, point: &Point, ended: &Ended, faults: &mut Vec<Fault>) {
    match (point.verb.adds(), ended.reply.success) {
        (true, false) => {
            // What the plugins before it in the chain did is theirs to remove.
            if let Some(removed) = scene.remove_before(&scene.pod, point.target.index) {
                expect_success("DEL of those before it", &removed, faults);
            }
            let when = format!("before any DEL, after the ADD that failed with {}", ended.reply.stdout.trim());
            left(scene, &when, faults);
        }
        (true, true) if scene.stage.version.has_check() => {
            expect_success("CHECK after an ADD that succeeded nevertheless", &scene.call("CHECK", &scene.pod), faults);
        }
        (false, true) => {
            compare(scene, &format!("after {} succeeded nevertheless", point.verb.name()), faults);
            // GC is given no namespace: what is in the Pod's goes with it.
            faults.retain(|fault| point.verb != Verb::Gc || !fault.words.contains("left: pod "));
        }
        _ => {}
    }
}

/// DEL, and once more if it says so: code 11 is "try again" (section "Error" of the spec), for a machine that is very busy.
fn delete(scene: &Scene<'_>) -> Ended {
    const TRY_AGAIN_LATER: u64 = 11;
    let ended = scene.call("DEL", &scene.pod);
    if ended.reply.code() == TRY_AGAIN_LATER { scene.call("DEL", &scene.pod) } else { ended }
}

/// What a runtime does next: DEL, then ADD and DEL again. Afterwards all must be as it was.
fn recover(scene: &Scene<'_>, faults: &mut Vec<Fault>) {
    expect_success("DEL", &delete(scene), faults);
    let added = scene.call("ADD", &scene.pod);
    expect_success("ADD again", &added, faults);
    let theirs = scene.addresses_of_witness();
    for ip in addresses(&added.reply.json) {
        if theirs.contains(&ip) {
            faults.push(Fault { kind: FaultKind::Twice, words: format!("{ip} is the witness's, and was given again") });
        }
    }
    if !scene.wait_for_orphans() {
        faults.push(Fault::unclear("a process outlived everything".to_owned()));
    }
    expect_success("DEL again", &delete(scene), faults);
    compare(scene, "at the end", faults);
    if faults.iter().any(|fault| fault.words.contains("address file")) {
        faults.extend(lost(scene));
    }
}

/// Addresses that can't be given any more.
fn lost(scene: &Scene<'_>) -> Option<Fault> {
    let (before, words) = (scene.clean.capacity, |free| format!("{free} addresses can be given"));
    match scene.count_free() {
        Ok(free) if free >= before => None,
        Ok(free) => {
            Some(Fault { kind: FaultKind::Lost, words: format!("{}, where {before} could before", words(free)) })
        }
        Err(error) => Some(Fault { kind: FaultKind::Stumbled, words: error }),
    }
}

fn expect_success(what: &str, ended: &Ended, faults: &mut Vec<Fault>) {
    if ended.hung {
        faults.push(Fault::unclear(format!("{what} hung")));
    } else if !ended.reply.success {
        let words = format!("{what} failed: {}", ended.reply.stdout.trim());
        faults.push(Fault { kind: FaultKind::Stumbled, words });
    }
}

fn left(scene: &Scene<'_>, when: &str, faults: &mut Vec<Fault>) {
    for left in scene.look().difference(&scene.clean.objects) {
        faults.push(Fault { kind: FaultKind::Left, words: format!("{when}: left: {left}") });
    }
}

fn compare(scene: &Scene<'_>, when: &str, faults: &mut Vec<Fault>) {
    let found = scene.look();
    for left in found.difference(&scene.clean.objects) {
        faults.push(Fault { kind: FaultKind::Left, words: format!("{when}: left: {left}") });
    }
    for gone in scene.clean.objects.difference(&found) {
        faults.push(Fault { kind: FaultKind::Gone, words: format!("{when}: gone: {gone}") });
    }
}

impl Fault {
    fn unclear(words: String) -> Self {
        Fault { kind: FaultKind::Unclear, words }
    }
}
