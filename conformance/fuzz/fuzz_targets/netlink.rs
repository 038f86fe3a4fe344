//! The kernel's answers: routing messages, nftables' messages, the elements of its sets, and why something was refused. The
//! input's first byte says which.
//!
//! netlink-packet-netfilter 0.4.0 panics on expressions and set descriptions that end too early, which no kernel sends (a
//! plugin that met one would answer with an error, as after any panic). So panics of that crate, and of
//! netlink-packet-core within it, are passed over here; ours are not.
#![no_main]

use std::panic::{catch_unwind, set_hook, take_hook};
use std::sync::Once;

use kernel::fuzzing;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    static HOOK: Once = Once::new();
    HOOK.call_once(pass_over_the_library);
    let Some((kind, datagram)) = data.split_first() else { return };
    match kind % 4 {
        0 => fuzzing::routing(datagram, &cluster::fuzzing::neighbor),
        1 => drop(catch_unwind(|| fuzzing::netfilter(datagram))),
        2 => assert!(fuzzing::elements(datagram) <= datagram.len()),
        _ => drop(fuzzing::refusal(datagram)),
    }
});

/// libFuzzer's hook ends the process at a panic; that of the library is left to be caught.
fn pass_over_the_library() {
    let hook = take_hook();
    set_hook(Box::new(move |panic| {
        let of_library =
            |file: &str| file.contains("/netlink-packet-netfilter-") || file.contains("/netlink-packet-core-");
        if !panic.location().is_some_and(|location| of_library(location.file())) {
            hook(panic);
        }
    }));
}
