//! containerd through CRI, as a kubelet calls it.

use std::collections::HashSet;
use std::sync::Mutex;
use std::time::Duration;

use clients::containerd::Containerd;
use clients::cri::{Cri, PodConfig};
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

/// containerd, with a network for such Pods.
fn ready(machine: &Machine) -> Containerd<'_> {
    machine.install_reference(&["portmap"]);
    machine.configure(&pods_with_host_ports());
    let containerd = Containerd::start(machine);
    assert_eq!(containerd.cri().network_ready(), Ok(()));
    containerd
}

#[test]
fn a_pod_has_the_address_that_containerd_reports_and_its_containers_share_it() {
    let machine = Machine::new("cri");
    let containerd = ready(&machine);
    let cri = containerd.cri();

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
fn cnitool_shows_checks_and_removes_what_containerd_added() {
    let machine = Machine::new("cri");
    let containerd = ready(&machine);
    let pod = containerd.cri().run_pod(&PodConfig::new("web")).unwrap();
    let listed: Value = serde_json::from_str(&machine.sh("cnitool list pods --json")).unwrap();
    let [attachment] = &listed.as_array().unwrap()[..] else { panic!("one attachment: {listed}") };
    assert_eq!(attachment["containerID"], json!(pod));
    let netns = attachment["netns"].as_str().unwrap_or_else(|| panic!("no namespace: {listed}"));
    machine.sh(&format!("cnitool check pods {netns}; cnitool check pods --container-id {pod}"));
    let said = machine.sh(&format!("cnitool del pods {netns} 2>&1; cnitool list 2>&1"));
    assert!(said.starts_with("cnitool: no attachments"), "{said}");
    assert_eq!(machine.residue(), Vec::<String>::new());
    // To containerd it is a Pod whose interface is gone already.
    containerd.cri().remove_pod(&pod).unwrap();
}

#[test]
fn a_hundred_pods_ten_at_a_time_twice_and_containerd_killed_in_the_middle_of_both() {
    let machine = Machine::new("hundred");
    machine.install_reference(&["portmap"]);
    machine.configure(&json!({
        "cniVersion": "1.0.0",
        "name": "pods",
        "plugins": [
            {
                "type": "bridge", "isDefaultGateway": true, "ipMasq": true,
                // Most of the range is in use: what is not given back shows in the second round.
                "ipam": { "type": "host-local", "ranges": [[{ "subnet": "10.22.0.0/25" }]] },
            },
            { "type": "portmap", "capabilities": { "portMappings": true } },
        ],
    }));
    let mut containerd = Containerd::start(&machine);
    // In the middle of starting.
    let started = start_a_hundred(&machine, &mut containerd, Some(40));
    println!("{} sandboxes were half made when containerd was killed", started.half_made);
    remove_all(&machine, &mut containerd, started.pods, None);
    assert_eq!(machine.residue(), Vec::<String>::new(), "after the first round");
    // In the middle of removing.
    let started = start_a_hundred(&machine, &mut containerd, None);
    assert_eq!(started.half_made, 0);
    remove_all(&machine, &mut containerd, started.pods, Some(40));
    assert_eq!(machine.residue(), Vec::<String>::new(), "after the second round");
}

#[test]
fn thirty_pods_asked_for_in_one_breath_all_come_up_with_addresses_of_their_own() {
    let machine = Machine::new("cri");
    let containerd = ready(&machine);
    let cri = containerd.cri();
    let configs: Vec<_> = (0..30).map(|number| PodConfig::new(&format!("pod-{number}"))).collect();
    let pods: Vec<_> = cri.run_pods(&configs).into_iter().map(Result::unwrap).collect();
    let addresses: HashSet<_> = pods.iter().flat_map(|pod| cri.pod_status(pod).unwrap().ips).collect();
    assert_eq!(addresses.len(), 60, "two addresses each, none twice");
    pods.iter().for_each(|pod| cri.remove_pod(pod).unwrap());
    assert_eq!(machine.residue(), Vec::<String>::new());
}

/// A hundred Pods that run, and how many containerd knew besides: those that it was making when it was killed.
struct Started {
    pods: Vec<(String, String)>,
    half_made: usize,
}

/// Starts a hundred Pods, ten at a time, every tenth with a hostPort; with a crash when so many are up.
fn start_a_hundred(machine: &Machine, containerd: &mut Containerd, crash: Option<usize>) -> Started {
    let up = &Mutex::new(Vec::new());
    let start = |cri: &Cri, thread: usize| {
        for at in 0..10 {
            let mut attempt = 0;
            // As a kubelet: a sandbox that did not come up is left for later, and another one is made.
            let pod = eventually(|| {
                attempt += 1;
                let config = PodConfig::new(&format!("pod-{thread}-{at}-{attempt}"));
                cri.run_pod(&if at == 0 { config.host_port(8000 + thread as u16, 80) } else { config })
            });
            let ips = eventually(|| cri.pod_status(&pod)).ips;
            up.lock().unwrap().push((pod, ips[0].clone()));
        }
    };
    let crash = crash.map(|count| Crash {
        when: Box::new(move || up.lock().unwrap().len() >= count),
        then: Box::new(move || all_answer(machine, &up.lock().unwrap())),
    });
    in_ten_threads(containerd, start, crash);
    let pods = std::mem::take(&mut *up.lock().unwrap());
    let addresses: HashSet<_> = pods.iter().map(|(_, ip)| ip).collect();
    assert_eq!(addresses.len(), 100, "an address was given twice");
    all_answer(machine, &pods);
    let cri = containerd.cri();
    let known = cri.pods().unwrap();
    let half_made: Vec<_> = known.iter().filter(|pod| !pods.iter().any(|(up, _)| up == *pod)).collect();
    half_made.iter().for_each(|pod| cri.remove_pod(pod).unwrap());
    Started { pods, half_made: half_made.len() }
}

/// Stops and removes them, ten at a time; with a crash when so many are gone.
fn remove_all(machine: &Machine, containerd: &mut Containerd, pods: Vec<(String, String)>, crash: Option<usize>) {
    let (all, left) = (pods.len(), &Mutex::new(pods));
    let next = || left.lock().unwrap().pop();
    let remove = |cri: &Cri, _| {
        while let Some((pod, _)) = next() {
            eventually(|| cri.remove_pod(&pod));
        }
    };
    let crash = crash.map(|count| Crash {
        when: Box::new(move || left.lock().unwrap().len() + count <= all),
        then: Box::new(move || all_answer(machine, &left.lock().unwrap())),
    });
    in_ten_threads(containerd, remove, crash);
    assert_eq!(containerd.cri().pods(), Ok(Vec::new()));
}

/// When containerd is killed, and what must hold before it is started again.
struct Crash<'a> {
    when: Box<dyn Fn() -> bool + 'a>,
    then: Box<dyn Fn() + 'a>,
}

