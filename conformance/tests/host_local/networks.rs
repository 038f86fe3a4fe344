//! Several networks in one data directory: a node that changes networks, and two that are in use at once.

use std::collections::BTreeSet;
use std::io::Write;

use super::verbs::in_parallel;
use super::*;

/// The same configuration under another network's name.
fn of(network: &str, config: &Value) -> Value {
    let mut config = config.clone();
    config["name"] = json!(network);
    config
}

#[test]
fn a_node_that_changes_networks_gives_no_address_that_a_pod_of_the_old_one_has() {
    let bench = Bench::new();
    let new =
        bench.config_in("1.0.0", json!({"ranges": [[{"subnet": "10.244.0.0/24"}], [{"subnet": "fd00:244::/64"}]]}));
    let old = of("cbr0", &new);
    let reference = format!("{REFERENCE_DIR}/host-local");
    let plugin = if Path::new(&reference).exists() { reference.as_str() } else { "host-local" };
    for (id, first) in [("a", "10.244.0.2"), ("b", "10.244.0.3")] {
        assert_eq!(addresses(&bench.call_with(plugin, "ADD", id, &old, "").ok())[0], first);
    }
    assert_eq!(bench.add("c", &new), ["10.244.0.4", "fd00:244::4"]);
    assert_eq!(bench.add("d", &new), ["10.244.0.5", "fd00:244::5"]);
    let asked = bench.call_with("host-local", "ADD", "e", &new, "IP=10.244.0.3");
    assert!(asked.code() == 101 && asked.details().contains("cbr0/10.244.0.3"), "{}", asked.stdout);
    assert_eq!(bench.files().len(), 4, "what an ADD that failed reserved is free again");
    // Neither network's DEL and GC touch what is the other's.
    bench.call("DEL", "a", &new).ok();
    let newest = bench.config(new["ipam"].clone());
    bench.gc(&[], &newest).ok();
    let left = address_files(&bench.node.file("data/cbr0"));
    assert_eq!(left.keys().collect::<Vec<_>>(), ["10.244.0.2", "10.244.0.3", "fd00:244::2", "fd00:244::3"]);
    bench.call_with(plugin, "DEL", "b", &old, "").ok();
    assert_eq!(addresses(&bench.call_with("host-local", "ADD", "e", &new, "IP=10.244.0.3").ok())[0], "10.244.0.3");
}

#[test]
fn two_networks_at_once_over_ranges_that_overlap_give_no_address_twice() {
    let bench = Bench::new();
    let configs = [
        bench.config(json!({"ranges": [[{"subnet": "10.5.0.0/24", "rangeEnd": "10.5.0.200"}]]})),
        of("other", &bench.config(json!({"ranges": [[{"subnet": "10.5.0.0/24", "rangeStart": "10.5.0.30"}]]}))),
    ];
    let given = in_parallel(16, 200, |number| {
        let (id, config) = (format!("pod{number}"), &configs[number % 2]);
        let reply = bench.call("ADD", &id, config).ok();
        // A third come and go while the others are added.
        if number.is_multiple_of(3) {
            bench.call("DEL", &id, config).ok();
            return None;
        }
        Some(addresses(&reply)[0].clone())
    });
    let given: Vec<String> = given.into_iter().flatten().collect();
    assert_eq!(given.iter().collect::<BTreeSet<_>>().len(), given.len(), "an address was given twice");
    let held = ["net", "other"].map(|name| address_files(&bench.node.file(&format!("data/{name}"))));
    assert_eq!(held[0].len() + held[1].len(), given.len());
    assert!(held[0].keys().all(|address| !held[1].contains_key(address)));
}

#[test]
fn of_two_networks_that_meet_at_the_last_address_one_gets_it() {
    for _ in 0..5 {
        let bench = Bench::new();
        let config = bench.config(json!({"subnet": "10.5.0.0/30"}));
        let configs = ["one", "two"].map(|network| of(network, &config));
        // Each has its file made before either looks at the other's.
        let script = "exec strace -f -qq -o /dev/null -e trace=linkat -e inject=linkat:delay_exit=200000 \"$PLUGIN\"";
        let replies = in_parallel(2, 2, |number| shell(script, "ADD", "pod", &configs[number]));
        let given = replies.iter().filter(|output| output.status.success()).count();
        let said: Vec<_> = replies.iter().map(|output| String::from_utf8_lossy(&output.stdout)).collect();
        assert_eq!(given, 1, "{said:?}");
        assert!(said.iter().any(|text| text.contains("\"code\": 101") || text.contains("\"code\":101")), "{said:?}");
        let files = ["one", "two"].map(|network| address_files(&bench.node.file(&format!("data/{network}"))).len());
        assert_eq!(files.iter().sum::<usize>(), 1);
    }
}

