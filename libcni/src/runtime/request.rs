//! What one plugin of a chain gets on stdin (spec section 3, "Deriving request configuration").

use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::list::{NetworkList, PluginConfig, raw};
use crate::invocation::AttachmentId;

/// What a request holds beside the plugin's configuration.
#[derive(Clone, Copy)]
pub(super) enum Subject<'a> {
    /// ADD, CHECK, DEL: one attachment.
    Attachment { prev_result: Option<&'a Value>, capability_args: &'a Map<String, Value> },
    /// GC: the attachments that are still valid.
    Valid(&'a [AttachmentId]),
    /// STATUS.
    Network,
}

/// The request of `plugin`, one of `list`'s. Keys that are nothing to the runtime stay as they are written.
pub(super) fn derive(list: &NetworkList, plugin: &PluginConfig, subject: Subject) -> Vec<u8> {
    let mut object = plugin.object.clone();
    // Keys that only a runtime may set.
    object.retain(|key, _| !key.starts_with("cni.dev/") && key != "prevResult");
    let mut insert = |key: &str, value: Box<RawValue>| object.insert(key.to_owned(), value);
    insert("cniVersion", raw(&list.version));
    insert("name", raw(&list.name));
    match subject {
        Subject::Attachment { prev_result, capability_args } => {
            if let Some(result) = prev_result {
                insert("prevResult", raw(result));
            }
            let runtime_config = runtime_config(&plugin.capabilities, capability_args);
            if !runtime_config.is_empty() {
                insert("runtimeConfig", raw(&runtime_config));
            }
            object.remove("capabilities");
        }
        Subject::Valid(attachments) => {
            insert("cni.dev/valid-attachments", raw(attachments));
        }
        Subject::Network => {}
    }
    raw(&object).get().as_bytes().to_vec()
}

/// What the plugin can use of what the runtime offers.
fn runtime_config(capabilities: &[String], offered: &Map<String, Value>) -> Map<String, Value> {
    let used = capabilities.iter().filter_map(|name| Some((name.clone(), offered.get(name)?.clone())));
    used.collect()
}
