//! Debian's reference plugins (package containernetworking-plugins) in the suite: what is recorded still holds.
//!
//! Each recorded difference was looked into by hand: docs/src/conformance/results.md says what it is. The record is of version 1.1.1 of the
//! plugins; another version is not judged.

mod suite;

use std::path::Path;
use std::process::Command;

use conformance::lab::REFERENCE_DIR;

/// The version whose results are recorded.
const RECORDED: &str = "1.1.1";

#[test]
fn what_is_recorded_of_debians_plugins_holds() {
    let version = Command::new("dpkg-query").args(["-W", "-f", "${Version}", "containernetworking-plugins"]).output();
    let version = version.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    if !version.starts_with(RECORDED) {
        eprintln!("skipped: containernetworking-plugins {RECORDED} is recorded, here is {version:?}");
        return;
    }
    suite::holds(suite::configs("debian"), &[Path::new(REFERENCE_DIR).to_owned()], "debian.json");
}
