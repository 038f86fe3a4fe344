//! The network configuration that a plugin reads on stdin (spec section 3, "Deriving request configuration").
//!
//! The bytes are kept as they came, for a delegate gets the complete configuration. What a plugin itself
//! understands it declares as a type of its own ([`Configuration`]), and [`Config::read`] reads it. A value that does not fit
//! is named with its key (code 7).

use std::io::Read;

use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use crate::error::{Error, code};
use crate::invocation::{AttachmentId, identifier_fault};
use crate::keys::decode::{Decoded, decode};
use crate::keys::{At, Configuration, Level, Object, Spelling};
use crate::repeated::repeated_keys;
use crate::result::CniResult;
use crate::syntax::explain;
use crate::value::{MOST_VALUES, Room};
use crate::version::{self, Version};

/// The largest configuration that is read, in bytes. Inline node maps of thousands of nodes fit many times over.
pub const MAX_BYTES: u64 = 16 << 20;

/// How large a configuration may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// ADD and STATUS: 16 MiB, and half a million JSON values.
    Usual,
    /// CHECK, DEL, GC: four times that. To what ADD took comes its result, and what was added must be removable.
    WithResult,
}

impl Size {
    fn bytes(self) -> u64 {
        self.times() * MAX_BYTES
    }

    fn values(self) -> usize {
        self.times() as usize * MOST_VALUES
    }

    fn times(self) -> u64 {
        if self == Size::Usual { 1 } else { 4 }
    }
}

/// One plugin's configuration, as the runtime derived it.
#[derive(Clone, Debug)]
pub struct Config {
    /// What was on stdin, to the byte.
    pub bytes: Vec<u8>,
    /// The same as a JSON object, less what is kept as text; declared keys have their proper names.
    pub object: Map<String, Value>,
    /// What is kept as text.
    texts: Vec<(&'static str, Box<RawValue>)>,
    /// Declared keys that are written in another case.
    pub spellings: Vec<Spelling>,
    has_repeated_keys: bool,
    /// `name`: the network. Valid as a file name.
    pub name: String,
    /// `cniVersion`: the version to speak.
    pub version: Version,
}

impl Config {
    /// Reads all of `input`: code 5 if it can't be read, 6 if it is more than `size` allows.
    pub fn read_bytes(input: &mut dyn Read, size: Size) -> Result<Vec<u8>, Error> {
        let (mut bytes, most) = (Vec::new(), size.bytes());
        input
            .take(most + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| Error::io("network configuration on stdin", error))?;
        match bytes.len() as u64 > most {
            true => Err(Error::decode("network configuration on stdin", format!("larger than {} MiB", most >> 20))),
            false => Ok(bytes),
        }
    }

    /// The JSON object in `bytes`. The error says line and column (code 6).
    pub fn decode(bytes: &[u8]) -> Result<Map<String, Value>, Error> {
        Document::decode(bytes, &Level::default(), Size::Usual).map(|document| document.decoded.object)
    }

    /// Checks what every command needs: the network's name. `version` is known by then.
    pub fn new(bytes: Vec<u8>, document: Document, version: Version) -> Result<Self, Error> {
        let Document { decoded: Decoded { object, texts, spellings }, has_repeated_keys } = document;
        let name = match object.get("name") {
            Some(Value::String(name)) => name.clone(),
            Some(other) => return Err(Error::config("name", shorten(other), "not a string")),
            None => return Err(Error::config("name", "missing", "the network needs a name")),
        };
        if let Some(fault) = identifier_fault(&name) {
            return Err(Error::config("name", shorten(&Value::String(name)), fault));
        }
        Ok(Config { bytes, object, texts, spellings, has_repeated_keys, name, version })
    }

    /// The JSON text of a key that is kept as text ([`keys::Text`](crate::keys::Text)); null counts as missing.
    pub fn text(&self, key: &str) -> Option<&str> {
        let (_, text) = self.texts.iter().find(|(name, _)| *name == key)?;
        Some(text.get()).filter(|text| *text != "null")
    }

    /// `cniVersion` of a decoded configuration; missing is 0.1.0, unknown is code 1.
    pub fn version_of(object: &Map<String, Value>) -> Result<Version, Error> {
        match object.get("cniVersion") {
            None | Some(Value::Null) => Ok(Version::V0_1_0),
            Some(Value::String(text)) => text.parse(),
            Some(other) => Err(Error::config("cniVersion", shorten(other), version::not_a_string(other))),
        }
    }

    /// The paths of keys that an object of the configuration has more than once; the last one counts.
    pub fn repeated_keys(&self) -> Vec<String> {
        if self.has_repeated_keys { repeated_keys(&self.bytes) } else { Vec::new() }
    }

    /// What a plugin understands of the configuration, or a group of its keys. Unknown keys are let through; a value
    /// that does not fit is code 7.
    pub fn read<C: Configuration>(&self) -> Result<C, Error> {
        C::read(&Object { values: &self.object, texts: &self.texts, at: At::Root })
    }

