//! The store's directory as any prefix of its writes could have left it, and with each of its files damaged.
//!
//! A prefix is made by killing a real call before each system call that changes something: what comes next is either the
//! same boot (a process died) or another (the power went). Damage is what a disk, or somebody, does to one file.

use std::os::unix::fs::symlink;

use super::reboot::in_boot;
use super::*;

/// Three addresses for those who live, two to give.
fn small(bench: &Bench) -> Value {
    bench.config(json!({"subnet": "10.5.0.0/29"}))
}

const LIVING: [&str; 3] = ["one-that-lives", "another-that-lives", "third-that-lives"];

/// What changes something, and what it may stand before.
const WRITES: [&str; 9] =
    ["openat", "mkdir", "write", "pwrite64", "linkat", "ftruncate", "renameat", "unlinkat", "utimensat"];

/// A call killed before the `nth` system call of that name; false: it has not so many.
fn killed(bench: &Bench, config: &Value, command: &str, id: &str, (name, nth): (&str, u32)) -> bool {
    let trace = bench.node.file("trace");
    let script = format!(
        "exec strace -f -qq -o {} -e trace={name} -e inject={name}:signal=SIGKILL:when={nth} \"$PLUGIN\"",
        trace.display()
    );
    shell(&script, command, id, config);
    std::fs::read_to_string(trace).unwrap().contains("killed by SIGKILL")
}

/// Every point of a call, with a store that somebody lives in or one that is yet to be made, handed to `after` when the
/// call has been killed there.
fn at_every_prefix(command: &str, living: &[&str], after: impl Fn(&Bench, &Value, &str)) -> u32 {
    let mut points = 0;
    for name in WRITES {
        for nth in 1.. {
            let bench = Bench::new();
            let config = small(&bench);
            living.iter().for_each(|id| drop(bench.add(id, &config)));
            if command == "DEL" {
                bench.add("victim", &config);
            }
            if !killed(&bench, &config, command, "victim", (name, nth)) {
                break;
            }
            points += 1;
            after(&bench, &config, &format!("{command} killed before {name} {nth}, {} living", living.len()));
        }
    }
    println!("{points} points of {command}, with {} living", living.len());
    points
}

#[test]
fn a_prefix_of_the_writes_loses_no_address_and_gives_none_twice() {
    for (command, living) in [("ADD", &LIVING[..]), ("ADD", &[]), ("DEL", &LIVING[..])] {
        let points = at_every_prefix(command, living, |bench, config, what| {
            let held: Vec<String> = (2..5).map(|last| format!("10.5.0.{last}")).take(living.len()).collect();
            bench.call("DEL", "victim", config).ok();
            let mut given: Vec<String> =
                (0..5 - living.len()).map(|pod| bench.add(&format!("new{pod}"), config)[0].clone()).collect();
            assert!(!given.iter().any(|address| held.contains(address)), "{what}: {given:?}");
            given.sort();
            given.dedup();
            assert_eq!(given.len() + living.len(), 5, "{what}: {given:?}");
            for id in living {
                bench.call("CHECK", id, config).ok();
            }
            bench.gc(&[], config).ok();
            assert!(bench.files().is_empty(), "{what}");
        });
        assert!(points >= 12, "{points} points only");
    }
}

#[test]
fn a_prefix_of_the_writes_and_then_a_reboot_leaves_a_node_that_can_give_every_address() {
    for (command, living) in [("ADD", &LIVING[..]), ("ADD", &[]), ("DEL", &LIVING[..])] {
        at_every_prefix(command, living, |bench, config, what| {
            in_boot(bench, 2, "STATUS", "", config);
            assert_eq!(bench.files().into_keys().collect::<Vec<_>>(), [""; 0], "{what}: not freed");
            assert_eq!(bench.add("new", config).len(), 1, "{what}");
        });
    }
}

/// What becomes of one file.
const DAMAGES: [&str; 8] =
    ["gone", "empty", "zeros", "cut", "garbage", "a directory", "a symbolic link", "not to be read"];

/// Does that to `file`; `outside` is where the link leads.
fn damage(file: &Path, outside: &Path, what: &str) {
    let bytes = std::fs::read(file).unwrap();
    let remove = || std::fs::remove_file(file).unwrap();
    match what {
        "gone" => remove(),
        "empty" => std::fs::write(file, "").unwrap(),
        "zeros" => std::fs::write(file, vec![0; bytes.len()]).unwrap(),
        "cut" => std::fs::write(file, &bytes[..bytes.len() / 2]).unwrap(),
        "garbage" => std::fs::write(file, vec![0xa7; bytes.len()]).unwrap(),
        "a directory" => {
            remove();
            std::fs::create_dir(file).unwrap();
        }
        "a symbolic link" => {
            remove();
            symlink(outside, file).unwrap();
        }
        // By a mount that only the call sees.
        _ => {}
    }
}

fn repair(file: &Path, what: &str) {
    match what {
        "a directory" => std::fs::remove_dir(file).unwrap(),
        "a symbolic link" => std::fs::remove_file(file).unwrap(),
        _ => {}
    }
}

