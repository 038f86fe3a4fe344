//! What each ADD resulted in, for CHECK and DEL (spec section 3), in the Go libcni's files.
//!
//! `<directory>/results/<network>-<container ID>-<interface>` is one JSON object: `kind` (`cniCacheV1`), the list's bytes, the attachment's
//! parameters and the result. Go's programs (containerd, CRI-O, podman) write the same, so that either can DEL what
//! the other ADDed. The oldest of them wrote the bare result: that is read too.
//!
//! A file appears whole or not at all: it is written beside the folder, where nobody looks for results, and renamed
//! into it. The folder itself is the lock that keeps GC apart from ADD and DEL.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use fs2::FileExt;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::chain::Parameters;
use super::folder::Folder;
use crate::error::{Error, code};
use crate::invocation::{AttachmentId, identifier_fault, ifname_fault};
use crate::value;

/// Where the Go libcni keeps its results.
pub const DEFAULT_DIR: &str = "/var/lib/cni";

const KIND: &str = "cniCacheV1";

/// What file systems take as a name (NAME_MAX of include/uapi/linux/limits.h), in bytes.
const LONGEST_NAME: usize = 255;

/// A directory of results.
#[derive(Clone, Debug)]
pub struct Cache {
    directory: PathBuf,
}

/// What the cache remembers of one ADD.
#[derive(Clone, Debug)]
pub struct Cached {
    /// The network's name.
    pub network: String,
    /// The attachment, as it was added.
    pub parameters: Parameters,
    /// The list it was added with, as JSON.
    pub config: Vec<u8>,
    /// The chain's result, as it was written.
    pub result: Option<Value>,
}

/// The file, in the order in which Go writes it.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    container_id: String,
    /// Base64; Go writes an empty list's as null.
    #[serde(default)]
    config: Option<String>,
    #[serde(default)]
    if_name: String,
    #[serde(default)]
    network_name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    netns: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cni_args: Option<Vec<(String, String)>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    capability_args: Option<Map<String, Value>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
}

impl Default for Cache {
    fn default() -> Self {
        Cache::new(DEFAULT_DIR)
    }
}

impl Cache {
    /// The cache in `directory`, which is made (0700) when something is first put into it.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Cache { directory: directory.into() }
    }

    /// Remembers an ADD. What was remembered of the same attachment before is replaced.
    pub fn put(&self, cached: &Cached) -> Result<(), Error> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = self.name(&cached.network, &cached.parameters.id)?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let beside = format!(".result-{}-{count}", std::process::id());
        let write = || {
            let results = Folder::create(&self.results())?;
            Folder::base(&self.directory)?.write_into(&results, &name, &beside, &Document::from(cached).to_bytes())
        };
        write().map_err(|error: std::io::Error| {
            Error::io(format!("remembering the result in {}", self.results().join(&name).display()), error)
        })
    }

    /// What is remembered of an attachment. Code 6 if its file can't be understood.
    pub fn get(&self, network: &str, id: &AttachmentId) -> Result<Option<Cached>, Error> {
        let name = self.name(network, id)?;
        let path = self.results().join(&name);
        let Some(results) = self.open()? else { return Ok(None) };
        let Some(bytes) = results.read(&name).map_err(|error| Error::io(path.display(), error))? else {
            return Ok(None);
        };
        let cached = Document::parse(&bytes).map_err(|error| error.context(path.display()))?;
        Ok(Some(cached.unwrap_or_else(|result| Cached {
            network: network.to_owned(),
            parameters: Parameters { id: id.clone(), ..Parameters::default() },
            config: Vec::new(),
            result: Some(result),
        })))
    }

    /// Forgets an attachment; nothing to forget is fine.
    pub fn remove(&self, network: &str, id: &AttachmentId) -> Result<(), Error> {
        let name = self.name(network, id)?;
        let Some(results) = self.open()? else { return Ok(()) };
        results.remove(&name).map_err(|error| Error::io(self.results().join(&name).display(), error))
    }

    /// Every attachment of `network`, in the order of their files' names.
    ///
    /// A file that may be of this network but can't be understood is an error (code 6): whoever takes
    /// the answer for complete would take addresses from Pods that live.
    pub fn attachments(&self, network: &str) -> Result<Vec<Cached>, Error> {
        let folder = self.results();
        let Some(results) = self.open()? else { return Ok(Vec::new()) };
        let mut found = Vec::new();
        for name in results.names().map_err(|error| Error::io(folder.display(), error))? {
            let path = folder.join(&name);
            let read = results.read(&name).map_err(|error| Error::io(path.display(), error));
            let may_be_of_it = name.starts_with(&format!("{network}-"));
            let bytes = match read {
                Ok(Some(bytes)) => bytes,
                Err(error) if may_be_of_it => return Err(error),
                Ok(None) | Err(_) => continue,
            };
            match Document::parse(&bytes) {
                Ok(Ok(cached)) if cached.network == network => found.push(cached),
                Ok(Ok(_)) => {}
                _ if !may_be_of_it => {}
                Ok(Err(_)) => return Err(unclear(&path, "a result without the attachment's parameters")),
                Err(error) => return Err(unclear(&path, &error.details)),
            }
        }
        Ok(found)
    }

    /// Every attachment that is remembered, whichever its network, in the order of their files' names; and an error for each
    /// file that does not say which it is.
    pub fn all(&self) -> Result<(Vec<Cached>, Vec<Error>), Error> {
        let (folder, mut found, mut unclear) = (self.results(), Vec::new(), Vec::new());
        let Some(results) = self.open()? else { return Ok((found, unclear)) };
        for name in results.names().map_err(|error| Error::io(folder.display(), error))? {
            let path = folder.join(&name);
            let read = results.read(&name).map_err(|error| Error::io(path.display(), error));
            match read.and_then(|bytes| bytes.map(|bytes| Document::parse(&bytes)).transpose()) {
                Ok(Some(Ok(cached))) => found.push(cached),
                Ok(Some(Err(_))) => {
                    unclear.push(Error::decode(path.display(), "a result without the attachment's parameters"));
                }
                Ok(None) => {}
                Err(error) if error.code == code::IO_FAILURE => unclear.push(error),
                Err(error) => unclear.push(error.context(path.display())),
            }
        }
        Ok((found, unclear))
    }

    /// The directory in which the results are.
    pub fn results(&self) -> PathBuf {
        self.directory.join("results")
    }

    /// Keeps GC (`exclusive`) apart from ADD and DEL, until dropped: no ADD or DEL may be under way when
    /// GC is called (spec section 3, "Lifecycle & Ordering"). Programs that do not take the lock are not kept apart.
    pub(super) fn lock(&self, exclusive: bool) -> Result<File, Error> {
        let lock = |folder: Folder| {
            let directory = folder.into_file();
            if exclusive { directory.lock_exclusive() } else { FileExt::lock_shared(&directory) }?;
            Ok(directory)
        };
        let take = || {
            let results = Folder::create(&self.results())?;
            // A gate before the lock, passed by all and kept shut by GC until it has the lock: else one ADD after another, each
            // beginning before the last has ended, would keep GC waiting for ever.
            let _gate = lock(Folder::base(&self.directory)?)?;
            lock(results)
        };
        take().map_err(|error: std::io::Error| Error::io(format!("locking {}", self.results().display()), error))
    }

    /// The folder of results; `None` if nothing was ever put into it.
    fn open(&self) -> Result<Option<Folder>, Error> {
        match Folder::open(&self.results()) {
            Ok(folder) => Ok(Some(folder)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(self.results().display(), error)),
        }
    }

    /// The name of an attachment's file; code 7 if its names are none, or too long together.
    pub(super) fn name(&self, network: &str, id: &AttachmentId) -> Result<String, Error> {
        let faults = [
            ("network", network, identifier_fault(network)),
            ("container ID", &id.container_id, identifier_fault(&id.container_id)),
            ("interface name", &id.ifname, ifname_fault(&id.ifname)),
        ];
        for (what, text, fault) in faults {
            if let Some(fault) = fault {
                return Err(Error::new(code::INVALID_CONFIG, "invalid attachment", format!("{what} {text:?} {fault}")));
            }
        }
        let name = format!("{network}-{}-{}", id.container_id, id.ifname);
        if name.len() > LONGEST_NAME {
            let why = format!("{name:?}, by which its result is remembered, is longer than {LONGEST_NAME} bytes");
            return Err(Error::new(code::INVALID_CONFIG, "invalid attachment", why));
        }
        Ok(name)
    }
}

