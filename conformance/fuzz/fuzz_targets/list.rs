//! Configuration lists as an administrator writes them, and what each plugin gets of one.
//!
//! Beside "no panic": what a plugin gets is a configuration again, of the same network and version, without the keys that
//! only a runtime may set.
#![no_main]

use libcni::Config;
use libcni::config::{Document, Size};
use libcni::invocation::identifier_fault;
use libcni::keys::Level;
use libcni::runtime::NetworkList;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(list) = NetworkList::from_bytes(data) else { return };
    assert_eq!(identifier_fault(&list.name), None);
    assert!(list.versions.is_sorted() && list.versions.last() == Some(&list.version));
    // What is nested too deep, or a number too large, passes through a runtime, and is its plugin's to refuse.
    let is_plain = serde_json::from_slice::<serde_json::Value>(data).is_ok();
    for plugin in &list.plugins {
        for bytes in list.configurations_of(&plugin.plugin_type) {
            match Document::decode(&bytes, &Level::default(), Size::Usual) {
                Ok(document) => {
                    assert!(!document.object().contains_key("prevResult"));
                    assert!(!document.object().keys().any(|key| key.starts_with("cni.dev/")));
                    let config = Config::new(bytes, document, list.version).expect("derived with its name");
                    assert_eq!(config.name, list.name);
                    assert_eq!(Config::version_of(&config.object).expect("derived"), list.version);
                }
                Err(error) => assert!(!is_plain, "{error}"),
            }
        }
    }
});
