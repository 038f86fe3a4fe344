//! A containerd of the tests' own on a [`Machine`], with an image that needs no registry.

use std::time::{Duration, Instant};

use crate::cri::Cri;
use crate::machine::{Machine, POD_PROGRAM};

/// The tests' image: one static program that waits, serves or asks (image/pod.rs).
pub const IMAGE: &str = "localhost/podwire/pod:1";

const SOCKET: &str = "/run/containerd/containerd.sock";

const CONFIG: &str = r#"
version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs"]

[grpc]
address = "/run/containerd/containerd.sock"

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "localhost/podwire/pod:1"
# The machine may forbid raising OOM priority.
restrict_oom_score_adj = true
disable_apparmor = true
stream_server_port = "0"

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"
"#;

/// Packs the program into what `docker save` writes.
const PACK_IMAGE: &str = r#"
    mkdir -p /run/image/root && cd /run/image
    cp "$POD_PROGRAM" root/pod
    tar -C root -cf layer.tar .
    layer=$(sha256sum layer.tar | cut -d ' ' -f 1)
    cat > config.json <<END
{"architecture":"$(dpkg --print-architecture)","os":"linux","config":{"Entrypoint":["/pod"]},"rootfs":{"type":"layers","diff_ids":["sha256:$layer"]}}
END
    cat > manifest.json <<END
[{"Config":"config.json","RepoTags":["$IMAGE"],"Layers":["layer.tar"]}]
END
    tar -cf /run/pod.tar manifest.json config.json layer.tar
"#;

/// A running containerd. It ends with its machine.
#[derive(Debug)]
pub struct Containerd<'a> {
    machine: &'a Machine,
    pid: String,
}

/// Makes the tests' image on a machine, as the archive `/run/pod.tar`.
pub fn pack_image(machine: &Machine) {
    let variables = format!("POD_PROGRAM={} IMAGE={IMAGE}", POD_PROGRAM);
    machine.sh(&format!("{variables}\n{PACK_IMAGE}"));
}

impl<'a> Containerd<'a> {
    /// Starts containerd on `machine` and imports the image.
    pub fn start(machine: &'a Machine) -> Self {
        machine.write("/etc/containerd/config.toml", CONFIG);
        let containerd = Containerd { machine, pid: launch(machine) };
        pack_image(machine);
        machine.sh("ctr --namespace k8s.io images import /run/pod.tar");
        containerd
    }

    /// Starts containerd again after it was killed.
    pub fn start_again(&mut self) {
        self.pid = launch(self.machine);
    }

    /// Kills containerd as a crash would. Containers go on without it.
    pub fn kill(&self) {
        self.machine.sh(&format!("kill -9 {0}; while kill -0 {0} 2>/dev/null; do sleep 0.05; done", self.pid));
    }

    /// A connection to it, for one thread.
    pub fn cri(&self) -> Cri {
        Cri::connect(&self.machine.file(SOCKET))
    }

    /// What containerd logged.
    pub fn log(&self) -> String {
        self.machine.sh("cat /run/containerd.log")
    }
}

/// Starts containerd and waits until its CRI plugin answers; its process ID on the machine.
fn launch(machine: &Machine) -> String {
    let start =
        "setsid containerd --config /etc/containerd/config.toml >> /run/containerd.log 2>&1 < /dev/null & echo $!";
    let pid = machine.sh(start).trim().to_owned();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !Cri::answers(&machine.file(SOCKET)) {
        assert!(Instant::now() < deadline, "containerd does not come up:\n{}", machine.sh("cat /run/containerd.log"));
        std::thread::sleep(Duration::from_millis(100));
    }
    pid
}
