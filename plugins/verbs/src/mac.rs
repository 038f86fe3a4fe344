//! The Pod's hardware address, if somebody asks for one: `runtimeConfig.mac`, or `args.cni.mac`, or `MAC` in CNI_ARGS
//! (the conventions' order: what a capability says wins).

use dataplane::Mac;
use libcni::{Error, Request};
use serde::Deserialize;

/// `runtimeConfig`, as far as an interface plugin reads it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct RuntimeConfig {
    /// The capability `mac`.
    #[serde(default)]
    pub mac: String,
}

/// `args`, as far as an interface plugin reads it.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Args {
    /// The conventions' own part.
    #[serde(default)]
    pub cni: ArgsCni,
}

/// `args.cni`.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct ArgsCni {
    /// A hardware address for the Pod's interface.
    #[serde(default)]
    pub mac: String,
}

/// The address asked for, if one is. A wrong one is code 7, or 4 if it stands in CNI_ARGS.
pub fn requested(request: &Request, runtime_config: &RuntimeConfig, args: &Args) -> Result<Option<Mac>, Error> {
    for (key, text) in [("runtimeConfig.mac", &runtime_config.mac), ("args.cni.mac", &args.cni.mac)] {
        if !text.is_empty() {
            return text.parse().map(Some).map_err(|why| Error::config(key, format!("{text:?}"), why));
        }
    }
    let Some(text) = request.invocation.loose_arg("MAC") else { return Ok(None) };
    text.parse().map(Some).map_err(|why: String| {
        Error::new(libcni::code::INVALID_ENVIRONMENT, "invalid environment", format!("CNI_ARGS MAC={text:?}: {why}"))
    })
}
