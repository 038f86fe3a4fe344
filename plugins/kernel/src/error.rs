//! What can go wrong with the kernel, told by kind: a caller answers each kind with a code of its own.

use std::path::PathBuf;

use nix::errno::Errno;

use crate::kernel::{At, Kernel};

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
    /// IPv6 is switched off on a link, by a setting.
    #[error(
        "IPv6 is switched off on interface {link:?} {} ({setting} is 1): set it to 0 (`sysctl -w {setting}=0`), or do \
         without IPv6 addresses and routes there",
        at.words(), setting = crate::sysctl::spoken(&crate::sysctl::ipv6_switch(link))
    )]
    Ipv6Off {
        /// Where the link is.
        at: At,
        /// Its name.
        link: String,
    },
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

    /// The same; of an object that is missing or changed, with what brings it back, unless a command for that (in backticks) is in
    /// the words.
    pub fn with_remedy(self, remedy: &str) -> Self {
        match self {
            Error::Changed(words) if !remedy.is_empty() && !words.contains('`') => {
                Error::Changed(format!("{words}: {remedy}"))
            }
            other => other,
        }
    }

    /// Refused because the process lacks a privilege? The kernel's routing answers EPERM for that; EACCES, and EPERM with
    /// these words, means that IPv6 is switched off.
    pub fn is_permission(&self) -> bool {
        match self {
            Error::Refused { errno, said, .. } => *errno == Errno::EPERM && !said.contains("IPv6"),
            Error::File { source, .. } => source.kind() == std::io::ErrorKind::PermissionDenied,
            _ => false,
        }
    }

    /// What `error` means on that link: EACCES for an IPv6 address or route says that IPv6 is switched off there
    /// (`addrconf_add_dev` of net/ipv6/addrconf.c, `fib6_nh_init` of net/ipv6/route.c).
    pub(crate) fn on_link(self, kernel: &Kernel, at: At, link: &str) -> Error {
        match self.is(Errno::EACCES) && crate::sysctl::ipv6_is_off(kernel, at, link) {
            true => Error::Ipv6Off { at, link: link.to_owned() },
            false => self,
        }
    }

    /// An error at a file.
    pub fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Error {
        move |source| Error::File { path: path.into(), source }
    }
}
