//! A store that somebody tampered with, processes that die, and a disk that is full.

use std::os::unix::fs::symlink;
use std::time::Duration;

use fs2::FileExt;

use super::*;

#[test]
fn files_left_empty_or_full_of_zeros_are_free_and_garbage_is_held() {
    let bench = Bench::new();
    let config = bench.config(json!({"subnet": "10.5.0.0/29"}));
    std::fs::create_dir_all(bench.store()).unwrap();
    for (name, content) in
        [("10.5.0.2", &b""[..]), ("10.5.0.3", &[0; 40]), ("10.5.0.4", b"\xff\x00garbage"), ("10.5.0.5", b" ")]
    {
        std::fs::write(bench.store().join(name), content).unwrap();
    }
    let given: Vec<String> = (0..3).map(|pod| bench.add(&format!("pod{pod}"), &config)[0].clone()).collect();
    assert_eq!(given, ["10.5.0.2", "10.5.0.3", "10.5.0.6"]);
    assert_eq!(bench.call("ADD", "more", &config).code(), 101);
}

#[test]
fn an_index_that_is_deleted_damaged_or_in_the_way_costs_no_address() {
    let bench = Bench::new();
    let config = bench.config(json!({"subnet": "10.5.0.0/24"}));
    let index = bench.store().join("index.podwire");
    bench.add("first", &config);
    let sound = std::fs::read(&index).unwrap();
    let damage: [(&str, &dyn Fn()); 7] = [
        ("deleted", &|| std::fs::remove_file(&index).unwrap()),
        ("emptied", &|| std::fs::write(&index, "").unwrap()),
        ("truncated", &|| std::fs::write(&index, &std::fs::read(&index).unwrap()[..5000]).unwrap()),
        ("garbage", &|| std::fs::write(&index, vec![0x5a; sound.len()]).unwrap()),
        ("zeros in the buckets", &|| {
            let mut bytes = std::fs::read(&index).unwrap();
            bytes[4096..].fill(0);
            std::fs::write(&index, bytes).unwrap();
        }),
        ("a link", &|| {
            std::fs::remove_file(&index).unwrap();
            symlink(bench.node.file("outside"), &index).unwrap();
        }),
        ("a directory", &|| {
            std::fs::remove_file(&index).unwrap();
            std::fs::create_dir_all(index.join("x")).unwrap();
        }),
    ];
    for (number, (what, make)) in damage.iter().enumerate() {
        make();
        let id = format!("pod{number}");
        let reply = bench.call("ADD", &id, &config);
        assert!(reply.stderr.contains("index"), "{what}: nothing said: {}", reply.stderr);
        reply.ok();
        assert_eq!(bench.call("ADD", "first", &config).code(), 103, "{what}");
        bench.call("DEL", &id, &config).ok();
        assert_eq!(bench.files().len(), 1, "{what}");
    }
    assert!(!bench.node.file("outside").exists());
}

#[test]
fn planted_links_lead_nowhere() {
    let bench = Bench::new();
    let config = bench.config(json!({"subnet": "10.5.0.0/24"}));
    let outside = bench.node.file("outside");
    std::fs::write(&outside, "victim\r\neth0").unwrap();
    std::fs::create_dir_all(bench.store()).unwrap();
    symlink(&outside, bench.store().join("10.5.0.2")).unwrap();
    std::fs::create_dir(bench.store().join("10.5.0.3")).unwrap();
    // Another program's files below are neither read nor removed.
    std::fs::create_dir(bench.store().join("sub")).unwrap();
    std::fs::write(bench.store().join("sub/10.5.0.9"), "victim\r\neth0").unwrap();
    let fifo = bench.store().join("10.5.0.4");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());

    let reply = bench.call("ADD", "a", &config);
    assert!(reply.stderr.contains("10.5.0.2: a symbolic link"), "{}", reply.stderr);
    assert_eq!(addresses(&reply.ok()), ["10.5.0.5"]);
    bench.call("DEL", "victim", &config).ok();
    assert_eq!(bench.call("CHECK", "victim", &config).code(), 102);
    bench.gc(&[], &config).ok();
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "victim\r\neth0");
    assert!(bench.store().join("10.5.0.2").is_symlink() && bench.store().join("sub/10.5.0.9").exists());

    for name in ["last_reserved_ip.0", "lock"] {
        let target = bench.node.file(name);
        std::fs::remove_file(bench.store().join(name)).unwrap();
        symlink(&target, bench.store().join(name)).unwrap();
        let reply = bench.call("ADD", "b", &config);
        assert!(reply.code() == 5 && reply.details().contains(name), "{}", reply.stdout);
        assert!(!target.exists(), "{name} was followed");
        assert!(!bench.files().values().any(|content| content.starts_with("b\r")), "not undone");
        std::fs::remove_file(bench.store().join(name)).unwrap();
    }
}

