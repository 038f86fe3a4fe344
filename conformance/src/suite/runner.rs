//! Runs the trials: each in a worker process, some at the same time.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use libcni::Version;

use super::clause::{Clause, Kind, Level, Stop, Trial, Verdict};
use super::config::Network;
use super::probe::Probe;
use super::trials;
use super::world::{Job, World};

/// What a run is asked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// What is under test.
    pub network: Network,
    /// Where the plugins are.
    pub bin_dirs: Vec<PathBuf>,
    /// In which versions; empty: the configuration's newest, or the newest that the plugin claims.
    pub versions: Vec<Version>,
    /// As what; `None`: as what it looks like.
    pub kind: Option<Kind>,
    /// Prepares each node.
    pub setup: Option<String>,
    /// These clauses only, by ID or by the beginning of it (`check.`); empty: all.
    pub only: Vec<String>,
    /// All but these.
    pub skip: Vec<String>,
    /// How many trials at the same time.
    pub jobs: usize,
    /// A name for the report.
    pub label: String,
}

/// One clause in one version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// The version.
    pub version: Version,
    /// The clause's ID.
    pub clause: String,
    /// Its level.
    pub level: Level,
    /// Its section.
    pub section: String,
    /// Its sentence.
    pub sentence: String,
    /// What was found out.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// A run of the suite.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Run {
    /// What was under test, for people.
    pub subject: String,
    /// As what.
    pub kind: Kind,
    /// What it claims.
    pub claims: Vec<Version>,
    /// In which versions it was tested.
    pub versions: Vec<Version>,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// Every clause in every version.
    pub outcomes: Vec<Outcome>,
}

impl Run {
    /// How many outcomes are of this level and fulfil a condition.
    pub fn count(&self, level: Level, is: impl Fn(&Verdict) -> bool) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.level == level && is(&outcome.verdict)).count()
    }

    /// Is there a clause about which the suite could not find out?
    pub fn has_errors(&self) -> bool {
        self.outcomes.iter().any(|outcome| matches!(outcome.verdict, Verdict::Error { .. }))
    }
}

/// Tells how far it is: clauses done, of how many, and the trial that has just ended.
pub type Progress<'a> = &'a (dyn Fn(usize, usize, &str) + Sync);

/// Runs the suite.
pub fn run(options: &Options, progress: Progress) -> Result<Run, String> {
    let started = std::time::Instant::now();
    let (probe, versions) = look(options)?;
    let kind = options.kind.unwrap_or(probe.kind);
    let claims = probe.claims.clone().unwrap_or_default();

    let mut work = Vec::new();
    let mut outcomes = Vec::new();
    for &version in &versions {
        for trial in trials::trials() {
            let (apply, rest) = sort_out(options, trial, kind, version, &claims);
            outcomes.extend(rest);
            if !apply.is_empty() {
                work.push((version, trial, apply));
            }
        }
    }
    let base = Job {
        network: options.network.clone(),
        version: versions[0],
        kind,
        claims: claims.clone(),
        bin_dirs: options.bin_dirs.clone(),
        setup: options.setup.clone(),
        hangs: probe.hangs,
        trial: None,
    };
    outcomes.extend(run_side_by_side(options.jobs, &base, &work, progress));
    let order: BTreeMap<&str, usize> =
        trials::clauses().enumerate().map(|(index, clause)| (clause.id, index)).collect();
    outcomes.sort_by_key(|outcome| (order.get(outcome.clause.as_str()).copied(), outcome.version));
    Ok(Run {
        subject: options.label.clone(),
        kind,
        claims,
        versions,
        milliseconds: started.elapsed().as_millis() as u64,
        outcomes,
    })
}

