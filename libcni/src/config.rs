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
use crate::result::CniResult;
use crate::value::{MOST_VALUES, Room};
use crate::version::Version;

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
        Document::decode(bytes, &Level::default(), Size::Usual).map(|document| document.0.object)
    }

    /// Checks what every command needs: the network's name. `version` is known by then.
    pub fn new(bytes: Vec<u8>, document: Document, version: Version) -> Result<Self, Error> {
        let Document(Decoded { object, texts, spellings }) = document;
        let name = match object.get("name") {
            Some(Value::String(name)) => name.clone(),
            Some(other) => return Err(Error::config("name", shorten(other), "not a string")),
            None => return Err(Error::config("name", "missing", "the network needs a name")),
        };
        if let Some(fault) = identifier_fault(&name) {
            return Err(Error::config("name", shorten(&Value::String(name)), fault));
        }
        Ok(Config { bytes, object, texts, spellings, name, version })
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
            Some(other) => Err(Error::config("cniVersion", shorten(other), "not a string")),
        }
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
pub struct Document(Decoded);

impl Document {
    /// Decodes `bytes` by the declared keys of `level`. The error says line and column (code 6).
    pub fn decode(bytes: &[u8], level: &Level, size: Size) -> Result<Self, Error> {
        let decoded = decode(bytes, level, &Room::new(size.values()));
        decoded.map(Document).map_err(|error| Error::decode("network configuration on stdin", error))
    }

    /// The object, less what is kept as text.
    pub fn object(&self) -> &Map<String, Value> {
        &self.0.object
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
    let why = in_words_of_json(&error.inner().to_string());
    Error::config(&key, culprit.map_or_else(|| "missing".to_owned(), shorten), why)
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
pub(crate) mod tests {
    use super::*;
    use crate::keys::{Shape, Text};

    /// One key is kept as text.
    #[derive(Configuration, Debug)]
    struct Long {
        #[key(name = "long")]
        _long: Text<Anything>,
    }

    #[derive(Debug)]
    struct Anything;

    impl crate::keys::Shaped for Anything {
        fn shape() -> Shape {
            Shape::Any
        }
    }

    /// A configuration whose key `long` is kept as text.
    pub fn long() -> Level {
        Level::of::<Long>()
    }

    fn config(text: &str) -> Result<Config, Error> {
        let document = Document::decode(text.as_bytes(), &long(), Size::Usual)?;
        let version = Config::version_of(document.object())?;
        Config::new(text.as_bytes().to_vec(), document, version)
    }

    #[test]
    fn text_that_does_not_parse_is_code_6_with_line_and_column() {
        let error = config("{\n  \"name\": }").unwrap_err();
        assert_eq!(error.code, code::DECODING_FAILURE);
        assert!(error.details.contains("line 2 column 11"), "{error}");
    }

    #[test]
    fn a_wrong_value_is_code_7_and_names_key_and_value() {
        #[derive(Configuration, Debug)]
        #[expect(dead_code, reason = "read, and not used")]
        struct Outer {
            ipam: Inner,
        }
        #[derive(Configuration, Debug)]
        #[expect(dead_code, reason = "read, and not used")]
        struct Inner {
            mtus: Vec<u32>,
            routes: Vec<crate::Route>,
        }
        for (text, details) in [
            (
                r#"{"name":"n","ipam":{"mtus":[1,"big"]}}"#,
                r#"key "ipam.mtus[1]", value "big": expected a whole number from 0 to 4294967295"#,
            ),
            (r#"{"name":"n","ipam":{"mtus":{}}}"#, r#"key "ipam.mtus", value {}: expected a list"#),
            (r#"{"name":"n","ipam":7}"#, r#"key "ipam", value 7: expected an object"#),
            (r#"{"name":"n","ipam":{"routes":[{}]}}"#, r#"key "ipam.routes[0]", value {}: missing field `dst`"#),
            (
                r#"{"name":"n","ipam":{"routes":[{"dst":"x"}]}}"#,
                r#"key "ipam.routes[0].dst", value "x": invalid address: x"#,
            ),
        ] {
            let error = config(text).unwrap().read::<Outer>().unwrap_err();
            assert_eq!((error.code, error.details.as_str()), (code::INVALID_CONFIG, details));
        }
    }

    #[test]
    fn names_become_file_names_and_are_checked() {
        for bad in [r#"{"name":"../x"}"#, r#"{"name":""}"#, r#"{"name":5}"#, "{}"] {
            assert_eq!(config(bad).unwrap_err().code, code::INVALID_CONFIG, "{bad}");
        }
    }

    #[test]
    fn what_is_kept_as_text_is_as_it_came_and_is_checked_to_be_json() {
        let read = config(r#"{"name":"n","long":[1],"other":[2],"long":[1, {"a":2}]}"#).unwrap();
        assert_eq!(read.text("long"), Some(r#"[1, {"a":2}]"#));
        assert_eq!(read.text("other"), None);
        assert!(!read.object.contains_key("long") && read.object.contains_key("other"));
        assert_eq!(config(r#"{"name":"n","long":null}"#).unwrap().text("long"), None);
        for broken in [r#"{"name":"n","long":[1,}"#, r#"{"name":"n","long":[1]} x"#, r#"["long"]"#] {
            assert_eq!(config(broken).unwrap_err().code, code::DECODING_FAILURE, "{broken}");
        }
    }

    #[test]
    fn gc_without_its_list_is_an_error_and_an_empty_list_is_not() {
        assert_eq!(config(r#"{"name":"n"}"#).unwrap().valid_attachments().unwrap_err().code, code::INVALID_CONFIG);
        let empty = config(r#"{"name":"n","cni.dev/valid-attachments":[]}"#).unwrap();
        assert_eq!(empty.valid_attachments().unwrap(), []);
    }

    #[test]
    fn deep_nesting_is_an_error_and_no_crash() {
        let deep = "[".repeat(100_000);
        assert_eq!(config(&format!("{{\"name\":{deep}")).unwrap_err().code, code::DECODING_FAILURE);
    }
}
