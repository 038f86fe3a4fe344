//! A delegate that writes down how it is called, and does as it is told.
//!
//! A shell script under the delegate's name, in a directory at the front of CNI_PATH. It records environment and
//! stdin, then fails or answers as the trial asked, or hands over to the real delegate.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::clause::{Step, Stop};
use super::world::{HOME, World};

/// What it writes to stderr.
pub const WORDS: &str = "conformance: the delegate speaks";

/// The delegate in place of the real one.
#[derive(Debug)]
pub struct Spy {
    records: PathBuf,
}

/// One call that it got.
#[derive(Clone, Debug)]
pub struct Seen {
    /// CNI_COMMAND.
    pub command: String,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// stdin; `Null` if it was not JSON.
    pub input: Value,
}

impl World {
    /// Puts a spy in place of the delegate.
    pub fn spy(&self) -> Step<Spy> {
        self.spy_in(&Path::new(HOME).join("spy"))
    }

    /// Puts a spy in place of the delegate, into a directory.
    pub fn spy_in(&self, directory: &Path) -> Step<Spy> {
        let name = self.delegate().ok_or_else(|| Stop::Suite("no delegate to spy on".to_owned()))?;
        let real = self.find(name)?;
        let records = Path::new(HOME).join("records");
        let script = format!(
            r#"#!/bin/sh
PATH=/usr/sbin:/usr/bin:/sbin:/bin
cd {records}
call=$(printf %04d "$(ls -d call.* 2>/dev/null | wc -l)")
mkdir "call.$call" && cat /proc/self/environ > "call.$call/env"
cat > "call.$call/input"
echo '{WORDS}' >&2
if [ -f "fail.$CNI_COMMAND" ]; then cat "fail.$CNI_COMMAND"; exit 1; fi
if [ -f "answer.$CNI_COMMAND" ]; then cat "answer.$CNI_COMMAND"; exit 0; fi
exec {real} < "call.$call/input"
"#,
            records = records.display(),
            real = real.display(),
        );
        let write = || {
            std::fs::create_dir_all(&records)?;
            std::fs::create_dir_all(directory)?;
            let path = directory.join(name);
            std::fs::write(&path, script)?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))
        };
        write().map_err(|error| Stop::Suite(format!("writing the spy: {error}")))?;
        Ok(Spy { records })
    }
}

impl Spy {
    /// From now on `command` fails with this on stdout.
    pub fn fail(&self, command: &str, stdout: &str) -> Step {
        self.write(&format!("fail.{command}"), stdout)
    }

    /// From now on `command` succeeds with this on stdout, and does nothing.
    pub fn answer(&self, command: &str, stdout: &str) -> Step {
        self.write(&format!("answer.{command}"), stdout)
    }

    fn write(&self, name: &str, text: &str) -> Step {
        std::fs::write(self.records.join(name), text).map_err(|error| Stop::Suite(format!("the spy's {name}: {error}")))
    }

    /// The calls so far, in order.
    pub fn calls(&self) -> Step<Vec<Seen>> {
        let read = || -> std::io::Result<Vec<Seen>> {
            let entries = std::fs::read_dir(&self.records)?.collect::<Result<Vec<_>, _>>()?;
            let mut calls: Vec<_> =
                entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_dir()).collect();
            calls.sort();
            calls.iter().map(|path| seen(path)).collect()
        };
        read().map_err(|error| Stop::Suite(format!("reading the spy's records: {error}")))
    }

    /// The calls of one command.
    pub fn calls_of(&self, command: &str) -> Step<Vec<Seen>> {
        Ok(self.calls()?.into_iter().filter(|seen| seen.command == command).collect())
    }
}

fn seen(path: &Path) -> std::io::Result<Seen> {
    let env = std::fs::read(path.join("env"))?;
    let env: BTreeMap<_, _> = String::from_utf8_lossy(&env)
        .split('\0')
        .filter_map(|pair| pair.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let input = serde_json::from_slice(&std::fs::read(path.join("input"))?).unwrap_or(Value::Null);
    Ok(Seen { command: env.get("CNI_COMMAND").cloned().unwrap_or_default(), env, input })
}
