//! What if it dies here? Kills a plugin, or fails its calls, at every system call it makes.
//!
//! strace does both: `inject=NAME:signal=SIGKILL:when=K` ends a process as it makes its K-th call of that name, and
//! `error=ENOSPC` in place of the signal lets that call fail. It counts each name by itself and each traced process by
//! itself, so one run is traced first ([`points`]), and then every (name, K) is tried, in the plugin and in its delegate
//! apart. A point counts only if something was really killed, or a call really failed.
//!
//! After each, a runtime's next steps follow at once: DEL, then ADD and DEL again ([`trial`]). They must succeed, and the node must be
//! as it was ([`look`]): no link, address, route, neighbor, nftables rule or address file more or less, and the
//! addresses of a Pod that lives beside it untouched. What a call says when another call failed must be so too: an ADD that fails has
//! undone everything before any DEL, one that succeeds passes CHECK.
//!
//! A plugin is an executable here, ours like anybody's.

pub mod call;
pub mod command;
pub mod look;
pub mod network;
pub mod points;
pub mod report;
pub mod scene;
pub mod strace;
pub mod trial;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use network::Subject;
use points::Point;
use report::Report;
use scene::{Scene, Stage};
use trial::{Outcome, Verb};

/// What is to be tried.
#[derive(Clone, Debug)]
pub struct Options {
    /// CNI_PATH: where the plugins and their delegates are. What the first directory has is harmed.
    pub bin_dirs: Vec<PathBuf>,
    /// The networks. `dataDir` of an IPAM section is replaced by a temporary one.
    pub networks: Vec<Subject>,
    /// During which commands.
    pub verbs: Vec<Verb>,
    /// In which ways.
    pub harms: Vec<Harm>,
    /// At which system calls; none named: at all.
    pub calls: Vec<String>,
    /// So many trials at a time, each on a node of its own.
    pub jobs: usize,
    /// Not every point, but this many, chosen by a number that rotates: the same number, the same points.
    pub sample: Option<Sample>,
}

/// A choice among the points.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// How many at most.
    pub count: usize,
    /// Which: a day's number, say.
    pub seed: u64,
}

/// What is done to a process at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Harm {
    /// It is killed.
    Kill,
    /// The delegate is held there while its parent is killed and the runtime's DEL comes and goes.
    Outlive,
    /// The call fails: no space, too many files, interrupted, a reply lost.
    Fail,
}

impl Harm {
    /// Every one.
    pub const ALL: [Harm; 3] = [Harm::Kill, Harm::Outlive, Harm::Fail];

    /// As a table's row and a command line name it.
    pub fn name(self) -> &'static str {
        match self {
            Harm::Kill => "kill",
            Harm::Outlive => "outlive",
            Harm::Fail => "fail",
        }
    }
}

/// What is told while it runs: how much of how much, and of what.
pub type Progress<'a> = &'a (dyn Fn(usize, usize, &str) + Sync);

/// So many runs are traced to find the points.
const RUNS: usize = 3;

/// Tries every point (or a sample), and reports. An error is a plugin's that does not work unharmed.
pub fn run(options: &Options, progress: Progress<'_>) -> Result<Report, String> {
    let stages: Vec<Stage<'_>> =
        options.networks.iter().map(|subject| Stage::new(subject, &options.bin_dirs)).collect::<Result<_, _>>()?;
    let mut points = every_point(options, &stages, progress)?;
    let known = points.len();
    if let Some(sample) = options.sample {
        points = chosen(points, sample);
    }
    let done = AtomicUsize::new(0);
    let outcomes = in_parallel(options.jobs, &points, |kept: &mut Option<Scene<'_>>, point| {
        let stage = &stages[point.network];
        let outcome = try_point(kept, stage, point);
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, points.len(), &stage.subject.name);
        outcome
    })?;
    let names = options.networks.iter().map(|subject| subject.name.clone()).collect();
    Ok(Report { networks: names, known, sample: options.sample, outcomes })
}

