//! The suite tests itself: plugins with one fault each break exactly the clauses of that fault.
//!
//! `faulty-plugin` is a correct plugin of each kind; a dot and the name of a fault in its file name make it a broken one
//! (src/bin/faulty-plugin/). Levels must and should are compared; what a plugin may leave out, these leave out.

#[path = "suite/faults.rs"]
mod faults;
mod suite;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use conformance::lab::bin_dir;
use conformance::suite::clause::Kind;
use conformance::suite::trials;
use faults::FAULTS;
use libcni::Version;
use serde_json::json;
use suite::{broken, details, run};

/// For each fault, one in so many of the trials that have nothing to do with it.
const SAMPLE: usize = 20;

#[test]
fn a_correct_plugin_of_each_kind_keeps_every_must_and_every_should() {
    for name in ["model-interface", "model-ipam", "model-chained", "model-lo"] {
        assert_eq!(difference(name, &[], Vec::new()), None);
    }
}

/// Not every trial is run for every fault here, for that takes minutes: those of the clauses that it breaks, those that
/// every attachment goes through, and a few of the others, by turns. Each trial is so run over
/// some faults that are none of its business. The next test runs them all.
#[test]
fn a_plugin_with_one_fault_breaks_the_clauses_of_that_fault_and_no_others() {
    over_all_faults(|number, clauses| {
        let chosen = trials::trials().enumerate().filter(|(index, trial)| {
            let broken = trial.clauses.iter().any(|clause| clauses.contains(&clause.id));
            broken
                || ["result", "DEL repeated", "CHECK after ADD"].contains(&trial.name)
                || (index + number) % SAMPLE == 0
        });
        chosen.flat_map(|(_, trial)| trial.clauses).map(|clause| clause.id.to_owned()).collect()
    });
}

#[test]
#[ignore = "takes minutes: the whole suite over every fault, before a change of the suite is handed in"]
fn a_plugin_with_one_fault_breaks_no_other_clause_of_the_whole_suite() {
    over_all_faults(|_, _| Vec::new());
}

/// Runs the suite over each fault, a few at a time. `only`, of a fault's number and the clauses that it breaks, are the
/// clauses to be tested; none: all.
fn over_all_faults(only: impl Fn(usize, &[&str]) -> Vec<String> + Sync) {
    let next = AtomicUsize::new(0);
    let wrong = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some((name, clauses)) = FAULTS.get(number) else { break };
                    let difference = difference(name, clauses, only(number, clauses));
                    difference.iter().for_each(|text| eprintln!("{text}\n"));
                    wrong.lock().unwrap().extend(difference);
                }
            });
        }
    });
    let wrong = wrong.into_inner().unwrap();
    assert!(wrong.is_empty(), "{} of {} faults:\n{}", wrong.len(), FAULTS.len(), wrong.join("\n\n"));
}

/// Runs the suite over a plugin: what it found broken that it should not have, and the other way round.
fn difference(name: &str, expected: &[&str], only: Vec<String>) -> Option<String> {
    let files = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let config = install(files.path(), name);
    let run = run(&config, &[files.path().to_owned()], &[Version::V1_1_0], Some(kind(name)), only);
    let broken = match broken(&run) {
        Ok(broken) => broken,
        Err(reason) => return Some(format!("{name}: {reason}")),
    };
    // What a plugin may leave out, the correct ones leave out too: looked at only where a fault is about it.
    let may = broken.may.into_iter().filter(|id| expected.contains(&id.as_str())).collect();
    let mut found = [broken.must, broken.should, may].concat();
    found.sort();
    let missed: Vec<_> = expected.iter().filter(|id| !found.iter().any(|found| found == *id)).collect();
    let besides: Vec<_> = found.iter().filter(|id| !expected.contains(&id.as_str())).collect();
    if missed.is_empty() && besides.is_empty() {
        return None;
    }
    Some(format!("{name}: not found broken: {missed:?}; broken besides: {besides:?}\n{}", details(&run)))
}

/// A directory with the plugin, its delegate and its configuration.
fn install(directory: &Path, name: &str) -> PathBuf {
    for file in ["model-ipam", name] {
        let path = directory.join(file);
        if !path.exists() {
            // A plugin under test sees an empty /tmp: a symbolic link could lead nowhere there.
            std::fs::hard_link(bin_dir().join("faulty-plugin"), path).unwrap();
        }
    }
    let mut config = json!({"cniVersion": "1.1.0", "name": "conformance", "type": name});
    let ipam = if kind(name) == Kind::Ipam { name } else { "model-ipam" };
    if matches!(kind(name), Kind::Ipam | Kind::Interface) {
        config["ipam"] = json!({"type": ipam, "subnet": "10.23.0.0/26"});
    }
    config["capabilities"] = match kind(name) {
        Kind::Interface => json!({"mac": true, "dns": true}),
        Kind::Ipam => json!({"ips": true, "ipRanges": true}),
        Kind::Chained => json!({"bandwidth": true, "portMappings": true}),
        _ => json!({}),
    };
    let path = directory.join("network.conf");
    std::fs::write(&path, config.to_string()).unwrap();
    path
}

fn kind(name: &str) -> Kind {
    match name.split('.').next().unwrap() {
        "model-interface" => Kind::Interface,
        "model-ipam" => Kind::Ipam,
        "model-chained" => Kind::Chained,
        _ => Kind::Loopback,
    }
}
