//! `cnitool` as people use it: in namespaces, with the reference plugins of Debian and with ours.

mod attachments;

use std::path::Path;

use conformance::lab::{Netns, Node, REFERENCE_DIR, Reply, bin_dir};
use serde_json::{Value, json};

/// A node with the network `net`: bridge and host-local, and behind those of the reference `tuning`.
struct Bench {
    node: Node,
    /// CNI_PATH.
    plugins: String,
}

impl Bench {
    /// With the reference plugins. Nothing, and a word on why, where the reference plugins are not installed.
    fn new() -> Option<Self> {
        if !Path::new(REFERENCE_DIR).join("bridge").exists() {
            eprintln!("skipped: no reference plugins in {REFERENCE_DIR} (Debian: containernetworking-plugins)");
            return None;
        }
        let tuning = json!({"type": "tuning", "capabilities": {"mac": true}});
        Some(Bench::with(REFERENCE_DIR, json!({"subnet": "10.22.0.0/24"}), Some(tuning)))
    }

    /// The plugins under test, with two addresses for Pods.
    fn ours() -> Self {
        Bench::with(bin_dir().to_str().unwrap(), json!({"subnet": "10.22.0.0/24", "rangeEnd": "10.22.0.3"}), None)
    }

    fn with(plugins: &str, mut ipam: Value, behind: Option<Value>) -> Self {
        let bench = Bench { node: Node::new("cnitool"), plugins: plugins.to_owned() };
        ipam["type"] = json!("host-local");
        ipam["dataDir"] = json!(bench.node.file("store"));
        ipam["routes"] = json!([{"dst": "0.0.0.0/0"}]);
        let bridge = json!({"type": "bridge", "bridge": "br0", "isGateway": true, "ipam": ipam});
        let chain: Vec<Value> = [bridge].into_iter().chain(behind).collect();
        std::fs::create_dir(bench.node.file("net.d")).unwrap();
        let versions = ["0.4.0", "1.0.0", "1.1.0"];
        let list = json!({"cniVersion": "1.0.0", "cniVersions": versions, "name": "net", "plugins": chain});
        bench.configure("10-net.conflist", &list);
        bench
    }

    fn configure(&self, file: &str, config: &Value) {
        std::fs::write(self.node.file("net.d").join(file), config.to_string()).unwrap();
    }

    fn run(&self, arguments: &[&str]) -> Reply {
        self.run_with(arguments, &[])
    }

    /// cnitool with upstream's variables; a shell stands for the command line.
    fn run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Reply {
        let directory = self.node.file("net.d");
        let mut all = vec![("NETCONFPATH", directory.to_str().unwrap()), ("CNI_PATH", &self.plugins)];
        all.extend(variables);
        self.node.execute(self.script(arguments), &all, b"")
    }

    /// Its exit status.
    fn exit_status(&self, arguments: &[&str]) -> Option<i32> {
        let mut command = std::process::Command::new(self.script(arguments));
        command.env("NETCONFPATH", self.node.file("net.d")).env("CNI_PATH", &self.plugins);
        self.node.netns.output(&mut command).status.code()
    }

    fn script(&self, arguments: &[&str]) -> std::path::PathBuf {
        let (tool, cache) = (self.node.file("run.sh"), self.node.file("cache"));
        let (tools, cache) = (self.node.cni_path(), cache.display());
        let script = format!("#!/bin/sh\nexec {tools}/cnitool --cache-dir {cache} {}\n", arguments.join(" "));
        std::fs::write(&tool, script).unwrap();
        make_executable(&tool);
        tool
    }

    /// Files of the cache, then addresses held.
    fn remembered(&self) -> (usize, Vec<String>) {
        let list = |path: &Path| -> Vec<String> {
            let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
            entries.map(|entry| entry.file_name().into_string().unwrap()).collect()
        };
        let mut addresses = list(&self.node.file("store/net"));
        addresses.retain(|name| name.starts_with("10."));
        addresses.sort();
        (list(&self.node.file("cache/results")).len(), addresses)
    }
}

fn make_executable(file: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o755)).unwrap();
}

fn path(netns: &Netns) -> String {
    netns.path().display().to_string()
}

