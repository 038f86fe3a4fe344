//! host-local as a runtime and an operator meet it: the binary, its store on disk, and the Go program of the same
//! name on the same store.

mod configuration;
mod hostile;
mod networks;
mod power;
mod reboot;
mod shared;
mod verbs;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use conformance::lab::{Node, REFERENCE_DIR, Reply, bin_dir};
use serde_json::{Value, json};

/// A node with a store of its own.
struct Bench {
    node: Node,
}

impl Bench {
    fn new() -> Self {
        Bench { node: Node::new("ipam") }
    }

    /// The network's directory.
    fn store(&self) -> PathBuf {
        self.node.file("data/net")
    }

    /// A configuration with these `ipam` keys.
    fn config(&self, ipam: Value) -> Value {
        self.config_in("1.1.0", ipam)
    }

    fn config_in(&self, version: &str, mut ipam: Value) -> Value {
        ipam["type"] = json!("host-local");
        ipam["dataDir"] = json!(self.node.file("data"));
        json!({"cniVersion": version, "name": "net", "type": "any", "ipam": ipam})
    }

    /// Ours, for the attachment `id`/`eth0`.
    fn call(&self, command: &str, id: &str, config: &Value) -> Reply {
        self.call_with("host-local", command, id, config, "")
    }

    /// The Go program.
    fn go(&self, command: &str, id: &str, config: &Value) -> Reply {
        self.call_with(&format!("{REFERENCE_DIR}/host-local"), command, id, config, "")
    }

    fn call_with(&self, plugin: &str, command: &str, id: &str, config: &Value, args: &str) -> Reply {
        let variables = [
            ("CNI_COMMAND", command),
            ("CNI_CONTAINERID", id),
            ("CNI_IFNAME", "eth0"),
            ("CNI_NETNS", "/never/opened"),
            ("CNI_PATH", &self.node.cni_path()),
            ("CNI_ARGS", args),
        ];
        self.node.execute(plugin, &variables, config.to_string().as_bytes())
    }

    /// ADD by ours that must succeed: the addresses, without prefix lengths.
    #[track_caller]
    fn add(&self, id: &str, config: &Value) -> Vec<String> {
        addresses(&self.call("ADD", id, config).ok())
    }

    /// GC with these attachments valid.
    fn gc(&self, valid: &[&str], config: &Value) -> Reply {
        let valid: Vec<Value> = valid.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
        let mut config = config.clone();
        config["cni.dev/valid-attachments"] = json!(valid);
        self.node.call_network("host-local", "GC", &config)
    }

    fn status(&self, config: &Value) -> Reply {
        self.node.call_network("host-local", "STATUS", config)
    }

    /// Every address file with its content.
    fn files(&self) -> BTreeMap<String, String> {
        address_files(&self.store())
    }
}

/// Every regular file in `directory` that is named by an address, with its content.
fn address_files(directory: &Path) -> BTreeMap<String, String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap());
    // A FIFO would be waited for.
    let entries = entries.filter(|entry| entry.file_type().unwrap().is_file());
    let named = entries.map(|entry| (entry.file_name().into_string().unwrap(), entry.path()));
    let named = named.filter(|(name, _)| name.parse::<std::net::IpAddr>().is_ok());
    named.map(|(name, path)| (name, String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into())).collect()
}

fn addresses(result: &Value) -> Vec<String> {
    let ips = result["ips"].as_array().expect("a result with ips");
    ips.iter().map(|ip| ip["address"].as_str().unwrap().split('/').next().unwrap().to_owned()).collect()
}

/// A file's or directory's permission bits.
fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).mode() & 0o7777
}

/// Runs `script` with `sh`, in whose words `$PLUGIN` is our binary and stdin is `config`.
fn shell(script: &str, command: &str, id: &str, config: &Value) -> std::process::Output {
    use std::io::Write;
    let mut child = Command::new("sh")
        .args(["-c", script])
        .env("PLUGIN", bin_dir().join("host-local"))
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", id)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_NETNS", "/never/opened")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("sh");
    // A script that reads nothing closes the pipe.
    let _ = child.stdin.take().expect("piped").write_all(config.to_string().as_bytes());
    child.wait_with_output().expect("wait for sh")
}
