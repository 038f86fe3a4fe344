//! Section 4: how a plugin calls its delegate. A spy stands in the delegate's place and writes down what it gets.

use std::path::Path;

use serde_json::{Value, json};

use super::super::attach::Pod;
use super::super::clause::{Clause, MAKERS, Step, Stop, Trial};
use super::super::exec::Call;
use super::super::spy::{Seen, Spy, WORDS};
use super::super::world::{HOME, World};
use super::{CHECK, GC};

const ENVIRONMENT: &str = "The delegated plugin must receive all the same environment variables that were passed in to the CNI \
    plugin.";
const CONFIGURATION: &str = "Delegated plugins are provided the complete network configuration passed to the \"upper\" plugin. In \
    other words, in the IPAM case, not just the ipam section of the configuration.";
const STDERR: &str = "When a plugin executes a delegated plugin, it should: Ensure that the delegated plugin's stderr is output to \
    the calling plugin's stderr.";
const LOOK_UP: &str = "When a plugin executes a delegated plugin, it should: Look up the plugin binary by searching the directories \
    provided in CNI_PATH environment variable.";
const EXECUTE: &str =
    "If a plugin is executed with CNI_COMMAND=CHECK, DEL, or GC, it must also execute any delegated plugins.";
const ERRORS: &str = "If any of the delegated plugins return error, error should be returned by the upper plugin.";
const DEL_FIRST: &str = "If, on ADD, a delegated plugin fails, the \"upper\" plugin should execute again with DEL before returning \
    failure.";
const NON_ZERO: &str = "A plugin must exit with a return code of 0 on success, and non-zero on failure.";
const STATUS: &str = "If a plugin relies on a delegated plugin (e.g. IPAM) to service ADD requests, it must also execute a STATUS \
    request to that plugin when it receives a STATUS request for itself. If the delegated plugin return an error result, the \
    executing plugin should return an error result.";
const FORWARD: &str =
    "Plugins MUST, additionally, forward any GC calls to delegated plugins they are configured to use (see section 4).";

