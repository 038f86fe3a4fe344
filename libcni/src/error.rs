//! The one error type of the protocol, and the specification's codes.
//!
//! Errors travel as JSON on stdout (spec section 5, "Error"): a code, a short message, and details that name
//! the thing at fault. Codes 0–99 belong to the specification, 100 and up to plugins.

use serde::{Deserialize, Serialize};

use crate::version::Version;

/// The codes of spec section 5, and podwire's own from 100.
pub mod code {
    /// Declares each code, and the list of them all.
    macro_rules! codes {
        ($(#[doc = $words:literal] $name:ident = $code:literal;)*) => {
            $(
                #[doc = $words]
                pub const $name: u32 = $code;
            )*

            /// Every code, with what it says.
            pub const ALL: &[(u32, &str)] = &[$(($code, $words)),*];
        };
    }

    codes! {
        /// Incompatible CNI version: the version is unknown, or has no such command.
        INCOMPATIBLE_VERSION = 1;
        /// A field of the configuration is not supported; the message names key and value.
        UNSUPPORTED_FIELD = 2;
        /// Container unknown: tells a runtime that no DEL is needed. podwire never sends it.
        UNKNOWN_CONTAINER = 3;
        /// One or more `CNI_*` variables are missing or wrong; all of them are named.
        INVALID_ENVIRONMENT = 4;
        /// An I/O failure: a file, a pipe, the kernel.
        IO_FAILURE = 5;
        /// Input that does not decode.
        DECODING_FAILURE = 6;
        /// A configuration that does not hold.
        INVALID_CONFIG = 7;
        /// A passing condition: the runtime may call again.
        TRY_AGAIN_LATER = 11;
        /// STATUS: no ADD can be served.
        UNAVAILABLE = 50;
        /// STATUS: no ADD can be served, and Pods that run may have lost connectivity.
        UNAVAILABLE_AND_LIMITED = 51;

        /// A plugin that was executed failed without an error document of its own.
        PLUGIN_FAILED = 100;
        /// No address is free in a range set.
        NO_FREE_ADDRESS = 101;
        /// CHECK: something that ADD made is missing or changed.
        CHECK_FAILED = 102;
        /// The attachment, or a part of it, exists already: a DEL is missing before this ADD.
        EXISTS_ALREADY = 103;
        /// Something that someone else made stands where ours would go.
        NOT_OURS = 104;
        /// The kernel lacks a feature that the configuration asks for.
        KERNEL_LACKS = 105;
        /// The kernel refused for want of a privilege.
        NOT_PERMITTED = 106;
        /// A bug: the plugin panicked.
        PANIC = 999;
    }
}

/// An error as a plugin reports it and a runtime reads it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{msg}{}{details} (code {code})", if details.is_empty() { "" } else { ": " })]
pub struct Error {
    /// One of [`code`], or a plugin's own.
    pub code: u32,
    /// A few words on the kind of error.
    pub msg: String,
    /// What is at fault, by name, and what to do about it. May be empty.
    pub details: String,
}

/// The longest message and the longest details that a document holds, in bytes: an error that quotes what somebody sent need not
/// send all of it back.
const MOST_TEXT: usize = 32 << 10;

/// The error document (spec section 5).
#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(rename = "cniVersion", default, skip_serializing_if = "String::is_empty")]
    cni_version: String,
    code: u32,
    #[serde(default)]
    msg: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    details: String,
}

impl Error {
    /// An error with a code, a short message and details.
    pub fn new(code: u32, msg: impl Into<String>, details: impl Into<String>) -> Self {
        Error { code, msg: msg.into(), details: details.into() }
    }

    /// Code 7: a key of the configuration has a value that does not hold. `key` is its path (`ipam.ranges[0]`).
    pub fn config(key: &str, value: impl std::fmt::Display, why: impl std::fmt::Display) -> Self {
        Error::new(code::INVALID_CONFIG, "invalid network configuration", format!("key {key:?}, value {value}: {why}"))
    }

    /// Code 5: something could not be read or written.
    pub fn io(what: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Error::new(code::IO_FAILURE, "I/O failure", format!("{what}: {error}"))
    }

    /// Code 6: something does not decode.
    pub fn decode(what: impl std::fmt::Display, error: impl std::fmt::Display) -> Self {
        Error::new(code::DECODING_FAILURE, "failed to decode", format!("{what}: {error}"))
    }

    /// Code 102: CHECK found `what` missing or changed.
    pub fn check(what: impl std::fmt::Display) -> Self {
        Error::new(code::CHECK_FAILED, "check failed", what.to_string())
    }

    /// The same error with `context` in front of its details.
    #[must_use]
    pub fn context(mut self, context: impl std::fmt::Display) -> Self {
        self.details =
            if self.details.is_empty() { context.to_string() } else { format!("{context}: {}", self.details) };
        self
    }

    /// The error document, on one line. Of a very long message or details the beginning is in it.
    pub fn to_json(&self, version: Version) -> String {
        let document = Document {
            cni_version: version.as_str().to_owned(),
            code: self.code,
            msg: beginning(&self.msg),
            details: beginning(&self.details),
        };
        serde_json::to_string(&document).expect("an error document is strings and a number")
    }

    /// Reads an error document, if `bytes` hold one. The message may be empty: some plugins leave it so.
    pub fn from_json(bytes: &[u8]) -> Option<Self> {
        let document: Document = serde_json::from_slice(bytes).ok()?;
        Some(Error::new(document.code, document.msg, document.details))
    }

    /// Joins the errors of a job that went on after the first (DEL, GC): the first one's code, all details.
    pub fn all(errors: Vec<Error>) -> Result<(), Error> {
        let mut errors = errors.into_iter();
        let Some(mut first) = errors.next() else { return Ok(()) };
        for error in errors {
            first.details = format!("{}; {}: {}", first.details, error.msg, error.details);
        }
        Err(first)
    }
}

/// As much of a text as a document holds.
fn beginning(text: &str) -> String {
    if text.len() <= MOST_TEXT {
        return text.to_owned();
    }
    let end = (0..=MOST_TEXT).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
    format!("{}…", &text[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_holds_the_beginning_of_what_is_too_long() {
        let text = Error::io("x", "ä".repeat(MOST_TEXT)).to_json(Version::LATEST);
        assert!(text.len() < MOST_TEXT + 200, "{}", text.len());
        assert!(Error::from_json(text.as_bytes()).unwrap().details.ends_with("ä…"));
    }

    #[test]
    fn the_document_holds_what_the_error_says() {
        let error = Error::config("mtu", "\"big\"", "not a number");
        let text = error.to_json(Version::V0_4_0);
        assert!(text.starts_with(r#"{"cniVersion":"0.4.0","code":7,"#), "{text}");
        assert_eq!(Error::from_json(text.as_bytes()), Some(error));
    }

    #[test]
    fn joined_errors_keep_every_detail() {
        assert_eq!(Error::all(vec![]), Ok(()));
        let both = Error::all(vec![Error::io("a", "gone"), Error::check("b")]).unwrap_err();
        assert_eq!(both.code, code::IO_FAILURE);
        assert!(both.details.contains("a: gone") && both.details.contains('b'), "{both}");
    }
}
