//! Moving a live node from the reference plugins to ours, and back.

use clients::containerd::Containerd;
use clients::cri::PodConfig;
use clients::machine::{Machine, address};
use conformance::lab;
use serde_json::{Value, json};

/// Both families, masqueraded, with the default keys that both implementations have.
fn list() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipMasq": true,
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.22.0.0/16" }], [{ "subnet": "fd00:22::/64" }]] },
        }],
    })
}

/// Runs `install.sh`, with a stand-in for cargo that takes the programs that are built already.
fn install_sh(machine: &Machine, arguments: &str) -> String {
    let root = concat!(env!("CARGO_MANIFEST_DIR"), "/../..");
    let built = lab::bin_dir().display().to_string();
    machine.write(
        "/opt/toolchain/bin/rustc",
        "#!/bin/sh\ncase $1 in --version) echo 'rustc 1.999.0' ;; *) echo 'host: h' ;; esac",
    );
    machine.write(
        "/opt/toolchain/bin/cargo",
        &format!(
            "#!/bin/sh\nif [ $1 = metadata ]; then echo '{{\"target_directory\":\"/opt/target\"}}'; exit; fi\n\
             mkdir -p /opt/target/h/release\n\
             while [ $# -gt 0 ]; do [ \"$1\" = --bin ] && cp -L {built}/$2 /opt/target/h/release/; shift; done; true"
        ),
    );
    machine.sh(&format!(
        "chmod +x /opt/toolchain/bin/*; CARGO_HOME=/opt/toolchain {root}/install.sh --tools-dir /opt/tools {arguments} 2>&1"
    ))
}

fn reaches_outside(machine: &Machine, pod: &str) -> bool {
    machine.in_pod(pod, "ping -c 1 -W 1 192.0.2.2").is_ok()
}

#[test]
fn a_living_node_is_moved_from_the_reference_plugins_to_ours_and_back() {
    let machine = Machine::bare("migration");
    machine.configure(&list());
    machine.add_outside();
    for plugin in ["bridge", "host-local", "loopback", "portmap"] {
        machine.sh(&format!("cp {}/{plugin} /opt/cni/bin/", lab::REFERENCE_DIR));
    }
    let one = machine.add("pods", "one");
    let two = machine.add("pods", "two");
    let chains = |machine: &Machine| machine.sh("iptables-save -t nat; ip6tables-save -t nat").matches(":CNI-").count();
    assert_eq!(chains(&machine), 4, "two Pods, two families");

    let said = install_sh(&machine, "--force");
    assert!(said.contains("/opt/cni/bin/bridge (the old one is kept as bridge.before-podwire)"), "{said}");
    machine.check("pods", "one");
    machine.check("pods", "two");
    assert!(reaches_outside(&machine, "one") && reaches_outside(&machine, "two"));

    machine.del("pods", "one");
    machine.del("pods", "one");
    assert_eq!(chains(&machine), 2, "{}", machine.sh("iptables-save -t nat; ip6tables-save -t nat"));
    let rules =
        machine.sh("iptables-save -t nat; ip6tables-save -t nat; nft list ruleset; ls /var/lib/cni/networks/pods");
    assert!(!rules.contains(&address(&one)), "something of the removed Pod is left:\n{rules}");
    assert!(rules.contains(&address(&two)), "the other Pod's masquerade was taken:\n{rules}");
    assert!(reaches_outside(&machine, "two"), "the Pod that stays lost its way");

    let three = address(&machine.add("pods", "three"));
    machine.check("pods", "three");
    assert!(reaches_outside(&machine, "three"));
    assert!(machine.in_pod("two", &format!("ping -c 1 -W 1 {three}")).is_ok(), "old and new Pods reach each other");

    let said = install_sh(&machine, "--uninstall");
    assert!(said.contains("cnitool-") && said.contains("nft delete table inet podwire"), "{said}");
    assert!(reaches_outside(&machine, "three") && reaches_outside(&machine, "two"));
    let four = machine.add("pods", "four");
    assert!(![address(&two), three].contains(&address(&four)), "an address was given twice");
    for pod in ["two", "four"] {
        machine.del("pods", pod);
    }
    // The reference misses its iptables chain after it removed the rest, and says so once; a runtime calls again.
    let first = machine.cnitool("", "del", "pods", "three");
    assert!(first.is_err_and(|error| error.contains("CNI-") && error.contains("does not exist")));
    machine.del("pods", "three");
    machine.sh("nft delete table inet podwire; ip link del uplink");
    assert_eq!(machine.residue(), Vec::<String>::new());
}

