//! One store, two programs: ours and the Go host-local of Debian's containernetworking-plugins.

use std::collections::BTreeSet;

use super::verbs::in_parallel;
use super::*;

fn is_there() -> bool {
    let found = Path::new(REFERENCE_DIR).join("host-local").exists();
    if !found {
        eprintln!("skipped: no {REFERENCE_DIR}/host-local (apt-get install containernetworking-plugins)");
    }
    found
}

#[test]
fn both_give_the_same_addresses_in_the_same_order() {
    if !is_there() {
        return;
    }
    let ours = Bench::new();
    let theirs = Bench::new();
    let ipam = json!({"ranges": [
        [{"subnet": "10.5.0.0/29"}, {"subnet": "10.6.0.0/24", "rangeStart": "10.6.0.250", "gateway": "10.6.0.252"},
         {"subnet": "10.7.0.0/30", "gateway": "10.7.0.2"}],
        [{"subnet": "fd00::/120", "rangeEnd": "fd00::12"}],
    ]});
    // What happens, with wrap-around, holes, requested addresses, and the end of the range.
    let script: Vec<(&str, usize, &str)> = (0..9)
        .map(|pod| ("ADD", pod, ""))
        .chain([("DEL", 1, ""), ("DEL", 4, ""), ("DEL", 7, "")])
        .chain((10..14).map(|pod| ("ADD", pod, "")))
        .chain([("DEL", 3, ""), ("ADD", 20, "IP=10.5.0.5"), ("DEL", 0, ""), ("ADD", 21, ""), ("ADD", 22, "")])
        .collect();
    let run = |bench: &Bench, plugin: &str| -> Vec<Vec<Value>> {
        let config = bench.config_in("1.0.0", ipam.clone());
        let step = |(command, pod, args): &(&str, usize, &str)| {
            let reply = bench.call_with(plugin, command, &format!("pod{pod}"), &config, args);
            reply.json["ips"].as_array().cloned().unwrap_or_default()
        };
        script.iter().map(step).collect()
    };
    let (a, b) = (run(&ours, "host-local"), run(&theirs, &format!("{REFERENCE_DIR}/host-local")));
    for (step, (a, b)) in script.iter().zip(a.iter().zip(&b)) {
        assert_eq!(a, b, "{step:?}");
    }
    assert!(a.iter().any(Vec::is_empty) && a.iter().filter(|ips| ips.len() == 2).count() > 10);
    assert_eq!(ours.files(), theirs.files(), "the stores, to the byte");
    for number in 0..2 {
        let name = format!("last_reserved_ip.{number}");
        let [a, b] = [&ours, &theirs].map(|bench| std::fs::read(bench.store().join(&name)).unwrap());
        assert_eq!(a, b, "{name}");
    }
}

#[test]
fn either_sees_and_frees_what_the_other_made() {
    if !is_there() {
        return;
    }
    let bench = Bench::new();
    let config = bench.config_in("1.0.0", json!({"ranges": [[{"subnet": "10.5.0.0/24"}], [{"subnet": "fd00::/64"}]]}));
    bench.add("ours", &config);
    assert_eq!(addresses(&bench.go("ADD", "theirs", &config).ok()), ["10.5.0.3", "fd00::3"]);
    bench.go("CHECK", "ours", &config).ok();
    bench.call("CHECK", "theirs", &config).ok();
    assert!(!bench.go("ADD", "ours", &config).success);
    assert_eq!(bench.call("ADD", "theirs", &config).code(), 103);
    bench.go("DEL", "ours", &config).ok();
    bench.call("DEL", "theirs", &config).ok();
    assert!(bench.files().is_empty());
    assert_eq!(bench.call("CHECK", "ours", &config).code(), 102);
    // Nothing of ours beside the address files reads as a reservation to the other.
    assert!(!bench.go("CHECK", "ours", &config).success);
}

#[test]
fn the_oldest_form_with_the_container_id_alone_is_found_and_freed() {
    let bench = Bench::new();
    let config = bench.config(json!({"subnet": "10.5.0.0/24"}));
    std::fs::create_dir_all(bench.store()).unwrap();
    std::fs::write(bench.store().join("10.5.0.2"), "old").unwrap();
    std::fs::write(bench.store().join("10.5.0.3"), "older\n").unwrap();
    bench.call("CHECK", "old", &config).ok();
    assert_eq!(bench.call("ADD", "older", &config).code(), 103);
    assert_eq!(bench.add("new", &config), ["10.5.0.4"]);
    bench.call("DEL", "old", &config).ok();
    bench.call("DEL", "older", &config).ok();
    assert_eq!(bench.files().keys().collect::<Vec<_>>(), ["10.5.0.4"]);
}

#[test]
fn both_at_once_give_no_address_twice_and_either_empties_the_store() {
    if !is_there() {
        return;
    }
    let bench = Bench::new();
    let config = bench.config_in("1.0.0", json!({"subnet": "10.5.0.0/24"}));
    let of = |number: usize| {
        if number.is_multiple_of(2) { "host-local".to_owned() } else { format!("{REFERENCE_DIR}/host-local") }
    };
    let given = in_parallel(16, 160, |number| {
        let id = format!("pod{number}");
        let reply = bench.call_with(&of(number), "ADD", &id, &config, "").ok();
        // A third come and go while the others are added.
        if number.is_multiple_of(3) {
            bench.call_with(&of(number / 3), "DEL", &id, &config, "").ok();
            return None;
        }
        Some(addresses(&reply)[0].clone())
    });
    let given: Vec<String> = given.into_iter().flatten().collect();
    let distinct: BTreeSet<&String> = given.iter().collect();
    assert_eq!(distinct.len(), given.len(), "an address was given twice");
    assert_eq!(bench.files().keys().collect::<BTreeSet<_>>(), distinct);
    in_parallel(16, 160, |number| {
        bench.call_with(&of(number + 1), "DEL", &format!("pod{number}"), &config, "").ok();
    });
    assert!(bench.files().is_empty(), "{:?}", bench.files());
}

#[test]
fn the_store_is_the_same_whatever_the_umask() {
    for umask in ["000", "077", "777"] {
        let bench = Bench::new();
        let config = bench.config(json!({"subnet": "10.5.0.0/24"}));
        let output = shell(&format!("umask {umask}; exec \"$PLUGIN\""), "ADD", "a", &config);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        assert_eq!(mode(&bench.node.file("data")), 0o755);
        assert_eq!(mode(&bench.store()), 0o755);
        for entry in std::fs::read_dir(bench.store()).unwrap() {
            let path = entry.unwrap().path();
            assert_eq!(mode(&path), 0o600, "umask {umask}: {}", path.display());
        }
        assert_eq!(std::fs::read(bench.store().join("10.5.0.2")).unwrap(), b"a\r\neth0");
        assert_eq!(std::fs::read(bench.store().join("last_reserved_ip.0")).unwrap(), b"10.5.0.2");
    }
}
