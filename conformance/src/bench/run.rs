//! A workload over both sets and the floor, in turn.

use std::collections::BTreeMap;
use std::path::Path;

use super::Set;
use super::floor;
use super::host_local;
use super::map;
use super::report::{Row, Stats};
use super::series::{Node, Round, Verb};
use super::workload::{Floor, Workload};
use crate::lab::{Netns, leave};

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
    let mut floors: BTreeMap<Verb, Vec<Round>> = BTreeMap::new();
    let mut outcomes: [Outcome; 2] = [Ok(BTreeMap::new()), Ok(BTreeMap::new())];
    for _ in 0..rounds {
        for (node, outcome) in nodes.iter().zip(&mut outcomes) {
            one_round(node, workload, &pods, outcome);
        }
        for (verb, round) in one_floor(&ground, workload, &pods)? {
            floors.entry(verb).or_default().push(round);
        }
    }
    let peaks: Vec<_> = nodes.iter().map(|node| node.peaks(workload, &pods[0]).unwrap_or_default()).collect();
    Ok(rows(workload, &outcomes, &peaks, &floors))
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
            leave::hold();
            eprintln!("{} is not measured: {why}", workload.name);
            *outcome = Err(why);
        }
    }
}

fn one_floor(ground: &floor::Floor, workload: &Workload, pods: &[Netns]) -> Result<Vec<(Verb, Round)>, String> {
    Ok(match workload.floor {
        Some(Floor::Wire(families)) => ground.round(pods, families, workload.parallel)?.into(),
        Some(Floor::Execution) => {
            let round = ground.executions(pods.len().max(20))?;
            vec![(Verb::Add, round.clone()), (Verb::Del, round)]
        }
        None => Vec::new(),
    })
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
        (format!("{whole}: {name}"), Round { samples, elapsed })
    };
    workload.windows.iter().map(part).collect()
}

fn rows(
    workload: &Workload,
    outcomes: &[Outcome; 2],
    peaks: &[Vec<(Verb, u64)>],
    floors: &BTreeMap<Verb, Vec<Round>>,
) -> Vec<Row> {
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
        let floor = floors.get(&verb).map(|rounds| Stats::of(rounds, 0));
        Row { sets: [stats(0), stats(1)], workload: name.clone(), verb, parallel: workload.parallel, floor }
    };
    keys.into_iter().map(row).collect()
}
