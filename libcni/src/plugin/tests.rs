//! What the dispatcher does before, after and instead of a plugin: a plugin that records its calls shows it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::process::{Child, Stdio};

use super::*;
use crate::result::IpConfig;

thread_local! {
    /// The calls of this test's thread, in order.
    static CALLS: RefCell<Vec<&'static str>> = const { RefCell::new(Vec::new()) };
}

fn called(name: &'static str) {
    CALLS.with_borrow_mut(|calls| calls.push(name));
}

fn take_calls() -> Vec<&'static str> {
    CALLS.take()
}

/// Adds the addresses that its configuration lists.
struct Recorder<const IPAM: bool>;

type Interface = Recorder<false>;
type Ipam = Recorder<true>;

#[derive(Configuration)]
struct Keys {
    /// What ADD reports.
    addresses: Vec<ipnetwork::IpNetwork>,
    panic: bool,
    refuse: bool,
}

impl<const IPAM: bool> Plugin for Recorder<IPAM> {
    type Config = Keys;
    const ABOUT: About = About {
        name: "recorder",
        version: "1.2.3",
        summary: "Records its calls.",
        example: r#"{"cniVersion": "1.1.0", "name": "net", "type": "recorder"}"#,
    };
    const KIND: Kind = if IPAM { Kind::Ipam } else { Kind::Interface };

    fn validate(_: &Request, config: &Keys) -> Result<(), Error> {
        called("validate");
        if config.refuse { Err(Error::config("refuse", true, "refused")) } else { Ok(()) }
    }

    fn add(_: &Request, config: Keys, _: &Attachment) -> Result<CniResult, Error> {
        called("add");
        assert!(!config.panic, "told to");
        let ips = config.addresses.iter().map(|&address| IpConfig { address, gateway: None, interface: None });
        Ok(CniResult { ips: ips.collect(), ..CniResult::default() })
    }

    fn check(_: &Request, _: Keys, _: &Attachment) -> Result<(), Error> {
        called("check");
        Ok(())
    }

    fn del(_: &Request, _: &Attachment) -> Result<(), Error> {
        called("del");
        Ok(())
    }

    fn gc(_: &Request, valid: &[AttachmentId]) -> Result<(), Error> {
        called(if valid.is_empty() { "gc of all" } else { "gc" });
        Ok(())
    }

    fn status(_: &Request, _: Keys) -> Result<(), Error> {
        called("status");
        Ok(())
    }
}

/// A good environment for `command`, changed by `changes`.
fn environment(command: &str, changes: &[(&str, &str)]) -> BTreeMap<String, OsString> {
    let good = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "pod"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/nowhere"),
        ("CNI_PATH", "/opt/cni/bin"),
    ];
    good.iter().chain(changes).map(|(name, value)| (name.to_string(), OsString::from(value))).collect()
}

fn run_with<P: Plugin>(environment: &BTreeMap<String, OsString>, config: &str) -> Answer {
    answer::<P>(&|name| environment.get(name).cloned(), &mut config.as_bytes())
}

/// An IPAM plugin's answer: no namespace is needed.
fn ipam(command: &str, changes: &[(&str, &str)], config: &str) -> Answer {
    run_with::<Ipam>(&environment(command, changes), config)
}

const GOOD: &str = r#"{"cniVersion":"1.1.0","name":"net","type":"recorder","addresses":["10.0.0.2/24"]}"#;

impl Answer {
    #[track_caller]
    fn document(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("not one document: {error}: {self:?}"))
    }

    #[track_caller]
    fn ok(self) -> Self {
        assert!(self.success, "{self:?}");
        self
    }

    /// Its code; the details must hold every one of `parts`.
    #[track_caller]
    fn refused(&self, parts: &[&str]) -> u64 {
        assert!(!self.success, "{self:?}");
        let document = self.document();
        let details = document["details"].as_str().unwrap_or_default();
        for part in parts {
            assert!(details.contains(part), "{part:?} is not in {details:?}");
        }
        document["code"].as_u64().expect("an error has a code")
    }
}

/// A network namespace with one process in it, until dropped.
struct Elsewhere(Child);

