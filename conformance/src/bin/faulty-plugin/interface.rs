//! `model-interface`: a veth between the container and the bridge model0.

use std::path::Path;

use libcni::{
    About, Attachment, AttachmentId, CniResult, Configuration, Error, Interface, IpConfig, Kind, Plugin, Request,
    Version,
};
use serde_json::Value;

use crate::delegate;
use crate::tools::{fault, host_end, link, links, owner, sh, sh_in, text_at};

pub struct Model;

#[derive(Configuration)]
pub struct Config {}

impl Plugin for Model {
    type Config = Config;
    const ABOUT: About = About { name: "model-interface", version: "1", summary: "a veth on a bridge", example: "{}" };
    const KIND: Kind = Kind::Interface;

    fn add(request: &Request, _: Config, attachment: &Attachment) -> Result<CniResult, Error> {
        let (network, container, ifname) = owner(request);
        let addresses = delegate::add(request).inspect_err(|_| forget(&container, "failed-delegate-leaves-file"))?;
        let netns = attachment.netns()?;
        if fault("makes-nothing") {
            return Ok(addresses);
        }
        if fault("replaces-interface") && ifname == "eth0" {
            let _ = sh_in(netns, "ip link del eth0");
        }
        let mac = text_at(request, "/runtimeConfig/mac").filter(|_| !fault("ignores-mac"));
        wire(&network, &container, &ifname, netns, &addresses, mac).inspect_err(|_| {
            forget(&container, "failed-add-leaves-file");
            let _ = delegate::call(request, "DEL");
        })?;
        result(request, attachment, addresses)
    }

    fn check(request: &Request, _: Config, attachment: &Attachment) -> Result<(), Error> {
        if fault("check-always-true") {
            return Ok(());
        }
        let previous = request.config.prev_result()?.ok_or_else(|| Error::check("no prevResult"))?;
        let (network, container, ifname) = owner(request);
        if fault("check-changes-things") {
            sh("echo 1 > /run/checked")?;
            sh("ip route replace 198.51.100.0/24 via 192.0.2.1")?;
        }
        let netns = attachment.netns()?;
        let link = link(Some(netns), &ifname)?;
        if fault("check-remembers-mac") && link["ifalias"] != link["address"] {
            return Err(Error::check("the hardware address is another one"));
        }
        if fault("check-wants-a-default-route") && sh_in(netns, "ip route show default")?.trim().is_empty() {
            return Err(Error::check("there is no default route"));
        }
        check_pod(&previous, &ifname, &link)?;
        if !fault("check-ignores-routes") {
            check_routes(&previous, netns)?;
        }
        if !fault("check-ignores-host") {
            check_host(&host_end(&network, &container, &ifname))?;
        }
        match fault("no-delegate-check") {
            true => Ok(()),
            false => delegate::call(request, "CHECK").map(drop),
        }
    }

    fn del(request: &Request, attachment: &Attachment) -> Result<(), Error> {
        if fault("del-needs-prev-result") && request.config.prev_result()?.is_none() {
            return Err(Error::config("prevResult", "missing", "DEL wants it"));
        }
        if fault("del-needs-netns") && !attachment.netns.as_ref().is_some_and(|path| path.exists()) {
            return Err(Error::io("CNI_NETNS", "it is gone"));
        }
        if fault("del-forgets-when-netns-is-gone") && !attachment.netns.as_ref().is_some_and(|path| path.exists()) {
            return Ok(());
        }
        let (network, container, ifname) = owner(request);
        let host = host_end(&network, &container, &ifname);
        let there = link(None, &host).is_ok();
        let others = || links(None).unwrap_or_default().into_iter().filter(|link| link["ifalias"].is_string());
        if fault("del-wants-the-oldest-first") && there && others().next().is_some_and(|link| link["ifname"] != host) {
            return Err(Error::io(host, "not the oldest"));
        }
        if fault("del-takes-all") {
            for link in others() {
                let _ = sh(&format!("ip link del {}", link["ifname"].as_str().unwrap_or_default()));
            }
            return delegate::call(request, "DEL").map(drop);
        }
        if fault("del-fails-when-repeated") && !there {
            return Err(Error::io(host, "no such interface"));
        }
        let delegated = match fault("no-delegate-del") {
            true => Ok(()),
            false => delegate::call(request, "DEL").map(drop),
        };
        if fault("del-stops-at-delegate") && delegated.is_err() {
            return delegated;
        }
        if there && !fault("del-leaves-interface") {
            // The other end's namespace may be on its way out and take it along.
            sh(&format!("ip link del {host} || ! ip link show {host} 2>/dev/null"))?;
        }
        match fault("del-ignores-delegate-error") {
            true => Ok(()),
            false => delegated,
        }
    }

