//! Delegation to real executables: what they get, and what becomes of what they answer.

use std::collections::BTreeMap;

use super::*;
use crate::config::{Config, Document};
use crate::error::code;
use crate::invocation::Invocation;
use crate::testing::Scripts;

const CONFIG: &str = r#"{ "cniVersion":"1.0.0", "name":"net",
  "type":"bridge", "odd": 1.50, "ipam":{"type":"ipam"} }"#;

const RESULT: &str = r#"{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24"}]}"#;

/// What a plugin that was called with `command` and `CNI_PATH` has.
fn request_in(path: &str, command: &str, config: &str) -> Request {
    let variables = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "pod"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/run/netns/pod"),
        ("CNI_ARGS", "IP=10.0.0.2;A=b"),
        ("CNI_PATH", path),
    ];
    let variables: BTreeMap<_, _> = variables.into_iter().collect();
    let invocation = Invocation::read(&|name| variables.get(name).map(OsString::from)).unwrap().unwrap();
    let document = Document::decode(config.as_bytes(), &Default::default(), crate::config::Size::Usual).unwrap();
    let version = Config::version_of(document.object()).unwrap();
    Request { config: Config::new(config.into(), document, version).unwrap(), invocation }
}

fn request(scripts: &Scripts, command: &str) -> Request {
    request_in(scripts.path().to_str().unwrap(), command, CONFIG)
}

/// A delegate that answers with `script`, and its error on ADD.
fn failure(script: &str) -> (Scripts, Error) {
    let scripts = Scripts::new();
    scripts.add("ipam", script);
    let request = request(&scripts, "ADD");
    let error = Delegate::find(&request, "ipam").unwrap().add().unwrap_err();
    (scripts, error)
}

#[test]
fn the_delegate_gets_the_complete_configuration_and_environment() {
    let scripts = Scripts::new();
    scripts.add("ipam", &format!("echo '{RESULT}'"));
    let request = request(&scripts, "ADD");
    let result = Delegate::ipam(&request).unwrap().unwrap().add().unwrap();
    assert_eq!(result.ips[0].address, "10.0.0.2/24".parse().unwrap());
    assert_eq!(scripts.note("ipam.in"), CONFIG);
    let path = scripts.path().display();
    let environment = format!(
        "CNI_ARGS=IP=10.0.0.2;A=b\nCNI_COMMAND=ADD\nCNI_CONTAINERID=pod\nCNI_IFNAME=eth0\nCNI_NETNS=/run/netns/pod\n\
         CNI_PATH={path}\n"
    );
    assert_eq!(scripts.note("ipam.env"), environment);
}

#[test]
fn every_command_is_passed_on() {
    let scripts = Scripts::new();
    scripts.add("ipam", "");
    let request = request(&scripts, "DEL");
    let delegate = Delegate::find(&request, "ipam").unwrap();
    for command in [Command::Del, Command::Check, Command::Gc, Command::Status] {
        delegate.call(command).unwrap();
    }
    assert_eq!(scripts.calls("ipam"), ["DEL", "CHECK", "GC", "STATUS"]);
}

