//! Every key, and what is refused.

use super::*;

#[test]
fn dual_stack_with_routes_and_name_resolution_is_answered_in_full() {
    let bench = Bench::new();
    let resolv = bench.node.file("resolv.conf");
    std::fs::write(&resolv, "nameserver 192.0.2.53\nsearch a.example b.example\ndomain c.example\noptions ndots:5\n")
        .unwrap();
    let config = bench.config(json!({
        "ranges": [
            [{"subnet": "10.22.0.0/16", "rangeStart": "10.22.1.10", "rangeEnd": "10.22.1.20", "gateway": "10.22.0.9"}],
            [{"subnet": "fd00:22::/64"}],
        ],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.168.0.0/16", "gw": "10.22.5.1", "mtu": 1400}],
        "resolvConf": resolv,
    }));
    let expected = json!({
        "cniVersion": "1.1.0",
        "ips": [
            {"address": "10.22.1.10/16", "gateway": "10.22.0.9"},
            {"address": "fd00:22::2/64", "gateway": "fd00:22::1"},
        ],
        "routes": [{"dst": "0.0.0.0/0"}, {"dst": "192.168.0.0/16", "gw": "10.22.5.1", "mtu": 1400}],
        "dns": {"nameservers": ["192.0.2.53"], "domain": "c.example", "search": ["a.example", "b.example"],
                "options": ["ndots:5"]},
    });
    assert_eq!(bench.call("ADD", "a", &config).ok(), expected);
}

#[test]
fn the_top_level_range_and_the_runtimes_ranges_come_before_the_list() {
    let bench = Bench::new();
    let mut config = bench.config(json!({
        "subnet": "10.5.0.0/24", "rangeStart": "10.5.0.50", "rangeEnd": "10.5.0.60", "gateway": "10.5.0.50",
        "ranges": [[{"subnet": "10.6.0.0/24"}]],
    }));
    assert_eq!(bench.add("a", &config), ["10.5.0.51", "10.6.0.2"]);
    config["runtimeConfig"] = json!({"ipRanges": [[{"subnet": "fd00:9::/64"}]]});
    assert_eq!(bench.add("b", &config), ["fd00:9::2", "10.5.0.52", "10.6.0.3"]);
}

#[test]
fn requested_addresses_are_given_by_each_way_of_asking() {
    let bench = Bench::new();
    let mut config = bench.config(json!({"ranges": [[{"subnet": "10.5.0.0/24"}], [{"subnet": "fd00::/64"}]]}));
    let from_environment = bench.call_with("host-local", "ADD", "a", &config, "K8S_POD_NAME=x;IP=10.5.0.77");
    assert_eq!(addresses(&from_environment.ok()), ["10.5.0.77", "fd00::2"]);
    config["args"] = json!({"cni": {"ips": ["fd00::99/64"]}});
    assert_eq!(bench.add("b", &config), ["10.5.0.78", "fd00::99"]);
    // args.cni.ips wins over CNI_ARGS; runtimeConfig.ips comes besides.
    config["args"] = json!({"cni": {"ips": ["fd00::aa"]}});
    config["runtimeConfig"] = json!({"ips": ["10.5.0.200/24"]});
    let all = bench.call_with("host-local", "ADD", "c", &config, "IP=10.5.0.33");
    assert_eq!(addresses(&all.ok()), ["10.5.0.200", "fd00::aa"]);

    let taken = bench.call("ADD", "d", &config);
    assert_eq!(taken.code(), 101, "{}", taken.stdout);
    assert!(taken.details().contains("10.5.0.200") && taken.details().contains("c/eth0"), "{}", taken.stdout);
    assert_eq!(bench.files().len(), 6);
}

