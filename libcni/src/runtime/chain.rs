//! Running a network's plugins: ADD forward with results chained, DEL in reverse, CHECK, GC, STATUS (spec section 3).

use std::ffi::OsString;
use std::path::PathBuf;

use serde_json::{Map, Value, json};

use super::cache::{Cache, Cached};
use super::list::{NetworkList, PluginConfig};
use super::request::{Subject, derive};
use crate::error::{Error, code};
use crate::exec;
use crate::invocation::{AttachmentId, Command};
use crate::netns::Netns;
use crate::result::CniResult;
use crate::version::Version;

/// Runs plugins, and remembers what they did.
#[derive(Clone, Debug)]
pub struct Runtime {
    /// Directories in which plugins are looked for, in order; the plugins' `CNI_PATH`.
    pub path: Vec<PathBuf>,
    /// Where results are remembered.
    pub cache: Cache,
}

/// One attachment's parameters (spec section 3, "Attachment Parameters"): the same on CHECK and DEL as on ADD.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parameters {
    /// Container ID and interface name.
    pub id: AttachmentId,
    /// Path of the container's network namespace. May be missing on DEL, when it is gone.
    pub netns: Option<PathBuf>,
    /// Generic arguments, which every plugin gets as `CNI_ARGS`.
    pub args: Vec<(String, String)>,
    /// Capability arguments, each of which the plugins get that declare the capability.
    pub capability_args: Map<String, Value>,
}

impl Parameters {
    /// An attachment without arguments.
    pub fn new(container_id: impl Into<String>, ifname: impl Into<String>, netns: impl Into<PathBuf>) -> Self {
        let id = AttachmentId { container_id: container_id.into(), ifname: ifname.into() };
        Parameters { id, netns: Some(netns.into()), ..Parameters::default() }
    }
}

impl Runtime {
    /// A runtime that finds its plugins in `path` and remembers under `/var/lib/cni`.
    pub fn new<P: Into<PathBuf>>(path: impl IntoIterator<Item = P>) -> Self {
        Runtime { path: path.into_iter().map(Into::into).collect(), cache: Cache::default() }
    }

    /// Attaches a container: every plugin in order, each with the result of the one before.
    ///
    /// On an error the rest is not run and nothing is undone: a failed ADD too is followed by a DEL, which is the caller's, for
    /// only it knows that the attachment did not exist before.
    pub fn add(&self, list: &NetworkList, parameters: &Parameters) -> Result<CniResult, Error> {
        // What could not be remembered must not be added.
        self.cache.name(&list.name, &parameters.id)?;
        // A plugin that is not there is better found before the first has run than after.
        for plugin in &list.plugins {
            exec::find(&plugin.plugin_type, &self.path).map_err(|error| failed(plugin, Command::Add, error))?;
        }
        let _lock = self.cache.lock(false)?;
        let (mut document, mut result) = (None, CniResult::default());
        for plugin in &list.plugins {
            let answer = self.run_attached(list, plugin, Command::Add, parameters, document.as_ref())?;
            let read = exec::read_result(&answer, list.version)
                .and_then(|(value, result)| Ok((Some(in_version(value, list.version)?), result)));
            (document, result) = read.map_err(|error| failed(plugin, Command::Add, error))?;
        }
        self.cache.put(&Cached {
            network: list.name.clone(),
            parameters: parameters.clone(),
            config: list.bytes.clone(),
            result: document,
        })?;
        Ok(result)
    }

    /// Is everything as ADD left it? Every plugin in order, up to the first error, each with ADD's final result.
    ///
    /// An error too: a version before 0.4.0 (code 1), an attachment that the cache does not know (code 102).
    pub fn check(&self, list: &NetworkList, parameters: &Parameters) -> Result<(), Error> {
        if list.disable_check {
            return Ok(());
        }
        if !list.version.has_check() {
            let details =
                format!("network {:?}: cniVersion {} has no CHECK: it came with 0.4.0", list.name, list.version);
            return Err(Error::new(code::INCOMPATIBLE_VERSION, "incompatible CNI version", details));
        }
        let Some(result) = self.added_result(list, &parameters.id)? else {
            return Err(Error::check(format!("network {:?} has no ADD of {} in the cache", list.name, parameters.id)));
        };
        for plugin in &list.plugins {
            self.run_attached(list, plugin, Command::Check, parameters, Some(&result))?;
        }
        Ok(())
    }