#[test]
fn an_error_comes_back_with_its_code_and_the_failed_add_is_undone() {
    let (scripts, error) =
        failure(r#"[ $CNI_COMMAND = DEL ] || { echo '{"code":11,"msg":"later","details":"no lease"}'; exit 1; }"#);
    assert_eq!(error, Error::new(11, "later", "ipam: no lease"));
    assert_eq!(scripts.calls("ipam"), ["ADD", "DEL"]);
    assert_eq!(scripts.note("ipam.in"), CONFIG);
}

#[test]
fn a_failing_del_after_a_failed_add_does_not_hide_the_first_error() {
    let (scripts, error) = failure(r#"echo "{\"code\":111,\"msg\":\"$CNI_COMMAND\"}"; exit 1"#);
    assert_eq!((error.code, error.msg.as_str()), (111, "ADD"));
    assert_eq!(scripts.calls("ipam"), ["ADD", "DEL"]);
}

#[test]
fn output_that_is_no_json_is_shown() {
    let (scripts, error) = failure("echo oh no");
    assert_eq!(error.code, code::DECODING_FAILURE);
    assert!(error.details.starts_with("ipam: ") && error.details.contains("oh no"), "{error}");
    assert_eq!(scripts.calls("ipam"), ["ADD", "DEL"]);

    let (_, error) = failure("echo oh no; exit 3");
    assert_eq!(error.code, code::PLUGIN_FAILED);
    assert!(error.details.contains("exit status: 3") && error.details.contains("oh no"), "{error}");
}

#[test]
fn an_add_that_prints_nothing_is_an_error() {
    let (scripts, error) = failure("");
    assert_eq!(error.code, code::DECODING_FAILURE);
    assert!(error.details.contains("stdout is empty"), "{error}");
    assert_eq!(scripts.calls("ipam"), ["ADD", "DEL"]);
}

#[test]
fn a_delegate_killed_by_a_signal_is_named_with_it() {
    let (scripts, error) = failure("[ $CNI_COMMAND = DEL ] || kill -KILL $$");
    assert_eq!(error.code, code::PLUGIN_FAILED);
    assert!(error.details.contains("signal: 9") && error.details.contains("stdout: nothing"), "{error}");
    assert_eq!(scripts.calls("ipam"), ["ADD", "DEL"]);
}

#[test]
fn a_result_that_makes_no_sense_names_key_and_value() {
    let (_, error) = failure(r#"echo '{"cniVersion":"1.0.0","ips":[{"address":"10.0.0.300/24"}]}'"#);
    assert!(error.details.contains("ips[0].address") && error.details.contains("10.0.0.300"), "{error}");
}

#[test]
fn an_add_that_nobody_waits_for_is_undone() {
    let scripts = Scripts::new();
    scripts.add("ipam", &format!("echo '{RESULT}'"));
    let request = request(&scripts, "ADD");
    drop(Delegate::find(&request, "ipam").unwrap().start_add().unwrap());
    assert_eq!(scripts.calls("ipam"), ["ADD", "DEL"]);
}

#[test]
fn neither_side_waits_for_the_other_to_read() {
    // Both more than a pipe holds: the answer is printed before anything is read.
    let scripts = Scripts::new();
    let text = format!("#!/bin/sh\nprintf '%s' '{RESULT}'\nhead -c 1000000 /dev/zero | tr '\\0' ' '\ncat > $0.in\n");
    scripts.add_raw("ipam", &text);
    let config = CONFIG.replace("1.50", &format!("\"{}\"", "x".repeat(1_000_000)));
    let request = request_in(scripts.path().to_str().unwrap(), "ADD", &config);
    let result = Delegate::find(&request, "ipam").unwrap().add().unwrap();
    assert_eq!(result.ips.len(), 1);
    assert_eq!(scripts.note("ipam.in"), config);
}

#[test]
fn a_delegate_that_reads_nothing_is_fine() {
    let scripts = Scripts::new();
    scripts.add_raw("ipam", &format!("#!/bin/sh\nexec <&-\necho '{RESULT}'\n"));
    for size in [1, 1_000_000] {
        let config = CONFIG.replace("1.50", &format!("\"{}\"", "x".repeat(size)));
        let request = request_in(scripts.path().to_str().unwrap(), "ADD", &config);
        Delegate::find(&request, "ipam").unwrap().add().unwrap();
    }
}

#[test]
fn an_answer_without_end_is_cut_off() {
    let scripts = Scripts::new();
    scripts.add_raw("ipam", "#!/bin/sh\n[ $CNI_COMMAND = DEL ] || exec cat /dev/zero\n");
    let request = request(&scripts, "ADD");
    let error = Delegate::find(&request, "ipam").unwrap().add().unwrap_err();
    assert!(error.details.contains("16 MiB"), "{error}");
}

#[test]
fn a_plugin_that_is_being_written_is_waited_for() {
    let scripts = Scripts::new();
    scripts.add("ipam", &format!("echo '{RESULT}'"));
    let request = request(&scripts, "ADD");
    let busy = std::fs::OpenOptions::new().append(true).open(scripts.path().join("ipam")).unwrap();
    std::thread::scope(|scope| {
        let added = scope.spawn(|| Delegate::find(&request, "ipam").unwrap().add());
        std::thread::sleep(std::time::Duration::from_millis(100));
        drop(busy);
        added.join().unwrap().unwrap();
    });
}

#[test]
fn a_delegate_that_is_nowhere_is_named_with_the_path() {
    let scripts = Scripts::new();
    std::fs::write(scripts.path().join("text"), "not executable").unwrap();
    std::fs::create_dir(scripts.path().join("directory")).unwrap();
    let request = request(&scripts, "ADD");
    for name in ["missing", "text", "directory"] {
        let error = Delegate::find(&request, name).unwrap_err();
        assert_eq!(error.code, code::INVALID_ENVIRONMENT);
        let path = scripts.path().to_str().unwrap();
        assert!(error.details.contains(name) && error.details.contains("CNI_PATH") && error.details.contains(path));
    }
    let request = request_in("", "ADD", CONFIG);
    assert!(Delegate::find(&request, "ipam").unwrap_err().details.contains("CNI_PATH is not set"));
}

#[test]
fn a_type_that_leaves_the_path_is_refused() {
    let scripts = Scripts::new();
    scripts.add("ipam", "");
    let request = request(&scripts, "ADD");
    for name in ["../ipam", "/bin/true", "./ipam", "..", ".", "", "a\\b", "ipam\0"] {
        let error = Delegate::find(&request, name).unwrap_err();
        assert_eq!(error.code, code::INVALID_CONFIG, "{name:?}");
        assert!(error.details.contains(&format!("{name:?}")), "{error}");
    }
}

#[test]
fn relative_directories_are_taken_from_where_the_plugin_runs() {
    let here = std::env::current_dir().unwrap();
    let inside = tempfile::tempdir_in(&here).unwrap();
    let relative = inside.path().file_name().unwrap().to_str().unwrap();
    std::os::unix::fs::symlink("/bin/true", inside.path().join("ipam")).unwrap();
    let request = request_in(&format!("/nowhere:{relative}"), "ADD", CONFIG);
    assert_eq!(find("ipam", &request.invocation.path).unwrap(), inside.path().join("ipam"));
}
