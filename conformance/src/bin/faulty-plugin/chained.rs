//! `model-chained`: sets arp_filter of the container's interface, limits its bandwidth, and maps a port to it.

use libcni::{About, Attachment, AttachmentId, CniResult, Configuration, Dns, Error, Kind, Plugin, Request};
use serde_json::Value;

use crate::tools::{fault, host_end, owner, sh, sh_in};

pub struct Model;

#[derive(Configuration)]
pub struct Config {}

impl Plugin for Model {
    type Config = Config;
    const ABOUT: About = About { name: "model-chained", version: "1", summary: "a sysctl", example: "{}" };
    const KIND: Kind = Kind::Interface;

    fn add(request: &Request, _: Config, attachment: &Attachment) -> Result<CniResult, Error> {
        let previous =
            request.config.prev_result()?.ok_or_else(|| Error::config("prevResult", "missing", "it is needed"));
        let mut result = match (previous, fault("accepts-any-prev-result")) {
            (Err(_), true) => CniResult::default(),
            (previous, _) => previous?,
        };
        sh_in(attachment.netns()?, &format!("echo 1 > {}", key(attachment)))?;
        serve(request, attachment, &result)?;
        if fault("drops-dns") {
            result.dns = Dns::default();
        }
        if fault("drops-routes") {
            result.routes.clear();
        }
        Ok(result)
    }

    fn check(_: &Request, _: Config, attachment: &Attachment) -> Result<(), Error> {
        let value = sh_in(attachment.netns()?, &format!("cat {}", key(attachment)))?;
        match value.trim() == "1" && !fault("check-always-fails") {
            true => Ok(()),
            false => Err(Error::check(key(attachment))),
        }
    }

    fn del(request: &Request, attachment: &Attachment) -> Result<(), Error> {
        let table = table_of(request);
        let _ = sh(&format!("nft delete table ip {table} 2>/dev/null || true"));
        if let (Ok(netns), false) = (attachment.netns(), fault("del-undoes-nothing")) {
            let _ = sh_in(netns, &format!("echo 0 > {}", key(attachment)));
            let _ = sh_in(netns, &format!("tc qdisc del dev {} root 2>/dev/null", attachment.id.ifname));
        }
        Ok(())
    }

    fn gc(request: &Request, valid: &[AttachmentId]) -> Result<(), Error> {
        let name = |id: &AttachmentId| table(&request.config.name, &id.container_id, &id.ifname);
        let valid: Vec<String> = valid.iter().map(name).collect();
        let tables = sh("nft list tables 2>/dev/null || true")?;
        let ours = tables.lines().filter_map(|line| line.strip_prefix("table ip "));
        for table in ours.filter(|table| table.starts_with(&of_network(&request.config.name))) {
            if !valid.iter().any(|name| name == table) {
                sh(&format!("nft delete table ip {table}"))?;
            }
        }
        Ok(())
    }

    fn status(_: &Request, _: Config) -> Result<(), Error> {
        match fault("status-always-fails") {
            true => Err(Error::new(libcni::code::UNAVAILABLE, "never ready", "")),
            false => Ok(()),
        }
    }
}

/// The capabilities that are used: `bandwidth` in the container, `portMappings` on the node.
fn serve(request: &Request, attachment: &Attachment, result: &CniResult) -> Result<(), Error> {
    let config = Value::Object(request.config.object.clone());
    let number = |place: &str| config.pointer(place).and_then(Value::as_u64);
    let rate = number("/runtimeConfig/bandwidth/egressRate").filter(|_| !fault("ignores-bandwidth"));
    if let Some(rate) = rate {
        let limit = format!("tbf rate {rate}bit burst 100k limit 100k");
        sh_in(attachment.netns()?, &format!("tc qdisc replace dev {} root {limit}", attachment.id.ifname))?;
    }
    let outside = number("/runtimeConfig/portMappings/0/hostPort").filter(|_| !fault("ignores-port-mappings"));
    let inside = number("/runtimeConfig/portMappings/0/containerPort");
    let address = result.ips.iter().map(|ip| ip.address.ip()).find(|ip| ip.is_ipv4());
    if let (Some(outside), Some(inside), Some(address)) = (outside, inside, address) {
        let table = table_of(request);
        sh(&format!(
            "nft add table ip {table}
             nft 'add chain ip {table} pre {{ type nat hook prerouting priority -100 ; }}'
             nft add rule ip {table} pre tcp dport {outside} dnat to {address}:{inside}"
        ))?;
    }
    Ok(())
}

/// The attachment's own table.
fn table_of(request: &Request) -> String {
    let (network, container, ifname) = owner(request);
    table(&network, &container, &ifname)
}

fn table(network: &str, container: &str, ifname: &str) -> String {
    of_network(network) + &host_end(network, container, ifname)
}

/// What the names of all tables of a network begin with.
fn of_network(network: &str) -> String {
    host_end(network, "", "") + "-"
}

fn key(attachment: &Attachment) -> String {
    format!("/proc/sys/net/ipv4/conf/{}/arp_filter", attachment.id.ifname)
}