impl Elsewhere {
    fn new() -> Self {
        #[expect(clippy::disallowed_methods, reason = "a test's own program")]
        let mut command = std::process::Command::new("unshare");
        command.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("unshare (util-linux)");
        // What comes back has been through cat: it is in its namespace.
        child.stdin.as_mut().expect("piped").write_all(b"x").expect("write to cat");
        let echoed = child.stdout.as_mut().expect("piped").read_exact(&mut [0]);
        echoed.expect("unshare --net (are you root?)");
        Elsewhere(child)
    }

    fn namespace(&self, kind: &str) -> String {
        format!("/proc/{}/ns/{kind}", self.0.id())
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn add_answers_with_one_document_in_the_version_asked_for() {
    for version in Version::ALL {
        let config = GOOD.replace("1.1.0", version.as_str());
        let answer = ipam("ADD", &[], &config).ok();
        assert_eq!(answer.document()["cniVersion"], version.as_str());
        assert_eq!(take_calls(), ["validate", "add"]);
    }
    assert_eq!(ipam("ADD", &[], r#"{"name":"net","addresses":["10.0.0.2/24"]}"#).document()["cniVersion"], "0.1.0");
}

#[test]
fn commands_without_a_result_print_nothing() {
    let gc = GOOD.replace("\"type\"", r#""cni.dev/valid-attachments":[{"containerID":"a","ifname":"eth0"}],"type""#);
    for (command, config, calls) in [
        ("CHECK", GOOD, &["validate", "check"][..]),
        ("DEL", GOOD, &["del"]),
        ("GC", &gc, &["gc"]),
        ("STATUS", GOOD, &["validate", "status"]),
    ] {
        let answer = ipam(command, &[], config).ok();
        assert_eq!((answer.stdout.as_str(), take_calls().as_slice()), ("", calls), "{command}");
    }
}

#[test]
fn stdin_that_cannot_be_read_is_code_5() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::Error::other("gone"))
        }
    }
    let environment = environment("ADD", &[]);
    let answer = answer::<Ipam>(&|name| environment.get(name).cloned(), &mut Broken);
    assert_eq!(answer.refused(&["stdin", "gone"]), 5);
}

#[test]
fn json_that_does_not_parse_is_code_6_with_line_and_column() {
    for command in ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"] {
        assert_eq!(ipam(command, &[], "{\n  \"name\": }").refused(&["line 2 column 11"]), 6, "{command}");
    }
    assert_eq!(ipam("ADD", &[], "").refused(&[]), 6);
    assert_eq!(ipam("ADD", &[], "[1]").refused(&[]), 6);
    assert_eq!(ipam("ADD", &[], &format!("{GOOD}{GOOD}")).refused(&["trailing"]), 6);
    assert!(take_calls().is_empty());
}

#[test]
fn a_value_that_does_not_fit_is_code_7_with_key_and_value() {
    let bad = GOOD.replace("10.0.0.2/24", "10.0.0.2/240");
    for command in ["ADD", "CHECK", "STATUS"] {
        assert_eq!(ipam(command, &[], &bad).refused(&["addresses[0]", "10.0.0.2/240"]), 7, "{command}");
    }
    assert!(take_calls().is_empty());
    let refused = GOOD.replace("\"type\"", "\"refuse\":true,\"type\"");
    assert_eq!(ipam("ADD", &[], &refused).refused(&["refuse"]), 7);
    assert_eq!(take_calls(), ["validate"]);
}

