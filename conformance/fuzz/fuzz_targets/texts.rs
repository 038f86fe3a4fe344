//! Small texts that others may have written: address files, resolv.conf, boot IDs, aliases of links, MAC addresses, names.
#![no_main]

use std::ffi::CStr;

use attach::{Label, Owner};
use host_local::reservation::{Content, Key, MAX_BYTES};
use host_local::{directory, range, resolv, scan};
use kernel::Mac;
use libcni::AttachmentId;
use libcni::invocation::{identifier_fault, ifname_fault};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    Content::of(&data[..data.len().min(MAX_BYTES)]);
    if let Ok(name) = CStr::from_bytes_until_nul(data)
        && let Some(address) = directory::named_address(name)
    {
        // A name that is an address is that address's only name.
        let canonical = range::address(range::number(address));
        assert_eq!(Some(canonical.to_string().as_str()), name.to_str().ok());
    }
    if let Ok(text) = std::str::from_utf8(data) {
        resolv::parse(text);
        scan::boot_number(text);
        label(text);
        if let Ok(mac) = text.parse::<Mac>() {
            assert_eq!(mac.to_string().parse(), Ok(mac));
        }
        if let Some(owner) = Owner::from_hex(text) {
            assert_eq!(Owner::from_hex(&owner.to_string()), Some(owner));
            assert_eq!(ifname_fault(&owner.host_end()), None);
        }
        names(text);
    }
});

fn label(text: &str) {
    let Some(label) = Label::parse(text) else { return };
    let owned = names_of_owned(&label);
    let (alias, record) = label.alias();
    assert!(alias.len() < 255, "{} bytes", alias.len());
    let read = Label::parse(&alias).expect("what we write");
    assert_eq!(read.owner, label.owner);
    let complete = record.as_ref().map_or(Some(read), |record| Label::parse(record.text())).expect("what we write");
    assert_eq!(names_of_owned(&complete), owned);
    assert_eq!(complete.is_complete(), label.is_complete());
}

/// What the attachment owns beside its wire, but for the record: whether there is one is the writer's affair.
fn names_of_owned(label: &Label) -> Vec<String> {
    let owned = attach::kinds::owned_by(label).filter(|(kind, _)| kind.part() != "more");
    owned.map(|(kind, object)| format!("{}: {object:?}", kind.name())).collect()
}

/// A container ID and an interface name that are accepted are told apart in an address file.
fn names(text: &str) {
    let Some((container_id, ifname)) = text.split_once('/') else { return };
    if identifier_fault(container_id).is_none() && ifname_fault(ifname).is_none() {
        let key = Key::new(&AttachmentId { container_id: container_id.to_owned(), ifname: ifname.to_owned() });
        assert!(Content::of(key.text().as_bytes()).is(key.text()));
        assert!(key.text().len() < MAX_BYTES);
    }
}
