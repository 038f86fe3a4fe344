//! strace in front of a plugin or its delegate, for one execution of it.
//!
//! Scripts stand first in CNI_PATH, one for each executable. They are written once, for a file that was just written can't be
//! executed while a process forked in between still holds it open; what they put in front is in a file that comes and goes.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::lab::Node;
use crate::suite::config::Network;

/// What strace wrote.
#[derive(Debug, Default)]
pub struct Traced {
    /// Line by line.
    pub text: String,
}

impl Traced {
    /// The last lines.
    pub fn end(&self) -> String {
        let lines: Vec<&str> = self.text.lines().collect();
        lines[lines.len().saturating_sub(12)..].join("\n")
    }
}

/// Which of two executables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Session {
    /// As it comes.
    Own,
    /// A session of its own: the kernel wakes and hangs up a stopped process whose process group is orphaned.
    New,
}

/// Writes the scripts, and puts them first in the node's CNI_PATH.
pub fn write_wrappers(node: &mut Node, network: &Network) {
    let wrappers = node.file("wrappers");
    fs::create_dir(&wrappers).expect("directory for wrappers");
    let plugins =
        (0..network.plugins.len()).flat_map(|index| [Some(network.plugin_type(index)), network.delegate(index)]);
    for name in plugins.flatten() {
        let real = node.path.iter().map(|directory| directory.join(name)).find(|path| path.exists());
        let real = real.unwrap_or_else(|| panic!("no {name:?} in {:?}", node.path));
        let (before, real) = (before(node, name).display().to_string(), real.display().to_string());
        let script = format!("#!/bin/sh\nset -- '{real}' \"$@\"\n[ ! -e '{before}' ] || . '{before}'\nexec \"$@\"\n");
        let path = wrappers.join(name);
        fs::write(&path, script).expect("write a wrapper");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("chmod a wrapper");
    }
    node.path.insert(0, wrappers);
}

/// The next execution of `name` has strace in front, until [`unwrap`]: with its threads, without what it executes. One
/// execution only, for a plugin may call its delegate again to undo what it did.
pub fn wrap(node: &Node, name: &str, session: Session, arguments: &[&str]) {
    let session = match session {
        Session::Own => "",
        Session::New => "setsid ",
    };
    let quoted: Vec<String> = arguments.iter().map(|argument| format!("'{argument}'")).collect();
    let (trace, quoted, once) = (trace_file(node), quoted.join(" "), once(node));
    let _ = fs::remove_file(&trace);
    let _ = fs::remove_file(&once);
    let before_all = format!(
        "if (set -C; : >'{}') 2>/dev/null; then set -- {session}strace -f -y -b execve -o '{}' {quoted} \"$@\"; fi\n",
        once.display(),
        trace.display()
    );
    fs::write(before(node, name), before_all).expect("write what comes before");
}

/// Takes strace away again; what it wrote.
pub fn unwrap(node: &Node, name: &str) -> Traced {
    let _ = fs::remove_file(before(node, name));
    read(node)
}

/// What strace has written.
pub fn read(node: &Node) -> Traced {
    Traced { text: String::from_utf8_lossy(&fs::read(trace_file(node)).unwrap_or_default()).into_owned() }
}

fn before(node: &Node, name: &str) -> PathBuf {
    node.file(&format!("before-{name}"))
}

fn once(node: &Node) -> PathBuf {
    node.file("wrapped")
}

fn trace_file(node: &Node) -> PathBuf {
    node.file("trace")
}
