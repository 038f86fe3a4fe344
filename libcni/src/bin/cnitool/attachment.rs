//! Which attachment a command is about.
//!
//! By default the namespace's path tells the container, as in upstream's tool. What another program added has another
//! container ID: it is given (`--container-id`, `CNI_CONTAINERID`), or looked up in the cache, whose files the Go libcni of
//! containerd, CRI-O and Podman writes too, by its namespace. The cache also has the namespace, where only the ID is given.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use libcni::AttachmentId;
use libcni::error::{Error, code};
use libcni::runtime::{Cache, Cached, Parameters};
use sha2::{Digest, Sha512};

use super::environment::{capability_arguments, generic_arguments, text};

/// What the caller says of an attachment: a container ID, a namespace, or both.
#[derive(Debug)]
pub struct Named {
    pub container_id: Option<String>,
    pub ifname: String,
    /// An absolute path.
    pub netns: Option<PathBuf>,
}

/// An attachment, and what the cache has of it.
#[derive(Debug)]
pub struct Found {
    pub id: AttachmentId,
    pub netns: Option<PathBuf>,
    pub cached: Option<Cached>,
}

impl Named {
    /// The attachment as an ADD makes it.
    pub fn to_be_added(&self) -> Result<Found, Error> {
        Ok(Found { id: self.id()?, netns: self.netns.clone(), cached: None })
    }

    /// The attachment to `network` that was added. One that the cache does not know has the ID that this tool would give it.
    pub fn find(&self, cache: &Cache, network: &str) -> Result<Found, Error> {
        let id = self.id()?;
        let cached = match cache.get(network, &id)? {
            None if self.container_id.is_none() => self.find_by_netns(cache, network)?,
            known => known,
        };
        let Some(cached) = cached else { return self.to_be_added() };
        let netns = self.agreed_netns(&cached)?;
        Ok(Found { id: cached.parameters.id.clone(), netns, cached: Some(cached) })
    }

    /// Whoever added it: the one attachment of this namespace and interface.
    fn find_by_netns(&self, cache: &Cache, network: &str) -> Result<Option<Cached>, Error> {
        let Some(netns) = &self.netns else { return Ok(None) };
        let is_it = |cached: &Cached| {
            let there = cached.parameters.netns.as_deref();
            cached.network == network
                && cached.parameters.id.ifname == self.ifname
                && there.is_some_and(|there| is_same(there, netns))
        };
        let mut found: Vec<Cached> = cache.all()?.0.into_iter().filter(is_it).collect();
        match found.len() {
            0 | 1 => Ok(found.pop()),
            _ => {
                let ids: Vec<&str> = found.iter().map(|cached| cached.parameters.id.container_id.as_str()).collect();
                Err(unclear(format!(
                    "{} of {} in network {network:?} is remembered for several containers ({}): choose one with \
                     --container-id",
                    self.ifname,
                    netns.display(),
                    ids.join(", ")
                )))
            }
        }
    }

    /// The namespace that the cache has. Another one than the caller's means that one of the two is wrong, and that a DEL
    /// would remove the interface of another container.
    fn agreed_netns(&self, cached: &Cached) -> Result<Option<PathBuf>, Error> {
        match (&self.netns, &cached.parameters.netns) {
            (Some(given), Some(there)) if !is_same(given, there) => Err(unclear(format!(
                "{} was added in {}, not in {}: leave the namespace out, or give that one",
                cached.parameters.id,
                there.display(),
                given.display()
            ))),
            (given, there) => Ok(there.clone().or_else(|| given.clone())),
        }
    }

    fn id(&self) -> Result<AttachmentId, Error> {
        let container_id = match (&self.container_id, &self.netns) {
            (Some(id), _) => id.clone(),
            (None, Some(netns)) => {
                let digest = Sha512::digest(netns.as_os_str().as_encoded_bytes());
                let hex: String = digest.iter().take(10).map(|byte| format!("{byte:02x}")).collect();
                format!("cnitool-{hex}")
            }
            (None, None) => {
                return Err(unclear("give NETNS or --container-id (cnitool list shows the attachments)".to_owned()));
            }
        };
        Ok(AttachmentId { container_id, ifname: self.ifname.clone() })
    }
}

impl Found {
    /// Its parameters; arguments that are not in the environment are those of its ADD.
    pub fn parameters(&self) -> Result<Parameters, Error> {
        let added = self.cached.as_ref().map(|cached| cached.parameters.clone()).unwrap_or_default();
        Ok(Parameters {
            id: self.id.clone(),
            netns: self.netns.clone(),
            args: text("CNI_ARGS")?.map_or(Ok(added.args), |text| generic_arguments(&text))?,
            capability_args: text("CAP_ARGS")?.map_or(Ok(added.capability_args), |text| capability_arguments(&text))?,
        })
    }
}

fn unclear(details: String) -> Error {
    Error::new(code::INVALID_ENVIRONMENT, "unclear which attachment is meant", details)
}

/// Do two paths lead to one namespace? Runtimes write `/var/run`, people `/run`.
fn is_same(one: &Path, other: &Path) -> bool {
    let plain =
        |path: &Path| path.strip_prefix("/var/run").map_or(path.to_owned(), |rest| Path::new("/run").join(rest));
    let file = |path: &Path| std::fs::metadata(path).map(|file| (file.dev(), file.ino())).ok();
    plain(one) == plain(other) || file(one).is_some_and(|found| Some(found) == file(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(container_id: Option<&str>, netns: Option<&str>) -> Named {
        Named { container_id: container_id.map(str::to_owned), ifname: "eth0".into(), netns: netns.map(PathBuf::from) }
    }

    #[test]
    fn container_ids_are_upstreams() {
        let id = |container_id, netns| named(container_id, netns).id().unwrap().container_id;
        // printf /var/run/netns/testing | sha512sum | cut -c 1-20
        assert_eq!(id(None, Some("/var/run/netns/testing")), "cnitool-77383ca0a0715733ca6f");
        assert_eq!(id(Some("abc"), Some("/var/run/netns/testing")), "abc");
        assert_eq!(id(Some("abc"), None), "abc");
        assert!(named(None, None).id().unwrap_err().details.contains("--container-id"));
    }

    #[test]
    fn one_namespace_has_several_paths() {
        assert!(is_same(Path::new("/var/run/netns/gone"), Path::new("/run/netns/gone")));
        assert!(!is_same(Path::new("/run/netns/gone"), Path::new("/run/netns/too")));
        assert!(is_same(Path::new("/proc/self/ns/net"), Path::new("/proc/thread-self/ns/net")));
        assert!(!is_same(Path::new("/proc/self/ns/net"), Path::new("/proc/self/ns/mnt")));
    }
}
