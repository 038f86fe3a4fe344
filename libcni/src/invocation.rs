//! The `CNI_*` environment of one execution, validated (spec section 2, "Parameters").
//!
//! Every bad variable is collected before anything is said, so that one error names them all (code 4).
//! An empty variable counts as absent: runtimes pass `CNI_NETNS=""` and the like on GC and STATUS.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, code};

/// The operation asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// Wire a container, or change its wiring.
    Add,
    /// Undo what ADD did.
    Del,
    /// Is everything as ADD left it?
    Check,
    /// Remove what belongs to no valid attachment.
    Gc,
    /// Could an ADD be served?
    Status,
    /// Which versions does the plugin speak?
    Version,
}

impl Command {
    /// As it stands in `CNI_COMMAND`.
    pub fn as_str(self) -> &'static str {
        match self {
            Command::Add => "ADD",
            Command::Del => "DEL",
            Command::Check => "CHECK",
            Command::Gc => "GC",
            Command::Status => "STATUS",
            Command::Version => "VERSION",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Command::Add, Command::Del, Command::Check, Command::Gc, Command::Status, Command::Version]
            .into_iter()
            .find(|command| command.as_str() == text)
    }

    /// ADD, DEL and CHECK are about one attachment.
    pub fn is_about_an_attachment(self) -> bool {
        matches!(self, Command::Add | Command::Del | Command::Check)
    }
}

/// What identifies an attachment within a network: the pair that the specification calls
/// `(CNI_CONTAINERID, CNI_IFNAME)`, and an element of `cni.dev/valid-attachments`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AttachmentId {
    /// The runtime's name for the container.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface inside the container.
    pub ifname: String,
}

impl std::fmt::Display for AttachmentId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.container_id, self.ifname)
    }
}

/// One container's attachment to one network, as ADD, CHECK and DEL get it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Container ID and interface name.
    pub id: AttachmentId,
    /// The container's network namespace. Always present on ADD and CHECK; may be missing or gone on DEL.
    pub netns: Option<PathBuf>,
}

impl Attachment {
    /// The namespace's path as text, as it stands in a result's `sandbox`; empty where there is none.
    pub fn sandbox(&self) -> String {
        self.netns.as_deref().map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
    }

    /// The namespace, for ADD and CHECK, where it is always there.
    pub fn netns(&self) -> Result<&Path, Error> {
        self.netns.as_deref().ok_or_else(|| invalid(&["CNI_NETNS is not set".to_owned()]))
    }
}

/// The environment of one execution.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// `CNI_COMMAND`.
    pub command: Command,
    /// `CNI_CONTAINERID`, `CNI_IFNAME`, `CNI_NETNS`; only for ADD, CHECK and DEL.
    pub attachment: Option<Attachment>,
    /// `CNI_ARGS`, not looked into: see [`Invocation::args`].
    pub raw_args: Option<OsString>,
    /// `CNI_PATH`, split at `:`; relative entries made absolute.
    pub path: Vec<PathBuf>,
    /// `CNI_NETNS_OVERRIDE` is `1` or `true`: the container may live in the plugin's own namespace.
    pub netns_override: bool,
}

/// Where variables come from: the process's environment, or a test's.
pub type Lookup<'a> = &'a dyn Fn(&str) -> Option<OsString>;

impl Invocation {
    /// That of an operator's command: about a network, without a runtime around it.
    pub(crate) fn by_hand() -> Self {
        Invocation {
            command: Command::Status,
            attachment: None,
            raw_args: None,
            path: Vec::new(),
            netns_override: false,
        }
    }

    /// Reads and validates the variables. `Ok(None)`: there is no `CNI_COMMAND`, so a person is at the keyboard.
    pub fn read(lookup: Lookup) -> Result<Option<Self>, Error> {
        let mut variables = Variables { lookup, bad: Vec::new() };
        let Some(text) = variables.optional("CNI_COMMAND") else {
            return if variables.bad.is_empty() { Ok(None) } else { Err(invalid(&variables.bad)) };
        };
        let command = Command::parse(&text);
        if command.is_none() {
            variables.bad.push(format!("CNI_COMMAND {text:?} is not one of ADD, DEL, CHECK, GC, STATUS, VERSION"));
        }
        let attachment = match command {
            Some(command) if command.is_about_an_attachment() => Some(variables.attachment(command)),
            _ => None,
        };
        let raw_args = lookup("CNI_ARGS").filter(|args| !args.is_empty());
        let path = lookup("CNI_PATH").unwrap_or_default();
        let netns_override = variables.optional("CNI_NETNS_OVERRIDE");
        match command {
            Some(command) if variables.bad.is_empty() => Ok(Some(Invocation {
                command,
                attachment,
                raw_args,
                path: split_path(&path),
                netns_override: matches!(netns_override.as_deref(), Some("1" | "true")),
            })),
            _ => Err(invalid(&variables.bad)),
        }
    }

