//! Plugins called by the programs that people run.
//!
//! A [`machine::Machine`] is a node with files of its own: there a private containerd or podman runs with the paths everybody
//! uses, and plugins lie in `/opt/cni/bin`. A crate apart from the suite, which needs none of what talks to containerd.
#![warn(missing_docs)]

pub mod book;
pub mod containerd;
pub mod cri;
pub mod machine;
