//! Calling another plugin from within a plugin: IPAM (spec section 4).
//!
//! The delegate is looked up in `CNI_PATH`, gets the same environment and the complete configuration, writes its
//! logs to our stderr, and its answer comes back as a value. After a failed ADD it gets a DEL, so that half a
//! reservation never stays.
//!
//! A delegate that outlives a killed parent must not reserve an address after the runtime's DEL has come and gone.
//! Its stdout is a pipe that only we read: podwire's `host-local` looks, under its lock, whether anybody still does
//! before it writes. Without `unsafe` that is as far as a parent can reach.

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::error::{Error, code};
use crate::invocation::Command;
use crate::plugin::Request;
use crate::result::CniResult;

/// The largest answer that is read, in bytes.
const MAX_ANSWER: u64 = 16 << 20;

/// A delegate found in `CNI_PATH`, ready to be executed with a request's environment and configuration.
#[derive(Debug)]
pub struct Delegate<'a> {
    request: &'a Request,
    name: &'a str,
    executable: PathBuf,
}

/// A delegate that has been started and will be waited for: what lies between runs beside it.
#[derive(Debug)]
pub struct Running<'a> {
    delegate: &'a Delegate<'a>,
    command: Command,
    child: Child,
}

impl<'a> Delegate<'a> {
    /// The delegate `name`, found in the request's `CNI_PATH` (code 4 if it is not there, 7 if it is no name).
    pub fn find(request: &'a Request, name: &'a str) -> Result<Self, Error> {
        let executable = find(name, &request.invocation.path)?;
        Ok(Delegate { request, name, executable })
    }

    /// The delegate that the configuration's `ipam.type` names, if it names one.
    pub fn ipam(request: &'a Request) -> Option<Result<Self, Error>> {
        Some(Delegate::find(request, request.config.ipam_type()?))
    }

    /// ADD, waited for; on an error the delegate gets a DEL.
    pub fn add(&'a self) -> Result<CniResult, Error> {
        self.start_add()?.finish_add()
    }

    /// Starts an ADD; [`Running::finish_add`] waits for it.
    pub fn start_add(&'a self) -> Result<Running<'a>, Error> {
        self.start(Command::Add)
    }

    /// Any other command, waited for: DEL, CHECK, GC, STATUS.
    pub fn call(&self, command: Command) -> Result<(), Error> {
        self.start(command)?.finish().map(drop)
    }

    fn start(&self, command: Command) -> Result<Running<'_>, Error> {
        let io = |error| Error::io(format!("executing {}", self.executable.display()), error);
        let mut child = std::process::Command::new(&self.executable)
            .env("CNI_COMMAND", command.as_str())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .map_err(io)?;
        // A delegate that does not read its configuration closes the pipe; what it answers says more than EPIPE.
        // One that neither reads nor ends would block us here as it would block anybody.
        let written = child.stdin.take().expect("piped above").write_all(&self.request.config.bytes);
        if let Err(error) = written.or_else(ignore_broken_pipe) {
            let _ = child.kill();
            let _ = child.wait();
            return Err(io(error));
        }
        Ok(Running { delegate: self, command, child })
    }
}

impl Running<'_> {
    /// Waits for an ADD and reads its result. If it failed, the delegate gets a DEL first.
    pub fn finish_add(self) -> Result<CniResult, Error> {
        let delegate = self.delegate;
        let version = delegate.request.config.version;
        let result = self.finish().and_then(|answer| {
            let value: Value = serde_json::from_slice(&answer)
                .map_err(|error| Error::decode(format!("result of {}", delegate.name), error))?;
            CniResult::from_value(&value, version)
                .map_err(|error| error.context(format!("result of {}", delegate.name)))
        });
        result.inspect_err(|_| {
            if let Err(error) = delegate.call(Command::Del) {
                log::warn!("DEL of {} after its failed ADD: {error}", delegate.name);
            }
        })
    }

    fn finish(mut self) -> Result<Vec<u8>, Error> {
        let path = self.delegate.executable.display();
        let mut answer = Vec::new();
        let stdout = self.child.stdout.take().expect("piped when started");
        let read = stdout.take(MAX_ANSWER + 1).read_to_end(&mut answer);
        let status = self.child.wait().map_err(|error| Error::io(format!("waiting for {path}"), error))?;
        read.map_err(|error| Error::io(format!("reading from {path}"), error))?;
        if answer.len() as u64 > MAX_ANSWER {
            return Err(Error::decode(path, format!("answer larger than {} MiB", MAX_ANSWER >> 20)));
        }
        if status.success() {
            return Ok(answer);
        }
        Err(Error::from_json(&answer).map(|error| error.context(self.delegate.name)).unwrap_or_else(|| {
            let output = String::from_utf8_lossy(&answer).chars().take(200).collect::<String>();
            Error::new(
                code::DELEGATE_FAILED,
                "delegate failed",
                format!("{path} {}: {status}, without an error document; stdout: {output:?}", self.command.as_str()),
            )
        }))
    }
}

fn ignore_broken_pipe(error: std::io::Error) -> std::io::Result<()> {
    if error.kind() == std::io::ErrorKind::BrokenPipe { Ok(()) } else { Err(error) }
}

/// The executable `name` in the first directory of `path` that has it.
///
/// A name with a slash would leave those directories: refused (code 7). Not found is code 4, naming `CNI_PATH`.
pub fn find(name: &str, path: &[PathBuf]) -> Result<PathBuf, Error> {
    if name.is_empty() || matches!(name, "." | "..") || name.contains(['/', '\\', '\0']) {
        return Err(Error::config("type", format!("{name:?}"), "not the name of a plugin binary"));
    }
    path.iter().map(|directory| directory.join(name)).find(|path| is_executable(path)).ok_or_else(|| {
        let searched = match path {
            [] => "CNI_PATH is not set".to_owned(),
            _ => format!(
                "not in CNI_PATH {}",
                path.iter().map(|p| p.display().to_string()).collect::<Vec<_>>().join(":")
            ),
        };
        let details =
            format!("plugin {name:?}: {searched}; install it there, or correct the type in the configuration");
        Error::new(code::INVALID_ENVIRONMENT, "plugin not found", details)
    })
}

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
