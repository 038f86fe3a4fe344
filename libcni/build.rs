//! Which commit this is, for `--version`: `LIBCNI_COMMIT`. In this order it comes from
//!
//! * `PODWIRE_COMMIT`, which podwire's own scripts and packagers set (`.ci/build.sh`);
//! * `.cargo_vcs_info.json`, which `cargo package` writes into the published crate;
//! * git, if the crate lies in a clone;
//! * `.ci/commit`, which `git archive` fills in.
//!
//! Only an optimized build has one. In a debug build nothing is compiled again because something was committed.

#![expect(clippy::disallowed_methods, reason = "runs in the build: cargo tells it by variables, and it asks git")]

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=PODWIRE_COMMIT");
    if env::var("PROFILE").as_deref() != Ok("release") {
        return;
    }
    let given = env::var("PODWIRE_COMMIT").ok().filter(|commit| !commit.is_empty());
    if let Some(commit) = given.or_else(published).or_else(cloned).or_else(archived) {
        println!("cargo::rustc-env=LIBCNI_COMMIT={commit}");
    }
}

/// The crate as `cargo package` packs it.
fn published() -> Option<String> {
    let file = ".cargo_vcs_info.json";
    let text = std::fs::read_to_string(file).ok()?;
    println!("cargo::rerun-if-changed={file}");
    short(text.split("\"sha1\"").nth(1)?.split('"').nth(1)?)
}

/// A clone of the repository; not another one that the crate was unpacked in.
fn cloned() -> Option<String> {
    if !Path::new("../.git").exists() {
        return None;
    }
    for file in ["HEAD", "logs/HEAD"] {
        if let Some(path) = git(&["rev-parse", "--git-path", file]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    short(&git(&["rev-parse", "HEAD"])?)
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}

/// What `git archive` has packed: a hash and a time. In a clone the file has a placeholder.
fn archived() -> Option<String> {
    let file = "../.ci/commit";
    let text = std::fs::read_to_string(file).ok()?;
    println!("cargo::rerun-if-changed={file}");
    short(text.split_whitespace().next()?)
}

/// The first twelve digits of a hash, as `git log --abbrev=12` shows it.
fn short(hash: &str) -> Option<String> {
    let is_hash = hash.len() >= 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| hash[..12].to_owned())
}
