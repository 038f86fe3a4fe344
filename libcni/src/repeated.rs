//! Keys that one JSON object has twice.
//!
//! JSON allows it and every reader picks one: serde_json and Go take the last. Whoever wrote the file believes in the first as
//! much, so such keys are told by their path. Looking costs a pass over the text; a plugin looks only where its decoder, which
//! notices without cost that a key was there already, says that there is something to find.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::{RawValue, to_raw_value};

/// How many are told: who reads ten warnings reads the file.
const MOST_TOLD: usize = 10;

/// The longest path that is told, in bytes.
const LONGEST: usize = 200;

/// serde_json's own limit of nesting.
const DEEPEST: usize = 128;

/// The paths of the keys that an object in `json` has more than once, in the order of their second places: the first few.
pub(crate) fn repeated_keys(json: &[u8]) -> Vec<String> {
    let look = Look::default();
    // What is no JSON is reported by the decoder.
    let _ = look.deserialize(&mut serde_json::Deserializer::from_slice(json));
    look.found.into_inner()
}

/// The same JSON, each key once: the last one counts. Everything else stays as it is written.
pub(crate) fn without_repeated_keys(json: &RawValue) -> Box<RawValue> {
    once(json, DEEPEST)
}

fn once(json: &RawValue, levels: usize) -> Box<RawValue> {
    let text = json.get();
    let inner = |value: Box<RawValue>| once(&value, levels.saturating_sub(1));
    let written = match text.as_bytes().first() {
        _ if levels == 0 => None,
        Some(b'{') => serde_json::from_str::<BTreeMap<String, Box<RawValue>>>(text).ok().map(|object| {
            let object: BTreeMap<_, _> = object.into_iter().map(|(key, value)| (key, inner(value))).collect();
            to_raw_value(&object)
        }),
        Some(b'[') => serde_json::from_str::<Vec<Box<RawValue>>>(text)
            .ok()
            .map(|list| to_raw_value(&list.into_iter().map(inner).collect::<Vec<_>>())),
        _ => None,
    };
    written.and_then(Result::ok).unwrap_or_else(|| json.to_owned())
}

/// Where the reader is, and what it has found.
#[derive(Default)]
struct Look {
    path: RefCell<String>,
    found: RefCell<Vec<String>>,
}

/// A key, borrowed from the text if it can be.
#[derive(Deserialize, PartialEq, Eq, Hash)]
#[serde(transparent)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

impl Look {
    /// One step down the path: a key, or the place in a list. Returns how long the path was.
    fn enter(&self, step: fmt::Arguments) -> usize {
        use fmt::Write as _;
        let mut path = self.path.borrow_mut();
        let length = path.len();
        let _ = path.write_fmt(step);
        length
    }

    fn leave(&self, length: usize) {
        self.path.borrow_mut().truncate(length);
    }

    fn tell(&self) {
        let (path, mut found) = (self.path.borrow(), self.found.borrow_mut());
        let shown: String =
            if path.len() <= LONGEST { path.clone() } else { path.chars().take(LONGEST).chain(['…']).collect() };
        if found.len() < MOST_TOLD && !found.contains(&shown) {
            found.push(shown);
        }
    }
}

impl<'de> DeserializeSeed<'de> for &Look {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for &Look {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<(), A::Error> {
        for index in 0.. {
            let length = self.enter(format_args!("[{index}]"));
            let element = elements.next_element_seed(self)?;
            self.leave(length);
            if element.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(Name(key)) = entries.next_key::<Name>()? {
            let dot = if self.path.borrow().is_empty() { "" } else { "." };
            let length = self.enter(format_args!("{dot}{key}"));
            if !seen.insert(key) {
                self.tell();
            }
            entries.next_value_seed(self)?;
            self.leave(length);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_there_twice_are_told_by_their_path() {
        let json = r#"{"name":"n","ipam":{"ranges":[[{"subnet":"a"},{"subnet":"b","subnet":"c"}]],"type":"x","type":"y"},
            "plugins":[{"mtu":1},{"mtu":1,"m\u0074u":2}],"name":"m","name":"o","x":{},"y":[null,true,1.5,-1,18446744073709551615]}"#;
        let expected = ["ipam.ranges[0][1].subnet", "ipam.type", "plugins[1].mtu", "name"];
        assert_eq!(repeated_keys(json.as_bytes()), expected);
        assert!(repeated_keys(br#"{"a":{"b":1},"b":{"a":1},"c":[{"a":1},{"a":1}]}"#).is_empty());
    }

    #[test]
    fn of_very_many_and_very_long_ones_the_beginning_is_told() {
        let many: Vec<String> = (0..100).map(|n| format!(r#""k{n}":1,"k{n}":2"#)).collect();
        assert_eq!(repeated_keys(format!("{{{}}}", many.join(",")).as_bytes()).len(), MOST_TOLD);
        let long = "ä".repeat(1000);
        let told = repeated_keys(format!(r#"{{"{long}":1,"{long}":2}}"#).as_bytes());
        assert!(told.len() == 1 && told[0].chars().count() <= LONGEST + 1, "{told:?}");
        let deep = format!("{}1{}", r#"{"a":"#.repeat(1000), "}".repeat(1000));
        assert!(repeated_keys(deep.as_bytes()).is_empty());
    }

    #[test]
    fn the_last_one_counts_and_the_rest_stays_as_it_is_written() {
        let json = r#"{"b":[{"x":1, "x":{"n":1e400,"n":2E+1}}, 7],"a":0.10,"a":123456789012345678901234567890}"#;
        let once = without_repeated_keys(serde_json::from_str(json).unwrap());
        assert_eq!(once.get(), r#"{"a":123456789012345678901234567890,"b":[{"x":{"n":2E+1}},7]}"#);
        let deep = format!(r#"{{"a":1,"a":{}1{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
        assert!(without_repeated_keys(serde_json::from_str(&deep).unwrap()).get().len() > 200_000);
    }
}