    fn gc(request: &Request, valid: &[AttachmentId]) -> Result<(), Error> {
        let delegated = match fault("no-delegate-gc") {
            true => Ok(()),
            false => delegate::call(request, "GC").map(drop),
        };
        for link in links(None)? {
            let Some(alias) = link["ifalias"].as_str() else { continue };
            let mut words = alias.split(' ');
            let (network, container, ifname) = (words.next(), words.next(), words.next());
            let ours = network == Some(&request.config.name) || fault("gc-takes-other-networks");
            let is_valid = valid.iter().any(|id| {
                container == Some(&id.container_id) && (ifname == Some(&id.ifname) || fault("gc-by-container"))
            });
            if ours && (!is_valid || fault("gc-removes-valid")) {
                let _ = sh(&format!("ip link del {}", link["ifname"].as_str().unwrap_or_default()));
            }
        }
        delegated
    }

    fn status(request: &Request, _: Config) -> Result<(), Error> {
        if fault("status-changes-things") {
            sh("ip route replace 198.51.100.0/24 via 192.0.2.1")?;
        }
        match fault("no-delegate-status") {
            true => Ok(()),
            false => delegate::call(request, "STATUS").map(drop),
        }
    }
}

/// Leaves a file of which nobody knows any more.
fn forget(container: &str, name: &str) {
    if fault(name) {
        let _ = sh(&format!("mkdir -p /run/model; touch /run/model/{container}"));
    }
}

fn wire(
    network: &str,
    container: &str,
    ifname: &str,
    netns: &Path,
    addresses: &CniResult,
    mac: Option<String>,
) -> Result<(), Error> {
    let host = host_end(network, container, ifname);
    sh("ip link add model0 address 02:00:00:00:00:01 type bridge 2>/dev/null || true; ip link set model0 up")?;
    for ip in &addresses.ips {
        if let Some(gateway) = ip.gateway {
            sh(&format!("ip addr replace {gateway}/{} dev model0", ip.address.prefix()))?;
        }
    }
    let address = mac.map(|mac| format!("address {mac}")).unwrap_or_default();
    sh(&format!(
        "ip link add {host} type veth peer name {ifname} {address} netns {netns}
         ip link set {host} alias '{network} {container} {ifname}' master model0 up",
        netns = netns.display()
    ))?;
    leak(container, &host)?;
    if fault("check-remembers-mac") {
        let mac = link(Some(netns), ifname)?["address"].as_str().unwrap_or_default().to_owned();
        sh_in(netns, &format!("ip link set {ifname} alias {mac}"))?;
    }
    if fault("leaves-interface-down") {
        return Ok(());
    }
    for ip in &addresses.ips {
        sh_in(netns, &format!("ip addr add {} dev {ifname}", ip.address))?;
    }
    sh_in(netns, &format!("ip link set {ifname} up"))?;
    if fault("unlisted-address") {
        sh_in(netns, &format!("ip addr add 198.51.100.9/24 dev {ifname}"))?;
    }
    if fault("unlisted-route") {
        sh_in(netns, &format!("ip route append 192.88.99.0/24 dev {ifname}"))?;
    }
    for route in addresses.routes.iter().filter(|_| !fault("route-not-installed")) {
        let gateway = route.gw.or(addresses.ips.first().and_then(|ip| ip.gateway));
        let via = gateway.map(|gateway| format!("via {gateway}")).unwrap_or_default();
        sh_in(netns, &format!("ip route append {} {via} dev {ifname}", route.dst))?;
    }
    Ok(())
}

/// Puts something on the node that no DEL removes.
fn leak(container: &str, host: &str) -> Result<(), Error> {
    // Another for each container: what two leave alike would be found once.
    let number = container.bytes().fold(7u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into())) % 60_000 + 1;
    let address = format!("198.18.{}.{}", number / 256, number % 256);
    if fault("leaks-address") {
        sh(&format!("ip addr add {address}/32 dev eth0 2>/dev/null || true"))?;
    }
    if fault("leaks-ip-rule") {
        sh(&format!("ip rule add from {address} table 99"))?;
    }
    if fault("leaks-iptables") {
        sh(&format!("iptables-legacy -N {host}"))?;
    }
    if fault("counts-in-a-sysctl") {
        sh("cd /proc/sys/net/ipv4; echo $(($(cat ip_default_ttl) + 1)) > ip_default_ttl")?;
    }
    if fault("leaks-qdisc") {
        sh(&format!("tc qdisc replace dev eth0 root handle {number:x}: pfifo limit {number}"))?;
    }
    if fault("leaks-veth") {
        sh(&format!(
            "ip link add {} type veth peer name {}",
            host.replacen("mv", "la", 1),
            host.replacen("mv", "lb", 1)
        ))?;
    }
    if fault("leaks-file") {
        sh(&format!("mkdir -p /run/model; echo {container} > /run/model/{host}"))?;
    }
    if fault("leaks-rule") {
        sh(&format!("nft add table inet leak; nft add chain inet leak {host}"))?;
    }
    if fault("leaks-route") {
        sh(&format!("ip route add {address}/32 via 192.0.2.1 || true"))?;
    }
    if fault("grows-log") {
        sh(&format!("mkdir -p /var/lib/model; echo {container} >> /var/lib/model/log"))?;
    }
    if fault("takes-foreign-table") {
        let _ = sh("nft flush ruleset");
    }
    Ok(())
}

