//! The plugin's side: one trait, one main.
//!
//! A plugin implements [`Plugin`] and its `main` is `libcni::plugin::main::<MyPlugin>()`. This file does the rest:
//! reads environment and stdin, validates both before the plugin sees them, picks the version, turns a panic into an
//! error document, and writes the one document that stdout may hold.
//!
//! DEL and GC get no typed configuration: they must work whatever has become of it since the ADD, so only names and
//! IDs are validated for them.

use std::ffi::OsString;
use std::io::{Read, Write as _};
use std::path::Path;
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::config::{Config, Document, Size};
use crate::error::{Error, code};
use crate::invocation::{Attachment, AttachmentId, Command, Invocation, Lookup};
use crate::keys::{Configuration, Level};
use crate::netns::Netns;
use crate::result::CniResult;
use crate::version::{self, Version};

/// What the container's namespace is to a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Works inside the namespace: `CNI_NETNS` must be one, and not the plugin's own.
    Interface,
    /// Hands out addresses: `CNI_NETNS` is never opened.
    Ipam,
}

/// What a plugin says of itself.
#[derive(Clone, Copy, Debug)]
pub struct About {
    /// The binary's name.
    pub name: &'static str,
    /// The binary's version: `env!("CARGO_PKG_VERSION")`.
    pub version: &'static str,
    /// One sentence.
    pub summary: &'static str,
    /// A complete configuration that works.
    pub example: &'static str,
}

/// A command for an operator, beside those of the protocol: `PLUGIN OPTION FILE.conflist`.
#[derive(Clone, Copy)]
pub struct Operator {
    /// The option: `--sync`.
    pub option: &'static str,
    /// What it does, in one line.
    pub help: &'static str,
    /// Does it, with the plugin's configuration in that list as STATUS would get it; what it returns is printed. With `true`
    /// (`--dry-run`) it touches nothing and returns what it would do.
    pub run: fn(&Request, bool) -> Result<String, Error>,
}

/// What every command gets: the configuration and the environment.
#[derive(Clone, Debug)]
pub struct Request {
    /// The configuration, complete.
    pub config: Config,
    /// The environment.
    pub invocation: Invocation,
}

impl Request {
    /// The attachment's namespace, if something may still be undone in it: DEL may come without one, with one that is
    /// gone, and with a path that leads to the node's own, in which nothing of a container is. Code 5 if that can't be found
    /// out: what is there must not be forgotten.
    pub fn usable_netns<'a>(&self, attachment: &'a Attachment) -> Result<Option<&'a Path>, Error> {
        let Some(path) = attachment.netns.as_deref() else { return Ok(None) };
        match require_netns(path, self.invocation.netns_override) {
            Ok(()) => Ok(Some(path)),
            Err(error) if error.code == code::IO_FAILURE => Err(error),
            Err(_) => Ok(None),
        }
    }
}

/// A CNI plugin.
pub trait Plugin {
    /// The plugin's keys. Read, once, before [`add`](Plugin::add), [`check`](Plugin::check) and
    /// [`status`](Plugin::status) are called; what does not fit is code 7.
    type Config: Configuration;

    /// What the plugin says of itself.
    const ABOUT: About;

    /// Whether it works inside the container's namespace.
    const KIND: Kind;

    /// The commit that it was built from, for `--version`.
    const COMMIT: Option<&'static str> = None;

    /// What an operator may run by hand.
    const OPERATOR: Option<Operator> = None;

    /// Keys of other plugins of the same suite, each with their names: one that this plugin does not have is warned of.
    const KEYS_OF_OTHERS: &'static [(&'static str, &'static str)] = &[];

    /// Beyond types: what a configuration must hold before anything is touched.
    fn validate(_request: &Request, _config: &Self::Config) -> Result<(), Error> {
        Ok(())
    }

    /// Wires the container. On an error everything this call made is gone again.
    fn add(request: &Request, config: Self::Config, attachment: &Attachment) -> Result<CniResult, Error>;

    /// Is everything as ADD left it?
    fn check(request: &Request, config: Self::Config, attachment: &Attachment) -> Result<(), Error>;

    /// Removes what ADD made. What is gone already is fine.
    fn del(request: &Request, attachment: &Attachment) -> Result<(), Error>;

    /// Removes what belongs to no attachment in `valid`; goes on after an error.
    fn gc(request: &Request, valid: &[AttachmentId]) -> Result<(), Error>;

    /// Could an ADD be served? Code 50 or 51 if not.
    fn status(request: &Request, config: Self::Config) -> Result<(), Error>;
}

/// The whole of a plugin's `main`.
#[expect(clippy::disallowed_methods, reason = "only CNI_* is asked for (invocation.rs)")]
pub fn main<P: Plugin>() -> ExitCode {
    // What a runtime left open is none of a delegate's affair: stdin, stdout and stderr are all it inherits.
    close_fds::set_fds_cloexec(3, &[]);
    init_logging();
    let answer = match std::env::args_os().nth(1) {
        Some(argument) => answer_argument::<P>(&argument),
        None => answer::<P>(&|name| std::env::var_os(name), &mut std::io::stdin().lock()),
    };
    let mut stderr = std::io::stderr().lock();
    let mut stdout = std::io::stdout().lock();
    let _ = stderr.write_all(answer.stderr.as_bytes());
    match stdout.write_all(answer.stdout.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) if answer.success => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        Err(error) => {
            log::error!("the answer can't be written to stdout: {error}");
            if let Some(request) = &answer.added {
                undo_undelivered::<P>(request);
            }
            ExitCode::FAILURE
        }
    }
}

