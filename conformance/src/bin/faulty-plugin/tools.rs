//! The file name's wishes, and the programs that the model plugins use.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;
use std::process::Command;

use libcni::{Error, Request};
use serde_json::Value;

fn own_name() -> String {
    let argument = std::env::args_os().next().unwrap_or_default();
    Path::new(&argument).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The part of the file name before the dot: which plugin this is.
pub fn role() -> String {
    own_name().split('.').next().unwrap_or_default().to_owned()
}

/// Does the file name ask for this fault?
pub fn fault(name: &str) -> bool {
    own_name().split_once('.').is_some_and(|(_, asked)| asked == name)
}

/// What a configuration has in a place, as text: `/runtimeConfig/mac`.
pub fn text_at(request: &Request, place: &str) -> Option<String> {
    let config = Value::Object(request.config.object.clone());
    config.pointer(place)?.as_str().map(str::to_owned)
}

/// Runs a shell script.
pub fn sh(script: &str) -> Result<String, Error> {
    run(Command::new("sh").args(["-ec", script]), script)
}

/// Runs a shell script in the namespace at `netns`.
pub fn sh_in(netns: &Path, script: &str) -> Result<String, Error> {
    run(Command::new("nsenter").arg(format!("--net={}", netns.display())).args(["sh", "-ec", script]), script)
}

fn run(command: &mut Command, script: &str) -> Result<String, Error> {
    let output = command.output().map_err(|error| Error::io(script, error))?;
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
        false => Err(Error::io(script, String::from_utf8_lossy(&output.stderr).trim())),
    }
}

/// What `ip -j -d addr show` prints, here or in a namespace.
pub fn links(netns: Option<&Path>) -> Result<Vec<Value>, Error> {
    let script = "ip -j -d addr show";
    let text = netns.map_or_else(|| sh(script), |netns| sh_in(netns, script))?;
    serde_json::from_str(&text).map_err(|error| Error::decode(script, error))
}

/// One of them, by name.
pub fn link(netns: Option<&Path>, name: &str) -> Result<Value, Error> {
    let found = links(netns)?.into_iter().find(|link| link["ifname"] == name);
    found.ok_or_else(|| Error::check(format!("interface {name} is missing")))
}

/// The name of the node's end of a veth.
pub fn host_end(network: &str, container: &str, ifname: &str) -> String {
    let mut hasher = DefaultHasher::new();
    (network, container, ifname).hash(&mut hasher);
    format!("mv{:012x}", hasher.finish() >> 16)
}

/// The network, the container and the interface that a request is about.
pub fn owner(request: &Request) -> (String, String, String) {
    let id = request.invocation.attachment.as_ref().map(|attachment| attachment.id.clone());
    let (container, ifname) = id.map(|id| (id.container_id, id.ifname)).unwrap_or_default();
    (request.config.name.clone(), container, ifname)
}
