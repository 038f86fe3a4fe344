//! Runs side by side as one self-contained page: plugins as columns, clauses as rows.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use libcni::Version;

use super::super::clause::{Clause, Level, Verdict};
use super::super::runner::{Outcome, Run};
use super::super::trials;

const STYLE: &str = r#"
:root { color-scheme: light dark; --line: #8884; --ok: #1a7f37; --must: #cf222e; --should: #9a6700; --dim: #8889; }
body { font: 14px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 100rem; padding: 0 1rem; }
h1 { font-size: 1.4rem; margin: 0 0 .3rem; } p { margin: .3rem 0 1rem; max-width: 60rem; }
table { border-collapse: collapse; } td, th { padding: .22rem .6rem; text-align: left; vertical-align: top; }
thead th { position: sticky; top: 0; background: Canvas; border-bottom: 2px solid var(--line); z-index: 1; }
thead th small { display: block; font-weight: normal; color: GrayText; }
tbody tr { border-bottom: 1px solid var(--line); } tbody tr.group th { padding-top: 1.1rem; font-size: 1rem; }
td.v { text-align: center; white-space: nowrap; } td.level { color: GrayText; }
.ok { color: var(--ok); } .must { color: #fff; background: var(--must); border-radius: .3rem; padding: 0 .4rem; font-weight: 600; }
.should { color: var(--should); font-weight: 600; } .dim { color: var(--dim); } .error { color: #8250df; font-weight: 600; }
code { font: 12.5px ui-monospace, monospace; } details { text-align: left; white-space: normal; max-width: 28rem; }
summary { cursor: pointer; list-style: none; text-align: center; } summary::-webkit-details-marker { display: none; }
details[open] summary { margin-bottom: .3rem; } dl { margin: 0; font-size: 12px; } dt { color: GrayText; }
dd { margin: 0 0 .3rem; overflow-wrap: anywhere; } .id details { max-width: 34rem; font-size: 12px; } .id summary { text-align: left; }
"#;

/// A column: one run in one version.
type Column<'a> = (&'a Run, Version);

/// The page.
pub fn report(runs: &[Run]) -> String {
    let columns: Vec<Column> =
        runs.iter().flat_map(|run| run.versions.iter().map(move |&version| (run, version))).collect();
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "CNI conformance" }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { "CNI conformance" }
                p {
                    "Each row is a clause of the CNI specification, each column a configuration in one version. "
                    span.ok { "✓" } " kept · " span.must { "✗" } " a must is broken · " span.should { "✗" }
                    " a should is not kept · " span.dim { "no" } " a may is not used · " span.dim { "–" }
                    " does not apply (click a mark for what happened, a clause for the specification's words)."
                }
                table {
                    (head(&columns))
                    tbody { (rows(&columns)) }
                }
            }
        }
    };
    page.into_string()
}

fn head(columns: &[Column]) -> Markup {
    html! {
        thead {
            tr {
                th { "clause" } th { "level" }
                @for (run, version) in columns {
                    th { (run.subject) small { (version) " · " (run.kind.as_str()) } small { (total(run, *version)) } }
                }
            }
        }
    }
}

/// `must 61/61 · should 40/41`
fn total(run: &Run, version: Version) -> String {
    let of = |level: Level| {
        let outcomes: Vec<_> =
            run.outcomes.iter().filter(|outcome| outcome.version == version && outcome.level == level).collect();
        let kept = outcomes.iter().filter(|outcome| outcome.verdict == Verdict::Passed).count();
        let broken = outcomes.iter().filter(|outcome| matches!(outcome.verdict, Verdict::Failed { .. })).count();
        format!("{} {kept}/{}", level.as_str(), kept + broken)
    };
    format!("{} · {}", of(Level::Must), of(Level::Should))
}

fn rows(columns: &[Column]) -> Markup {
    let clauses: Vec<&Clause> =
        trials::clauses().filter(|clause| columns.iter().any(|column| find(column, clause).is_some())).collect();
    html! {
        @for (index, clause) in clauses.iter().enumerate() {
            @let group = group(clause);
            @if index == 0 || group != self::group(clauses[index - 1]) {
                tr.group { th colspan=(columns.len() + 2) { (group) } }
            }
            tr {
                td.id {
                    details {
                        summary { code { (clause.id) } }
                        dl { dt { "specification " (clause.section) } dd { (clause.sentence) } dt { "tested" } dd { (clause.how) } }
                    }
                }
                td.level { (clause.level.as_str()) }
                @for column in columns { td.v { (mark(find(column, clause))) } }
            }
        }
    }
}

fn group(clause: &Clause) -> &str {
    clause.id.split('.').next().unwrap_or_default()
}

fn find<'a>(column: &Column<'a>, clause: &Clause) -> Option<&'a Outcome> {
    column.0.outcomes.iter().find(|outcome| outcome.version == column.1 && outcome.clause == clause.id)
}

fn mark(outcome: Option<&Outcome>) -> Markup {
    let Some(outcome) = outcome else { return html! {} };
    match &outcome.verdict {
        Verdict::Passed => html! { span.ok title="kept" { "✓" } },
        Verdict::Skipped { reason } => html! { span.dim title=(reason) { "–" } },
        Verdict::Error { reason } => html! { details { summary { span.error { "?" } } (reason) } },
        Verdict::Failed { done, expected, got } => html! {
            details {
                summary { (cross(outcome.level)) }
                dl {
                    dt { "expected" } dd { (expected) }
                    dt { "got" } dd { (got) }
                    dt { "done" } @for step in done { dd { code { (step) } } }
                }
            }
        },
    }
}

fn cross(level: Level) -> Markup {
    match level {
        Level::Must => html! { span.must title="a must is broken" { "✗" } },
        Level::Should => html! { span.should title="a should is not kept" { "✗" } },
        Level::May => html! { span.dim title="a may is not used" { "no" } },
    }
}
