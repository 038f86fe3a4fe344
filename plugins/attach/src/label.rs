//! The label of an attachment: the alias of the node's end of its wire.
//!
//! ```text
//! podwire 0123…cdef mac=0a:58:0a:16:00:05 masquerade=10.22.0.5/16,fd00::5/64 cluster=0123456789abcdef:10.244.0.0/16 mynet/container/eth0
//! ```
//!
//! After the owner comes a part for each kind of object that the attachment owns beside its wire ([`crate::kinds`]): what
//! DEL has to remove, and what is put back for a living Pod after its rules were flushed. Each kind writes and reads its own
//! part; this file knows their order only. The last word is for people.
//!
//! An alias has room for 254 bytes. What does not fit is in a record under /run/podwire ([`crate::record`]), and the alias
//! says so (`more=`).

use std::fmt::Write as _;

use kernel::link::Link;

use crate::kinds::KINDS;
use crate::owner::Owner;
use crate::record::Record;

/// The longest alias, in bytes: the kernel takes 255 (IFALIASZ of include/uapi/linux/if.h, less one), and counts the final
/// zero that comes with a string in a message.
const MAX_ALIAS: usize = 254;

/// The first word of an alias of ours.
const MARK: &str = "podwire";

/// The part that says that there is a record, by the record's digest.
pub(crate) const MORE: &str = "more";

/// What the alias of an attachment's wire says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The attachment.
    pub owner: Owner,
    parts: Vec<(String, String)>,
    elastic: Option<Elastic>,
    /// For people: network, container and interface. Cut where the alias would be too long.
    pub words: String,
}

/// A part that may be cut: a list of which the first items matter most.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Elastic {
    word: &'static str,
    head: String,
    items: Vec<String>,
}

/// The most that a part that may be cut takes, in bytes, so that some room is left for the words.
const MAX_ELASTIC: usize = 107;

impl Label {
    /// A label without any part.
    pub fn new(owner: Owner, words: String) -> Self {
        Label { owner, parts: Vec::new(), elastic: None, words }
    }

    /// The label of a link; `None` if the link is not an attachment's. A record that the alias refers to is read; if that
    /// can't be done, the log says so, and the label is what the alias has: it is not complete ([`Label::is_complete`]).
    pub fn of(link: &Link) -> Option<Self> {
        let label = Label::parse(&link.alias)?;
        let Some(digest) = label.part(MORE) else { return Some(label) };
        match Record::read(label.owner, digest) {
            Ok(text) => Label::parse(&text).filter(|complete| complete.owner == label.owner).or(Some(label)),
            Err(error) => {
                log::warn!(
                    "interface {:?}: its record can't be read, so some of its rules are unknown and are not restored after \
                     a flush; a new Pod in its place has them again: {error}",
                    link.name
                );
                Some(label)
            }
        }
    }

    /// Reads an alias, or the text of a record; `None` for any other text.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        if words.next()? != MARK {
            return None;
        }
        let mut label = Label::new(Owner::from_hex(words.next()?)?, String::new());
        for word in words {
            match word.split_once('=') {
                // The words for people have slashes, and may have "=" in an interface's name.
                Some((name, value)) if name.bytes().all(|byte| byte.is_ascii_lowercase()) => label.set(name, value),
                _ => label.words = word.to_owned(),
            }
        }
        Some(label)
    }

    /// The part with that name.
    pub fn part(&self, name: &str) -> Option<&str> {
        self.parts.iter().find(|(word, _)| word == name).map(|(_, value)| value.as_str())
    }

    /// Sets a part, which has neither spaces nor an end that could be missed.
    pub fn set(&mut self, name: &str, value: impl Into<String>) {
        match self.parts.iter_mut().find(|(word, _)| word == name) {
            Some((_, there)) => *there = value.into(),
            None => self.parts.push((name.to_owned(), value.into())),
        }
    }

    /// Sets a part that may be cut: `head`, and as many of `items`, with commas, as there is room for. It comes last.
    pub fn set_elastic(&mut self, word: &'static str, head: String, items: Vec<String>) {
        self.parts.retain(|(name, _)| name != word);
        self.elastic = Some(Elastic { word, head, items });
    }

    /// Does the label name everything that the attachment owns? Not if it refers to a record that could not be read.
    pub fn is_complete(&self) -> bool {
        self.part(MORE).is_none()
    }

    /// Does the attachment have a record, because an alias has no room for every part? Asked by each DEL, so without writing
    /// the alias.
    pub fn needs_record(&self) -> bool {
        // An owner is 32 hexadecimal digits; before each part there is a space, and in it "=".
        let parts: usize = self.parts.iter().map(|(word, value)| word.len() + value.len() + 2).sum();
        !self.fits(MARK.len() + 1 + 32 + parts)
    }

    /// The alias, and the record if the alias has no room for every part. The parts are in the registry's order.
    pub fn alias(&self) -> (String, Option<Record>) {
        let mut parts = self.parts.clone();
        parts.sort_by_key(|(word, _)| KINDS.iter().position(|kind| kind.part() == word).unwrap_or(KINDS.len()));
        if !self.needs_record() {
            return (self.end(self.head(&parts, None)), None);
        }
        let record = Record::new(self.owner, self.complete());
        let mut fitting = Vec::new();
        // The new record has what is still known of one that is lost.
        for part in parts.iter().filter(|(word, _)| word != MORE) {
            fitting.push(part.clone());
            if !self.fits(self.head(&fitting, Some(&record)).len()) {
                fitting.pop();
            }
        }
        (self.end(self.head(&fitting, Some(&record))), Some(record))
    }

    /// Everything, however long it is.
    fn complete(&self) -> String {
        let mut text = self.head(&self.parts, None);
        if let Some(Elastic { word, head, items }) = &self.elastic {
            let _ = write!(text, " {word}={head}{}", items.join(","));
        }
        format!("{text} {}", self.words)
    }

    fn head(&self, parts: &[(String, String)], record: Option<&Record>) -> String {
        let mut text = format!("{MARK} {}", self.owner);
        if let Some(record) = record {
            let _ = write!(text, " {MORE}={}", record.digest());
        }
        for (word, value) in parts {
            let _ = write!(text, " {word}={value}");
        }
        text
    }

    /// Is there room for the least of the rest after so many bytes, and for the space before the words?
    fn fits(&self, head: usize) -> bool {
        head + self.elastic_least() < MAX_ALIAS
    }

    /// The bytes that the part that may be cut takes at least.
    fn elastic_least(&self) -> usize {
        self.elastic.as_ref().map_or(0, |part| 2 + part.word.len() + part.head.len())
    }

    /// `text`, with the part that may be cut and the words, as much as fits.
    fn end(&self, mut text: String) -> String {
        if let Some(Elastic { word, head, items }) = &self.elastic {
            let _ = write!(text, " {word}={head}");
            let room = room_after(&text).min(MAX_ELASTIC.saturating_sub(head.len()));
            text.push_str(&as_many(items, room));
        }
        let room = room_after(&text);
        let end = (0..=room.min(self.words.len())).rev().find(|&at| self.words.is_char_boundary(at)).unwrap_or(0);
        format!("{text} {}", &self.words[..end])
    }
}

