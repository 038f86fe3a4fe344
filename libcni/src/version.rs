//! Versions of the CNI specification, and what each can express.
//!
//! A plugin answers in the version of the configuration it was given (spec section 2). This file only says
//! which versions exist and which commands each has; how a result looks in each is in [`crate::result`].

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

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
            Error::new(
                code::INCOMPATIBLE_VERSION,
                "incompatible CNI version",
                format!("cniVersion {text:?} is not one of {}", list(&Version::ALL)),
            )
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

/// Versions for a person to read: `0.1.0, 0.2.0`.
pub fn list(versions: &[Version]) -> String {
    versions.iter().map(|version| version.as_str()).collect::<Vec<_>>().join(", ")
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
    }
}
