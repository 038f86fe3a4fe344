//! Directories of configurations, and what is read of each.

use super::*;

/// A directory with the files given.
fn directory(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let file = directory.path().join(name);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, text).unwrap();
    }
    directory
}

fn list(name: &str, plugin: &str) -> String {
    format!(r#"{{"cniVersion":"1.0.0","name":"{name}","plugins":[{{"type":"{plugin}"}}]}}"#)
}

fn types(list: &NetworkList) -> Vec<&str> {
    list.plugins.iter().map(|plugin| plugin.plugin_type.as_str()).collect()
}

fn parse(text: &str) -> Result<NetworkList, Error> {
    NetworkList::from_bytes(text.as_bytes())
}

#[test]
fn lists_come_before_single_plugins_each_in_lexical_order() {
    let directory = directory(&[
        ("00.conf", r#"{"name":"net","type":"single"}"#),
        ("10.json", r#"{"name":"other","type":"json"}"#),
        ("20.conflist", &list("net", "second")),
        ("15.conflist", &list("net", "first")),
        ("11.conf", r#"{"name":"other","type":"conf"}"#),
        ("01.txt", &list("net", "no-configuration")),
    ]);
    assert_eq!(types(&NetworkList::load(directory.path(), "net").unwrap()), ["first"]);
    assert_eq!(types(&NetworkList::load(directory.path(), "other").unwrap()), ["json"]);
    assert_eq!(NetworkList::names(directory.path()).unwrap(), ["net", "net", "net", "other", "other"]);
}

#[test]
fn a_single_plugin_is_a_list_of_one() {
    let text = r#"{"cniVersion":"0.3.1","name":"net","type":"bridge","mtu":1450}"#;
    let directory = directory(&[("10.conf", text), ("net/20.conf", r#"{"type":"not-for-single-files"}"#)]);
    let single = NetworkList::load(directory.path(), "net").unwrap();
    assert_eq!((single.name.as_str(), single.version, types(&single)), ("net", Version::V0_3_1, vec!["bridge"]));
    // What the cache keeps of it is a list: that is how a DEL without the file reads it.
    let again = NetworkList::from_bytes(&single.bytes).unwrap();
    assert_eq!((types(&again), again.plugins[0].object["mtu"].get()), (vec!["bridge"], "1450"));

    let directory = self::directory(&[("10.conf", &list("net", "bridge"))]);
    assert!(NetworkList::load(directory.path(), "net").unwrap_err().details.contains(".conflist"));
}

#[test]
fn a_network_that_is_not_there_is_answered_with_those_that_are() {
    let directory = directory(&[
        ("10.conflist", &list("one", "a")),
        ("20.conflist", "{\n  \"name\": }"),
        ("30.conf", r#"{"name":"two","type":"b"}"#),
    ]);
    let error = NetworkList::load(directory.path(), "net").unwrap_err();
    assert_eq!(error.code, code::INVALID_CONFIG);
    for part in ["\"net\"", "one, two", "20.conflist", "line 2 column 11"] {
        assert!(error.details.contains(part), "{part}: {error}");
    }
    // Nor does the broken file stand in the way of a sound one after it.
    assert_eq!(types(&NetworkList::load(directory.path(), "two").unwrap()), ["b"]);

    let empty = self::directory(&[("a-plugin.txt", "")]);
    let error = NetworkList::load(empty.path(), "net").unwrap_err();
    assert!(error.details.ends_with("which holds no networks"), "{error}");

    let error = NetworkList::load(&directory.path().join("nowhere"), "net").unwrap_err();
    assert!(error.details.contains("nowhere") && error.details.contains("does not exist"), "{error}");
}

#[test]
fn the_newest_version_in_common_is_spoken() {
    let version = |versions: &str| parse(&format!(r#"{{"name":"n",{versions}"plugins":[{{"type":"a"}}]}}"#));
    for (text, newest) in [
        ("", Version::V0_1_0),
        (r#""cniVersion":"0.4.0","#, Version::V0_4_0),
        (r#""cniVersion":"1.0.0","cniVersions":["0.3.1","1.1.0","0.4.0"],"#, Version::V1_1_0),
        (r#""cniVersion":"1.1.0","cniVersions":["0.3.1"],"#, Version::V1_1_0),
        (r#""cniVersions":["0.3.1","2.0.0"],"#, Version::V0_3_1),
        (r#""cniVersion":"9.9.9","cniVersions":["1.0.0"],"#, Version::V1_0_0),
    ] {
        assert_eq!(version(text).unwrap().version, newest, "{text}");
    }
    let error = version(r#""cniVersion":"9.9.9","cniVersions":["2.0.0"],"#).unwrap_err();
    assert_eq!(error.code, code::INCOMPATIBLE_VERSION);
    assert!(error.details.contains("9.9.9, 2.0.0"), "{error}");
    for bad in [r#""cniVersion":1,"#, r#""cniVersions":"1.0.0","#, r#""cniVersions":[1],"#] {
        let error = version(bad).unwrap_err();
        assert!(error.code == code::INVALID_CONFIG && error.details.contains("cniVersion"), "{bad}: {error}");
    }
}

#[test]
fn flags_are_true_and_false_and_gos_words_for_them() {
    for (value, set) in [("true", true), ("\"True\"", true), ("false", false), ("\"FALSE\"", false), ("null", false)] {
        let text = format!(
            r#"{{"name":"n","disableCheck":{value},"disableGC":{value},"loadOnlyInlinedPlugins":{value},"plugins":[{{"type":"a"}}]}}"#
        );
        let list = parse(&text).unwrap();
        assert_eq!([list.disable_check, list.disable_gc, list.load_only_inlined_plugins], [set; 3], "{value}");
    }
    for key in ["disableCheck", "disableGC", "loadOnlyInlinedPlugins"] {
        let error = parse(&format!(r#"{{"name":"n","{key}":"yes","plugins":[{{"type":"a"}}]}}"#)).unwrap_err();
        assert!(error.details.contains(key) && error.details.contains("yes"), "{error}");
    }
}

#[test]
fn the_folder_beside_adds_plugins_unless_told_otherwise() {
    let files = [
        ("10.conflist", r#"{"name":"net","plugins":[{"type":"inlined"}]}"#),
        ("20.conflist", r#"{"name":"only","loadOnlyInlinedPlugins":true,"plugins":[{"type":"inlined"}]}"#),
        ("30.conflist", r#"{"name":"folder"}"#),
        ("40.conflist", r#"{"name":"none"}"#),
        ("50.conflist", r#"{"name":"both","loadOnlyInlinedPlugins":true}"#),
        ("net/20.conf", r#"{"type":"second"}"#),
        ("net/10.conf", r#"{"type":"first"}"#),
        ("net/15.json", r#"{"type":"not-a-conf"}"#),
        ("only/10.conf", r#"{"type":"ignored"}"#),
        ("folder/10.conf", r#"{"type":"sole"}"#),
    ];
    let directory = directory(&files);
    let load = |name| NetworkList::load(directory.path(), name);
    assert_eq!(types(&load("net").unwrap()), ["inlined", "first", "second"]);
    assert_eq!(types(&load("only").unwrap()), ["inlined"]);
    assert_eq!(types(&load("folder").unwrap()), ["sole"]);
    assert!(load("none").unwrap_err().details.contains("no plugins"));
    assert!(load("both").unwrap_err().details.contains("loadOnlyInlinedPlugins"));

    std::fs::write(directory.path().join("net/30.conf"), "{\n}").unwrap();
    let error = load("net").unwrap_err();
    assert!(error.details.contains("net/30.conf") && error.details.contains("type"), "{error}");
}

#[test]
fn what_is_no_list_is_refused_by_key() {
    for (text, key) in [
        (r#"{"plugins":[{"type":"a"}]}"#, "name"),
        (r#"{"name":"../x","plugins":[{"type":"a"}]}"#, "../x"),
        (r#"{"name":"n","plugins":[]}"#, "plugins"),
        (r#"{"name":"n","plugins":{}}"#, "plugins"),
        (r#"{"name":"n","plugins":["a"]}"#, "plugins"),
        (r#"{"name":"n","plugins":[{"type":"a"},{"mtu":1}]}"#, "plugins[1]"),
        (r#"{"name":"n","plugins":[{"type":5}]}"#, "type"),
        (r#"{"name":"n","plugins":[{"type":"a","capabilities":{"mac":"yes"}}]}"#, "capabilities.mac"),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.code, code::INVALID_CONFIG, "{text}");
        assert!(error.details.contains(key), "{key}: {error}");
    }
}

#[test]
fn a_broken_file_with_the_networks_name_in_it_is_the_answer() {
    for (text, fault) in [
        ("{\n  \"name\" :\"net\", // ours\n}", "JSON has no comments: remove the one at line 2 column 18"),
        ("{\"name\": \"net\", \"plugins\": [{\"type\": \"a\"},]}", "a comma before ] at line 1 column 42"),
        ("\u{feff}{\"name\":\"net\"}", "byte order mark of UTF-8 (EF BB BF)"),
        ("{\"name\": \"net\"", "EOF"),
    ] {
        let directory =
            directory(&[("10.conflist", text), ("20.conflist", "{]"), ("30.conf", r#"{"name":"two","type":"b"}"#)]);
        let error = NetworkList::load(directory.path(), "net").unwrap_err();
        assert_eq!(error.code, code::DECODING_FAILURE, "{error}");
        assert!(error.details.contains("10.conflist: ") && error.details.contains(fault), "{error}");
        assert!(!error.details.contains("20.conflist") && !error.details.contains("two"), "{error}");
    }
    // A name that only begins with it is another's.
    let directory = directory(&[("10.conflist", "{\"name\": \"net-2\", }")]);
    let error = NetworkList::load(directory.path(), "net").unwrap_err();
    assert_eq!((error.code, error.msg.as_str()), (code::INVALID_CONFIG, "network not found"));
    assert!(error.details.contains("10.conflist: a comma before }"), "{error}");
}

#[test]
fn of_a_key_that_is_given_twice_plugins_get_the_last_value_once() {
    let text = r#"{"name":"net","cniVersion":"0.4.0","cniVersion":"1.0.0","plugins":[
        {"type":"a","mtu":1,"ipam":{"x":[{"subnet":1,"subnet":1.50}]},"mtu":1450}]}"#;
    let directory = directory(&[("10.conflist", text)]);
    let list = NetworkList::load(directory.path(), "net").unwrap();
    assert_eq!(list.version, Version::V1_0_0);
    let given = String::from_utf8(list.configurations_of("a").remove(0)).unwrap();
    assert_eq!(given, r#"{"cniVersion":"1.0.0","ipam":{"x":[{"subnet":1.50}]},"mtu":1450,"name":"net","type":"a"}"#);
}

#[test]
fn a_version_that_is_nearly_one_is_answered_with_that_one() {
    for (version, meant) in
        [("\"1.0\"", "write \"1.0.0\""), ("1.1", "write \"1.1.0\""), ("\"v0.4.0\"", "write \"0.4.0\"")]
    {
        let error = parse(&format!(r#"{{"name":"n","cniVersion":{version},"plugins":[{{"type":"a"}}]}}"#)).unwrap_err();
        assert!(error.details.ends_with(meant), "{error}");
    }
}