impl From<&Cached> for Document {
    fn from(cached: &Cached) -> Self {
        let parameters = &cached.parameters;
        Document {
            kind: KIND.to_owned(),
            container_id: parameters.id.container_id.clone(),
            config: Some(BASE64.encode(&cached.config)),
            if_name: parameters.id.ifname.clone(),
            network_name: cached.network.clone(),
            netns: parameters.netns.as_ref().map(|path| path.to_string_lossy().into_owned()),
            cni_args: Some(parameters.args.clone()).filter(|args| !args.is_empty()),
            capability_args: Some(parameters.capability_args.clone()).filter(|args| !args.is_empty()),
            result: cached.result.clone(),
        }
    }
}

impl Document {
    fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a cache document is made of JSON")
    }

    /// What a file holds: an attachment, or (the inner error) an old file's bare result.
    fn parse(bytes: &[u8]) -> Result<Result<Cached, Value>, Error> {
        let bad = |error: &dyn std::fmt::Display| Error::decode("cached result", error);
        let value: Value = value::from_slice_within(2 * value::MOST_VALUES, bytes).map_err(|error| bad(&error))?;
        if value.get("kind").is_none()
            && (value.get("ips").is_some() || value.get("ip4").is_some() || value.get("ip6").is_some())
        {
            return Ok(Err(value));
        }
        let document: Document = serde_json::from_value(value).map_err(|error| bad(&error))?;
        if document.kind != KIND {
            return Err(bad(&format!("kind {:?} is not {KIND:?}", document.kind)));
        }
        let config = BASE64.decode(document.config.unwrap_or_default()).map_err(|error| bad(&error))?;
        let sandbox = document.result.as_ref().and_then(|result| sandbox(result, &document.if_name));
        let parameters = Parameters {
            id: AttachmentId { container_id: document.container_id, ifname: document.if_name },
            netns: document.netns.filter(|path| !path.is_empty()).map(PathBuf::from).or(sandbox),
            args: document.cni_args.unwrap_or_default(),
            capability_args: document.capability_args.unwrap_or_default(),
        };
        Ok(Ok(Cached { network: document.network_name, parameters, config, result: document.result }))
    }
}

/// Where the result says that the interface is: older Go libcnis (podman 4.3.1's) did not write the namespace's path.
fn sandbox(result: &Value, ifname: &str) -> Option<PathBuf> {
    let interfaces = result.get("interfaces")?.as_array()?;
    let interface = interfaces.iter().find(|interface| interface["name"] == ifname)?;
    interface["sandbox"].as_str().filter(|path| !path.is_empty()).map(PathBuf::from)
}

fn unclear(file: &Path, why: &str) -> Error {
    let details = format!("{}: {why}; if its Pod is gone, remove the file", file.display());
    Error::new(code::DECODING_FAILURE, "unclear which attachments are valid", details)
}

#[cfg(test)]
mod tests;
