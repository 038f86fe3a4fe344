//! Two sets of plugins, measured side by side: what `cni-bench` does.
//!
//! A [`workload::Workload`] says which plugins are executed for how many Pods. Each set has a node of its own, and they
//! take turns in one run (A B A B), so that what the machine does besides falls on both. Beside them stands the *floor*
//! ([`floor`]): the netlink messages that the kernel needs in any case, sent by a process that is already running, and
//! two executions of an empty program.
//!
//! * [`measure`]: one execution, timed and weighed.
//! * [`series`]: the Pods of a workload, one after another or many at a time.
//! * [`run`]: both sets and the floor in turn.
//! * [`host_local`]: stores with many addresses taken.
//! * [`map`]: node maps, beside an ADD and to be followed.
//! * [`wires`]: what goes through a wire once it is there, on one node; [`across`]: across two.
//! * [`report`], [`chart`]: the numbers as text, JSON and SVG.

pub mod across;
pub mod chart;
pub mod floor;
pub mod host_local;
pub mod map;
pub mod measure;
pub mod report;
pub mod run;
pub mod series;
pub mod wires;
pub mod workload;

use std::path::PathBuf;

/// A set of plugins.
#[derive(Clone, Debug)]
pub struct Set {
    /// What the report calls it.
    pub label: String,
    /// Where its executables are.
    pub directory: PathBuf,
    /// CNI_PATH: its own directory first, then the other's, for plugins that only one set has (`portmap`).
    pub path: Vec<PathBuf>,
}

impl Set {
    /// The executable `name` in the first directory that has it.
    pub fn find(&self, name: &str) -> Result<PathBuf, String> {
        let mut candidates = self.path.iter().map(|directory| directory.join(name));
        candidates.find(|path| path.is_file()).ok_or_else(|| format!("no plugin {name:?} in {:?}", self.path))
    }

    /// Has this set itself, not only the other one, a plugin of that name?
    pub fn has(&self, name: &str) -> bool {
        self.directory.join(name).is_file()
    }

    /// CNI_PATH as one string.
    pub fn cni_path(&self) -> String {
        self.path.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(":")
    }
}
