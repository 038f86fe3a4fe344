//! What an address file says: whose the address is. The Go host-local's own format.
//!
//! A file is named by its address and holds `<containerID>\r\n<ifname>`, without a final newline; the oldest versions
//! wrote the container ID alone. White space around is nothing to either program. An empty file, or one full of
//! zeros, is what a crash leaves of a file that was being written: the address is free, unless the index knows that the
//! same file was whole once (scan.rs).

use libcni::AttachmentId;
use libcni::invocation::{identifier_fault, ifname_fault};

/// No reservation is longer; of longer files only this much is looked at, in bytes.
pub const MAX_BYTES: usize = 4096;

/// An attachment, in the words of an address file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    text: String,
    id_length: usize,
}

impl Key {
    /// The key of an attachment.
    pub fn new(id: &AttachmentId) -> Self {
        let text = format!("{}\r\n{}", id.container_id, id.ifname);
        Key { text, id_length: id.container_id.len() }
    }

    /// What is written today.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the oldest versions wrote: the container ID alone.
    pub fn old_text(&self) -> &str {
        &self.text[..self.id_length]
    }
}

/// What stands at an address's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Empty or zeros: left by a crash.
    Free,
    /// Somebody's reservation, or whatever else was written there, without the white space around it.
    Text(Vec<u8>),
    /// No file at all, in words: a link, a directory. The address is taken.
    NoFile(&'static str),
    /// A file that could not be read, and why. Perhaps somebody's reservation; it is tried again.
    Unread(String),
}

impl Content {
    /// What `bytes`, the beginning of a file, say.
    pub fn of(bytes: &[u8]) -> Self {
        if bytes.iter().all(|&byte| byte == 0) {
            return Content::Free;
        }
        Content::Text(match std::str::from_utf8(bytes) {
            Ok(text) => text.trim().as_bytes().to_vec(),
            Err(_) => bytes.trim_ascii().to_vec(),
        })
    }

    /// Is it no reservation at all? `is_todays`: the container ID alone, as the oldest versions wrote it, is none either.
    pub fn is_damaged(&self, is_todays: bool) -> bool {
        match self {
            Content::Free => true,
            Content::Text(bytes) => {
                let text = std::str::from_utf8(bytes).unwrap_or_default();
                let (container_id, ifname) = match text.split_once("\r\n") {
                    Some((container_id, ifname)) => (container_id, Some(ifname)),
                    None => (text, None),
                };
                identifier_fault(container_id).is_some() || ifname.map_or(is_todays, |it| ifname_fault(it).is_some())
            }
            Content::NoFile(_) | Content::Unread(_) => false,
        }
    }

    /// Is it exactly `text`, but for white space around?
    pub fn is(&self, text: &str) -> bool {
        matches!(self, Content::Text(bytes) if bytes == text.trim().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_reads_as_the_go_program_writes_it() {
        let key = Key::new(&AttachmentId { container_id: "abc".into(), ifname: "eth0".into() });
        assert_eq!((key.text(), key.old_text()), ("abc\r\neth0", "abc"));
        assert!(Content::of(b"abc\r\neth0").is(key.text()));
        assert!(Content::of(b" abc\r\neth0\n").is(key.text()));
        assert!(!Content::of(b"abc\r\neth1").is(key.text()));
    }

    #[test]
    fn what_can_be_no_reservation_is_damaged() {
        for damaged in [&b""[..], b"\0\0", b"\xff\xfe", b"a b\r\neth0", b"-\r\neth0", b"abc\r\na/b"] {
            assert!(Content::of(damaged).is_damaged(false), "{damaged:?}");
        }
        assert!(!Content::of(b"abc\r\neth0").is_damaged(true));
        assert!(!Content::of(b"abc").is_damaged(false));
        assert!(Content::of(b"abc\r\n").is_damaged(true), "cut where the interface begins");
        assert!(!Content::NoFile("a directory").is_damaged(true));
    }

    #[test]
    fn only_nothing_and_zeros_are_free() {
        assert_eq!(Content::of(b""), Content::Free);
        assert_eq!(Content::of(&[0; 17]), Content::Free);
        for held in [&b"\n"[..], b"0", b"\0x", b"\xff\xfe", &[1; MAX_BYTES]] {
            assert_ne!(Content::of(held), Content::Free, "{held:?}");
        }
    }
}
