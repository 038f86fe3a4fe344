//! What people write by mistake: refused where it can't be meant, with what to write instead, and else obeyed with a warning.

use super::*;

/// STATUS, in which a configuration is read and validated, and nothing is touched.
fn status(node: &Node, plugin: &str, config: &str) -> Reply {
    let path = node.cni_path();
    node.execute(plugin, &[("CNI_COMMAND", "STATUS"), ("CNI_PATH", path.as_str())], config.as_bytes())
}

/// A configuration for any plugin, with more keys of its own, and of its ipam section.
fn config(node: &Node, keys: &str, ipam: &str) -> String {
    let data = node.file("data");
    format!(
        r#"{{"cniVersion":"1.1.0","name":"n","type":"any"{keys},"ipam":{{"type":"host-local","dataDir":{data:?}{ipam}}}}}"#
    )
}

#[test]
fn what_is_no_json_is_called_what_it_is_by_every_plugin() {
    let node = Node::new("slips");
    let good = config(&node, "", r#","subnet":"10.5.0.0/24""#);
    for (text, fault) in [
        (format!("\u{feff}{good}"), "begins with a byte order mark of UTF-8 (EF BB BF)"),
        (format!("// Pods\n{good}"), "JSON has no comments: remove the one at line 1 column 1"),
        (good.replace(r#","type":"any""#, ", /* any */ \"type\":\"any\""), "JSON has no comments"),
        (good.replace("}}", ",\n}}"), "a comma before } at line 1 column"),
        (good.replacen("\"n\"", "'n'", 1), "JSON has no quotation marks but \""),
    ] {
        for plugin in PLUGINS {
            let reply = status(&node, plugin, &text);
            assert_eq!(reply.code(), 6, "{plugin}: {}", reply.stdout);
            assert!(reply.details().contains(fault), "{plugin}: {fault}: {}", reply.stdout);
        }
    }
}

#[test]
fn a_key_that_is_given_twice_is_told_by_its_path_and_the_last_one_counts() {
    let node = Node::new("slips");
    let twice = config(
        &node,
        r#","bridge":"no/name","bridge":"b0","x":[{"y":1,"y":2}]"#,
        r#","subnet":"x","subnet":"10.5.0.0/24""#,
    );
    let reply = status(&node, "bridge", &twice);
    assert!(reply.success, "{}", reply.stdout);
    for key in ["bridge", "x[0].y", "ipam.subnet"] {
        let told = format!("key {key:?} is given more than once: the last one counts");
        assert!(reply.stderr.contains(&told), "{key}: {}", reply.stderr);
    }
    // Of the rest its caller speaks, which may be of another project.
    let reply = status(&node, "host-local", &twice);
    assert!(reply.success && reply.stderr.contains("\"ipam.subnet\" is given more than once"), "{reply:?}");
    assert!(!reply.stderr.contains("x[0].y"), "{}", reply.stderr);
    let once = status(&node, "bridge", &config(&node, "", r#","subnet":"10.5.0.0/24""#));
    assert!(once.success && once.stderr.is_empty(), "{once:?}");
}

#[test]
fn a_version_that_is_missing_or_nearly_right_is_told_with_the_one_to_write() {
    let node = Node::new("slips");
    let good = config(&node, "", r#","subnet":"10.5.0.0/24""#);
    for (version, code, told) in [
        (r#""cniVersion":"1.0","#, 1, "write \"1.0.0\""),
        (r#""cniVersion":1.1,"#, 7, "write \"1.1.0\""),
        ("", 1, "key \"cniVersion\" is missing, which means 0.1.0"),
        (r#""cniVersion":"","#, 1, "key \"cniVersion\" is missing, which means 0.1.0"),
    ] {
        let reply = status(&node, "bridge", &good.replace(r#""cniVersion":"1.1.0","#, version));
        assert!(reply.code() == code && reply.details().contains(told), "{version}: {}", reply.stdout);
    }
    let pod = Pod::new("a");
    let ipam = json!({"type": "host-local", "subnet": "10.5.0.0/24", "dataDir": node.file("data")});
    let versionless = json!({"name": "n", "type": "bridge", "bridge": "b0", "ipam": ipam});
    let reply = node.call("bridge", "ADD", &pod, &versionless);
    assert!(reply.success && reply.stderr.contains("\"cniVersion\" is missing, which means 0.1.0"), "{reply:?}");
}

#[test]
fn ranges_without_their_second_brackets_and_nodes_a_level_too_deep_are_shown_as_they_are_meant() {
    let node = Node::new("slips");
    let map = r#","nodes":[{"name":"n","addresses":["10.240.0.1"],"podCIDRs":["10.5.0.0/24"]}]"#;
    for (ipam, told) in [
        (r#","ranges":[{"subnet":"10.5.0.0/24"}]"#, r#"expected a list: "ranges": [[{"subnet":"10.5.0.0/24"}]]"#),
        (map, "key \"ipam.nodes\""),
        (map, "the node map belongs one level up: beside \"ipam\", not in it"),
    ] {
        for plugin in ["host-local", "bridge"] {
            let reply = status(&node, plugin, &config(&node, "", ipam));
            assert!(!reply.success && reply.details().contains(told), "{plugin}: {told}: {}", reply.stdout);
        }
    }
    let reply = status(&node, "host-local", &config(&node, "", &format!(r#","subnet":"10.5.0.0/24"{map}"#)));
    assert!(reply.success && reply.stderr.contains("the node map belongs one level up"), "{reply:?}");
}

#[test]
fn keys_that_need_addresses_are_told_to_have_no_effect_without_ipam() {
    let node = Node::new("slips");
    for key in ["isGateway", "isDefaultGateway", "ipMasq", "forceAddress"] {
        let pod = Pod::new(key);
        let reply =
            node.call("bridge", "ADD", &pod, &json!({"cniVersion": "1.1.0", "name": "n", "bridge": "b0", key: true}));
        let told = format!("key {key:?} has no effect without an ipam section");
        assert!(reply.success && reply.stderr.contains(&told), "{key}: {reply:?}");
    }
    let reply = status(
        &node,
        "bridge",
        &config(&node, r#","isDefaultGateway":true,"ipMasq":true"#, r#","subnet":"10.5.0.0/24""#),
    );
    assert!(reply.success && !reply.stderr.contains("no effect"), "{reply:?}");
}

#[test]
fn telling_a_key_that_is_given_twice_takes_bounded_memory_and_time() {
    let node = Node::new("slips");
    let many = |count: u32| (0..count).map(|at| format!(r#""{at:x}":0"#)).collect::<Vec<_>>().join(",");
    // What is kept as text is not counted, and looked through all the same.
    let keys = format!(r#","nodes":{{{}}}"#, many(1_200_000));
    let reply = bounded_call("host-local", "ADD", &config(&node, &keys, r#","subnet":"x","subnet":"10.5.0.0/24""#));
    assert!(reply.success && reply.stderr.lines().count() == 1, "{:.300}{:.300}", reply.stdout, reply.stderr);
    let keys = format!(r#","x":{{{}}}"#, vec![many(1000); 200].join(","));
    let reply = bounded_call("bridge", "STATUS", &config(&node, &keys, r#","subnet":"10.5.0.0/24""#));
    assert!(reply.success && reply.stderr.lines().count() == 10, "{:.300}{:.300}", reply.stdout, reply.stderr);
}
