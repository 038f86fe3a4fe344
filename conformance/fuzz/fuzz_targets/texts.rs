//! Small texts that others may have written: address files, resolv.conf, boot IDs, aliases of links, MAC addresses, names.
#![no_main]

use std::ffi::CStr;

use dataplane::Mac;
use dataplane::owner::{Label, Owner};
use host_local::reservation::{Content, Key, MAX_BYTES};
use host_local::{directory, range, resolv, scan};
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
    let written = label.to_string();
    assert!(written.len() < 255, "{} bytes", written.len());
    let read = Label::parse(&written).expect("what we write");
    assert_eq!(read.owner, label.owner);
    assert_eq!((read.mac_check, read.source_check), (label.mac_check, label.source_check));
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
