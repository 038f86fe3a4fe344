//! The device and what leads to the peers.

use conformance::cluster::{Cluster, addresses};
use conformance::lab::Pod;
use serde_json::{Value, json};

use crate::{DUAL, V4, add, call, chain, details, first, lines, mac, sync};

#[test]
fn the_device_learns_floods_and_joins_nothing_and_its_keys_are_honoured() {
    let cluster = Cluster::new(V4, 2);
    let node = cluster.node(0);
    let (pod, second) = (Pod::new("pod"), Pod::new("second"));
    add(node, &pod, &first(&cluster, 0, json!({})));
    let link = details(&node.netns, "vxlan.1");
    let data = &link["linkinfo"]["info_data"];
    assert_eq!((&link["mtu"], &data["id"], &data["port"]), (&json!(1450), &json!(1), &json!(4789)), "{link}");
    assert_eq!((&data["local"], &data["link"]), (&json!("10.240.0.4"), &json!("eth0")), "{link}");
    assert_eq!(data["learning"], false, "{link}");
    assert!(data.get("group").is_none() && data.get("remote").is_none(), "{link}");
    // What nobody is told of goes nowhere: no entry for all others, and no group of a multicast address.
    let fdb = lines(&node.netns, "bridge fdb show dev vxlan.1");
    assert_eq!(fdb.len(), 1, "{fdb:?}");
    assert!(!fdb[0].starts_with("00:00:00:00:00:00") && fdb[0].contains("permanent"), "{fdb:?}");
    assert!(!node.netns.sh("ip maddr show dev eth0").contains("239."));
    // Two Pods, one device; a second network has its own, with every key.
    add(node, &second, &first(&cluster, 0, json!({})));
    assert_eq!(lines(&node.netns, "ip -o link show type vxlan").len(), 1);
    // It gives the same addresses: not while somebody has them.
    for gone in [&pod, &second] {
        call(node, "DEL", gone, &first(&cluster, 0, json!({}))).ok();
    }
    node.netns.sh("ip link add up1 mtu 1600 type bridge; ip link set up1 up");
    let keys =
        json!({"name": "other", "vni": 77, "port": 8472, "device": "tunnel", "mtu": 1300, "underlayDevice": "up1"});
    let result = add(node, &Pod::new("other"), &first(&cluster, 0, keys));
    let link = details(&node.netns, "tunnel");
    let data = &link["linkinfo"]["info_data"];
    assert_eq!((&link["mtu"], &data["id"], &data["port"]), (&json!(1300), &json!(77), &json!(8472)), "{link}");
    assert_eq!(data["link"], "up1", "{link}");
    assert_eq!(result["interfaces"][1]["mtu"], 1300);
    assert_eq!(lines(&node.netns, "ip -o link show type vxlan").len(), 2);
}

#[test]
fn a_vteps_mac_derives_from_node_name_and_vni_and_survives_reboot_and_renumbering() {
    let mut cluster = Cluster::new(V4, 2);
    for number in 0..2 {
        add(cluster.node(number), &Pod::new("pod"), &first(&cluster, number, json!({})));
    }
    let of_peer = |cluster: &Cluster| cluster.node(0).netns.sh("bridge fdb show dev vxlan.1");
    let booted = mac(&cluster.node(1).netns, "vxlan.1");
    assert!(of_peer(&cluster).starts_with(&booted), "{} is not told as {booted}", of_peer(&cluster));
    assert_eq!(u8::from_str_radix(&booted[..2], 16).unwrap() & 3, 2, "{booted} is not locally administered unicast");
    cluster.switch_on(1);
    let again = Pod::new("again");
    add(cluster.node(1), &again, &first(&cluster, 1, json!({})));
    assert_eq!(mac(&cluster.node(1).netns, "vxlan.1"), booted);
    // Another address, the same name.
    let mut entries = vec![cluster.entry(0), cluster.entry(1)];
    entries[1]["addresses"] = json!(["10.240.9.9"]);
    cluster.node(1).netns.sh("ip addr add 10.240.9.9/16 dev eth0; ip addr del 10.240.0.5/16 dev eth0");
    cluster.write_entries(entries);
    for number in 0..2 {
        sync(cluster.node(number), &first(&cluster, number, json!({}))).unwrap();
    }
    assert_eq!(mac(&cluster.node(1).netns, "vxlan.1"), booted);
    assert_eq!(details(&cluster.node(1).netns, "vxlan.1")["linkinfo"]["info_data"]["local"], "10.240.9.9");
    assert!(of_peer(&cluster).contains("dst 10.240.9.9") && of_peer(&cluster).starts_with(&booted));
    // Another VNI is another VTEP. Its network gives the same addresses.
    call(cluster.node(1), "DEL", &again, &first(&cluster, 1, json!({}))).ok();
    add(cluster.node(1), &Pod::new("other"), &first(&cluster, 1, json!({"name": "other", "vni": 2, "device": "two"})));
    assert_ne!(mac(&cluster.node(1).netns, "two"), booted);
}