/// A result that nobody got is of no use to anybody: the ADD failed, and a failed ADD leaves nothing.
fn undo_undelivered<P: Plugin>(request: &Request) {
    if let Some(attachment) = &request.invocation.attachment
        && let Err(error) = P::del(request, attachment)
    {
        log::error!("undoing the ADD failed: {error}");
    }
}

/// What one execution prints and how it ends.
#[derive(Debug, Default)]
pub struct Answer {
    /// One JSON document, or nothing.
    pub stdout: String,
    /// For people.
    pub stderr: String,
    /// Exit status 0?
    pub success: bool,
    /// The ADD that `stdout` tells the result of: to be undone if that can't be delivered.
    pub added: Option<Request>,
}

/// Logs go to stderr; `PODWIRE_LOG` sets the level (`error`, `warn`, `info`, `debug`, `trace`; `warn` by default).
#[expect(clippy::disallowed_methods, reason = "the log level")]
fn init_logging() {
    let level = std::env::var("PODWIRE_LOG").ok().and_then(|text| text.parse().ok());
    let _ = env_logger::Builder::new()
        .filter_level(level.unwrap_or(log::LevelFilter::Warn))
        .format_timestamp(None)
        .try_init();
}

fn answer_argument<P: Plugin>(argument: &OsString) -> Answer {
    let about = P::ABOUT;
    if let Some(operator) = P::OPERATOR.filter(|operator| *argument == operator.option) {
        return operator::answer::<P>(&operator, std::env::args_os().skip(2).collect());
    }
    let subject = || documents::Subject::of::<P>();
    let printed = match argument.to_str() {
        Some("--version" | "-V") => format!("{} {}\n", about.name, version::of_program(about.version, P::COMMIT)),
        Some("--help" | "-h") => subject().help(),
        Some("--markdown") => subject().markdown(),
        Some("--man") => man::page(&subject()),
        Some("--schema") => schema::schema(&subject()),
        _ => {
            let introduction = documents::introduction(&about);
            let stderr = format!("{}: unknown argument {argument:?}\n\n{introduction}", about.name);
            return Answer { stderr, ..Answer::default() };
        }
    };
    Answer { stdout: printed, success: true, ..Answer::default() }
}

/// One execution, without a process: environment and input in, answer out.
pub fn answer<P: Plugin>(lookup: Lookup, input: &mut dyn Read) -> Answer {
    let mut version = Version::LATEST;
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run::<P>(lookup, input, &mut version)));
    let outcome = outcome.unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        let details = format!("{}; this is a bug in {}", words.unwrap_or("no message"), P::ABOUT.name);
        Err(Error::new(code::PANIC, "the plugin panicked", details))
    });
    match outcome {
        Ok(Output::Nothing) => Answer { success: true, ..Answer::default() },
        Ok(Output::Introduction) => {
            Answer { stderr: documents::introduction(&P::ABOUT), success: true, ..Answer::default() }
        }
        Ok(Output::Document(value)) => Answer { stdout: format!("{value}\n"), success: true, ..Answer::default() },
        Ok(Output::Added(value, request)) => {
            Answer { stdout: format!("{value}\n"), success: true, added: Some(*request), ..Answer::default() }
        }
        Err(error) => Answer { stdout: error.to_json(version) + "\n", ..Answer::default() },
    }
}

enum Output {
    Nothing,
    Introduction,
    Document(Value),
    Added(Value, Box<Request>),
}

fn run<P: Plugin>(lookup: Lookup, input: &mut dyn Read, version: &mut Version) -> Result<Output, Error> {
    let Some(invocation) = Invocation::read(lookup)? else { return Ok(Output::Introduction) };
    let command = invocation.command;
    let size = match command {
        Command::Check | Command::Del | Command::Gc => Size::WithResult,
        Command::Add | Command::Status | Command::Version => Size::Usual,
    };
    let bytes = Config::read_bytes(input, size)?;
    if command == Command::Version {
        return version_answer(&bytes).map(Output::Document);
    }
    // The process is about to end: to free the tree key by key would be work for nothing.
    let keys = std::mem::ManuallyDrop::new(Level::of::<P::Config>());
    let document = Document::decode(&bytes, &keys, size)?;
    *version = match Config::version_of(document.object()) {
        Ok(version) => version,
        // What was added must be removable, also when the version was edited into nonsense since.
        Err(_) if command == Command::Del => Version::LATEST,
        Err(error) => return Err(error),
    };
    if let Err(error) = require_command(command, *version) {
        return Err(oddities::say_if_versionless(error, document.object()));
    }
    let request = Request { config: Config::new(bytes, document, *version)?, invocation };
    if matches!(command, Command::Add | Command::Status) {
        misspelt::warn(&keys, P::KIND, P::KEYS_OF_OTHERS, &request.config);
        oddities::warn(P::KIND, &request.config);
        oddities::warn_of_keys_of_others(P::ABOUT.name, &keys, P::KEYS_OF_OTHERS, &request.config);
    }
    execute::<P>(request)
}

