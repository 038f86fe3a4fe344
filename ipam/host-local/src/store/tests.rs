use super::*;
use crate::range::{Range, Wanted};
use libcni::AttachmentId;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::PathBuf;
use tempfile::TempDir;

mod others;

/// A data directory of its own, on disk: /tmp may be anything.
struct Bench {
    files: TempDir,
}

impl Bench {
    fn new() -> Self {
        Bench { files: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.files.path().join("net").join(name)
    }

    fn store(&self) -> Store {
        self.store_in(|| 1)
    }

    /// A call in the boot that `boot` tells of.
    fn store_in(&self, boot: fn() -> u128) -> Store {
        self.store_of("net", boot)
    }

    /// A call for the network `name`.
    fn store_of(&self, name: &str, boot: fn() -> u128) -> Store {
        Store::locked(Directory::create(&self.files.path().join(name)).unwrap(), boot).unwrap()
    }

    fn content(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.path(name)).ok()
    }
}

fn key(name: &str) -> Key {
    Key::new(&AttachmentId { container_id: name.to_owned(), ifname: "eth0".to_owned() })
}

fn set(subnet: &str, end: Option<&str>) -> RangeSet {
    let end = end.map(|end| end.parse().unwrap());
    let wanted = Wanted { subnet: subnet.parse().unwrap(), start: None, end, gateway: None };
    RangeSet(vec![Range::new(&wanted, "ipam").unwrap()])
}

fn add(store: &mut Store, name: &str, sets: &[RangeSet]) -> Result<Vec<String>, Error> {
    let given = store.reserve(&key(name), sets, &vec![None; sets.len()])?;
    Ok(given.iter().map(IpAddr::to_string).collect())
}

#[test]
fn a_set_that_is_full_takes_back_what_the_earlier_ones_gave() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/24", None), set("10.1.0.0/24", Some("10.1.0.2"))];
    assert_eq!(add(&mut bench.store(), "a", &sets).unwrap(), ["10.0.0.2", "10.1.0.2"]);
    let error = add(&mut bench.store(), "b", &sets).unwrap_err();
    assert!(
        error.code == code::NO_FREE_ADDRESS && error.details.contains("range set 1 (10.1.0.1-10.1.0.2)"),
        "{error}"
    );
    assert_eq!(bench.content("10.0.0.3"), None);
    bench.store().release(&key("a")).unwrap();
    assert_eq!(add(&mut bench.store(), "b", &sets).unwrap(), ["10.0.0.3", "10.1.0.2"]);
}

#[test]
fn what_we_made_in_an_earlier_boot_is_freed_and_what_go_made_is_kept() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/24", None)];
    for name in ["ours", "again", "edited"] {
        add(&mut bench.store(), name, &sets).unwrap();
    }
    std::fs::write(bench.path("10.0.0.9"), "go\r\neth0").unwrap();
    // The machine reboots; the other program works for a while, and re-adds the very same at the same address.
    std::fs::remove_file(bench.path("10.0.0.3")).unwrap();
    std::fs::write(bench.path("10.0.0.3"), "again\r\neth0").unwrap();
    std::fs::write(bench.path("10.0.0.4"), "other\r\neth0").unwrap();
    let mut store = bench.store_in(|| 2);
    assert_eq!(store.held(&key("ours")).unwrap(), Vec::<IpAddr>::new());
    assert_eq!(store.held(&key("again")).unwrap().len(), 1);
    assert_eq!(store.held(&key("other")).unwrap().len(), 1);
    assert_eq!(store.held(&key("go")).unwrap().len(), 1);
    drop(store);
    assert_eq!(bench.content("10.0.0.2"), None);
    // Adopted stays adopted, over any number of boots.
    assert_eq!(bench.store_in(|| 3).held(&key("again")).unwrap().len(), 1);
}

#[test]
fn where_the_boot_is_not_known_nothing_is_freed_then_or_later() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/24", None)];
    add(&mut bench.store_in(|| 1), "old", &sets).unwrap();
    add(&mut bench.store_in(|| 0), "unknown", &sets).unwrap();
    assert_eq!(bench.store_in(|| 0).held(&key("old")).unwrap().len(), 1);
    let mut store = bench.store_in(|| 2);
    assert_eq!(store.held(&key("old")).unwrap().len(), 0);
    assert_eq!(store.held(&key("unknown")).unwrap().len(), 1);
}

#[test]
fn a_kill_after_the_file_was_published_does_not_lose_whose_it_is() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/24", None)];
    let mut store = bench.store();
    add(&mut store, "killed", &sets).unwrap();
    // As a kill leaves it: entry and file are there, header and witness are not.
    store.index = None;
    drop(store);
    assert_eq!(bench.store().held(&key("killed")).unwrap().len(), 1);
    assert_eq!(bench.store_in(|| 2).held(&key("killed")).unwrap().len(), 0);
}

