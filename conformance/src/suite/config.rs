//! The network configuration under test, and the request configurations derived from it (spec section 3).

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use libcni::Version;

/// A network: a list of plugins, of which the last ones are under test.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Network {
    /// `name`.
    pub name: String,
    /// `cniVersion` and `cniVersions`, those the suite knows.
    pub versions: Vec<Version>,
    /// The plugins' configurations, in order. `type` is there and text.
    pub plugins: Vec<Map<String, Value>>,
    /// The first of them that is under test; those before it are what it is chained onto.
    pub first: usize,
}

impl Network {
    /// Reads a `.conf` or a `.conflist`. With `plugin`, only that one of a list is under test.
    pub fn load(path: &Path, plugin: Option<&str>) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        Network::parse(&text, plugin).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// Reads the text of one.
    pub fn parse(text: &str, plugin: Option<&str>) -> Result<Self, String> {
        let mut object: Map<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let name = match object.get("name") {
            Some(Value::String(name)) => name.clone(),
            _ => return Err("key \"name\": a network needs a name".to_owned()),
        };
        let versions = versions(&object)?;
        let plugins = match object.remove("plugins") {
            None => vec![object],
            Some(Value::Array(list)) => list.into_iter().map(as_object).collect::<Result<_, _>>()?,
            Some(_) => return Err("key \"plugins\": not a list".to_owned()),
        };
        let mut network = Network { name, versions, plugins, first: 0 };
        for (index, plugin) in network.plugins.iter().enumerate() {
            if !plugin.get("type").is_some_and(Value::is_string) {
                return Err(format!("plugin {index}: key \"type\" is missing or not a string"));
            }
        }
        if let Some(plugin) = plugin {
            let found = network.plugins.iter().position(|config| config["type"] == plugin);
            network.first = found.ok_or_else(|| format!("no plugin of type {plugin:?} in it"))?;
            network.plugins.truncate(network.first + 1);
        }
        if network.plugins.is_empty() {
            return Err("key \"plugins\": empty".to_owned());
        }
        Ok(network)
    }

    /// Is a whole chain under test?
    pub fn is_chain(&self) -> bool {
        self.plugins.len() - self.first > 1
    }

    /// The `type` of one plugin.
    pub fn plugin_type(&self, index: usize) -> &str {
        self.plugins[index]["type"].as_str().expect("looked at when loaded")
    }

    /// The types under test, for a person: `bridge + portmap`.
    pub fn title(&self) -> String {
        (self.first..self.plugins.len()).map(|index| self.plugin_type(index)).collect::<Vec<_>>().join(" + ")
    }

    /// The delegate of one plugin: `ipam.type`. An IPAM plugin's own configuration names itself there.
    pub fn delegate(&self, index: usize) -> Option<&str> {
        let delegate = self.plugins[index].get("ipam")?.get("type")?.as_str()?;
        (!delegate.is_empty() && delegate != self.plugin_type(index)).then_some(delegate)
    }

    /// The request configuration of one plugin, without what an attachment adds.
    pub fn derive(&self, index: usize, version: Version) -> Value {
        let mut config = self.plugins[index].clone();
        for reserved in ["capabilities", "cniVersions", "disableCheck", "disableGC", "loadOnlyInlinedPlugins"] {
            config.remove(reserved);
        }
        config.insert("cniVersion".to_owned(), json!(version));
        config.insert("name".to_owned(), json!(self.name));
        Value::Object(config)
    }

    /// Does the plugin's configuration declare this capability?
    pub fn has_capability(&self, index: usize, capability: &str) -> bool {
        self.plugins[index].get("capabilities").is_some_and(|set| set[capability] == true)
    }

    /// `runtimeConfig` for attachment number `number`: what CONVENTIONS.md defines and the plugin declares. `ips`
    /// and `ipRanges` are left to the clauses about them.
    pub fn runtime_config(&self, index: usize, number: usize) -> Map<String, Value> {
        let offers = [
            ("portMappings", json!([{"hostPort": 20_000 + number, "containerPort": 80, "protocol": "tcp"}])),
            (
                "bandwidth",
                json!({"ingressRate": 8_000_000, "ingressBurst": 8_000_000,
                       "egressRate": 8_000_000, "egressBurst": 8_000_000}),
            ),
            ("mac", json!(format!("02:c0:de:00:{:02x}:{:02x}", number >> 8, number & 0xff))),
            ("dns", json!({"servers": ["192.0.2.53"], "searches": ["conformance.example"]})),
            ("aliases", json!([format!("pod-{number}")])),
        ];
        let declared = offers.into_iter().filter(|(name, _)| self.has_capability(index, name));
        declared.map(|(name, value)| (name.to_owned(), value)).collect()
    }
}

fn versions(object: &Map<String, Value>) -> Result<Vec<Version>, String> {
    let more = object.get("cniVersions").and_then(Value::as_array).cloned().unwrap_or_default();
    let mut versions = Vec::new();
    for value in object.get("cniVersion").into_iter().chain(&more) {
        let text = value.as_str().ok_or_else(|| format!("key \"cniVersion\", value {value}: not a string"))?;
        versions.push(text.parse::<Version>().map_err(|error| error.to_string())?);
    }
    versions.sort();
    versions.dedup();
    Ok(versions)
}

fn as_object(value: Value) -> Result<Map<String, Value>, String> {
    match value {
        Value::Object(object) => Ok(object),
        other => Err(format!("key \"plugins\": {other} is not a plugin configuration")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIST: &str = r#"{"cniVersion":"1.0.0","cniVersions":["0.4.0"],"name":"n","plugins":[
        {"type":"a","ipam":{"type":"x"}},{"type":"b","capabilities":{"mac":true,"ips":true}}]}"#;

    #[test]
    fn a_list_is_a_chain_and_one_of_it_is_chained_onto_the_rest() {
        let chain = Network::parse(LIST, None).unwrap();
        assert!(chain.is_chain());
        assert_eq!((chain.title().as_str(), chain.delegate(0), chain.delegate(1)), ("a + b", Some("x"), None));
        let one = Network::parse(LIST, Some("b")).unwrap();
        assert!(!one.is_chain());
        assert_eq!((one.first, one.title().as_str()), (1, "b"));
        assert!(Network::parse(LIST, Some("c")).is_err());
    }

    #[test]
    fn what_the_runtime_derives_has_name_and_version_and_no_capabilities() {
        let network = Network::parse(LIST, None).unwrap();
        let config = network.derive(1, Version::V0_4_0);
        assert_eq!(config, json!({"cniVersion":"0.4.0","name":"n","type":"b"}));
        assert_eq!(network.runtime_config(1, 258)["mac"], "02:c0:de:00:01:02");
        assert!(network.runtime_config(0, 1).is_empty());
    }

    #[test]
    fn an_ipam_plugin_by_itself_has_no_delegate() {
        let text = r#"{"cniVersion":"1.0.0","name":"n","type":"static","ipam":{"type":"static"}}"#;
        assert_eq!(Network::parse(text, None).unwrap().delegate(0), None);
    }
}
