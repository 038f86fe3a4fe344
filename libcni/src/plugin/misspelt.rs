//! Keys that look like a slip of the pen.
//!
//! A key that a plugin does not know may be somebody else's, and is not refused (the spec lets configurations have
//! more than a plugin reads). One that is nearly the name of a declared key is told to the log, with that name; so is a declared key that
//! is written in another case, though it is taken.

use serde_json::{Map, Value};

use super::Kind;
use crate::config::Config;
use crate::keys::{At, Level, Shape};

/// How many letters may be wrong, missing, too many or swapped in a name of so many letters; more make it another word.
fn most_slips(letters: usize) -> usize {
    match letters {
        0..4 => 0,
        4..6 => 1,
        _ => 2,
    }
}

/// How many letters of a longer name make it near a shorter one that it begins with: `ipMasquerade` and `ipMasq`.
const LEAST_COMMON: usize = 4;

/// Tells the log about every slip. An IPAM plugin is responsible for the keys inside of objects: those of the outermost level are its
/// caller's.
///
/// A key of `others`, of another plugin of the suite, is no slip.
pub fn warn(keys: &Level, kind: Kind, others: &[(&str, &str)], config: &Config) {
    for spelling in &config.spellings {
        if kind == Kind::Interface || spelling.written.contains('.') {
            log::warn!("key {:?} is read as {:?}, which is the proper spelling", spelling.written, spelling.proper);
        }
    }
    let slips = suspicious(keys, kind, &config.object);
    for (key, meant) in slips.iter().filter(|(key, _)| !others.iter().any(|(other, _)| other == key)) {
        log::warn!("key {key:?} is not known: did you mean {meant:?}?");
    }
}

/// Each suspicious key, by its path, with what was probably meant. The section `ipam` is the IPAM plugin's to look at, and the
/// only one that it looks at.
pub fn suspicious(keys: &Level, kind: Kind, config: &Map<String, Value>) -> Vec<(String, String)> {
    let mut found = Vec::new();
    match kind {
        Kind::Interface => look(keys, config, &At::Root, &mut found),
        Kind::Ipam => {
            if let (Some(shape), Some(value)) = (keys.shape("ipam"), config.get("ipam")) {
                look_into(shape, value, &At::Key(&At::Root, "ipam"), &mut found);
            }
        }
    }
    found
}

fn look(level: &Level, object: &Map<String, Value>, at: &At<'_>, found: &mut Vec<(String, String)>) {
    for (key, value) in object {
        let here = At::Key(at, key);
        match level.shape(key) {
            Some(_) if matches!(at, At::Root) && key == "ipam" => (),
            Some(shape) => look_into(shape, value, &here, found),
            None => {
                if let Some(name) = nearest(key, level) {
                    found.push((here.to_string(), At::Key(at, name).to_string()));
                }
            }
        }
    }
}

fn look_into(shape: &Shape, value: &Value, at: &At<'_>, found: &mut Vec<(String, String)>) {
    match (shape, value) {
        (Shape::Object(level), Value::Object(object)) => look(level, object, at, found),
        (Shape::List(element), Value::Array(list)) => {
            let shape = &element();
            list.iter().enumerate().for_each(|(index, value)| look_into(shape, value, &At::Index(at, index), found));
        }
        _ => (),
    }
}

/// The declared name that `key` is nearest to, if it is near one.
fn nearest(key: &str, level: &Level) -> Option<&'static str> {
    let keys = || level.keys().iter();
    let by_slips = keys().filter_map(|declared| Some((slips(key, declared.name)?, declared.name))).min();
    // "namespace" begins with "name" and has nothing to do with it: not with the keys that every plugin has.
    let own = keys().filter(|declared| !declared.words.help.is_empty()).map(|declared| declared.name);
    let by_beginning = || own.filter(|name| begins_alike(key, name)).max_by_key(|name| name.len());
    by_slips.map(|(_, name)| name).or_else(by_beginning)
}

fn slips(key: &str, name: &str) -> Option<usize> {
    let most = most_slips(name.len());
    // Comparing takes as long as both are: not a key that can't be near by its length alone.
    let is_comparable = key.len().abs_diff(name.len()) <= most;
    is_comparable.then(|| strsim::osa_distance(key, name)).filter(|slips| *slips <= most)
}

/// Is one the beginning of the other, in whatever case?
fn begins_alike(key: &str, name: &str) -> bool {
    let common = key.len().min(name.len());
    common >= LEAST_COMMON && key.as_bytes()[..common].eq_ignore_ascii_case(&name.as_bytes()[..common])
}
