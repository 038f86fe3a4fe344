//! What is suspicious in a configuration, whichever plugin reads it: it is obeyed, and told to the log.

use serde_json::{Map, Value};

use super::Kind;
use crate::config::Config;
use crate::error::Error;
use crate::keys::Level;

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

/// Warns of keys that the plugin `name` does not have and another plugin of its suite has.
pub fn warn_of_keys_of_others(name: &str, keys: &Level, others: &[(&str, &str)], config: &Config) {
    // A group of keys may bring one that this plugin does not document, for it has no use for it.
    let is_own = |name: &str| keys.keys().iter().any(|key| key.name == name && !key.words.help.is_empty());
    for key in config.object.keys().filter(|key| !is_own(key)) {
        if let Some((_, plugins)) = others.iter().find(|(other, _)| other == key) {
            log::warn!("key {key:?} is a key of {plugins}: {name} does not have it, and it has no effect here");
        }
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
