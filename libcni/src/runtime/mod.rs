//! The runtime's side: load configurations, run chains of plugins, remember results (spec section 3).
//!
//! ```no_run
//! use libcni::runtime::{NetworkList, Parameters, Runtime};
//! # fn main() -> Result<(), libcni::Error> {
//! let runtime = Runtime::new(["/opt/cni/bin"]);
//! let list = NetworkList::load("/etc/cni/net.d".as_ref(), "dbnet")?;
//!
//! // The namespace is the runtime's to make: here `ip netns add blue` did it.
//! let mut pod = Parameters::new("7f2a90", "eth0", "/run/netns/blue");
//! pod.capability_args.insert("mac".to_owned(), "0a:58:0a:01:00:05".into());
//!
//! let added = runtime.add(&list, &pod);
//! if let Ok(result) = &added {
//!     println!("{} is ready with {:?}", pod.id, result.ips);
//!     runtime.check(&list, &pod)?;
//! }
//! // Every ADD is followed by a DEL in the end, one that failed too.
//! runtime.del(&list, &pod)?;
//! added.map(drop)
//! # }
//! ```
//!
//! * [`NetworkList`] is a network: read from a directory, with the version that is spoken.
//! * [`Runtime`] runs its plugins for one attachment ([`Parameters`]): ADD, CHECK, DEL, or for the whole network: GC,
//!   STATUS. The plugins' stderr is this process's.
//! * [`Cache`] remembers each ADD's result, which CHECK and DEL need, in the Go libcni's files: a Pod that containerd
//!   added can be removed here, and the other way round.
//!
//! An error of a plugin comes back with its own code, message and details, the latter with the plugin's type in front.

mod cache;
mod chain;
mod folder;
mod list;
mod request;

pub use cache::{Cache, Cached};
pub use chain::{Parameters, Runtime};
pub use list::{NetworkList, PluginConfig};
