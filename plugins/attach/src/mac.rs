//! The Pod's hardware address, if somebody asks for one: `runtimeConfig.mac`, or `args.cni.mac`, or `MAC` in CNI_ARGS
//! (the conventions' order: what a capability says wins).

use kernel::Mac;
use libcni::{Error, Key, Request};
use serde::Deserialize;

/// The keys that say it, as far as an interface plugin reads them.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Keys {
    runtime_config: RuntimeConfig,
    args: Args,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RuntimeConfig {
    mac: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Args {
    cni: ArgsCni,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ArgsCni {
    mac: String,
}

/// The default of a routed wire.
pub const BY_ADDRESS: &str = "0a:58: and the address";

/// `args.cni.mac`, for `--help`; `default` is what the address is when nobody asks for one.
pub const fn args_key(default: &'static str) -> Key {
    Key { name: "args.cni.mac", default, help: "MAC address of the Pod's interface" }
}

/// `runtimeConfig.mac`, for `--help`.
pub const fn runtime_key(default: &'static str) -> Key {
    Key { name: "runtimeConfig.mac", default, help: "the same as a capability; wins over args.cni.mac" }
}

/// The address asked for, if one is. A wrong one is code 7, or 4 if it stands in CNI_ARGS.
pub fn requested(request: &Request) -> Result<Option<Mac>, Error> {
    let keys: Keys = request.config.parse()?;
    for (key, text) in [("runtimeConfig.mac", &keys.runtime_config.mac), ("args.cni.mac", &keys.args.cni.mac)] {
        if !text.is_empty() {
            return text.parse().map(Some).map_err(|why| Error::config(key, format!("{text:?}"), why));
        }
    }
    let Some(text) = request.invocation.loose_arg("MAC") else { return Ok(None) };
    text.parse().map(Some).map_err(|why: String| {
        Error::new(libcni::code::INVALID_ENVIRONMENT, "invalid environment", format!("CNI_ARGS MAC={text:?}: {why}"))
    })
}
