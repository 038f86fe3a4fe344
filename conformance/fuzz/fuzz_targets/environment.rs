//! The `CNI_*` variables, `CNI_ARGS` among them. The input holds their values, with zeros between.
//!
//! Beside "no panic": an attachment that is accepted has names that are no paths and that the kernel takes.
#![no_main]

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use libcni::{Command, Invocation};
use libfuzzer_sys::fuzz_target;

const NAMES: [&str; 7] =
    ["CNI_COMMAND", "CNI_CONTAINERID", "CNI_IFNAME", "CNI_ARGS", "CNI_NETNS", "CNI_PATH", "CNI_NETNS_OVERRIDE"];

fuzz_target!(|data: &[u8]| {
    let values: Vec<&[u8]> = data.split(|byte| *byte == 0).collect();
    let lookup = |name: &str| {
        let at = NAMES.iter().position(|known| *known == name)?;
        values.get(at).map(|value| OsString::from_vec(value.to_vec()))
    };
    let Ok(Some(invocation)) = Invocation::read(&lookup) else { return };
    assert!(invocation.path.iter().all(|directory| directory.is_absolute()));
    arguments(&invocation);
    let Some(attachment) = &invocation.attachment else {
        assert!(!invocation.command.is_about_an_attachment());
        return;
    };
    assert!(invocation.command == Command::Del || attachment.netns().is_ok());
    attachment.sandbox();
    let is_a_name =
        |text: &str| !text.is_empty() && !text.contains(['/', '\0', '\n', ' ']) && text != "." && text != "..";
    assert!(is_a_name(&attachment.id.container_id) && is_a_name(&attachment.id.ifname));
    assert!(attachment.id.container_id.starts_with(|first: char| first.is_ascii_alphanumeric()));
    assert!(attachment.id.ifname.len() <= 15 && !attachment.id.ifname.contains(['%', ':']));
});

/// What is read strictly is read loosely too, and says the same.
fn arguments(invocation: &Invocation) {
    let strict = invocation.args();
    for key in ["IP", "MAC", "K8S_POD_NAME"] {
        let loose = invocation.loose_arg(key);
        if let Ok(pairs) = &strict {
            assert_eq!(pairs.contains_key(key), loose.is_some());
        }
    }
    let Ok(pairs) = strict else { return };
    let text: Vec<String> = pairs.iter().map(|(key, value)| format!("{key}={value}")).collect();
    let again = Invocation { raw_args: Some(text.join(";").into()), ..invocation.clone() };
    assert_eq!(again.args().expect("pairs"), pairs);
}
