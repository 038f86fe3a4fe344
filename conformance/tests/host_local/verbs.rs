//! ADD, DEL, CHECK, GC and STATUS, one after another and all at once.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

#[test]
fn a_second_add_is_refused_with_the_addresses_held_and_del_is_idempotent() {
    let bench = Bench::new();
    let config = bench.config(json!({"ranges": [[{"subnet": "10.5.0.0/24"}], [{"subnet": "fd00::/64"}]]}));
    bench.add("a", &config);
    let again = bench.call("ADD", "a", &config);
    assert_eq!(again.code(), 103);
    assert!(again.details().contains("10.5.0.2") && again.details().contains("fd00::2"), "{}", again.stdout);
    for _ in 0..2 {
        bench.call("DEL", "a", &config).ok();
        assert!(bench.files().is_empty());
    }
    assert_eq!(bench.add("a", &config), ["10.5.0.3", "fd00::3"], "a freed address is not the next one given");
}

#[test]
fn del_works_whatever_has_become_of_the_configuration_and_without_a_store() {
    let bench = Bench::new();
    let config = bench.config(json!({"subnet": "10.5.0.0/24"}));
    bench.call("DEL", "a", &config).ok();
    assert!(!bench.node.file("data").exists(), "DEL made a store");
    bench.add("a", &config);
    let mut broken = bench.config(json!({"subnet": 7, "ranges": "all", "routes": false}));
    broken["runtimeConfig"] = json!("?");
    bench.call("DEL", "a", &broken).ok();
    assert!(bench.files().is_empty());
}

#[test]
fn a_data_directory_of_a_wrong_type_is_warned_about_and_del_goes_on() {
    let bench = Bench::new();
    let mut config = bench.config(json!({"subnet": "10.5.0.0/24"}));
    config["ipam"]["dataDir"] = json!(5);
    config["name"] = json!("podwire-test-of-a-network-that-is-not-there");
    let reply = bench.call("DEL", "a", &config);
    assert!(reply.success && reply.stderr.contains("ipam.dataDir"), "{} {}", reply.stdout, reply.stderr);
    assert_eq!(bench.call("ADD", "a", &config).code(), 7);
}

#[test]
fn check_finds_the_reservation_and_names_what_is_missing() {
    let bench = Bench::new();
    let mut config = bench.config(json!({"subnet": "10.5.0.0/24"}));
    assert_eq!(bench.call("CHECK", "a", &config).code(), 102);
    let result = bench.call("ADD", "a", &config).ok();
    config["prevResult"] = result;
    bench.call("CHECK", "a", &config).ok();
    // Another plugin's address is another plugin's affair; one of our range is not.
    let own = config["prevResult"]["ips"][0].clone();
    config["prevResult"]["ips"] = json!([own, {"address": "192.168.1.1/24"}]);
    bench.call("CHECK", "a", &config).ok();
    config["prevResult"]["ips"] = json!([own, {"address": "10.5.0.99/24"}]);
    let reply = bench.call("CHECK", "a", &config);
    assert!(reply.code() == 102 && reply.details().contains("10.5.0.99"), "{}", reply.stdout);
    assert_eq!(bench.call("CHECK", "b", &config).code(), 102);
}

#[test]
fn gc_frees_what_is_not_listed_and_keeps_the_rest() {
    let bench = Bench::new();
    let config = bench.config(json!({"subnet": "10.5.0.0/24"}));
    assert!(bench.gc(&[], &config).success, "GC without a store");
    for id in ["a", "b", "c"] {
        bench.add(id, &config);
    }
    // As the oldest versions wrote them: the container ID alone.
    std::fs::write(bench.store().join("10.5.0.50"), "b").unwrap();
    std::fs::write(bench.store().join("10.5.0.51"), "gone").unwrap();
    std::fs::write(bench.store().join("10.5.0.52"), "some garbage").unwrap();
    std::fs::write(bench.store().join("notes.txt"), "gone\r\neth0").unwrap();
    bench.gc(&["b", "c"], &config).ok();
    let left = bench.files();
    assert_eq!(left.keys().collect::<Vec<_>>(), ["10.5.0.3", "10.5.0.4", "10.5.0.50"]);
    assert!(bench.store().join("notes.txt").exists(), "a file that is no address is not ours");
    assert_eq!(bench.node.call_network("host-local", "GC", &config).code(), 7, "GC without its list");
}

#[test]
fn gc_goes_on_after_an_address_that_it_cannot_free() {
    let bench = Bench::new();
    let config = bench.config(json!({"subnet": "10.5.0.0/24"}));
    for id in ["a", "b", "c"] {
        bench.add(id, &config);
    }
    let stuck = bench.store().join("10.5.0.3");
    let attribute =
        |flag: &str| Command::new("chattr").arg(flag).arg(&stuck).status().is_ok_and(|status| status.success());
    if !attribute("+i") {
        eprintln!("skipped: this file system has no immutable files (chattr +i)");
        return;
    }
    let reply = bench.gc(&[], &config);
    let left = bench.files();
    assert!(attribute("-i"));
    assert!(reply.code() == 5 && reply.details().contains("10.5.0.3"), "{}", reply.stdout);
    assert_eq!(left.keys().collect::<Vec<_>>(), ["10.5.0.3"]);
    bench.gc(&[], &config).ok();
    assert!(bench.files().is_empty());
}

#[test]
fn status_says_50_when_a_set_is_full_and_when_the_store_is_unusable() {
    let bench = Bench::new();
    let config = bench.config(json!({"ranges": [[{"subnet": "fd00::/64"}], [{"subnet": "10.5.0.0/30"}]]}));
    bench.status(&config).ok();
    bench.add("a", &config);
    let full = bench.status(&config);
    assert!(full.code() == 50 && full.details().contains("range set 1 (10.5.0.1-10.5.0.2)"), "{}", full.stdout);
    let error = bench.call("ADD", "b", &config);
    assert!(error.code() == 101 && error.details().contains("range set 1"), "{}", error.stdout);
    assert_eq!(bench.files().len(), 2, "the first set's address was taken back");
    bench.call("DEL", "a", &config).ok();
    bench.status(&config).ok();

    std::fs::write(bench.node.file("file"), "").unwrap();
    let mut unusable = config.clone();
    unusable["ipam"]["dataDir"] = json!(bench.node.file("file"));
    assert_eq!(bench.status(&unusable).code(), 50);
    assert_eq!(bench.call("ADD", "a", &unusable).code(), 5);
}

#[test]
fn two_hundred_pods_sixteen_at_a_time_get_an_address_each() {
    let bench = Bench::new();
    let config = bench.config(json!({"ranges": [[{"subnet": "10.5.0.0/24"}], [{"subnet": "fd00::/64"}]]}));
    let given = in_parallel(16, 200, |number| bench.add(&format!("pod{number}"), &config)[0].clone());
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), 200);
    assert_eq!(bench.files().len(), 400);
    in_parallel(16, 200, |number| bench.call("DEL", &format!("pod{number}"), &config).ok());
    assert!(bench.files().is_empty());
}

/// `job(0)` to `job(count - 1)`, so many at a time.
pub fn in_parallel<T: Send>(threads: usize, count: usize, job: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        let worker = || {
            let mut done = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return done;
                }
                done.push(job(number));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a worker")).collect()
    })
}
