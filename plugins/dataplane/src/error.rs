//! What can go wrong with the kernel, told by kind: a caller answers each kind with a code of its own.

use std::path::PathBuf;

use nix::errno::Errno;

/// The result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// An error of the kernel, naming the object at fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The kernel refused a message. `said` is its own explanation, where it gives one.
    #[error("{doing}: {}{}{said}", errno.desc(), if said.is_empty() { "" } else { ": " })]
    Refused {
        /// What was being done, to which object.
        doing: String,
        /// Why not.
        errno: Errno,
        /// The extended acknowledgement's words, or empty.
        said: String,
    },
    /// No answer came, or none that could be read: what was asked for may or may not have happened.
    #[error("{doing}: no answer from the kernel ({why})")]
    NoAnswer {
        /// What was being done.
        doing: String,
        /// What came instead.
        why: String,
    },
    /// It is there already, and should not be.
    #[error("{0}")]
    Exists(String),
    /// Something that someone else made stands there.
    #[error("{0}")]
    NotOurs(String),
    /// It is ours, but otherwise than configured, and may not be changed just so.
    #[error("{0}")]
    Differs(String),
    /// Another process is at the same work and does not get done.
    #[error("{0}")]
    Busy(String),
    /// Checked, and missing or changed.
    #[error("{0}")]
    Changed(String),
    /// The running kernel has no such feature.
    #[error("{0}")]
    Lacks(String),
    /// A file under /proc or a namespace's file.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

impl Error {
    /// Did the kernel answer `errno`?
    pub fn is(&self, errno: Errno) -> bool {
        matches!(self, Error::Refused { errno: got, .. } if *got == errno)
    }

    /// Refused for want of a privilege?
    pub fn is_permission(&self) -> bool {
        match self {
            Error::Refused { errno, .. } => matches!(errno, Errno::EPERM | Errno::EACCES),
            Error::File { source, .. } => source.kind() == std::io::ErrorKind::PermissionDenied,
            _ => false,
        }
    }

    /// An error at a file.
    pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::File { path: path.into(), source }
    }
}
