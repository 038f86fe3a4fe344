//! Files: what is none is not waited for, and what is made has its mode whatever the umask, planted links or no.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use super::*;

/// cnitool's add of a network of one plugin that does nothing, with a umask.
struct Tool {
    node: Node,
    pod: Pod,
}

impl Tool {
    fn new() -> Self {
        let node = Node::new("files");
        let plugin = node.file("fake");
        std::fs::write(
            &plugin,
            "#!/bin/sh\necho '{\"cniVersion\":\"1.0.0\",\"supportedVersions\":[\"1.0.0\"],\"ips\":[]}'\n",
        )
        .unwrap();
        std::fs::set_permissions(&plugin, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::create_dir(node.file("net.d")).unwrap();
        let list = json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "fake"}]});
        std::fs::write(node.file("net.d/10.conflist"), list.to_string()).unwrap();
        Tool { node, pod: Pod::new("a") }
    }

    fn cache(&self) -> std::path::PathBuf {
        self.node.file("var/cni")
    }

    fn call(&self, umask: &str, command: &str) -> Result<String, String> {
        let script = format!(
            "umask {umask}; NETCONFPATH={0}/net.d CNI_PATH={0} exec {1} {command} n {2} --cache-dir {3}",
            self.node.files.path().display(),
            bin_dir().join("cnitool").display(),
            self.pod.netns().path().display(),
            self.cache().display()
        );
        self.node.netns.try_sh(&script)
    }

    /// The one result that is remembered.
    fn remembered(&self) -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(self.cache().join("results")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }
}

fn mode(path: &Path) -> u32 {
    std::fs::symlink_metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode()
        & 0o7777
}

#[test]
fn the_cache_is_private_whatever_the_umask() {
    for umask in ["000", "022", "777"] {
        let tool = Tool::new();
        tool.call(umask, "add").unwrap();
        for directory in [tool.node.file("var"), tool.cache(), tool.cache().join("results")] {
            assert_eq!(mode(&directory), 0o700, "umask {umask}: {}", directory.display());
        }
        let remembered = tool.remembered();
        assert!(remembered.len() == 1 && mode(&remembered[0]) == 0o600, "umask {umask}: {remembered:?}");
        tool.call(umask, "check").unwrap();
        tool.call(umask, "del").unwrap();
        assert!(tool.remembered().is_empty());
        let left = std::fs::read_dir(tool.cache()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
        assert_eq!(left, ["results"], "umask {umask}");
    }
}

#[test]
fn links_planted_in_the_cache_lead_nowhere() {
    let tool = Tool::new();
    tool.call("022", "add").unwrap();
    let remembered = tool.remembered().remove(0);
    let outside = tool.node.file("outside");
    std::fs::rename(&remembered, &outside).unwrap();
    let before = std::fs::read(&outside).unwrap();
    symlink(&outside, &remembered).unwrap();
    // CHECK needs the result; DEL does without, and removes the link, not what it leads to.
    let said = tool.call("022", "check").unwrap_err();
    assert!(said.contains("symbolic link"), "{said}");
    let said = tool.call("022", "gc").unwrap_err();
    assert!(said.contains("symbolic link"), "{said}");
    tool.call("022", "del").unwrap();
    assert!(!remembered.is_symlink());
    symlink(&outside, &remembered).unwrap();
    tool.call("022", "add").unwrap();
    assert!(remembered.is_file() && !remembered.is_symlink());
    assert_eq!(std::fs::read(&outside).unwrap(), before);

    let results = tool.cache().join("results");
    std::fs::rename(&results, tool.node.file("elsewhere")).unwrap();
    symlink(tool.node.file("elsewhere"), &results).unwrap();
    for command in ["add", "check", "del", "gc"] {
        let said = tool.call("022", command).unwrap_err();
        assert!(said.contains("results") && said.contains("symbolic link"), "{command}: {said}");
    }
    assert_eq!(std::fs::read_dir(tool.node.file("elsewhere")).unwrap().count(), 1);
}

#[test]
fn a_cache_that_an_administrator_keeps_elsewhere_is_found_through_the_link() {
    let tool = Tool::new();
    std::fs::create_dir_all(tool.node.file("disk")).unwrap();
    std::fs::create_dir_all(tool.node.file("var")).unwrap();
    symlink(tool.node.file("disk"), tool.cache()).unwrap();
    for command in ["add", "check", "gc", "del"] {
        tool.call("022", command).unwrap();
    }
    assert!(tool.node.file("disk/results").is_dir());
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let node = Node::new("fifo");
    let fifo = node.file("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for path in [fifo.as_path(), Path::new("/dev/zero"), node.files.path()] {
        let ipam =
            json!({"type": "host-local", "subnet": "10.5.0.0/24", "dataDir": node.file("data"), "resolvConf": path});
        let config = json!({"cniVersion": "1.1.0", "name": "n", "ipam": ipam});
        let reply = bounded_call("host-local", "ADD", &config.to_string());
        assert!(reply.code() == 5 && reply.details().contains("not a regular file"), "{}", reply.stdout);
        let config = json!({"cniVersion": "1.1.0", "name": "n", "nodes": path, "ipam": {"type": "host-local"}});
        let reply = bounded_call("host-local", "ADD", &config.to_string());
        assert!(!reply.success && reply.details().contains("not a regular file"), "{}", reply.stdout);
    }
    std::fs::create_dir(node.file("net.d")).unwrap();
    std::fs::rename(&fifo, node.file("net.d/10.conflist")).unwrap();
    let said = node.netns.try_sh(&format!(
        "NETCONFPATH={} {} status n",
        node.file("net.d").display(),
        bin_dir().join("cnitool").display()
    ));
    assert!(said.unwrap_err().contains("not a regular file"));
}
