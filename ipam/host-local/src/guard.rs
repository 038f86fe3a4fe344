//! Is anybody still waiting for our answer?
//!
//! A plugin that delegates to us may be killed while we wait for the lock. The runtime then sends DEL, and nothing that
//! we did after that would ever be undone; a late DEL of ours could free what a new ADD reserved. Our stdout is
//! a pipe that only the caller reads. So, once we hold the lock and before anything is written, we look: if the reader is
//! gone, so are we. A caller killed later finds its DEL waiting behind our lock.

use std::os::fd::AsFd;

use libcni::{Error, code};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// An error if `output` is a pipe that nobody reads any more.
pub fn require_reader(output: impl AsFd) -> Result<(), Error> {
    let mut output = [PollFd::new(output.as_fd(), PollFlags::empty())];
    // The write end of a pipe without readers shows POLLERR (fs/pipe.c, pipe_poll); files and terminals never do.
    let gone = poll(&mut output, PollTimeout::ZERO).is_ok_and(|count| count > 0)
        && output[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR));
    if gone {
        let details = "nobody reads stdout any more, so the caller was killed; nothing was changed";
        return Err(Error::new(code::IO_FAILURE, "the caller is gone", details));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_without_a_reader_stops_us_and_anything_else_does_not() {
        let (reader, writer) = std::io::pipe().unwrap();
        assert!(require_reader(&writer).is_ok());
        drop(reader);
        assert!(require_reader(&writer).is_err());
        assert!(require_reader(std::fs::File::open("/dev/null").unwrap()).is_ok());
    }
}
