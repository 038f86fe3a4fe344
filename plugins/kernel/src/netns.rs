//! Network namespaces: opening one, and doing something inside it.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};

use crate::error::{Error, Result};

/// An open network namespace.
#[derive(Debug)]
pub struct Netns {
    path: PathBuf,
    file: File,
}

impl Netns {
    /// Opens the namespace at `path`, for example `/run/netns/blue`.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).map_err(Error::file(path))?;
        Ok(Netns { path: path.to_owned(), file })
    }

    /// The namespace that this thread is in.
    pub fn current() -> Result<Self> {
        Netns::open(Path::new("/proc/thread-self/ns/net"))
    }

    /// Does `job` inside this namespace, then returns to where the thread was. Sockets opened in there stay there.
    pub fn inside<T>(&self, job: impl FnOnce() -> T) -> Result<T> {
        let back = Netns::current()?;
        self.enter()?;
        let done = job();
        back.enter_at_last()?;
        Ok(done)
    }

    /// Nothing may go on in the other namespace, not even undoing: a kernel that is short of memory has some a moment later.
    fn enter_at_last(&self) -> Result<()> {
        for _ in 0..100 {
            if self.enter().is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        self.enter()
    }

    fn enter(&self) -> Result<()> {
        setns(&self.file, CloneFlags::CLONE_NEWNET)
            .map_err(|errno| Error::File { path: self.path.clone(), source: errno.into() })
    }

    /// The file, for messages that name a namespace by descriptor.
    pub fn file(&self) -> &File {
        &self.file
    }
}
