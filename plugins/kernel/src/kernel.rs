//! The two namespaces that an attachment spans, and a socket in each.
//!
//! Everything that works on the kernel is given a [`Kernel`]. The node's socket is opened at once, the Pod's when a
//! Pod is entered, nftables' when it is first needed.

use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::path::Path;

use crate::error::{Error, Result};
use crate::netlink::{NetfilterSocket, RouteSocket};
use crate::netns::Netns;

/// Which of the two namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum At {
    /// The node's: where the plugin was executed.
    Host,
    /// The Pod's.
    Pod,
}

/// The node's namespace, and the Pod's if one was entered.
#[derive(Debug)]
pub struct Kernel {
    host: RouteSocket,
    pod: Option<Pod>,
    netfilter: OnceCell<NetfilterSocket>,
    /// Indices already asked for: an object names its link, and several name the same.
    pub(crate) indices: RefCell<HashMap<(At, String), u32>>,
}

#[derive(Debug)]
struct Pod {
    netns: Netns,
    route: RouteSocket,
}

impl Kernel {
    /// Opens the node's socket.
    pub fn open() -> Result<Self> {
        let host = RouteSocket::open()?;
        Ok(Kernel { host, pod: None, netfilter: OnceCell::new(), indices: RefCell::default() })
    }

    /// Opens the Pod's namespace and a socket in it.
    pub fn enter_pod(&mut self, netns: &Path) -> Result<()> {
        let netns = Netns::open(netns)?;
        let route = netns.inside(RouteSocket::open)??;
        self.pod = Some(Pod { netns, route });
        Ok(())
    }

    /// The socket for links, addresses, routes and neighbors.
    ///
    /// # Panics
    /// For [`At::Pod`] before [`Kernel::enter_pod`]: a plan with objects in a Pod needs one.
    pub fn route(&self, at: At) -> &RouteSocket {
        match at {
            At::Host => &self.host,
            At::Pod => &self.pod().route,
        }
    }

    /// Does `job` with the thread in that namespace, for what goes by files: /proc/sys/net shows the reader's own.
    pub fn inside<T>(&self, at: At, job: impl FnOnce() -> T) -> Result<T> {
        match at {
            At::Host => Ok(job()),
            At::Pod => self.pod().netns.inside(job),
        }
    }

    /// The Pod's namespace, for messages that put something into it.
    pub fn pod_netns(&self) -> &Netns {
        &self.pod().netns
    }

    /// The node's nftables.
    pub fn netfilter(&self) -> Result<&NetfilterSocket> {
        if let Some(socket) = self.netfilter.get() {
            return Ok(socket);
        }
        let socket = NetfilterSocket::open()?;
        Ok(self.netfilter.get_or_init(|| socket))
    }

    fn pod(&self) -> &Pod {
        self.pod.as_ref().expect("a Pod was entered before its objects are touched")
    }
}

impl At {
    /// For error messages: where an object is.
    pub fn words(self) -> &'static str {
        match self {
            At::Host => "on the node",
            At::Pod => "in the Pod",
        }
    }
}

/// An object that was checked and is not as described.
pub fn changed(what: impl Into<String>) -> Error {
    Error::Changed(what.into())
}