fn require_command(command: Command, version: Version) -> Result<(), Error> {
    let (known, since) = match command {
        Command::Check => (version.has_check(), Version::V0_4_0),
        Command::Gc | Command::Status => (version.has_gc_and_status(), Version::V1_1_0),
        _ => return Ok(()),
    };
    if known {
        return Ok(());
    }
    let details = format!("cniVersion {version} has no {}: it came with {since}", command.as_str());
    Err(Error::new(code::INCOMPATIBLE_VERSION, "incompatible CNI version", details))
}

fn execute<P: Plugin>(owned: Request) -> Result<Output, Error> {
    let request = &owned;
    let attachment = request.invocation.attachment.as_ref();
    match (request.invocation.command, attachment) {
        (Command::Add, Some(attachment)) => {
            let config = validated::<P>(request, Some(attachment))?;
            let result = add::<P>(request, config, attachment)?;
            Ok(Output::Added(result, Box::new(owned)))
        }
        (Command::Check, Some(attachment)) => {
            let config = validated::<P>(request, Some(attachment))?;
            P::check(request, config, attachment).map(|()| Output::Nothing)
        }
        (Command::Del, Some(attachment)) => P::del(request, attachment).map(|()| Output::Nothing),
        (Command::Gc, _) => P::gc(request, &request.config.valid_attachments()?).map(|()| Output::Nothing),
        (Command::Status, _) => {
            let config = validated::<P>(request, None)?;
            P::status(request, config).map(|()| Output::Nothing)
        }
        (Command::Add | Command::Check | Command::Del, None) | (Command::Version, _) => {
            unreachable!("an attachment is read for these commands, and VERSION is answered before")
        }
    }
}

/// Everything that can be known to be wrong before anything is touched.
fn validated<P: Plugin>(request: &Request, attachment: Option<&Attachment>) -> Result<P::Config, Error> {
    if let (Kind::Interface, Some(attachment)) = (P::KIND, attachment) {
        require_netns(attachment.netns()?, request.invocation.netns_override)?;
    }
    let config = request.config.read()?;
    P::validate(request, &config)?;
    Ok(config)
}

/// An ADD whose result can't be said in the configured version is undone like any other failed ADD.
fn add<P: Plugin>(request: &Request, config: P::Config, attachment: &Attachment) -> Result<Value, Error> {
    let result = P::add(request, config, attachment)?;
    result.to_value(request.config.version).inspect_err(|_| {
        if let Err(error) = P::del(request, attachment) {
            log::error!("undoing the ADD failed: {error}");
        }
    })
}

fn version_answer(bytes: &[u8]) -> Result<Value, Error> {
    // Runtimes older than the request's body send none.
    let object = if bytes.iter().all(u8::is_ascii_whitespace) { Default::default() } else { Config::decode(bytes)? };
    let asked = object.get("cniVersion").and_then(Value::as_str).unwrap_or(Version::LATEST.as_str());
    Ok(json!({ "cniVersion": asked, "supportedVersions": Version::ALL }))
}

/// `path` must be a network namespace, and not the plugin's own unless `own_is_fine` (code 4). Code 5 if the system could not
/// look.
fn require_netns(path: &Path, own_is_fine: bool) -> Result<(), Error> {
    let refuse = |why: &dyn std::fmt::Display| {
        Error::new(code::INVALID_ENVIRONMENT, "invalid environment", format!("CNI_NETNS {}: {why}", path.display()))
    };
    let found = Netns::at(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::PermissionDenied => {
            refuse(&format!("{error}: entering a Pod's namespace takes root, or CAP_SYS_ADMIN"))
        }
        _ if is_passing(&error) => Error::io(format!("CNI_NETNS {}", path.display()), error),
        _ => refuse(&error),
    })?;
    let own = Netns::current().map_err(|error| Error::io("/proc/thread-self/ns/net", error))?;
    match found {
        None => Err(refuse(&"not a network namespace; its container may be gone already")),
        Some(netns) if netns == own && !own_is_fine => {
            Err(refuse(&"this is the plugin's own network namespace (CNI_NETNS_OVERRIDE=1 allows it)"))
        }
        Some(_) => Ok(()),
    }
}

/// Does an error say more about the system at this moment than about the path?
fn is_passing(error: &std::io::Error) -> bool {
    use nix::errno::Errno::{EAGAIN, EDQUOT, EINTR, EIO, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC};
    let errno = nix::errno::Errno::from_raw(error.raw_os_error().unwrap_or_default());
    [EAGAIN, EDQUOT, EINTR, EIO, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC].contains(&errno)
}

mod documents;
mod man;
mod misspelt;
mod oddities;
mod operator;
mod schema;
#[cfg(test)]
mod tests;