    /// Detaches a container: every plugin in reverse order, up to the first error, from 0.4.0 on with ADD's final
    /// result. What was never added, or is gone already, is fine.
    pub fn del(&self, list: &NetworkList, parameters: &Parameters) -> Result<(), Error> {
        let _lock = self.cache.lock(false)?;
        self.del_locked(list, parameters)
    }

    /// Removes what belongs to no attachment in `valid`: those the cache knows get a DEL, then the plugins, from 1.1.0 on,
    /// get a GC. Goes on after an error; all errors come back as one.
    ///
    /// Waits for every ADD and DEL under way with this cache, of this process or another that uses this crate.
    pub fn gc(&self, list: &NetworkList, valid: &[AttachmentId]) -> Result<(), Error> {
        self.gc_where(list, |cached| valid.contains(&cached.parameters.id), valid)
    }

    /// [`gc`](Runtime::gc) for who keeps no list: valid is what the cache knows and whose network namespace still exists.
    /// Attachments that another program made without this cache are not known, hence not valid.
    pub fn gc_by_namespace(&self, list: &NetworkList) -> Result<(), Error> {
        self.gc_where(list, |cached| !is_gone(&cached.parameters), &[])
    }

    fn gc_where(
        &self,
        list: &NetworkList,
        is_valid: impl Fn(&Cached) -> bool,
        also: &[AttachmentId],
    ) -> Result<(), Error> {
        if list.disable_gc {
            return Ok(());
        }
        let _lock = self.cache.lock(true)?;
        let (valid, stale): (Vec<_>, Vec<_>) = self.cache.attachments(&list.name)?.into_iter().partition(is_valid);
        let mut errors = Vec::new();
        for cached in stale {
            if let Err(error) = self.del_locked(list, &cached.parameters) {
                errors.push(error.context(format!("stale attachment {}", cached.parameters.id)));
            }
        }
        if list.version.has_gc_and_status() {
            let mut ids: Vec<_> =
                valid.into_iter().map(|cached| cached.parameters.id).chain(also.iter().cloned()).collect();
            ids.sort();
            ids.dedup();
            for plugin in &list.plugins {
                errors.extend(self.run(list, plugin, Command::Gc, None, Subject::Valid(&ids)).err());
            }
        }
        Error::all(errors)
    }

    /// Could an ADD be served? Every plugin in order, up to the first error. Before 1.1.0 nobody can be asked: success.
    pub fn status(&self, list: &NetworkList) -> Result<(), Error> {
        if !list.version.has_gc_and_status() {
            return Ok(());
        }
        for plugin in &list.plugins {
            self.run(list, plugin, Command::Status, None, Subject::Network)?;
        }
        Ok(())
    }

    /// The versions that a plugin says it speaks (VERSION), those that this crate knows.
    pub fn versions(&self, plugin_type: &str) -> Result<Vec<Version>, Error> {
        let executable = exec::find(plugin_type, &self.path)?;
        // Plugins from before VERSION want every variable set.
        let dummies = ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"].map(|name| (name, "dummy".into()));
        let variables =
            [self.path_variable(), ("CNI_ARGS", OsString::new())].into_iter().chain(dummies).collect::<Vec<_>>();
        let input = json!({ "cniVersion": Version::LATEST }).to_string();
        let answer = exec::start(&executable, Command::Version, &variables, input.as_bytes())?.finish()?;
        let value: Value =
            crate::value::from_slice(&answer).map_err(|error| Error::decode("answer to VERSION", error))?;
        let named = value.get("supportedVersions").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(named.iter().filter_map(|version| version.as_str()?.parse().ok()).collect())
    }

