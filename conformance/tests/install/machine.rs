//! `install.sh` and the machine around it: programs that were built elsewhere, runtimes that look for plugins in other places,
//! and what stays on a node.

use std::collections::BTreeMap;
use std::process::Command;

use conformance::lab::Netns;

use super::{Place, words};

impl Place {
    /// Runs `script` on a machine of its own: its network is `netns`, `/etc` the real one with a layer in memory but without
    /// what runtimes and networks have there, `/run` and `/var/lib` are empty. There `install ARGUMENTS` is the script under
    /// test, and `$ours` the place's directory. What all of it prints.
    #[track_caller]
    fn on_machine(&self, netns: &Netns, script: &str) -> String {
        const SET_UP: &str = r#"
            mount --make-rprivate /; mount -t tmpfs tmpfs /run; mount -t tmpfs tmpfs /var/lib
            mkdir -p /run/layer/upper /run/layer/work
            mount -t overlay overlay /etc -o lowerdir=/etc,upperdir=/run/layer/upper,workdir=/run/layer/work
            rm -rf /etc/containerd /etc/containers /etc/crio /etc/cni /etc/systemd/system/podwire*
            script=$1; shift; program=$1; shift
            first_arguments=$*
            install() { "$program" $first_arguments "$@" 2>&1; }
            eval "$script"
        "#;
        let tested = self.command(&[]);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", SET_UP, "sh", script]);
        command.arg(tested.get_program()).args(tested.get_args()).env_clear();
        for (name, value) in tested.get_envs() {
            command.env(name, value.unwrap());
        }
        let output = netns.output(command.env("ours", self.files.path()));
        assert!(output.status.success(), "{script}: {}", words(&output));
        words(&output)
    }
}

/// Programs that were built before: stand-ins that say their version.
fn built(place: &Place, names: &[&str]) {
    for name in names {
        place.script(&format!("built/{name}"), &format!("echo {name} 7.8.9"));
    }
}

const PLUGINS: [&str; 6] = ["bridge", "host-local", "loopback", "ptp", "routed-veth", "vxlan-overlay"];

#[test]
fn prebuilt_programs_are_installed_without_rust() {
    let place = Place::new();
    std::fs::remove_dir_all(place.path("toolchain")).unwrap();
    place.script("toolchain/bin/cargo", "echo cargo was called; exit 1");
    let from = place.path("built").display().to_string();
    built(&place, &PLUGINS[1..]);
    for (arguments, part) in [
        (["--from", &from], "these plugins are not there: bridge"),
        (["--from", "/nowhere/at/all"], "/nowhere/at/all: there is no such directory"),
        (["--from", ""], "--from needs a directory"),
    ] {
        let refused = place.run(&arguments);
        assert!(!refused.status.success() && words(&refused).contains(part), "{}", words(&refused));
    }
    place.script("built/bridge", "kill -ILL $$");
    let refused = words(&place.run(&["--from", &from]));
    assert!(refused.contains("bridge does not run on this machine"), "{refused}");
    assert_eq!(place.snapshot(), BTreeMap::new());

    built(&place, &PLUGINS);
    built(&place, &["cnitool"]);
    let said = place.ok(&["--from", &from]);
    assert!(said.contains("cni-bench is not in") && said.contains("Installing podwire 7.8.9"), "{said}");
    let files = place.snapshot();
    let mut names: Vec<String> = PLUGINS.iter().map(|name| format!("bin/{name}")).collect();
    names.push("tools/cnitool".to_owned());
    assert_eq!(files.keys().cloned().collect::<Vec<_>>(), names);
    assert!(files["bin/bridge"].ends_with("\npodwire bridge 7.8.9\n"), "{}", files["bin/bridge"]);

    // What is installed on one node is fit to be installed on the next. (The line after the program is none of a script's.)
    std::fs::write(place.path("bin/bridge"), files["bin/bridge"].replace("\npodwire", "\nexit\npodwire")).unwrap();
    let next = Place::new();
    let said = next.ok(&["--from", place.path("bin").to_str().unwrap()]);
    assert!(said.contains("cnitool is not in"), "{said}");
    assert_eq!(next.snapshot()["bin/bridge"].matches("podwire bridge").count(), 1);
    place.ok(&["--uninstall"]);
    assert_eq!(place.snapshot(), BTreeMap::new());
}

