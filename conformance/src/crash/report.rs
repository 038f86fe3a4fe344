//! What came of all trials, as a table and as the list of what was wrong.

use std::collections::BTreeMap;
use std::fmt;

use crate::crash::Sample;
use crate::crash::points::Target;
use crate::crash::trial::{FaultKind, Outcome};

/// All trials.
#[derive(Debug, Default)]
pub struct Report {
    /// How many points there are.
    pub known: usize,
    /// Which were chosen, if not all.
    pub sample: Option<Sample>,
    /// One for each point tried.
    pub outcomes: Vec<Outcome>,
}

/// One row: a command, a process, a harm.
#[derive(Debug, Default)]
struct Row {
    points: usize,
    hit: usize,
    lost: usize,
    twice: usize,
    left: usize,
    stumbled: usize,
    unclear: usize,
}

impl Report {
    /// The trials after which something was wrong.
    pub fn failures(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().filter(|outcome| !outcome.faults.is_empty())
    }

    /// Points at which something was really killed or failed.
    pub fn hits(&self) -> usize {
        self.outcomes.iter().filter(|outcome| outcome.hit).count()
    }

    fn rows(&self) -> BTreeMap<(String, String), Row> {
        let mut rows: BTreeMap<_, Row> = BTreeMap::new();
        for outcome in &self.outcomes {
            let point = &outcome.point;
            let target = match point.target {
                Target::Plugin => "plugin",
                Target::Delegate => "delegate",
            };
            let row =
                rows.entry((point.harm.name().to_owned(), format!("{} {target}", point.verb.name()))).or_default();
            row.add(outcome);
        }
        rows
    }
}

impl Row {
    fn add(&mut self, outcome: &Outcome) {
        let has = |kinds: &[FaultKind]| usize::from(outcome.faults.iter().any(|fault| kinds.contains(&fault.kind)));
        self.points += 1;
        self.hit += usize::from(outcome.hit);
        self.lost += has(&[FaultKind::Lost]);
        self.twice += has(&[FaultKind::Twice]);
        self.left += has(&[FaultKind::Left, FaultKind::Gone]);
        self.stumbled += has(&[FaultKind::Stumbled]);
        self.unclear += has(&[FaultKind::Unclear]);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for outcome in self.failures() {
            writeln!(f, "{}", outcome.point)?;
            for fault in &outcome.faults {
                writeln!(f, "    {}", fault.words)?;
            }
        }
        writeln!(
            f,
            "{:8} {:19} {:>6} {:>6} {:>6} {:>6} {:>6} {:>9} {:>8}",
            "harm", "during", "points", "hit", "lost", "twice", "left", "stumbled", "unclear"
        )?;
        for ((harm, during), row) in self.rows() {
            writeln!(
                f,
                "{harm:8} {during:19} {:>6} {:>6} {:>6} {:>6} {:>6} {:>9} {:>8}",
                row.points, row.hit, row.lost, row.twice, row.left, row.stumbled, row.unclear
            )?;
        }
        match self.sample {
            Some(sample) => {
                write!(f, "{} of {} points, by sample number {}", self.outcomes.len(), self.known, sample.seed)
            }
            None => write!(f, "all {} points", self.known),
        }
    }
}
