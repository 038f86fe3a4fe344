//! What if it dies here? Kills a plugin, or fails its calls, at every system call it makes.
//!
//! strace does both: `inject=NAME:signal=SIGKILL:when=K` ends a process as it makes its K-th call of that name, and
//! `error=ENOSPC` in place of the signal lets that call fail. It counts each name by itself and each traced process by
//! itself, so one run is traced first ([`points`]), and then every (name, K) is tried, in the plugin and in its delegate
//! apart. A point counts only if something was really killed, or a call really failed.
//!
//! After each, a runtime's next steps follow at once: DEL, then ADD and DEL again ([`trial`]). They must succeed, and the node must be
//! as it was ([`scene`]): no link, address, route, neighbor, nftables rule or address file more or less, and the
//! addresses of a Pod that lives beside it untouched.
//!
//! A plugin is an executable here, ours like anybody's.

pub mod command;
pub mod points;
pub mod report;
pub mod scene;
pub mod trial;

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use points::Point;
use report::Report;
use scene::Scene;
use trial::Verb;

/// What is to be tried.
#[derive(Clone, Debug)]
pub struct Options {
    /// CNI_PATH: where the plugin and its delegate are.
    pub bin_dirs: Vec<PathBuf>,
    /// The plugin's configuration. A `dataDir` of its IPAM section is replaced by a temporary one.
    pub config: Value,
    /// During which commands.
    pub verbs: Vec<Verb>,
    /// In which ways.
    pub harms: Vec<Harm>,
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

/// Tries every point (or a sample), and reports.
pub fn run(options: &Options) -> Report {
    let mut points = Vec::new();
    for &verb in &options.verbs {
        if trial::speaks(&options.config, verb) {
            points.extend(points::of_verb(options, verb));
        }
    }
    let mut report = Report { known: points.len(), ..Report::default() };
    if let Some(sample) = options.sample {
        points = chosen(points, sample);
        report.sample = Some(sample);
    }
    let next = AtomicUsize::new(0);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| worker(options, &points, &next, &results));
        }
    });
    let mut outcomes = results.into_inner().expect("no worker panicked");
    outcomes.sort_by_key(|(index, _)| *index);
    report.outcomes = outcomes.into_iter().map(|(_, outcome)| outcome).collect();
    report
}

fn worker(options: &Options, points: &[Point], next: &AtomicUsize, results: &Mutex<Vec<(usize, trial::Outcome)>>) {
    let mut scene: Option<Scene> = None;
    loop {
        let index = next.fetch_add(1, Ordering::Relaxed);
        let Some(point) = points.get(index) else { return };
        // A node that a trial left unclean, or that knows networks when it should not, is no place for the next one.
        let fit = scene.take().filter(|scene| scene.is_fit_for(point.verb));
        let mut here = fit.unwrap_or_else(|| Scene::new(options, point.verb));
        let outcome = trial::run(&mut here, point);
        if outcome.faults.is_empty() {
            scene = Some(here);
        }
        results.lock().expect("no worker panicked").push((index, outcome));
    }
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

/// The configuration that is tried where none is given: dual-stack Pods on a bridge, masqueraded.
pub fn default_config() -> Value {
    serde_json::json!({
        "cniVersion": "1.1.0", "name": "crash", "type": "bridge", "bridge": "crash0",
        "isDefaultGateway": true, "ipMasq": true, "macspoofchk": true,
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.222.0.0/29" }], [{ "subnet": "fd00:de::/125" }]] }
    })
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