#[test]
fn a_namespace_is_added_checked_and_deleted() {
    let Some(bench) = Bench::new() else { return };
    let pod = Netns::new("pod");
    let added = bench.run(&["add", "net", &path(&pod)]);
    assert!(added.stdout.starts_with("{\n    \"cniVersion\": \"1.0.0\",\n    \"interfaces\": [\n"), "{}", added.stdout);
    let result = added.ok();
    assert_eq!(result["ips"][0]["address"], "10.22.0.2/24");
    assert_eq!(result["interfaces"][2]["sandbox"], json!(path(&pod)));
    assert!(pod.pings("10.22.0.1") && bench.node.netns.pings("10.22.0.2"));
    assert_eq!(bench.remembered(), (1, vec!["10.22.0.2".to_owned()]));

    let checked = bench.run(&["check", "net", &path(&pod)]);
    assert!(checked.success && checked.stdout.is_empty(), "{}", checked.stderr);
    pod.sh("ip addr flush dev eth0");
    let checked = bench.run(&["check", "net", &path(&pod)]);
    assert!(!checked.success && checked.stderr.contains("plugin type=\"bridge\" failed (check)"), "{}", checked.stderr);

    for _ in 0..2 {
        let deleted = bench.run(&["del", "net", &path(&pod)]);
        assert!(deleted.success && deleted.stdout.is_empty(), "{}", deleted.stderr);
    }
    assert!(pod.try_sh("ip link show eth0").is_err());
    assert_eq!(bench.remembered(), (0, vec![]));
}

