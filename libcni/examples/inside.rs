//! Entering a Pod's network namespace, as the book shows it: prints the interfaces in the namespace whose path is given.
//!
//! ```sh
//! sudo target/debug/examples/inside /run/netns/blue
//! ```

use nix::sched::{CloneFlags, setns};
use std::fs::File;

/// Runs `job` in the network namespace at `path`. Sockets that `job` opens stay there.
fn inside<T: Send>(path: &str, job: impl FnOnce() -> T + Send) -> std::io::Result<T> {
    let namespace = File::open(path)?;
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET)?;
            Ok(job())
        });
        thread.join().expect("the job does not panic")
    })
}

fn main() -> std::io::Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| "/proc/self/ns/net".into());
    // /proc/self/net is the process's; a thread has its own.
    print!("{}", inside(&path, || std::fs::read_to_string("/proc/thread-self/net/dev"))??);
    Ok(())
}