#[test]
fn for_each_peer_and_family_there_is_one_route_and_one_neighbor_and_for_each_peer_one_fdb_entry() {
    let cluster = Cluster::new(DUAL, 3);
    let node = cluster.node(0);
    add(node, &Pod::new("pod"), &first(&cluster, 0, json!({})));
    let netns = &node.netns;
    for (routes, neighbors, cidr, vtep) in [
        ("ip route show proto 112 dev vxlan.1", "ip -4 neigh show dev vxlan.1", "10.244.N.0/24", "10.244.N.0"),
        (
            "ip -6 route show proto 112 dev vxlan.1",
            "ip -6 neigh show dev vxlan.1",
            "fd00:244:0:N::/64",
            "fd00:244:0:N::",
        ),
    ] {
        let (routes, neighbors) = (lines(netns, routes), lines(netns, neighbors));
        assert_eq!((routes.len(), neighbors.len()), (2, 2), "{routes:?} {neighbors:?}");
        for number in ["1", "2"] {
            let (cidr, vtep) = (cidr.replace('N', number), vtep.replace('N', number));
            let route = routes.iter().find(|line| line.starts_with(&cidr)).unwrap();
            assert!(route.contains(&format!("via {vtep} ")) && route.contains("onlink"), "{route}");
            let neighbor = neighbors.iter().find(|line| line.starts_with(&format!("{vtep} "))).unwrap();
            assert!(neighbor.contains("PERMANENT") && neighbor.contains("proto 112"), "{neighbor}");
        }
    }
    let fdb = lines(netns, "bridge fdb show dev vxlan.1");
    assert_eq!(fdb.len(), 2, "{fdb:?}");
    assert!(["10.240.0.5", "10.240.0.6"].iter().all(|ip| fdb.iter().any(|line| line.contains(&format!("dst {ip} ")))));
}

#[test]
fn with_direct_routing_peers_on_the_link_are_routed_and_the_others_tunnelled() {
    let cluster = Cluster::new(DUAL, 2);
    let node = cluster.node(0);
    let far = json!({"name": "far", "addresses": ["192.0.2.2"], "podCIDRs": ["10.244.9.0/24", "fd00:244:0:9::/64"]});
    cluster.write_entries(vec![cluster.entry(0), cluster.entry(1), far]);
    let direct = first(&cluster, 0, json!({"directRouting": true}));
    let routes = || node.netns.sh("ip route; ip -6 route");
    let all_are_there = |wanted: [&str; 4]| {
        let routes = routes();
        for route in wanted {
            assert!(routes.contains(route), "{route} is missing:\n{routes}");
        }
        let ours = routes.lines().filter(|line| line.contains(" via ") && line.contains("proto 112"));
        assert_eq!(ours.count(), 4, "{routes}");
    };
    let far = ["10.244.9.0/24 via 10.244.9.0 dev vxlan.1 ", "fd00:244:0:9::/64 via fd00:244:0:9:: dev vxlan.1 "];
    let near = ["10.244.1.0/24 via 10.240.0.5 dev eth0 ", "fd00:244:0:1::/64 via fd00:240::5 dev eth0 "];
    let pod = Pod::new("pod");
    add(node, &pod, &direct);
    all_are_there([near[0], near[1], far[0], far[1]]);
    let fdb = lines(&node.netns, "bridge fdb show dev vxlan.1");
    assert_eq!(fdb.len(), 1, "{fdb:?}");
    assert!(fdb[0].contains("dst 192.0.2.2"), "{fdb:?}");
    // Switched off, all are tunnelled, and the direct routes are gone; and back.
    sync(node, &first(&cluster, 0, json!({}))).unwrap();
    let tunnelled = ["10.244.1.0/24 via 10.244.1.0 dev vxlan.1 ", "fd00:244:0:1::/64 via fd00:244:0:1:: dev vxlan.1 "];
    all_are_there([tunnelled[0], tunnelled[1], far[0], far[1]]);
    sync(node, &direct).unwrap();
    all_are_there([near[0], near[1], far[0], far[1]]);
}

