//! JSON values from strangers: no more of them than fit.
//!
//! A value in memory is larger than its text, up to a hundred times (`{"":0}`), so a limit on bytes alone bounds little. Here
//! values are counted while they are read, and reading ends with an error where they become too many. Nesting is limited by
//! serde_json itself, at 128.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The most values, keys not counted, that one document may hold: less than 200 MiB, whatever they are. A route takes two or
/// three, so hundreds of thousands of routes fit. (Node maps are kept as text and do not count.)
pub(crate) const MOST_VALUES: usize = 1 << 19;

/// How many values may still come, and what was noticed of those that came.
#[derive(Debug)]
pub(crate) struct Room {
    left: Cell<usize>,
    has_repeated_keys: Cell<bool>,
}

impl Room {
    /// Room for that many.
    pub(crate) fn new(values: usize) -> Self {
        Room { left: Cell::new(values), has_repeated_keys: Cell::new(false) }
    }

    /// Was a key in an object already when it came? Which one is for [`crate::repeated`] to find out.
    pub(crate) fn has_repeated_keys(&self) -> bool {
        self.has_repeated_keys.get()
    }

    /// A key came a second time.
    pub(crate) fn note_repeated_key(&self) {
        self.has_repeated_keys.set(true);
    }

    /// Puts a value into an object; of a key that is there already the last value counts.
    pub(crate) fn insert(&self, object: &mut Map<String, Value>, key: String, value: Value) {
        if object.insert(key, value).is_some() {
            self.note_repeated_key();
        }
    }

    pub(crate) fn take<E: Error>(&self) -> Result<(), E> {
        match self.left.get().checked_sub(1) {
            Some(left) => {
                self.left.set(left);
                Ok(())
            }
            None => Err(E::custom("too many values")),
        }
    }
}

/// The JSON document in `bytes`, all of it.
pub(crate) fn from_slice(bytes: &[u8]) -> serde_json::Result<Value> {
    from_slice_within(MOST_VALUES, bytes)
}

/// The same, where another number of values fits.
pub(crate) fn from_slice_within(values: usize, bytes: &[u8]) -> serde_json::Result<Value> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = Room::new(values).deserialize(&mut json)?;
    json.end()?;
    Ok(value)
}

impl<'de> DeserializeSeed<'de> for &Room {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.take()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> DeserializeSeed<'de> for Room {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        (&self).deserialize(deserializer)
    }
}

impl<'de> Visitor<'de> for &Room {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any valid JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(element) = elements.next_element_seed(self)? {
            list.push(element);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(self)?;
            self.insert(&mut object, key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn too_many_values_are_an_error_wherever_they_stand() {
        let list = |count: usize| format!("[{}0]", "0,".repeat(count - 1));
        assert!(from_slice(list(MOST_VALUES - 1).as_bytes()).is_ok());
        let nested = format!(r#"[{0},{{"a":{0}}}]"#, list(MOST_VALUES / 2));
        for text in [list(MOST_VALUES), nested] {
            let error = from_slice(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with("too many values at line 1 column"), "{error}");
        }
    }

    #[test]
    fn what_is_no_json_is_refused_as_serde_json_does() {
        for text in ["", "{", "[1,]", "nul", "1 2", "{\"a\":1e999}", &"[".repeat(100_000)] {
            let ours = from_slice(text.as_bytes()).unwrap_err().to_string();
            let theirs = serde_json::from_slice::<Value>(text.as_bytes()).unwrap_err().to_string();
            assert_eq!(ours, theirs, "{:.20}", text);
        }
    }

    /// Any value of JSON.
    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map(".*", inner, 0..5).prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn a_value_reads_as_serde_json_reads_it(value in value()) {
            let text = value.to_string();
            prop_assert_eq!(from_slice(text.as_bytes()).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
        }

        #[test]
        fn any_bytes_are_read_or_refused_as_serde_json_does(text in r#"[\[\]{}",:0-9eE.tfnul \\-]{0,40}"#) {
            let theirs = serde_json::from_str::<Value>(&text).map_err(|error| error.to_string());
            prop_assert_eq!(from_slice(text.as_bytes()).map_err(|error| error.to_string()), theirs);
        }
    }
}
