//! Too much: memory stays bounded, and the error says what is too large.

use super::*;

fn assert_refused(reply: &Reply, code: u64, word: &str, what: &str) {
    assert_eq!(reply.code(), code, "{what}: {:.300}{:.300}", reply.stdout, reply.stderr);
    assert!(reply.details().contains(word), "{what}: {:.300}", reply.stdout);
    assert!(reply.stdout.len() < 100_000, "{what}: an error of {} bytes", reply.stdout.len());
}

#[test]
fn a_configuration_of_1_gib_is_refused_before_it_is_read_whole() {
    let mebibyte = [b'x'; 1 << 20];
    for plugin in PLUGINS {
        for command in ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"] {
            let reply = bounded(plugin, command, |stdin| {
                let _ = stdin.write_all(b"{\"name\":\"");
                // The plugin closes the pipe when it has read enough.
                let written = (0..1024).take_while(|_| stdin.write_all(&mebibyte).is_ok()).count();
                assert!(written < 1024, "all of it was read");
            });
            assert_refused(&reply, 6, "larger than", &format!("{plugin} {command}, 1 GiB"));
        }
    }
}

#[test]
fn json_nested_100_000_deep_is_refused_wherever_it_stands() {
    let node = Node::new("deep");
    let (open, deep) = (open_config(&node), format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)));
    let objects = format!("{}1{}", r#"{"a":"#.repeat(100_000), "}".repeat(100_000));
    for (what, text) in [
        ("alone", deep.clone()),
        ("a key that nobody knows", format!(r#"{open},"x":{deep}}}"#)),
        ("objects", format!(r#"{open},"x":{objects}}}"#)),
        ("prevResult", format!(r#"{open},"prevResult":{deep}}}"#)),
        ("name", format!(r#"{{"name":{deep}}}"#)),
        ("unfinished", "[".repeat(100_000)),
    ] {
        for plugin in PLUGINS {
            let reply = bounded_call(plugin, "ADD", &text);
            assert_eq!(reply.code(), 6, "{plugin}, {what}: {}", reply.stdout);
        }
    }
    let map = format!(r#"{{"cniVersion":"1.1.0","name":"n","nodes":{deep},"ipam":{{"type":"host-local"}}}}"#);
    assert_refused(&bounded_call("host-local", "ADD", &map), 6, "nodes", "a node map");
}

#[test]
fn a_range_of_2_to_the_128_addresses_costs_what_a_small_one_costs() {
    let node = Node::new("range");
    let config = |subnet: &str| {
        json!({"cniVersion": "1.1.0", "name": "n", "ipam":
              {"type": "host-local", "subnet": subnet, "dataDir": node.file("data")}})
        .to_string()
    };
    for command in ["ADD", "STATUS", "DEL", "ADD"] {
        let reply = bounded_call("host-local", command, &config("::/0"));
        assert!(reply.success, "{command}: {}", reply.stdout);
    }
}

/// `count` routes, in as few bytes as they take.
fn routes(count: u32) -> String {
    let one = |at: u32| format!(r#"{{"dst":"10.{}.{}.{}/32"}}"#, at >> 16 & 255, at >> 8 & 255, at & 255);
    format!("[{}]", (0..count).map(one).collect::<Vec<_>>().join(","))
}

#[test]
fn a_million_routes_are_refused_and_a_hundred_thousand_are_handed_on() {
    let node = Node::new("routes");
    let ipam = |count: u32| {
        let data = node.file("data");
        let routes = routes(count);
        format!(
            r#"{{"cniVersion":"1.1.0","name":"n","ipam":{{"type":"host-local","subnet":"10.5.0.0/24","dataDir":{data:?},"routes":{routes}}}}}"#
        )
    };
    let open = open_config(&node);
    let previous = |count: u32| format!(r#"{open},"prevResult":{{"cniVersion":"1.1.0","routes":{}}}}}"#, routes(count));
    assert_refused(&bounded_call("host-local", "ADD", &ipam(1_000_000)), 6, "larger than", "ipam.routes, a million");
    assert_refused(&bounded_call("host-local", "ADD", &ipam(500_000)), 6, "too many values", "half a million");
    for plugin in PLUGINS {
        assert_refused(&bounded_call(plugin, "ADD", &previous(1_000_000)), 6, "larger than", plugin);
        assert_refused(&bounded_call(plugin, "ADD", &previous(500_000)), 6, "too many values", plugin);
    }
    let handed_on = bounded_call("host-local", "ADD", &ipam(100_000));
    assert_eq!(handed_on.ok()["routes"].as_array().unwrap().len(), 100_000);
    // What was added is removed with its result, and were that larger than an ADD's may be.
    bounded_call("host-local", "DEL", &previous(600_000)).ok();
}

#[test]
fn small_values_in_great_number_and_long_texts_take_no_more_memory_and_no_more_time() {
    let node = Node::new("small");
    let open = open_config(&node);
    let ipam = |keys: String| {
        let data = node.file("data");
        format!(r#"{{"cniVersion":"1.1.0","name":"n","ipam":{{"type":"host-local","dataDir":{data:?},{keys}}}}}"#)
    };
    let ranges = |count: usize, between: &str| {
        let one = |at: usize| {
            format!(r#"{{"subnet":"{}.{}.{}.{}/30"}}"#, 1 + (at >> 22), at >> 14 & 255, at >> 6 & 255, (at & 63) * 4)
        };
        (0..count).map(one).collect::<Vec<_>>().join(between)
    };
    let ips: Vec<String> = (0..300_000).map(|at| format!(r#""10.5.{}.{}""#, at >> 8 & 255, at & 255)).collect();
    let million = |text: &str| text.repeat(15_000_000 / text.len());
    for (what, text, code, word) in [
        ("objects", format!(r#"{open},"x":[{}0]}}"#, million(r#"{"":0},"#)), 6, "too many values"),
        ("lists", format!(r#"{open},"x":[{}0]}}"#, million("[],")), 6, "too many values"),
        ("numbers", format!(r#"{open},"x":[{}0]}}"#, million("0,")), 6, "too many values"),
        ("a long name", format!(r#"{{"name":"{}"}}"#, million("x")), 7, "name"),
        ("a long version", format!(r#"{{"name":"n","cniVersion":"{}"}}"#, million("x")), 1, "cniVersion"),
        ("a long address", ipam(format!(r#""subnet":"10.5.0.0/24","gateway":"{}""#, million("x"))), 7, "ipam.gateway"),
        ("a long route", ipam(format!(r#""routes":[{{"dst":"{}"}}]"#, million("x"))), 7, "ipam.routes[0].dst"),
        ("ranges", ipam(format!(r#""ranges":[[{}]]"#, ranges(150_000, ","))), 7, "at most 4096"),
        ("range sets", ipam(format!(r#""ranges":[[{}]]"#, ranges(150_000, "],["))), 7, "at most 256"),
        (
            "wishes",
            ipam(format!(r#""subnet":"10.5.0.0/16"}},"runtimeConfig":{{"ips":[{}]"#, ips.join(","))),
            7,
            "ips[0]",
        ),
    ] {
        assert_refused(&bounded_call("host-local", "ADD", &text), code, word, what);
    }
    // Compared with the names that are known, letter by letter, this would take seconds.
    let key = ipam(format!(r#""subnet":"10.5.0.0/24","{}":1"#, million("k")));
    bounded_call("host-local", "ADD", &key).ok();
}

#[test]
fn more_vlans_than_there_are_are_refused_and_all_of_them_fit() {
    let mut node = Node::new("vlans");
    node.path.push(bin_dir());
    let trunk: Vec<Value> = (0..20_000).map(|_| json!({"id": 5})).collect();
    let pod = Pod::new("a");
    let config = |trunk: Vec<Value>| json!({"cniVersion": "1.1.0", "name": "n", "type": "bridge", "bridge": "b0", "vlanTrunk": trunk});
    let reply = node.call("bridge", "ADD", &pod, &config(trunk));
    assert!(reply.code() == 7 && reply.details().contains("vlanTrunk"), "{:.300}", reply.stdout);
}

/// An IPAM plugin that says whatever `answer` prints, and writes down that it got a DEL.
fn ipam_that_answers(node: &mut Node, answer: &str) {
    use std::os::unix::fs::PermissionsExt;
    let (bin, log) = (node.file("bin"), node.file("log"));
    std::fs::create_dir_all(&bin).unwrap();
    let script =
        format!("#!/bin/sh\necho $CNI_COMMAND >> {}\n[ $CNI_COMMAND = ADD ] || exit 0\n{answer}\n", log.display());
    std::fs::write(bin.join("flood"), script).unwrap();
    std::fs::set_permissions(bin.join("flood"), std::fs::Permissions::from_mode(0o755)).unwrap();
    node.path = vec![bin, bin_dir()];
    let _ = std::fs::remove_file(log);
}

#[test]
fn an_ipam_plugin_that_answers_without_end_is_ended_and_undone() {
    let mut node = Node::new("flood");
    std::fs::write(
        node.file("routes"),
        format!(r#"{{"cniVersion":"1.1.0","ips":[{{"address":"10.5.0.2/24"}}],"routes":{}}}"#, routes(400_000)),
    )
    .unwrap();
    let routes = format!("cat {}", node.file("routes").display());
    let deep = "head -c 100000 /dev/zero | tr '\\0' '['";
    for (answer, word) in
        [("exec cat /dev/zero", "larger than"), (routes.as_str(), "too many values"), (deep, "recursion")]
    {
        ipam_that_answers(&mut node, answer);
        for plugin in ["bridge", "routed-veth", "ptp"] {
            let pod = Pod::new("a");
            let config =
                json!({"cniVersion": "1.1.0", "name": "n", "type": plugin, "bridge": "b0", "ipam": {"type": "flood"}});
            let variables = [
                ("CNI_COMMAND", "ADD"),
                ("CNI_CONTAINERID", "a"),
                ("CNI_IFNAME", "eth0"),
                ("CNI_NETNS", &pod.netns().path().display().to_string()),
                ("CNI_PATH", &node.cni_path()),
            ];
            let text = config.to_string();
            let feed = |stdin: &mut dyn Write| drop(stdin.write_all(text.as_bytes()));
            let reply = node.netns.inside(|| bounded_with(plugin, &variables, ROOM, feed));
            assert_refused(&reply, 6, word, &format!("{plugin}: {word}"));
            let calls = std::fs::read_to_string(node.file("log")).unwrap();
            assert!(calls.ends_with("ADD\nDEL\n"), "{plugin}: {calls}");
            assert!(pod.netns().ip("link show")[1].is_null(), "{plugin} left an interface");
        }
    }
}
