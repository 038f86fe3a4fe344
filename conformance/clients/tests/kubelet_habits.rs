//! A kubelet's habits: DEL for what never was, DEL twice, ADD again after half an ADD, files rewritten under living Pods.

use clients::containerd::{Containerd, pack_image};
use clients::cri::PodConfig;
use clients::machine::{Machine, eventually};
use conformance::lab::{Node, Pod};
use serde_json::{Value, json};

/// One network on a bridge.
fn config(bridge: &str, subnet: &str, data_dir: &str) -> Value {
    json!({
        "cniVersion": "1.1.0", "name": "pods", "type": "bridge", "bridge": bridge, "isDefaultGateway": true, "ipMasq": true,
        "ipam": { "type": "host-local", "ranges": [[{ "subnet": subnet }]], "dataDir": data_dir },
    })
}

fn node() -> (Node, Value) {
    let node = Node::new("habits");
    let config = config("cni0", "10.22.0.0/16", node.file("store").to_str().unwrap());
    (node, config)
}

fn with_result(config: &Value, result: &Value) -> Value {
    let mut config = config.clone();
    config["prevResult"] = result.clone();
    config
}

#[test]
fn del_of_a_pod_that_never_was_and_del_twice_succeed() {
    let (node, config) = node();
    let mut never = Pod::new("never");
    node.call("bridge", "DEL", &never, &config).ok();
    never.netns = None;
    node.call("bridge", "DEL", &never, &config).ok();
    let pod = Pod::new("once");
    let result = node.call("bridge", "ADD", &pod, &config).ok();
    for _ in 0..2 {
        node.call("bridge", "DEL", &pod, &with_result(&config, &result)).ok();
    }
    node.call("bridge", "DEL", &pod, &config).ok();
}

#[test]
fn add_after_half_an_add_succeeds_with_a_del_between_and_is_a_clear_error_without() {
    let (node, config) = node();
    let pod = Pod::new("half");
    // Half an ADD: its wire stands and its address is reserved, and no result was ever kept.
    node.call("bridge", "ADD", &pod, &config).ok();
    let again = node.call("bridge", "ADD", &pod, &config);
    assert!(!again.success, "{}", again.stdout);
    assert!(again.json.to_string().contains("half") && again.json.to_string().contains("DEL"), "{}", again.stdout);
    node.call("bridge", "DEL", &pod, &config).ok();
    node.call("bridge", "ADD", &pod, &config).ok();
    node.call("bridge", "DEL", &pod, &config).ok();
}

#[test]
fn del_after_the_configuration_was_rewritten_leaves_nothing() {
    let (node, before) = node();
    let after = config("other0", "10.99.0.0/24", node.file("store").to_str().unwrap());
    let refused =
        json!({ "cniVersion": "1.0.0", "name": "pods", "type": "bridge", "mtu": "large", "ipam": before["ipam"] });
    for rewritten in [after, refused] {
        let pod = Pod::new("living");
        node.call("bridge", "ADD", &pod, &before).ok();
        node.call("bridge", "DEL", &pod, &rewritten).ok();
        let links = node.netns.sh("ip -br link show type veth");
        assert_eq!(links, "", "for {rewritten}");
        assert!(!node.netns.sh("nft list ruleset").contains("goto leave-"), "for {rewritten}");
        assert!(
            !node.netns.sh(&format!("ls {}/pods", node.file("store").display())).contains("10.22."),
            "for {rewritten}"
        );
    }
}

#[test]
fn containerd_stops_and_removes_what_never_was_or_twice_and_under_a_rewritten_file() {
    let machine = Machine::new("habits");
    let list = |bridge: &str, subnet: &str| {
        let mut plugin = config(bridge, subnet, "/var/lib/cni/networks");
        plugin.as_object_mut().unwrap().retain(|key, _| !matches!(key.as_str(), "cniVersion" | "name"));
        json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [plugin] })
    };
    machine.configure(&list("cni0", "10.22.0.0/16"));
    let containerd = Containerd::start(&machine);
    let cri = containerd.cri();
    let pod = cri.run_pod(&PodConfig::new("one")).unwrap();
    machine.configure(&list("other0", "10.99.0.0/24"));
    // containerd notices by itself: until then Pods come up on the old network.
    let mut pods = vec![pod];
    eventually(|| {
        let pod = cri.run_pod(&PodConfig::new(&format!("pod-{}", pods.len())))?;
        let ips = cri.pod_status(&pod)?.ips;
        pods.push(pod);
        if ips[0].starts_with("10.99.0.") { Ok(()) } else { Err(format!("still the old network: {ips:?}")) }
    });
    for pod in &pods {
        cri.stop_pod(pod).unwrap();
        cri.stop_pod(pod).unwrap();
        cri.remove_pod(pod).unwrap();
    }
    assert_eq!(machine.residue(), Vec::<String>::new());
}

#[test]
fn ctr_runs_a_container_with_a_network_of_ours() {
    let machine = Machine::new("ctr");
    let mut list = config("cni0", "10.22.0.0/16", "/var/lib/cni/networks");
    list.as_object_mut().unwrap().retain(|key, _| !matches!(key.as_str(), "cniVersion" | "name"));
    machine.configure(&json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [list] }));
    let _containerd = Containerd::start(&machine);
    pack_image(&machine);
    machine.sh("ctr images import /run/pod.tar");
    let cgroup = clients::machine::cgroup();
    machine.start(&format!("ctr run --cni --rm --cgroup {cgroup}/web localhost/podwire/pod:1 web /pod serve 80"));
    let answer = eventually(|| {
        let ip = machine.try_sh("ls /var/lib/cni/networks/pods | grep ^10")?;
        machine.try_sh(&format!("pod get {}:80", ip.trim()))
    });
    assert_eq!(answer, "from 10.22.0.1\n");
    machine.sh("ctr task kill --signal KILL web");
    eventually(|| match machine.residue() {
        residue if residue.is_empty() => Ok(()),
        residue => Err(format!("{residue:?}")),
    });
}
