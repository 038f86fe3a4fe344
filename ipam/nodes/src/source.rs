//! Where the map is, and the other keys that go with it.

use std::path::PathBuf;

use libcni::Config;
use libcni::syntax::explain;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use twox_hash::XxHash64;

use crate::cluster::Family;
use crate::error::Error;
use crate::map::{Map, Node};

/// The keys of a network with a node map, as bridge, routed-veth, vxlan-overlay and host-local read them.
#[derive(Debug)]
pub struct Keys {
    /// `nodes`.
    pub source: Source,
    /// `nodeName`: which entry is this node; by the machine's addresses if missing.
    pub node_name: Option<String>,
    /// `underlayFamily`: over which addresses nodes talk that have both.
    pub underlay_family: Family,
}

/// The map's text, not parsed yet: whether it changed is known before what it says.
#[derive(Debug)]
pub struct Source {
    /// The file, or none for a map in the configuration.
    path: Option<PathBuf>,
    /// JSON.
    text: Vec<u8>,
}

/// The keys that a plugin with a node map keeps as text (`libcni::Plugin::AS_TEXT`): a map of thousands of nodes is parsed
/// only when it has changed.
pub const AS_TEXT: &[&str] = &[NODES];

const NODES: &str = "nodes";

#[derive(Deserialize)]
struct File {
    nodes: Vec<Node>,
}

impl Keys {
    /// The keys of a configuration that keeps [`AS_TEXT`], with the map's file read; `None` if there is no `nodes`.
    pub fn read(config: &Config) -> Result<Option<Self>, Error> {
        let Some(nodes) = config.text(NODES) else { return Ok(None) };
        Ok(Some(Keys {
            node_name: text("nodeName", config.object.get("nodeName"))?.filter(|name| !name.is_empty()),
            underlay_family: Family::read(config.object.get("underlayFamily"))?,
            source: Source::read(nodes)?,
        }))
    }

    /// Is there a map? It is not looked at.
    pub fn are_in(config: &Config) -> bool {
        config.text(NODES).is_some()
    }
}

/// A key that is text; missing and null are the same.
fn text(key: &'static str, value: Option<&Value>) -> Result<Option<String>, Error> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(Error::Key { key, value: libcni::config::shorten(other), why: "not a string".to_owned() }),
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

    fn read(text: &str) -> Result<Option<Keys>, Error> {
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