#[test]
fn a_file_replaced_under_its_inode_number_is_found_by_its_new_key() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/16", None)];
    // Enough that names alone are compared.
    for number in 0..600 {
        add(&mut bench.store(), &format!("pod{number}"), &sets).unwrap();
    }
    std::fs::write(bench.path("10.0.0.2"), "new\r\neth0").unwrap();
    std::fs::write(bench.path("10.0.200.1"), "go\r\neth0").unwrap();
    let mut store = bench.store();
    assert!(store.index().header.unverified);
    assert_eq!(store.held(&key("go")).unwrap().len(), 1);
    assert_eq!(store.held(&key("new")).unwrap(), ["10.0.0.2".parse::<IpAddr>().unwrap()]);
    assert!(!store.index().header.unverified);
    assert_eq!(store.held(&key("pod0")).unwrap().len(), 0);
}

#[test]
fn a_full_range_is_full_only_if_the_files_say_so() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/29", None)];
    for number in 0..5 {
        add(&mut bench.store(), &format!("pod{number}"), &sets).unwrap();
    }
    assert_eq!(add(&mut bench.store(), "more", &sets).unwrap_err().code, code::NO_FREE_ADDRESS);
    assert!(!bench.store().has_free(0, &sets).unwrap());
    // One is removed, and the directory looks as if it was not.
    let signature = bench.store().index().header.signature;
    std::fs::remove_file(bench.path("10.0.0.4")).unwrap();
    Directory::create(&bench.files.path().join("net")).unwrap().set_mtime(signature).unwrap();
    assert!(bench.store().has_free(0, &sets).unwrap());
    assert_eq!(add(&mut bench.store(), "more", &sets).unwrap(), ["10.0.0.4"]);
    assert_eq!(bench.store().held(&key("pod2")).unwrap().len(), 0);
}

#[test]
fn a_file_that_lost_its_content_is_still_its_pods_until_the_next_boot() {
    let sets = [set("10.0.0.0/29", None)];
    for damage in [&b""[..], &[0; 11], b"\xff\xfe", b"pod1\r\n", b"pod1\r\ne\0\0\0"] {
        let bench = Bench::new();
        for number in 0..5 {
            add(&mut bench.store(), &format!("pod{number}"), &sets).unwrap();
        }
        let damaged = || std::fs::write(bench.path("10.0.0.3"), damage).unwrap();
        damaged();
        assert_eq!(add(&mut bench.store(), "more", &sets).unwrap_err().code, code::NO_FREE_ADDRESS, "{damage:?}");
        assert_eq!(bench.store().held(&key("pod1")).unwrap().len(), 1, "{damage:?}");
        bench.store().collect(&[0, 1, 2, 3, 4].map(|number| key(&format!("pod{number}")))).unwrap();
        assert_eq!(add(&mut bench.store(), "more", &sets).unwrap_err().code, code::NO_FREE_ADDRESS, "{damage:?}");
        bench.store().release(&key("pod1")).unwrap();
        assert_eq!(add(&mut bench.store(), "more", &sets).unwrap(), ["10.0.0.3"], "{damage:?}");
        damaged();
        assert_eq!(add(&mut bench.store_in(|| 2), "new", &sets).unwrap().len(), 1, "{damage:?}");
        assert_eq!(bench.store_in(|| 2).held(&key("more")).unwrap().len(), 0, "{damage:?}");
        assert_eq!(std::fs::read_dir(bench.files.path().join("net")).unwrap().count(), 4, "{damage:?}");
    }
}

#[test]
fn a_file_made_anew_under_its_inode_number_and_left_empty_is_free() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/24", None)];
    add(&mut bench.store(), "a", &sets).unwrap();
    // As if that inode had been written before the file was made.
    let entry = bench.store().entries_of(&key("a")).unwrap()[0];
    let earlier =
        Entry { stamp: crate::directory::Stamp { seconds: entry.stamp.seconds - 60, ..entry.stamp }, ..entry };
    let mut store = bench.store();
    store.forget(&entry).unwrap();
    store.record(&earlier).unwrap();
    drop(store);
    std::fs::write(bench.path("10.0.0.2"), "").unwrap();
    assert_eq!(bench.store().held(&key("a")).unwrap().len(), 0);
    assert_eq!(bench.content("10.0.0.2"), None);
}

