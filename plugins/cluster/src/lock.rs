//! The lock that a process holds while it changes the objects that a network's Pods on this node share.
//!
//! The lock is a listening socket with an abstract name: such names belong to the network namespace, so two nodes never
//! wait for each other, and the kernel frees the name when its holder ends, however it ends. A process that finds the
//! name taken connects to it and waits until the connection breaks, which is when the holder is done. If that takes too
//! long, the connection tells which process the holder is.

use std::io::{ErrorKind, Read};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::time::{Duration, Instant};

use nix::sys::socket::{getsockopt, sockopt};

use kernel::{Error, Result};

use crate::tag::NetworkTag;

/// Longer than any holder needs, even with thousands of nodes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Held until dropped.
#[derive(Debug)]
pub struct Lock {
    _listener: UnixListener,
}

impl Lock {
    /// Takes the lock of a network in the namespace this thread is in. [`Error::Busy`] if its holder keeps it too long.
    pub fn take(network: NetworkTag) -> Result<Self> {
        Lock::take_within(&format!("podwire-{network}"), PATIENCE)
    }

    fn take_within(name: &str, patience: Duration) -> Result<Self> {
        let failed = Error::file(format!("@{name}"));
        let address = match SocketAddr::from_abstract_name(name) {
            Ok(address) => address,
            Err(error) => return Err(failed(error)),
        };
        let end = Instant::now() + patience;
        let mut holder = None;
        loop {
            match UnixListener::bind_addr(&address) {
                Ok(listener) => return Ok(Lock { _listener: listener }),
                Err(error) if error.kind() != ErrorKind::AddrInUse => return Err(failed(error)),
                Err(_) => {}
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let words = format!(
                    "{} has been changing this network for {} s and has not finished (it holds the abstract socket @{name})",
                    holder.unwrap_or_else(|| "another process".to_owned()),
                    patience.as_secs()
                );
                return Err(Error::Busy(words));
            }
            holder = wait_for_holder(&address, left).or(holder);
        }
    }
}

/// Returns when the holder is gone or time is up, with the holder's process in words. If the holder is gone already, or too
/// many processes wait for it, this returns after a moment: then the name is tried again.
fn wait_for_holder(address: &SocketAddr, patience: Duration) -> Option<String> {
    const MOMENT: Duration = Duration::from_millis(2);
    match UnixStream::connect_addr(address) {
        Ok(mut connection) => {
            let _ = connection.set_read_timeout(Some(patience));
            let _ = connection.read(&mut [0]);
            process_behind(&connection)
        }
        Err(_) => {
            std::thread::sleep(MOMENT);
            None
        }
    }
}

/// The process that listens at the other end, if it can be seen from here.
fn process_behind(connection: &UnixStream) -> Option<String> {
    let pid = getsockopt(connection, sockopt::PeerCredentials).ok()?.pid();
    let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    Some(format!("process {pid} ({})", name.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_and_the_next_one_follows() {
        let name = format!("podwire-test-{}", std::process::id());
        let held = Lock::take_within(&name, PATIENCE).unwrap();
        let error = Lock::take_within(&name, Duration::from_millis(20)).unwrap_err();
        let holder = format!("process {} (", std::process::id());
        assert!(error.to_string().contains(&name) && error.to_string().contains(&holder), "{error}");
        std::thread::scope(|scope| {
            let next = scope.spawn(|| Lock::take_within(&name, PATIENCE));
            drop(held);
            assert!(next.join().unwrap().is_ok());
        });
    }
}