/// A call that finds `file` so damaged; GC with all that live. Its result, or `None`, and what it said besides.
fn call(file: &Path, what: &str, command: &str, id: &str, config: &Value) -> (Option<Value>, String) {
    let mut config = config.clone();
    if command == "GC" {
        let valid: Vec<Value> = LIVING.iter().map(|id| json!({"containerID": id, "ifname": "eth0"})).collect();
        config["cni.dev/valid-attachments"] = json!(valid);
    }
    // The memory of a process, from its first page on, can't be read: EIO.
    let unread = format!("exec unshare -m sh -c 'mount --bind /proc/$$/mem {} && exec \"$PLUGIN\"'", file.display());
    let script = if what == "not to be read" { unread.as_str() } else { "exec \"$PLUGIN\"" };
    let output = shell(script, command, id, &config);
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
    match output.status.success() {
        true => (Some(serde_json::from_str(&stdout).unwrap_or(Value::Null)), stderr),
        false => (None, stdout + &stderr),
    }
}

#[test]
fn a_damaged_file_is_told_of_and_takes_no_address_from_a_living_pod() {
    for name in ["10.5.0.3", "index.podwire", "last_reserved_ip.0", "lock"] {
        for what in DAMAGES {
            let case = format!("{name}: {what}");
            let bench = Bench::new();
            let config = small(&bench);
            let held: Vec<String> = LIVING.iter().map(|id| bench.add(id, &config)[0].clone()).collect();
            let (file, outside) = (bench.store().join(name), bench.node.file("outside"));
            damage(&file, &outside, what);
            let (mut said, mut given) = (String::new(), Vec::new());
            for (command, id) in [("ADD", "new"), ("STATUS", ""), ("GC", ""), ("ADD", "newer"), ("ADD", "newest")] {
                let (result, text) = call(&file, what, command, id, &config);
                // What stands where the program has to write is an error that names it; so is a GC that can't see whose
                // an address is.
                assert!(
                    result.is_some() || text.contains(name) || text.contains("is full"),
                    "{case}: {command}: {text}"
                );
                given.extend(result.filter(|result| result["ips"].is_array()).iter().flat_map(addresses));
                said += &text;
            }
            // A lock holds nothing, and of what is gone only the index is missed.
            let is_told = match what {
                "gone" => name == "index.podwire",
                "a directory" | "a symbolic link" => true,
                _ => name != "lock",
            };
            assert_eq!(is_told, said.contains(name) || said.contains(": index "), "{case}: {said}");
            // An address file that is gone takes its reservation along: the files are the truth.
            let is_lost = name == held[1] && what == "gone";
            assert_eq!(is_lost, given.iter().any(|address| held.contains(address)), "{case}: {given:?} {said}");
            assert!(!outside.exists(), "{case}: the link was followed");
            repair(&file, what);
            for id in LIVING {
                bench.call("DEL", id, &config).ok();
            }
            bench.gc(&[], &config).ok();
            assert!(bench.files().is_empty(), "{case}");
        }
    }
}

#[test]
fn an_address_file_cut_anywhere_is_its_pods_as_long_as_the_runtime_says_it_lives() {
    let text = format!("{}\r\neth0", LIVING[1]);
    for length in 0..text.len() {
        let bench = Bench::new();
        let config = small(&bench);
        LIVING.iter().for_each(|id| drop(bench.add(id, &config)));
        std::fs::write(bench.store().join("10.5.0.3"), &text[..length]).unwrap();
        for round in 0..2 {
            bench.gc(&LIVING, &config).ok();
            assert_eq!(bench.call("ADD", &format!("new{round}"), &config).ok()["ips"].as_array().unwrap().len(), 1);
            bench.call("DEL", &format!("new{round}"), &config).ok();
        }
        let given: Vec<String> = (0..2).map(|pod| bench.add(&format!("pod{pod}"), &config)[0].clone()).collect();
        assert!(!given.contains(&"10.5.0.3".to_owned()), "cut to {length}: {given:?}");
        assert_eq!(bench.call("ADD", "more", &config).code(), 101, "cut to {length}");
        bench.call("DEL", LIVING[1], &config).ok();
        bench.gc(&[LIVING[0], LIVING[2], "pod0", "pod1"], &config).ok();
        assert_eq!(bench.add("more", &config), ["10.5.0.3"], "cut to {length}");
    }
}

#[test]
fn a_damaged_file_and_then_a_reboot_keep_no_address_from_being_given() {
    for name in ["10.5.0.3", "index.podwire", "last_reserved_ip.0", "lock"] {
        for what in ["gone", "empty", "zeros", "cut", "garbage"] {
            let bench = Bench::new();
            let config = small(&bench);
            LIVING.iter().for_each(|id| drop(bench.add(id, &config)));
            damage(&bench.store().join(name), &bench.node.file("outside"), what);
            in_boot(&bench, 2, "STATUS", "", &config);
            let left = bench.files().len();
            // Without the index nobody knows whose they were: the runtime's DEL or GC frees them.
            let by_runtime = name == "index.podwire" || (name == "10.5.0.3" && what == "cut");
            assert!(left == 0 || by_runtime, "{name} {what}: {left} left");
            in_boot(&bench, 2, "DEL", LIVING[1], &config);
            bench.gc(&[], &config).ok();
            assert!(bench.files().is_empty(), "{name} {what}");
        }
    }
}

#[test]
fn something_else_in_the_networks_place_is_named() {
    let bench = Bench::new();
    let config = small(&bench);
    std::fs::create_dir_all(bench.node.file("data")).unwrap();
    std::fs::write(bench.store(), "").unwrap();
    for command in ["ADD", "CHECK", "DEL"] {
        let reply = bench.call(command, "a", &config);
        assert!(reply.code() == 5 && reply.details().contains("data/net"), "{command}: {}", reply.stdout);
    }
    assert_eq!(bench.gc(&[], &config).code(), 5);
    assert_eq!(bench.status(&config).code(), 50);
}
