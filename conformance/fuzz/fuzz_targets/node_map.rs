//! Node maps, in a configuration and in a file of their own.
//!
//! Beside "no panic": in a map that is accepted no address is two nodes', no Pod CIDR lies in another, and each node sees
//! all others.
#![no_main]

use std::net::IpAddr;

use libcni::config::{Document, Size};
use libcni::keys::Level;
use libcni::{Config, Version};
use libfuzzer_sys::fuzz_target;
use nodes::{Cluster, Keys, Map, MapKeys};

fuzz_target!(|data: &[u8]| {
    let inline = [br#"{"name":"n","underlayFamily":"ipv6","nodes":"#, data, b"}"].concat();
    // A path is somebody's file.
    if data.trim_ascii_start().first() != Some(&b'"') {
        read(inline);
    }
    let file = std::env::temp_dir().join(format!("podwire-fuzz-{}.json", std::process::id()));
    if std::fs::write(&file, data).is_ok() {
        read(format!(r#"{{"name":"n","nodes":{file:?}}}"#).into_bytes());
    }
});

fn read(bytes: Vec<u8>) {
    let Ok(document) = Document::decode(&bytes, &Level::of::<MapKeys>(), Size::Usual) else { return };
    let Ok(config) = Config::new(bytes, document, Version::LATEST) else { return };
    let Ok(Some(keys)) = Keys::read(&config) else { return };
    keys.source.digest();
    if let Ok(map) = keys.source.parse() {
        consistent(&map);
        for node in map.nodes().iter().take(4) {
            seen_from(&keys, &node.addresses, map.nodes().len());
        }
    }
}

fn consistent(map: &Map) {
    let addresses: Vec<IpAddr> = map.nodes().iter().flat_map(|node| node.addresses.iter().copied()).collect();
    let cidrs: Vec<_> = map.nodes().iter().flat_map(|node| node.pod_cidrs.iter()).collect();
    for (at, address) in addresses.iter().enumerate() {
        assert!(!addresses[..at].contains(address));
        assert!(!cidrs.iter().any(|cidr| cidr.contains(*address)));
    }
    for (at, one) in cidrs.iter().enumerate() {
        assert!(!cidrs[..at].iter().any(|other| one.contains(other.ip()) || other.contains(one.ip())));
    }
}

fn seen_from(keys: &Keys, machine: &[IpAddr], nodes: usize) {
    let Ok(cluster) = Cluster::new(keys, machine) else { return };
    assert_eq!(cluster.peers.len() + 1, nodes);
    for peer in &cluster.peers {
        let _ = cluster.underlay(peer);
        for cidr in &peer.pod_cidrs {
            let _ = cluster.next_hop(peer, *cidr);
        }
    }
}
