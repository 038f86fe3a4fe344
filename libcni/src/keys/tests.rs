use serde_json::json;

use super::*;
use crate::config::{Config, Document, Size};
use crate::error::code;
use crate::version::Version;

/// A plugin's keys: plain ones, some inside of objects and lists, a group, and one kept as text.
#[derive(Configuration, Debug)]
struct Keys {
    /// Name of the bridge.
    ///
    /// More about it than a line of help.
    #[key(default = "cni0")]
    bridge: String,
    /// isGateway, as it is.
    is_gateway: bool,
    #[key(default = 4789, name = "port")]
    _port: u16,
    /// The map.
    #[key(shown = "none: one node")]
    nodes: Text<Place>,
    ipam: Option<Ipam>,
    #[key(
        flatten,
        describe("args.cni.mac", shown = "random"),
        describe("runtimeConfig.mac", help = "the same from the runtime")
    )]
    mac: Mac,
    /// Of ranges, again.
    #[key(name = "runtimeConfig.ipRanges", shown = "[]", brief)]
    _ranges: Vec<Vec<Range>>,
}

#[derive(Configuration, Debug)]
struct Ipam {
    /// Range sets.
    ranges: Vec<Vec<Range>>,
}

#[derive(Configuration, Debug)]
struct Range {
    /// The subnet.
    subnet: String,
    /// The first.
    range_start: Option<u32>,
}

/// A group that several plugins have.
#[derive(Configuration, Debug)]
struct Mac {
    /// MAC address of the interface.
    #[key(name = "args.cni.mac")]
    args: Option<String>,
    /// The same.
    #[key(name = "runtimeConfig.mac")]
    runtime: Option<String>,
}

#[derive(Debug)]
struct Place;

impl Shaped for Place {
    fn shape() -> Shape {
        Shape::Either([String::shape, || Shape::List(|| Shape::Any)])
    }
}

