//! What a chained plugin is chained onto when the configuration names nothing: a plain veth, made by the suite.
//!
//! Pod number N gets 10.88.N.2/24 and fd00:88:N::2/64; the node's end of its veth has .1 and ::1 of them, and the
//! Pod's default routes lead there, and the node forwards. The result holds `dns` too, which a chained plugin has to hand on.

use serde_json::{Value, json};

use libcni::Version;

use super::attach::Pod;
use super::clause::Step;
use super::world::World;

impl World {
    /// Makes the veth and returns the result that a first plugin would have printed.
    pub fn make_base(&self, pod: &Pod) -> Step<Value> {
        let (number, netns, ifname) = (pod.number, pod.netns_name(), &pod.ifname);
        let host = base_link(pod);
        let group = format!("{number:x}");
        self.sh(
            None,
            &format!(
                "echo 1 > /proc/sys/net/ipv4/ip_forward
                 echo 1 > /proc/sys/net/ipv6/conf/all/forwarding
                 ip link add {host} type veth peer name {ifname} netns {netns}
                 ip addr add 10.88.{number}.1/24 dev {host}
                 ip addr add fd00:88:{group}::1/64 dev {host} nodad
                 ip link set {host} up
                 ip -n {netns} addr add 10.88.{number}.2/24 dev {ifname}
                 ip -n {netns} addr add fd00:88:{group}::2/64 dev {ifname} nodad
                 ip -n {netns} link set {ifname} up
                 ip -n {netns} route add default via 10.88.{number}.1 metric {number}
                 ip -n {netns} route add default via fd00:88:{group}::1 metric {number}"
            ),
        )?;
        let mac = |link: Option<super::kernel::Link>| link.map(|link| link.mac).unwrap_or_default();
        let host_mac = mac(self.link(None, &host)?);
        let pod_mac = mac(self.link(Some(netns), ifname)?);
        let mut result = json!({
            "cniVersion": self.job.version,
            "interfaces": [
                {"name": host, "mac": host_mac},
                {"name": ifname, "mac": pod_mac, "sandbox": pod.netns_path()},
            ],
            "ips": [
                {"address": format!("10.88.{number}.2/24"), "gateway": format!("10.88.{number}.1"), "interface": 1},
                {"address": format!("fd00:88:{group}::2/64"), "gateway": format!("fd00:88:{group}::1"), "interface": 1},
            ],
            "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            "dns": {"nameservers": ["192.0.2.53"], "domain": "conformance.example",
                    "search": ["conformance.example"], "options": ["ndots:2"]},
        });
        if self.job.version < Version::V1_0_0 {
            result["ips"][0]["version"] = json!("4");
            result["ips"][1]["version"] = json!("6");
        }
        if self.job.version >= Version::V1_1_0 {
            result["interfaces"][0]["mtu"] = json!(1500);
            result["interfaces"][1]["mtu"] = json!(1500);
        }
        self.note("a veth with addresses and routes made as the first plugin's part");
        Ok(result)
    }

    /// Removes the veth, if it is still there.
    pub fn remove_base(&self, pod: &Pod) {
        let _ = self.try_sh(None, &format!("ip link del {}", base_link(pod)));
    }
}

/// The node's end.
fn base_link(pod: &Pod) -> String {
    format!("base{}", pod.number)
}
