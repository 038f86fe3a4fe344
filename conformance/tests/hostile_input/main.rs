//! Input that is too much, too deep, or no name: real binaries, in bounded memory. What decodes is fuzzed besides
//! (conformance/fuzz).

mod files;
mod limits;
mod names;
mod slips;

use std::io::Write;
use std::process::{Command, Stdio};

use conformance::lab::{Node, Pod, Reply, bin_dir};
use serde_json::{Value, json};

/// Every plugin of ours.
const PLUGINS: [&str; 6] = ["host-local", "bridge", "routed-veth", "ptp", "vxlan-overlay", "loopback"];

/// The address space that an execution gets, in MiB: who wants more ends by SIGABRT, without an answer. CHECK, DEL and GC may
/// read four times as much as the others.
const ROOM: u64 = 512;
const ROOM_WITH_RESULT: u64 = 1536;

/// Runs `plugin` for the attachment `a`/`eth0`, in bounded memory, with what `feed` writes on its stdin.
fn bounded(plugin: &str, command: &str, feed: impl FnOnce(&mut dyn Write) + Send) -> Reply {
    let variables = [
        ("CNI_COMMAND", command),
        ("CNI_CONTAINERID", "a"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/never/opened"),
        ("CNI_PATH", &bin_dir().display().to_string()),
    ];
    let room = if matches!(command, "CHECK" | "DEL" | "GC") { ROOM_WITH_RESULT } else { ROOM };
    bounded_with(plugin, &variables, room, feed)
}

fn bounded_with(
    plugin: &str,
    variables: &[(&str, &str)],
    room: u64,
    feed: impl FnOnce(&mut dyn Write) + Send,
) -> Reply {
    let mut child = Command::new("prlimit")
        .arg(format!("--as={}", room << 20))
        .arg(bin_dir().join(plugin))
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("prlimit");
    let mut stdin = child.stdin.take().expect("piped");
    let output = std::thread::scope(|scope| {
        scope.spawn(move || feed(&mut stdin));
        child.wait_with_output().expect("wait for a plugin")
    });
    Reply::from(output)
}

/// The same, with a configuration.
fn bounded_call(plugin: &str, command: &str, config: &str) -> Reply {
    bounded(plugin, command, |stdin| drop(stdin.write_all(config.as_bytes())))
}

/// A configuration without its last brace, so that more keys may follow.
fn open_config(node: &Node) -> String {
    let config = json!({
        "cniVersion": "1.1.0", "name": "net", "type": "any",
        "ipam": {"type": "host-local", "subnet": "10.5.0.0/24", "dataDir": node.file("data")},
    });
    config.to_string().strip_suffix('}').expect("an object").to_owned()
}