/// Configurations of three runtimes; the first is where Debian's containerd looks.
const CONFIGURED: &str = r#"
    mkdir -p /etc/containerd/conf.d /etc/crio/crio.conf.d /etc/containers $ours/debian $ours/crio
    echo theirs > $ours/debian/bridge; chmod +x $ours/debian/bridge
    cat > /etc/containerd/config.toml <<-'END'
	version = 2
	imports = ["/etc/containerd/conf.d/*.toml"]
	[plugins]
	  [plugins."io.containerd.grpc.v1.cri".cni]
	    # bin_dir = "/commented/out"
	    bin_dir = "/replaced/by/an/import" # not this
	END
    cat > /etc/containerd/conf.d/10.toml <<-END
	[plugins.'io.containerd.grpc.v1.cri'.cni]
	  bin_dir = '$ours/debian'
	END
    cat > /etc/crio/crio.conf.d/10-crio.conf <<-END
	[crio.network]
	plugin_dirs = [
	  "$ours/crio/", # the first ] of all
	  "/opt/other",
	]
	END
    cat > /etc/containers/containers.conf <<-END
	[network]
	cni_plugin_dirs = ["/nowhere", "$ours/bin"]
	END
"#;

#[test]
fn runtimes_that_look_elsewhere_are_named_with_the_directory_to_install_into() {
    let place = Place::new();
    built(&place, &PLUGINS);
    let netns = Netns::new("install");
    let ours = place.files.path().display();
    let install = "install --from $ours/built --tools-dir $ours/tools --bin-dir";
    let said = place.on_machine(&netns, &format!("{CONFIGURED}\n{install} $ours/bin/"));
    for part in [
        format!("containerd: {ours}/debian (bin_dir in /etc/containerd/conf.d/10.toml)\n"),
        format!("CRI-O: {ours}/crio, then /opt/other (plugin_dirs in /etc/crio/crio.conf.d/10-crio.conf)\n"),
        format!("Podman: /nowhere, then {ours}/bin (cni_plugin_dirs in /etc/containers/containers.conf)\n"),
        "containerd does not use what was installed".to_owned(),
        format!("install.sh --from {ours}/built --bin-dir {ours}/debian --force\n"),
        format!("or have bin_dir = \"{ours}/bin\" in /etc/containerd/conf.d/10.toml, and restart containerd.\n"),
        "CRI-O does not use what was installed".to_owned(),
        format!("install.sh --from {ours}/built --bin-dir {ours}/crio\n"),
        format!("or have plugin_dirs = [\"{ours}/bin\"] in /etc/crio/crio.conf.d/10-crio.conf"),
    ] {
        assert!(said.contains(&part), "{part}: {said}");
    }
    assert!(!said.contains("Podman does not use"), "{said}");

    // As it says; --uninstall in the wrong place then names the right one.
    let right = format!("{install} $ours/debian --force; install --uninstall --bin-dir $ours/bin");
    let said = place.on_machine(&netns, &format!("{CONFIGURED}\nrm -r /etc/crio; {right}"));
    assert!(!said.contains("containerd does not use"), "{said}");
    assert!(said.contains(&format!("Plugins of podwire are in {ours}/debian too")), "{said}");

    // A directory that comes first wins, if something is in it.
    let first = r#"mkdir -p /etc/containers $ours/first; cp $ours/built/bridge $ours/first
        echo "cni_plugin_dirs = ['/nowhere', '$ours/first', '$ours/bin']" > /etc/containers/containers.conf"#;
    let said = place.on_machine(&netns, &format!("{first}\n{install} $ours/bin"));
    let found = format!("these first: {ours}/first/bridge\n");
    assert!(said.contains("Podman does not use") && said.contains(&found), "{said}");
    assert!(said.contains(&format!("--bin-dir {ours}/first --force")), "{said}");
    let netavark = "sed -i '1i network_backend = \"netavark\"' /etc/containers/containers.conf";
    let said = place.on_machine(&netns, &format!("{first}\n{netavark}\n{install} $ours/bin"));
    assert!(!said.contains("Podman"), "{said}");
}

#[test]
fn a_subnet_with_pods_of_another_program_is_named() {
    const CONFIGURE: &str = r#"
        mkdir -p /etc/cni/net.d
        echo '{"ipam": {"ranges": [[{"subnet": "10.244.0.0/24"}], [{"subnet": "fd00:244::/64"}]]}}' > /etc/cni/net.d/10.conflist
        ip link add cbr0 type bridge; ip link set cbr0 up; ip addr add 10.244.0.1/24 dev cbr0; ip addr add fd00:244::1/64 dev cbr0 nodad
        ip link add pod0 type veth peer name theirs; ip link set theirs up master cbr0; ip link set pod0 up
        ip link add pod1 type veth peer name ours; ip link set ours up master cbr0 alias "podwire 0123 net/pod/eth0"
    "#;
    let place = Place::new();
    let install = "install --bin-dir $ours/bin --tools-dir $ours/tools";
    let netns = Netns::new("install");
    let said = place.on_machine(&netns, &format!("{CONFIGURE}{install}"));
    for subnet in ["10.244.0.0/24", "fd00:244::/64"] {
        let words = format!("note: subnet {subnet} is on bridge cbr0, which has ports that podwire did not make (1)");
        assert!(said.contains(&words), "{said}");
    }
    let said = place.on_machine(&Netns::new("install"), &format!("{CONFIGURE} ip link del theirs\n{install}"));
    assert!(!said.contains("note: subnet"), "{said}");
}