/// Does `job` ten times at once, each with a connection of its own.
fn in_ten_threads(containerd: &mut Containerd, job: impl Fn(&Cri, usize) + Sync, crash: Option<Crash>) {
    std::thread::scope(|scope| {
        let job = &job;
        let start = |thread| {
            let cri = containerd.cri();
            scope.spawn(move || job(&cri, thread))
        };
        let threads: Vec<_> = (0..10).map(start).collect();
        if let Some(crash) = crash {
            while !(crash.when)() && threads.iter().any(|thread| !thread.is_finished()) {
                std::thread::sleep(Duration::from_millis(5));
            }
            containerd.kill();
            (crash.then)();
            containerd.start_again();
        }
    });
}

/// Every Pod answers a ping from its node.
fn all_answer(machine: &Machine, pods: &[(String, String)]) {
    let addresses: Vec<&str> = pods.iter().map(|(_, ip)| ip.as_str()).collect();
    machine.sh(&format!("for ip in {}; do ping -q -c 1 -W 1 $ip >/dev/null; done", addresses.join(" ")));
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
    containerd.kill();
    assert!(ips.iter().all(|ip| machine.netns.pings(ip)), "a Pod lost its network with containerd");

    containerd.start_again();
    let cri = containerd.cri();
    assert_eq!(cri.pod_status(&pod).unwrap().ips, ips);
    assert!(ips.iter().all(|ip| machine.netns.pings(ip)));
    let second = cri.run_pod(&PodConfig::new("second")).unwrap();
    assert!(!ips.contains(&cri.pod_status(&second).unwrap().ips[0]));
    assert!(machine.sh("pod get 10.22.0.1:8080").starts_with("from "), "hostPort");
    cri.remove_pod(&pod).unwrap();
    cri.remove_pod(&second).unwrap();
    assert_eq!(machine.residue(), Vec::<String>::new());
}
