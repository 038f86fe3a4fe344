//! What a plugin prints about itself for people: introduction, help, and the table of its keys. The keys come from their
//! declaration ([`Level`]); `man.rs` and `schema.rs` print the same ones.

use std::fmt::Write as _;

use super::{About, Kind, Operator, Plugin};
use crate::keys::Level;
use crate::version::{self, Version};

/// The plugin that is written about.
pub struct Subject {
    pub about: About,
    pub kind: Kind,
    pub operator: Option<Operator>,
    pub keys: Level,
}

/// What stands instead of a table without rows.
pub const NO_KEYS: &str = "There is nothing to configure.";

/// For a person who executes the plugin as if it were a command.
pub fn introduction(about: &About) -> String {
    format!(
        "{name} {version}: {summary}\n\
         A CNI plugin: a container runtime executes it with CNI_COMMAND and other variables set, and a\n\
         network configuration on stdin. By hand: cnitool. More: {name} --help\n\
         CNI spec versions: {versions}\n",
        name = about.name,
        version = about.version,
        summary = about.summary,
        versions = version::list(&Version::ALL),
    )
}

impl Subject {
    /// About this plugin.
    pub fn of<P: Plugin>() -> Self {
        Subject { about: P::ABOUT, kind: P::KIND, operator: P::OPERATOR, keys: Level::of::<P::Config>() }
    }

    /// `--help`.
    pub fn help(&self) -> String {
        let Subject { about, operator, .. } = self;
        let mut text = introduction(about);
        if let Some(operator) = operator {
            let _ = write!(
                text,
                "\nBy hand:\n  {} {} FILE.conflist [--dry-run]  {}\n",
                about.name, operator.option, operator.help
            );
        }
        text.push_str("\nConfiguration:\n");
        let rows = self.keys.rows();
        let width = rows.iter().map(|row| row.path.len()).max().unwrap_or(0);
        for row in &rows {
            let _ = writeln!(text, "  {:width$}  {} [default: {}]", row.path, row.help, row.default);
        }
        if rows.is_empty() {
            let _ = writeln!(text, "  {NO_KEYS}");
        }
        let _ = write!(
            text,
            "\nExample:\n{}\n\nLogs go to stderr; PODWIRE_LOG=debug shows more.\n\
             The same elsewhere: --man (a manual page: {} --man | man -l -), --schema (JSON Schema), --markdown.\n",
            about.example.trim(),
            about.name
        );
        text
    }

    /// `--markdown`: the keys as a table.
    pub fn markdown(&self) -> String {
        let rows = self.keys.rows();
        if rows.is_empty() {
            return format!("{NO_KEYS}\n");
        }
        let cell = |text: &str| text.replace('|', "\\|");
        let mut table = "| Key | Default | What it does |\n|---|---|---|\n".to_owned();
        for row in &rows {
            let _ = writeln!(table, "| `{}` | {} | {} |", row.path, cell(&row.default), cell(row.help));
        }
        table
    }
}
