//! Network configurations as an administrator writes them (spec section 1), read from a directory.
//!
//! `*.conflist` files hold lists; `*.conf` and `*.json` hold a single plugin's configuration, from before 1.0.0, which is
//! read as a list of one. Lists come first, each kind in lexical order, and the first file with the name asked
//! for is the network.
//!
//! Keys and values of a plugin's configuration are kept as the text they are: what a runtime need not know passes through it
//! unchanged, numbers of any size included.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;
use serde_json::value::{RawValue, to_raw_value};

use super::request::{Subject, derive};
use crate::config::{MAX_BYTES, parse_at, shorten};
use crate::error::{Error, code};
use crate::invocation::identifier_fault;
use crate::repeated::{repeated_keys, without_repeated_keys};
use crate::syntax::explain;
use crate::version::{self, Version};

/// A JSON object whose values are text.
pub(super) type RawObject = BTreeMap<String, Box<RawValue>>;

/// A network: a name, the plugins of its chain, and what the runtime must know of it.
#[derive(Clone, Debug)]
pub struct NetworkList {
    /// `name`. Valid as a file name.
    pub name: String,
    /// The version that is spoken: the newest of `versions`, until [`Runtime::agree`](super::Runtime::agree) lowers it.
    pub version: Version,
    /// Those of `cniVersion` and `cniVersions` that this crate speaks, oldest first.
    pub versions: Vec<Version>,
    /// `disableCheck`: CHECK does nothing and succeeds.
    pub disable_check: bool,
    /// `disableGC`: GC does nothing and succeeds.
    pub disable_gc: bool,
    /// `loadOnlyInlinedPlugins`: the folder beside the file, named as the network, is not looked into.
    pub load_only_inlined_plugins: bool,
    /// The chain, in ADD's order.
    pub plugins: Vec<PluginConfig>,
    /// The list as JSON, as the cache keeps it: the file's bytes.
    pub bytes: Vec<u8>,
}

/// One plugin's configuration within a list.
#[derive(Clone, Debug)]
pub struct PluginConfig {
    /// `type`: the name of the binary.
    pub plugin_type: String,
    /// The keys of `capabilities` that are true.
    pub capabilities: Vec<String>,
    /// Everything, as it is written.
    pub(super) object: RawObject,
}

/// A file of the directory that holds no network, or one that was not asked for.
enum Candidate {
    Named(String),
    /// With the file, whose path is in the error too.
    Unreadable(PathBuf, Error),
}

impl NetworkList {
    /// The network `name` of `directory`.
    ///
    /// A file that can't be read does not stand in the way of a network that another file holds. Of several files that hold
    /// it the first counts, in lexical order; the others are warned of. Where nothing is found, the error (code 7) names the
    /// networks that are there and such files with line and column; if one of these has the name in it, its own error is
    /// what comes back.
    pub fn load(directory: &Path, name: &str) -> Result<Self, Error> {
        let mut seen = Vec::new();
        let mut files = files_of(directory)?.into_iter();
        while let Some(file) = files.next() {
            match network_name(&file) {
                Ok(found) if found == name => {
                    seen.iter().for_each(warn_if_unreadable);
                    for other in files.filter(|other| network_name(other).is_ok_and(|found| found == name)) {
                        log::warn!(
                            "network {name:?} is in {}, and in {}, which does not count",
                            file.display(),
                            other.display()
                        );
                    }
                    return NetworkList::from_file(&file);
                }
                Ok(other) => seen.push(Candidate::Named(other)),
                Err(error) => seen.push(Candidate::Unreadable(file, error)),
            }
        }
        Err(not_found(directory, name, seen))
    }

    /// The names of the networks in `directory`, in the order in which [`load`](NetworkList::load) looks.
    pub fn names(directory: &Path) -> Result<Vec<String>, Error> {
        Ok(files_of(directory)?.iter().filter_map(|file| network_name(file).ok()).collect())
    }

