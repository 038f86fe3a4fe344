//! What type a key can have, and how its value is read from JSON.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{Configuration, Level, Object, Shape, Shown, Words};
use crate::config::{as_list, in_words_of_json, parse_at, shorten};
use crate::error::Error;
use crate::result::{Dns, Route};

/// Where a value is in the configuration; written out only when an error or a warning needs it.
#[derive(Clone, Copy, Debug)]
pub enum At<'a> {
    /// The configuration itself.
    Root,
    /// A key of the object there.
    Key(&'a At<'a>, &'a str),
    /// An element of the list there.
    Index(&'a At<'a>, usize),
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            At::Root => Ok(()),
            At::Key(At::Root, name) => f.write_str(name),
            At::Key(before, name) => write!(f, "{before}.{name}"),
            At::Index(before, index) => write!(f, "{before}[{index}]"),
        }
    }
}

impl At<'_> {
    /// Code 7: the value here does not fit.
    pub fn misfit(&self, value: &Value, why: impl fmt::Display) -> Error {
        Error::config(&self.to_string(), shorten(value), why)
    }

    /// Code 7: a list is expected here. Where only its brackets are missing, the error shows them.
    fn not_a_list(&self, value: &Value) -> Error {
        let why = "expected a list";
        match as_list(&self.to_string(), value) {
            Some(written) => self.misfit(value, format!("{why}: {written}")),
            None => self.misfit(value, why),
        }
    }
}

/// A type that JSON of one shape is read as.
pub trait Shaped {
    /// Which JSON that is.
    fn shape() -> Shape;
}

/// A type that a configuration key can have.
pub trait KeyType: Shaped + Sized {
    /// Reads a value. One that does not fit is code 7, and named with its path.
    fn read(value: &Value, at: &At<'_>) -> Result<Self, Error>;

    /// The value of the key at `path` of an object.
    fn of(object: &Object<'_>, path: &'static str) -> Result<Option<Self>, Error> {
        let read = |value| Self::read(value, &At::Key(&object.at, path));
        object.at(path)?.map(read).transpose()
    }

    /// A default as the documents show it: JSON, or `none`.
    fn shown(&self) -> String {
        "none".to_owned()
    }
}

/// Reads a value without keys inside of it.
pub fn scalar<T: DeserializeOwned>(value: &Value, at: &At<'_>) -> Result<T, Error> {
    T::deserialize(value).map_err(|error| at.misfit(value, in_words_of_json(&error.to_string())))
}

impl<C: Configuration> Shaped for C {
    fn shape() -> Shape {
        let mut level = Level::default();
        C::declare(&mut level);
        Shape::Object(level)
    }
}

impl<C: Configuration> KeyType for C {
    fn read(value: &Value, at: &At<'_>) -> Result<Self, Error> {
        match value {
            Value::Object(values) => C::read(&Object { values, texts: &[], at: *at }),
            other => Err(at.misfit(other, "expected an object")),
        }
    }
}

impl<T: Shaped> Shaped for Option<T> {
    fn shape() -> Shape {
        T::shape()
    }
}

impl<T: KeyType> KeyType for Option<T> {
    fn read(value: &Value, at: &At<'_>) -> Result<Self, Error> {
        if value.is_null() { Ok(None) } else { T::read(value, at).map(Some) }
    }

    fn shown(&self) -> String {
        self.as_ref().map_or_else(|| "none".to_owned(), T::shown)
    }
}

impl<T: Shaped> Shaped for Vec<T> {
    fn shape() -> Shape {
        Shape::List(T::shape)
    }
}

impl<T: KeyType> KeyType for Vec<T> {
    fn read(value: &Value, at: &At<'_>) -> Result<Self, Error> {
        let Value::Array(list) = value else { return Err(at.not_a_list(value)) };
        list.iter().enumerate().map(|(index, value)| T::read(value, &At::Index(at, index))).collect()
    }

    fn shown(&self) -> String {
        format!("[{}]", self.iter().map(T::shown).collect::<Vec<_>>().join(", "))
    }
}

macro_rules! scalars {
    ($($type:ty => $shape:expr, $shown:expr;)*) => { $(
        impl Shaped for $type {
            fn shape() -> Shape {
                $shape
            }
        }

        impl KeyType for $type {
            fn read(value: &Value, at: &At<'_>) -> Result<Self, Error> {
                scalar(value, at)
            }

            fn shown(&self) -> String {
                let shown: fn(&$type) -> String = $shown;
                shown(self)
            }
        }
    )* };
}

scalars! {
    bool => Shape::Boolean, bool::to_string;
    u8 => Shape::Integer { least: 0, most: u8::MAX.into() }, u8::to_string;
    u16 => Shape::Integer { least: 0, most: u16::MAX.into() }, u16::to_string;
    u32 => Shape::Integer { least: 0, most: u32::MAX.into() }, u32::to_string;
    u64 => Shape::Integer { least: 0, most: i64::MAX }, u64::to_string;
    i64 => Shape::Integer { least: i64::MIN, most: i64::MAX }, i64::to_string;
    String => Shape::String, |text| format!("{text:?}");
    PathBuf => Shape::String, |path| format!("{path:?}");
    IpAddr => Shape::String, |ip| format!("\"{ip}\"");
    IpNetwork => Shape::String, |network| format!("\"{network}\"");
}

/// Types of results that are keys too: read by serde, as everywhere else.
macro_rules! of_results {
    ($($type:ty: $($name:literal $shape:ty),*;)*) => { $(
        impl Shaped for $type {
            fn shape() -> Shape {
                let mut level = Level::default();
                $(level.declare($name, <$shape>::shape(), Words { help: "", shown: Shown::Words(""), brief: false });)*
                Shape::Object(level)
            }
        }

        impl KeyType for $type {
            fn read(value: &Value, at: &At<'_>) -> Result<Self, Error> {
                Self::deserialize(value).or_else(|_| parse_at(value, &at.to_string()))
            }
        }
    )* };
}

of_results! {
    Dns: "nameservers" Vec<String>, "domain" String, "search" Vec<String>, "options" Vec<String>;
    Route: "dst" IpNetwork, "gw" IpAddr, "mtu" u32, "advmss" u32, "priority" u32, "table" u32, "scope" u8;
}

/// A key whose value is kept as text ([`Config::text`](crate::Config::text)): all that is known of it here is whether it is given.
/// Only on the configuration's outermost level.
#[derive(Debug)]
pub struct Text<T> {
    is_given: bool,
    shape: PhantomData<T>,
}

impl<T> Text<T> {
    /// Is the key given? null counts as missing.
    pub fn is_given(&self) -> bool {
        self.is_given
    }
}

impl<T> Default for Text<T> {
    fn default() -> Self {
        Text { is_given: false, shape: PhantomData }
    }
}

impl<T: Shaped> Shaped for Text<T> {
    fn shape() -> Shape {
        Shape::Text(T::shape)
    }
}

impl<T: Shaped> KeyType for Text<T> {
    fn read(value: &Value, _: &At<'_>) -> Result<Self, Error> {
        Ok(Text { is_given: !value.is_null(), shape: PhantomData })
    }

    fn of(object: &Object<'_>, path: &'static str) -> Result<Option<Self>, Error> {
        Ok(Some(Text { is_given: object.has_text(path), shape: PhantomData }))
    }
}
