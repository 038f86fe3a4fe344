//! What can go wrong with the kernel, told by kind: a caller answers each kind with a code of its own.

use std::path::PathBuf;

use nix::errno::Errno;

use crate::kernel::At;

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
    /// An interface of that name exists already.
    #[error("interface {name:?} exists already {}", at.words())]
    Exists {
        /// The interface.
        name: String,
        /// Where.
        at: At,
    },
    /// An object that another program made is in the way.
    #[error("{0}")]
    NotOurs(String),
    /// The object is the caller's, differs from what is wanted, and must not be changed without being asked.
    #[error("{0}")]
    Differs(String),
    /// Another process has been at the same work for too long.
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

    /// Refused because the process lacks a privilege?
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