/// The clauses of a trial to be tested, and the outcomes of those that are not.
fn sort_out(
    options: &Options,
    trial: &Trial,
    kind: Kind,
    version: Version,
    claims: &[Version],
) -> (Vec<&'static Clause>, Vec<Outcome>) {
    let network = &options.network;
    let delegate = (network.first..network.plugins.len()).find_map(|index| network.delegate(index));
    let (mut apply, mut rest) = (Vec::new(), Vec::new());
    for clause in trial.clauses {
        let named = |list: &[String]| {
            list.iter()
                .any(|name| clause.id == name || clause.id.starts_with(&format!("{}.", name.trim_end_matches('.'))))
        };
        if (!options.only.is_empty() && !named(&options.only)) || named(&options.skip) {
            continue;
        }
        let unclaimed = unclaimed(network, trial, version, claims).or_else(|| chainless(kind, trial, version));
        match unclaimed.or_else(|| clause.does_not_apply(kind, version, delegate)) {
            Some(reason) => rest.push(outcome(clause, version, Verdict::Skipped { reason })),
            None => apply.push(clause),
        }
    }
    (apply, rest)
}

/// Why nothing is to be said in a version, if so. Whether VERSION answers at all is said in any case.
fn unclaimed(network: &Network, trial: &Trial, version: Version, claims: &[Version]) -> Option<String> {
    let (whom, each) = if network.is_chain() { ("the plugins", " of each plugin") } else { ("the plugin", "") };
    match claims {
        [] if trial.name == trials::version::NAME => None,
        [] => Some(format!("VERSION{each} has to tell what is claimed, and does not (see version.answers)")),
        _ => (!claims.contains(&version))
            .then(|| format!("{whom} do{} not claim {version}", if each.is_empty() { "es" } else { "" })),
    }
}

/// Nothing is chained before there is a `prevResult`.
fn chainless(kind: Kind, trial: &Trial, version: Version) -> Option<String> {
    let chained = matches!(kind, Kind::Chained | Kind::Chain) && trial.name != trials::version::NAME;
    (chained && version < Version::V0_3_0)
        .then(|| format!("{version} has no prevResult to chain plugins by: 0.3.0 brought it"))
}

fn outcome(clause: &Clause, version: Version, verdict: Verdict) -> Outcome {
    Outcome {
        version,
        clause: clause.id.to_owned(),
        level: clause.level,
        section: clause.section.to_owned(),
        sentence: clause.sentence.to_owned(),
        verdict,
    }
}

type Work = (Version, &'static Trial, Vec<&'static Clause>);

fn run_side_by_side(jobs: usize, base: &Job, work: &[Work], progress: Progress) -> Vec<Outcome> {
    let all: usize = work.iter().map(|(_, _, clauses)| clauses.len()).sum();
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let outcomes = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while let Some((version, trial, clauses)) = work.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let job = Job { version: *version, trial: Some(trial.name.to_owned()), ..base.clone() };
                    let found: Result<BTreeMap<String, Verdict>, String> = work_on(&job);
                    let verdict = |clause: &Clause| match &found {
                        Ok(found) => found.get(clause.id).cloned().unwrap_or_else(|| Verdict::Error {
                            reason: format!("the trial {:?} has no verdict on it", trial.name),
                        }),
                        Err(reason) => Verdict::Error { reason: reason.clone() },
                    };
                    let new = clauses.iter().map(|clause| outcome(clause, *version, verdict(clause)));
                    outcomes.lock().expect("no panic while collecting").extend(new);
                    let done = done.fetch_add(clauses.len(), Ordering::Relaxed) + clauses.len();
                    progress(done, all, trial.name);
                }
            });
        }
    });
    outcomes.into_inner().expect("no panic while collecting")
}

