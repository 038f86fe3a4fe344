//! A workload over both sets and the floor, in turn.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::Set;
use super::floor;
use super::host_local;
use super::map;
use super::report::{Row, Stats};
use super::series::{Node, Round, Verb};
use super::workload::{Floor, Workload};
use crate::lab::Netns;

/// What the rounds of one set gave, or why they gave nothing.
type Outcome = Result<BTreeMap<(String, Verb), Vec<Round>>, String>;

/// Runs `workload` with each set `rounds` times, in turn, and the floor beside; one row for each verb.
pub fn run(workload: &Workload, sets: &[Set; 2], rounds: usize, empty: &Path) -> Result<Vec<Row>, String> {
    let pods: Vec<Netns> = (0..workload.pods).map(|_| Netns::new("pod")).collect();
    let mut nodes = Vec::new();
    for set in sets {
        let node = Node::new(set)?;
        if let Some(taken) = workload.reserved {
            host_local::fill(&node.data_dir(), taken)?;
        }
        if let Some(count) = workload.map {
            map::prepare(&node, count)?;
        }
        nodes.push(node);
    }
    let ground = floor::Floor::new(empty.to_owned())?;
    let mut times = floor::Times::default();
    let mut outcomes: [Outcome; 2] = [Ok(BTreeMap::new()), Ok(BTreeMap::new())];
    for _ in 0..rounds {
        for (node, outcome) in nodes.iter().zip(&mut outcomes) {
            one_round(node, workload, &pods, outcome);
        }
        if let Some(Floor::Wire(families)) = workload.floor {
            ground.round(&pods, families, &mut times)?;
        } else if workload.floor.is_some() {
            ground.executions(pods.len().max(20), &mut times)?;
        }
    }
    let peaks: Vec<_> = nodes.iter().map(|node| node.peaks(workload, &pods[0]).unwrap_or_default()).collect();
    Ok(rows(workload, &outcomes, &peaks, &times))
}

/// A set that failed once is not asked again: its Pods may be half wired.
fn one_round(node: &Node, workload: &Workload, pods: &[Netns], outcome: &mut Outcome) {
    let Ok(so_far) = outcome else { return };
    match node.round(workload, pods) {
        Ok(verbs) => {
            for (verb, round) in verbs {
                for (name, part) in windows(workload, verb, round) {
                    so_far.entry((name, verb)).or_default().push(part);
                }
            }
        }
        Err(why) => {
            eprintln!("{} is not measured: {why}", workload.name);
            *outcome = Err(why);
        }
    }
}

/// A round as the report shows it: whole, or for an ADD the Pods that the workload wants to see.
fn windows(workload: &Workload, verb: Verb, round: Round) -> Vec<(String, Round)> {
    let whole = workload.name.clone();
    if verb != Verb::Add || workload.windows.is_empty() {
        return vec![(whole, round)];
    }
    let part = |(name, range): &(String, std::ops::Range<usize>)| {
        let samples = round.samples[range.clone()].to_vec();
        let elapsed = samples.iter().map(|sample| sample.wall).sum();
        (format!("{whole}: {name}"), Round { samples, elapsed, peak_kib: 0 })
    };
    workload.windows.iter().map(part).collect()
}

fn rows(workload: &Workload, outcomes: &[Outcome; 2], peaks: &[Vec<(Verb, u64)>], times: &floor::Times) -> Vec<Row> {
    let mut keys: Vec<_> = outcomes.iter().flatten().flat_map(|rounds| rounds.keys().cloned()).collect();
    keys.sort();
    keys.dedup();
    let row = |(name, verb): (String, Verb)| {
        let stats = |at: usize| {
            let peak = peaks[at].iter().find(|(of, _)| *of == verb).map_or(0, |(_, kib)| *kib);
            let rounds = outcomes[at].as_ref().map_err(Clone::clone)?;
            let rounds = rounds.get(&(name.clone(), verb)).ok_or("not measured")?;
            Ok(Stats::of(rounds, peak))
        };
        let floor = floor_of(workload, verb, times);
        Row { sets: [stats(0), stats(1)], workload: name.clone(), verb, parallel: workload.parallel, floor }
    };
    keys.into_iter().map(row).collect()
}

fn floor_of(workload: &Workload, verb: Verb, times: &floor::Times) -> Option<Duration> {
    let execution = median(&times.execution)?;
    match (workload.floor?, verb) {
        (Floor::Wire(_), Verb::Add) => Some(median(&times.add)? + 2 * execution),
        (Floor::Wire(_), Verb::Del) => Some(median(&times.del)? + 2 * execution),
        (Floor::Execution, Verb::Add | Verb::Del) => Some(execution),
        _ => None,
    }
}

fn median(times: &[Duration]) -> Option<Duration> {
    let mut times = times.to_vec();
    times.sort();
    times.get(times.len() / 2).copied()
}
