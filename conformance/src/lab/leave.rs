//! A program that makes namespaces takes them along when a signal ends it.

use std::io::{Error, Result};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::signal::{SigSet, Signal};
use tempfile::TempDir;

use super::locked;

/// From here on SIGINT, SIGTERM and SIGHUP end this process only when its [`Netns`](super::Netns), what runs in them
/// and its temporary files are gone; the exit status is a shell's for that signal. SIGKILL leaves all of it.
///
/// To be called before the process has a second thread, for threads inherit which signals are waited for. The
/// temporary files made from here on are in the directory returned, and go with it.
pub fn nothing_behind() -> Result<TempDir> {
    if !nix::unistd::geteuid().is_root() {
        return Err(Error::other("it makes network namespaces, which takes root: run it with sudo"));
    }
    let files = tempfile::Builder::new().prefix("podwire-").tempdir()?;
    tempfile::env::override_temp_dir(files.path()).map_err(|_| Error::other("temporary files are elsewhere"))?;
    let signals: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
    signals.thread_block()?;
    let directory = files.path().to_owned();
    std::thread::spawn(move || {
        let signal = signals.wait();
        IS_UNDER_WAY.store(true, Ordering::SeqCst);
        // What the others meet with from here on is our doing.
        std::panic::set_hook(Box::new(|_| hold()));
        eprintln!("\ninterrupted: removing what was made");
        // Whoever is about to make a namespace waits for ever.
        locked(|| {
            namespaces().iter().for_each(|name| remove(name));
            let _ = std::fs::remove_dir_all(&directory);
            std::process::exit(128 + signal.map_or(0, |signal| signal as i32));
        })
    });
    Ok(files)
}

static IS_UNDER_WAY: AtomicBool = AtomicBool::new(false);

/// Does not return if the process is being ended by a signal: an error is not worth a word then.
pub fn hold() {
    while IS_UNDER_WAY.load(Ordering::SeqCst) {
        std::thread::park();
    }
}

/// Those of this process.
fn namespaces() -> Vec<String> {
    let own = format!("pw-{}-", std::process::id());
    let entries = std::fs::read_dir("/run/netns").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name.starts_with(&own)).collect()
}

fn remove(name: &str) {
    let run = |arguments: &[&str]| Command::new("ip").args(arguments).output();
    if let Ok(pids) = run(&["netns", "pids", name]) {
        let pids = String::from_utf8_lossy(&pids.stdout).into_owned();
        let pids: Vec<_> = pids.split_whitespace().collect();
        if !pids.is_empty() {
            let _ = Command::new("kill").arg("-KILL").args(pids).output();
        }
    }
    let _ = run(&["netns", "del", name]);
}