/// System calls of an ADD, by what they name.
fn calls_of_an_add(bench: &Bench, id: &str, config: &Value) -> usize {
    let trace = bench.node.file("trace");
    let script = format!("exec strace -f -qq -o {} \"$PLUGIN\"", trace.display());
    let output = shell(&script, "ADD", id, config);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    let trace = std::fs::read_to_string(trace).unwrap();
    let calls =
        trace.lines().filter(|line| ["mmap", "brk", "munmap"].iter().all(|call| !line.contains(&format!(" {call}("))));
    calls.count()
}

#[test]
fn another_network_costs_the_same_however_many_addresses_it_holds() {
    let count = |held: u32| {
        let bench = Bench::new();
        let config = bench.config(json!({"subnet": "10.4.0.0/14", "rangeStart": "10.5.0.0"}));
        let other = bench.node.file("data/other");
        std::fs::create_dir_all(&other).unwrap();
        for number in 0..held {
            let mut file =
                std::fs::File::create(other.join(format!("10.4.{}.{}", number / 256, number % 256))).unwrap();
            file.write_all(b"x\r\neth0").unwrap();
        }
        bench.add("first", &config);
        calls_of_an_add(&bench, "counted", &config)
    };
    let (few, many) = (count(1), count(10_000));
    assert!(few.abs_diff(many) <= 2, "{few} system calls, and {many} beside 10,000 addresses");
}

#[test]
fn an_add_killed_at_any_moment_beside_another_network_takes_no_address_from_it() {
    let writes = ["openat", "write", "pwrite64", "linkat", "newfstatat", "flock", "unlinkat", "utimensat"];
    let mut points = 0;
    for name in writes {
        for nth in 1.. {
            let bench = Bench::new();
            let config = bench.config(json!({"subnet": "10.5.0.0/29"}));
            let other = of("other", &config);
            let held: Vec<String> = ["a", "b"].iter().flat_map(|id| bench.add(id, &other)).collect();
            let trace = bench.node.file("trace");
            let script = format!(
                "exec strace -f -qq -o {} -e trace={name} -e inject={name}:signal=SIGKILL:when={nth} \"$PLUGIN\"",
                trace.display()
            );
            shell(&script, "ADD", "victim", &config);
            if !std::fs::read_to_string(trace).unwrap().contains("killed by SIGKILL") {
                break;
            }
            points += 1;
            let what = format!("killed before {name} {nth}");
            bench.call("DEL", "victim", &config).ok();
            assert!(bench.files().is_empty(), "{what}");
            let given: Vec<String> = (0..3).flat_map(|pod| bench.add(&format!("new{pod}"), &config)).collect();
            assert!(given.iter().all(|address| !held.contains(address)), "{what}: {given:?}");
            assert_eq!(bench.call("ADD", "more", &config).code(), 101, "{what}");
            ["a", "b"].iter().for_each(|id| drop(bench.call("CHECK", id, &other).ok()));
        }
    }
    assert!(points >= 20, "{points} points only");
}

#[test]
fn addresses_that_the_caller_names_are_not_given() {
    let bench = Bench::new();
    let config = bench.config(json!({"subnet": "10.5.0.0/24"}));
    let add = |id: &str, avoid: &str| {
        let script = format!("CNI_PODWIRE_AVOID='{avoid}' exec \"$PLUGIN\"");
        let output = shell(&script, "ADD", id, &config);
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(addresses(&add("a", "10.5.0.2,fd00::1, 10.5.0.3")), ["10.5.0.4"]);
    assert_eq!(addresses(&add("b", "")), ["10.5.0.5"]);
    let refused = add("c", "10.5.0.0/24");
    assert_eq!(refused["code"], 4);
    assert!(refused["details"].as_str().unwrap().contains("CNI_PODWIRE_AVOID"), "{refused}");
}