#[test]
fn what_does_not_hold_is_refused_before_anything_is_touched() {
    let bench = Bench::new();
    let cases = [
        (json!({}), 7, "ipam.ranges"),
        (json!({"subnet": "10.5.0.7/24"}), 7, "10.5.0.7/24"),
        (json!({"subnet": "10.5.0.0/31"}), 7, "ipam.subnet"),
        (json!({"subnet": "10.5.0.0/24", "rangeStart": "10.6.0.1"}), 7, "ipam.rangeStart"),
        (json!({"subnet": "10.5.0.0/24", "rangeEnd": 5}), 7, "ipam.rangeEnd"),
        (json!({"ranges": [[{"subnet": "10.5.0.0/24"}], [{"subnet": "10.5.0.0/16"}]]}), 7, "ipam.ranges[1]"),
        (json!({"ranges": [[{"subnet": "10.5.0.0/24"}, {"subnet": "fd00::/64"}]]}), 7, "ipam.ranges[0][1].subnet"),
        (json!({"subnet": "10.5.0.0/24", "routes": [{"dst": "x"}]}), 7, "ipam.routes[0].dst"),
        (json!({"subnet": "10.5.0.0/24", "resolvConf": "/nonexistent/resolv.conf"}), 5, "/nonexistent/resolv.conf"),
    ];
    for (ipam, code, named) in cases {
        let reply = bench.call("ADD", "a", &bench.config(ipam.clone()));
        assert_eq!(reply.code(), code, "{ipam}: {}", reply.stdout);
        assert!(reply.details().contains(named), "{ipam}: {}", reply.stdout);
    }
    let mut relative = bench.config(json!({"subnet": "10.5.0.0/24"}));
    relative["ipam"]["dataDir"] = json!("here");
    let refused = bench.call("ADD", "a", &relative);
    assert!(refused.code() == 7 && refused.details().contains("ipam.dataDir"), "{}", refused.stdout);
    let config = bench.config(json!({"subnet": "10.5.0.0/24"}));
    for (args, code) in [("IP=x", 4), ("IP=10.5.0.1", 7), ("IP=10.5.0.0", 7), ("IP=10.5.0.255", 7), ("IP=10.9.0.5", 7)]
    {
        let reply = bench.call_with("host-local", "ADD", "a", &config, args);
        assert_eq!(reply.code(), code, "{args}: {}", reply.stdout);
    }
    let two = json!({"ranges": [[{"subnet": "10.5.0.0/24"}], [{"subnet": "10.6.0.0/24"}]]});
    assert_eq!(bench.call("ADD", "a", &bench.config_in("0.2.0", two)).code(), 7);
    assert!(!bench.node.file("data").exists(), "something was touched");
}

#[test]
fn every_version_gets_its_answer() {
    let bench = Bench::new();
    for version in ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let config = bench.config_in(version, json!({"subnet": "10.5.0.0/24"}));
        let result = bench.call("ADD", version, &config).ok();
        assert_eq!(result["cniVersion"], version);
        let single = version < "0.3.0";
        let address = if single { &result["ip4"]["ip"] } else { &result["ips"][0]["address"] };
        assert!(address.as_str().is_some_and(|text| text.starts_with("10.5.0.")), "{result}");
    }
}

#[test]
fn a_range_of_all_addresses_there_are_is_served_at_once() {
    let bench = Bench::new();
    let config = bench.config(json!({"subnet": "::/0"}));
    assert_eq!(bench.add("a", &config), ["::2"]);
    let last = bench.config(json!({"subnet": "::/0", "rangeStart": "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"}));
    assert_eq!(bench.add("b", &last), ["ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe"]);
    assert_eq!(bench.add("c", &last), ["ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"]);
    assert_eq!(bench.call("ADD", "d", &last).code(), 101);
    assert!(bench.status(&config).success);
}

#[test]
fn network_broadcast_and_gateway_addresses_are_never_given() {
    let bench = Bench::new();
    // The gateway of the second range lies in the first.
    let config = bench.config(json!({"ranges": [[
        {"subnet": "10.5.0.0/29", "rangeStart": "10.5.0.0", "rangeEnd": "10.5.0.7", "gateway": "10.5.0.3"},
        {"subnet": "10.6.0.0/30", "gateway": "10.5.0.5"},
    ]]}));
    let mut given = Vec::new();
    while let Some(address) =
        bench.call("ADD", &format!("p{}", given.len()), &config).json["ips"][0]["address"].as_str()
    {
        given.push(address.to_owned());
    }
    let expected = ["10.5.0.1/29", "10.5.0.2/29", "10.5.0.4/29", "10.5.0.6/29", "10.6.0.1/30", "10.6.0.2/30"];
    assert_eq!(given, expected);
}