    /// `CNI_ARGS` as pairs: `FOO=BAR;ABC=123`. Called only by who needs it, so that a stray argument of
    /// somebody else fails nobody.
    pub fn args(&self) -> Result<BTreeMap<String, String>, Error> {
        let mut pairs = BTreeMap::new();
        let raw = self.raw_args.as_deref().unwrap_or_default();
        let text = raw.to_str().ok_or_else(|| invalid(&[format!("CNI_ARGS {raw:?} is not UTF-8")]))?;
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let Some((key, value)) = pair.split_once('=').filter(|(key, _)| !key.is_empty()) else {
                return Err(invalid(&[format!("CNI_ARGS: {pair:?} is not KEY=VALUE")]));
            };
            pairs.insert(key.to_owned(), value.to_owned());
        }
        Ok(pairs)
    }

    /// The value of one `CNI_ARGS` pair, whatever the others look like: runtimes pass pairs that are not ours to judge.
    pub fn loose_arg(&self, key: &str) -> Option<&str> {
        let pairs = self.raw_args.as_deref()?.to_str()?.split(';');
        pairs.filter_map(|pair| pair.split_once('=')).find(|(name, _)| *name == key).map(|(_, value)| value)
    }
}

/// Reads variables and remembers what is wrong with them.
struct Variables<'a> {
    lookup: Lookup<'a>,
    bad: Vec<String>,
}

impl Variables<'_> {
    fn optional(&mut self, name: &str) -> Option<String> {
        match (self.lookup)(name)?.into_string() {
            Ok(text) if text.is_empty() => None,
            Ok(text) => Some(text),
            Err(bytes) => {
                self.bad.push(format!("{name} {bytes:?} is not UTF-8"));
                None
            }
        }
    }

    fn required(&mut self, name: &str) -> String {
        let bad_before = self.bad.len();
        let value = self.optional(name);
        if value.is_none() && self.bad.len() == bad_before {
            self.bad.push(format!("{name} is not set"));
        }
        value.unwrap_or_default()
    }

    fn attachment(&mut self, command: Command) -> Attachment {
        let container_id = self.required("CNI_CONTAINERID");
        let ifname = self.required("CNI_IFNAME");
        let checks = [
            ("CNI_CONTAINERID", &container_id, identifier_fault(&container_id)),
            ("CNI_IFNAME", &ifname, ifname_fault(&ifname)),
        ];
        for (name, value, fault) in checks {
            if let (false, Some(fault)) = (value.is_empty(), fault) {
                self.bad.push(format!("{name} {value:?} {fault}"));
            }
        }
        let netns = match command {
            Command::Del => self.optional("CNI_NETNS"),
            _ => Some(self.required("CNI_NETNS")),
        };
        Attachment { id: AttachmentId { container_id, ifname }, netns: netns.map(PathBuf::from) }
    }
}

fn invalid(bad: &[String]) -> Error {
    Error::new(code::INVALID_ENVIRONMENT, "invalid environment", bad.join("; "))
}

fn split_path(path: &OsStr) -> Vec<PathBuf> {
    std::env::split_paths(path).filter_map(|entry| std::path::absolute(entry).ok()).collect()
}

/// What is wrong with a container ID or a network name, if anything: an alphanumeric character, then
/// alphanumerics, `_`, `.` and `-` (spec sections 1 and 2). Both become file names, hence at most 200 bytes.
pub fn identifier_fault(text: &str) -> Option<&'static str> {
    let mut bytes = text.bytes();
    match bytes.next() {
        None => Some("is empty"),
        Some(first) if !first.is_ascii_alphanumeric() => Some("does not start with a letter or a digit"),
        _ if !bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) => {
            Some("has a character other than letters, digits, '_', '.' and '-'")
        }
        _ if text.len() > 200 => Some("is longer than 200 bytes"),
        _ => None,
    }
}

