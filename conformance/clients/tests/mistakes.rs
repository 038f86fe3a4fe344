//! What a person sees when it goes wrong: the error as containerd (or cnitool) prints it says what is wrong and what to do.
//! The book has the list: docs/src/troubleshooting.md.

use clients::containerd::Containerd;
use clients::cri::PodConfig;
use clients::machine::{Machine, eventually};
use serde_json::{Value, json};

fn list(bridge: &str, ipam: Value) -> Value {
    let plugin = json!({ "type": "bridge", "bridge": bridge, "isDefaultGateway": true, "ipMasq": true, "ipam": ipam });
    json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [plugin] })
}

fn host_local(subnet: &str) -> Value {
    json!({ "type": "host-local", "ranges": [[{ "subnet": subnet }]] })
}

/// The error with which `cnitool add` fails for a new Pod.
#[track_caller]
fn refused(machine: &Machine, pod: &str) -> String {
    machine.make_pod(pod);
    machine.cnitool("", "add", "pods", pod).expect_err("ADD should have failed")
}

/// The error has these words, and the book tells of the longest of them.
#[track_caller]
fn says(error: &str, words: &[&str]) {
    println!("{error}");
    words.iter().for_each(|word| assert!(error.contains(word), "no {word:?} in: {error}"));
    let telling = words.iter().max_by_key(|word| word.len()).expect("words");
    let page = "docs/src/troubleshooting.md";
    assert!(clients::book::read(page).contains(telling), "{page} does not have: {telling}");
}

/// Runs a Pod through CRI; the error, in containerd's words.
fn containerd_says(spoil: impl Fn(&Machine), words: &[&str]) {
    let machine = Machine::new("mistake");
    machine.configure(&list("cni0", host_local("10.22.0.0/16")));
    spoil(&machine);
    let containerd = Containerd::start(&machine);
    let cri = containerd.cri();
    let error = cri.run_pod(&PodConfig::new("unlucky")).expect_err("the Pod should not have come up");
    says(&error, words);
    // And nothing of the attempt is left, but what was there before.
    let left: Vec<_> =
        machine.residue().into_iter().filter(|line| !line.contains("wrong") && !line.ends_with("/10.22.0.5")).collect();
    assert_eq!(left, Vec::<String>::new());
}

#[test]
fn no_host_local_in_the_path() {
    containerd_says(
        |machine| drop(machine.sh("rm /opt/cni/bin/host-local")),
        &["host-local", "/opt/cni/bin", "install it there"],
    );
}

#[test]
fn the_range_is_full() {
    containerd_says(
        |machine| {
            let one = json!({ "type": "host-local", "ranges": [[{ "subnet": "10.22.0.0/24", "rangeStart": "10.22.0.5", "rangeEnd": "10.22.0.5" }]] });
            machine.configure(&list("cni0", one));
            machine.sh("mkdir -p /var/lib/cni/networks/pods && printf 'wrong\\r\\neth0' > /var/lib/cni/networks/pods/10.22.0.5");
        },
        &["no free address", "10.22.0.5", "is full", "larger range"],
    );
}

#[test]
fn the_bridges_name_is_another_kind_of_link() {
    containerd_says(
        |machine| {
            drop(machine.sh("ip link add wrong0 type veth peer name wrong1; ip link set wrong0 name cni0 alias wrong"))
        },
        &["cni0", "is not a bridge (it is veth)", "remove it, or configure another name"],
    );
}

#[test]
fn the_subnet_is_the_nodes_own() {
    containerd_says(
        |machine| {
            drop(machine.sh("ip link add wrong0 type veth peer name wrong1; ip addr add 10.22.0.77/24 dev wrong0; ip link set wrong0 up"));
        },
        &["10.22.0.1/16", "10.22.0.77/24", "wrong0", "configure another subnet"],
    );
}

#[test]
fn forwarding_is_off_by_policy() {
    containerd_says(
        |machine| {
            drop(machine.sh("f=/proc/sys/net/ipv4/ip_forward; mount --bind $f $f && mount -o remount,bind,ro $f"))
        },
        &["/proc/sys/net/ipv4/ip_forward", "net.ipv4.ip_forward=1"],
    );
}

#[test]
fn the_kernel_has_no_nftables() {
    // The third socket is nftables': two are for routes, on the node and in the Pod.
    let script = "exec strace -f -o /dev/null -e inject=socket:error=EPROTONOSUPPORT:when=3 /opt/real-bridge";
    containerd_says(
        |machine| in_place_of_the_bridge(machine, script),
        &["this kernel has no nfnetlink", "CONFIG_NETFILTER_NETLINK"],
    );
}

#[test]
fn the_conflist_is_no_json() {
    let machine = Machine::new("mistake");
    machine.write(
        "/etc/cni/net.d/10-pods.conflist",
        "{ \"cniVersion\": \"1.0.0\", \"name\": \"pods\",\n \"plugins\": [ { \"type\": } ] }",
    );
    let containerd = Containerd::start(&machine);
    let error = eventually(|| containerd.cri().network_ready().err().ok_or("ready".to_owned()));
    // The kubelet's user is told by containerd, before any plugin is called.
    says(&error, &["cni plugin not initialized"]);
    let log = containerd.log();
    says(log.lines().find(|line| line.contains("level=error")).unwrap(), &["10-pods.conflist", "invalid character"]);
    says(&refused(&machine, "unlucky"), &["10-pods.conflist", "line 2"]);
}

