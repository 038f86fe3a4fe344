//! A sample of what `cni-conformance crash` does at every point, the same one in every run, so that unchanged code
//! gives the same result. `PODWIRE_SEED` chooses another. The command tries the same points again with `--sample` and `--seed`.

use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::crash::network::Subject;
use conformance::crash::trial::{FaultKind, Verb};
use conformance::crash::{self, Harm, Options, Sample, command};
use conformance::lab::{REFERENCE_DIR, bin_dir};

/// Points of every network of podwire.
const SAMPLE: usize = 160;

/// Which sample: `PODWIRE_SEED`, or always the same one.
fn seed() -> u64 {
    let given = std::env::var("PODWIRE_SEED").ok();
    given.map_or(1, |text| text.parse().unwrap_or_else(|_| panic!("PODWIRE_SEED={text:?} is not a number")))
}

fn options(bin_dirs: Vec<PathBuf>, networks: Vec<Subject>, harms: Vec<Harm>, sample: Option<Sample>) -> Options {
    Options { bin_dirs, networks, verbs: Verb::ALL.to_vec(), harms, calls: Vec::new(), jobs: 4, sample }
}

fn named(name: &str) -> Subject {
    Subject::all().into_iter().find(|subject| subject.name == name).expect("a network that is known")
}

fn no_strace() -> bool {
    let missing = Command::new("strace").arg("-V").output().is_err();
    if missing {
        println!("skipped: no strace here (Debian's package strace)");
    }
    missing
}

#[test]
fn whoever_is_killed_or_whatever_call_fails_nothing_is_left_and_no_address_is_lost() {
    if no_strace() {
        return;
    }
    let networks = command::networks_in(&[bin_dir()]);
    let sample = Sample { count: SAMPLE, seed: seed() };
    let report =
        crash::run(&options(vec![bin_dir()], networks, Harm::ALL.to_vec(), Some(sample)), &|_, _, _| ()).unwrap();
    println!("{report}");
    assert_eq!(report.failures().count(), 0, "{report}");
    assert!(report.hits() > SAMPLE * 3 / 5, "{report}");
}

/// Where a fault was found once, whatever the sample is: these calls fail, each of them.
#[track_caller]
fn every_failure(network: &str, verb: Verb, call: &str) {
    if no_strace() {
        return;
    }
    let options = Options {
        verbs: vec![verb],
        calls: vec![call.to_owned()],
        ..options(vec![bin_dir()], vec![named(network)], vec![Harm::Fail], None)
    };
    let report = crash::run(&options, &|_, _, _| ()).unwrap();
    assert_eq!(report.failures().count(), 0, "{report}");
    assert!(report.hits() > 5, "{report}");
}

#[test]
fn gc_frees_addresses_also_where_the_index_can_not_be_written() {
    every_failure("host-local", Verb::Gc, "pwrite64");
}

#[test]
fn lo_is_down_again_after_an_add_that_failed_and_a_del_that_could_not_look_says_so() {
    every_failure("loopback", Verb::Add, "sendto");
    every_failure("loopback", Verb::Del, "openat");
}

/// The kernel does not filter then what it lists.
#[test]
fn whose_routes_are_removed_does_not_hang_on_a_socket_option() {
    every_failure("routed-veth", Verb::Add, "setsockopt");
}

/// Also masquerade of a plugin that another has wired the Pod for.
#[test]
fn what_a_chained_plugin_added_goes_with_its_add_that_failed() {
    every_failure("bridge-vxlan", Verb::Add, "sendto");
}

/// Between record, alias and elements, of a pair that is there before its addresses and of one that comes after them.
#[test]
fn a_pod_with_a_record_leaves_nothing_wherever_it_is_killed() {
    if no_strace() {
        return;
    }
    let calls = ["write", "rename", "sendto"].map(str::to_owned).to_vec();
    let networks = vec![named("bridge-many"), named("routed-many")];
    let verbs = vec![Verb::Add];
    let options = Options { verbs, calls, ..options(vec![bin_dir()], networks, vec![Harm::Kill], None) };
    let report = crash::run(&options, &|_, _, _| ()).unwrap();
    println!("{report}");
    assert_eq!(report.failures().count(), 0, "{report}");
    assert!(report.hits() > 20, "{report}");
}

#[test]
fn a_store_that_loses_addresses_is_caught() {
    let reference = Path::new(REFERENCE_DIR);
    if no_strace() || !reference.join("host-local").exists() {
        println!("skipped: no reference plugins in {REFERENCE_DIR} (Debian's package containernetworking-plugins)");
        return;
    }
    let options = options(vec![reference.to_owned()], vec![named("host-local")], vec![Harm::Kill], None);
    let stage = crash::scene::Stage::new(&options.networks[0], &options.bin_dirs).unwrap();
    let targets = crash::points::targets(&stage, Verb::Add);
    // Between making the address file and writing it: the reference's known gap.
    let mut points = crash::points::of_target(&stage, 0, Verb::Add, &targets[0], &options.harms, 1).unwrap();
    points.retain(|point| point.call == "write");
    let mut lost = 0;
    for point in &points {
        let scene = crash::scene::Scene::new(&stage, Verb::Add).unwrap();
        let outcome = crash::trial::run(&scene, point).unwrap();
        lost += outcome.faults.iter().filter(|fault| fault.kind == FaultKind::Lost).count();
    }
    assert!(lost > 0, "{} points of the reference's host-local, and nothing lost", points.len());
}
