//! The cache's files, ours and Go's.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::*;

fn id(container_id: &str) -> AttachmentId {
    AttachmentId { container_id: container_id.into(), ifname: "eth0".into() }
}

fn cached(container_id: &str) -> Cached {
    let mut parameters = Parameters::new(container_id, "eth0", "/run/netns/blue");
    parameters.args = vec![("IgnoreUnknown".into(), "1".into()), ("IP".into(), "10.0.0.2".into())];
    parameters.capability_args = json!({"mac": "0a:58:0a:16:00:05"}).as_object().unwrap().clone();
    let result = Some(json!({"cniVersion":"1.0.0","dns":{},"ips":[{"address":"10.0.0.2/24"}]}));
    Cached { network: "net".into(), parameters, config: br#"{"name":"net"}"#.to_vec(), result }
}

/// A cache with the files given in its folder.
fn cache(files: &[(&str, &str)]) -> (tempfile::TempDir, Cache) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("results")).unwrap();
    for (name, text) in files {
        std::fs::write(directory.path().join("results").join(name), text).unwrap();
    }
    let cache = Cache::new(directory.path());
    (directory, cache)
}

/// By the Go libcni's source, newer than podman's: the namespace's path is there.
const OF_GO: &str = concat!(
    r#"{"kind":"cniCacheV1","containerId":"abc","config":"eyJuYW1lIjoibmV0In0=","ifName":"eth0","networkName":"net","#,
    r#""netns":"/var/run/netns/cni-1","cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAME","web"]],"#,
    r#""capabilityArgs":{"dns":{"Servers":null},"portMappings":[{"HostPort":8080}]},"#,
    r#""result":{"cniVersion":"1.0.0","dns":{},"interfaces":[{"name":"eth0"}],"ips":[{"address":"10.0.0.7/24","interface":0}]}}"#
);

#[test]
fn a_file_is_what_go_writes_to_the_byte() {
    let directory = tempfile::tempdir().unwrap();
    let cache = Cache::new(directory.path().join("made"));
    cache.put(&cached("abc")).unwrap();
    let file = directory.path().join("made/results/net-abc-eth0");
    let expected = concat!(
        r#"{"kind":"cniCacheV1","containerId":"abc","config":"eyJuYW1lIjoibmV0In0=","ifName":"eth0","networkName":"net","#,
        r#""netns":"/run/netns/blue","cniArgs":[["IgnoreUnknown","1"],["IP","10.0.0.2"]],"#,
        r#""capabilityArgs":{"mac":"0a:58:0a:16:00:05"},"#,
        r#""result":{"cniVersion":"1.0.0","dns":{},"ips":[{"address":"10.0.0.2/24"}]}}"#
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&file), 0o600);
    assert_eq!(mode(file.parent().unwrap()), 0o700);
    assert_eq!(mode(&directory.path().join("made")), 0o700);
    // Nothing else is left there.
    assert_eq!(std::fs::read_dir(directory.path().join("made")).unwrap().count(), 1);
}