    /// The network in `file`: a list if its name ends in `.conflist`, else a single plugin's configuration.
    ///
    /// To a list come the plugins of the folder beside it that is named as the network: its `*.conf` files in lexical
    /// order, unless `loadOnlyInlinedPlugins`.
    pub fn from_file(file: &Path) -> Result<Self, Error> {
        let at = |error: Error| error.context(file.display());
        let bytes = each_key_once(read(file)?, file);
        if !is_list(file) {
            let list = NetworkList::from_single(&bytes).map_err(at)?;
            warn_of_version(file, &bytes);
            return Ok(list);
        }
        let mut list = NetworkList::from_bytes(&bytes).map_err(at)?;
        warn_of_version(file, &bytes);
        if !list.load_only_inlined_plugins {
            list.plugins.extend(plugins_in(&file.with_file_name(&list.name))?);
        }
        if list.plugins.is_empty() {
            let folder = file.with_file_name(&list.name);
            let why = format!("the network has no plugins here, nor as *.conf files in {}", folder.display());
            return Err(at(Error::config("plugins", "missing", why)));
        }
        Ok(list)
    }

    /// The list in `bytes`. Its plugins are those in it: none, if it has no key `plugins`.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let object = decode(bytes)?;
        let name = name_of(&object)?;
        let versions = versions_of(&object)?;
        let load_only_inlined_plugins = flag(&object, "loadOnlyInlinedPlugins")?;
        let plugins = match object.get("plugins") {
            None if load_only_inlined_plugins => {
                return Err(Error::config("plugins", "missing", "loadOnlyInlinedPlugins needs them here"));
            }
            None => Vec::new(),
            Some(plugins) => inlined_plugins(plugins)?,
        };
        Ok(NetworkList {
            name,
            version: *versions.last().expect("versions_of finds at least one"),
            versions,
            disable_check: flag(&object, "disableCheck")?,
            disable_gc: flag(&object, "disableGC")?,
            load_only_inlined_plugins,
            plugins,
            bytes: bytes.to_vec(),
        })
    }

    /// A single plugin's configuration as a list of one.
    fn from_single(bytes: &[u8]) -> Result<Self, Error> {
        let plugin = decode(bytes)?;
        if plugin.contains_key("plugins") && !plugin.contains_key("type") {
            return Err(Error::config("plugins", "present", "this is a list: the file's name must end in .conflist"));
        }
        let mut list: RawObject =
            ["name", "cniVersion"].iter().filter_map(|&key| Some((key.to_owned(), plugin.get(key)?.clone()))).collect();
        list.insert("plugins".to_owned(), raw(&[&plugin]));
        NetworkList::from_bytes(raw(&list).get().as_bytes())
    }
}

impl NetworkList {
    /// What each of the list's plugins of that type would get on STATUS.
    pub fn configurations_of(&self, plugin_type: &str) -> Vec<Vec<u8>> {
        let of_type = self.plugins.iter().filter(|plugin| plugin.plugin_type == plugin_type);
        of_type.map(|plugin| derive(self, plugin, Subject::Network)).collect()
    }
}

impl PluginConfig {
    /// One plugin's configuration: `type` is a must, `capabilities` are true or false.
    fn new(object: RawObject) -> Result<Self, Error> {
        let plugin_type = match value(&object, "type") {
            Value::String(name) if !name.is_empty() => name,
            Value::Null => return Err(Error::config("type", "missing", "which plugin is it?")),
            other => return Err(Error::config("type", shorten(&other), "not the name of a plugin binary")),
        };
        let capabilities: Option<BTreeMap<String, bool>> = parse_at(&value(&object, "capabilities"), "capabilities")?;
        let wanted = capabilities.unwrap_or_default().into_iter().filter(|(_, wanted)| *wanted);
        Ok(PluginConfig { plugin_type, capabilities: wanted.map(|(name, _)| name).collect(), object })
    }
}

/// The files of `directory` that may hold networks, in the order of precedence.
fn files_of(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let files = sorted_files(directory)?.ok_or_else(|| {
        let details = format!("directory {} does not exist; network configurations go there", directory.display());
        Error::new(code::INVALID_CONFIG, "network not found", details)
    })?;
    let (lists, others): (Vec<_>, Vec<_>) = files.into_iter().partition(|file| is_list(file));
    let single = others.into_iter().filter(|file| has_extension(file, "conf") || has_extension(file, "json"));
    Ok(lists.into_iter().chain(single).collect())
}

