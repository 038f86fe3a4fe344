//! Results and error documents, in all versions.
//!
//! Beside "no panic": whatever one version says can be said in each later one without losing an address, what is written is
//! read as it was meant, and writing it again changes nothing.
#![no_main]

use libcni::{CniResult, Error, Version};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|data: &[u8]| {
    if let Some(error) = Error::from_json(data) {
        for version in Version::ALL {
            let again = Error::from_json(error.to_json(version).as_bytes()).expect("what we write");
            assert_eq!(again.code, error.code);
            assert_eq!(again.to_json(version), error.to_json(version));
        }
    }
    let Ok(value) = serde_json::from_slice::<Value>(data) else { return };
    for version in Version::ALL {
        if let Ok(result) = CniResult::from_value(&value, version) {
            Version::ALL.into_iter().for_each(|version| written(&result, version));
        }
    }
});

fn written(result: &CniResult, version: Version) {
    let Ok(value) = result.to_value(version) else {
        assert!(version.is_single_address(), "{version} has words for everything");
        return;
    };
    let text = result.to_json_pretty(version).expect("what to_value can");
    assert_eq!(serde_json::from_str::<Value>(&text).expect("JSON"), value);
    let read = CniResult::from_value(&value, Version::LATEST).expect("what we write");
    assert_eq!(read.to_value(version).expect("what we wrote"), value);
    assert_eq!(addresses(&read), addresses(result));
    if version == Version::LATEST {
        assert_eq!(&read, result);
    }
}

fn addresses(result: &CniResult) -> Vec<String> {
    let mut all: Vec<String> = result.ips.iter().map(|ip| format!("{} {:?}", ip.address, ip.gateway)).collect();
    all.sort();
    all
}