/// The trials.
pub const TRIALS: &[Trial] = &[
    Trial {
        name: "delegation",
        clauses: &[
            Clause::must("delegation.environment", "4, Delegated Plugin protocol", ENVIRONMENT,
                "ADD and DEL with each CNI_ variable and one of another name set: the delegate gets them all, with those values.")
                .only(MAKERS).delegating(),
            Clause::must("delegation.configuration", "4, Delegated Plugin protocol", CONFIGURATION,
                "ADD with labels in `args`: the JSON that the delegate reads is the plugin's own, labels and all.").only(MAKERS).delegating(),
            Clause::may("delegation.unknown-keys", "4, Delegated Plugin protocol", CONFIGURATION,
                "ADD with a key of unknown name beside and within `ipam`, unless it is refused: the delegate gets both.")
                .only(MAKERS).delegating(),
            Clause::should("delegation.stderr", "4, Delegated plugin execution procedure", STDERR,
                "ADD: what the delegate writes to stderr is on the plugin's stderr.").only(MAKERS).delegating(),
            Clause::must("delegation.del", "4, Delegated plugin execution procedure", EXECUTE,
                "DEL: the delegate gets a DEL.").only(MAKERS).delegating(),
            Clause::must("delegation.del-without-netns", "4, Delegated plugin execution procedure", EXECUTE,
                "DEL of a container whose namespace is gone: the delegate gets a DEL.").only(MAKERS).delegating(),
            Clause::must("delegation.check", "4, Delegated plugin execution procedure", EXECUTE,
                "CHECK: the delegate gets a CHECK.").only(MAKERS).delegating().since(CHECK),
            Clause::must("delegation.status", "2, STATUS", STATUS,
                "STATUS: the delegate gets a STATUS.").only(MAKERS).delegating().since(GC),
            Clause::must("delegation.gc", "2, GC", FORWARD,
                "GC: the delegate gets a GC, with the list of valid attachments.").only(MAKERS).delegating().since(GC),
        ],
        run: calls,
    },
    Trial {
        name: "delegate looked up",
        clauses: &[
            Clause::should("delegation.searches-path", "4, Delegated plugin execution procedure", LOOK_UP,
                "ADD with a CNI_PATH of a directory that is not there, an empty one, and two with the delegate: that of the first \
                 of the two is executed.").only(MAKERS).delegating(),
            Clause::must("delegation.missing", "2, Errors", NON_ZERO,
                "ADD with a CNI_PATH that has no delegate: it fails.").only(MAKERS).delegating(),
        ],
        run: looked_up,
    },
    Trial {
        name: "delegate fails an ADD",
        clauses: &[
            Clause::must("delegation.add-fails", "2, Errors", NON_ZERO,
                "ADD; the delegate fails: the ADD fails.").only(MAKERS).delegating(),
            Clause::should("delegation.error-passed-on", "4, Delegated plugin execution procedure", ERRORS,
                "The ADD's error document tells what the delegate's told.").only(MAKERS).delegating(),
            Clause::should("delegation.del-after-failed-add", "4, Delegated plugin execution procedure", DEL_FIRST,
                "The delegate gets a DEL after its failed ADD.").only(MAKERS).delegating(),
            Clause::should("delegation.failed-add-leaves-nothing", "3, Lifecycle & Ordering",
                "A delete must still be executed even if the add fails.",
                "After the failed ADD and a DEL, the node and the container are as before.").only(MAKERS).delegating(),
        ],
        run: |w| failing_add(w, false),
    },
    Trial {
        name: "delegate answers nonsense",
        clauses: &[
            Clause::must("delegation.nonsense", "2, Errors", NON_ZERO,
                "ADD; the delegate succeeds but answers with words that are no JSON: the ADD fails.").only(MAKERS).delegating(),
            Clause::should("delegation.del-after-nonsense", "4, Delegated plugin execution procedure", DEL_FIRST,
                "The delegate gets a DEL after its ADD.").only(MAKERS).delegating(),
        ],
        run: |w| failing_add(w, true),
    },
    Trial {
        name: "delegate fails later",
        clauses: &[
            Clause::should("delegation.check-fails", "4, Delegated plugin execution procedure", ERRORS,
                "ADD; CHECK with a delegate that fails it: the CHECK fails.").only(MAKERS).delegating().since(CHECK),
            Clause::should("delegation.status-fails", "2, STATUS", STATUS,
                "STATUS with a delegate that fails it: the STATUS fails.").only(MAKERS).delegating().since(GC),
            Clause::should("delegation.gc-fails", "2, GC",
                "If an error is encountered, a plugin should continue; removing as many resources as possible, and report the \
                 errors back to the runtime.",
                "GC with a delegate that fails it: the GC fails.").only(MAKERS).delegating().since(GC),
            Clause::should("delegation.del-fails", "4, Delegated plugin execution procedure", ERRORS,
                "ADD; DEL with a delegate that fails it: the DEL fails.").only(MAKERS).delegating(),
            Clause::should("delegation.del-goes-on", "2, DEL",
                "DEL command invocations are always considered best-effort - plugins should always complete a DEL action without \
                 error to the fullest extent possible, even if some resources or state are missing.",
                "The same DEL: the interface is removed all the same.").only(MAKERS).delegating(),
        ],
        run: failing_later,
    },
];

const REFUSAL: &str = r#"{"cniVersion":"VERSION","code":142,"msg":"conformance refusal","details":"asked to fail"}"#;

fn refusal(w: &World) -> String {
    REFUSAL.replace("VERSION", w.job.version.as_str())
}

/// The calls of one command, of which there has to be one.
fn last(w: &World, id: &'static str, spy: &Spy, command: &str) -> Step<Option<Seen>> {
    let seen = spy.calls_of(command)?.pop();
    let all: Vec<_> = spy.calls()?.into_iter().map(|call| call.command).collect();
    w.expect(id, seen.is_some(), format!("a {command} for the delegate"), format!("it got {}", all.join(", ")));
    Ok(seen)
}