/// Looks at the plugin, and settles the versions.
fn look(options: &Options) -> Result<(Probe, Vec<Version>), String> {
    let network = &options.network;
    let wanted = options.versions.last().or(network.versions.last()).copied().unwrap_or(Version::LATEST);
    let job = |version| Job {
        network: network.clone(),
        version,
        kind: Kind::Interface,
        claims: vec![version],
        bin_dirs: options.bin_dirs.clone(),
        setup: options.setup.clone(),
        hangs: false,
        trial: None,
    };
    let probe: Probe = work_on(&job(wanted))?;
    let claimed = |version: &Version| probe.claims.as_ref().is_none_or(|claims| claims.contains(version));
    let newest = probe.claims.as_ref().and_then(|claims| claims.last()).copied().unwrap_or(wanted);
    let mut asked = options.versions.clone();
    asked.sort();
    asked.dedup();
    let versions = match asked.is_empty() {
        false => asked,
        true if claimed(&wanted) => vec![wanted],
        true => vec![newest],
    };
    // What it does with an ADD is asked in a version that it claims.
    let speaks = versions.iter().copied().rfind(|version| claimed(version)).unwrap_or(newest);
    let probe = if speaks == wanted { probe } else { Probe { kind: work_on::<Probe>(&job(speaks))?.kind, ..probe } };
    Ok((probe, versions))
}

/// Has a worker process do one job.
fn work_on<T: DeserializeOwned>(job: &Job) -> Result<T, String> {
    let work = || -> std::io::Result<_> {
        let mut child = Command::new(worker_program()?)
            .arg("worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let input = serde_json::to_vec(job)?;
        child.stdin.take().expect("piped above").write_all(&input)?;
        child.wait_with_output()
    };
    let output = work().map_err(|error| format!("a worker process: {error}"))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        // Its own words, if it ended by itself.
        return Err(match words.trim().strip_prefix("cni-conformance: ") {
            Some(words) => words.to_owned(),
            None => format!("a worker process: {}: {}", output.status, words.trim()),
        });
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("a worker's answer: {error}"))
}

/// `cni-conformance`: this program, or its neighbor when a test runs the suite.
fn worker_program() -> std::io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    if own.file_name().is_some_and(|name| name == "cni-conformance") {
        return Ok(own);
    }
    let beside = |directory: &Path| Some(directory.join("cni-conformance")).filter(|path| path.is_file());
    let found = own.ancestors().skip(1).take(2).find_map(beside);
    found.ok_or_else(|| std::io::Error::other(format!("no cni-conformance beside {}", own.display())))
}

/// A worker's whole life: a job on stdin, its answer on stdout.
pub fn worker() -> Result<String, String> {
    let job: Job = serde_json::from_reader(std::io::stdin().lock()).map_err(|error| format!("the job: {error}"))?;
    let Some(name) = job.trial.clone() else {
        let world = World::enter(job)?;
        let look = || -> Result<Probe, Stop> {
            let (claims, kind) = (super::probe::claims(&world)?, super::probe::kind(&world)?);
            Ok(Probe { claims, kind, hangs: world.patience() != super::exec::PATIENCE })
        };
        let probe = look().map_err(|stop| match stop {
            Stop::Unmet(reason) | Stop::Suite(reason) => reason,
        })?;
        return serde_json::to_string(&probe).map_err(|error| error.to_string());
    };
    let trial = trials::trials().find(|trial| trial.name == name).ok_or_else(|| format!("no trial {name:?}"))?;
    let world = World::enter(job)?;
    let ended = (trial.run)(&world);
    let mut found = world.into_findings();
    for clause in trial.clauses {
        let missing = match &ended {
            Ok(()) => continue,
            Err(Stop::Unmet(reason)) => Verdict::Skipped { reason: reason.clone() },
            Err(Stop::Suite(reason)) => Verdict::Error { reason: reason.clone() },
        };
        found.entry(clause.id).or_insert(missing);
    }
    if let Some(stranger) = found.keys().find(|id| !trial.clauses.iter().any(|clause| clause.id == **id)) {
        return Err(format!("the trial {name:?} has a verdict on {stranger}, which is not its own"));
    }
    serde_json::to_string(&found).map_err(|error| error.to_string())
}