#[test]
fn what_is_absent_is_left_out_as_go_does() {
    let (directory, cache) = cache(&[]);
    let parameters = Parameters { netns: None, args: vec![], capability_args: Map::new(), ..cached("abc").parameters };
    cache.put(&Cached { parameters, result: None, ..cached("abc") }).unwrap();
    let text = std::fs::read_to_string(directory.path().join("results/net-abc-eth0")).unwrap();
    assert!(text.ends_with(r#""ifName":"eth0","networkName":"net"}"#), "{text}");
}

#[test]
fn what_was_put_is_got_until_it_is_removed() {
    let (_directory, cache) = cache(&[]);
    assert!(cache.get("net", &id("abc")).unwrap().is_none());
    cache.put(&cached("abc")).unwrap();
    let got = cache.get("net", &id("abc")).unwrap().unwrap();
    assert_eq!((got.parameters, got.result, got.config), {
        let put = cached("abc");
        (put.parameters, put.result, put.config)
    });
    assert!(cache.get("net", &id("other")).unwrap().is_none());
    cache.remove("net", &id("abc")).unwrap();
    cache.remove("net", &id("abc")).unwrap();
    assert!(cache.get("net", &id("abc")).unwrap().is_none());
}

#[test]
fn what_go_wrote_is_read() {
    let (_directory, cache) = cache(&[("net-abc-eth0", OF_GO)]);
    let got = cache.get("net", &id("abc")).unwrap().unwrap();
    assert_eq!(got.parameters.netns.as_deref(), Some(Path::new("/var/run/netns/cni-1")));
    assert_eq!(got.parameters.args[1], ("K8S_POD_NAME".into(), "web".into()));
    assert_eq!(got.parameters.capability_args["portMappings"][0]["HostPort"], 8080);
    assert_eq!(got.config, br#"{"name":"net"}"#);
    assert_eq!(got.result.unwrap()["ips"][0]["address"], "10.0.0.7/24");
}

/// What podman 4.3.1 wrote, without the namespace's path; shortened are the container ID, the path and the configuration.
const OF_PODMAN: &str = concat!(
    r#"{"kind":"cniCacheV1","containerId":"3583a3813e97","config":"eyJuYW1lIjoibmV0In0=","ifName":"eth0","#,
    r#""networkName":"net","cniArgs":[["IgnoreUnknown","1"],["K8S_POD_NAME","t"]],"#,
    r#""capabilityArgs":{"aliases":{"demo":["3583a3813e97"]}},"result":{"cniVersion":"0.4.0","dns":{},"#,
    r#""interfaces":[{"mac":"d2:da:a6:7b:81:37","name":"demo0"},{"mac":"46:f5:9f:f1:79:9a","name":"veth83d1d714"},"#,
    r#"{"mac":"02:51:58:b1:ab:ea","name":"eth0","sandbox":"/run/netns/netns-9ce2c415"}],"#,
    r#""ips":[{"address":"10.22.0.2/24","gateway":"10.22.0.1","interface":2,"version":"4"}],"#,
    r#""routes":[{"dst":"0.0.0.0/0"}]}}"#
);

#[test]
fn what_podman_wrote_tells_its_namespace_by_the_result() {
    let (directory, cache) = cache(&[("net-3583a3813e97-eth0", OF_PODMAN)]);
    let got = cache.get("net", &id("3583a3813e97")).unwrap().unwrap();
    assert_eq!(got.parameters.netns.as_deref(), Some(Path::new("/run/netns/netns-9ce2c415")));
    // But for that path, written back it is what it was.
    cache.put(&got).unwrap();
    let written = std::fs::read_to_string(directory.path().join("results/net-3583a3813e97-eth0")).unwrap();
    assert_eq!(written.replace(r#""netns":"/run/netns/netns-9ce2c415","#, ""), OF_PODMAN);
}

#[test]
fn the_oldest_libcni_wrote_the_bare_result() {
    let bare = r#"{"cniVersion":"0.4.0","ips":[{"version":"4","address":"10.0.0.7/24"}]}"#;
    let (_directory, cache) = cache(&[("net-abc-eth0", bare)]);
    let got = cache.get("net", &id("abc")).unwrap().unwrap();
    assert_eq!((got.parameters.id, got.result.unwrap()["cniVersion"].as_str()), (id("abc"), Some("0.4.0")));
}

#[test]
fn a_networks_attachments_are_listed_and_no_others() {
    let (_directory, cache) = cache(&[("net-abc-eth0", OF_GO), ("other-x-eth0", "garbage")]);
    cache.put(&cached("aaa")).unwrap();
    cache.put(&Cached { network: "net-2".into(), ..cached("bbb") }).unwrap();
    let names = |network| {
        let found = cache.attachments(network).unwrap();
        found.into_iter().map(|cached| cached.parameters.id.container_id).collect::<Vec<_>>()
    };
    assert_eq!(names("net"), ["aaa", "abc"]);
    assert_eq!(names("net-2"), ["bbb"]);
    assert!(Cache::new("/nowhere/at/all").attachments("net").unwrap().is_empty());
}

#[test]
fn all_networks_attachments_are_listed_and_the_files_that_hold_none() {
    let bare = r#"{"cniVersion":"0.4.0","ips":[]}"#;
    let (_directory, cache) = cache(&[("net-abc-eth0", OF_GO), ("other-x-eth0", "garbage"), ("old-y-eth0", bare)]);
    cache.put(&Cached { network: "net-2".into(), ..cached("bbb") }).unwrap();
    let (found, unclear) = cache.all().unwrap();
    let names: Vec<_> =
        found.iter().map(|cached| (cached.network.as_str(), cached.parameters.id.to_string())).collect();
    assert_eq!(names, [("net-2", "bbb/eth0".to_owned()), ("net", "abc/eth0".to_owned())]);
    let unclear: Vec<_> = unclear.iter().map(ToString::to_string).collect();
    assert!(
        unclear.len() == 2 && unclear[0].contains("old-y-eth0") && unclear[1].contains("other-x-eth0"),
        "{unclear:?}"
    );
    assert!(Cache::new("/nowhere/at/all").all().unwrap().0.is_empty());
}

#[test]
fn a_file_that_may_be_the_networks_and_cannot_be_read_leaves_nothing_clear() {
    for text in ["", "{\"kind\":", r#"{"kind":"cniCacheV9"}"#, r#"{"ip4":{"ip":"10.0.0.7/24"}}"#] {
        let (_directory, cache) = cache(&[("net-x-eth0", text)]);
        let error = cache.attachments("net").unwrap_err();
        assert_eq!(error.code, code::DECODING_FAILURE);
        assert!(error.details.contains("net-x-eth0") && error.details.contains("remove the file"), "{error}");
    }
}

#[test]
fn nothing_gets_out_of_the_folder() {
    let (_directory, cache) = cache(&[]);
    for (network, container_id, ifname) in
        [("../n", "a", "eth0"), ("n", "../a", "eth0"), ("n", "a", "../x"), ("n", "", "x")]
    {
        let id = AttachmentId { container_id: container_id.into(), ifname: ifname.into() };
        assert!(cache.get(network, &id).is_err() && cache.remove(network, &id).is_err());
        let parameters = Parameters { id, ..Parameters::default() };
        assert!(cache.put(&Cached { network: network.into(), parameters, ..cached("a") }).is_err());
    }
}

#[test]
fn names_that_are_too_long_together_are_refused_and_named() {
    let (_directory, cache) = cache(&[]);
    let named = |length: usize| cache.name(&"n".repeat(length), &id(&"c".repeat(100)));
    assert_eq!(named(255 - 100 - "--eth0".len()).unwrap().len(), 255);
    let error = named(255 - 100 - "--eth0".len() + 1).unwrap_err();
    assert!(error.code == code::INVALID_CONFIG && error.details.contains("255 bytes"), "{error}");
}