#[test]
fn a_file_that_cannot_be_read_is_an_error_for_its_pod_and_none_for_others() {
    let bench = Bench::new();
    let config = bench.config(json!({"subnet": "10.5.0.0/24"}));
    bench.add("a", &config);
    bench.add("b", &config);
    // The memory of a process, from its first page on, can't be read: EIO.
    let script = format!(
        "exec unshare -m sh -c 'mount --bind /proc/$$/mem {} && exec \"$PLUGIN\"'",
        bench.store().join("10.5.0.2").display()
    );
    let answer = |output: std::process::Output| String::from_utf8_lossy(&output.stdout).into_owned();
    let own = answer(shell(&script, "DEL", "a", &config));
    assert!(own.contains("\"code\":5") && own.contains("10.5.0.2"), "{own}");
    let others = shell(&script, "DEL", "b", &config);
    assert!(others.status.success(), "{}", answer(others));
    assert_eq!(bench.files().keys().collect::<Vec<_>>(), ["10.5.0.2"]);
    // Seen as it could not be read, and found when it can.
    std::fs::remove_file(bench.store().join("index.podwire")).unwrap();
    let rebuilt = shell(&script, "DEL", "b", &config);
    assert!(String::from_utf8_lossy(&rebuilt.stderr).contains("10.5.0.2"), "{}", answer(rebuilt));
    bench.call("DEL", "a", &config).ok();
    assert!(bench.files().is_empty());
}

#[test]
fn the_networks_directory_is_not_followed_as_a_link() {
    let bench = Bench::new();
    let config = bench.config(json!({"subnet": "10.5.0.0/24"}));
    std::fs::create_dir_all(bench.node.file("data")).unwrap();
    std::fs::create_dir_all(bench.node.file("elsewhere")).unwrap();
    symlink(bench.node.file("elsewhere"), bench.store()).unwrap();
    let reply = bench.call("ADD", "a", &config);
    assert!(reply.code() == 5 && reply.details().contains("link"), "{}", reply.stdout);
    assert_eq!(std::fs::read_dir(bench.node.file("elsewhere")).unwrap().count(), 0);
}

#[test]
fn a_full_disk_is_a_clear_error_and_nothing_stays() {
    let bench = Bench::new();
    let data = bench.node.file("data");
    std::fs::create_dir_all(&data).unwrap();
    let config = bench.config(json!({"ranges": [[{"subnet": "10.5.0.0/24"}], [{"subnet": "fd00::/64"}]]}));
    // In a mount namespace of its own: a disk with room for a few files, filled until none is left.
    let script = format!(
        "exec unshare -m sh -c 'mount -t tmpfs -o nr_inodes=7 none {data} && mkdir {data}/net && \
         cp /dev/stdin {data}/config && \"$PLUGIN\" < {data}/config; ls {data}/net >&2'",
        data = data.display()
    );
    let output = shell(&script, "ADD", "a", &config);
    let stdout = String::from_utf8_lossy(&output.stdout);
    let listed = String::from_utf8_lossy(&output.stderr);
    assert!(stdout.contains("\"code\":5") && stdout.contains("No space left"), "{stdout}{listed}");
    assert!(!listed.lines().any(|name| name.parse::<std::net::IpAddr>().is_ok()), "{listed}");
}

/// Starts ours and lets it wait behind the lock, which the caller holds.
fn waiting(bench: &Bench, command: &str, id: &str, config: &Value) -> std::process::Child {
    use std::io::Write;
    let mut child = Command::new(bin_dir().join("host-local"))
        .env("CNI_COMMAND", command)
        .env("CNI_CONTAINERID", id)
        .env("CNI_IFNAME", "eth0")
        .env("CNI_NETNS", "/never/opened")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(config.to_string().as_bytes()).unwrap();
    let inode = std::fs::metadata(bench.store().join("lock")).unwrap().ino();
    let waits = || {
        let locks = std::fs::read_to_string("/proc/locks").unwrap();
        locks.lines().any(|line| line.contains("->") && line.contains(&format!(":{inode} ")))
    };
    while !waits() {
        assert!(child.try_wait().unwrap().is_none(), "it does not wait for the lock");
        std::thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn a_delegate_whose_caller_was_killed_neither_reserves_nor_frees() {
    let bench = Bench::new();
    let config = bench.config(json!({"subnet": "10.5.0.0/24"}));
    bench.add("kept", &config);
    for (command, id) in [("ADD", "late"), ("DEL", "kept")] {
        let lock = std::fs::File::open(bench.store().join("lock")).unwrap();
        lock.lock_exclusive().unwrap();
        let mut child = waiting(&bench, command, id, &config);
        // The caller dies: its end of the pipe closes.
        drop(child.stdout.take());
        drop(lock);
        assert!(!child.wait().unwrap().success(), "{command}");
        assert_eq!(bench.files().into_values().collect::<Vec<_>>(), ["kept\r\neth0"], "{command}");
    }
}

#[test]
fn a_lock_that_comes_free_is_taken_and_a_holder_that_is_killed_lets_go() {
    let bench = Bench::new();
    let config = bench.config(json!({"subnet": "10.5.0.0/24"}));
    bench.add("first", &config);
    let lock = bench.store().join("lock");
    let mut holder = Command::new("flock").arg(&lock).args(["sleep", "1000"]).spawn().unwrap();
    let locked = || {
        let file = std::fs::File::open(&lock).unwrap();
        file.try_lock_exclusive().is_err()
    };
    while !locked() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut child = waiting(&bench, "ADD", "second", &config);
    // flock(1) and its child share the lock; both must go.
    Command::new("sh")
        .args(["-c", &format!("kill -9 $(cat /proc/{0}/task/{0}/children) {0}", holder.id())])
        .status()
        .unwrap();
    holder.wait().unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(bench.files().len(), 2);
}