/// What takes the place of the bridge plugin, which becomes `/opt/real-bridge`.
fn in_place_of_the_bridge(machine: &Machine, script: &str) {
    machine.sh("cp -L /opt/cni/bin/bridge /opt/real-bridge; rm /opt/cni/bin/bridge");
    machine.write("/opt/cni/bin/bridge", &format!("#!/bin/sh\n{script}\n"));
    machine.sh("chmod +x /opt/cni/bin/bridge");
}

#[test]
fn the_network_namespace_is_gone() {
    let script = "[ $CNI_COMMAND != ADD ] || umount -l $CNI_NETNS || exit; exec /opt/real-bridge";
    containerd_says(
        |machine| in_place_of_the_bridge(machine, script),
        &["/netns/cni-", "not a network namespace", "gone already"],
    );
    let machine = Machine::new("mistake");
    machine.configure(&list("cni0", host_local("10.22.0.0/16")));
    let error = machine.cnitool("", "add", "pods", "gone").expect_err("there is no such namespace");
    says(&error, &["/run/netns/gone", "does not exist; make one with"]);
    machine.cnitool("", "del", "pods", "gone").unwrap();
}

#[test]
fn a_pod_is_added_again_without_a_del() {
    let machine = Machine::new("mistake");
    machine.configure(&list("cni0", host_local("10.22.0.0/16")));
    machine.add("pods", "twice");
    let error = machine.cnitool("", "add", "pods", "twice").expect_err("it is there already");
    says(&error, &["/eth0 is attached", "a DEL is missing before this ADD"]);
}

#[test]
fn a_key_has_a_value_that_it_can_not_have() {
    containerd_says(
        |machine| {
            let mut list = list("cni0", host_local("10.22.0.0/16"));
            list["plugins"][0]["mtu"] = "large".into();
            machine.configure(&list);
        },
        &["mtu", "large"],
    );
    containerd_says(
        |machine| machine.configure(&list("cni0", host_local("10.22.0.1/16"))),
        &["10.22.0.1/16", "subnet"],
    );
}

/// The list of a node in an overlay of two.
fn overlay(machine: &Machine) -> Value {
    machine.add_outside();
    let node = |n: u8| json!({ "name": format!("node-{n}"), "addresses": [format!("192.0.2.{n}")], "podCIDRs": [format!("10.22.{n}.0/24")] });
    let plugin = json!({ "type": "vxlan-overlay", "nodes": [node(1), node(2)], "ipam": { "type": "host-local" } });
    json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [plugin] })
}

#[test]
fn the_port_of_the_overlay_is_taken() {
    containerd_says(
        |machine| {
            machine.configure(&overlay(machine));
            let other = machine.netns.inside(|| std::net::UdpSocket::bind("0.0.0.0:4789")).unwrap();
            // For as long as this test's process lives.
            std::mem::forget(other);
        },
        &["UDP port 4789 is in use by another program", "ss -ulpn", "configure another port on every node"],
    );
}

#[test]
fn the_vni_of_the_overlay_is_taken() {
    containerd_says(
        |machine| {
            machine.configure(&overlay(machine));
            machine.sh("ip link add flannel.1 type vxlan id 1 dev uplink dstport 4789 nolearning");
        },
        &["VNI 1 on port 4789 is in use by device \"flannel.1\"", "configure another vni"],
    );
}

#[test]
fn a_user_without_privileges() {
    let machine = Machine::new("mistake");
    machine.configure(&list("cni0", host_local("10.22.0.0/16")));
    machine.make_pod("unlucky");
    machine.sh("mkdir -p /run/copy && cp -L /opt/cni/bin/* /run/bin/cnitool /run/copy/ && mkdir -p /var/lib/cni && chmod -R a+rwX /var/lib/cni");
    let unprivileged = "setpriv --reuid 65534 --regid 65534 --clear-groups env CNI_PATH=/run/copy /run/copy/cnitool add pods /run/netns/unlucky";
    let error = machine.try_sh(unprivileged).expect_err("nobody may make links");
    says(&error, &["not permitted", "root", "CAP_SYS_ADMIN"]);
}

#[test]
fn the_forward_policy_is_drop() {
    let machine = Machine::new("mistake");
    let mut list = list("cni0", host_local("10.22.0.0/16"));
    list["cniVersions"] = json!(["1.0.0", "1.1.0"]);
    machine.configure(&list);
    machine.sh("iptables -P FORWARD DROP");
    let said = [
        "FORWARD",
        "DROP",
        "which nothing here can override",
        "chain the plugin \"firewall\"",
        "iptables -P FORWARD ACCEPT",
    ];
    // containerd's log has what plugins say on stderr: the first Pod's does, the next ones need not.
    let containerd = Containerd::start(&machine);
    let cri = containerd.cri();
    for pod in ["one", "two"] {
        let pod = cri.run_pod(&PodConfig::new(pod)).unwrap();
        let log = containerd.log();
        let lines: Vec<&str> = log.lines().filter(|line| line.contains("FORWARD")).collect();
        let [line] = lines[..] else { panic!("once: {lines:?}") };
        says(line, &said);
        cri.remove_pod(&pod).unwrap();
    }
    machine.make_pod("pod");
    says(&machine.sh("cnitool status pods 2>&1"), &said);
    machine.sh("iptables -P FORWARD ACCEPT");
    assert_eq!(machine.sh("cnitool status pods 2>&1"), "");
}
