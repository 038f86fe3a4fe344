//! Where the map is, and the other keys that go with it.

use std::path::PathBuf;

use libcni::keys::{Level, Shape, Shaped, Shown, Text, Words};
use libcni::syntax::explain;
use libcni::{Config, Configuration};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use twox_hash::XxHash64;

use crate::error::Error;
use crate::map::{Map, Node};
use crate::view::Family;

/// The keys of a node map, as every plugin that takes one declares them.
#[derive(Debug, Configuration)]
pub struct MapKeys {
    /// The node map: a list, or the path of a file with one; ranges of host-local come from it.
    #[key(shown = "none: one node")]
    pub nodes: Text<Inline>,
    /// Which node of the map this is.
    #[key(shown = "by the machine's addresses")]
    pub node_name: Option<String>,
    // Documented by the plugins in which it makes a difference.
    #[key(shown = "\"ipv4\"")]
    pub(crate) underlay_family: Option<Family>,
}

/// A map, and what a configuration says about it.
#[derive(Debug)]
pub struct Keys {
    /// `nodes`.
    pub source: Source,
    /// `nodeName`: which entry is this node; by the machine's addresses if missing.
    pub node_name: Option<String>,
    /// `underlayFamily`: over which addresses nodes talk that have both.
    pub underlay_family: Family,
}

/// What `nodes` can be: the list, or the path of its file.
#[derive(Debug)]
pub struct Inline;

impl Shaped for Inline {
    fn shape() -> Shape {
        Shape::Either([String::shape, || Shape::List(an_entry)])
    }
}

fn an_entry() -> Shape {
    let mut node = Level::default();
    let texts = <Vec<String>>::shape;
    for (key, shape) in [("name", Shape::String), ("addresses", texts()), ("podCIDRs", texts())] {
        node.declare(key, shape, Words { help: "", shown: Shown::Words(""), brief: false });
    }
    Shape::Object(node)
}

/// The map's text, not parsed yet: whether it changed is known before what it says.
#[derive(Debug)]
pub struct Source {
    /// The file, or none for a map in the configuration.
    path: Option<PathBuf>,
    /// JSON.
    text: Vec<u8>,
}

const NODES: &str = "nodes";

#[derive(Deserialize)]
struct File {
    nodes: Vec<Node>,
}

impl MapKeys {
    /// Is there a map? It is not looked at.
    pub fn are_given(&self) -> bool {
        self.nodes.is_given()
    }

    /// The map, its file read but nothing parsed; `None` if there is no `nodes`.
    pub fn open(&self, config: &Config) -> Result<Option<Keys>, Error> {
        let Some(nodes) = config.text(NODES) else { return Ok(None) };
        Ok(Some(Keys {
            node_name: self.node_name.clone().filter(|name| !name.is_empty()),
            underlay_family: self.underlay_family.unwrap_or_default(),
            source: Source::read(nodes)?,
        }))
    }
}

impl Keys {
    /// The map of a configuration that is otherwise not read, as for GC: its own keys alone, whatever has become of the others.
    pub fn read(config: &Config) -> Result<Option<Self>, libcni::Error> {
        match Keys::are_in(config) {
            true => Ok(config.read::<MapKeys>()?.open(config)?),
            false => Ok(None),
        }
    }

    /// Is there a map? Nothing is looked at.
    pub fn are_in(config: &Config) -> bool {
        config.text(NODES).is_some()
    }
}

impl Source {
    fn read(nodes: &str) -> Result<Self, Error> {
        let refuse = |why: &str| {
            let value = serde_json::from_str(nodes).unwrap_or(Value::Null);
            Err(Error::Key { key: NODES, value: libcni::config::shorten(&value), why: why.to_owned() })
        };
        match nodes.as_bytes().first() {
            Some(b'[') => Ok(Source { path: None, text: nodes.as_bytes().to_vec() }),
            Some(b'"') => {
                let path: PathBuf = serde_json::from_str(nodes).unwrap_or_default();
                // A relative path would be the runtime's affair: where it happens to run.
                if !path.is_absolute() {
                    return refuse("not an absolute path");
                }
                match libcni::file::read(&path, MAX_BYTES) {
                    Ok(text) => Ok(Source { path: Some(path), text }),
                    Err(source) => Err(Error::Unreadable { path, source }),
                }
            }
            _ => refuse("neither a list of nodes nor the path of a file with one"),
        }
    }

    /// Sixty-four bits that change when the text does.
    pub fn digest(&self) -> u64 {
        XxHash64::oneshot(0, &self.text)
    }

