//! The blocks of commands, configurations and output in README.md and the book (`docs/src`), to be run as they are written.
//!
//! The first words after a block's three backticks say what a test does with it:
//!
//! | Words | What it is |
//! |---|---|
//! | `json conflist` | a network configuration list; a test wires Pods with it |
//! | `json file=PATH` | what the file PATH contains |
//! | `console run` | commands, each after `# `, and their output, which a test compares |
//!
//! In output, `…` stands for anything within a line, and alone on a line for any number of lines.

use std::path::{Path, PathBuf};

/// A block between three backticks.
#[derive(Clone, Debug)]
pub struct Block {
    /// What comes after the first three backticks: `json conflist`.
    pub info: String,
    /// Its lines, without the indentation that the block itself has.
    pub text: String,
}

/// A command of a `console` block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The command.
    pub command: String,
    /// The output that the book shows, line by line.
    pub output: Vec<String>,
}

/// The repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// README.md or a page of the book: `docs/src/wiring.md`.
#[track_caller]
pub fn read(page: &str) -> String {
    std::fs::read_to_string(root().join(page)).unwrap_or_else(|error| panic!("{page}: {error}"))
}

/// README.md and every page of the book, by their paths in the repository.
pub fn pages() -> Vec<String> {
    let mut pages = vec!["README.md".to_owned()];
    let mut folders = vec![PathBuf::from("docs/src")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).expect("the book's folder") {
            let entry = entry.expect("an entry of the book's folder");
            let path = folder.join(entry.file_name());
            if entry.path().is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                pages.push(path.display().to_string());
            }
        }
    }
    pages.sort();
    pages
}

/// The blocks of a page, in order.
pub fn blocks(page: &str) -> Vec<Block> {
    let text = read(page);
    let mut blocks = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let Some(info) = line.trim_start().strip_prefix("```") else { continue };
        let indentation = line.len() - line.trim_start().len();
        let inside = lines.by_ref().take_while(|line| line.trim() != "```");
        let text = inside.map(|line| line.get(indentation..).unwrap_or_default().to_owned() + "\n").collect();
        blocks.push(Block { info: info.to_owned(), text });
    }
    blocks
}

/// The first block of a page that contains `words`.
#[track_caller]
pub fn block(page: &str, words: &str) -> String {
    let found = blocks(page).into_iter().find(|block| block.text.contains(words));
    found.unwrap_or_else(|| panic!("{page} has no block with {words:?}")).text
}

/// The commands of a `console` block, with the output that it shows for each.
pub fn steps(block: &Block) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for line in block.text.lines() {
        match line.strip_prefix("# ") {
            Some(command) => steps.push(Step { command: command.to_owned(), output: Vec::new() }),
            None => steps.last_mut().expect("a block starts with a command").output.push(line.to_owned()),
        }
    }
    steps
}

/// Is `output` what a book shows as `shown`?
pub fn is_shown(shown: &[String], output: &[&str]) -> bool {
    match shown.split_first() {
        None => output.is_empty(),
        Some((first, rest)) if first == "…" => (0..=output.len()).any(|at| is_shown(rest, &output[at..])),
        Some((first, rest)) => {
            output.split_first().is_some_and(|(line, others)| fits(first, line) && is_shown(rest, others))
        }
    }
}

/// Does a line fit a pattern in which `…` stands for anything? Columns may be wider or narrower.
fn fits(pattern: &str, line: &str) -> bool {
    let words = |text: &str| text.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let indentation = |text: &str| text.len() - text.trim_start().len();
    indentation(pattern) == indentation(line) && fits_words(&words(pattern), &words(line))
}

fn fits_words(pattern: &str, line: &str) -> bool {
    match pattern.split_once('…') {
        None => pattern == line,
        Some((before, after)) => line.strip_prefix(before).is_some_and(|rest| {
            let mut places = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
            places.any(|at| fits_words(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_fits_where_only_what_is_left_out_differs() {
        let shown = ["veth… up …", "…", "end"].map(str::to_owned);
        assert!(is_shown(&shown, &["vethabc up 1500", "end"]));
        assert!(is_shown(&shown, &["vethabc  up 9", "one", "two", "end"]));
        assert!(!is_shown(&shown, &["vethabc down 1500", "end"]));
        assert!(!is_shown(&shown, &["vethabc up 1500", "one"]));
        assert!(!is_shown(&[], &["something"]));
    }
}