/// What Pods leave on a node, and beside it what is not podwire's.
const LEFT: &str = r#"
    mkdir -p /etc/cni/net.d /etc/systemd/system /run/podwire $ours/store/two
    mkdir -p /var/lib/cni/networks/one /var/lib/cni/networks/theirs /var/lib/cni/results
    echo '{"plugins": [{"bridge": "br-two", "ipam": {"dataDir": "'$ours'/store"}}]}' > /etc/cni/net.d/10.conflist
    echo '{"bridge":"br-lan"}{"bridge":"br-none"}{"bridge":"lo"}' > /etc/cni/net.d/20.conf
    touch /var/lib/cni/networks/one/index.podwire $ours/store/two/index.podwire /var/lib/cni/networks/theirs/10.0.0.2
    touch /var/lib/cni/results/one-cnitool-0123-eth0 /var/lib/cni/results/one-4567-eth0
    touch /etc/systemd/system/podwire-sync.path
    mkdir -p /etc/NetworkManager/dispatcher.d /etc/networkd-dispatcher/routable.d
    touch /etc/NetworkManager/dispatcher.d/90-podwire /etc/networkd-dispatcher/routable.d/50-podwire
    for bridge in cni0 br-two br-lan; do ip link add $bridge type bridge; done
    ip link add pod0 type veth peer name vethp0; ip link set vethp0 master br-two
    ip link add lan0 type veth peer name lan1; ip link set lan0 master br-lan up
    ip link add vxlan.7 type vxlan id 7 dev lan0 dstport 4789; ip link set vxlan.7 alias "podwire-network 0123 two"
    ip link add vxlan.8 type vxlan id 8 dev lan0 dstport 4790
    ip route add 10.9.0.0/24 dev lan0 proto 112; ip -6 route add fd00:9::/64 dev lan0 proto 112 table 99
    nft add table inet podwire; nft add table bridge podwire; nft add table inet theirs
"#;

/// Runs the commands that --uninstall prints.
const OBEY: &str = r#"
    install --uninstall > $ours/said; cat $ours/said
    systemctl() { :; }
    grep -E '^ +(ip|nft|rm|systemctl) ' $ours/said > $ours/commands; . $ours/commands
    echo "-- what is left"
    ip -br link | cut -d ' ' -f 1; nft list tables
    ip route show table all proto 112; ip -6 route show table all proto 112
    ls -d /run/podwire $ours/store/* /var/lib/cni/networks/* /var/lib/cni/results/* /etc/systemd/system/podwire* /etc/*/*/*-podwire* 2>/dev/null || true
    echo "-- once more"
    install --uninstall
"#;

#[test]
fn uninstall_names_everything_that_pods_shared_with_the_command_that_removes_it() {
    let place = Place::new();
    let netns = Netns::new("install");
    let said = place.on_machine(&netns, &format!("{LEFT}{OBEY}"));
    let (said, rest) = said.split_once("-- what is left").unwrap();
    let (left, again) = rest.split_once("-- once more").unwrap();
    let store = place.path("store/two").display().to_string();
    for command in [
        "nft delete table inet podwire",
        "nft delete table bridge podwire",
        "ip -4 route flush table all proto 112",
        "ip -6 route flush table all proto 112",
        "ip link del vxlan.7",
        "ip link del cni0 ",
        "ip link del br-two ",
        "rm -r /run/podwire ",
        "rm -r /var/lib/cni/networks/one ",
        &format!("rm -r {store} "),
        "rm /var/lib/cni/results/*-cnitool-* ",
        "systemctl disable --now podwire-sync.path; rm -r /etc/systemd/system/podwire-sync.path",
        "rm /etc/NetworkManager/dispatcher.d/90-podwire\n",
        "rm /etc/networkd-dispatcher/routable.d/50-podwire\n",
    ] {
        assert!(said.contains(command), "{command}: {said}");
    }
    for ours in ["cni0", "br-two", "vxlan.7", "podwire", "10.9.0.0", "fd00:9::", "networks/one", &store, "cnitool"] {
        assert!(!left.contains(ours), "{ours} is left: {left}\n{said}");
    }
    for theirs in ["br-lan", "lan0", "lan1", "vxlan.8", "pod0", "table inet theirs", "networks/theirs", "one-4567-eth0"]
    {
        assert!(left.contains(theirs), "{theirs} is gone: {left}\n{said}");
    }
    assert!(!again.contains("still there"), "{again}");
}
