//! A file of the runtime's cache, whatever it holds.
//!
//! Beside "no panic": what is understood is understood the same after it was written anew.
#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use libcni::AttachmentId;
use libcni::runtime::Cache;
use libfuzzer_sys::fuzz_target;

/// The cache's directory, on a file system in memory where there is one.
fn directory() -> &'static PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let directory = std::env::temp_dir().join(format!("podwire-fuzz-cache-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("results")).expect("a directory for the fuzzer");
        directory
    })
}

fuzz_target!(|data: &[u8]| {
    let cache = Cache::new(directory());
    let id = AttachmentId { container_id: "id".to_owned(), ifname: "eth0".to_owned() };
    std::fs::write(directory().join("results/net-id-eth0"), data).expect("write the cache's file");
    let _ = cache.attachments("net");
    let Ok(Some(mut cached)) = cache.get("net", &id) else { return };
    cached.network = "net".to_owned();
    cached.parameters.id = id.clone();
    cache.put(&cached).expect("put what get has read");
    let again = cache.get("net", &id).expect("readable").expect("there");
    assert_eq!(again.config, cached.config);
    assert_eq!(again.result, cached.result);
    // A bare result does not say where the namespace is; with its attachment it does.
    let namespace = cached.parameters.netns.take().or_else(|| again.parameters.netns.clone());
    cached.parameters.netns = namespace;
    assert_eq!(again.parameters, cached.parameters);
    assert_eq!(cache.attachments("net").expect("readable").len(), 1);
});
