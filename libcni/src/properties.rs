//! Properties of what is read and written, over inputs nobody thought of: variables, configurations, results.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::config::{Config, Document, Size};
use crate::invocation::{Invocation, identifier_fault, ifname_fault};
use crate::result::{CniResult, Dns, Interface, IpConfig, Route};
use crate::runtime::NetworkList;
use crate::version::Version;

fn with_args(args: &str) -> Invocation {
    Invocation { raw_args: Some(OsString::from(args)), ..Invocation::by_hand() }
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    ]
}

fn network() -> impl Strategy<Value = IpNetwork> {
    (address(), 0u8..=32).prop_map(|(ip, prefix)| IpNetwork::new(ip, prefix).unwrap())
}

fn route() -> impl Strategy<Value = Route> {
    let numbers = (any::<Option<u32>>(), any::<Option<u32>>(), any::<Option<u32>>(), any::<Option<u32>>());
    (network(), prop::option::of(address()), numbers, any::<Option<u8>>()).prop_map(
        |(dst, gw, (mtu, advmss, priority, table), scope)| Route { dst, gw, mtu, advmss, priority, table, scope },
    )
}

fn interface() -> impl Strategy<Value = Interface> {
    let words = (".*", ".*", ".*", ".*", ".*");
    (words, any::<Option<u32>>()).prop_map(|((name, mac, sandbox, socket_path, pci_id), mtu)| Interface {
        name,
        mac,
        mtu,
        sandbox,
        socket_path,
        pci_id,
    })
}

fn dns() -> impl Strategy<Value = Dns> {
    let words = || prop::collection::vec(".*", 0..3);
    (words(), ".*", words(), words()).prop_map(|(nameservers, domain, search, options)| Dns {
        nameservers,
        domain,
        search,
        options,
    })
}

/// Any result: every address points at an interface that is there, or at none.
fn result() -> impl Strategy<Value = CniResult> {
    let ip = (network(), prop::option::of(address()), any::<Option<prop::sample::Index>>());
    let interfaces = prop::collection::vec(interface(), 0..3);
    let (ips, routes) = (prop::collection::vec(ip, 0..4), prop::collection::vec(route(), 0..4));
    (interfaces, ips, routes, dns()).prop_map(|(interfaces, ips, routes, dns)| {
        let count = interfaces.len();
        let ips = ips.into_iter().map(|(address, gateway, index)| IpConfig {
            address,
            gateway,
            interface: index.filter(|_| count > 0).map(|index| index.index(count)),
        });
        CniResult { ips: ips.collect(), interfaces, routes, dns }
    })
}

proptest! {
    #[test]
    fn arguments_are_read_as_they_are_written(pairs in prop::collection::btree_map("[^;=\0]+", "[^;\0]*", 0..6)) {
        let text: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let invocation = with_args(&text.join(";"));
        prop_assert_eq!(&invocation.args().unwrap(), &pairs);
        for (key, value) in &pairs {
            prop_assert_eq!(invocation.loose_arg(key), Some(value.as_str()));
        }
    }

    #[test]
    fn whatever_the_arguments_are_they_are_pairs_or_an_error(text in "[a-c=;]{0,20}") {
        let is_pairs = text.split(';').all(|pair| pair.is_empty() || pair.find('=').is_some_and(|at| at > 0));
        prop_assert_eq!(with_args(&text).args().is_ok(), is_pairs);
    }

    #[test]
    fn a_name_that_is_accepted_is_one_file_name(text in "[a-zA-Z0-9._/%: \\\\\0-]{0,20}") {
        let is_one_component = || {
            let mut components = std::path::Path::new(&text).components();
            let first = components.next();
            matches!(first, Some(std::path::Component::Normal(name)) if name == text.as_str()) && components.next().is_none()
        };
        if identifier_fault(&text).is_none() || ifname_fault(&text).is_none() {
            prop_assert!(is_one_component() && !text.contains('\0'), "{:?}", text);
        }
        if ifname_fault(&text).is_none() {
            prop_assert!(text.len() <= 15 && !text.contains(['%', ':', ' ']));
        }
    }

    #[test]
    fn a_configuration_is_kept_to_the_byte_and_a_text_to_the_letter(
        name in "[a-z0-9][a-z0-9._-]{0,10}", before in " {0,3}", number in any::<f64>(), text in ".*",
    ) {
        let long = json!([text, number]).to_string();
        let bytes = format!(r#"{before}{{"name":"{name}","long":{long},"x":{number:?}}}"#).into_bytes();
        prop_assume!(number.is_finite());
        let document = Document::decode(&bytes, &crate::config::tests::long(), Size::Usual).unwrap();
        let config = Config::new(bytes.clone(), document, Version::LATEST).unwrap();
        prop_assert_eq!((config.text("long"), config.name.as_str()), (Some(long.as_str()), name.as_str()));
        prop_assert_eq!(config.bytes, bytes);
    }

    #[test]
    fn a_plugin_gets_its_keys_as_they_stand_in_the_list(
        name in "[a-z0-9]{1,8}", keys in prop::collection::btree_map("[a-z]{2}[A-Z.]{0,3}", "[0-9]{1,30}", 0..5),
    ) {
        let own: Vec<String> = keys.iter().map(|(key, number)| format!(r#","{key}":1{number}"#)).collect();
        let list = format!(r#"{{"cniVersion":"1.0.0","name":"{name}","plugins":[{{"type":"p"{}}}]}}"#, own.concat());
        let list = NetworkList::from_bytes(list.as_bytes()).unwrap();
        let bytes = list.configurations_of("p").remove(0);
        let text = String::from_utf8(bytes).unwrap();
        for (key, number) in &keys {
            let key = format!(r#""{key}":1{number}"#);
            prop_assert!(text.contains(&key), "{} lacks {}", text, key);
        }
        let value: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!((&value["name"], &value["cniVersion"]), (&json!(name), &json!("1.0.0")));
    }

    #[test]
    fn a_result_is_read_as_it_was_written_in_every_version(result in result()) {
        let addresses = |result: &CniResult| {
            let mut all: BTreeMap<IpNetwork, usize> = BTreeMap::new();
            result.ips.iter().for_each(|ip| *all.entry(ip.address).or_default() += 1);
            all
        };
        for version in Version::ALL {
            let Ok(value) = result.to_value(version) else {
                let families = [true, false].map(|v4| result.ips.iter().filter(|ip| ip.address.is_ipv4() == v4).count());
                prop_assert!(version.is_single_address() && (families == [0, 0] || families.iter().any(|count| *count > 1)));
                continue;
            };
            let read = CniResult::from_value(&value, Version::LATEST).unwrap();
            prop_assert_eq!(addresses(&read), addresses(&result));
            prop_assert_eq!(read.to_value(version).unwrap(), value);
            if version == Version::LATEST {
                prop_assert_eq!(&read, &result);
            }
        }
    }
}
