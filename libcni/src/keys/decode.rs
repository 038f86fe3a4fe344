//! Reads a JSON object by its declared keys.
//!
//! Names are taken without regard to case, as Go's decoder takes them, for configurations that were written for it. Only declared keys, each
//! on its own level: what belongs to another plugin stays as it is written. The object has the proper names; of several
//! spellings of one key the last in the document counts. The bytes, which a delegate gets, are not touched.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::{At, Level, Shape};
use crate::value::Room;

/// A key whose name differs in case from the one declared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spelling {
    /// Its path, as it is written.
    pub written: String,
    /// The declared name.
    pub proper: &'static str,
}

/// No more than this many spellings are remembered: each becomes a line in a log.
const MOST_SPELLINGS: usize = 32;

/// An object that was read.
#[derive(Debug, Default)]
pub(crate) struct Decoded {
    pub object: Map<String, Value>,
    /// The values kept as text, by their keys.
    pub texts: Vec<(&'static str, Box<RawValue>)>,
    pub spellings: Vec<Spelling>,
}

/// Reads the object in `bytes`, all of it; `room` is for what is not kept as text.
pub(crate) fn decode(bytes: &[u8], level: &Level, room: &Room) -> serde_json::Result<Decoded> {
    let spellings = RefCell::default();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let reading = Reading { room, spellings: &spellings };
    let mut decoded = json.deserialize_map(Outermost { level, reading })?;
    json.end()?;
    decoded.spellings = spellings.into_inner();
    Ok(decoded)
}

/// What the whole of a document shares.
#[derive(Clone, Copy)]
struct Reading<'a> {
    room: &'a Room,
    spellings: &'a RefCell<Vec<Spelling>>,
}

impl Reading<'_> {
    /// The declared key that `name` means, and what its value is.
    fn declared<'l>(&self, level: &'l Level, name: &str, at: &At<'_>) -> Option<(&'static str, &'l Shape)> {
        let key = level.find(name)?;
        let mut spellings = self.spellings.borrow_mut();
        if key.name != name && spellings.len() < MOST_SPELLINGS {
            spellings.push(Spelling { written: At::Key(at, name).to_string(), proper: key.name });
        }
        Some((key.name, &key.shape))
    }

    /// Reads the value of `key`, and puts it into `object` under its proper name.
    fn insert<'de, A: MapAccess<'de>>(
        &self,
        object: &mut Map<String, Value>,
        key: String,
        declared: Option<(&'static str, &Shape)>,
        at: &At<'_>,
        map: &mut A,
    ) -> Result<(), A::Error> {
        let value = match declared {
            Some((name, shape)) => map.next_value_seed(Declared { shape, at: &At::Key(at, name), reading: *self })?,
            None => map.next_value_seed(self.room)?,
        };
        let name = match declared {
            Some((name, _)) if name != key => name.to_owned(),
            _ => key,
        };
        self.room.insert(object, name, value);
        Ok(())
    }
}

/// The configuration itself. Of a key that is there twice the last one counts.
struct Outermost<'a> {
    level: &'a Level,
    reading: Reading<'a>,
}

impl<'de> Visitor<'de> for Outermost<'_> {
    type Value = Decoded;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a map")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Decoded, A::Error> {
        let mut decoded = Decoded::default();
        while let Some(key) = map.next_key::<String>()? {
            match self.reading.declared(self.level, &key, &At::Root) {
                Some((name, Shape::Text(_))) => {
                    if decoded.texts.iter().any(|(earlier, _)| *earlier == name) {
                        self.reading.room.note_repeated_key();
                        decoded.texts.retain(|(earlier, _)| *earlier != name);
                    }
                    decoded.texts.push((name, map.next_value()?));
                }
                declared => self.reading.insert(&mut decoded.object, key, declared, &At::Root, &mut map)?,
            }
        }
        Ok(decoded)
    }
}

/// The value of a declared key.
struct Declared<'a> {
    shape: &'a Shape,
    at: &'a At<'a>,
    reading: Reading<'a>,
}

impl<'de> DeserializeSeed<'de> for Declared<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self.shape {
            Shape::Object(_) | Shape::List(_) => {
                self.reading.room.take()?;
                deserializer.deserialize_any(self)
            }
            _ => self.reading.room.deserialize(deserializer),
        }
    }
}

/// What is neither the object nor the list that was declared is read like any other value: it is refused later, by its key.
macro_rules! read_as_it_is {
    ($($visit:ident($type:ty))*) => { $(
        fn $visit<E: Error>(self, value: $type) -> Result<Value, E> {
            self.reading.room.$visit(value)
        }
    )* };
}

impl<'de> Visitor<'de> for Declared<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.reading.room.expecting(f)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let Shape::Object(level) = self.shape else { return self.reading.room.visit_map(map) };
        let mut object = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            let declared = self.reading.declared(level, &key, self.at);
            self.reading.insert(&mut object, key, declared, self.at, &mut map)?;
        }
        Ok(Value::Object(object))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let Shape::List(element) = self.shape else { return self.reading.room.visit_seq(elements) };
        let shape = &element();
        let mut list = Vec::new();
        loop {
            let at = At::Index(self.at, list.len());
            match elements.next_element_seed(Declared { shape, at: &at, reading: self.reading })? {
                Some(value) => list.push(value),
                None => return Ok(Value::Array(list)),
            }
        }
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.reading.room.visit_unit()
    }

    read_as_it_is! { visit_bool(bool) visit_i64(i64) visit_u64(u64) visit_f64(f64) visit_str(&str) visit_string(String) }
}