/// What is wrong with an interface name, if anything: the kernel's `dev_valid_name` (net/core/dev.c), 1–15 bytes,
/// no `/`, no `:`, no white space, not `.` or `..`. No `%` either, which asks the kernel for a number (`eth%d`), and neither `all`
/// nor `default`, which are directories of settings (net/ipv4/devinet.c, `sysctl_dev_name_is_allowed`).
pub fn ifname_fault(text: &str) -> Option<&'static str> {
    match text {
        "" => Some("is empty"),
        "." | ".." => Some("is a directory's name"),
        "all" | "default" => Some("is reserved: in /proc/sys it stands for every interface"),
        _ if text.contains('%') => Some("contains '%', which the kernel would replace with a number"),
        _ if text.len() > 15 => Some("is longer than 15 bytes"),
        // 0x0b is white space to the kernel (isspace) but not to Rust's is_ascii_whitespace.
        _ if text.bytes().any(|b| b.is_ascii_whitespace() || matches!(b, b'/' | b':' | 0x0b | 0)) => {
            Some("has a '/', a ':' or white space")
        }
        _ if text.contains('\u{a0}') => Some("has a '/', a ':' or white space"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<Invocation>, Error> {
        let map: BTreeMap<String, OsString> = pairs.iter().map(|(k, v)| (k.to_string(), OsString::from(v))).collect();
        Invocation::read(&|name| map.get(name).cloned())
    }

    const GOOD: [(&str, &str); 5] = [
        ("CNI_COMMAND", "ADD"),
        ("CNI_CONTAINERID", "a-1.b_2"),
        ("CNI_IFNAME", "eth0"),
        ("CNI_NETNS", "/run/netns/x"),
        ("CNI_PATH", "/a::/b"),
    ];

    fn with(name: &str, value: &str) -> Result<Option<Invocation>, Error> {
        let mut pairs: Vec<_> = GOOD.iter().filter(|(key, _)| *key != name).copied().collect();
        pairs.push((name, value));
        read(&pairs)
    }

    #[test]
    fn no_command_is_a_person() {
        assert!(read(&[]).unwrap().is_none());
        assert!(with("CNI_COMMAND", "").unwrap().is_none());
    }

    #[test]
    fn a_good_environment_is_read_whole() {
        let invocation = read(&GOOD).unwrap().unwrap();
        assert_eq!(invocation.command, Command::Add);
        assert_eq!(invocation.path, [PathBuf::from("/a"), PathBuf::from("/b")]);
        assert_eq!(invocation.attachment.unwrap().id.to_string(), "a-1.b_2/eth0");
    }

    #[test]
    fn all_bad_variables_are_named_in_one_error() {
        let error = read(&[("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "../x"), ("CNI_IFNAME", "a/b")]).unwrap_err();
        assert_eq!(error.code, code::INVALID_ENVIRONMENT);
        for name in ["CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"] {
            assert!(error.details.contains(name), "{error}");
        }
    }

    #[test]
    fn names_that_are_no_names_are_refused() {
        for bad in ["../x", "x/y", ".x", "-x", "x y", "x\n", "ä"] {
            assert_eq!(with("CNI_CONTAINERID", bad).unwrap_err().code, code::INVALID_ENVIRONMENT, "{bad:?}");
        }
        for bad in [".", "..", "a/b", "a:b", "a b", "a\tb", "abcdefghijklmnop", "eth%d", "%", "all", "default"] {
            assert_eq!(with("CNI_IFNAME", bad).unwrap_err().code, code::INVALID_ENVIRONMENT, "{bad:?}");
        }
        assert!(with("CNI_IFNAME", "abcdefghijklmno").is_ok());
        assert_eq!(with("CNI_COMMAND", "add").unwrap_err().code, code::INVALID_ENVIRONMENT);
    }

    #[test]
    fn del_needs_no_namespace() {
        let pairs = [("CNI_COMMAND", "DEL"), ("CNI_CONTAINERID", "a"), ("CNI_IFNAME", "eth0"), ("CNI_NETNS", "")];
        assert_eq!(read(&pairs).unwrap().unwrap().attachment.unwrap().netns, None);
    }

    #[test]
    fn args_are_pairs_and_nobody_looks_before_asking() {
        let stray = with("CNI_ARGS", "nonsense").unwrap().unwrap();
        assert_eq!(stray.args().unwrap_err().code, code::INVALID_ENVIRONMENT);
        let good = with("CNI_ARGS", "IP=10.0.0.2;IgnoreUnknown=1;K8S_POD_NAME=a=b;").unwrap().unwrap();
        assert_eq!(good.args().unwrap()["IP"], "10.0.0.2");
        assert_eq!(good.args().unwrap()["K8S_POD_NAME"], "a=b");
    }
}