#[test]
fn the_references_masquerade_in_nftables_goes_with_its_pod_and_only_with_it() {
    let machine = Machine::new("masquerade");
    machine.configure(&list());
    // As containernetworking/plugins 1.6 and later write it for `ipMasqBackend: nftables`.
    let id = |pod: &str| machine.sh(&format!("printf /run/netns/{pod} | sha512sum | cut -c 1-20")).trim().to_owned();
    let comment = |pod: &str| {
        let id = format!("cnitool-{}", id(pod));
        let hash = |text: &str| machine.sh(&format!("printf %s '{text}' | sha512sum | cut -c 1-16")).trim().to_owned();
        format!("{}-{}, net: pods, if: eth0, id: {id}", hash("pods"), hash(&format!("eth0:{id}")))
    };
    machine.sh(&format!(
        "nft add table inet cni_plugins_masquerade
         nft add chain inet cni_plugins_masquerade masq_checks
         nft 'add rule inet cni_plugins_masquerade masq_checks ip saddr == 10.22.0.2 ip daddr != 10.22.0.0/16 masquerade comment \"{}\"'
         nft 'add rule inet cni_plugins_masquerade masq_checks ip saddr == 10.22.0.3 ip daddr != 10.22.0.0/16 masquerade comment \"{}\"'",
        comment("gone"),
        comment("stays"),
    ));
    machine.del("pods", "gone");
    let rules = machine.sh("nft list table inet cni_plugins_masquerade");
    assert!(!rules.contains("10.22.0.2") && rules.contains("10.22.0.3"), "{rules}");
}

#[test]
fn what_legacy_iptables_holds_goes_by_the_command_in_the_book() {
    let machine = Machine::bare("legacy");
    if machine.try_sh("iptables-legacy -t nat -S").is_err() {
        eprintln!("skipped: no legacy iptables here");
        return;
    }
    machine.sh("for p in iptables ip6tables; do ln -s /usr/sbin/$p-legacy /run/bin/$p; done");
    machine.configure(&list());
    machine.install_reference(&["bridge", "host-local"]);
    machine.add("pods", "one");
    machine.sh("iptables -t nat -A POSTROUTING -s 203.0.113.0/24 -j MASQUERADE");
    machine.install(&["bridge", "host-local"], &lab::bin_dir());
    machine.del("pods", "one");
    let rules = |machine: &Machine| machine.sh("iptables-legacy-save -t nat; ip6tables-legacy-save -t nat");
    assert_eq!(rules(&machine).matches(":CNI-").count(), 2, "out of reach: {}", rules(&machine));
    machine.sh(&clients::book::block("docs/src/moving/reference-plugins.md", "legacy-save"));
    let left = rules(&machine);
    assert!(!left.contains("CNI-") && left.contains("203.0.113.0/24"), "{left}");
}

#[test]
fn back_with_the_references_a_pod_of_ours_is_removed_by_the_second_call_that_a_kubelet_makes() {
    let machine = Machine::new("back");
    machine.configure(&list());
    let containerd = Containerd::start(&machine);
    let cri = containerd.cri();
    let pod = cri.run_pod(&PodConfig::new("ours")).unwrap();
    machine.install_reference(&["bridge", "host-local"]);
    // The reference misses its iptables chain after it removed the rest.
    let first = cri.stop_pod(&pod);
    assert!(first.as_ref().is_err_and(|error| error.contains("does not exist")), "{first:?}");
    // A kubelet that can't stop a sandbox tries again.
    cri.remove_pod(&pod).unwrap();
    let table = machine.sh("nft list table inet podwire");
    assert!(table.contains("10.22.0.2"), "masquerade, which the reference knows nothing of:\n{table}");
    machine.sh("nft delete table inet podwire");
    assert_eq!(machine.residue(), Vec::<String>::new());
}

#[test]
fn uninstall_gives_the_commands_that_remove_what_an_overlay_left() {
    let machine = Machine::bare("left");
    install_sh(&machine, "");
    machine.add_outside();
    let node = |n: u8| json!({ "name": format!("node-{n}"), "addresses": [format!("192.0.2.{n}"), format!("fd00:2::{n}")], "podCIDRs": [format!("10.22.{n}.0/24"), format!("fd00:22:0:{n}::/64")] });
    let plugin = json!({ "type": "vxlan-overlay", "ipMasq": true, "nodes": [node(1), node(2)], "ipam": { "type": "host-local" } });
    machine.configure(&json!({ "cniVersion": "1.0.0", "name": "pods", "plugins": [plugin] }));
    machine.add("pods", "one");
    machine.del("pods", "one");
    let left = "nft list tables; ip -o link show type vxlan; ip route show table all proto 112; ip -6 route show table all proto 112";
    assert!(machine.sh(left).contains("vxlan") && machine.sh(left).contains("podwire"));

    let said = install_sh(&machine, "--uninstall");
    assert!(!said.contains("still run"), "{said}");
    let is_command = |line: &&str| ["nft delete ", "ip "].iter().any(|word| line.starts_with(word));
    let commands: Vec<&str> = said.lines().map(str::trim).filter(is_command).collect();
    assert!(!commands.is_empty(), "{said}");
    commands.iter().for_each(|command| drop(machine.sh(command)));
    assert_eq!(machine.sh(left), "", "after {commands:?}");
}
