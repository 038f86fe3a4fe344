//! What is suspicious in a configuration, whichever plugin reads it: it is obeyed, and told to the log.

use serde_json::{Map, Value};

use super::Kind;
use crate::config::Config;
use crate::error::Error;

/// Warns of keys given twice, and of a configuration without `cniVersion`.
///
/// Both plugins of a delegation get the same configuration. The caller speaks for all of it, for its delegate may be another
/// project's; an IPAM plugin for the section `ipam`, for its caller may be.
pub fn warn(kind: Kind, config: &Config) {
    let is_ours = |key: &String| kind == Kind::Interface || key.starts_with("ipam.");
    for key in config.repeated_keys().into_iter().filter(is_ours) {
        log::warn!("key {key:?} is given more than once: the last one counts, remove the others");
    }
    if kind == Kind::Interface && is_versionless(&config.object) {
        log::warn!(
            "key \"cniVersion\" is missing, which means 0.1.0: there is no CHECK, no GC and no STATUS; \
             write \"cniVersion\": \"1.0.0\" into the configuration"
        );
    }
}

/// The error of a command that the version does not have, where nobody wrote that version.
pub fn say_if_versionless(error: Error, config: &Map<String, Value>) -> Error {
    if is_versionless(config) { error.context("key \"cniVersion\" is missing, which means 0.1.0") } else { error }
}

/// Runtimes pass on an empty version where there is none.
fn is_versionless(config: &Map<String, Value>) -> bool {
    match config.get("cniVersion") {
        None | Some(Value::Null) => true,
        Some(version) => version.as_str() == Some(""),
    }
}
