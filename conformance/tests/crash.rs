//! A sample of what `cni-conformance crash` does at every point, another one every day. Its number is printed: the
//! command tries the same points again with `--seed`.

use std::process::Command;

use conformance::crash::{self, Harm, Options, Sample, command, trial::Verb};
use conformance::lab::{REFERENCE_DIR, bin_dir};
use serde_json::json;

fn options(harms: Vec<Harm>, count: usize) -> Options {
    Options {
        bin_dirs: vec![bin_dir()],
        config: crash::default_config(),
        verbs: Verb::ALL.to_vec(),
        harms,
        jobs: 2,
        sample: Some(Sample { count, seed: command::today() }),
    }
}

fn no_strace() -> bool {
    let missing = Command::new("strace").arg("-V").output().is_err();
    if missing {
        println!("skipped: no strace here (Debian's package strace)");
    }
    missing
}

#[test]
fn whoever_is_killed_wherever_nothing_is_left_and_no_address_is_lost() {
    if no_strace() {
        return;
    }
    let report = crash::run(&options(vec![Harm::Kill, Harm::Outlive], 100));
    println!("{report}");
    assert_eq!(report.failures().count(), 0, "{report}");
    assert!(report.hits() > 60, "{report}");
}

#[test]
fn whatever_call_fails_is_reported_and_undone() {
    if no_strace() {
        return;
    }
    let report = crash::run(&options(vec![Harm::Fail], 40));
    println!("{report}");
    assert_eq!(report.failures().count(), 0, "{report}");
    assert!(report.hits() > 15, "{report}");
}

#[test]
fn a_store_that_loses_addresses_is_caught() {
    let reference = std::path::Path::new(REFERENCE_DIR);
    if no_strace() || !reference.join("host-local").exists() {
        println!("skipped: no reference plugins in {REFERENCE_DIR} (Debian's package containernetworking-plugins)");
        return;
    }
    let mut options = options(vec![Harm::Kill], 0);
    options.bin_dirs = vec![reference.to_owned()];
    options.sample = None;
    options.verbs = vec![Verb::Add];
    options.config = json!({
        "cniVersion": "1.0.0", "name": "crash", "type": "bridge", "bridge": "crash0",
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.222.0.0/29" }]] }
    });
    // Between making the address file and writing it: the reference's known gap.
    let mut points = crash::points::of_verb(&options, Verb::Add);
    points.retain(|point| point.target == crash::points::Target::Delegate && point.call == "write");
    let mut lost = 0;
    for point in &points {
        let mut scene = crash::scene::Scene::new(&options, Verb::Add);
        let outcome = crash::trial::run(&mut scene, point);
        lost += outcome.faults.iter().filter(|fault| fault.kind == crash::trial::FaultKind::Lost).count();
    }
    assert!(lost > 0, "{} points of the reference's host-local, and nothing lost", points.len());
}
