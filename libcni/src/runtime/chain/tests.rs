//! Chains of real executables: in which order they are called, with what, and what becomes of their answers.

use std::path::Path;

use super::*;
use crate::testing::Scripts;

/// Plugins, a cache and a network of the plugins `a`, `b` and `c`.
struct Node {
    scripts: Scripts,
    runtime: Runtime,
    list: NetworkList,
    _cache: tempfile::TempDir,
}

/// Answers ADD with an address in the configuration's version, and notes what was called in which order.
const GOOD: &str = "echo $(basename $0) $CNI_COMMAND >> $(dirname $0)/order\n\
    [ $CNI_COMMAND = ADD ] || exit 0\n\
    echo '{\"cniVersion\":\"VERSION\",\"ips\":[{\"address\":\"10.0.0.2/24\"}],\"by\":\"'$(basename $0)'\"}'";

const FAILING: &str = "echo $(basename $0) $CNI_COMMAND >> $(dirname $0)/order\n\
    echo '{\"code\":120,\"msg\":\"no\",\"details\":\"for a reason\"}'; exit 1";

const PLUGINS: &str = r#"[{"type":"a"},{"type":"b"},{"type":"c"}]"#;

impl Node {
    fn new(version: &str) -> Self {
        Node::with(version, &format!(r#"{{"cniVersion":"{version}","name":"net","plugins":{PLUGINS}}}"#))
    }

    fn with(version: &str, list: &str) -> Self {
        let (scripts, cache) = (Scripts::new(), tempfile::tempdir().unwrap());
        for name in ["a", "b", "c"] {
            scripts.add(name, &GOOD.replace("VERSION", version));
        }
        let runtime = Runtime { path: scripts.cni_path(), cache: Cache::new(cache.path()) };
        Node { scripts, runtime, list: NetworkList::from_bytes(list.as_bytes()).unwrap(), _cache: cache }
    }

    fn add(&self, container_id: &str) -> Result<CniResult, Error> {
        self.runtime.add(&self.list, &pod(container_id))
    }

    /// What was called since the last question, as "a ADD, b ADD".
    fn order(&self) -> String {
        let order = self.scripts.note("order").trim().replace('\n', ", ");
        let _ = std::fs::remove_file(self.scripts.path().join("order"));
        order
    }

    /// What `plugin` got on stdin last.
    fn input(&self, plugin: &str) -> Value {
        serde_json::from_str(&self.scripts.note(&format!("{plugin}.in"))).unwrap()
    }

    fn cached(&self) -> Vec<String> {
        let found = self.runtime.cache.attachments("net").unwrap();
        found.into_iter().map(|cached| cached.parameters.id.container_id).collect()
    }
}

fn pod(container_id: &str) -> Parameters {
    Parameters::new(container_id, "eth0", "/run/netns/gone")
}

#[test]
fn add_goes_forward_and_chains_results() {
    let node = Node::new("1.0.0");
    let result = node.add("pod").unwrap();
    assert_eq!(result.ips[0].address, "10.0.0.2/24".parse().unwrap());
    assert_eq!(node.order(), "a ADD, b ADD, c ADD");
    assert!(node.input("a").get("prevResult").is_none());
    assert_eq!(node.input("b")["prevResult"]["by"], "a");
    assert_eq!(node.input("c")["prevResult"]["by"], "b");
    let cached = node.runtime.cache.get("net", &pod("pod").id).unwrap().unwrap();
    assert_eq!((cached.result.unwrap()["by"].as_str(), cached.config), (Some("c"), node.list.bytes.clone()));
}

#[test]
fn a_failed_add_stops_there_names_the_plugin_and_undoes_nothing() {
    let node = Node::new("1.0.0");
    node.scripts.add("b", FAILING);
    let error = node.add("pod").unwrap_err();
    assert_eq!(error, Error::new(120, "no", "plugin type=\"b\" failed (add): for a reason"));
    assert_eq!(node.order(), "a ADD, b ADD");
    assert!(node.cached().is_empty());
}

#[test]
fn names_that_are_no_names_are_refused_before_any_plugin_runs() {
    let node = Node::new("1.0.0");
    for (container_id, ifname, bad) in [
        ("../x", "eth0", "\"../x\""),
        ("", "eth0", "container ID"),
        ("pod", "a/b", "\"a/b\""),
        ("pod", "far-too-long-a-name", "far-too-long-a-name"),
    ] {
        let error = node.runtime.add(&node.list, &Parameters::new(container_id, ifname, "/gone")).unwrap_err();
        assert!(error.details.contains(bad), "{error}");
    }
    assert_eq!(node.order(), "");
}

#[test]
fn a_result_that_is_none_names_the_plugin() {
    for (script, part) in [("", "stdout is empty"), ("echo garbage", "garbage"), ("kill -TERM $$", "signal: 15")] {
        let node = Node::new("1.0.0");
        node.scripts.add("b", script);
        let error = node.add("pod").unwrap_err();
        assert!(error.details.starts_with("plugin type=\"b\" failed (add): "), "{error}");
        assert!(error.details.contains(part), "{error}");
    }
}

#[test]
fn del_goes_back_with_the_final_result_and_forgets() {
    let node = Node::new("0.4.0");
    node.add("pod").unwrap();
    node.order();
    node.runtime.del(&node.list, &pod("pod")).unwrap();
    assert_eq!(node.order(), "c DEL, b DEL, a DEL");
    for plugin in ["a", "b", "c"] {
        assert_eq!(node.input(plugin)["prevResult"]["by"], "c");
    }
    assert!(node.cached().is_empty());
    node.runtime.del(&node.list, &pod("pod")).unwrap();
    assert!(node.input("a").get("prevResult").is_none());
}

#[test]
fn before_0_4_0_del_has_no_result_and_still_forgets() {
    let node = Node::new("0.3.1");
    node.add("pod").unwrap();
    node.runtime.del(&node.list, &pod("pod")).unwrap();
    assert!(node.input("c").get("prevResult").is_none());
    assert!(node.cached().is_empty());
}

#[test]
fn a_failed_del_stops_there_and_is_remembered_for_the_next() {
    let node = Node::new("1.0.0");
    node.add("pod").unwrap();
    node.order();
    node.scripts.add("b", FAILING);
    assert!(node.runtime.del(&node.list, &pod("pod")).unwrap_err().details.contains("type=\"b\" failed (del)"));
    assert_eq!(node.order(), "c DEL, b DEL");
    assert_eq!(node.cached(), ["pod"]);
}

#[test]
fn a_broken_cache_does_not_keep_a_pod_from_being_removed() {
    let node = Node::new("1.0.0");
    node.add("pod").unwrap();
    node.order();
    std::fs::write(node._cache.path().join("results/net-pod-eth0"), "{").unwrap();
    node.runtime.del(&node.list, &pod("pod")).unwrap();
    assert_eq!(node.order(), "c DEL, b DEL, a DEL");
    assert!(node.cached().is_empty());
}

#[test]
fn a_cached_result_is_passed_in_the_version_that_is_spoken_now() {
    let mut node = Node::new("1.0.0");
    node.add("pod").unwrap();
    node.list.version = Version::V0_4_0;
    node.runtime.check(&node.list, &pod("pod")).unwrap();
    let previous = &node.input("a")["prevResult"];
    assert_eq!((previous["cniVersion"].as_str(), previous["ips"][0]["version"].as_str()), (Some("0.4.0"), Some("4")));
}

#[test]
fn check_goes_forward_with_the_final_result_up_to_the_first_error() {
    let node = Node::new("1.0.0");
    node.add("pod").unwrap();
    node.order();
    node.runtime.check(&node.list, &pod("pod")).unwrap();
    assert_eq!(node.order(), "a CHECK, b CHECK, c CHECK");
    assert_eq!(node.input("a")["prevResult"]["by"], "c");
    node.scripts.add("b", FAILING);
    assert_eq!(node.runtime.check(&node.list, &pod("pod")).unwrap_err().code, 120);
    assert_eq!(node.order(), "a CHECK, b CHECK");
}

#[test]
fn check_needs_0_4_0_and_an_add_unless_it_is_disabled() {
    let node = Node::new("0.3.1");
    assert_eq!(node.runtime.check(&node.list, &pod("pod")).unwrap_err().code, code::INCOMPATIBLE_VERSION);
    let mut node = Node::new("1.0.0");
    let error = node.runtime.check(&node.list, &pod("pod")).unwrap_err();
    assert!(error.details.contains("pod/eth0"), "{error}");
    node.list.disable_check = true;
    node.runtime.check(&node.list, &pod("pod")).unwrap();
    assert_eq!(node.order(), "");
}

#[test]
fn every_variable_is_set_and_empty_where_there_is_no_attachment() {
    let node = Node::new("1.1.0");
    let mut parameters = pod("pod");
    parameters.args = vec![("A".into(), "1".into()), ("B".into(), "2".into())];
    node.runtime.add(&node.list, &parameters).unwrap();
    let path = node.scripts.path().display().to_string();
    let add = format!(
        "CNI_ARGS=A=1;B=2\nCNI_COMMAND=ADD\nCNI_CONTAINERID=pod\nCNI_IFNAME=eth0\nCNI_NETNS=/run/netns/gone\nCNI_PATH={path}\n"
    );
    assert_eq!(node.scripts.note("a.env"), add);
    let calls: [(&str, &dyn Fn()); 2] = [
        ("STATUS", &|| node.runtime.status(&node.list).unwrap()),
        ("GC", &|| node.runtime.gc(&node.list, &[pod("pod").id]).unwrap()),
    ];
    for (command, call) in calls {
        call();
        let none =
            format!("CNI_ARGS=\nCNI_COMMAND={command}\nCNI_CONTAINERID=\nCNI_IFNAME=\nCNI_NETNS=\nCNI_PATH={path}\n");
        assert_eq!(node.scripts.note("a.env"), none);
    }
}

#[test]
fn what_the_runtime_need_not_know_is_passed_on_as_it_is_written() {
    let list = r#"{"cniVersion":"1.1.0","name":"net","plugins":[{"type":"a","name":"mine","cniVersion":"0.1.0",
        "huge":123456789012345678901234567890,"exact":1.10,"exp":1E400,"nested":{"z":[1.0,{"y":null}],"a":2},
        "capabilities":{"mac":true,"ips":false,"bandwidth":true},"args":{"cni":{}},
        "cni.dev/mine":1,"cni.dev/valid-attachments":[],"prevResult":{"ips":[]}}]}"#;
    let node = Node::with("1.1.0", list);
    let mut parameters = pod("pod");
    parameters.capability_args =
        json!({"mac":"0a:58:0a:16:00:05","ips":["10.0.0.9"],"portMappings":[]}).as_object().unwrap().clone();
    node.runtime.add(&node.list, &parameters).unwrap();
    let got = node.scripts.note("a.in");
    for part in [
        r#""huge":123456789012345678901234567890,"#,
        r#""exact":1.10,"#,
        r#""exp":1E400,"#,
        r#""nested":{"z":[1.0,{"y":null}],"a":2},"#,
        r#""args":{"cni":{}},"#,
        r#""name":"net","#,
        r#""cniVersion":"1.1.0","#,
        r#""runtimeConfig":{"mac":"0a:58:0a:16:00:05"},"#,
    ] {
        assert!(got.contains(part), "{part} is not in {got}");
    }
    for part in ["cni.dev/", "prevResult", "capabilities", "portMappings", "10.0.0.9"] {
        assert!(!got.contains(part), "{part} is in {got}");
    }
    node.runtime.gc(&node.list, &[pod("valid").id]).unwrap();
    let got = node.scripts.note("a.in");
    assert!(got.contains(r#""cni.dev/valid-attachments":[{"containerID":"valid","ifname":"eth0"}]"#), "{got}");
    assert!(!got.contains("cni.dev/mine"), "{got}");
}

#[test]
fn gc_removes_what_is_not_valid_and_goes_on_after_errors() {
    let node = Node::new("1.1.0");
    for name in ["one", "two", "three"] {
        node.add(name).unwrap();
    }
    node.order();
    node.scripts.add("b", FAILING);
    let error = node.runtime.gc(&node.list, &[pod("two").id]).unwrap_err();
    assert_eq!(node.order(), "c DEL, b DEL, c DEL, b DEL, a GC, b GC, c GC");
    assert_eq!(error.code, 120);
    for part in ["one/eth0", "three/eth0", "failed (gc)"] {
        assert!(error.details.contains(part), "{part}: {error}");
    }
    node.scripts.add("b", &GOOD.replace("VERSION", "1.1.0"));
    node.runtime.gc(&node.list, &[pod("two").id]).unwrap();
    assert_eq!(node.cached(), ["two"]);
}

#[test]
fn gc_by_namespace_keeps_what_may_live() {
    let node = Node::new("1.1.0");
    let file = tempfile::NamedTempFile::new().unwrap();
    for (name, netns) in [
        ("lives", Path::new("/proc/self/ns/net")),
        ("no-netns", Path::new("/proc/self/ns/uts")),
        ("left-over", file.path()),
        ("gone", Path::new("/run/netns/gone-for-sure")),
    ] {
        node.runtime.add(&node.list, &Parameters::new(name, "eth0", netns)).unwrap();
    }
    node.runtime.add(&node.list, &Parameters { netns: None, ..pod("unknown") }).unwrap();
    node.runtime.gc_by_namespace(&node.list).unwrap();
    assert_eq!(node.cached(), ["lives", "unknown"]);
    let valid = json!([{"containerID":"lives","ifname":"eth0"},{"containerID":"unknown","ifname":"eth0"}]);
    assert_eq!(node.input("a")["cni.dev/valid-attachments"], valid);
}

#[test]
fn gc_touches_nothing_when_it_cannot_tell_or_is_disabled() {
    let mut node = Node::new("1.1.0");
    node.add("pod").unwrap();
    std::fs::write(node._cache.path().join("results/net-x-eth0"), "").unwrap();
    node.order();
    assert!(node.runtime.gc(&node.list, &[]).unwrap_err().details.contains("net-x-eth0"));
    node.list.disable_gc = true;
    node.runtime.gc(&node.list, &[]).unwrap();
    assert_eq!(node.order(), "");
}

#[test]
fn before_1_1_0_gc_only_deletes_and_status_asks_nobody() {
    let node = Node::new("1.0.0");
    node.add("pod").unwrap();
    node.order();
    node.runtime.status(&node.list).unwrap();
    node.runtime.gc(&node.list, &[]).unwrap();
    assert_eq!(node.order(), "c DEL, b DEL, a DEL");
}

#[test]
fn gc_waits_for_an_add_under_way() {
    let node = Node::new("1.1.0");
    // b's ADD ends when the test says so; the GC that starts meanwhile finds the attachment in the cache.
    node.scripts.add("b", &format!("while [ ! -e $0.go ]; do sleep 0.01; done\n{}", GOOD.replace("VERSION", "1.1.0")));
    std::thread::scope(|scope| {
        let added = scope.spawn(|| node.runtime.add(&node.list, &Parameters::new("pod", "eth0", "/proc/self/ns/net")));
        while node.scripts.calls("b").is_empty() {
            std::thread::yield_now();
        }
        let collected = scope.spawn(|| node.runtime.gc_by_namespace(&node.list));
        std::thread::sleep(std::time::Duration::from_millis(100));
        std::fs::write(node.scripts.path().join("b.go"), "").unwrap();
        added.join().unwrap().unwrap();
        collected.join().unwrap().unwrap();
    });
    assert_eq!(node.order(), "a ADD, b ADD, c ADD, a GC, b GC, c GC");
    assert_eq!(node.input("a")["cni.dev/valid-attachments"][0]["containerID"], "pod");
}

#[test]
fn status_asks_in_order_up_to_the_first_error() {
    let node = Node::new("1.1.0");
    node.scripts.add("b", &FAILING.replace("120", "50"));
    assert_eq!(node.runtime.status(&node.list).unwrap_err().code, code::UNAVAILABLE);
    assert_eq!(node.order(), "a STATUS, b STATUS");
    assert_eq!(node.input("a")["name"], "net");
}

#[test]
fn a_chain_agrees_on_the_newest_version_that_all_speak() {
    let list = format!(r#"{{"cniVersion":"0.4.0","cniVersions":["1.0.0","1.1.0"],"name":"net","plugins":{PLUGINS}}}"#);
    let mut node = Node::with("1.0.0", &list);
    node.scripts.add("a", r#"echo '{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0","1.1.0","7.0.0"]}'"#);
    node.scripts.add("b", r#"echo '{"cniVersion":"1.1.0","supportedVersions":["0.3.1","0.4.0","1.0.0"]}'"#);
    node.scripts.add("c", "echo 'unknown command'; exit 1");
    assert_eq!(node.list.version, Version::V1_1_0);
    node.runtime.agree(&mut node.list);
    assert_eq!(node.list.version, Version::V1_0_0);
    // Nothing in common: the plugins will say so themselves.
    node.scripts.add("b", r#"echo '{"supportedVersions":["0.1.0"]}'"#);
    node.runtime.agree(&mut node.list);
    assert_eq!(node.list.version, Version::V1_0_0);
}

#[test]
fn a_plugin_that_is_not_there_is_named_with_the_path() {
    let node = Node::new("1.0.0");
    std::fs::remove_file(node.scripts.path().join("b")).unwrap();
    let error = node.add("pod").unwrap_err();
    assert_eq!(error.code, code::INVALID_ENVIRONMENT);
    assert!(error.details.contains("type=\"b\" failed (add)") && error.details.contains("CNI_PATH"), "{error}");
}
