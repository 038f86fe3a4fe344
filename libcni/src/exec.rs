//! Executing a plugin: JSON to its stdin, one document from its stdout.
//!
//! The one place where this crate starts a process; a runtime ([`crate::runtime`]) and a plugin that delegates
//! ([`crate::delegate`]) both stand on it. stderr is handed through as it comes. A plugin that fails is expected to
//! say why in an error document; one that does not (killed by a signal, printing something else) is code 100.
//!
//! Neither side can block the other: what the pipe is sure to take is written at once, and it is made as large as the
//! input where its user may; else a thread writes while stdout is read. A plugin that closes its stdin early is fine:
//! what it answers says more than `EPIPE`.

use std::ffi::OsString;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use serde_json::Value;

use crate::error::{Error, code};
use crate::invocation::Command;
use crate::result::CniResult;
use crate::version::Version;

/// The largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 16 << 20;

/// What an empty pipe takes without blocking, whatever its user's limits are (pipe(7), `PIPE_BUF`).
const PIPE_BUF: usize = 4096;

/// A plugin that has been started and will be waited for.
#[derive(Debug)]
pub(crate) struct Execution {
    executable: PathBuf,
    command: Command,
    child: Child,
}

/// Starts `executable` with this process's environment, `variables` set in it, and `input` on its stdin.
pub(crate) fn start(
    executable: &Path,
    command: Command,
    variables: &[(&str, OsString)],
    input: &[u8],
) -> Result<Execution, Error> {
    #[expect(clippy::disallowed_methods, reason = "this is where delegates are executed")]
    let mut process = std::process::Command::new(executable);
    process
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .env("CNI_COMMAND", command.as_str())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit());
    let mut child =
        spawn(&mut process).map_err(|error| Error::io(format!("executing {}", executable.display()), error))?;
    feed(child.stdin.take().expect("piped above"), input);
    Ok(Execution { executable: executable.to_owned(), command, child })
}

/// A plugin that is being replaced in place, by a program that does not rename, is busy for a moment.
fn spawn(process: &mut std::process::Command) -> std::io::Result<Child> {
    for _ in 0..20 {
        match process.spawn() {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(50));
            }
            outcome => return outcome,
        }
    }
    process.spawn()
}

/// Writes `input` and closes the pipe. A failed write means that the plugin has closed its end.
fn feed(mut stdin: ChildStdin, input: &[u8]) {
    if input.len() <= PIPE_BUF || holds(&stdin, input.len()) {
        let _ = stdin.write_all(input);
        return;
    }
    let input = input.to_vec();
    // Not joined: should a grandchild hold the pipe open unread, the plugin's end is still the end.
    std::thread::spawn(move || stdin.write_all(&input));
}

/// Makes the pipe large enough for `length` bytes, if its user may.
fn holds(pipe: &ChildStdin, length: usize) -> bool {
    let Ok(size) = i32::try_from(length) else { return false };
    fcntl(pipe, FcntlArg::F_SETPIPE_SZ(size)).is_ok_and(|size| usize::try_from(size).is_ok_and(|size| size >= length))
}

impl Execution {
    /// Waits for the plugin's end; what it printed, if it succeeded.
    pub(crate) fn finish(mut self) -> Result<Vec<u8>, Error> {
        let path = self.executable.display();
        let mut answer = Vec::new();
        let stdout = self.child.stdout.take().expect("piped when started");
        let read = stdout.take(MAX_ANSWER + 1).read_to_end(&mut answer);
        let too_large = answer.len() as u64 > MAX_ANSWER;
        if too_large || read.is_err() {
            let _ = self.child.kill();
        }
        let status = self.child.wait().map_err(|error| Error::io(format!("waiting for {path}"), error))?;
        read.map_err(|error| Error::io(format!("reading from {path}"), error))?;
        if too_large {
            return Err(Error::decode(path, format!("answer larger than {} MiB", MAX_ANSWER >> 20)));
        }
        if status.success() {
            return Ok(answer);
        }
        Err(Error::from_json(&answer).unwrap_or_else(|| {
            Error::new(
                code::PLUGIN_FAILED,
                "plugin failed without an error document",
                format!("{path} {}: {status}, stdout: {}", self.command.as_str(), excerpt(&answer)),
            )
        }))
    }
}

/// The result of an ADD in `answer`: the document as it came, and what it says in `version` or the one it names.
pub(crate) fn read_result(answer: &[u8], version: Version) -> Result<(Value, CniResult), Error> {
    if answer.iter().all(u8::is_ascii_whitespace) {
        return Err(Error::decode("result", "stdout is empty, where an ADD that succeeds prints its result"));
    }
    let value = crate::value::from_slice(answer)
        .map_err(|error| Error::decode("result", format!("{error}; stdout: {}", excerpt(answer))))?;
    let result = CniResult::from_value(&value, version).map_err(|error| error.context("result"))?;
    Ok((value, result))
}

/// What a program printed, short enough for an error message.
fn excerpt(output: &[u8]) -> String {
    const LENGTH: usize = 200;
    let text = String::from_utf8_lossy(output);
    let text = text.trim();
    match text.char_indices().nth(LENGTH) {
        _ if text.is_empty() => "nothing".to_owned(),
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

/// The executable `name` in the first directory of `path` that has it.
///
/// A name with a slash would leave those directories: refused (code 7). Not found is code 4, naming `CNI_PATH`.
pub fn find(name: &str, path: &[PathBuf]) -> Result<PathBuf, Error> {
    if name.is_empty() || matches!(name, "." | "..") || name.contains(['/', '\\', '\0']) {
        return Err(Error::config("type", format!("{name:?}"), "not the name of a plugin binary"));
    }
    path.iter().map(|directory| directory.join(name)).find(|path| is_executable(path)).ok_or_else(|| {
        let there = path.iter().map(|directory| directory.join(name)).find(|path| path.exists());
        let why = match (path, there) {
            (_, Some(file)) => format!("{} in CNI_PATH is no executable file: chmod +x", file.display()),
            ([], None) => "CNI_PATH is not set; install it there, or correct the type in the configuration".to_owned(),
            (path, None) => format!(
                "not in CNI_PATH {}; install it there, or correct the type in the configuration",
                join_path(path).display()
            ),
        };
        let details = format!("plugin {name:?}: {why}");
        Error::new(code::INVALID_ENVIRONMENT, "plugin not found", details)
    })
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Directories as `CNI_PATH` holds them: separated by `:`.
pub(crate) fn join_path(path: &[PathBuf]) -> PathBuf {
    let mut joined = OsString::new();
    for (index, directory) in path.iter().enumerate() {
        if index > 0 {
            joined.push(":");
        }
        joined.push(directory);
    }
    joined.into()
}