fn calls(w: &World) -> Step {
    let spy = w.spy()?;
    let mut pod = w.pod()?;
    pod.args = Some("IgnoreUnknown=1;CONFORMANCE=yes".to_owned());
    let labels = json!({"cni": {"labels": [{"key": "app", "value": "myapp"}]}});
    let mark = |call: Call| call.with("CONFORMANCE_MARK", "a mark").edit(|config| config["args"] = labels.clone());
    let reply = w.add_with(&mut pod, mark)?;
    if !reply.success() {
        return Err(Stop::Unmet(format!("begins with an ADD, which did not succeed: {}", reply.summary())));
    }
    w.expect("delegation.stderr", reply.stderr.contains(WORDS), format!("{WORDS:?} on stderr"), reply.summary());
    let Some(seen) = last(w, "delegation.environment", &spy, "ADD")? else {
        return Err(Stop::Unmet("the delegate gets no ADD (see delegation.environment)".to_owned()));
    };
    environment(w, &pod, &seen);
    let mut own = delegating_config(w, &pod)?;
    own["args"] = labels.clone();
    w.expect("delegation.configuration", seen.input == own, &own, &seen.input);
    unknown_keys(w, &spy)?;

    if w.speaks(CHECK) {
        let reply = w.check(&pod)?;
        if !reply.success() && spy.calls_of("CHECK")?.is_empty() {
            w.skip("delegation.check", format!("CHECK does not get that far: {}", reply.summary()));
        } else {
            last(w, "delegation.check", &spy, "CHECK")?;
        }
    }
    if w.speaks(GC) {
        w.status()?;
        last(w, "delegation.status", &spy, "STATUS")?;
        w.gc(&[&pod])?;
        if let Some(seen) = last(w, "delegation.gc", &spy, "GC")? {
            let valid = &seen.input["cni.dev/valid-attachments"];
            let whole = valid[0]["containerID"] == pod.id.as_str();
            w.expect("delegation.gc", whole, "the list of valid attachments", valid);
        }
    }
    w.del_with(&pod, mark)?;
    if let Some(seen) = last(w, "delegation.del", &spy, "DEL")? {
        environment(w, &pod, &seen);
    }

    let (other, _) = w.attached()?;
    w.remove_netns(&other)?;
    w.del(&other)?;
    let got = spy.calls_of("DEL")?.iter().any(|seen| seen.env.get("CNI_CONTAINERID") == Some(&other.id));
    w.expect("delegation.del-without-netns", got, "a DEL for the delegate", "none for that container");
    Ok(())
}

fn environment(w: &World, pod: &Pod, seen: &Seen) {
    let expected = [
        ("CNI_CONTAINERID", pod.id.clone()),
        ("CNI_IFNAME", pod.ifname.clone()),
        ("CNI_NETNS", pod.netns_path()),
        ("CNI_PATH", w.cni_path()),
        ("CNI_ARGS", pod.args.clone().unwrap_or_default()),
        ("CONFORMANCE_MARK", "a mark".to_owned()),
    ];
    for (name, value) in expected {
        let got = seen.env.get(name);
        let wanted = format!("{}: {name}={value}", seen.command);
        w.expect("delegation.environment", got == Some(&value), wanted, got.map_or("not set", String::as_str));
    }
}

/// What the plugin that delegates was given on ADD.
fn delegating_config(w: &World, pod: &Pod) -> Step<Value> {
    let call = w.delegate_call("ADD", pod)?.ok_or_else(|| Stop::Suite("no delegate".to_owned()))?;
    serde_json::from_slice(&call.input).map_err(|error| Stop::Suite(error.to_string()))
}

