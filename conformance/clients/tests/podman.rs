//! podman with its CNI back end.

use clients::containerd::pack_image;
use clients::machine::{Machine, eventually};
use serde_json::json;

const CONFIG: &str = r#"
[network]
network_backend = "cni"
cni_plugin_dirs = ["/opt/cni/bin"]
network_config_dir = "/etc/cni/net.d"
default_network = "pods"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
[containers]
apparmor_profile = ""
"#;

#[test]
fn podman_lists_a_network_of_ours_and_runs_containers_on_it() {
    let machine = Machine::new("podman");
    // podman sets `firewall` and `portmap` beside a bridge, and names a container by its `dnsname` only if asked.
    machine.install_reference(&["portmap", "firewall", "tuning"]);
    machine.configure(&json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni-podman0", "isGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": {
                    "type": "host-local", "routes": [{ "dst": "0.0.0.0/0" }],
                    "ranges": [[{ "subnet": "10.88.0.0/16", "gateway": "10.88.0.1" }]],
                },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
            { "type": "firewall", "backend": "" },
            { "type": "tuning" },
        ],
    }));
    machine.write("/etc/containers/containers.conf", CONFIG);
    pack_image(&machine);
    let podman = |arguments: &str| machine.try_sh(&format!("podman {arguments}"));
    podman("load --input /run/pod.tar").unwrap();
    assert!(podman("network ls --format '{{.Name}} {{.Driver}}'").unwrap().contains("pods bridge"));

    let cgroup = clients::machine::cgroup();
    let run = format!(
        "run --detach --cgroup-parent {cgroup} --network pods --publish 8080:80 --name web localhost/podwire/pod:1 serve 80"
    );
    podman(&run).unwrap();
    let ip = podman("inspect --format '{{.NetworkSettings.Networks.pods.IPAddress}}' web").unwrap();
    let ip = ip.trim();
    assert!(ip.starts_with("10.88.0."), "{ip}");
    let answer = eventually(|| machine.try_sh(&format!("pod get {ip}:80")));
    assert_eq!(answer, "from 10.88.0.1\n");
    let ask = format!("run --rm --cgroup-parent {cgroup} --network pods localhost/podwire/pod:1 get 10.88.0.1:8080");
    podman(&ask).unwrap();

    podman("network create --subnet 10.89.7.0/24 second").unwrap();
    let ask = format!("run --rm --cgroup-parent {cgroup} --network second localhost/podwire/pod:1 get {ip}:80");
    podman(&ask).unwrap();
    podman("rm --force --time 0 web").unwrap();
    podman("network rm second").unwrap();
    assert_eq!(machine.residue(), Vec::<String>::new());
}