#[test]
fn variables_are_upstreams_and_del_and_check_remember_them() {
    let Some(bench) = Bench::new() else { return };
    let pod = Netns::new("pod");
    let variables = [
        ("CNI_IFNAME", "net1"),
        ("CNI_ARGS", "IgnoreUnknown=1;IP=10.22.0.77"),
        ("CAP_ARGS", r#"{"mac": "0a:58:0a:16:00:4d", "portMappings": []}"#),
    ];
    let result = bench.run_with(&["add", "net", &path(&pod)], &variables).ok();
    assert_eq!(result["ips"][0]["address"], "10.22.0.77/24");
    assert_eq!(pod.ip("link show net1")[0]["address"], "0a:58:0a:16:00:4d");
    assert_eq!(result["interfaces"][2]["mac"], "0a:58:0a:16:00:4d");
    bench.run(&["check", "net", &path(&pod), "--ifname", "net1"]).ok();

    // The plugin gets the capability argument from the cache.
    pod.sh("ip link set net1 address 0a:58:0a:16:00:01");
    let checked = bench.run(&["check", "-i", "net1", "net", &path(&pod)]);
    assert!(!checked.success, "the MAC is not what CAP_ARGS said at the add");
    bench.run_with(&["del", "net", &path(&pod)], &[("CNI_IFNAME", "net1")]).ok();
    assert_eq!(bench.remembered(), (0, vec![]));
}

#[test]
fn gc_leaves_the_living_alone_and_all_means_all() {
    let Some(bench) = Bench::new() else { return };
    let (living, gone) = (Netns::new("living"), Netns::new("gone"));
    for netns in [&living, &gone] {
        bench.run(&["add", "net", &path(netns)]).ok();
    }
    drop(gone);
    let collected = bench.run(&["gc", "net"]);
    assert!(collected.success, "{}", collected.stderr);
    assert_eq!(bench.remembered(), (1, vec!["10.22.0.2".to_owned()]));
    assert!(living.pings("10.22.0.1"));

    // Upstream's command line has a namespace too.
    bench.run(&["gc", "--all", "net", &path(&living)]).ok();
    assert_eq!(bench.remembered(), (0, vec![]));
    assert!(living.try_sh("ip link show eth0").is_err());
}

#[test]
fn del_goes_by_the_cache_when_the_configuration_is_gone() {
    let Some(bench) = Bench::new() else { return };
    let pod = Netns::new("pod");
    bench.run(&["add", "net", &path(&pod)]).ok();
    std::fs::remove_file(bench.node.file("net.d/10-net.conflist")).unwrap();
    let deleted = bench.run(&["del", "net", &path(&pod)]);
    assert!(deleted.success && deleted.stderr.contains("the configuration that add used"), "{}", deleted.stderr);
    assert_eq!(bench.remembered(), (0, vec![]));
    // Nothing remembered either: that is the error it was.
    let deleted = bench.run(&["del", "net", &path(&pod)]);
    assert!(!deleted.success && deleted.stderr.contains("network not found"), "{}", deleted.stderr);
}

#[test]
fn errors_go_to_stderr_with_exit_status_1_and_say_what_to_do() {
    let Some(bench) = Bench::new() else { return };
    let pod = Netns::new("pod");
    bench.configure(
        "20-other.conflist",
        &json!({"cniVersion": "1.0.0", "name": "other", "plugins": [{"type": "gone"}]}),
    );
    std::fs::write(bench.node.file("net.d/30-broken.conf"), "{\n  \"name\": }").unwrap();
    let netns = path(&pod);
    for (arguments, variables, parts) in [
        (&["add", "nope", &netns][..], &[][..], &["\"nope\"", "net, other", "30-broken.conf", "line 2 column 11"][..]),
        (&["add", "other", &netns], &[], &["type=\"gone\" failed (add)", "CNI_PATH", REFERENCE_DIR]),
        (&["add", "net", pod.name()], &[], &["does not exist", &format!("did you mean {netns}?")]),
        (&["add", "net", "/run/netns/gone"], &[], &["/run/netns/gone", "ip netns add"]),
        (&["check", "net", &netns], &[], &["no ADD of cnitool-"]),
        (&["add", "net", &netns], &[("CAP_ARGS", "[1]")], &["CAP_ARGS"]),
        (&["add", "net", &netns], &[("CNI_ARGS", "x")], &["CNI_ARGS", "\"x\""]),
        (&["add", "net", &netns], &[("CNI_IFNAME", "far-too-long-a-name")], &["far-too-long-a-name"]),
        (&["add", "net"], &[], &["NETNS"]),
        (&["frobnicate"], &[], &["frobnicate", "Usage"]),
        (&[], &[], &["subcommand", "Usage"]),
    ] {
        let reply = bench.run_with(arguments, variables);
        assert!(!reply.success && reply.stdout.is_empty(), "{arguments:?}: {}", reply.stdout);
        for part in parts {
            assert!(reply.stderr.contains(part), "{part:?} is not in {}", reply.stderr);
        }
    }
    assert_eq!(bench.remembered(), (0, vec![]));
}

#[test]
fn of_two_files_with_one_network_the_first_counts_and_the_other_is_named() {
    let bench = Bench::ours();
    bench.configure("20-net.conflist", &json!({"cniVersion": "1.0.0", "name": "net", "plugins": [{"type": "none"}]}));
    let reply = bench.run(&["status", "net"]);
    assert!(reply.success && reply.stderr.contains("20-net.conflist, which does not count"), "{reply:?}");
}

#[test]
fn status_and_version_answer() {
    let Some(bench) = Bench::new() else { return };
    // Debian's plugins are older than STATUS: upstream succeeds then, which a script takes for a good answer.
    for arguments in [&["status", "net"][..], &["status", "net", "/run/netns/any"]] {
        let reply = bench.run(arguments);
        let why = "the status of network \"net\" is unknown: the newest version that all its plugins speak is 1.0.0";
        assert!(!reply.success && reply.stdout.is_empty() && reply.stderr.contains(why), "{}", reply.stderr);
        assert_eq!(bench.exit_status(arguments), Some(4));
    }
    bench.configure(
        "20-old.conflist",
        &json!({"cniVersion": "0.4.0", "name": "old", "plugins": [{"type": "loopback"}]}),
    );
    let old = bench.run(&["status", "old"]);
    assert!(old.stderr.contains("is unknown: its cniVersion is 0.4.0, and STATUS came with 1.1.0"), "{}", old.stderr);
    assert_eq!(bench.exit_status(&["status", "old"]), Some(4));
    // What fails for certain has the status of an error.
    assert_eq!(bench.exit_status(&["status", "none"]), Some(1));
    assert!(bench.run(&["--help"]).stdout.contains("4  status: unknown"));
    let version = bench.run(&["version"]);
    assert!(version.success && version.stdout.starts_with("cnitool "), "{}", version.stdout);
    assert!(version.stdout.contains("0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"), "{}", version.stdout);
}

#[test]
fn plugins_that_speak_1_1_0_are_asked_for_gc_and_status() {
    let bench = Bench::ours();
    let (living, lost) = (Netns::new("living"), Netns::new("lost"));
    assert_eq!(bench.run(&["add", "net", &path(&living)]).ok()["cniVersion"], "1.1.0");
    assert!(bench.run(&["status", "net"]).success);
    let result = bench.run(&["add", "net", &path(&lost)]).ok();
    assert_eq!(result["ips"][0]["address"], "10.22.0.3/24");

    // Every address is taken.
    let status = bench.run(&["status", "net"]);
    assert!(!status.success && status.stderr.contains("(code 50)"), "{}", status.stderr);

    // Nobody remembers the second attachment: no DEL will come, the plugins' own GC has to find it.
    drop(lost);
    for entry in std::fs::read_dir(bench.node.file("cache/results")).unwrap().flatten() {
        if !std::fs::read_to_string(entry.path()).unwrap().contains("10.22.0.2/24") {
            std::fs::remove_file(entry.path()).unwrap();
        }
    }
    let collected = bench.run(&["gc", "net"]);
    assert!(collected.success && collected.stderr.is_empty(), "{}", collected.stderr);
    assert_eq!(bench.remembered(), (1, vec!["10.22.0.2".to_owned()]));
    assert!(living.pings("10.22.0.1"));
    assert!(bench.run(&["status", "net"]).success);
    bench.run(&["check", "net", &path(&living)]).ok();
}

#[test]
fn a_configuration_with_a_slip_in_it_is_told_by_file_line_and_key() {
    let bench = Bench::ours();
    let file = bench.node.file("net.d/10-net.conflist");
    let good = std::fs::read_to_string(&file).unwrap();
    for (text, part) in [
        (
            good.replacen('{', "{ // Pods\n", 1),
            "10-net.conflist: JSON has no comments: remove the one at line 1 column 3",
        ),
        (good.replace("]}", ",]}"), "10-net.conflist: a comma before ] at line 1 column"),
        (format!("\u{feff}{good}"), "10-net.conflist: the text begins with a byte order mark of UTF-8 (EF BB BF)"),
        (
            good.replace(r#""cniVersion":"1.0.0","cniVersions":["0.4.0","1.0.0","1.1.0"]"#, r#""cniVersion":"1.0""#),
            "write \"1.0.0\"",
        ),
    ] {
        assert_ne!(text, good);
        std::fs::write(&file, text).unwrap();
        let reply = bench.run(&["status", "net"]);
        assert!(!reply.success && reply.stderr.contains(part), "{part}: {}", reply.stderr);
        assert!(!reply.stderr.contains("no networks"), "{}", reply.stderr);
    }

    let twice = good.replace(r#""bridge":"br0""#, r#""bridge":"no/name","bridge":"br0""#);
    std::fs::write(&file, twice.replace(r#""subnet":"10.22.0.0/24""#, r#""subnet":"x","subnet":"10.22.0.0/24""#))
        .unwrap();
    let pod = Netns::new("pod");
    let added = bench.run(&["add", "net", &path(&pod)]);
    for key in ["plugins[0].bridge", "plugins[0].ipam.subnet"] {
        let told = format!("10-net.conflist: key {key:?} is given more than once: the last one counts");
        assert!(added.success && added.stderr.contains(&told), "{key}: {}", added.stderr);
    }
    assert_eq!(added.stderr.lines().count(), 2, "each once: {}", added.stderr);
    bench.run(&["check", "net", &path(&pod)]).ok();

    bench.configure("20-old.conflist", &json!({"name": "old", "plugins": [{"type": "loopback"}]}));
    let old = bench.run(&["status", "old"]);
    assert!(old.stderr.contains("20-old.conflist: key \"cniVersion\" is missing, which means 0.1.0"), "{}", old.stderr);
}

#[test]
fn a_check_that_the_list_switches_off_says_that_nothing_was_checked() {
    let bench = Bench::ours();
    bench.configure(
        "20-off.conflist",
        &json!({"cniVersion": "1.0.0", "name": "off", "disableCheck": true, "plugins": [{"type": "loopback"}]}),
    );
    let reply = bench.run(&["check", "off", "/run/netns/any"]);
    assert!(reply.success && reply.stderr.contains("has disableCheck: nothing was checked"), "{reply:?}");
}
