//! What the tests of the conformance suite share: a run, and what it found broken.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use conformance::suite::clause::{Kind, Level, Verdict};
use conformance::suite::config::Network;
use conformance::suite::runner::{self, Options, Run};
use libcni::Version;
use serde::{Deserialize, Serialize};

/// The clauses that a run found broken, sorted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Broken {
    /// Of level must.
    #[serde(default)]
    pub must: Vec<String>,
    /// Of level should.
    #[serde(default)]
    pub should: Vec<String>,
    /// Of either level, broken in some runs only: a race. Recorded by hand.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sometimes: Vec<String>,
    /// Of level may: what the plugin leaves out. Not recorded.
    #[serde(skip)]
    pub may: Vec<String>,
}

/// A run of the suite over one configuration. No versions: the configuration's; no clauses: all.
pub fn run(config: &Path, bin_dirs: &[PathBuf], versions: &[Version], kind: Option<Kind>, only: Vec<String>) -> Run {
    let network = Network::load(config, None).unwrap();
    let options = Options {
        label: network.title(),
        network,
        bin_dirs: bin_dirs.to_vec(),
        versions: versions.to_vec(),
        kind,
        setup: None,
        only,
        skip: Vec::new(),
        jobs: 4,
    };
    runner::run(&options, &|_, _, _| {}).unwrap_or_else(|error| panic!("{}: {error}", config.display()))
}

/// What is broken in any version; `Err` says about which clause the suite could not find out.
pub fn broken(run: &Run) -> Result<Broken, String> {
    let mut broken = Broken::default();
    for outcome in &run.outcomes {
        match (&outcome.verdict, outcome.level) {
            (Verdict::Error { reason }, _) => {
                return Err(format!("{} in {}: {reason}", outcome.clause, outcome.version));
            }
            (Verdict::Failed { .. }, Level::Must) => broken.must.push(outcome.clause.clone()),
            (Verdict::Failed { .. }, Level::Should) => broken.should.push(outcome.clause.clone()),
            (Verdict::Failed { .. }, Level::May) => broken.may.push(outcome.clause.clone()),
            _ => {}
        }
    }
    for list in [&mut broken.must, &mut broken.should, &mut broken.may] {
        list.sort();
        list.dedup();
    }
    Ok(broken)
}

/// Everything that is told of what is broken.
#[allow(dead_code, reason = "not every test of the suite needs it")]
pub fn details(run: &Run) -> String {
    let failed = run.outcomes.iter().filter(|outcome| outcome.level != Level::May);
    let failed = failed.filter_map(|outcome| match &outcome.verdict {
        Verdict::Failed { expected, got, .. } => Some(format!(
            "{} {} in {}: expected {expected}; got {got}",
            outcome.level.as_str(),
            outcome.clause,
            outcome.version
        )),
        _ => None,
    });
    failed.collect::<Vec<_>>().join("\n")
}

/// The recorded results of a directory of configurations: by file name.
#[allow(dead_code, reason = "not every test of the suite needs it")]
pub fn recorded(name: &str) -> BTreeMap<String, Broken> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recorded").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A directory of configurations of this crate.
#[allow(dead_code, reason = "not every test of the suite needs it")]
pub fn configs(name: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("configs").join(name);
    let mut configs: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    configs.sort();
    configs
}

/// Runs some configurations, and compares what is broken with what was recorded.
#[allow(dead_code, reason = "not every test of the suite needs it")]
pub fn holds(configs: Vec<PathBuf>, bin_dirs: &[PathBuf], record: &str) {
    let recorded = recorded(record);
    let runs = over_all(configs, |config| run(config, bin_dirs, &[], None, Vec::new()));
    let mut found = BTreeMap::new();
    let mut differences = Vec::new();
    for (config, run) in runs {
        let name = config.file_name().unwrap().to_string_lossy().into_owned();
        let mut broken = broken(&run).unwrap_or_else(|reason| panic!("{name}: {reason}"));
        let expected = recorded.get(&name).cloned().unwrap_or_default();
        broken.sometimes.clone_from(&expected.sometimes);
        for list in [&mut broken.must, &mut broken.should] {
            list.retain(|id| !expected.sometimes.contains(id));
        }
        broken.may.clear();
        if expected != broken {
            differences.push(format!("{name}: recorded {expected:?}\nfound {broken:?}\n{}", details(&run)));
        }
        found.insert(name, broken);
    }
    let found = serde_json::to_string_pretty(&found).unwrap();
    assert!(differences.is_empty(), "{}\n\ntests/recorded/{record} as found:\n{found}", differences.join("\n\n"));
}

/// Does `job` for each configuration, two at a time; in the order of the configurations.
#[allow(dead_code, reason = "not every test of the suite needs it")]
pub fn over_all(configs: Vec<PathBuf>, job: impl Fn(&Path) -> Run + Sync) -> Vec<(PathBuf, Run)> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let one_after_another = || {
        let mut done = Vec::new();
        while let Some(config) = configs.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            done.push((config.clone(), job(config)));
        }
        done
    };
    let mut done = std::thread::scope(|scope| {
        let other = scope.spawn(one_after_another);
        let mut done = one_after_another();
        done.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        done
    });
    done.sort_by(|one, other| one.0.cmp(&other.0));
    done
}
