//! Configuration keys, each declared once.
//!
//! A plugin's configuration is a struct with `#[derive(Configuration)]`, and each of its fields a key. One declaration
//! gives how the key is read, its default, its line in `--help`, in the documents, in the JSON Schema and in the man page, and
//! the proper spelling of its name.
//!
//! * `level.rs`: the declared keys as a tree ([`Level`]), built once an execution.
//! * `decode.rs`: reads a JSON object by that tree: names without regard to case, values kept as text.
//! * `value.rs`: what type a key can have ([`KeyType`]), and how its value is read.

pub(crate) mod decode;
mod level;
mod value;

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::error::Error;

pub use decode::Spelling;
pub use level::{Key, Level, Row, Shape, Shown, Words};
pub use libcni_derive::Configuration;
pub use value::{At, KeyType, Shaped, Text, scalar};

/// The keys of a plugin, or a group of keys that several plugins have. Derived: `#[derive(Configuration)]`.
pub trait Configuration: Default {
    /// Declares the keys on `level`.
    fn declare(level: &mut Level);

    /// Reads the keys from `object`. A value that does not fit is code 7, and named with its path.
    fn read(object: &Object<'_>) -> Result<Self, Error>;
}

/// A JSON object whose keys are declared: what a [`Configuration`] is read from.
#[derive(Clone, Copy, Debug)]
pub struct Object<'a> {
    pub(crate) values: &'a Map<String, Value>,
    /// The values kept as text.
    pub(crate) texts: &'a [(&'static str, Box<RawValue>)],
    pub(crate) at: At<'a>,
}

impl<'a> Object<'a> {
    /// The value of the key at `path`, which leads through objects at its dots; `None` if the key, or an object before it, is not there.
    pub fn value<T: KeyType>(&self, path: &'static str) -> Result<Option<T>, Error> {
        T::of(self, path)
    }

    /// What JSON says at `path`. An object before it that is null counts as missing; anything else than an object is code 7.
    pub fn at(&self, path: &str) -> Result<Option<&'a Value>, Error> {
        let mut object = self.values;
        let mut rest = path;
        while let Some((first, inner)) = rest.split_once('.') {
            match object.get(first) {
                Some(Value::Object(next)) => object = next,
                None | Some(Value::Null) => return Ok(None),
                Some(other) => {
                    let before = &path[..path.len() - inner.len() - 1];
                    return Err(At::Key(&self.at, before).misfit(other, "expected an object"));
                }
            }
            rest = inner;
        }
        Ok(object.get(rest))
    }

    /// Is there a value at `path` that is kept as text? null counts as missing.
    pub fn has_text(&self, path: &str) -> bool {
        self.texts.iter().any(|(name, text)| *name == path && text.get() != "null")
    }
}

#[cfg(test)]
mod tests;
