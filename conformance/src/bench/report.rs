//! The numbers: rows of statistics, as a table for people and as JSON for programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::Set;
use super::series::{Round, Verb};
use super::wires::Wire;

/// What one set took for one verb of one workload.
#[derive(Clone, Debug)]
pub struct Stats {
    /// How many executions were measured.
    pub samples: usize,
    /// The time that half of them stayed below.
    pub p50: Duration,
    /// The time that 99 of 100 stayed below.
    pub p99: Duration,
    /// Operations a second, from the first start to the last end.
    pub per_second: f64,
    /// CPU time of one, on average.
    pub cpu: Duration,
    /// The peak of one process's memory, in KiB; 0 if it was not weighed.
    pub peak_kib: u64,
}

impl Stats {
    /// Over all rounds; there is at least one sample.
    pub fn of(rounds: &[Round], peak_kib: u64) -> Self {
        let mut walls: Vec<_> = rounds.iter().flat_map(|round| &round.samples).map(|sample| sample.wall).collect();
        walls.sort();
        let cpu: Duration = rounds.iter().flat_map(|round| &round.samples).map(|sample| sample.cpu).sum();
        let elapsed: Duration = rounds.iter().map(|round| round.elapsed).sum();
        Stats {
            samples: walls.len(),
            p50: percentile(&walls, 50),
            p99: percentile(&walls, 99),
            per_second: walls.len() as f64 / elapsed.as_secs_f64(),
            cpu: cpu / walls.len() as u32,
            peak_kib,
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "samples": self.samples,
            "p50_ms": ms(self.p50),
            "p99_ms": ms(self.p99),
            "per_second": self.per_second,
            "cpu_ms": ms(self.cpu),
            "peak_kib": self.peak_kib,
        })
    }
}

/// The nearest-rank percentile of sorted times.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100).saturating_sub(1)]
}

/// One verb of one workload.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which workload.
    pub workload: String,
    /// Which verb.
    pub verb: Verb,
    /// How many at a time.
    pub parallel: usize,
    /// What each set took, or why there is nothing.
    pub sets: [Result<Stats, String>; 2],
    /// What it would take if nothing but the kernel took any time.
    pub floor: Option<Stats>,
}

impl Row {
    /// How many times faster the first set is.
    pub fn ratio(&self) -> Option<f64> {
        let [Ok(a), Ok(b)] = &self.sets else { return None };
        Some(self.times_longer(b, a))
    }

    /// How many times longer the first set takes than the floor.
    pub fn above_floor(&self) -> Option<f64> {
        Some(self.times_longer(self.sets[0].as_ref().ok()?, self.floor.as_ref()?))
    }

    /// By time for one, or by operations a second for many at a time.
    fn times_longer(&self, one: &Stats, other: &Stats) -> f64 {
        match self.parallel {
            1 => one.p50.as_secs_f64() / other.p50.as_secs_f64(),
            _ => other.per_second / one.per_second,
        }
    }

    fn to_json(&self, labels: &[String; 2]) -> Value {
        let mut row = json!({
            "workload": self.workload,
            "verb": self.verb.as_str(),
            "parallel": self.parallel,
            "floor_ms": self.floor.as_ref().map(|floor| ms(floor.p50)),
            "floor_per_second": self.floor.as_ref().map(|floor| floor.per_second),
            "times_faster": self.ratio(),
            "times_the_floor": self.above_floor(),
        });
        for (label, stats) in labels.iter().zip(&self.sets) {
            row[label] = match stats {
                Ok(stats) => stats.to_json(),
                Err(why) => json!({ "not_measured": why }),
            };
        }
        row
    }
}

/// A binary as it is on disk.
#[derive(Clone, Debug)]
pub struct Binary {
    /// Whose.
    pub set: String,
    /// Its name.
    pub name: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// The libraries that the loader has to find for it.
    pub libraries: usize,
}

/// The binaries of a set among `names`.
pub fn binaries(set: &Set, names: &[&str]) -> Vec<Binary> {
    let binary = |name: &&str| {
        let path = set.directory.join(name);
        let bytes = path.metadata().ok()?.len();
        Some(Binary { set: set.label.clone(), name: (*name).to_owned(), bytes, libraries: libraries(&path) })
    };
    names.iter().filter_map(binary).collect()
}

