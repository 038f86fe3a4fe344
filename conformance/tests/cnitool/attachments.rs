//! Attachments of other programs: found by namespace or ID, listed, and not taken for one another.

use super::*;

/// An attachment as containerd adds it: a long ID of its own, arguments, and a namespace below /var/run. `form` makes the
/// file what another program would have written.
fn added_by_containerd(bench: &Bench, pod: &Netns, id: &str, form: impl Fn(String) -> String) {
    let args = [("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=web"), ("CNI_CONTAINERID", id)];
    bench.run_with(&["add", "net", &path(pod)], &args).ok();
    let file = bench.node.file("cache/results").join(format!("net-{id}-eth0"));
    let text = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    std::fs::write(&file, form(text)).unwrap();
}

/// The newer libcnis write the namespace's path, the older ones have it in the result only.
fn forms() -> [fn(String) -> String; 2] {
    [
        |text| text.replace("\"netns\":\"/run/", "\"netns\":\"/var/run/"),
        |text| {
            let netns = text.find("\"netns\":").unwrap();
            let end = netns + text[netns..].find(',').unwrap() + 1;
            format!("{}{}", &text[..netns], &text[end..]).replace("\"sandbox\":\"/run/", "\"sandbox\":\"/var/run/")
        },
    ]
}

const POD_ID: &str = "3583a3813e9763bc1bc4d0f9c4cbd8ddd5d7a2a1a8d4e64e3ddb7b9a4e3c1f00";

#[test]
fn what_containerd_added_is_found_by_its_namespace_or_by_its_id() {
    for form in forms() {
        let bench = Bench::ours();
        let (pod, other) = (Netns::new("pod"), Netns::new("other"));
        added_by_containerd(&bench, &pod, POD_ID, form);
        let netns = path(&pod);
        for arguments in [
            &["check", "net", &netns][..],
            &["check", "net", "--container-id", POD_ID],
            &["--container-id", POD_ID, "check", "net", &netns],
        ] {
            let checked = bench.run(arguments);
            assert!(checked.success && checked.stderr.is_empty(), "{arguments:?}: {}", checked.stderr);
        }
        let checked = bench.run(&["check", "net", &path(&other)]);
        assert!(!checked.success && checked.stderr.contains("cnitool list shows"), "{}", checked.stderr);
        // In another namespace an interface of the same name is another container's.
        let refused = bench.run(&["del", "net", &path(&other), "--container-id", POD_ID]);
        assert!(!refused.success && refused.stderr.contains("leave the namespace out"), "{}", refused.stderr);
        assert!(pod.pings("10.22.0.1"));

        let deleted = bench.run(&["del", "net", &netns]);
        assert!(deleted.success && deleted.stderr.is_empty(), "{}", deleted.stderr);
        assert!(pod.try_sh("ip link show eth0").is_err());
        assert_eq!(bench.remembered(), (0, vec![]));

        added_by_containerd(&bench, &pod, POD_ID, form);
        let deleted = bench.run_with(&["del", "net"], &[("CNI_CONTAINERID", POD_ID)]);
        assert!(deleted.success && deleted.stderr.is_empty(), "{}", deleted.stderr);
        assert!(pod.try_sh("ip link show eth0").is_err());
        assert_eq!(bench.remembered(), (0, vec![]));
    }
}

#[test]
fn a_del_that_found_no_attachment_succeeds_and_says_so() {
    let bench = Bench::ours();
    let (pod, empty) = (Netns::new("pod"), Netns::new("empty"));
    bench.run(&["add", "net", &path(&pod)]).ok();
    for (arguments, named) in [
        (&["del", "net", &path(&empty)][..], path(&empty)),
        (&["del", "net", "--container-id", "nobody"], "nobody/eth0".to_owned()),
        (&["del", "net", &path(&pod), "--ifname", "net1"], "/net1".to_owned()),
    ] {
        let reply = bench.run(arguments);
        assert!(reply.success && reply.stdout.is_empty(), "{arguments:?}: {}", reply.stderr);
        for part in ["no attachment to network \"net\" was found", &named, "cnitool list", "--cache-dir"] {
            assert!(reply.stderr.contains(part), "{part} is not in {}", reply.stderr);
        }
    }
    assert!(pod.pings("10.22.0.1"), "another attachment was removed");
    for command in ["check", "del"] {
        let reply = bench.run(&[command, "net"]);
        assert!(!reply.success && reply.stderr.contains("give NETNS or --container-id"), "{command}: {}", reply.stderr);
    }
    let found = bench.run(&["del", "net", &path(&pod)]);
    assert!(found.success && found.stderr.is_empty(), "{}", found.stderr);
}

#[test]
fn two_containers_of_one_namespace_are_told_apart_by_their_id() {
    let bench = Bench::ours();
    let pod = Netns::new("pod");
    added_by_containerd(&bench, &pod, "one", |text| text);
    let results = bench.node.file("cache/results");
    let text = std::fs::read_to_string(results.join("net-one-eth0")).unwrap();
    std::fs::write(results.join("net-two-eth0"), text.replace("\"one\"", "\"two\"")).unwrap();
    let reply = bench.run(&["del", "net", &path(&pod)]);
    assert!(!reply.success && reply.stderr.contains("(one, two): choose one with --container-id"), "{}", reply.stderr);
    assert!(pod.pings("10.22.0.1"));
    bench.run(&["check", "net", &path(&pod), "--container-id", "one"]).ok();
}

#[test]
fn list_shows_the_attachments_of_every_program() {
    let bench = Bench::ours();
    let empty = bench.run(&["list"]);
    assert!(empty.success && empty.stdout.is_empty() && empty.stderr.contains("no attachments in"), "{empty:?}");
    assert_eq!(bench.run(&["list", "--json"]).ok(), json!([]));

    let (pod, gone) = (Netns::new("pod"), Netns::new("gone"));
    let (netns, gone_netns) = (path(&pod), path(&gone));
    added_by_containerd(&bench, &pod, POD_ID, forms()[0]);
    bench.run(&["add", "net", &gone_netns, "--container-id", "gone", "--ifname", "net1"]).ok();
    drop(gone);
    std::fs::write(bench.node.file("cache/results/broken"), "{").unwrap();

    let table = bench.run(&["list"]);
    let rows: Vec<Vec<&str>> = table.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["NETWORK", "CONTAINER", "INTERFACE", "NAMESPACE", "ADDRESSES"]);
    assert_eq!(rows[1], ["net", POD_ID, "eth0", &format!("/var{netns}"), "10.22.0.2/24"]);
    assert_eq!(rows[2], ["net", "gone", "net1", &gone_netns, "(gone)", "10.22.0.3/24"]);
    assert_eq!(rows.len(), 3);
    assert!(table.stderr.contains("results/broken"), "{}", table.stderr);

    let listed = bench.run(&["list", "net", "--json"]).ok();
    let expected = json!([
        {"network": "net", "containerID": POD_ID, "ifname": "eth0", "netns": format!("/var{netns}"), "netnsExists": true, "ips": ["10.22.0.2/24"]},
        {"network": "net", "containerID": "gone", "ifname": "net1", "netns": gone_netns, "netnsExists": false, "ips": ["10.22.0.3/24"]},
    ]);
    assert_eq!(listed, expected);
    assert_eq!(bench.run(&["list", "other", "--json"]).ok(), json!([]));
}