    /// What the map says, checked whole.
    pub fn parse(&self) -> Result<Map, Error> {
        let nodes = match &self.path {
            None => decode(&self.text, "in the configuration (key \"nodes\")")?,
            Some(path) => decode_file(&self.text, &path.display().to_string())?,
        };
        Map::new(nodes)
    }
}

/// A file has the list alone, as a configuration has it, or an object with the list as `nodes`.
fn decode_file(text: &[u8], place: &str) -> Result<Vec<Node>, Error> {
    match text.trim_ascii_start().first() {
        Some(b'[') => decode(text, place),
        _ => Ok(decode::<File>(text, place)?.nodes),
    }
}

/// The largest map that is read, in bytes: a hundred thousand nodes fit.
const MAX_BYTES: u64 = 16 << 20;

/// Decodes the whole text; the error says where, and in which key.
fn decode<T: DeserializeOwned>(text: &[u8], place: &str) -> Result<T, Error> {
    let undecodable = |why: String| Error::Undecodable { place: place.to_owned(), why };
    let mut json = serde_json::Deserializer::from_slice(text);
    let decoded = serde_path_to_error::deserialize(&mut json).map_err(|error| match error.path().to_string() {
        path if path == "." => undecodable(explain(text, error.inner())),
        path => undecodable(format!("{path}: {}", explain(text, error.inner()))),
    })?;
    json.end().map_err(|error| undecodable(explain(text, &error)))?;
    Ok(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::testing::config;

    fn read(text: &str) -> Result<Option<Keys>, libcni::Error> {
        Keys::read(&config(text))
    }

    #[test]
    fn a_map_is_read_from_the_configuration_or_from_a_file() {
        let entry = r#"{"name":"a","addresses":["10.0.0.1"],"podCIDRs":["10.1.0.0/24"],"labels":{}}"#;
        #[expect(clippy::disallowed_methods, reason = "a test's own file")]
        let directory = std::env::temp_dir().join(format!("podwire-nodes-{}", std::process::id()));
        let inline = read(&format!(r#"{{"name":"n","nodes":[{entry}]}}"#)).unwrap().unwrap();
        for text in [format!(r#"{{"kind":"x","nodes":[{entry}]}}"#), format!("\n [{entry}]")] {
            std::fs::write(&directory, text).unwrap();
            let file = read(&format!(r#"{{"nodes":{directory:?},"nodeName":"a"}}"#)).unwrap().unwrap();
            assert_eq!(inline.source.parse().unwrap(), file.source.parse().unwrap());
            assert_eq!(file.node_name.as_deref(), Some("a"));
        }
        std::fs::remove_file(directory).unwrap();
        assert!(read(r#"{"name":"n","nodes":null}"#).unwrap().is_none());
    }

    #[test]
    fn a_half_written_map_says_where_it_ends_and_a_wrong_value_its_key() {
        let decoded = |text: &str| decode::<File>(text.as_bytes(), "f").map(|file| file.nodes);
        for (text, word) in [
            (r#"{"nodes":[{"name":"a","#, "line 1 column 22"),
            ("", "line 1 column 0"),
            (r#"{"nodes":[{"name":"a","addresses":["10.0.0"],"podCIDRs":[]}]}"#, "nodes[0].addresses[0]"),
            (r#"{"nodes":[{"name":"a","addresses":[],"podCIDRs":["10.1.0.0"]}]}"#, "nodes[0].podCIDRs[0]"),
            (r#"{"nodes":[]} {"#, "trailing"),
            ("{\"nodes\":[ // none\n]}", "JSON has no comments: remove the one at line 1 column 12"),
            ("\u{feff}[]", "byte order mark"),
        ] {
            let error = decoded(text).unwrap_err().to_string();
            assert!(error.contains(word), "{text}: {error}");
        }
    }

    #[test]
    fn keys_of_another_kind_are_named() {
        for (config, word) in [
            (r#"{"nodes":5}"#, "\"nodes\", value 5"),
            (r#"{"nodes":"nodes.json"}"#, "absolute"),
            (r#"{"nodes":[],"nodeName":3}"#, "nodeName"),
            (r#"{"nodes":[],"underlayFamily":"v4"}"#, "underlayFamily"),
            (r#"{"nodes":"/nonexistent/nodes.json"}"#, "/nonexistent/nodes.json"),
        ] {
            let error = read(config).unwrap_err().to_string();
            assert!(error.contains(word), "{config}: {error}");
        }
    }

    #[test]
    fn the_digest_follows_the_text() {
        let digest = |config: &str| read(config).unwrap().unwrap().source.digest();
        assert_eq!(digest(r#"{"nodes":[1],"prevResult":1}"#), digest(r#"{"nodes":[1]}"#));
        assert_ne!(digest(r#"{"nodes":[1]}"#), digest(r#"{"nodes":[2]}"#));
    }
}
