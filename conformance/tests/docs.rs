//! README.md, the book in `docs/src` and the other Markdown files say what is true: links and anchors lead somewhere, key
//! tables are the plugins' own, every error code is explained, and pictures are drawn from their sources.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use conformance::lab::bin_dir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(name: impl AsRef<Path>) -> String {
    std::fs::read_to_string(root().join(&name)).unwrap_or_else(|error| panic!("{:?}: {error}", name.as_ref()))
}

/// The files below a folder of the repository that end in `suffix`, by their paths in it.
fn files(folder: &str, suffix: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from(folder)];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(root().join(&folder)).unwrap() {
            let name = entry.unwrap().file_name();
            let path = folder.join(&name);
            let name = name.to_string_lossy().into_owned();
            if root().join(&path).is_dir() {
                if name != "target" && name != "node_modules" && !name.starts_with(".git") {
                    folders.push(path);
                }
            } else if name.ends_with(suffix) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

/// Every folder of plugins/ and ipam/ with a main of its own, as install.sh finds them.
fn plugins() -> Vec<String> {
    let mut names = Vec::new();
    for parent in ["plugins", "ipam"] {
        for entry in std::fs::read_dir(root().join(parent)).unwrap() {
            let path = entry.unwrap().path();
            if path.join("src/main.rs").exists() {
                names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    assert!(names.len() >= 3, "{names:?}");
    names
}

/// What `plugin option` prints.
fn printed(plugin: &str, option: &str) -> String {
    let output = Command::new(bin_dir().join(plugin)).arg(option).output().expect("build the workspace first");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_plugin_has_a_page_with_its_keys() {
    for plugin in plugins() {
        let page = format!("docs/src/plugins/{plugin}.md");
        let table = printed(&plugin, "--markdown");
        let text = read(&page);
        let keys = text.split(&format!("<!-- keys: {plugin} -->\n")).nth(1);
        let keys = keys.and_then(|rest| rest.split("<!-- end keys -->").next());
        let keys = keys.unwrap_or_else(|| panic!("{page} has no <!-- keys: {plugin} --> … <!-- end keys -->"));
        assert_eq!(keys, table, "{page} needs this table:\n\n{table}");
        for part in ["```json conflist\n", "\n## Keys\n", "\n## What differs"] {
            assert!(text.contains(part), "{page} has no {part:?}");
        }
        for list in ["README.md", "docs/src/plugins/overview.md"] {
            assert!(read(list).contains(&format!("| [{plugin}](")), "{list} does not list {plugin}");
        }
    }
}

#[test]
fn the_book_explains_every_error_code() {
    let page = read("docs/src/errors.md");
    // podwire never sends 3.
    for (code, words) in libcni::code::ALL.iter().filter(|(code, _)| *code != 3) {
        assert!(page.contains(&format!("\n| {code} | ")), "docs/src/errors.md has no row for {code}, {words}");
    }
}

#[test]
fn the_readme_is_a_page() {
    let lines = read("README.md").lines().count();
    assert!(lines <= 150, "README.md has {lines} lines: move something to the book");
}

/// A page's lines outside of code.
fn prose(text: &str) -> Vec<&str> {
    let mut in_code = false;
    text.lines()
        .filter(|line| {
            let is_fence = line.trim_start().starts_with("```");
            in_code ^= is_fence;
            !in_code && !is_fence
        })
        .collect()
}

/// The names by which a page's headings are linked to, as forges and mdBook make them.
fn anchors(text: &str) -> BTreeSet<String> {
    let headings = prose(text)
        .into_iter()
        .filter_map(|line| line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#')));
    let slug = |heading: &str| -> String {
        let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
        kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
    };
    headings.map(slug).collect()
}

/// The targets of a page's links and pictures.
fn links(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in prose(text) {
        // Not those in `code`.
        let visible: String = line.split('`').step_by(2).collect::<Vec<_>>().join("`");
        found.extend(visible.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0.to_owned())));
    }
    found
}

/// A path without `.` and `..`.
fn tidied(path: &Path) -> PathBuf {
    let mut tidy = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(tidy.pop(), "{path:?} leaves the repository"),
            Component::CurDir => {}
            other => tidy.push(other),
        }
    }
    tidy
}

#[test]
fn every_link_leads_somewhere() {
    let pages = files("", ".md");
    assert!(pages.len() > 30, "{pages:?}");
    let mut count = 0;
    for page in pages {
        let text = read(&page);
        for link in links(&text) {
            if link.contains("://") {
                continue;
            }
            let (target, anchor) = link.split_once('#').unwrap_or((&link, ""));
            let path = if target.is_empty() { page.clone() } else { tidied(&page.parent().unwrap().join(target)) };
            assert!(root().join(&path).exists(), "{page:?} links to {link}, which does not exist");
            if page.starts_with("docs") {
                assert!(path.starts_with("docs/src"), "{page:?} links to {link}, which is not in the book");
            }
            if !anchor.is_empty() {
                let there = anchors(&read(&path));
                assert!(there.contains(anchor), "{page:?} links to {link}; {path:?} has {there:?}");
            }
            count += 1;
        }
    }
    assert!(count > 150, "only {count} links are found");
}

#[test]
fn every_page_is_in_the_table_of_contents_once() {
    let summary = links(&read("docs/src/SUMMARY.md"));
    let listed: BTreeSet<PathBuf> = summary.iter().map(|link| Path::new("docs/src").join(link)).collect();
    assert_eq!(listed.len(), summary.len(), "a page is listed twice");
    let pages = files("docs/src", ".md").into_iter().filter(|page| !page.ends_with("SUMMARY.md"));
    assert_eq!(pages.collect::<BTreeSet<_>>(), listed);
}

/// The words in a picture's source: what stands in `label="…"`.
fn labels(source: &str) -> Vec<String> {
    let labels = source.split("label=\"").skip(1).filter_map(|rest| rest.split('"').next());
    labels.flat_map(|label| label.split("\\n").map(|line| line.trim().to_owned())).collect()
}

#[test]
fn every_picture_is_drawn_from_its_source() {
    let sources = files("docs/src/img", ".dot");
    assert!(sources.len() >= 5, "{sources:?}");
    for source in sources {
        let picture = source.with_extension("svg");
        let drawn = read(&picture).replace("&#45;", "-").replace("&amp;", "&").replace("&#39;", "'");
        for label in labels(&read(&source)) {
            assert!(drawn.contains(&label), "{picture:?} has no {label:?}: run docs/src/img/draw.sh");
        }
    }
}

/// Programs in the book are examples of libcni, so that they are built.
#[test]
fn every_program_in_the_book_is_an_example_that_is_built() {
    let examples: Vec<String> = files("libcni/examples", ".rs").iter().map(read).collect();
    let mut count = 0;
    for page in files("docs/src", ".md") {
        for block in read(&page).split("\n```rust\n").skip(1) {
            let program = block.split("\n```").next().unwrap();
            assert!(
                examples.iter().any(|example| example.contains(program)),
                "{page:?}: not in libcni/examples: {program}"
            );
            count += 1;
        }
    }
    assert!(count >= 2, "{count}");
    let (workspace, page) = (read("Cargo.toml"), read("docs/src/conformance/your-plugin.md"));
    for key in ["edition = ", "rust-version = "] {
        let line = workspace.lines().find(|line| line.starts_with(key)).unwrap();
        assert!(page.contains(line), "docs/src/conformance/your-plugin.md has another {line}");
    }
}
