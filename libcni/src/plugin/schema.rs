//! `--schema`: a JSON Schema (draft 2020-12) of the plugin's configuration, from the keys' declaration.
//!
//! For editors and for checks before a configuration reaches a node. Keys that the plugin does not know are allowed, as the specification
//! wants it. Names are the proper ones: the plugin itself takes them in any case.

use serde_json::{Map, Value, json};

use super::Kind;
use super::documents::Subject;
use crate::keys::{Key, Level, Shape};

/// The schema, as text.
pub fn schema(subject: &Subject) -> String {
    let about = &subject.about;
    let mut schema = object(&subject.keys, true);
    schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
    schema.insert("title".into(), format!("{} {}", about.name, about.version).into());
    schema.insert("description".into(), format!("{}: {}", about.name, about.summary).into());
    let mut schema = Value::Object(schema);
    let place = match subject.kind {
        Kind::Interface => "/properties/type",
        Kind::Ipam => "/properties/ipam/properties/type",
    };
    if let Some(place) = schema.pointer_mut(place) {
        *place = json!({ "const": about.name });
    }
    format!("{schema:#}\n")
}

/// An object with these keys; `told` says whether their descriptions belong here.
fn object(level: &Level, told: bool) -> Map<String, Value> {
    let properties: Map<String, Value> =
        level.keys().iter().map(|key| (key.name.to_owned(), property(key, told))).collect();
    let object = json!({ "type": "object", "properties": properties, "additionalProperties": true });
    object.as_object().cloned().unwrap_or_default()
}

fn property(key: &Key, told: bool) -> Value {
    let mut property = value(&key.shape, told && !key.words.brief);
    if told && !key.words.help.is_empty() {
        property.insert("description".into(), key.words.help.into());
        if let Ok(default) = serde_json::from_str(&key.words.shown.to_string()) {
            property.insert("default".into(), default);
        }
    }
    Value::Object(property)
}

fn value(shape: &Shape, told: bool) -> Map<String, Value> {
    let value = match shape {
        Shape::Any => json!({}),
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Integer { least, most } => json!({ "type": "integer", "minimum": least, "maximum": most }),
        Shape::String => json!({ "type": "string" }),
        Shape::Word(words) => json!({ "enum": words }),
        Shape::Object(level) => return object(level, told),
        Shape::List(element) => json!({ "type": "array", "items": value(&element(), told) }),
        Shape::Either(both) => json!({ "anyOf": both.map(|one| value(&one(), told)) }),
        Shape::Text(shape) => return value(&shape(), told),
    };
    value.as_object().cloned().unwrap_or_default()
}
