//! The previous release's binaries, built from the repository's own history.
//!
//! Recorded state (a script of `ip` and `nft`, and store files) would need no build, but it would be one more description of
//! what that release did, which nobody could check, and it could not show that the previous release removes what this one
//! made. So its commit is unpacked and built without optimization, once for each machine: a minute on two cores. What is
//! built is kept in the user's cache directory, by the commit's name.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use fs2::FileExt;

/// The last commit of the previous release.
const COMMIT: &str = "897b025bd5f34063036d322ca529931bd5463f3d";

/// What is built of it.
const PLUGINS: [&str; 4] = ["bridge", "routed-veth", "vxlan-overlay", "host-local"];

/// The directory that has the binaries. `None`, with the reason printed, where they can't be had.
pub fn directory() -> Option<&'static Path> {
    static DIRECTORY: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    match DIRECTORY.get_or_init(obtain) {
        Ok(directory) => Some(directory),
        Err(why) => {
            println!("skipped: {why}");
            None
        }
    }
}

/// The directory, or why it can't be had here. Whoever comes while another process builds waits for it.
fn obtain() -> Result<PathBuf, String> {
    let cache = cache().join(&COMMIT[..7]);
    fs::create_dir_all(&cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    let lock = File::create(cache.join("lock")).expect("create a lock");
    lock.lock_exclusive().expect("lock");
    let binaries = cache.join("bin");
    if !binaries.exists() {
        let work = tempfile::tempdir_in(&cache).expect("temporary directory");
        unpack(work.path())?;
        fetch(work.path())?;
        build(work.path());
        // As a whole, so that a build that was killed leaves no half of it.
        fs::rename(gather(work.path()), &binaries).expect("put the binaries in place");
    }
    Ok(binaries)
}

fn cache() -> PathBuf {
    let of_home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    cache.or_else(of_home).unwrap_or_else(std::env::temp_dir).join("podwire/previous")
}

/// The commit's files. A shallow clone or an archive of the sources does not have it.
fn unpack(place: &Path) -> Result<(), String> {
    let repository = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let mut git = Command::new("git");
    // Root runs the tests in another user's checkout.
    git.args(["-c", "safe.directory=*", "-C", repository, "archive", COMMIT])
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut git = git.spawn().map_err(|error| format!("git, for the previous release: {error}"))?;
    let source = place.join("source");
    fs::create_dir(&source).expect("create a directory");
    let files = git.stdout.take().expect("piped");
    let unpacked = Command::new("tar").arg("-xC").arg(&source).stdin(files).stderr(Stdio::null()).status();
    let is_known = git.wait().expect("wait for git").success();
    match is_known && unpacked.is_ok_and(|status| status.success()) {
        true => Ok(()),
        false => Err(format!("commit {COMMIT}, the previous release, is not in this checkout's git history")),
    }
}

fn cargo(place: &Path, arguments: &[&str]) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| env!("CARGO").into()));
    cargo.current_dir(place.join("source")).args(arguments).arg("--locked").stdin(Stdio::null());
    for name in ["CARGO_TARGET_DIR", "CARGO_BUILD_TARGET_DIR", "CARGO_BUILD_TARGET"] {
        cargo.env_remove(name);
    }
    cargo
}

/// The crates that it needs, which may be others than today's.
fn fetch(place: &Path) -> Result<(), String> {
    let output = cargo(place, &["fetch"]).output().map_err(|error| format!("cargo: {error}"))?;
    let words = String::from_utf8_lossy(&output.stderr);
    if output.status.success() { Ok(()) } else { Err(format!("no crates of the previous release: {}", words.trim())) }
}

fn build(place: &Path) {
    let mut cargo = cargo(place, &["build"]);
    cargo.args(PLUGINS.iter().flat_map(|plugin| ["-p", plugin]));
    cargo.args(["--config", "profile.dev.opt-level=0", "--config", "profile.dev.debug=false"]);
    let output = cargo.output().expect("run cargo");
    assert!(output.status.success(), "building the previous release: {}", String::from_utf8_lossy(&output.stderr));
}

/// The binaries, apart from everything else that cargo made.
fn gather(place: &Path) -> PathBuf {
    let binaries = place.join("bin");
    fs::create_dir(&binaries).expect("create a directory");
    for plugin in PLUGINS {
        let built = place.join("source/target/debug").join(plugin);
        fs::copy(&built, binaries.join(plugin)).unwrap_or_else(|error| panic!("{}: {error}", built.display()));
    }
    binaries
}
