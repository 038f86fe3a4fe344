//! Reading a file that somebody named: no more of it than fits, and nothing that is no file.
//!
//! A FIFO would be waited for, and a device never ends: only regular files are read. Symbolic links are followed, for the
//! path is an administrator's; what others may have planted is read with more care ([`crate::runtime::Cache`]).

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::OFlag;

/// The bytes of the regular file at `path`, which are at most `most`.
pub fn read(path: &Path, most: u64) -> std::io::Result<Vec<u8>> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    read_open(OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)?, most)
}

/// The same of a file that is open.
pub(crate) fn read_open(file: File, most: u64) -> std::io::Result<Vec<u8>> {
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("not a regular file"));
    }
    let mut bytes = Vec::new();
    file.take(most + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > most {
        true => Err(std::io::Error::other(format!("larger than {} MiB", most >> 20))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fifo_a_device_and_a_directory_are_refused_and_none_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let fifo = directory.path().join("fifo");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [fifo.as_path(), Path::new("/dev/zero"), directory.path()] {
            let error = read(path, 100).unwrap_err().to_string();
            assert!(error.contains("not a regular file"), "{}: {error}", path.display());
        }
    }

    #[test]
    fn a_file_is_read_up_to_its_limit() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        std::fs::write(&file, [7; 100]).unwrap();
        assert_eq!(read(&file, 100).unwrap(), [7; 100]);
        assert!(read(&file, 99).unwrap_err().to_string().contains("larger"));
    }
}
