//! The catalogue: every clause with the procedure that tests it, by section of the specification.

use libcni::Version;

use super::clause::{Clause, Trial};

pub mod add;
pub mod capabilities;
pub mod check;
pub mod concurrency;
pub mod del;
pub mod delegation;
pub mod error;
pub mod gc;
pub mod input;
pub mod ipam;
pub mod parameters;
pub mod prev_result;
pub mod residue;
pub mod result;
pub mod shape;
pub mod status;
pub mod version;

/// All trials, in the order of reports.
pub const TRIALS: [&[Trial]; 16] = [
    version::TRIALS,
    parameters::TRIALS,
    input::TRIALS,
    error::TRIALS,
    result::TRIALS,
    add::TRIALS,
    prev_result::TRIALS,
    capabilities::TRIALS,
    ipam::TRIALS,
    delegation::TRIALS,
    del::TRIALS,
    check::TRIALS,
    gc::TRIALS,
    status::TRIALS,
    concurrency::TRIALS,
    residue::TRIALS,
];

/// All trials.
pub fn trials() -> impl Iterator<Item = &'static Trial> {
    TRIALS.into_iter().flatten()
}

/// All clauses.
pub fn clauses() -> impl Iterator<Item = &'static Clause> {
    trials().flat_map(|trial| trial.clauses)
}

/// Since when there is CHECK.
const CHECK: Version = Version::V0_4_0;
/// Since when there are lists of interfaces, and chains.
const LISTS: Version = Version::V0_3_0;
/// Since when there are GC and STATUS.
const GC: Version = Version::V1_1_0;

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_id_names_one_clause_and_one_section_of_words() {
        let mut seen = BTreeSet::new();
        for clause in clauses() {
            assert!(seen.insert(clause.id), "{} twice", clause.id);
            assert!(clause.id.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b".-".contains(&b)));
            assert!(!clause.sentence.is_empty() && !clause.how.is_empty() && !clause.section.is_empty());
        }
        assert!(seen.len() > 80, "{}", seen.len());
    }
}
