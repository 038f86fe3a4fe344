use super::*;
use libcni::config::Document;
use libcni::keys::Level;
use libcni::{Command, Config, Invocation};
use serde_json::json;

fn request(object: Value, args: Option<&str>) -> Request {
    let bytes = object.to_string().into_bytes();
    let document = Document::decode(&bytes, &Level::of::<HostLocal>(), libcni::config::Size::Usual).unwrap();
    let version = Config::version_of(document.object()).unwrap();
    let config = Config::new(bytes, document, version).unwrap();
    let invocation = Invocation {
        command: Command::Add,
        attachment: None,
        raw_args: args.map(Into::into),
        path: Vec::new(),
        netns_override: false,
    };
    Request { config, invocation }
}

fn settings(mut object: Value, args: Option<&str>) -> Result<Settings, Error> {
    if object.get("cniVersion").is_none() {
        object["cniVersion"] = json!("1.1.0");
    }
    object["name"] = json!("net");
    let request = request(object, args);
    Settings::resolve(&request, &request.config.read()?)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn the_runtimes_ranges_come_first_then_the_top_level_one_then_the_list() {
    let settings = settings(
        json!({
            "runtimeConfig": {"ipRanges": [[{"subnet": "10.9.0.0/24"}]]},
            "ipam": {"ranges": [[{"subnet": "10.1.0.0/24"}, {"subnet": "10.2.0.0/24"}], [{"subnet": "fd00::/64"}]],
                     "subnet": "10.5.0.0/24", "rangeStart": "10.5.0.7", "gateway": "10.5.0.9", "rangeEnd": ""},
        }),
        None,
    );
    let settings = settings.unwrap();
    let shown: Vec<_> = settings.sets.iter().map(RangeSet::to_string).collect();
    let expected = [
        "10.9.0.1-10.9.0.254",
        "10.5.0.7-10.5.0.254",
        "10.1.0.1-10.1.0.254,10.2.0.1-10.2.0.254",
        "fd00::1-fd00::ffff:ffff:ffff:ffff",
    ];
    assert_eq!(shown, expected);
    assert_eq!(settings.sets[1].0[0].gateway, ip("10.5.0.9"));
    assert_eq!(settings.data_dir, PathBuf::from(DEFAULT_DATA_DIR));
}

#[test]
fn what_does_not_hold_is_code_7_and_names_key_and_value() {
    let ranges = |sets: Value| json!({"ipam": {"ranges": sets}});
    let cases = [
        (json!({}), "ipam", "missing"),
        (json!({"ipam": {}}), "ipam.ranges", "missing"),
        (ranges(json!([])), "ipam.ranges", "missing"),
        (ranges(json!([[]])), "ipam.ranges[0]", "[]"),
        (ranges(json!([[{}]])), "ipam.ranges[0][0].subnet", "missing"),
        (ranges(json!([[{"subnet": "10.0.0.0"}]])), "ipam.ranges[0][0].subnet", "10.0.0.0"),
        (ranges(json!([[{"subnet": "10.0.0.0/33"}]])), "ipam.ranges[0][0].subnet", "10.0.0.0/33"),
        (ranges(json!([[{"subnet": "10.0.0.1/24"}]])), "ipam.ranges[0][0].subnet", "10.0.0.1/24"),
        (ranges(json!([[{"subnet": "10.0.0.0/24", "rangeEnd": "x"}]])), "ipam.ranges[0][0].rangeEnd", "\"x\""),
        (ranges(json!([[{"subnet": "10.0.0.0/24", "gateway": "fd00::1"}]])), "ipam.ranges[0][0].gateway", "fd00::1"),
        (
            ranges(json!([[{"subnet": "10.0.0.0/24"}, {"subnet": "fd00::/64"}]])),
            "ipam.ranges[0][1].subnet",
            "fd00::/64",
        ),
        (
            ranges(json!([[{"subnet": "10.0.0.0/24"}, {"subnet": "10.0.0.0/25"}]])),
            "ipam.ranges[0][1]",
            "10.0.0.1-10.0.0.126",
        ),
        (
            ranges(json!([[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.0.0.0/25"}]])),
            "ipam.ranges[1]",
            "10.0.0.1-10.0.0.126",
        ),
        (
            json!({"cniVersion": "0.2.0", "ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "10.1.0.0/24"}]]}}),
            "ipam.ranges",
            "2 range sets of IPv4",
        ),
        (json!({"ipam": {"subnet": "10.0.0.0/24", "routes": [{"dst": "nowhere"}]}}), "ipam.routes[0].dst", "nowhere"),
        (json!({"ipam": {"subnet": "10.0.0.0/24", "dataDir": 5}}), "ipam.dataDir", "5"),
    ];
    for (object, key, value) in cases {
        let error = settings(object.clone(), None).map(|_| ()).unwrap_err();
        assert_eq!(error.code, code::INVALID_CONFIG, "{object}: {error}");
        assert!(error.details.contains(&format!("key {key:?}")) && error.details.contains(value), "{object}: {error}");
    }
}

#[test]
fn one_address_of_each_family_is_fine_in_the_old_versions() {
    let dual =
        json!({"cniVersion": "0.2.0", "ipam": {"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]]}});
    assert_eq!(settings(dual, None).unwrap().sets.len(), 2);
}

#[test]
fn requested_addresses_go_to_their_sets_and_args_win_over_cni_args() {
    let ipam = json!({"ranges": [[{"subnet": "10.0.0.0/24"}], [{"subnet": "fd00::/64"}]]});
    let from_environment = settings(json!({"ipam": ipam}), Some("K8S_POD_NAME=x;IP=10.0.0.7/24")).unwrap();
    assert_eq!(from_environment.requested, [Some(ip("10.0.0.7")), None]);
    let both = json!({"ipam": ipam, "args": {"cni": {"ips": ["fd00::9"]}}, "runtimeConfig": {"ips": ["10.0.0.8/24", "fd00::9/64"]}});
    let both = settings(both, Some("IP=10.0.0.7")).unwrap();
    assert_eq!(both.requested, [Some(ip("10.0.0.8")), Some(ip("fd00::9"))]);
}

#[test]
fn a_request_that_no_set_can_take_is_refused_by_its_key() {
    let ipam = json!({"ranges": [[{"subnet": "10.0.0.0/24"}]]});
    for (wish, key) in [
        (json!(["10.1.0.5"]), "args.cni.ips[0]"),
        (json!(["10.0.0.1"]), "args.cni.ips[0]"),
        (json!(["10.0.0.0"]), "args.cni.ips[0]"),
        (json!(["10.0.0.255"]), "args.cni.ips[0]"),
        (json!(["10.0.0.5", "10.0.0.6"]), "args.cni.ips[1]"),
        (json!(["fd00::5"]), "args.cni.ips[0]"),
        (json!(["10.0.0.x"]), "args.cni.ips[0]"),
    ] {
        let error = settings(json!({"ipam": ipam, "args": {"cni": {"ips": wish}}}), None).map(|_| ()).unwrap_err();
        assert!(
            error.code == code::INVALID_CONFIG && error.details.contains(&format!("key {key:?}")),
            "{wish}: {error}"
        );
    }
    let error = settings(json!({"ipam": ipam}), Some("IP=300.0.0.1")).map(|_| ()).unwrap_err();
    assert!(error.code == code::INVALID_ENVIRONMENT && error.details.contains("IP=300.0.0.1"), "{error}");
    let error = settings(json!({"ipam": ipam}), Some("IP=10.7.0.1")).map(|_| ()).unwrap_err();
    assert!(error.code == code::INVALID_CONFIG && error.details.contains("CNI_ARGS IP"), "{error}");
}

#[test]
fn del_finds_the_data_directory_whatever_has_become_of_it() {
    for (ipam, expected) in [
        (json!({"dataDir": "/data"}), "/data"),
        (json!({"dataDir": ""}), DEFAULT_DATA_DIR),
        (json!({"dataDir": ["x"]}), DEFAULT_DATA_DIR),
        (json!({}), DEFAULT_DATA_DIR),
        (json!("nonsense"), DEFAULT_DATA_DIR),
    ] {
        assert_eq!(data_dir(&request(json!({"name": "net", "ipam": ipam}), None)), PathBuf::from(expected));
    }
}