#[test]
fn gc_keeps_a_file_that_was_cut_short_as_long_as_the_attachment_may_live() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/24", None)];
    add(&mut bench.store(), "abcdef", &sets).unwrap();
    // And nothing else tells whose it was.
    std::fs::write(bench.path("10.0.0.2"), "abc").unwrap();
    std::fs::remove_file(bench.path(crate::index::NAME)).unwrap();
    bench.store().collect(&[key("abcdef"), key("b")]).unwrap();
    assert_eq!(bench.content("10.0.0.2").unwrap(), "abc");
    bench.store().collect(&[key("ab"), key("b")]).unwrap();
    assert_eq!(bench.content("10.0.0.2"), None);
}

/// One thing that happens to a store.
#[derive(Clone, Debug)]
enum Step {
    Add(u8),
    Del(u8),
    Foreign(u8, Vec<u8>),
    Unlink(u8),
    Index(Option<Vec<u8>>),
    Gc,
}

fn step() -> impl Strategy<Value = Step> {
    let hostile = prop_oneof![
        Just(Vec::new()),
        Just(vec![0; 9]),
        Just(b"pod1\r\neth0".to_vec()),
        Just(b"pod2".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..40),
    ];
    prop_oneof![
        4 => (0u8..8).prop_map(Step::Add),
        4 => (0u8..8).prop_map(Step::Del),
        2 => (1u8..15, hostile.clone()).prop_map(|(at, bytes)| Step::Foreign(at, bytes)),
        1 => (1u8..15).prop_map(Step::Unlink),
        1 => proptest::option::of(hostile).prop_map(Step::Index),
        1 => Just(Step::Gc),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Whatever others put into the directory: no address is given twice, a DEL leaves nothing, and a new ADD finds
    /// every address that no file holds.
    #[test]
    fn no_address_is_given_twice_and_none_is_lost(steps in proptest::collection::vec(step(), 1..40)) {
        let bench = Bench::new();
        let sets = [set("10.0.0.0/28", None)];
        for step in steps {
            let before: BTreeMap<u8, Vec<u8>> =
                (1..15).filter_map(|at| Some((at, std::fs::read(bench.path(&format!("10.0.0.{at}"))).ok()?))).collect();
            let taken = |bytes: &[u8]| Content::of(bytes) != Content::Free;
            match step {
                Step::Add(pod) => {
                    let name = format!("pod{pod}");
                    let outcome = add(&mut bench.store(), &name, &sets);
                    match outcome {
                        Ok(given) => {
                            let at: u8 = given[0].rsplit('.').next().unwrap().parse().unwrap();
                            prop_assert!(before.get(&at).is_none_or(|bytes| !taken(bytes)), "{given:?} was taken");
                            prop_assert_eq!(bench.content(&given[0]).unwrap(), format!("{name}\r\neth0"));
                        }
                        Err(error) if error.code == code::EXISTS_ALREADY => {
                            let key = key(&name);
                            let holds = |bytes: &Vec<u8>| {
                                let content = Content::of(bytes);
                                content.is(key.text()) || content.is(key.old_text())
                            };
                            prop_assert!(before.values().any(holds));
                        }
                        Err(error) => {
                            prop_assert_eq!(error.code, code::NO_FREE_ADDRESS);
                            // .1 is the gateway.
                            prop_assert!((2..15).all(|at| before.get(&at).is_some_and(|bytes| taken(bytes))), "{}", error);
                        }
                    }
                }
                Step::Del(pod) => {
                    let key = key(&format!("pod{pod}"));
                    bench.store().release(&key).unwrap();
                    for at in 1..15 {
                        let content = bench.content(&format!("10.0.0.{at}"));
                        prop_assert!(content.is_none_or(|text| !Content::of(text.as_bytes()).is(key.text())));
                    }
                }
                Step::Foreign(at, bytes) => {
                    // As the other program does: a new file, not an edited one. Made beside the old one, for in one moment an
                    // inode number may come back.
                    let path = bench.path(&format!("10.0.0.{at}"));
                    drop(bench.store());
                    std::fs::write(bench.path("new"), bytes).unwrap();
                    std::fs::rename(bench.path("new"), path).unwrap();
                }
                Step::Unlink(at) => {
                    let _ = std::fs::remove_file(bench.path(&format!("10.0.0.{at}")));
                }
                Step::Index(Some(bytes)) => {
                    drop(bench.store());
                    std::fs::write(bench.path(crate::index::NAME), bytes).unwrap();
                }
                Step::Index(None) => {
                    let _ = std::fs::remove_file(bench.path(crate::index::NAME));
                }
                Step::Gc => {
                    let valid = [key("pod1"), key("pod3")];
                    bench.store().collect(&valid).unwrap();
                    for at in 1..15 {
                        let Some(bytes) = std::fs::read(bench.path(&format!("10.0.0.{at}"))).ok() else { continue };
                        let content = Content::of(&bytes);
                        prop_assert!(valid.iter().any(|key| content.is(key.text()) || content.is(key.old_text())));
                    }
                }
            }
        }
    }
}
