//! containerd through CRI, as a kubelet calls it.

use std::collections::HashSet;

use clients::containerd::Containerd;
use clients::cri::PodConfig;
use clients::machine::{Machine, eventually};
use serde_json::{Value, json};

/// Both address families, masqueraded, with hostPort by Debian's `portmap`.
fn pods_with_host_ports() -> Value {
    json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge", "bridge": "cni0", "isDefaultGateway": true, "ipMasq": true, "hairpinMode": true,
                "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.22.0.0/16" }], [{ "subnet": "fd00:22::/64" }]] },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    })
}

#[test]
fn a_pod_has_the_address_that_containerd_reports_and_its_containers_share_it() {
    let machine = Machine::new("cri");
    machine.install_reference(&["portmap"]);
    machine.configure(&pods_with_host_ports());
    let containerd = Containerd::start(&machine);
    let cri = containerd.cri();
    assert_eq!(cri.network_ready(), Ok(()));

    let config = PodConfig::new("web").host_port(8080, 80);
    let pod = cri.run_pod(&config).unwrap_or_else(|error| panic!("{error}\n{}", containerd.log()));
    let status = cri.pod_status(&pod).unwrap();
    assert!(status.ready);
    let [ipv4, ipv6] = &status.ips[..] else { panic!("two addresses: {status:?}") };
    assert!(ipv4.starts_with("10.22.0.") && ipv6.starts_with("fd00:22::"), "{status:?}");

    let _server = cri.run_container(&pod, &config, "server", &["serve", "80"]).unwrap();
    let asker = cri.run_container(&pod, &config, "asker", &[]).unwrap();
    let ask = |address: String| cri.exec(&asker, &["/pod", "get", &address]);
    let by_loopback = eventually(|| ask("127.0.0.1:80".into()));
    assert_eq!(by_loopback, "from 127.0.0.1\n");
    assert_eq!(ask(format!("{ipv4}:80")).unwrap(), format!("from {ipv4}\n"), "the Pod by its own address");
    assert_eq!(ask(format!("[{ipv6}]:80")).unwrap(), format!("from {ipv6}\n"));

    let other_config = PodConfig::new("client");
    let other = cri.run_pod(&other_config).unwrap();
    let other_ips = cri.pod_status(&other).unwrap().ips;
    let client = cri.run_container(&other, &other_config, "client", &[]).unwrap();
    let ask = |address: String| cri.exec(&client, &["/pod", "get", &address]);
    assert_eq!(ask(format!("{ipv4}:80")).unwrap(), format!("from {}\n", other_ips[0]), "Pod to Pod, without NAT");
    assert_eq!(ask(format!("[{ipv6}]:80")).unwrap(), format!("from {}\n", other_ips[1]));
    assert!(ask("10.22.0.1:8080".into()).is_ok(), "hostPort, on the gateway's address");
    machine.add_outside();
    for (node, seen) in [("192.0.2.1:8080", "192.0.2.2"), ("[fd00:2::1]:8080", "fd00:2::2")] {
        let answer = machine.in_pod("outside", &format!("pod get {node}"));
        assert_eq!(answer, Ok(format!("from {seen}\n")), "hostPort, from a host outside of the node");
    }
    assert!(machine.sh("pod get 127.0.0.1:8080").starts_with("from 10.22.0.1"), "hostPort, from the node itself");

    cri.remove_pod(&pod).unwrap();
    cri.remove_pod(&other).unwrap();
    assert_eq!(machine.residue(), Vec::<String>::new());
}

#[test]
fn a_hundred_pods_ten_at_a_time_twice_have_addresses_of_their_own_and_leave_nothing() {
    let machine = Machine::new("hundred");
    machine.configure(&json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [{
            "type": "bridge", "isDefaultGateway": true, "ipMasq": true,
            // Two thirds of the range are in use at the most: what is not given back shows in the second round.
            "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.22.0.0/25" }]] },
        }],
    }));
    let containerd = Containerd::start(&machine);
    for round in 0..2 {
        let started = in_ten_threads(|thread| {
            let cri = containerd.cri();
            let start = |at| {
                let pod = cri.run_pod(&PodConfig::new(&format!("pod-{round}-{thread}-{at}"))).unwrap();
                let ips = cri.pod_status(&pod).unwrap().ips;
                (pod, ips)
            };
            (0..10).map(start).collect::<Vec<_>>()
        });
        let addresses: HashSet<_> = started.iter().flatten().flat_map(|(_, ips)| ips).collect();
        assert_eq!(addresses.len(), 100, "an address was given twice in round {round}");
        in_ten_threads(|thread| {
            let cri = containerd.cri();
            started[thread].iter().for_each(|(pod, _)| cri.remove_pod(pod).unwrap());
        });
        assert_eq!(machine.residue(), Vec::<String>::new(), "after round {round}");
    }
}

fn in_ten_threads<T: Send>(job: impl Fn(usize) -> T + Sync) -> Vec<T> {
    std::thread::scope(|scope| {
        let job = &job;
        let threads: Vec<_> = (0..10).map(|thread| scope.spawn(move || job(thread))).collect();
        threads.into_iter().map(|thread| thread.join().expect("a thread that did not panic")).collect()
    })
}

#[test]
fn pods_keep_their_network_when_containerd_is_killed_and_are_cleaned_up_by_the_next_one() {
    let machine = Machine::new("restart");
    machine.install_reference(&["portmap"]);
    machine.configure(&pods_with_host_ports());
    let mut containerd = Containerd::start(&machine);
    let config = PodConfig::new("web").host_port(8080, 80);
    let cri = containerd.cri();
    let pod = cri.run_pod(&config).unwrap();
    let ips = cri.pod_status(&pod).unwrap().ips;
    let _server = cri.run_container(&pod, &config, "server", &["serve", "80"]).unwrap();
    // One sandbox is being made in the moment of the crash.
    let half_made = std::thread::scope(|scope| {
        let starting = scope.spawn(|| containerd.cri().run_pod(&PodConfig::new("half")));
        std::thread::sleep(std::time::Duration::from_millis(60));
        containerd.kill();
        starting.join().unwrap()
    });
    assert!(ips.iter().all(|ip| machine.netns.pings(ip)), "a Pod lost its network with containerd");

    containerd.start_again();
    let cri = containerd.cri();
    assert_eq!(cri.pod_status(&pod).unwrap().ips, ips);
    assert!(ips.iter().all(|ip| machine.netns.pings(ip)));
    let second = cri.run_pod(&PodConfig::new("second")).unwrap();
    assert!(!ips.contains(&cri.pod_status(&second).unwrap().ips[0]));
    cri.remove_pod(&pod).unwrap();
    cri.remove_pod(&second).unwrap();
    if let Ok(half) = half_made {
        cri.remove_pod(&half).unwrap();
    }
    let left: Vec<String> =
        machine.residue().into_iter().filter(|line| ips.iter().any(|ip| line.contains(ip))).collect();
    assert_eq!(left, Vec::<String>::new());
}