/// What an alias that begins with `text` has room for, in bytes, less the space before the words.
fn room_after(text: &str) -> usize {
    MAX_ALIAS.saturating_sub(text.len() + 1)
}

/// As many of these, with commas, as `room` bytes hold.
fn as_many(items: &[String], room: usize) -> String {
    let mut list = String::new();
    for item in items {
        if list.len() + item.len() + usize::from(!list.is_empty()) > room {
            break;
        }
        list.push_str(if list.is_empty() { "" } else { "," });
        list.push_str(item);
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label() -> Label {
        let mut label = Label::new(Owner::new("n", "c/eth0"), "n/c/eth0".into());
        label.set("mac", "02:00:00:00:00:01");
        label.set("masquerade", "10.22.0.5/16,fd00::5/64");
        label
    }

    #[test]
    fn a_label_reads_as_it_is_written() {
        let label = label();
        let (alias, record) = label.alias();
        assert_eq!(record, None);
        assert_eq!(Label::parse(&alias), Some(label.clone()));
        assert_eq!(
            alias.split_once(' ').unwrap().1.split_once(' ').unwrap().1,
            "mac=02:00:00:00:00:01 masquerade=10.22.0.5/16,fd00::5/64 n/c/eth0"
        );
        for foreign in ["", "podwire", "podwire 12", "podwire zz", "uplink to rack 7"] {
            assert_eq!(Label::parse(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_part_that_may_be_cut_and_the_words_are_cut() {
        let mut label = Label { words: "ä".repeat(300), ..label() };
        label.set_elastic("cluster", "0123456789abcdef:".into(), vec!["10.0.0.0/8".to_owned(); 40]);
        let (alias, record) = label.alias();
        assert!(alias.len() <= MAX_ALIAS && record.is_none(), "{alias}");
        let read = Label::parse(&alias).unwrap();
        assert_eq!(read.part("masquerade"), label.part("masquerade"));
        let cluster = read.part("cluster").unwrap();
        assert!(cluster.starts_with("0123456789abcdef:10.0.0.0/8,10.") && cluster.len() <= MAX_ELASTIC, "{cluster}");
    }

    #[test]
    fn what_does_not_fit_is_in_a_record() {
        let mut label = label();
        let many: Vec<_> = (1..9).map(|n| format!("2001:db8:1111:2222:3333:4444:5555:{n}666/64")).collect();
        label.set("masquerade", many.join(","));
        label.set("senders", "fe80::1");
        let (alias, record) = label.alias();
        assert!(alias.len() <= MAX_ALIAS, "{alias}");
        let short = Label::parse(&alias).unwrap();
        assert_eq!((short.part("mac"), short.part("senders")), (label.part("mac"), label.part("senders")));
        assert_eq!(short.part("masquerade"), None);
        let record = record.unwrap();
        assert_eq!(short.part(MORE), Some(record.digest().as_str()));
        assert_eq!(Label::parse(record.text()), Some(label));
    }
}
