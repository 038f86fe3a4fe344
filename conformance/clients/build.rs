//! Builds the one program of the tests' container image: static, so that the image holds nothing else.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=image/pod.rs");
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("cargo sets {name}"));
    let program = PathBuf::from(variable("OUT_DIR")).join("pod");
    let built = Command::new(variable("RUSTC"))
        .args(["--edition", "2024", "-O", "-C", "target-feature=+crt-static", "-C", "strip=symbols"])
        .args(["--target", &variable("TARGET"), "image/pod.rs", "-o"])
        .arg(&program)
        .status();
    assert!(built.is_ok_and(|status| status.success()), "rustc could not build image/pod.rs");
    println!("cargo::rustc-env=POD_PROGRAM={}", program.display());
}
