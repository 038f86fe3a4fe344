//! A run as JUnit XML, which CI systems read: a suite for each version, a case for each clause.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use super::super::clause::{Level, Verdict};
use super::super::runner::{Outcome, Run};

/// The report. A broken "should" is a failure in it only if `strict`; else it is a skipped case that says so.
pub fn report(run: &Run, strict: bool) -> Result<String, String> {
    let mut report = Report::new(format!("CNI conformance of {}", run.subject));
    for &version in &run.versions {
        let mut suite = TestSuite::new(format!("{} in {version}", run.subject));
        for outcome in run.outcomes.iter().filter(|outcome| outcome.version == version) {
            let mut case = TestCase::new(&outcome.clause, status(outcome, strict));
            case.set_classname(format!("{}.{}", run.subject, outcome.level.as_str()));
            suite.add_test_case(case);
        }
        report.add_test_suite(suite);
    }
    report.to_string().map_err(|error| error.to_string())
}

fn status(outcome: &Outcome, strict: bool) -> TestCaseStatus {
    let with = |mut status: TestCaseStatus, message: String| {
        status.set_message(message);
        status
    };
    match &outcome.verdict {
        Verdict::Passed => TestCaseStatus::success(),
        Verdict::Skipped { reason } => with(TestCaseStatus::skipped(), reason.clone()),
        Verdict::Error { reason } => with(TestCaseStatus::non_success(NonSuccessKind::Error), reason.clone()),
        Verdict::Failed { done, expected, got } => {
            let counts = outcome.level == Level::Must || (strict && outcome.level == Level::Should);
            let message = format!("{} ({}): expected {expected}; got {got}", outcome.level.as_str(), outcome.section);
            match counts {
                true => {
                    let mut status = with(TestCaseStatus::non_success(NonSuccessKind::Failure), message);
                    status.set_description(format!("{}\n\nDone:\n{}", outcome.sentence, done.join("\n")));
                    status
                }
                false => with(TestCaseStatus::skipped(), format!("not kept, {message}")),
            }
        }
    }
}
