//! Versions of the CNI specification, and what each can express.
//!
//! A plugin answers in the version of the configuration it was given (spec section 2). This file only says
//! which versions exist and which commands each has; how a result looks in each is in [`crate::result`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, code};

/// A released version of the specification. Ordered by age: `Version::V0_3_1 < Version::V1_0_0`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Version {
    /// The first: one address a family, `ip4` and `ip6`.
    V0_1_0,
    /// The VERSION command.
    V0_2_0,
    /// Lists of interfaces and addresses, plugin chains.
    V0_3_0,
    /// As 0.3.0 (a typing error corrected).
    V0_3_1,
    /// The CHECK command, `prevResult` on DEL.
    V0_4_0,
    /// Configuration lists only; no `version` in `ips`.
    V1_0_0,
    /// The commands GC and STATUS; `mtu`, `socketPath`, `pciID` and more route fields in results.
    V1_1_0,
}

impl Version {
    /// Every version, oldest first.
    pub const ALL: [Version; 7] = [
        Version::V0_1_0,
        Version::V0_2_0,
        Version::V0_3_0,
        Version::V0_3_1,
        Version::V0_4_0,
        Version::V1_0_0,
        Version::V1_1_0,
    ];

    /// The newest version this crate speaks.
    pub const LATEST: Version = Version::V1_1_0;

    /// As it stands in `cniVersion`.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V0_1_0 => "0.1.0",
            Version::V0_2_0 => "0.2.0",
            Version::V0_3_0 => "0.3.0",
            Version::V0_3_1 => "0.3.1",
            Version::V0_4_0 => "0.4.0",
            Version::V1_0_0 => "1.0.0",
            Version::V1_1_0 => "1.1.0",
        }
    }

    /// CHECK exists from 0.4.0.
    pub fn has_check(self) -> bool {
        self >= Version::V0_4_0
    }

    /// GC and STATUS exist from 1.1.0.
    pub fn has_gc_and_status(self) -> bool {
        self >= Version::V1_1_0
    }

    /// 0.1.0 and 0.2.0 write one address of each family as `ip4` and `ip6`.
    pub fn is_single_address(self) -> bool {
        self <= Version::V0_2_0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Version {
    type Err = Error;

    /// An empty string is 0.1.0: configurations older than the key `cniVersion` are read that way everywhere.
    fn from_str(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Ok(Version::V0_1_0);
        }
        Version::ALL.into_iter().find(|version| version.as_str() == text).ok_or_else(|| {
            let known = list(&Version::ALL);
            let details = match meant(text) {
                Some(version) => format!("cniVersion {text:?} is not one of {known}: write \"{version}\""),
                None => format!("cniVersion {text:?} is not one of {known}"),
            };
            Error::new(code::INCOMPATIBLE_VERSION, "incompatible CNI version", details)
        })
    }
}

impl TryFrom<String> for Version {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(version: Version) -> String {
        version.as_str().to_owned()
    }
}

/// The version that a text means which is none: `1.0`, `1` and `v1.0.0` mean 1.0.0.
pub(crate) fn meant(text: &str) -> Option<Version> {
    let numbers = text.trim().trim_start_matches(['v', 'V']);
    let completed = [numbers.to_owned(), format!("{numbers}.0"), format!("{numbers}.0.0")];
    Version::ALL.into_iter().find(|version| completed.iter().any(|text| text == version.as_str()))
}

/// What is wrong with a `cniVersion` that is no string.
pub(crate) fn not_a_string(value: &Value) -> String {
    match meant(&value.to_string()) {
        Some(version) => format!("not a string: write \"{version}\""),
        None => "not a string".to_owned(),
    }
}

/// Versions for a person to read: `0.1.0, 0.2.0`.
pub fn list(versions: &[Version]) -> String {
    versions.iter().map(|version| version.as_str()).collect::<Vec<_>>().join(", ")
}

/// A program's version with the commit that it was built from, as `--version` prints it: `0.1.0 (0123456789ab)`.
pub fn of_program(version: &str, commit: Option<&str>) -> String {
    commit.map_or_else(|| version.to_owned(), |commit| format!("{version} ({commit})"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_reads_as_it_is_written_and_the_list_is_sorted() {
        for version in Version::ALL {
            assert_eq!(version.as_str().parse::<Version>().unwrap(), version);
        }
        assert!(Version::ALL.is_sorted());
        assert_eq!(Version::LATEST, *Version::ALL.last().unwrap());
    }

    #[test]
    fn an_unknown_version_is_code_1_and_is_named() {
        let error = "1.2.0".parse::<Version>().unwrap_err();
        assert_eq!(error.code, code::INCOMPATIBLE_VERSION);
        assert!(error.details.contains("\"1.2.0\""), "{error}");
        assert!(!error.details.contains("write"), "{error}");
    }

    #[test]
    fn a_version_that_is_nearly_one_is_answered_with_that_one() {
        for (text, version) in [
            ("1.0", Some("1.0.0")),
            ("1", Some("1.0.0")),
            ("0.4", Some("0.4.0")),
            ("1.1", Some("1.1.0")),
            ("v1.0.0", Some("1.0.0")),
            (" 1.1.0", Some("1.1.0")),
            ("2.0", None),
            ("1.0.0.0", None),
            ("", None),
            ("v", None),
        ] {
            assert_eq!(meant(text).map(Version::as_str), version, "{text:?}");
        }
        let error = "1.0".parse::<Version>().unwrap_err();
        assert!(error.details.ends_with(": write \"1.0.0\""), "{error}");
        assert_eq!(not_a_string(&serde_json::json!(1.0)), "not a string: write \"1.0.0\"");
        assert_eq!(not_a_string(&serde_json::json!({})), "not a string");
    }
}