fn config(text: &str) -> Config {
    let text = text.replacen('{', r#"{"name":"n","#, 1);
    let document = Document::decode(text.as_bytes(), &Level::of::<Keys>(), Size::Usual).unwrap();
    Config::new(text.into_bytes(), document, Version::LATEST).unwrap()
}

fn read(text: &str) -> Keys {
    config(text).read().unwrap()
}

fn refused(text: &str) -> String {
    let error = config(text).read::<Keys>().unwrap_err();
    assert_eq!(error.code, code::INVALID_CONFIG);
    error.details
}

#[test]
fn a_key_that_is_not_given_has_its_default() {
    let keys = read(r#"{"type":"t"}"#);
    assert_eq!((keys.bridge.as_str(), keys.is_gateway, keys._port), ("cni0", false, 4789));
    assert!(keys.ipam.is_none() && !keys.nodes.is_given() && keys.mac.args.is_none());
    for nothing in [r#"{"ipam":null}"#, r#"{"args":null}"#, r#"{"args":{"cni":null}}"#, r#"{"nodes":null}"#] {
        let keys = read(nothing);
        assert!(keys.ipam.is_none() && !keys.nodes.is_given() && keys.mac.args.is_none(), "{nothing}");
    }
}

#[test]
fn a_wrong_value_is_named_with_its_path_in_jsons_words() {
    for (text, details) in [
        (r#"{"bridge":5}"#, r#"key "bridge", value 5: expected a string"#),
        (r#"{"bridge":null}"#, r#"key "bridge", value null: expected a string"#),
        (r#"{"isGateway":"yes"}"#, r#"key "isGateway", value "yes": expected a boolean"#),
        (r#"{"port":65536}"#, r#"key "port", value 65536: expected a whole number from 0 to 65535"#),
        (r#"{"port":-1}"#, r#"key "port", value -1: expected a whole number from 0 to 65535"#),
        (r#"{"ipam":[]}"#, r#"key "ipam", value []: expected an object"#),
        (r#"{"ipam":{"ranges":{}}}"#, r#"key "ipam.ranges", value {}: expected a list"#),
        (r#"{"ipam":{"ranges":[[{"subnet":7}]]}}"#, r#"key "ipam.ranges[0][0].subnet", value 7: expected a string"#),
        (r#"{"ipam":{"ranges":[[],[4]]}}"#, r#"key "ipam.ranges[1][0]", value 4: expected an object"#),
        (r#"{"args":4}"#, r#"key "args", value 4: expected an object"#),
        (r#"{"args":{"cni":4}}"#, r#"key "args.cni", value 4: expected an object"#),
        (r#"{"runtimeConfig":{"mac":4}}"#, r#"key "runtimeConfig.mac", value 4: expected a string"#),
    ] {
        assert_eq!(refused(text), details);
    }
}

#[test]
fn names_are_taken_in_any_case_on_every_level() {
    let text = r#"{"isgateway":true,"IPAM":{"Type":"host-local","Ranges":[[{"SUBNET":"s","rangestart":3}]]},
                   "RuntimeConfig":{"Mac":"m","ipranges":[[{"Subnet":"t"}]]},"Args":{"CNI":{"mac":"a"}},"Nodes":[1]}"#;
    let config = config(text);
    let keys: Keys = config.read().unwrap();
    let range = &keys.ipam.as_ref().unwrap().ranges[0][0];
    assert_eq!((range.subnet.as_str(), range.range_start), ("s", Some(3)));
    assert_eq!((keys.mac.runtime.as_deref(), keys.mac.args.as_deref()), (Some("m"), Some("a")));
    assert_eq!((keys._ranges[0][0].subnet.as_str(), keys.is_gateway, keys.nodes.is_given()), ("t", true, true));
    // What is read without types has them too.
    assert_eq!((config.ipam_type(), config.text("nodes")), (Some("host-local"), Some("[1]")));
    // The bytes, which a delegate gets, are as they came.
    assert_eq!(config.bytes, text.replacen('{', r#"{"name":"n","#, 1).as_bytes());
    let written: Vec<_> = config.spellings.iter().map(|it| format!("{}>{}", it.written, it.proper)).collect();
    for spelling in ["isgateway>isGateway", "IPAM>ipam", "ipam.ranges[0][0].rangestart>rangeStart", "args.CNI>cni"] {
        assert!(written.iter().any(|it| it == spelling), "{spelling} is not in {written:?}");
    }
}

#[test]
fn the_error_names_the_proper_key() {
    assert_eq!(refused(r#"{"ISGATEWAY":3}"#), r#"key "isGateway", value 3: expected a boolean"#);
}

#[test]
fn of_two_spellings_the_last_in_the_document_counts() {
    for (text, bridge) in [
        (r#"{"bridge":"a","Bridge":"b"}"#, "b"),
        (r#"{"Bridge":"b","bridge":"a"}"#, "a"),
        (r#"{"BRIDGE":"c","Bridge":"b"}"#, "b"),
    ] {
        assert_eq!(read(text).bridge, bridge, "{text}");
    }
    assert_eq!(config(r#"{"nodes":[1],"NODES":[2]}"#).text("nodes"), Some("[2]"));
    let inner = read(r#"{"ipam":{"ranges":[[{"subnet":"a","Subnet":"b"}]]}}"#);
    assert_eq!(inner.ipam.unwrap().ranges[0][0].subnet, "b");
}

#[test]
fn only_declared_keys_are_matched_and_those_of_a_runtime_exactly() {
    let config =
        config(r#"{"Name":"other","CNIVersion":"9","Mine":{"Subnet":1},"args":{"Labels":1},"PrevResult":{"a":1}}"#);
    assert_eq!((config.name.as_str(), config.spellings.len()), ("n", 1));
    for (key, value) in [("Name", json!("other")), ("Mine", json!({"Subnet": 1})), ("prevResult", json!({"a": 1}))] {
        assert_eq!(config.object.get(key), Some(&value));
    }
    assert_eq!(config.object["args"], json!({"Labels": 1}));
}

#[test]
fn letters_are_folded_as_go_folds_them() {
    for (one, other, same) in [
        ("ſubnet", "subnet", true),
        ("vlanTrun\u{212a}", "vlanTrunk", true),
        ("MTU", "mtu", true),
        ("É", "é", false),
        ("subnets", "subnet", false),
        ("", "a", false),
    ] {
        assert_eq!(level::folds_to(one, other), same, "{one} {other}");
    }
}

#[test]
fn what_is_remembered_for_the_log_is_limited() {
    let ranges = vec![r#"{"Subnet":"s"}"#; 1000].join(",");
    assert_eq!(config(&format!(r#"{{"ipam":{{"ranges":[[{ranges}]]}}}}"#)).spellings.len(), 32);
}

#[test]
fn declared_keys_are_rows_in_order_and_a_group_can_be_described_anew() {
    let rows: Vec<_> = Level::of::<Keys>().rows().into_iter().map(|row| (row.path, row.help, row.default)).collect();
    let row = |path: &str, help, default: &str| (path.to_owned(), help, default.to_owned());
    let expected = [
        row("bridge", "name of the bridge", "\"cni0\""),
        row("isGateway", "isGateway, as it is", "false"),
        row("nodes", "the map", "none: one node"),
        row("ipam.ranges", "range sets", "[]"),
        row("ipam.ranges[][].subnet", "the subnet", "\"\""),
        row("ipam.ranges[][].rangeStart", "the first", "none"),
        row("args.cni.mac", "MAC address of the interface", "random"),
        row("runtimeConfig.mac", "the same from the runtime", "none"),
        row("runtimeConfig.ipRanges", "of ranges, again", "[]"),
    ];
    assert_eq!(rows, expected);
}

#[test]
fn a_value_of_another_kind_than_declared_does_not_hide_the_rest() {
    let config = config(r#"{"ipam":"x","runtimeConfig":[{"Mac":1}],"IsGateway":true,"args":{"CNI":null}}"#);
    assert_eq!(config.object["ipam"], json!("x"));
    assert_eq!(config.object["runtimeConfig"], json!([{"Mac": 1}]));
    assert_eq!(config.object["isGateway"], json!(true));
}