/// The regular files of `directory` in lexical order; `None` if it does not exist.
fn sorted_files(directory: &Path) -> Result<Option<Vec<PathBuf>>, Error> {
    let io = |error| Error::io(directory.display(), error);
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io(error)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path())).collect::<Result<Vec<_>, _>>().map_err(io)?;
    let mut files: Vec<PathBuf> = paths.into_iter().filter(|path| !path.is_dir()).collect();
    files.sort();
    Ok(Some(files))
}

/// The plugins in the `*.conf` files of a network's own folder, if it has one.
fn plugins_in(folder: &Path) -> Result<Vec<PluginConfig>, Error> {
    let files = sorted_files(folder)?.unwrap_or_default();
    let plugin = |file: &PathBuf| {
        decode(&each_key_once(read(file)?, file))
            .and_then(PluginConfig::new)
            .map_err(|error| error.context(file.display()))
    };
    files.iter().filter(|file| has_extension(file, "conf")).map(plugin).collect()
}

fn inlined_plugins(plugins: &RawValue) -> Result<Vec<PluginConfig>, Error> {
    let not_objects = |error| Error::config("plugins", "present", format!("not a list of objects: {error}"));
    let objects: Vec<RawObject> = serde_json::from_str(plugins.get()).map_err(not_objects)?;
    if objects.is_empty() {
        return Err(Error::config("plugins", "[]", "a network needs at least one plugin"));
    }
    let numbered = objects.into_iter().enumerate();
    numbered.map(|(i, object)| PluginConfig::new(object).map_err(|e| e.context(format!("plugins[{i}]")))).collect()
}

fn has_extension(file: &Path, extension: &str) -> bool {
    file.extension().is_some_and(|found| found == extension)
}

fn is_list(file: &Path) -> bool {
    has_extension(file, "conflist")
}

fn read(file: &Path) -> Result<Vec<u8>, Error> {
    crate::file::read(file, MAX_BYTES).map_err(|error| Error::io(file.display(), error))
}

/// Just the name of the network in `file`.
fn network_name(file: &Path) -> Result<String, Error> {
    let object = decode(&read(file)?).map_err(|error| error.context(file.display()))?;
    name_of(&object).map_err(|error| error.context(file.display()))
}

/// The file's JSON with each key once, as all its readers take it: warned of here, for plugins get what is derived from it.
fn each_key_once(bytes: Vec<u8>, file: &Path) -> Vec<u8> {
    let repeated = repeated_keys(&bytes);
    for key in &repeated {
        log::warn!("{}: key {key:?} is given more than once: the last one counts, remove the others", file.display());
    }
    match serde_json::from_slice::<&RawValue>(&bytes) {
        Ok(json) if !repeated.is_empty() => without_repeated_keys(json).get().as_bytes().to_vec(),
        _ => bytes,
    }
}

/// A JSON object; the error says line and column (code 6).
fn decode(bytes: &[u8]) -> Result<RawObject, Error> {
    serde_json::from_slice(bytes)
        .map_err(|error| Error::new(code::DECODING_FAILURE, "failed to decode", explain(bytes, &error)))
}

fn name_of(object: &RawObject) -> Result<String, Error> {
    let name = match value(object, "name") {
        Value::String(name) => name,
        Value::Null => return Err(Error::config("name", "missing", "the network needs a name")),
        other => return Err(Error::config("name", shorten(&other), "not a string")),
    };
    match identifier_fault(&name) {
        Some(fault) => Err(Error::config("name", format!("{name:?}"), fault)),
        None => Ok(name),
    }
}

/// The versions that configuration and crate have in common, oldest first; none is code 1.
///
/// A list may name versions newer than this crate: they are passed over, as long as one is left.
fn versions_of(object: &RawObject) -> Result<Vec<Version>, Error> {
    let single = match value(object, "cniVersion") {
        Value::Null => None,
        Value::String(text) => Some(text),
        other => return Err(Error::config("cniVersion", shorten(&other), version::not_a_string(&other))),
    };
    let several: Option<Vec<String>> = parse_at(&value(object, "cniVersions"), "cniVersions")?;
    let named: Vec<String> = match (single, several.unwrap_or_default()) {
        // Older than the key: 0.1.0.
        (None, several) if several.is_empty() => vec![String::new()],
        (single, several) => single.into_iter().chain(several).collect(),
    };
    let mut known: Vec<Version> = named.iter().filter_map(|text| text.parse().ok()).collect();
    known.sort();
    known.dedup();
    if known.is_empty() {
        let known = version::list(&Version::ALL);
        let mut details = match &named[..] {
            [one] => format!("cniVersion {one:?} is not one of {known}"),
            several => format!("cniVersion and cniVersions have {}, and none of {known}", several.join(", ")),
        };
        if let Some(meant) = named.iter().find_map(|text| version::meant(text)) {
            details = format!("{details}: write \"{meant}\"");
        }
        return Err(Error::new(code::INCOMPATIBLE_VERSION, "incompatible CNI version", details));
    }
    Ok(known)
}

