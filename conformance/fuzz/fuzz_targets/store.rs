//! The store of host-local: files that anybody left there or damaged, an index that is damaged, and ADD, DEL, GC and STATUS on it.
//!
//! Beside "no panic": an address that is given lies in its range and was free, what somebody else holds stays as it is, and
//! after a DEL the attachment holds nothing. An index that is forged, with sound checksums, may say anything: from then on only
//! ranges and panics are watched.
#![no_main]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use host_local::range::{Range, RangeSet, Wanted};
use host_local::reservation::{Content, Key};
use host_local::store::Store;
use libcni::AttachmentId;
use libfuzzer_sys::fuzz_target;
use twox_hash::XxHash64;

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let mut place = Place::new();
    input.files().into_iter().for_each(|(name, content)| place.write(&name, &content));
    while let Some(step) = input.byte() {
        match step % 8 {
            0 => place.reserve(&key(input.byte()), None),
            1 => place.reserve(&key(input.byte()), Some(IpAddr::from([10, 0, 0, input.byte().unwrap_or(3)]))),
            2 => place.release(&key(input.byte())),
            3 => place.collect(&key(input.byte())),
            4 => place.status(),
            5 => place.forge(&mut input),
            6 => place.damage(&mut input),
            _ => input.files().into_iter().for_each(|(name, content)| place.write(&name, &content)),
        }
    }
});

/// The fuzzer's bytes, used up from the front.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// At most three files: names that are addresses of the ranges, of none, or no addresses; any content.
    fn files(&mut self) -> Vec<(String, Vec<u8>)> {
        (0..self.byte().unwrap_or(0) % 4).filter_map(|_| self.file()).collect()
    }

    fn file(&mut self) -> Option<(String, Vec<u8>)> {
        let name = match self.byte()? {
            name @ 0..=99 => format!("10.0.0.{}", name % 16),
            name @ 100..=199 => format!("fd00::{:x}", name % 16),
            200 => "last_reserved_ip.0".to_owned(),
            201 => "last_reserved_ip.1".to_owned(),
            202 => "10.0.00.7".to_owned(),
            203 => "FD00::3".to_owned(),
            204 => "index.podwire".to_owned(),
            _ => "other".to_owned(),
        };
        let content = match self.byte()? {
            0 => Vec::new(),
            1 => vec![0; 30],
            2 => key(self.byte()).text().as_bytes().to_vec(),
            3 => key(self.byte()).old_text().as_bytes().to_vec(),
            length => {
                let (content, rest) = self.0.split_at(usize::from(length % 32).min(self.0.len()));
                self.0 = rest;
                content.to_vec()
            }
        };
        Some((name, content))
    }
}

fn key(number: Option<u8>) -> Key {
    Key::new(&AttachmentId { container_id: format!("pod{}", number.unwrap_or(0) % 4), ifname: "eth0".to_owned() })
}

fn sets() -> Vec<RangeSet> {
    let range = |subnet: &str| {
        let wanted = Wanted { subnet: subnet.parse().expect("a subnet"), start: None, end: None, gateway: None };
        RangeSet(vec![Range::new(&wanted, "ipam").expect("a range")])
    };
    vec![range("10.0.0.0/28"), range("fd00::/124")]
}

/// A store that goes when the run is over, in memory where there is such a file system.
struct Place {
    data: PathBuf,
    /// Was the index forged?
    forged: bool,
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.data);
    }
}

impl Place {
    fn new() -> Self {
        let data = std::env::temp_dir().join(format!("podwire-fuzz-store-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&data);
        std::fs::create_dir_all(data.join("net")).expect("a directory for the fuzzer");
        Place { data, forged: false }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.data.join("net").join(name)
    }

    /// As a new file: nobody writes an address into a file that is there, and in place it would change nothing that the
    /// index could notice.
    fn write(&self, name: &str, content: &[u8]) {
        let _ = std::fs::remove_file(self.file(name));
        std::fs::write(self.file(name), content).expect("write a file of the store");
    }

    fn store(&self) -> Option<Store> {
        Store::create(&self.data, "net").ok()
    }

    /// Every address that is taken, with what its file holds.
    fn held(&self) -> BTreeMap<IpAddr, Content> {
        let entries = std::fs::read_dir(self.data.join("net")).expect("the store").flatten();
        let named = entries.filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            let address: IpAddr = name.parse().ok().filter(|address: &IpAddr| address.to_string() == name)?;
            Some((address, Content::of(&std::fs::read(entry.path()).ok()?)))
        });
        named.filter(|(_, content)| *content != Content::Free).collect()
    }

