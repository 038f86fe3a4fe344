//! Reboots, played with a mount namespace that has a boot ID of its own.

use super::*;

/// Ours, in the boot whose ID is the number `boot`.
pub fn in_boot(bench: &Bench, boot: u32, command: &str, id: &str, config: &Value) -> Value {
    let file = bench.node.file(&format!("boot{boot}"));
    std::fs::write(&file, format!("00000000-0000-0000-0000-{boot:012x}\n")).unwrap();
    let script = format!(
        "exec unshare -m sh -c 'mount --bind {} /proc/sys/kernel/random/boot_id && exec \"$PLUGIN\"'",
        file.display()
    );
    let output = shell(&script, command, id, config);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_str(&stdout).unwrap_or(Value::Null)
}

#[test]
fn the_first_call_after_a_reboot_frees_what_we_made_and_keeps_what_go_made() {
    let bench = Bench::new();
    let config = bench.config_in("1.0.0", json!({"subnet": "10.5.0.0/28"}));
    for pod in 0..5 {
        in_boot(&bench, 1, "ADD", &format!("pod{pod}"), &config);
    }
    let reference = Path::new(REFERENCE_DIR).join("host-local").exists();
    if reference {
        // Go works for a while: a Pod of its own, and one of ours anew at the very same address.
        bench.go("ADD", "go", &config).ok();
        bench.go("DEL", "pod3", &config).ok();
        let again = bench.call_with(&format!("{REFERENCE_DIR}/host-local"), "ADD", "pod3", &config, "IP=10.5.0.5");
        assert_eq!(addresses(&again.ok()), ["10.5.0.5"]);
    } else {
        eprintln!("skipped in part: no {REFERENCE_DIR}/host-local (apt-get install containernetworking-plugins)");
    }
    let before = bench.files().len();
    in_boot(&bench, 1, "DEL", "nobody", &config);
    assert_eq!(bench.files().len(), before, "no reboot, nothing freed");
    in_boot(&bench, 2, "ADD", "new", &config);
    let mut left: Vec<String> = bench.files().into_values().collect();
    left.sort();
    let expected: &[&str] = if reference { &["go\r\neth0", "new\r\neth0", "pod3\r\neth0"] } else { &["new\r\neth0"] };
    assert_eq!(left, expected);
    // The next reboot frees the new one; the adopted ones stay until DEL.
    in_boot(&bench, 3, "DEL", "nobody", &config);
    assert_eq!(bench.files().len(), expected.len() - 1);
    in_boot(&bench, 3, "DEL", "go", &config);
    in_boot(&bench, 3, "DEL", "pod3", &config);
    assert!(bench.files().is_empty());
}

#[test]
fn a_node_full_of_dead_pods_gives_addresses_again_after_a_reboot() {
    let bench = Bench::new();
    let config = bench.config(json!({"subnet": "10.5.0.0/29"}));
    for pod in 0..5 {
        in_boot(&bench, 1, "ADD", &format!("pod{pod}"), &config);
    }
    in_boot(&bench, 2, "STATUS", "", &config);
    assert!(bench.files().is_empty());
    for pod in 0..5 {
        in_boot(&bench, 2, "ADD", &format!("new{pod}"), &config);
    }
}

#[test]
fn a_file_that_was_touched_since_is_adopted() {
    let bench = Bench::new();
    let config = bench.config(json!({"subnet": "10.5.0.0/24"}));
    for pod in ["touched", "edited", "same"] {
        in_boot(&bench, 1, "ADD", pod, &config);
    }
    std::fs::write(bench.store().join("10.5.0.2"), "touched\r\neth0").unwrap();
    std::fs::write(bench.store().join("10.5.0.3"), "else\r\neth0").unwrap();
    in_boot(&bench, 2, "DEL", "nobody", &config);
    assert_eq!(bench.files().into_values().collect::<Vec<_>>(), ["touched\r\neth0", "else\r\neth0"]);
}

#[test]
fn where_the_boot_id_cannot_be_read_nothing_is_freed() {
    let bench = Bench::new();
    let config = bench.config(json!({"subnet": "10.5.0.0/24"}));
    in_boot(&bench, 1, "ADD", "a", &config);
    let script = "exec unshare -m sh -c 'mount --bind /dev/null /proc/sys/kernel/random/boot_id && exec \"$PLUGIN\"'";
    let output = shell(script, "ADD", "b", &config);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(String::from_utf8_lossy(&output.stderr).contains("boot_id"));
    assert_eq!(bench.files().len(), 2);
    in_boot(&bench, 2, "DEL", "nobody", &config);
    assert_eq!(bench.files().into_values().collect::<Vec<_>>(), ["b\r\neth0"]);
}
