//! How large a packet may be, what is said of one that is larger, and that much data arrives whole.

use std::io::{Read, Write};

use conformance::network::{Reach, Running, V6, V6_OVER_V4};

use crate::Shown;

impl Shown {
    #[track_caller]
    pub fn what_fits_passes_and_one_byte_more_is_refused(&self) {
        let (from, to) = (&self.pods[0], &self.pods[2]);
        let mtu = from.netns().ip("link show eth0")[0]["mtu"].as_u64().unwrap();
        let fits = match self.reach {
            Reach::NodeRoutes | Reach::Gateway => 1400,
            Reach::Direct if self.cluster.families != V6_OVER_V4 => mtu,
            _ if self.cluster.families == V6 => 1430,
            _ => 1450,
        };
        assert_eq!(mtu, fits, "{}", self.name);
        for ipv4 in self.families() {
            let address = to.address(ipv4).unwrap();
            let payload = mtu - if ipv4 { 28 } else { 48 };
            let ping = |bytes: u64, patience: f32| {
                from.netns().try_sh(&format!("ping -n -c 1 -W {patience} -M do -s {bytes} {address}"))
            };
            let passes = ping(payload, 2.0);
            assert!(passes.is_ok(), "{}: {passes:?}", self.name);
            // The Pod's own kernel says so at once.
            let error = ping(payload + 1, 0.1).unwrap_err();
            assert!(error.contains("too long"), "{}: {error}", self.name);
            self.too_large_from_outside_is_answered(from, ipv4, mtu);
        }
    }

    /// Whether the router hands it to the Pod's own node, or to one that has it in the tunnel.
    #[track_caller]
    fn too_large_from_outside_is_answered(&self, pod: &Running, ipv4: bool, mtu: u64) {
        let address = pod.address(ipv4).unwrap();
        let nodes = if self.reach.is_overlay() { 0..3 } else { pod.node..pod.node + 1 };
        for number in nodes {
            let Some(node) = self.cluster.addresses(number).into_iter().find(|a| a.is_ipv4() == ipv4) else { return };
            let bits = if ipv4 { 32 } else { 128 };
            self.cluster.router.sh(&format!("ip route replace {address}/{bits} via {node}"));
            let payload = 1500 - if ipv4 { 28 } else { 48 };
            let answer = self.cluster.outside.try_sh(&format!("ping -n -c 1 -W 2 -M do -s {payload} {address}"));
            self.cluster.router.sh(&format!("ip route del {address}/{bits} via {node}"));
            // What was learned is forgotten, so that the next node is asked too.
            self.cluster.outside.sh("ip route flush cache; ip -6 route flush cache");
            let answer = answer.unwrap_err();
            assert!(
                answer.contains(&format!("mtu = {mtu}")) || answer.contains(&format!("mtu={mtu}")),
                "{}, by node {number}: {answer}",
                self.name
            );
        }
    }

    #[track_caller]
    pub fn a_hundred_megabytes_arrive(&self) {
        const SIZE: usize = 100 << 20;
        let (from, to) = (&self.pods[0], &self.pods[3]);
        let address = to.address(self.families()[0]).unwrap();
        let listener = to.netns().listen(address);
        let mut sender = from.netns().connect(listener.local_addr().unwrap()).unwrap();
        let (mut receiver, _) = listener.accept().unwrap();
        let sending = std::thread::spawn(move || {
            let block: Vec<u8> = (0..1 << 20).map(|at| (at % 251) as u8).collect();
            (0..SIZE / block.len()).try_for_each(|_| sender.write_all(&block))
        });
        let mut block = vec![0; 1 << 20];
        for _ in 0..SIZE / block.len() {
            receiver.read_exact(&mut block).unwrap();
            assert!(block.iter().enumerate().all(|(at, byte)| *byte == (at % 251) as u8), "{}", self.name);
        }
        sending.join().unwrap().unwrap();
        assert_eq!(receiver.read(&mut block).unwrap(), 0, "{}", self.name);
    }
}