#[test]
fn another_underlay_family_is_another_device_and_the_old_one_goes() {
    let cluster = Cluster::new(DUAL, 2);
    let pods = ["zero", "one"].map(Pod::new);
    let results: Vec<Value> =
        (0..2).map(|number| add(cluster.node(number), &pods[number], &first(&cluster, number, json!({})))).collect();
    for (family, device) in [("ipv6", "vxlan6.1"), ("ipv4", "vxlan.1")] {
        for number in 0..2 {
            sync(cluster.node(number), &first(&cluster, number, json!({"underlayFamily": family}))).unwrap();
            let links = lines(&cluster.node(number).netns, "ip -o link show type vxlan");
            assert!(links.len() == 1 && links[0].contains(&format!(" {device}: ")), "{links:?}");
        }
        for ip in addresses(&results[1]) {
            assert!(pods[0].netns().pings(&ip.to_string()), "{family}: {ip}");
        }
    }
}

#[test]
fn to_another_nodes_own_address_a_pods_address_stays_on_node_routes_and_is_masqueraded_on_vxlan() {
    let cluster = Cluster::new(V4, 2);
    let pods = [Pod::new("tunnelled"), Pod::new("routed")];
    let routed = chain(
        &cluster,
        0,
        &[json!({"type": "routed-veth", "ipMasq": true, "ipam": {"type": "host-local"}})],
        json!({"name": "routed"}),
    );
    let overlay = first(&cluster, 0, json!({"ipMasq": true}));
    let seen =
        |pod: &Pod| pod.netns().seen_by(&cluster.node(1).netns, "10.240.0.5".parse().unwrap()).map(|ip| ip.to_string());
    add(cluster.node(0), &pods[0], &overlay);
    assert_eq!(seen(&pods[0]), Ok("10.240.0.4".to_owned()));
    call(cluster.node(0), "DEL", &pods[0], &overlay).ok();
    sync(cluster.node(0), &overlay).unwrap();
    cluster.node(0).netns.sh("ip link del vxlan.1");
    // The other node has a route back.
    let result = add(cluster.node(0), &pods[1], &routed[0]);
    cluster.node(1).netns.sh("ip route add 10.244.0.0/24 via 10.240.0.4");
    assert_eq!(seen(&pods[1]), Ok(addresses(&result)[0].to_string()));
}