/// The points of all networks, commands and processes.
fn every_point(options: &Options, stages: &[Stage<'_>], progress: Progress<'_>) -> Result<Vec<Point>, String> {
    let mut jobs = Vec::new();
    for (network, stage) in stages.iter().enumerate() {
        for &verb in &options.verbs {
            jobs.extend(points::targets(stage, verb).into_iter().map(|target| (network, verb, target)));
        }
    }
    let done = AtomicUsize::new(0);
    let points = in_parallel(options.jobs, &jobs, |(): &mut (), (network, verb, target)| {
        let points = again(|| points::of_target(&stages[*network], *network, *verb, target, &options.harms, RUNS));
        progress(done.fetch_add(1, Ordering::Relaxed) + 1, jobs.len(), "tracing");
        points
    })?;
    let is_wanted = |point: &Point| options.calls.is_empty() || options.calls.contains(&point.call);
    Ok(points.into_iter().flatten().filter(is_wanted).collect())
}

fn try_point<'a>(kept: &mut Option<Scene<'a>>, stage: &'a Stage<'a>, point: &Point) -> Result<Outcome, String> {
    again(|| {
        // A node that a trial left unclean, or that knows networks when it should not, is no place for the next one.
        let scene = match kept.take().filter(|scene| scene.is_fit_for(stage, point.verb)) {
            Some(scene) => scene,
            None => Scene::new(stage, point.verb)?,
        };
        let outcome = trial::run(&scene, point)?;
        *kept = Some(scene).filter(|_| outcome.faults.is_empty());
        Ok(outcome)
    })
}

/// What fails before anything was harmed says nothing about harm, so it is done again; what fails three times does not work.
fn again<T>(mut job: impl FnMut() -> Result<T, String>) -> Result<T, String> {
    job().or_else(|_| job()).or_else(|_| job())
}

/// Does the jobs, so many at a time, each worker with something of its own; what came of them, in order. The first error ends all.
fn in_parallel<J: Sync, O: Default, R: Send>(
    workers: usize,
    jobs: &[J],
    work: impl Fn(&mut O, &J) -> Result<R, String> + Sync,
) -> Result<Vec<R>, String> {
    let (next, failed, results) = (AtomicUsize::new(0), AtomicBool::new(false), Mutex::new(Vec::new()));
    let worker = || {
        let mut own = O::default();
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(job) = jobs.get(index) else { return };
            let result = work(&mut own, job);
            failed.fetch_or(result.is_err(), Ordering::Relaxed);
            results.lock().expect("no worker panicked").push((index, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..workers.max(1) {
            scope.spawn(worker);
        }
    });
    let mut results = results.into_inner().expect("no worker panicked");
    results.sort_by_key(|(index, _)| *index);
    results.into_iter().map(|(_, result)| result).collect()
}

/// Evenly spread over all points, so that every name and command has its share; the seed shifts the comb.
fn chosen(points: Vec<Point>, sample: Sample) -> Vec<Point> {
    if sample.count == 0 || points.len() <= sample.count {
        return points;
    }
    let step = points.len() as f64 / sample.count as f64;
    let shift = (sample.seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 11) as f64 / (1u64 << 53) as f64 * step;
    let picks: Vec<usize> = (0..sample.count).map(|at| (at as f64 * step + shift) as usize).collect();
    points.into_iter().enumerate().filter(|(at, _)| picks.binary_search(at).is_ok()).map(|(_, point)| point).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_its_size_and_another_seed_has_other_points() {
        let all: Vec<Point> = (1..=1000).map(Point::example).collect();
        let pick = |seed| {
            let points = chosen(all.clone(), Sample { count: 40, seed });
            points.iter().map(|point| point.occurrence).collect::<Vec<_>>()
        };
        assert_eq!(pick(1).len(), 40);
        assert_eq!(pick(1), pick(1));
        assert_ne!(pick(1), pick(2));
        let mut covered: Vec<u32> = (0..2000).flat_map(pick).collect();
        covered.sort_unstable();
        covered.dedup();
        assert_eq!(covered.len(), 1000, "in time every point has its turn");
    }
}