    /// `prevResult`, read in the configuration's version or the one it names itself.
    pub fn prev_result(&self) -> Result<Option<CniResult>, Error> {
        match self.object.get("prevResult") {
            None | Some(Value::Null) => Ok(None),
            Some(value) => CniResult::from_value(value, self.version).map(Some).map_err(|error| {
                Error::new(
                    code::INVALID_CONFIG,
                    "invalid network configuration",
                    format!("key \"prevResult\": {}", error.details),
                )
            }),
        }
    }

    /// `prevResult`, for who can't do without it: a chained plugin, and CHECK. Missing is code 7.
    pub fn required_prev_result(&self) -> Result<CniResult, Error> {
        let why = "the plugin needs the result of those before it in the chain, and CHECK that of ADD";
        self.prev_result()?.ok_or_else(|| Error::config("prevResult", "missing", why))
    }

    /// `ipam.type`, if the configuration delegates addresses. Not more than that is looked at, so that DEL
    /// can always delegate.
    pub fn ipam_type(&self) -> Option<&str> {
        self.object.get("ipam")?.get("type")?.as_str().filter(|name| !name.is_empty())
    }

    /// `cni.dev/valid-attachments`, which GC needs. Missing is an error (code 7), never "nothing is valid".
    pub fn valid_attachments(&self) -> Result<Vec<AttachmentId>, Error> {
        const KEY: &str = "cni.dev/valid-attachments";
        match self.object.get(KEY) {
            None | Some(Value::Null) => {
                Err(Error::config(KEY, "missing", "GC needs the list of attachments that are still valid"))
            }
            Some(value) => parse_at(value, KEY),
        }
    }
}

/// A configuration, decoded but not checked.
#[derive(Debug)]
pub struct Document {
    decoded: Decoded,
    has_repeated_keys: bool,
}

impl Document {
    /// Decodes `bytes` by the declared keys of `level`. The error says line and column (code 6).
    pub fn decode(bytes: &[u8], level: &Level, size: Size) -> Result<Self, Error> {
        let room = Room::new(size.values());
        match decode(bytes, level, &room) {
            Ok(decoded) => Ok(Document { decoded, has_repeated_keys: room.has_repeated_keys() }),
            Err(error) => Err(Error::decode("network configuration on stdin", explain(bytes, &error))),
        }
    }

    /// The object, less what is kept as text.
    pub fn object(&self) -> &Map<String, Value> {
        &self.decoded.object
    }
}

/// Deserializes `value`, which stands at the key `at`; an error names key and value (code 7).
pub fn parse_at<T: DeserializeOwned>(value: &Value, at: &str) -> Result<T, Error> {
    serde_path_to_error::deserialize(value).map_err(|error| misfit(&error, at, lookup(value, error.path().iter())))
}

/// A value that does not fit, below the key `at`.
fn misfit(error: &serde_path_to_error::Error<serde_json::Error>, at: &str, culprit: Option<&Value>) -> Error {
    let path = error.path().to_string();
    let path = if path == "." { String::new() } else { path };
    let key = [at, path.as_str()].iter().filter(|part| !part.is_empty()).copied().collect::<Vec<_>>().join(".");
    let mut why = in_words_of_json(&error.inner().to_string());
    if let (true, Some(written)) = (why == A_LIST, culprit.and_then(|culprit| as_list(&key, culprit))) {
        why = format!("{why}: {written}");
    }
    Error::config(&key, culprit.map_or_else(|| "missing".to_owned(), shorten), why)
}

const A_LIST: &str = "expected a list";

/// How a value is written where a list is expected, at the path `key`: `"ranges": [[…]]` for `ipam.ranges[0]`. `None` for what
/// is more than a forgotten pair of brackets.
pub(crate) fn as_list(key: &str, value: &Value) -> Option<String> {
    let name = key.rsplit('.').next()?;
    let (name, indices) = name.split_at(name.find('[').unwrap_or(name.len()));
    let levels = indices.matches('[').count() + 1;
    let is_element = levels > 1 || value.is_string() || value.is_number();
    is_element.then(|| format!("{name:?}: {}{}{}", "[".repeat(levels), shorten(value), "]".repeat(levels)))
}

/// serde says what it found, which the error's value shows, and what it expected, in words of Rust.
pub(crate) fn in_words_of_json(why: &str) -> String {
    let Some((_, expected)) = why.split_once(", expected ") else { return why.to_owned() };
    let words = match expected {
        "a sequence" => "a list",
        "a map" => "an object",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number, 0 or more",
        "i32" | "i64" => "a whole number",
        other if other.starts_with("struct ") => "an object",
        other => other,
    };
    format!("expected {words}")
}

/// The value at a path of serde_path_to_error.
fn lookup<'a, 'b>(value: &'a Value, mut path: impl Iterator<Item = &'b Segment>) -> Option<&'a Value> {
    path.try_fold(value, |value, segment| match segment {
        Segment::Seq { index } => value.get(index),
        Segment::Map { key } => value.get(key),
        Segment::Enum { .. } | Segment::Unknown => Some(value),
    })
}

/// A JSON value short enough for an error message.
pub fn shorten(value: &Value) -> String {
    let mut text = value.to_string();
    if text.len() > 100 {
        let end = (0..=100).rev().find(|&at| text.is_char_boundary(at)).unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    text
}

#[cfg(test)]
pub(crate) mod tests;
