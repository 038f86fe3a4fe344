//! What a plugin does with a configuration before it touches anything, for each plugin.
//!
//! Beside "no panic": what host-local accepts gives addresses that lie in their ranges, and never a gateway, a network's or
//! a broadcast address; what bridge accepts names VLANs that exist.
#![no_main]

#[path = "../../../plugins/bridge/src/config.rs"]
#[allow(dead_code)]
mod bridge;
#[path = "../../../plugins/routed-veth/src/config.rs"]
#[allow(dead_code)]
mod routed_veth;
#[path = "../../../plugins/vxlan-overlay/src/config.rs"]
#[allow(dead_code)]
mod vxlan_overlay;

use host_local::config::{HostLocal, Settings};
use host_local::range::{self, RangeSet};
use libcni::config::{Document, Size};
use libcni::invocation::{identifier_fault, ifname_fault};
use libcni::keys::Level;
use libcni::{Attachment, AttachmentId, Command, Config, Configuration, Invocation, Request, Version};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    if let Some((request, config)) = read::<bridge::Config>(data) {
        bridge(&request, &config);
    }
    if let Some((request, config)) = read::<vxlan_overlay::Config>(data) {
        vxlan_overlay(&request, &config);
    }
    if let Some((request, config)) = read::<routed_veth::Config>(data) {
        let _ = config.validate(&request);
    }
    if let Some((request, config)) = read::<HostLocal>(data)
        && let Ok(settings) = Settings::resolve(&request, &config)
    {
        host_local(&settings);
    }
});

/// What a plugin with these keys makes of it, as far as all of them go alike.
fn read<C: Configuration>(data: &[u8]) -> Option<(Request, C)> {
    let document = Document::decode(data, &Level::of::<C>(), Size::Usual).ok()?;
    let version = Config::version_of(document.object()).unwrap_or(Version::LATEST);
    let config = Config::new(data.to_vec(), document, version).ok()?;
    assert_eq!(config.bytes, data);
    assert_eq!(identifier_fault(&config.name), None);
    // No file of this machine is the fuzzer's to open.
    if config.text("nodes").is_some_and(|text| text.starts_with('"')) {
        return None;
    }
    let _ = (config.prev_result(), config.required_prev_result(), config.valid_attachments(), config.ipam_type());
    let request = Request { config, invocation: invocation() };
    host_local::config::data_dir(&request);
    let keys = request.config.read().ok()?;
    Some((request, keys))
}

fn invocation() -> Invocation {
    let id = AttachmentId { container_id: "container".to_owned(), ifname: "eth0".to_owned() };
    Invocation {
        command: Command::Add,
        attachment: Some(Attachment { id, netns: Some("/run/netns/pod".into()) }),
        raw_args: Some("IP=10.0.0.5;MAC=0a:58:00:00:00:01".into()),
        path: Vec::new(),
        netns_override: false,
    }
}

fn bridge(request: &Request, config: &bridge::Config) {
    if config.validate(request).is_ok() {
        assert_eq!(ifname_fault(&config.bridge), None);
        let trunk = config.trunk().expect("validated");
        assert!(trunk.iter().all(|&(first, last)| 1 <= first && first <= last && last <= 4094));
    }
}

fn vxlan_overlay(request: &Request, config: &vxlan_overlay::Config) {
    if config.validate(request).is_ok() {
        let names = [&config.overlay.device, &config.overlay.underlay_device];
        assert!(names.into_iter().flatten().all(|name| ifname_fault(name).is_none()));
    }
}

fn host_local(settings: &Settings) {
    assert_eq!(settings.requested.len(), settings.sets.len());
    assert!(settings.data_dir.is_absolute());
    for (at, set) in settings.sets.iter().enumerate() {
        assert!(settings.sets[..at].iter().all(|other| !other.overlaps(set)));
        set.0.iter().for_each(|range| a_range(range, set));
        for last in [None, set.0.last().map(|range| range::address(range.last))] {
            for number in range::candidates(&set.stretches(last), &[]).take(20) {
                a_candidate(range::address(number), set);
            }
        }
    }
    for (wish, set) in settings.requested.iter().zip(&settings.sets) {
        let Some(address) = wish else { continue };
        assert_ne!(set.range_of(*address).expect("a wish lies in its set").gateway, *address);
    }
}

fn a_range(range: &range::Range, set: &RangeSet) {
    assert!(range.first <= range.last);
    assert_eq!(range.subnet.is_ipv4(), set.is_ipv4());
    assert_eq!(range.subnet.is_ipv4(), range.gateway.is_ipv4());
}

fn a_candidate(address: std::net::IpAddr, set: &RangeSet) {
    let range = set.range_of(address).expect("a candidate lies in its set");
    assert!(range.subnet.contains(address));
    assert_ne!(address, range.subnet.network());
    assert!(!address.is_ipv4() || address != range.subnet.broadcast());
}
