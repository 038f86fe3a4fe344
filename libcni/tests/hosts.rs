//! The example plugin, executed as a runtime executes it.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

/// The example's binary, which cargo builds with the tests.
fn executable() -> PathBuf {
    let exe = std::env::current_exe().unwrap();
    let file = exe.ancestors().nth(2).unwrap().join("examples/hosts");
    assert!(file.exists(), "{} is missing: cargo build --package libcni --examples", file.display());
    file
}

fn call(command: &str, container_id: &str, config: &Value) -> Output {
    #[expect(clippy::disallowed_methods, reason = "a test executes the plugin")]
    let mut process = Command::new(executable());
    process.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    process.env("CNI_COMMAND", command).env("CNI_CONTAINERID", container_id).env("CNI_IFNAME", "eth0");
    // The plugin never enters it: this one will do.
    process.env("CNI_NETNS", "/proc/self/ns/net").env("CNI_NETNS_OVERRIDE", "1");
    process.env("CNI_ARGS", format!("IgnoreUnknown=1;K8S_POD_NAME=pod-{container_id}"));
    let mut child = process.spawn().unwrap();
    child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn ok(output: Output) -> String {
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}");
    stdout
}

#[track_caller]
fn code(output: &Output) -> u64 {
    assert!(!output.status.success());
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["code"].as_u64().unwrap()
}

/// The files of the network, with what stands in them.
fn files(dir: &Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(dir.join("net")).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<_> = entries
        .map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read_to_string(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

#[test]
fn the_example_names_pods_for_as_long_as_they_live() {
    let dir = tempfile::tempdir().unwrap();
    let result =
        json!({"cniVersion": "1.1.0", "dns": {}, "ips": [{"address": "10.0.0.5/24"}, {"address": "fd00::5/64"}]});
    let config =
        json!({"cniVersion": "1.1.0", "name": "net", "type": "hosts", "dir": dir.path(), "prevResult": result});
    ok(call("STATUS", "", &config));

    for pod in ["a", "b", "c"] {
        let printed: Value = serde_json::from_str(&ok(call("ADD", pod, &config))).unwrap();
        assert_eq!(printed, result, "a chained plugin hands on what it was given");
        ok(call("CHECK", pod, &config));
    }
    assert_eq!(files(dir.path())[1], ("b,eth0".into(), "10.0.0.5 pod-b\nfd00::5 pod-b\n".into()));

    std::fs::write(dir.path().join("net/b,eth0"), "10.0.0.6 pod-b\n").unwrap();
    assert_eq!(code(&call("CHECK", "b", &config)), 102);

    // DEL without prevResult, and again.
    let bare = json!({"cniVersion": "1.1.0", "name": "net", "type": "hosts", "dir": dir.path()});
    ok(call("DEL", "b", &bare));
    ok(call("DEL", "b", &bare));

    let mut gc = bare.clone();
    gc["cni.dev/valid-attachments"] = json!([{"containerID": "c", "ifname": "eth0"}]);
    ok(call("GC", "", &gc));
    let left: Vec<_> = files(dir.path()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(left, ["c,eth0"]);

    // What it refuses: to be first in a chain, and a directory that can't be.
    assert_eq!(code(&call("ADD", "d", &bare)), 7);
    let nowhere = json!({"cniVersion": "1.1.0", "name": "net", "type": "hosts", "dir": "/dev/null"});
    assert_eq!(code(&call("STATUS", "", &nowhere)), 50);
    assert_eq!(code(&call("STATUS", "", &json!({"cniVersion": "1.1.0", "name": "net", "dir": 5}))), 7);
}

#[test]
fn the_example_is_as_short_as_it_says() {
    assert!(include_str!("../examples/hosts.rs").lines().count() < 60);
}
