//! A command for an operator: `PLUGIN OPTION FILE.conflist [--dry-run]`.

use std::ffi::OsString;
use std::path::Path;

use super::{Answer, Operator, Plugin, Request, documents};
use crate::config::{Config, Document, Size};
use crate::error::{Error, code};
use crate::invocation::Invocation;
use crate::keys::Level;
use crate::runtime::NetworkList;

/// An argument of every operator's command: only say what it would do.
const DRY_RUN: &str = "--dry-run";

/// Runs an operator's command for each of the list's plugins of this type.
pub(super) fn answer<P: Plugin>(operator: &Operator, arguments: Vec<OsString>) -> Answer {
    if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        return Answer { stdout: documents::Subject::of::<P>().help(), success: true, ..Answer::default() };
    }
    let dry_run = arguments.iter().any(|argument| argument == DRY_RUN);
    let files: Vec<&OsString> = arguments.iter().filter(|argument| *argument != DRY_RUN).collect();
    let run = || -> Result<String, Error> {
        let [file] = *files else {
            let usage = format!("{} {} FILE.conflist [{DRY_RUN}]", P::ABOUT.name, operator.option);
            let msg = if files.is_empty() { "missing argument" } else { "too many arguments" };
            return Err(Error::new(code::INVALID_ENVIRONMENT, msg, usage));
        };
        let mut said = String::new();
        for request in requests_of::<P>(Path::new(file))? {
            P::validate(&request, &request.config.read()?)?;
            said.push_str(&(operator.run)(&request, dry_run)?);
        }
        Ok(said)
    };
    match run() {
        Ok(stdout) => Answer { stdout, success: true, ..Answer::default() },
        Err(error) => Answer { stderr: format!("{}: {error}\n", P::ABOUT.name), ..Answer::default() },
    }
}

/// What STATUS would get, for each of the list's plugins of this type; none is an error (code 7).
fn requests_of<P: Plugin>(file: &Path) -> Result<Vec<Request>, Error> {
    let list = NetworkList::from_file(file)?;
    let configurations = list.configurations_of(P::ABOUT.name);
    if configurations.is_empty() {
        let details = format!("{}: network {:?} has no plugin of type {:?}", file.display(), list.name, P::ABOUT.name);
        return Err(Error::new(code::INVALID_CONFIG, "invalid network configuration", details));
    }
    let keys = Level::of::<P::Config>();
    let request = |bytes: Vec<u8>| {
        let document = Document::decode(&bytes, &keys, Size::Usual)?;
        Ok(Request { config: Config::new(bytes, document, list.version)?, invocation: Invocation::by_hand() })
    };
    configurations.into_iter().map(request).collect()
}