/// Says what follows from a version that nobody wrote, and which versions are passed over for a slip of the pen.
fn warn_of_version(file: &Path, bytes: &[u8]) {
    let Ok(object) = decode(bytes) else { return };
    let single = value(&object, "cniVersion");
    let named: Vec<Value> =
        [single].into_iter().chain(value(&object, "cniVersions").as_array().cloned().unwrap_or_default()).collect();
    let texts: Vec<&str> = named.iter().filter_map(Value::as_str).filter(|text| !text.is_empty()).collect();
    let file = file.display();
    if texts.is_empty() {
        log::warn!(
            "{file}: key \"cniVersion\" is missing, which means 0.1.0: there is no CHECK, no GC and no STATUS; \
             write \"cniVersion\": \"1.0.0\""
        );
    }
    for text in texts.into_iter().filter(|text| text.parse::<Version>().is_err()) {
        if let Some(meant) = version::meant(text) {
            log::warn!("{file}: cniVersion {text:?} is not a version and is ignored: write \"{meant}\"");
        }
    }
}

/// A boolean key; the Go libcni takes the words as strings too, in any case.
fn flag(object: &RawObject, key: &str) -> Result<bool, Error> {
    match value(object, key) {
        Value::Null => Ok(false),
        Value::Bool(flag) => Ok(flag),
        Value::String(word) if word.eq_ignore_ascii_case("true") => Ok(true),
        Value::String(word) if word.eq_ignore_ascii_case("false") => Ok(false),
        other => Err(Error::config(key, shorten(&other), "neither true nor false")),
    }
}

/// The value of a key that the runtime looks at; `Null` if it is missing.
fn value(object: &RawObject, key: &str) -> Value {
    object.get(key).and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or(Value::Null)
}

/// A value as text. What is made of JSON can always be written as JSON.
pub(super) fn raw<T: serde::Serialize + ?Sized>(value: &T) -> Box<RawValue> {
    to_raw_value(value).expect("made of JSON")
}

fn warn_if_unreadable(candidate: &Candidate) {
    if let Candidate::Unreadable(_, error) = candidate {
        log::warn!("passed over: {error}");
    }
}

/// No file holds the network. A broken one that has its name in it is the network's, and its fault is the answer.
fn not_found(directory: &Path, name: &str, seen: Vec<Candidate>) -> Error {
    let (mut names, mut unreadable) = (Vec::new(), Vec::new());
    for candidate in seen {
        match candidate {
            Candidate::Named(name) => names.push(name),
            Candidate::Unreadable(file, error) if has_name(&file, name) => return error,
            Candidate::Unreadable(_, error) => unreadable.push(error.details),
        }
    }
    let mut details = format!("no network {name:?} in {}", directory.display());
    match (names.is_empty(), unreadable.is_empty()) {
        (true, true) => details.push_str(", which holds no networks"),
        (true, false) => {}
        (false, _) => details = format!("{details}, which holds: {}", names.join(", ")),
    }
    for error in unreadable {
        details = format!("{details}; a file can't be used: {error}");
    }
    Error::new(code::INVALID_CONFIG, "network not found", details)
}

/// Does a file that does not decode have the key `name` with that value somewhere?
fn has_name(file: &Path, name: &str) -> bool {
    let text = read(file).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let is_it = |after: &str| {
        let value = after.trim_start().strip_prefix(':').map(str::trim_start);
        value.is_some_and(|value| value.starts_with(&format!("{name:?}")))
    };
    text.match_indices("\"name\"").any(|(at, key)| is_it(&text[at + key.len()..]))
}

#[cfg(test)]
mod tests;
