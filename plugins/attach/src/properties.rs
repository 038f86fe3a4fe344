//! What holds for every label: it is read as it was written, however long it is and whatever an alias says.

use proptest::prelude::*;

use crate::kinds::{KINDS, owned_by};
use crate::label::{Label, MORE};
use crate::owner::Owner;
use crate::record::Record;

/// The longest alias that the kernel takes in a message, in bytes.
const ROOM: usize = 254;

/// A label as a plugin writes one: parts of kinds, one that may be cut, and words for people.
fn labels() -> impl Strategy<Value = Label> {
    let kinds = KINDS.iter().map(|kind| kind.part()).filter(|part| *part != MORE).collect::<Vec<_>>();
    let parts = proptest::collection::vec((proptest::sample::select(kinds), "[!-~]{0,150}"), 0..6);
    let elastic = proptest::option::of(("[0-9a-f]{16}:", proptest::collection::vec("[0-9a-f.:/]{1,43}", 0..12)));
    let words = "[a-z0-9._-]{1,60}/[A-Za-z0-9._-]{1,120}/[^ /\0]{1,15}";
    (any::<u64>(), parts, elastic, words).prop_map(|(number, parts, elastic, words)| {
        let mut label = Label::new(Owner::new("n", &number.to_string()), words);
        parts.into_iter().for_each(|(name, value)| label.set(name, value));
        if let Some((head, items)) = elastic {
            label.set_elastic("cluster", head, items);
        }
        label
    })
}

/// What an alias of any program may be, ours among them.
fn aliases() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        "[a-z]{0,10}=[!-~]{0,60}",
        "[!-~é]{0,40}",
        "(more|mac|masquerade|senders|check)=[0-9a-f:.,/]{0,80}"
    ];
    let ours = proptest::collection::vec(word, 0..8);
    prop_oneof![".{0,255}", ours.prop_map(|words| format!("podwire {} {}", Owner::new("n", "c"), words.join(" ")))]
}

fn parts(label: &Label) -> Vec<Option<String>> {
    KINDS
        .iter()
        .map(|kind| kind.part())
        .filter(|part| *part != MORE)
        .map(|part| label.part(part).map(str::to_owned))
        .collect()
}

/// The label that both say together, read as DEL and restoring do.
fn read(alias: &str, record: Option<&Record>) -> Label {
    Label::parse(record.map_or(alias, Record::text)).expect("a label")
}

proptest! {
    #[test]
    fn a_label_is_read_as_it_was_written(label in labels()) {
        let (alias, record) = label.alias();
        prop_assert!(alias.len() <= ROOM, "{} bytes: {alias}", alias.len());
        let short = Label::parse(&alias).expect("a label");
        prop_assert_eq!(short.owner, label.owner);
        prop_assert_eq!(short.part(MORE).map(str::to_owned), record.as_ref().map(Record::digest));
        prop_assert!(label.words.starts_with(&short.words), "{}", short.words);
        let read = read(&alias, record.as_ref());
        prop_assert!(read.is_complete());
        prop_assert_eq!(parts(&read), parts(&label));
    }

    /// A chained plugin writes the label again that it has read.
    #[test]
    fn what_any_alias_says_is_the_same_after_it_was_written_anew(alias in aliases()) {
        let Some(label) = Label::parse(&alias) else { return Ok(()) };
        let (alias, record) = label.alias();
        prop_assert!(alias.len() <= ROOM, "{} bytes: {alias}", alias.len());
        let read = read(&alias, record.as_ref());
        prop_assert_eq!(parts(&read), parts(&label));
        prop_assert_eq!(read.is_complete(), label.is_complete());
        let objects = |label: &Label| {
            let owned = owned_by(label).filter(|(kind, _)| kind.part() != MORE);
            owned.map(|(_, object)| format!("{object:?}")).collect::<Vec<_>>()
        };
        prop_assert_eq!(objects(&read), objects(&label));
    }
}
