//! A run as a table for people.

use std::fmt::Write as _;

use comfy_table::{Cell, ContentArrangement, Table, presets};
use owo_colors::OwoColorize;

use libcni::Version;

use super::super::clause::{Level, Verdict};
use super::super::runner::{Outcome, Run};

/// The report: a table of clauses and versions, then each clause that is not kept. It has colours; whoever prints it
/// takes them out where they are not wanted.
pub fn report(run: &Run) -> String {
    let mut text = String::new();
    let versions = run.versions.iter().map(|version| version.as_str()).collect::<Vec<_>>().join(", ");
    let _ = writeln!(text, "{} ({}), in {versions}\n", run.subject.bold(), run.kind.as_str());
    let _ = writeln!(text, "{}\n", table(run));
    let mut told = Vec::new();
    for outcome in &run.outcomes {
        // One fault of the suite has as many outcomes as its trial has clauses.
        if let Verdict::Error { reason } = &outcome.verdict {
            if told.contains(&reason) {
                continue;
            }
            told.push(reason);
        }
        text += &details(outcome);
    }
    text += &summary(run);
    text
}

fn table(run: &Run) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let mut ids: Vec<&Outcome> = Vec::new();
    for outcome in &run.outcomes {
        if ids.last().is_none_or(|last| last.clause != outcome.clause) {
            ids.push(outcome);
        }
    }
    let mut group = "";
    for row in ids {
        let this = row.clause.split('.').next().unwrap_or_default();
        if this != group {
            group = this;
            let mut heading = vec![Cell::new(""), Cell::new("")];
            heading.extend(run.versions.iter().map(|version| Cell::new(version.as_str().dimmed().to_string())));
            table.add_row(heading);
        }
        let mut cells =
            vec![Cell::new(format!("{:<6}", row.level.as_str()).dimmed().to_string()), Cell::new(&row.clause)];
        for &version in &run.versions {
            let found = run.outcomes.iter().find(|outcome| outcome.version == version && outcome.clause == row.clause);
            cells.push(Cell::new(found.map(word).unwrap_or_default()));
        }
        table.add_row(cells);
    }
    table
}

/// A verdict in one word.
fn word(outcome: &Outcome) -> String {
    match (&outcome.verdict, outcome.level) {
        (Verdict::Passed, _) => "ok".green().to_string(),
        (Verdict::Skipped { .. }, _) => "-".dimmed().to_string(),
        (Verdict::Error { .. }, _) => "ERROR".magenta().bold().to_string(),
        (Verdict::Failed { .. }, Level::Must) => "BROKEN".red().bold().to_string(),
        (Verdict::Failed { .. }, Level::Should) => "not kept".yellow().to_string(),
        (Verdict::Failed { .. }, Level::May) => "no".dimmed().to_string(),
    }
}

fn details(outcome: &Outcome) -> String {
    let heading = format!("{} {} in {}", outcome.level.as_str(), outcome.clause, outcome.version);
    match &outcome.verdict {
        Verdict::Passed | Verdict::Skipped { .. } => String::new(),
        Verdict::Error { reason } => {
            format!("{}: the suite could not find out: {reason}\n\n", heading.magenta().bold())
        }
        Verdict::Failed { .. } if outcome.level == Level::May => String::new(),
        Verdict::Failed { done, expected, got } => {
            let heading = if outcome.level == Level::Must {
                heading.red().bold().to_string()
            } else {
                heading.yellow().to_string()
            };
            let mut text = format!("{heading}\n  spec {}: {}\n", outcome.section, outcome.sentence.italic());
            // The last steps tell; a trial may have many.
            const STEPS: usize = 4;
            if done.len() > STEPS {
                let _ = writeln!(text, "  done      … {} steps before (--report json has them)", done.len() - STEPS);
            }
            for step in &done[done.len().saturating_sub(STEPS)..] {
                let _ = writeln!(text, "  done      {step}");
            }
            let _ = writeln!(text, "  expected  {expected}\n  got       {got}\n");
            text
        }
    }
}

/// One line a version: how much of each level is kept.
pub fn summary(run: &Run) -> String {
    let mut text = String::new();
    for &version in &run.versions {
        let _ = writeln!(text, "{}", summary_of(run, version));
    }
    if run.has_errors() {
        let _ = writeln!(text, "{}", "the suite could not find out about some clauses: see ERROR".magenta());
    }
    text
}

fn summary_of(run: &Run, version: Version) -> String {
    let of = |level| {
        let outcomes = run.outcomes.iter().filter(|outcome| outcome.version == version && outcome.level == level);
        let (mut kept, mut broken) = (0, 0);
        for outcome in outcomes {
            match outcome.verdict {
                Verdict::Passed => kept += 1,
                Verdict::Failed { .. } => broken += 1,
                Verdict::Skipped { .. } | Verdict::Error { .. } => {}
            }
        }
        (kept, kept + broken)
    };
    let word = |level: Level| {
        let (kept, all) = of(level);
        let text = format!("{} {kept} of {all}", level.as_str());
        match (kept == all, level) {
            (true, _) => text.green().to_string(),
            (false, Level::Must) => text.red().bold().to_string(),
            (false, Level::Should) => text.yellow().to_string(),
            (false, Level::May) => text,
        }
    };
    let of_version = || run.outcomes.iter().filter(|outcome| outcome.version == version);
    let reasons = of_version().filter_map(|outcome| match &outcome.verdict {
        Verdict::Skipped { reason } => Some(reason),
        _ => None,
    });
    let skipped: Vec<_> = reasons.collect();
    if skipped.len() == of_version().count() {
        let reason = skipped.first().map_or("no clause was asked for", |reason| reason.as_str());
        return format!("{} in {version}: nothing was tested: {reason}", run.subject);
    }
    format!(
        "{} in {version}: {}, {}, {}; {} skipped; {:.1} s",
        run.subject,
        word(Level::Must),
        word(Level::Should),
        word(Level::May),
        skipped.len(),
        run.milliseconds as f64 / 1000.0
    )
}
