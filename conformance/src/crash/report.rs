//! What came of all trials, as a table and as the list of what was wrong.

use std::collections::BTreeMap;
use std::fmt;

use crate::crash::trial::{FaultKind, Outcome};
use crate::crash::{Harm, Sample};

/// All trials.
#[derive(Debug, Default)]
pub struct Report {
    /// The networks' names.
    pub networks: Vec<String>,
    /// How many points there are.
    pub known: usize,
    /// Which were chosen, if not all.
    pub sample: Option<Sample>,
    /// One for each point tried.
    pub outcomes: Vec<Outcome>,
}

/// One row: a network, a command, a process.
#[derive(Clone, Debug, Default)]
struct Row {
    /// Of each harm: points, and how many of them were reached.
    harms: [(usize, usize); 3],
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

    fn rows(&self) -> Vec<([String; 3], Row)> {
        let mut rows: BTreeMap<_, Row> = BTreeMap::new();
        let mut all = Row::default();
        for outcome in &self.outcomes {
            let point = &outcome.point;
            rows.entry((point.network, point.verb, point.target.clone())).or_default().add(outcome);
            all.add(outcome);
        }
        let named = rows.into_iter().map(|((network, verb, target), row)| {
            ([self.networks[network].clone(), verb.name().to_owned(), target.name], row)
        });
        named.chain([(["all".to_owned(), String::new(), String::new()], all)]).collect()
    }
}

impl Row {
    fn add(&mut self, outcome: &Outcome) {
        let has = |kinds: &[FaultKind]| usize::from(outcome.faults.iter().any(|fault| kinds.contains(&fault.kind)));
        let (points, hit) = &mut self.harms[outcome.point.harm as usize];
        *points += 1;
        *hit += usize::from(outcome.hit);
        self.lost += has(&[FaultKind::Lost]);
        self.twice += has(&[FaultKind::Twice]);
        self.left += has(&[FaultKind::Left, FaultKind::Gone]);
        self.stumbled += has(&[FaultKind::Stumbled]);
        self.unclear += has(&[FaultKind::Unclear]);
    }

    fn cells(&self) -> Vec<String> {
        let reached = self.harms.iter().map(|(points, hit)| match points {
            0 => String::new(),
            points if points == hit => points.to_string(),
            points => format!("{hit} of {points}"),
        });
        let counts = [self.lost, self.twice, self.left, self.stumbled, self.unclear];
        let counts = counts.map(|count| if count == 0 { "-".to_owned() } else { count.to_string() });
        reached.chain(counts).collect()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for outcome in self.failures() {
            writeln!(f, "{} {}", self.networks[outcome.point.network], outcome.point)?;
            for fault in &outcome.faults {
                writeln!(f, "    {}", fault.words)?;
            }
        }
        let [killed, outlived, failed] = Harm::ALL.map(Harm::name);
        let head =
            ["network", "during", "process", killed, outlived, failed, "lost", "twice", "left", "stumbled", "unclear"];
        let mut table = comfy_table::Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_header(head);
        for (names, row) in self.rows() {
            table.add_row(names.into_iter().chain(row.cells()));
        }
        for column in table.column_iter_mut().skip(3) {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
        writeln!(f, "{}", table.trim_fmt())?;
        match self.sample {
            Some(sample) => {
                write!(f, "{} of {} points, by sample number {}", self.outcomes.len(), self.known, sample.seed)
            }
            None => write!(f, "all {} points, {} reached", self.known, self.hits()),
        }
    }
}