    /// Lowers the version of a list that names several to the newest that all its plugins speak, so that one old plugin
    /// in a chain does not fail it. Who does not answer VERSION has no say; nothing in common changes nothing.
    pub fn agree(&self, list: &mut NetworkList) {
        if list.versions.len() < 2 {
            return;
        }
        let mut common = list.versions.clone();
        for plugin in &list.plugins {
            match self.versions(&plugin.plugin_type) {
                Ok(spoken) => common.retain(|version| spoken.contains(version)),
                Err(error) => log::debug!("VERSION of {}: {error}", plugin.plugin_type),
            }
        }
        if let Some(newest) = common.last() {
            list.version = *newest;
        }
    }

    fn del_locked(&self, list: &NetworkList, parameters: &Parameters) -> Result<(), Error> {
        let result = if list.version.has_check() {
            // Whatever is wrong with the cache, the Pod can be removed.
            self.added_result(list, &parameters.id).unwrap_or_else(|error| {
                log::warn!("DEL without prevResult: {error}");
                None
            })
        } else {
            None
        };
        for plugin in list.plugins.iter().rev() {
            self.run_attached(list, plugin, Command::Del, parameters, result.as_ref())?;
        }
        self.cache.remove(&list.name, &parameters.id)
    }

    /// The final result of an attachment's ADD, in the list's version.
    fn added_result(&self, list: &NetworkList, id: &AttachmentId) -> Result<Option<Value>, Error> {
        let result = self.cache.get(&list.name, id)?.and_then(|cached| cached.result);
        result.map(|result| in_version(result, list.version)).transpose()
    }

    fn run_attached(
        &self,
        list: &NetworkList,
        plugin: &PluginConfig,
        command: Command,
        parameters: &Parameters,
        prev_result: Option<&Value>,
    ) -> Result<Vec<u8>, Error> {
        let subject = Subject::Attachment { prev_result, capability_args: &parameters.capability_args };
        self.run(list, plugin, command, Some(parameters), subject)
    }

    fn run(
        &self,
        list: &NetworkList,
        plugin: &PluginConfig,
        command: Command,
        parameters: Option<&Parameters>,
        subject: Subject,
    ) -> Result<Vec<u8>, Error> {
        let execute = || {
            let executable = exec::find(&plugin.plugin_type, &self.path)?;
            let input = derive(list, plugin, subject);
            exec::start(&executable, command, &self.variables(parameters), &input)?.finish()
        };
        execute().map_err(|error| failed(plugin, command, error))
    }

    /// All variables of the protocol, empty where there is no attachment: one that this process inherited says nothing.
    fn variables(&self, parameters: Option<&Parameters>) -> Vec<(&'static str, OsString)> {
        let none = Parameters::default();
        let parameters = parameters.unwrap_or(&none);
        let args = parameters.args.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(";");
        vec![
            ("CNI_CONTAINERID", parameters.id.container_id.clone().into()),
            ("CNI_IFNAME", parameters.id.ifname.clone().into()),
            ("CNI_NETNS", parameters.netns.clone().unwrap_or_default().into()),
            ("CNI_ARGS", args.into()),
            self.path_variable(),
        ]
    }

    fn path_variable(&self) -> (&'static str, OsString) {
        ("CNI_PATH", exec::join_path(&self.path).into())
    }
}

/// A result as a plugin that speaks `version` reads it: as it is, if it says that it is of that version.
fn in_version(value: Value, version: Version) -> Result<Value, Error> {
    if value.get("cniVersion").and_then(Value::as_str) == Some(version.as_str()) {
        return Ok(value);
    }
    CniResult::from_value(&value, version)?.to_value(version)
}

/// The plugin's own error, with its type in front of the details, in upstream's words.
fn failed(plugin: &PluginConfig, command: Command, error: Error) -> Error {
    error.context(format!("plugin type={:?} failed ({})", plugin.plugin_type, command.as_str().to_lowercase()))
}

/// Is it certain that the attachment's namespace is no more? One that can't be looked at may still be there.
fn is_gone(parameters: &Parameters) -> bool {
    let Some(path) = &parameters.netns else { return false };
    match Netns::at(path) {
        Ok(found) => found.is_none(),
        Err(error) => error.kind() == std::io::ErrorKind::NotFound,
    }
}

#[cfg(test)]
mod tests;
