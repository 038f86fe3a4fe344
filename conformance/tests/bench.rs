//! `cni-bench` as a command: what it leaves behind when somebody ends it.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use conformance::lab::bin_dir;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The namespaces that the process made.
fn namespaces(process: u32) -> usize {
    let own = format!("pw-{process}-");
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&own)).count()
}

#[test]
fn interrupted_in_the_middle_it_takes_its_namespaces_and_files_along() {
    let plugins = bin_dir();
    let files = tempfile::tempdir().unwrap();
    let mut bench = Command::new(plugins.join("cni-bench"))
        .args(["--bin-dir".as_ref(), plugins.as_os_str(), "--against".as_ref(), plugins.as_os_str()])
        .args(["--only", "16 at a time"])
        .env("TMPDIR", files.path())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let process = bench.id();
    let give_up = Instant::now() + Duration::from_secs(60);
    while namespaces(process) < 20 {
        assert!(bench.try_wait().unwrap().is_none() && Instant::now() < give_up, "it makes no namespaces");
        std::thread::sleep(Duration::from_millis(10));
    }
    kill(Pid::from_raw(process as i32), Signal::SIGTERM).unwrap();
    let ended = bench.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!(ended.status.code(), Some(128 + Signal::SIGTERM as i32), "{said}");
    assert!(said.trim_end().ends_with("interrupted: removing what was made"), "{said}");
    assert_eq!(namespaces(process), 0);
    assert_eq!(std::fs::read_dir(files.path()).unwrap().count(), 0);
}
