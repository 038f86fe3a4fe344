//! Plugins for tests: shell scripts in a directory of their own.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// A directory of executables, which leave notes of what they were given.
pub(crate) struct Scripts(tempfile::TempDir);

impl Scripts {
    pub(crate) fn new() -> Self {
        Scripts(tempfile::tempdir().expect("temporary directory"))
    }

    /// Makes the executable `name`. `$0.in`, `$0.env` and `$0.calls` are what it was given last, and each of its commands;
    /// then comes `script`, which may use them.
    pub(crate) fn add(&self, name: &str, script: &str) {
        let head = "#!/bin/sh\ncat > $0.in\nenv | grep ^CNI_ | LC_ALL=C sort > $0.env\necho $CNI_COMMAND >> $0.calls\n\
                    cp $0.in $0.in.$CNI_COMMAND\n";
        self.add_raw(name, &format!("{head}{script}\n"));
    }

    /// Makes the executable `name` with nothing but `text`.
    pub(crate) fn add_raw(&self, name: &str, text: &str) {
        let file = self.path().join(name);
        std::fs::write(&file, text).expect("write a script");
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).expect("make it executable");
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn cni_path(&self) -> Vec<PathBuf> {
        vec![self.path().to_owned()]
    }

    /// A note; empty if there is none.
    pub(crate) fn note(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap_or_default()
    }

    /// The commands that `name` was called with, in order.
    pub(crate) fn calls(&self, name: &str) -> Vec<String> {
        self.note(&format!("{name}.calls")).lines().map(str::to_owned).collect()
    }
}