#[test]
fn names_that_are_no_names_are_refused_on_every_command() {
    for command in ["ADD", "DEL", "CHECK", "GC", "STATUS"] {
        assert_eq!(ipam(command, &[], &GOOD.replace("\"net\"", "\"../x\"")).refused(&["name", "../x"]), 7);
        assert_eq!(ipam(command, &[], r#"{"cniVersion":"1.1.0"}"#).refused(&["name"]), 7);
    }
    assert!(take_calls().is_empty());
}

#[test]
fn an_unknown_command_is_code_4() {
    for command in ["add", "REMOVE", "ADD "] {
        assert_eq!(ipam(command, &[], GOOD).refused(&["CNI_COMMAND", command, "STATUS"]), 4);
    }
}

#[test]
fn all_bad_variables_are_in_one_error_and_an_empty_one_is_absent() {
    let changes = [("CNI_CONTAINERID", "../x"), ("CNI_IFNAME", "a/b"), ("CNI_NETNS", "")];
    for command in ["ADD", "CHECK"] {
        let answer = ipam(command, &changes, "not even JSON");
        assert_eq!(answer.refused(&["CNI_CONTAINERID", "../x", "CNI_IFNAME", "a/b", "CNI_NETNS is not set"]), 4);
    }
    assert_eq!(ipam("DEL", &changes, GOOD).refused(&["CNI_CONTAINERID", "CNI_IFNAME"]), 4);
    assert!(!ipam("DEL", &changes, GOOD).stdout.contains("CNI_NETNS"));
    assert!(take_calls().is_empty());
}

#[test]
fn gc_and_status_take_the_empty_variables_that_go_passes() {
    let empty = [("CNI_CONTAINERID", ""), ("CNI_IFNAME", ""), ("CNI_NETNS", ""), ("CNI_ARGS", "")];
    ipam("STATUS", &empty, GOOD).ok();
    ipam("GC", &empty, &GOOD.replace("\"type\"", r#""cni.dev/valid-attachments":[],"type""#)).ok();
    assert_eq!(take_calls(), ["validate", "status", "gc of all"]);
}

#[test]
fn arguments_that_nobody_asked_for_harm_nobody() {
    use std::os::unix::ffi::OsStringExt;
    let mut environment = environment("ADD", &[]);
    environment.insert("CNI_ARGS".into(), OsString::from_vec(b"\xff;nonsense".to_vec()));
    run_with::<Ipam>(&environment, GOOD).ok();
}

#[test]
fn a_command_that_the_version_does_not_have_is_code_1() {
    for version in Version::ALL {
        let config = GOOD.replace("1.1.0", version.as_str());
        let config = config.replace("\"type\"", r#""cni.dev/valid-attachments":[],"type""#);
        for (command, since) in [("CHECK", Version::V0_4_0), ("GC", Version::V1_1_0), ("STATUS", Version::V1_1_0)] {
            let answer = ipam(command, &[], &config);
            if version >= since {
                answer.ok();
            } else {
                assert_eq!(answer.refused(&[command, version.as_str(), since.as_str()]), 1);
            }
        }
    }
    assert_eq!(ipam("ADD", &[], &GOOD.replace("1.1.0", "9.0.0")).refused(&["9.0.0"]), 1);
}

#[test]
fn gc_without_its_list_is_code_7_and_never_all() {
    assert_eq!(ipam("GC", &[], GOOD).refused(&["cni.dev/valid-attachments"]), 7);
    for bad in ["null", "{}", r#"[{"containerID":"a"}]"#] {
        let config = GOOD.replace("\"type\"", &format!("\"cni.dev/valid-attachments\":{bad},\"type\""));
        assert_eq!(ipam("GC", &[], &config).refused(&["cni.dev/valid-attachments"]), 7, "{bad}");
    }
    assert!(take_calls().is_empty());
}

#[test]
fn del_takes_any_configuration_that_has_a_name() {
    for config in [
        r#"{"name":"net"}"#,
        r#"{"name":"net","cniVersion":"7.7.7"}"#,
        r#"{"name":"net","cniVersion":[1]}"#,
        r#"{"name":"net","cniVersion":"1.0.0","addresses":5,"refuse":true,"ipam":[],"prevResult":"x","runtimeConfig":0}"#,
    ] {
        for netns in ["", "/gone", "/dev/null"] {
            let answer = run_with::<Interface>(&environment("DEL", &[("CNI_NETNS", netns)]), config);
            assert_eq!(answer.ok().stdout, "");
            assert_eq!(take_calls(), ["del"], "{config}");
        }
    }
}

#[test]
fn an_interface_plugin_gets_a_network_namespace_that_is_not_its_own() {
    let elsewhere = Elsewhere::new();
    let file = tempfile::NamedTempFile::new().unwrap();
    let file = file.path().to_str().unwrap();
    let ask = |command: &str, netns: &str, more: &[(&str, &str)]| {
        let mut environment = environment(command, more);
        environment.insert("CNI_NETNS".into(), netns.into());
        run_with::<Interface>(&environment, GOOD)
    };
    for command in ["ADD", "CHECK"] {
        let uts = elsewhere.namespace("uts");
        for bad in ["/gone", file, "/dev/null", "/", uts.as_str(), "/proc/self/ns/net"] {
            assert_eq!(ask(command, bad, &[]).refused(&["CNI_NETNS", bad]), 4, "{command} {bad}");
            assert!(take_calls().is_empty(), "{command} {bad}");
        }
        ask(command, &elsewhere.namespace("net"), &[]).ok();
        for yes in ["1", "true"] {
            ask(command, "/proc/self/ns/net", &[("CNI_NETNS_OVERRIDE", yes)]).ok();
        }
        for no in ["", "0", "false"] {
            assert_eq!(ask(command, "/proc/self/ns/net", &[("CNI_NETNS_OVERRIDE", no)]).refused(&["own"]), 4);
        }
        take_calls();
    }
}

#[test]
fn a_namespace_is_one_where_it_is_bind_mounted_too() {
    // As `ip netns add` does it, in a mount namespace of its own.
    let script =
        "mkdir $0/m && mount -t tmpfs none $0/m && touch $0/m/net && unshare --net=$0/m/net true && echo && cat";
    let directory = tempfile::tempdir().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test's own program")]
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-ec", script]).arg(directory.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = Elsewhere(command.spawn().expect("unshare (util-linux)"));
    let mounted = holder.0.stdout.as_mut().expect("piped").read_exact(&mut [0]);
    mounted.expect("unshare --mount (are you root?)");
    let netns = format!("/proc/{}/root{}/m/net", holder.0.id(), directory.path().display());
    run_with::<Interface>(&environment("ADD", &[("CNI_NETNS", &netns)]), GOOD).ok();
    assert_eq!(take_calls(), ["validate", "add"]);
}

#[test]
fn an_ipam_plugin_never_opens_the_namespace() {
    for netns in ["/gone", "/proc/self/ns/net"] {
        ipam("ADD", &[("CNI_NETNS", netns)], GOOD).ok();
        ipam("CHECK", &[("CNI_NETNS", netns)], GOOD).ok();
    }
}

#[test]
fn a_panic_is_code_999_on_stdout() {
    let answer = ipam("ADD", &[], &GOOD.replace("\"type\"", "\"panic\":true,\"type\""));
    assert_eq!(answer.refused(&["told to", "recorder"]), 999);
}

#[test]
fn an_add_whose_result_the_version_cannot_say_is_undone() {
    let two = r#"{"cniVersion":"0.2.0","name":"net","addresses":["10.0.0.2/24","10.0.0.3/24"]}"#;
    assert_eq!(ipam("ADD", &[], two).refused(&["more than one IPv4"]), 7);
    assert_eq!(take_calls(), ["validate", "add", "del"]);
}

#[test]
fn version_echoes_what_was_asked_and_lists_all() {
    for (config, echoed) in [(r#"{"cniVersion":"0.3.1"}"#, "0.3.1"), ("", "1.1.0"), ("{}", "1.1.0")] {
        let document = ipam("VERSION", &[], config).ok().document();
        assert_eq!(document["cniVersion"], echoed);
        assert_eq!(document["supportedVersions"], serde_json::json!(Version::ALL));
    }
    // Whatever else is in the environment.
    ipam("VERSION", &[("CNI_CONTAINERID", "../x"), ("CNI_IFNAME", "")], "{}").ok();
}

#[test]
fn a_person_gets_an_introduction() {
    let answer = run_with::<Ipam>(&BTreeMap::new(), "").ok();
    assert_eq!(answer.stdout, "");
    for part in ["recorder", "1.2.3", "Records its calls.", "0.1.0", "1.1.0", "--help"] {
        assert!(answer.stderr.contains(part), "{part}: {}", answer.stderr);
    }
}

#[test]
fn keys_are_known_without_regard_to_case_on_every_command() {
    let odd = GOOD.replace("addresses", "Addresses");
    let document = ipam("ADD", &[], &odd).ok().document();
    assert_eq!(document["ips"][0]["address"], "10.0.0.2/24");
    assert_eq!(ipam("CHECK", &[], &odd.replace("10.0.0.2/24", "x")).refused(&["key \"addresses[0]\"", "\"x\""]), 7);
}

mod documents;
mod slips;
