//! podwire's plugins in the suite: alone and chained onto each other, every must and every should is kept, but for what
//! is recorded (docs/src/conformance/results.md says why). In a chain with Debian's plugins, what those break by themselves is recorded, and
//! nothing else is broken.

mod suite;

use std::path::{Path, PathBuf};

use conformance::lab::{REFERENCE_DIR, bin_dir};
use libcni::Version;
use suite::{Broken, broken, details};

#[test]
fn alone_and_together_every_must_and_every_should_is_kept() {
    kept(|config| match config.file_stem().and_then(|stem| stem.to_str()) {
        Some("bridge" | "host-local") => vec![Version::V0_3_1, Version::V1_0_0, Version::V1_1_0],
        _ => vec![Version::V1_1_0],
    });
}

#[test]
#[ignore = "takes minutes: every configuration in every version"]
fn alone_and_together_every_must_and_every_should_is_kept_in_every_version() {
    kept(|_| Version::ALL.to_vec());
}

fn kept(versions: impl Fn(&Path) -> Vec<Version> + Sync) {
    let runs = suite::over_all(suite::configs("podwire"), |config| {
        suite::run(config, &[bin_dir()], &versions(config), None, Vec::new())
    });
    let recorded = suite::recorded("podwire.json");
    for (config, run) in runs {
        let found = broken(&run).map(|found| Broken { may: Vec::new(), ..found });
        let name = config.file_name().unwrap().to_string_lossy().into_owned();
        let expected = recorded.get(&name).cloned().unwrap_or_default();
        assert_eq!(found, Ok(expected), "{name}:\n{}", details(&run));
        let claimed = run.versions.iter().all(|version| run.claims.contains(version));
        assert!(claimed, "{name} claims only {:?}", run.claims);
    }
}

/// Each wiring of ours, and each of Debian's plugins, in one chain at least.
const CHAINS: [&str; 5] = [
    "bridge-portmap",
    "routed-veth-tuning",
    "bridge-vxlan-overlay-portmap",
    "vxlan-overlay-bandwidth",
    "vxlan-overlay-firewall",
];

#[test]
fn in_chains_nothing_is_broken_but_what_the_other_plugins_break() {
    let chosen = |path: &PathBuf| CHAINS.iter().any(|name| path.file_stem().is_some_and(|stem| stem == *name));
    chained(suite::configs("podwire-chains").into_iter().filter(chosen).collect());
}

#[test]
#[ignore = "takes minutes: every chain"]
fn in_every_chain_nothing_is_broken_but_what_the_other_plugins_break() {
    chained(suite::configs("podwire-chains"));
}

fn chained(configs: Vec<PathBuf>) {
    if !Path::new(REFERENCE_DIR).join("portmap").exists() {
        eprintln!("skipped: {REFERENCE_DIR} has no plugins to chain with: install containernetworking-plugins");
        return;
    }
    suite::holds(configs, &[bin_dir(), Path::new(REFERENCE_DIR).to_owned()], "podwire-chains.json");
}