fn unknown_keys(w: &World, spy: &Spy) -> Step {
    let id = "delegation.unknown-keys";
    let mut pod = w.pod()?;
    let reply = w.add_with(&mut pod, |call| {
        call.edit(|config| {
            config["conformance.beside"] = json!("kept");
            if config.get("ipam").is_some() {
                config["ipam"]["conformance.within"] = json!({"also": "kept"});
            }
        })
    })?;
    let Some(seen) = spy.calls_of("ADD")?.pop().filter(|seen| seen.env.get("CNI_CONTAINERID") == Some(&pod.id)) else {
        w.skip(id, format!("a configuration with unknown keys is refused: {}", reply.summary()));
        return Ok(());
    };
    let kept = seen.input["conformance.beside"] == "kept" && seen.input["ipam"]["conformance.within"]["also"] == "kept";
    w.expect(id, kept, "both keys", &seen.input);
    w.del(&pod).map(drop)
}

fn looked_up(w: &World) -> Step {
    let home = Path::new(HOME);
    let spy = w.spy_in(&home.join("second"))?;
    w.sh(None, &format!("mkdir -p {HOME}/empty"))?;
    let real = w.bin_dirs.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":");
    let path = format!("{HOME}/absent:{HOME}/empty:{HOME}/second:{real}");
    let mut pod = w.pod()?;
    let reply = w.add_with(&mut pod, |call| call.with("CNI_PATH", &path))?;
    let first = !spy.calls_of("ADD")?.is_empty();
    w.expect(
        "delegation.searches-path",
        reply.success() && first,
        "the delegate of the third directory",
        reply.summary(),
    );
    w.del_with(&pod, |call| call.with("CNI_PATH", &path))?;

    let mut pod = w.pod()?;
    let reply = w.add_with(&mut pod, |call| call.with("CNI_PATH", format!("{HOME}/empty")))?;
    w.expect("delegation.missing", reply.refused(), "an exit status other than 0", reply.summary());
    Ok(())
}

fn failing_add(w: &World, nonsense: bool) -> Step {
    let (fails, del) = match nonsense {
        true => ("delegation.nonsense", "delegation.del-after-nonsense"),
        false => ("delegation.add-fails", "delegation.del-after-failed-add"),
    };
    let before = super::del::settled(w)?;
    let spy = w.spy()?;
    match nonsense {
        true => spy.answer("ADD", "this is no JSON")?,
        false => spy.fail("ADD", &refusal(w))?,
    }
    let mut pod = w.pod()?;
    let inside = w.snapshot(Some(pod.netns_name()))?;
    let reply = w.add(&mut pod)?;
    w.expect(fails, reply.refused(), "an exit status other than 0", reply.summary());
    last(w, del, &spy, "DEL")?;
    if nonsense {
        return Ok(());
    }
    let told = reply.words().contains("conformance refusal") || reply.words().contains("asked to fail");
    w.expect("delegation.error-passed-on", told, "the words of the delegate's error", reply.summary());
    w.del(&pod)?;
    let mut left = w.snapshot(None)?.all_since(&before);
    left.extend(w.snapshot(Some(pod.netns_name()))?.all_since(&inside));
    w.expect("delegation.failed-add-leaves-nothing", left.is_empty(), "nothing left", left.join("; "));
    Ok(())
}

fn failing_later(w: &World) -> Step {
    let spy = w.spy()?;
    let (pod, _) = w.attached()?;
    for command in ["CHECK", "STATUS", "GC", "DEL"] {
        spy.fail(command, &refusal(w))?;
    }
    let fails = |id: &'static str, reply: super::super::exec::Reply| {
        w.expect(id, reply.refused(), "an exit status other than 0", reply.summary());
    };
    if w.speaks(CHECK) {
        fails("delegation.check-fails", w.check(&pod)?);
    }
    if w.speaks(GC) {
        fails("delegation.status-fails", w.status()?);
        fails("delegation.gc-fails", w.gc(&[&pod])?);
    }
    fails("delegation.del-fails", w.del(&pod)?);
    let gone = w.link(Some(pod.netns_name()), &pod.ifname)?.is_none();
    w.expect("delegation.del-goes-on", gone, format!("no {} in the container", pod.ifname), "it is still there");
    Ok(())
}