fn result(request: &Request, attachment: &Attachment, addresses: CniResult) -> Result<CniResult, Error> {
    let (network, container, ifname) = owner(request);
    let previous = match fault("drops-prev-result") {
        true => CniResult::default(),
        false => request.config.prev_result()?.unwrap_or_default(),
    };
    let host = host_end(&network, &container, &ifname);
    let read = |netns: Option<&Path>, name: &str| -> Result<Interface, Error> {
        let link = link(netns, name)?;
        let sandbox = netns.map(|path| path.display().to_string()).unwrap_or_default();
        let mtu = link["mtu"].as_u64().and_then(|mtu| u32::try_from(mtu).ok());
        Ok(Interface {
            name: name.to_owned(),
            mac: link["address"].as_str().unwrap_or_default().to_owned(),
            mtu,
            sandbox,
            ..Interface::default()
        })
    };
    let mut pod = read(Some(attachment.netns()?), &ifname)?;
    if fault("lies-about-mac") || (fault("lies-about-mac-in-0.3") && request.config.version <= Version::V0_3_1) {
        pod.mac = "02:00:00:00:00:99".to_owned();
    }
    if fault("lies-about-mtu") {
        pod.mtu = Some(9000);
    }
    if fault("lies-about-sandbox") {
        pod.sandbox = pod.sandbox.replace("/run/netns", "/var/run/netns");
    }
    let mut result = previous;
    result.interfaces.push(read(None, "model0")?);
    if !fault("unlisted-interface") {
        result.interfaces.push(read(None, &host)?);
    }
    if fault("lists-a-ghost") {
        result.interfaces.push(Interface { name: "ghost0".to_owned(), ..Interface::default() });
    }
    let index = result.interfaces.len();
    let listed = !fault("unlisted-pod-interface");
    result.interfaces.extend(listed.then_some(pod));
    let addressed = addresses.ips.into_iter().map(|ip| IpConfig { interface: listed.then_some(index), ..ip });
    result.ips.extend(addressed);
    result.routes.extend(addresses.routes);
    if let Some(server) = text_at(request, "/runtimeConfig/dns/servers/0").filter(|_| !fault("ignores-dns")) {
        result.dns.nameservers.push(server);
        result.dns.search.extend(text_at(request, "/runtimeConfig/dns/searches/0"));
    }
    Ok(result)
}

fn check_pod(previous: &CniResult, ifname: &str, link: &Value) -> Result<(), Error> {
    let is_up = link["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "UP"));
    let index =
        previous.interfaces.iter().position(|interface| interface.name == ifname && !interface.sandbox.is_empty());
    let interface = index.map(|index| &previous.interfaces[index]).ok_or_else(|| Error::check("not in prevResult"))?;
    let mac = interface.mac.is_empty() || link["address"] == interface.mac.as_str() || fault("check-ignores-mac");
    let mtu = interface.mtu.is_none_or(|mtu| link["mtu"].as_u64().is_some_and(|there| there <= u64::from(mtu)));
    if !is_up || !mac || !mtu {
        return Err(Error::check(format!("interface {ifname} is not as it was")));
    }
    for ip in previous.ips.iter().filter(|ip| ip.interface == index || fault("check-mistakes-other-addresses")) {
        let there = link["addr_info"].as_array().into_iter().flatten().any(|address| {
            address["local"] == ip.address.ip().to_string() && address["prefixlen"] == ip.address.prefix()
        });
        if !there && !fault("check-ignores-addresses") {
            return Err(Error::check(format!("address {} is missing", ip.address)));
        }
    }
    Ok(())
}

fn check_routes(previous: &CniResult, netns: &Path) -> Result<(), Error> {
    let text = sh_in(netns, "ip -4 route show table main")?;
    for route in &previous.routes {
        let dst = if route.dst.prefix() == 0 { "default".to_owned() } else { route.dst.to_string() };
        if route.dst.is_ipv4() && !text.lines().any(|line| line.starts_with(&dst)) {
            return Err(Error::check(format!("route to {} is missing", route.dst)));
        }
    }
    Ok(())
}

fn check_host(host: &str) -> Result<(), Error> {
    let link = link(None, host)?;
    let is_up = link["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "UP"));
    match is_up && link["master"] == "model0" {
        true => Ok(()),
        false => Err(Error::check(format!("interface {host} is not up in model0"))),
    }
}
