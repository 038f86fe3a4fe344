//! The Pod's hardware address, if one is requested: `runtimeConfig.mac`, or `args.cni.mac`, or `MAC` in CNI_ARGS
//! (the conventions' order: what a capability says wins).

use kernel::Mac;
use libcni::{Configuration, Error, Invocation};

/// The keys that request it.
#[derive(Debug, Configuration)]
pub struct MacKeys {
    /// MAC address of the Pod's interface.
    #[key(name = "args.cni.mac", shown = BY_ADDRESS)]
    args: String,
    /// The same as a capability; wins over args.cni.mac.
    #[key(name = "runtimeConfig.mac", shown = BY_ADDRESS)]
    runtime_config: String,
}

/// The default of a routed wire.
const BY_ADDRESS: &str = "0a:58: and the address";

impl MacKeys {
    /// The address requested, if one is. A wrong one is code 7, or 4 if it stands in CNI_ARGS.
    pub fn requested(&self, invocation: &Invocation) -> Result<Option<Mac>, Error> {
        for (key, text) in [("runtimeConfig.mac", &self.runtime_config), ("args.cni.mac", &self.args)] {
            if !text.is_empty() {
                return text.parse().map(Some).map_err(|why| Error::config(key, format!("{text:?}"), why));
            }
        }
        let Some(text) = invocation.loose_arg("MAC") else { return Ok(None) };
        text.parse().map(Some).map_err(|why: String| {
            let details = format!("CNI_ARGS MAC={text:?}: {why}");
            Error::new(libcni::code::INVALID_ENVIRONMENT, "invalid environment", details)
        })
    }
}
