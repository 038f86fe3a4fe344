use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use tempfile::TempDir;

fn directory() -> (TempDir, Directory) {
    let files = tempfile::tempdir().unwrap();
    let directory = Directory::create(&files.path().join("net")).unwrap();
    (files, directory)
}

fn entry(hash: u64, address: u128) -> Entry {
    let stamp = Stamp { inode: 7, seconds: -5, nanoseconds: 9 };
    Entry { hash, address, stamp, origin: Origin::Own }
}

fn reopened(directory: &Directory, index: &mut Index) -> Index {
    index.settle(directory);
    Index::open(directory).unwrap()
}

#[test]
fn what_is_settled_is_found_again_and_witnessed() {
    let (_files, directory) = directory();
    let mut index = Index::build(&directory, 42, &[entry(1, 100)]);
    let mut index = reopened(&directory, &mut index);
    assert_eq!((index.header.boot, index.header.count), (42, 1));
    assert!(index.is_witnessed(&directory.stamp().unwrap()));
    assert_eq!(index.find(1), Ok(vec![entry(1, 100)]));
    assert_eq!(index.find(2), Ok(vec![]));
    index.begin();
    index.insert(&directory, &entry(1, 200)).unwrap();
    index.remove(1, 100).unwrap();
    let mut index = reopened(&directory, &mut index);
    assert_eq!(index.find(1), Ok(vec![entry(1, 200)]));
}

#[test]
fn a_change_by_somebody_else_is_seen_and_so_is_a_kill_between_our_writes() {
    let (files, directory) = directory();
    let mut index = reopened(&directory, &mut Index::build(&directory, 42, &[]));
    let stamp = directory.stamp().unwrap();
    std::fs::write(files.path().join("net/10.0.0.2"), "a").unwrap();
    assert!(!index.is_witnessed(&directory.stamp().unwrap()));

    index.begin();
    index.settle(&directory);
    assert!(Index::open(&directory).unwrap().is_witnessed(&directory.stamp().unwrap()));
    // Killed after the header was written and before the witness was.
    directory.set_mtime(stamp.seconds).unwrap();
    assert!(!Index::open(&directory).unwrap().is_witnessed(&directory.stamp().unwrap()));
    // Killed while in flux, although the directory itself was not touched.
    index.settle(&directory);
    index.begin();
    let stamp = Stamp { seconds: 0, ..directory.stamp().unwrap() };
    assert!(!Index::open(&directory).unwrap().is_witnessed(&stamp));
}

#[test]
fn a_full_bucket_flows_over_and_the_index_grows() {
    let (_files, directory) = directory();
    let mut index = Index::build(&directory, 42, &[]);
    for number in 0..2000u128 {
        // All in one bucket's way.
        index.insert(&directory, &entry((number as u64 % 3) << 32, number)).unwrap();
    }
    let mut index = reopened(&directory, &mut index);
    let numbers: BTreeSet<u128> = index.all().unwrap().iter().map(|entry| entry.address).collect();
    assert_eq!(numbers, (0..2000).collect());
    assert_eq!(index.find(1 << 32).unwrap().len(), 667);
    assert!(index.header.buckets > FEWEST_BUCKETS);
    index.remove(0, 0).unwrap();
    assert_eq!(index.find(0).unwrap().len(), 666);
}

#[test]
fn any_damage_is_noticed() {
    let (files, directory) = directory();
    let all: Vec<Entry> = (0..400u64).map(|number| entry(hash(&number.to_le_bytes()), u128::from(number))).collect();
    reopened(&directory, &mut Index::build(&directory, 42, &all));
    let path = files.path().join("net").join(NAME);
    let sound = std::fs::read(&path).unwrap();
    for at in (0..HEADER).chain((PAGE..sound.len()).step_by(97)) {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x10;
        std::fs::write(&path, &bytes).unwrap();
        let noticed = Index::open(&directory).map_or(true, |mut index| index.all() == Err(Corrupt));
        assert!(noticed, "byte {at}");
    }
    for length in [0, 1, HEADER, PAGE, sound.len() - 1] {
        std::fs::write(&path, &sound[..length]).unwrap();
        assert!(Index::open(&directory).is_err(), "{length}");
    }
}

#[test]
fn an_index_that_cannot_be_written_serves_from_memory() {
    let (files, directory) = directory();
    std::fs::create_dir_all(files.path().join("net").join(NAME).join("in the way")).unwrap();
    let mut index = Index::build(&directory, 42, &[entry(1, 100)]);
    index.insert(&directory, &entry(2, 200)).unwrap();
    index.settle(&directory);
    assert_eq!(index.find(2), Ok(vec![entry(2, 200)]));
    assert_eq!(index.all().unwrap().len(), 2);
    assert!(!files.path().join("net").join(NEW_NAME).exists());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]

    #[test]
    fn the_index_holds_what_a_set_would(steps in proptest::collection::vec((any::<bool>(), 0u64..8, 0u128..64), 1..300)) {
        let (_files, directory) = directory();
        let mut index = Index::build(&directory, 1, &[]);
        let mut model = BTreeSet::new();
        for (put, hash, address) in steps {
            let hash = hash << 40;
            if put && model.insert((hash, address)) {
                index.insert(&directory, &entry(hash, address)).unwrap();
            } else if !put {
                model.remove(&(hash, address));
                index.remove(hash, address).unwrap();
            }
        }
        let mut index = reopened(&directory, &mut index);
        let found: BTreeSet<_> = index.all().unwrap().iter().map(|entry| (entry.hash, entry.address)).collect();
        prop_assert_eq!(index.header.count as usize, model.len());
        prop_assert_eq!(found, model);
    }
}
