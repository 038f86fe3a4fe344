//! README.md says what the plugins say: their keys as `--help` has them, and every error code of ours.

use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::lab::bin_dir;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(name: &str) -> String {
    std::fs::read_to_string(root().join(name)).unwrap()
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

/// The keys of `plugin --help` as the table that README has to hold.
fn table(plugin: &str) -> String {
    let output = Command::new(bin_dir().join(plugin)).arg("--help").output().expect("build the workspace first");
    let help = String::from_utf8(output.stdout).unwrap();
    let keys = help.split("\nConfiguration:\n").nth(1).unwrap().split("\n\n").next().unwrap();
    let mut table = "| Key | Default | What it does |\n|---|---|---|\n".to_owned();
    for line in keys.lines() {
        let (key, rest) = line.trim().split_once(' ').unwrap();
        let (words, default) = rest.trim().rsplit_once(" [default: ").unwrap();
        let default = default.strip_suffix(']').unwrap();
        table += &format!("| `{key}` | {} | {} |\n", default.replace('|', "\\|"), words.replace('|', "\\|"));
    }
    table
}

#[test]
fn the_readme_has_every_plugins_keys_as_its_help_has_them() {
    let readme = read("README.md");
    for plugin in plugins() {
        let table = table(&plugin);
        let section = readme.split(&format!("\n### {plugin}\n")).nth(1);
        let section = section.unwrap_or_else(|| panic!("README.md has no section \"### {plugin}\""));
        let section = section.split("\n### ").next().unwrap();
        assert!(section.contains(&table), "README.md, section {plugin}, needs this table:\n\n{table}");
    }
}

#[test]
fn the_readme_has_every_error_code_of_ours() {
    let readme = read("README.md");
    let source = read("libcni/src/error.rs");
    let mut count = 0;
    for line in source.lines().filter_map(|line| line.trim().strip_prefix("pub const ")) {
        let code: u32 = line.split(" = ").nth(1).unwrap().trim_end_matches(';').parse().unwrap();
        if code >= 100 {
            assert!(readme.contains(&format!("\n| {code} | ")), "README.md does not explain code {code}: {line}");
            count += 1;
        }
    }
    assert!(count >= 7, "codes are no longer found in libcni/src/error.rs");
}

#[test]
fn the_readmes_links_lead_somewhere() {
    for file in ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let text = read(file);
        for link in text.split("](").skip(1) {
            let target = link.split([')', '#']).next().unwrap();
            if !target.is_empty() && !target.contains("://") {
                assert!(root().join(target).exists(), "{file} links to {target}, which is not there");
            }
        }
    }
}