/// `ldd` has a line for each library, and complains of a static binary.
fn libraries(path: &Path) -> usize {
    let output = Command::new("ldd").arg(path).output().ok().filter(|output| output.status.success());
    output.map_or(0, |output| {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().filter(|line| line.contains("=>") || line.contains("/ld-")).count()
    })
}

/// All that one run measured.
#[derive(Clone, Debug)]
pub struct Report {
    /// What the two sets are called.
    pub labels: [String; 2],
    /// Verbs of workloads.
    pub rows: Vec<Row>,
    /// Throughput.
    pub wires: Vec<Wire>,
    /// Sizes.
    pub binaries: Vec<Binary>,
}

impl Report {
    /// For programs.
    pub fn to_json(&self) -> Value {
        json!({
            "sets": self.labels,
            "workloads": self.rows.iter().map(|row| row.to_json(&self.labels)).collect::<Vec<_>>(),
            "wires": self.wires.iter().map(Wire::to_json).collect::<Vec<_>>(),
            "binaries": self.binaries.iter().map(|binary| json!({
                "set": binary.set, "name": binary.name, "bytes": binary.bytes, "libraries": binary.libraries,
            })).collect::<Vec<_>>(),
        })
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        let [a, b] = &self.labels;
        let _ = writeln!(
            text,
            "{:<34} {:<5} {:>8} {:>8} {:>7} {:>7} {:>6} {:>6} | {:>8} {:>8} {:>7} {:>7} {:>6} {:>6} | {:>7} {:>7} {:>7}",
            "workload",
            "verb",
            "p50 ms",
            "p99 ms",
            "op/s",
            "cpu ms",
            "KiB",
            "n",
            "p50 ms",
            "p99 ms",
            "op/s",
            "cpu ms",
            "KiB",
            "n",
            "faster",
            "floor",
            "×floor",
        );
        let _ = writeln!(text, "{:<40} {a:<47} | {b}", "");
        for row in &self.rows {
            let [left, right] = &row.sets.each_ref().map(cells);
            let number = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2}"));
            let floor = number(row.floor.as_ref().map(|floor| ms(floor.p50)));
            let (ratio, above) = (number(row.ratio()), number(row.above_floor()));
            let verb = row.verb.as_str();
            let _ =
                writeln!(text, "{:<34} {verb:<5} {left} | {right} | {ratio:>7} {floor:>7} {above:>7}", row.workload);
        }
        for (why, workloads) in self.not_measured() {
            let _ = writeln!(text, "not measured: {}\n  {why}", workloads.join("; "));
        }
        self.wires.iter().for_each(|wire| text.push_str(&wire.to_text()));
        for binary in &self.binaries {
            let mib = binary.bytes as f64 / f64::from(1 << 20);
            let _ = writeln!(text, "{} {}: {mib:.2} MiB, {} libraries", binary.set, binary.name, binary.libraries);
        }
        text
    }

    /// Why something was not measured, in one line, and of which workloads that holds.
    fn not_measured(&self) -> BTreeMap<String, Vec<&str>> {
        let mut reasons: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for row in &self.rows {
            for (label, stats) in self.labels.iter().zip(&row.sets) {
                let Err(why) = stats else { continue };
                let words: Vec<_> = why.split_whitespace().collect();
                let workloads = reasons.entry(format!("{label}: {}", words.join(" "))).or_default();
                if !workloads.contains(&row.workload.as_str()) {
                    workloads.push(&row.workload);
                }
            }
        }
        reasons
    }
}

fn cells(stats: &Result<Stats, String>) -> String {
    match stats {
        Ok(stats) => format!(
            "{:>8.2} {:>8.2} {:>7.1} {:>7.2} {:>6} {:>6}",
            ms(stats.p50),
            ms(stats.p99),
            stats.per_second,
            ms(stats.cpu),
            stats.peak_kib,
            stats.samples
        ),
        Err(_) => format!("{:>47}", "-"),
    }
}

/// Milliseconds.
pub fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::measure::Sample;

    #[test]
    fn percentiles_are_of_the_samples_not_between_them() {
        let samples = (1..=200).map(|ms| Sample { wall: Duration::from_millis(ms), cpu: Duration::from_millis(2) });
        let round = Round { samples: samples.collect(), elapsed: Duration::from_secs(2) };
        let stats = Stats::of(&[round], 0);
        assert_eq!((stats.p50.as_millis(), stats.p99.as_millis(), stats.per_second), (100, 198, 100.0));
        assert_eq!(percentile(&[Duration::from_secs(1)], 99), Duration::from_secs(1));
    }
}