    fn reserve(&self, key: &Key, wish: Option<IpAddr>) {
        let (before, sets) = (self.held(), sets());
        let Some(mut store) = self.store() else { return };
        let wish = wish.filter(|address| sets[0].range_of(*address).is_some());
        let outcome = store.reserve(key, &sets, &[wish, None]);
        drop(store);
        let mut after = self.held();
        let Ok(given) = outcome else { return self.same(&after, &before, "a failed ADD leaves nothing") };
        assert!(wish.is_none_or(|wish| wish == given[0]));
        for (address, set) in given.iter().zip(&sets) {
            let range = set.range_of(*address).expect("given of its set");
            assert!(wish == Some(*address) || range.gateway != *address);
            assert!(after.remove(address).expect("has a file").is(key.text()));
        }
        self.same(&after, &before, "what others hold stays, and what was given was free");
    }

    fn release(&self, key: &Key) {
        let before = self.held();
        let Some(mut store) = self.store() else { return };
        let outcome = store.release(key);
        drop(store);
        if self.forged {
            return;
        }
        outcome.expect("nothing keeps a file from being removed here");
        let after = self.held();
        assert!(!after.values().any(|content| content.is(key.text())), "DEL leaves nothing");
        // What is left of a damaged file may be known to be the attachment's.
        let may_go =
            |content: &Content| content.is(key.text()) || content.is(key.old_text()) || content.is_damaged(true);
        nothing_else_went(&before, &after, may_go);
    }

    fn collect(&self, valid: &Key) {
        let before = self.held();
        let Some(mut store) = self.store() else { return };
        let outcome = store.collect(std::slice::from_ref(valid));
        drop(store);
        if self.forged {
            return;
        }
        outcome.expect("nothing keeps a file from being removed here");
        let after = self.held();
        let is_valid = |content: &Content| content.is(valid.text()) || content.is(valid.old_text());
        nothing_else_went(&before, &after, |content| !is_valid(content));
        // What is damaged, or may be the beginning of a valid one, may stay.
        let may_stay = |content: &Content| match content {
            Content::Text(text) => valid.text().as_bytes().starts_with(text) || content.is_damaged(true),
            _ => true,
        };
        assert!(after.values().all(may_stay), "GC removes what is not valid: {after:?}");
    }

    fn status(&self) {
        let (before, sets) = (self.held(), sets());
        let Some(mut store) = self.store() else { return };
        for (number, set) in sets.iter().enumerate() {
            let free = store.has_free(number, &sets).expect("nothing keeps the store from being read here");
            let range = &set.0[0];
            let taken = before.keys().filter(|ip| set.range_of(**ip).is_some() && **ip != range.gateway).count();
            assert!(!free || taken + 1 < (range.last - range.first + 1) as usize, "set {number}, {taken} taken");
        }
        drop(store);
        self.same(&self.held(), &before, "STATUS changes nothing");
    }

    fn same(&self, after: &BTreeMap<IpAddr, Content>, before: &BTreeMap<IpAddr, Content>, why: &str) {
        assert!(self.forged || after == before, "{why}: {before:?}, then {after:?}");
    }

    /// Changes bytes of the index.
    fn damage(&self, input: &mut Input) {
        let Ok(bytes) = std::fs::read(self.file("index.podwire")) else { return };
        self.write("index.podwire", &changed(bytes, input));
    }

    /// Changes bytes of the index, and makes its checksums hold all the same.
    fn forge(&mut self, input: &mut Input) {
        let Ok(bytes) = std::fs::read(self.file("index.podwire")) else { return };
        self.forged = true;
        self.write("index.podwire", &sealed(changed(bytes, input)));
    }
}

const PAGE: usize = 4096;

fn changed(mut bytes: Vec<u8>, input: &mut Input) -> Vec<u8> {
    for _ in 0..input.byte().unwrap_or(0) % 8 {
        let (page, at, value) = (input.byte(), input.byte(), input.byte());
        let at = usize::from(page.unwrap_or(0)) % 9 * PAGE + usize::from(at.unwrap_or(0));
        if let Some(byte) = bytes.get_mut(at) {
            *byte = value.unwrap_or(0);
        }
    }
    bytes
}

fn sealed(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.len() > PAGE {
        let sum = XxHash64::oneshot(0, &bytes[24..80]);
        bytes[16..24].copy_from_slice(&sum.to_le_bytes());
        for (bucket, page) in bytes[PAGE..].chunks_exact_mut(PAGE).enumerate() {
            let sum = XxHash64::oneshot(bucket as u64 + 1, &page[8..]);
            page[..8].copy_from_slice(&sum.to_le_bytes());
        }
    }
    bytes
}

/// All that is there now was there before, and what is not there any more was one that may go.
fn nothing_else_went(
    before: &BTreeMap<IpAddr, Content>,
    after: &BTreeMap<IpAddr, Content>,
    may_go: impl Fn(&Content) -> bool,
) {
    assert!(after.iter().all(|(address, content)| before.get(address) == Some(content)), "{before:?}, then {after:?}");
    let gone = before.iter().filter(|(address, _)| !after.contains_key(address));
    gone.for_each(|(address, content)| assert!(may_go(content), "{address} went: {content:?}"));
}
