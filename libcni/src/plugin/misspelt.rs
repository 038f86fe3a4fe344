//! Keys that look like a slip of the pen.
//!
//! A key that a plugin does not know may be somebody else's, and is not refused (the spec lets configurations have
//! more than a plugin reads). One that is nearly the name of a known key is told to the log, with that name.

use serde_json::{Map, Value};

use super::{About, Kind};

/// Every network configuration's own (spec section 1), whatever the plugin.
const COMMON: [&str; 9] =
    ["cniVersion", "name", "type", "args", "capabilities", "runtimeConfig", "prevResult", "ipam", "dns"];

/// How many letters may be wrong, missing, too many or swapped in a name of so many letters; more make it another word.
fn most_slips(letters: usize) -> usize {
    match letters {
        0..4 => 0,
        4..6 => 1,
        _ => 2,
    }
}

/// Each suspicious key, by its path, with what was probably meant. An IPAM plugin is responsible for the keys of `ipam`
/// alone: the rest is its caller's.
pub fn suspicious(about: &About, kind: Kind, config: &Map<String, Value>) -> Vec<(String, String)> {
    let empty = Map::new();
    let (section, prefix) = match kind {
        Kind::Ipam => (config.get("ipam").and_then(Value::as_object).unwrap_or(&empty), "ipam."),
        Kind::Interface => (config, ""),
    };
    let own = about.keys.iter().filter_map(|key| key.name.strip_prefix(prefix));
    let own = own.map(|name| name.split(['.', '[']).next().unwrap_or(name));
    let known: Vec<&str> = own.chain(COMMON).collect();
    let unknown = section.keys().filter(|key| !known.contains(&key.as_str()));
    let meant = unknown.filter_map(|key| Some((key, known.iter().find(|name| is_near(key, name))?)));
    meant.map(|(key, name)| (format!("{prefix}{key}"), format!("{prefix}{name}"))).collect()
}

fn is_near(key: &str, name: &str) -> bool {
    let most = most_slips(name.len());
    // Comparing takes as long as both are: not a key that can't be near by its length alone.
    let is_comparable = key.len().abs_diff(name.len()) <= most;
    key.eq_ignore_ascii_case(name) || is_comparable && strsim::osa_distance(key, name) <= most
}
