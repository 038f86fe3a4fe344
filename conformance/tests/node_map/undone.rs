//! An ADD whose question the kernel does not answer: what was asked for may be there all the same.

use conformance::cluster::Cluster;
use conformance::lab::{Pod, bin_dir};
use serde_json::json;

use crate::{PLUGINS, V4, call, config_of};

#[test]
fn an_add_that_gets_no_answer_leaves_nothing_wherever_that_is() {
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        return println!("skipped: strace is not installed");
    }
    for plugin in PLUGINS {
        let cluster = Cluster::new(V4, 2);
        let node = cluster.node(0);
        let mut config = config_of(&cluster, 0, plugin);
        config["ipMasq"] = json!(true);
        let file = node.file("config.json");
        std::fs::write(&file, config.to_string()).unwrap();
        let (mut failed, mut succeeded) = (0, 0);
        for question in (2..77).step_by(5) {
            let pod = Pod::new("pod");
            // The plugin alone: what it executes is let go.
            let script = format!(
                "CNI_COMMAND=ADD CNI_CONTAINERID=pod CNI_IFNAME=eth0 CNI_NETNS={} CNI_PATH={} \\
                 strace -f -qq -o /dev/null -b execve -e inject=recvfrom:error=ENOBUFS:when={question} {}/{plugin} < {}",
                pod.netns().path().display(),
                node.cni_path(),
                bin_dir().display(),
                file.display(),
            );
            if node.netns.try_sh(&script).is_ok() {
                succeeded += 1;
                call(node, "DEL", &pod, &config).ok();
                continue;
            }
            failed += 1;
            let what = format!("{plugin}, answer {question}");
            assert_eq!(node.netns.sh("ip -o link show type veth").lines().count(), 1, "{what}: a wire is left");
            assert!(pod.netns().try_sh("ip link show eth0").is_err(), "{what}: the Pod has an interface");
            let held = node.netns.sh(&format!("ls {} 2>/dev/null || true", node.file("store/pods").display()));
            assert!(!held.lines().any(|name| name.starts_with("10.244.")), "{what}: an address is reserved: {held}");
            let rules = node.netns.sh("nft list ruleset");
            let ours = rules.lines().filter(|line| line.contains("comment") && line.contains(" : goto"));
            assert_eq!(ours.count(), 0, "{what}: masquerade is left:\n{rules}");
        }
        assert!(failed > 5 && succeeded > 0, "{plugin}: {failed} failed, {succeeded} succeeded");
        // And the next one finds nothing in its way.
        call(node, "ADD", &Pod::new("next"), &config).ok();
    }
}
