//! What a plugin prints about itself for people: introduction, help, and the table of its keys. The keys come from their
//! declaration ([`Level`]); `man.rs` and `schema.rs` print the same ones.

use std::fmt::Write as _;

use super::{About, Kind, Operator, Plugin};
use crate::keys::{Level, Row};
use crate::version::{self, Version};

/// The plugin that is written about.
pub struct Subject {
    pub about: About,
    pub kind: Kind,
    pub operator: Option<Operator>,
    pub keys: Level,
}

/// What `--help` fits on.
const SCREEN_LINES: usize = 40;
const SCREEN_COLUMNS: usize = 100;

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

    /// `--help`: a screen of it. The first keys are explained, those that have no room are named, and the example is left out first.
    pub fn help(&self) -> String {
        let name = self.about.name;
        let mut text = introduction(&self.about);
        if let Some(operator) = self.operator {
            let command = format!("{name} {} FILE.conflist [--dry-run]", operator.option);
            let _ = write!(text, "\nBy hand:\n{}", entry(&command, command.len(), operator.help));
        }
        let foot = format!(
            "\nLogs go to stderr; PODWIRE_LOG=debug shows more. Every key, and an example: the manual page,\n\
             {name} --man | man -l -. The same for programs: --schema (JSON Schema), --markdown.\n"
        );
        text.push_str("\nConfiguration (the default is false or none where no other is named):\n");
        let example = format!("\nExample:\n{}\n", self.about.example.trim());
        let room = SCREEN_LINES.saturating_sub(lines(&text) + lines(&foot));
        let keys = self.explained_keys(room);
        text.push_str(&keys);
        if lines(&keys) + lines(&example) <= room {
            text.push_str(&example);
        }
        text + &foot
    }

    /// The keys, explained while there is room for that many lines.
    pub(super) fn explained_keys(&self, room: usize) -> String {
        let rows = self.keys.rows();
        if rows.is_empty() {
            return format!("  {NO_KEYS}\n");
        }
        let width = rows.iter().map(|row| row.path.len()).max().unwrap_or(0);
        let explain = |row: &Row| match row.default.as_str() {
            "false" | "none" | "[]" => entry(&row.path, width, row.help),
            default => entry(&row.path, width, &format!("{} [default: {default}]", row.help)),
        };
        let explained: Vec<String> = rows.iter().map(explain).collect();
        let name_from = |at: usize| {
            let paths: Vec<&str> = rows[at..].iter().map(|row| row.path.as_str()).collect();
            if paths.is_empty() { String::new() } else { entry("Also:", 5, &paths.join(", ")) }
        };
        // The last of these has no key explained, and always fits.
        let with = |count: usize| explained[..count].concat() + &name_from(count);
        (0..=rows.len()).rev().map(with).find(|text| lines(text) <= room).unwrap_or_else(|| with(0))
    }

    /// `--markdown`: the keys as a table.
    pub fn markdown(&self) -> String {
        let rows = self.keys.rows();
        if rows.is_empty() {
            return format!("{NO_KEYS}\n");
        }
        // A bar ends a cell, and an angle bracket begins a tag of HTML.
        let cell = |text: &str| text.replace('|', "\\|").replace('<', "\\<");
        let mut table = "| Key | Default | What it does |\n|---|---|---|\n".to_owned();
        for row in &rows {
            let _ = writeln!(table, "| `{}` | {} | {} |", row.path, cell(&row.default), cell(row.help));
        }
        table
    }
}

fn lines(text: &str) -> usize {
    text.lines().count()
}

/// A term and what it means, as lines no longer than a screen: those after the first begin where the words of the first do.
fn entry(term: &str, width: usize, words: &str) -> String {
    let indent = width + 4;
    let mut text = format!("  {term:width$} ");
    let mut column = indent - 1;
    for word in words.split(' ') {
        let length = word.chars().count();
        if column + 1 + length > SCREEN_COLUMNS && column > indent {
            let _ = write!(text, "\n{:1$}", "", indent - 1);
            column = indent - 1;
        }
        let _ = write!(text, " {word}");
        column += 1 + length;
    }
    text + "\n"
}
