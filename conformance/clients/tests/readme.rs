//! What README.md says under "Use it", run as it stands there; an image of the tests' own takes the place of one from a registry.

use clients::containerd::{Containerd, pack_image};
use clients::machine::{Machine, cgroup};
use clients::readme::block;

/// A machine with files of examples/conflists copied as the README says.
fn machine(label: &str, conflists: &[&str]) -> Machine {
    let machine = Machine::new(label);
    for name in conflists {
        let file = format!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/conflists/{}"), name);
        machine.write(&format!("/etc/cni/net.d/{name}"), &std::fs::read_to_string(&file).expect(&file));
    }
    machine
}

/// The block's commands, with what only a registry could serve replaced.
/// `command` prints the container's addresses.
fn with_our_image(block: &str, cgroup: &str, command: &str) -> String {
    let run = block.lines().filter(|line| !line.contains("image pull"));
    let run = run.map(|line| line.replace(" --rm", &format!(" --rm {cgroup}")).replace("ip addr", command));
    run.map(|line| line.replace("docker.io/library/busybox:latest", clients::containerd::IMAGE) + "\n").collect()
}

#[test]
fn by_hand() {
    let machine = machine("hand", &["10-podwire-dual-stack.conflist"]);
    machine.sh(&format!("set -x\n{}", block("ip netns add blue")));
    assert_eq!(machine.residue(), Vec::<String>::new());
}

#[test]
fn with_ctr() {
    let machine = machine("ctr", &["10-podwire-dual-stack.conflist", "99-loopback.conflist"]);
    let _containerd = Containerd::start(&machine);
    machine.sh("ctr images import /run/pod.tar");
    let said =
        machine.sh(&with_our_image(&block("ctr run"), &format!("--cgroup {}/hello", cgroup()), "/pod addresses"));
    assert!(said.contains("10.244.0.2") && said.contains("127.0.0.1"), "{said}");
    assert_eq!(machine.residue(), Vec::<String>::new());
}

#[test]
fn with_podman() {
    let machine = machine("podman", &["10-podwire-ipv4.conflist"]);
    let here = "\n[engine]\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nruntime = \"runc\"\n[containers]\napparmor_profile = \"\"\n";
    machine.write("/etc/containers/containers.conf", &(block("network_backend") + here));
    pack_image(&machine);
    machine.sh("podman load --input /run/pod.tar");
    let said = machine.sh(&with_our_image(&block("podman run"), &format!("--cgroup-parent {}", cgroup()), "addresses"));
    assert!(said.contains("podwire") && said.contains("10.244.0.2"), "{said}");
    assert_eq!(machine.residue(), Vec::<String>::new());
}
