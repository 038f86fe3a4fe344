//! Clauses, trials and verdicts: the suite's plain data.

use serde::{Deserialize, Serialize};

use libcni::Version;

use super::world::World;

/// How strongly the specification asks (RFC 2119).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// Broken: the plugin does not conform.
    Must,
    /// Broken: there had better be a reason.
    Should,
    /// Never broken: what a plugin may leave out. Told for information.
    May,
}

impl Level {
    /// `must`, `should`, `may`.
    pub fn as_str(self) -> &'static str {
        match self {
            Level::Must => "must",
            Level::Should => "should",
            Level::May => "may",
        }
    }
}

/// What is under test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Makes an interface in the container.
    Interface,
    /// Looks after `lo`, which every container has already.
    Loopback,
    /// Changes what an earlier plugin made: needs a `prevResult`.
    Chained,
    /// Hands out addresses to other plugins.
    Ipam,
    /// A whole list of plugins.
    Chain,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 5] = [Kind::Interface, Kind::Loopback, Kind::Chained, Kind::Ipam, Kind::Chain];

    /// In words.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Interface => "interface plugin",
            Kind::Loopback => "loopback plugin",
            Kind::Chained => "chained plugin",
            Kind::Ipam => "IPAM plugin",
            Kind::Chain => "chain of plugins",
        }
    }
}

/// One plugin, executed by the suite itself: all kinds but a chain.
pub const SINGLE: &[Kind] = &[Kind::Interface, Kind::Loopback, Kind::Chained, Kind::Ipam];
/// What leaves something in the container that the suite can look at.
pub const WIRED: &[Kind] = &[Kind::Interface, Kind::Loopback, Kind::Chained, Kind::Chain];
/// What makes an interface of its own.
pub const MAKERS: &[Kind] = &[Kind::Interface, Kind::Chain];

/// One sentence of the specification, and how it is tested.
#[derive(Clone, Copy, Debug)]
pub struct Clause {
    /// Its name for ever: `del.repeated`.
    pub id: &'static str,
    /// Must, should or may.
    pub level: Level,
    /// Where the sentence stands: `2, DEL`.
    pub section: &'static str,
    /// The sentence, in the specification's words.
    pub sentence: &'static str,
    /// What the suite does and looks at.
    pub how: &'static str,
    /// What it applies to.
    pub kinds: &'static [Kind],
    /// The first version that says so.
    pub since: Version,
    /// Only for a plugin that is configured with a delegate (`ipam.type`).
    pub delegating: bool,
}

impl Clause {
    const fn new(
        level: Level,
        id: &'static str,
        section: &'static str,
        sentence: &'static str,
        how: &'static str,
    ) -> Self {
        Clause { id, level, section, sentence, how, kinds: &Kind::ALL, since: Version::V0_1_0, delegating: false }
    }

    /// What a plugin must do.
    pub const fn must(id: &'static str, section: &'static str, sentence: &'static str, how: &'static str) -> Self {
        Clause::new(Level::Must, id, section, sentence, how)
    }

    /// What a plugin should do.
    pub const fn should(id: &'static str, section: &'static str, sentence: &'static str, how: &'static str) -> Self {
        Clause::new(Level::Should, id, section, sentence, how)
    }

    /// What a plugin may do.
    pub const fn may(id: &'static str, section: &'static str, sentence: &'static str, how: &'static str) -> Self {
        Clause::new(Level::May, id, section, sentence, how)
    }

    /// The same, for these kinds only.
    pub const fn only(mut self, kinds: &'static [Kind]) -> Self {
        self.kinds = kinds;
        self
    }

    /// The same, from this version on.
    pub const fn since(mut self, version: Version) -> Self {
        self.since = version;
        self
    }

    /// The same, for plugins with a delegate only.
    pub const fn delegating(mut self) -> Self {
        self.delegating = true;
        self
    }

    /// Why it does not apply to a subject, if it does not.
    pub fn does_not_apply(&self, kind: Kind, version: Version, delegate: Option<&str>) -> Option<String> {
        if !self.kinds.contains(&kind) {
            return Some(match kind {
                Kind::Chain => "is about one plugin, not about a chain".to_owned(),
                _ => format!("does not apply to {}", with_article(kind.as_str())),
            });
        }
        if version < self.since {
            return Some(format!("{version} does not say so: it came with {}", self.since));
        }
        if self.delegating && delegate.is_none() {
            return Some("the configuration names no delegate (ipam.type)".to_owned());
        }
        None
    }
}

fn with_article(noun: &str) -> String {
    let article = if noun.starts_with(['a', 'e', 'i', 'o', 'u', 'I']) { "an" } else { "a" };
    format!("{article} {noun}")
}

/// Why a trial ended before it had a verdict on each of its clauses.
#[derive(Debug)]
pub enum Stop {
    /// The plugin did not do what this trial begins with; another clause says so. The rest is skipped.
    Unmet(String),
    /// The suite itself could not go on.
    Suite(String),
}

/// What a trial's procedure ends with.
pub type Step<T = ()> = Result<T, Stop>;

/// A procedure, and the clauses on which it has a verdict.
#[derive(Clone, Copy, Debug)]
pub struct Trial {
    /// A name for errors of the suite.
    pub name: &'static str,
    /// The clauses.
    pub clauses: &'static [Clause],
    /// The procedure: calls [`World::expect`] for each clause that applies.
    pub run: fn(&World) -> Step,
}

/// What was found out about one clause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "lowercase")]
pub enum Verdict {
    /// The plugin keeps it.
    Passed,
    /// The plugin breaks it.
    Failed {
        /// What the suite did, step by step.
        done: Vec<String>,
        /// What should have come of it.
        expected: String,
        /// What came.
        got: String,
    },
    /// It was not tested.
    Skipped {
        /// Why.
        reason: String,
    },
    /// The suite could not find out.
    Error {
        /// Why.
        reason: String,
    },
}