#[test]
fn a_device_with_other_settings_is_rebuilt_and_only_that_nodes_traffic_stops() {
    let cluster = Cluster::new(V4, 3);
    let pods: Vec<(Pod, Value)> = (0..3)
        .map(|number| {
            let pod = Pod::new(&format!("pod-{number}"));
            let result = add(cluster.node(number), &pod, &first(&cluster, number, json!({})));
            (pod, result)
        })
        .collect();
    let ip = |number: usize| addresses(&pods[number].1)[0].to_string();
    let netns = |number: usize| pods[number].0.netns();
    // Node 0 gets another address: its device is made anew, while a Pod of node 1 pings one of node 2.
    let mut entries: Vec<Value> = (0..3).map(|number| cluster.entry(number)).collect();
    entries[0]["addresses"] = json!(["10.240.7.7"]);
    cluster.node(0).netns.sh("ip addr add 10.240.7.7/16 dev eth0; ip addr del 10.240.0.4/16 dev eth0");
    cluster.write_entries(entries);
    let index = |number: usize| details(&cluster.node(number).netns, "vxlan.1")["ifindex"].as_u64();
    let before = [index(0), index(1), index(2)];
    let pinged = std::thread::scope(|scope| {
        let pinging = scope.spawn(|| netns(1).sh(&format!("ping -n -q -i 0.01 -c 100 {}", ip(2))));
        for number in 0..3 {
            sync(cluster.node(number), &first(&cluster, number, json!({}))).unwrap();
        }
        pinging.join().unwrap()
    });
    assert!(pinged.contains(" 0% packet loss"), "{pinged}");
    assert_ne!(index(0), before[0], "node 0's device was not made anew");
    assert_eq!([index(1), index(2)], before[1..], "another node's device was touched");
    for (from, to) in [(0, 1), (1, 0), (2, 0), (1, 2)] {
        assert!(netns(from).pings(&ip(to)), "{from} to {to}");
    }
}

#[test]
fn another_vni_is_refused_on_add_and_gc_and_follows_sync() {
    let cluster = Cluster::new(V4, 2);
    let node = cluster.node(0);
    let living = Pod::new("living");
    add(node, &living, &first(&cluster, 0, json!({})));
    let before = node.netns.state();
    for keys in [json!({"vni": 9, "device": "vxlan.1"}), json!({"vni": 9}), json!({"port": 8472})] {
        let config = first(&cluster, 0, keys.clone());
        let reply = call(node, "ADD", &Pod::new("pod"), &config);
        assert_eq!(reply.code(), 7, "{keys}: {} {}", reply.stdout, reply.stderr);
        assert!(reply.details().contains("vxlan.1") && reply.details().contains("--sync"), "{}", reply.stdout);
        let mut gc = config.clone();
        gc["cni.dev/valid-attachments"] = json!([{"containerID": "living", "ifname": "eth0"}]);
        assert_eq!(node.call_network("vxlan-overlay", "GC", &gc).code(), 7, "{keys}");
        let status = node.call_network("vxlan-overlay", "STATUS", &config);
        assert_eq!(status.code(), 50, "{keys}: {}", status.stdout);
        assert!(node.netns.state() == before, "{keys}: something has changed");
    }
    sync(node, &first(&cluster, 0, json!({"vni": 9}))).unwrap();
    let links = node.netns.sh("ip -o link show type vxlan");
    assert!(links.contains("vxlan.9") && !links.contains("vxlan.1:"), "{links}");
    assert!(node.netns.sh("ip route").contains("10.244.1.0/24 via 10.244.1.0 dev vxlan.9"));
    add(node, &Pod::new("pod"), &first(&cluster, 0, json!({"vni": 9})));
}

#[test]
fn status_is_50_without_the_underlay_and_51_without_the_map() {
    let cluster = Cluster::new(V4, 2);
    let node = cluster.node(0);
    let status = |keys: Value| node.call_network("vxlan-overlay", "STATUS", &first(&cluster, 0, keys));
    status(json!({})).ok();
    let no_device = status(json!({"underlayDevice": "bond7"}));
    assert_eq!((no_device.code(), no_device.details().contains("bond7")), (50, true), "{}", no_device.stdout);
    let elsewhere = status(json!({"nodeName": "node-1"}));
    assert_eq!((elsewhere.code(), elsewhere.details().contains("10.240.0.5")), (50, true), "{}", elsewhere.stdout);
    node.netns.sh("ip addr flush dev eth0");
    let nowhere = status(json!({}));
    assert_eq!((nowhere.code(), nowhere.details().contains("nodeName")), (50, true), "{}", nowhere.stdout);
    std::fs::write(cluster.map(), "{").unwrap();
    let unreadable = status(json!({}));
    assert_eq!((unreadable.code(), unreadable.details().contains("nodes.json")), (51, true), "{}", unreadable.stdout);
}
