//! `cnitool list`: the attachments that the cache remembers, whoever added them.
//!
//! A table on a terminal; columns without lines, of full width, on a pipe; one JSON document for programs.

use std::path::Path;

use comfy_table::{ContentArrangement, Table, presets};
use libcni::runtime::Cached;
use serde::Serialize;
use serde_json::Value;

/// One attachment.
#[derive(Debug, Serialize)]
pub struct Row {
    network: String,
    #[serde(rename = "containerID")]
    container_id: String,
    ifname: String,
    /// Where it was added, if that is known.
    netns: Option<String>,
    /// Is that still there?
    #[serde(rename = "netnsExists")]
    netns_exists: bool,
    /// Addresses with their prefix lengths, as ADD answered.
    ips: Vec<String>,
}

impl From<&Cached> for Row {
    fn from(cached: &Cached) -> Self {
        let parameters = &cached.parameters;
        Row {
            network: cached.network.clone(),
            container_id: parameters.id.container_id.clone(),
            ifname: parameters.id.ifname.clone(),
            netns: parameters.netns.as_deref().map(|path| path.display().to_string()),
            netns_exists: parameters.netns.as_deref().is_some_and(Path::exists),
            ips: cached.result.as_ref().map(addresses).unwrap_or_default(),
        }
    }
}

/// The addresses of a result, of whichever version: `ips`, or `ip4` and `ip6` before 0.3.0.
fn addresses(result: &Value) -> Vec<String> {
    let listed = result["ips"].as_array().into_iter().flatten().map(|ip| &ip["address"]);
    let single = [&result["ip4"]["ip"], &result["ip6"]["ip"]];
    listed.chain(single).filter_map(Value::as_str).map(str::to_owned).collect()
}

/// For people, with lines between the columns if it is for a terminal.
pub fn table(rows: &[Row], is_terminal: bool) -> String {
    let mut table = Table::new();
    if is_terminal {
        table.load_style(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    } else {
        table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    }
    table.set_header(["NETWORK", "CONTAINER", "INTERFACE", "NAMESPACE", "ADDRESSES"]);
    for row in rows {
        let netns = match (&row.netns, row.netns_exists) {
            (None, _) => "unknown".to_owned(),
            (Some(path), true) => path.clone(),
            (Some(path), false) => format!("{path} (gone)"),
        };
        table.add_row([&row.network, &row.container_id, &row.ifname, &netns, &row.ips.join(" ")]);
    }
    table.lines().map(|line| line.trim().to_owned() + "\n").collect()
}

/// For programs.
pub fn json(rows: &[Row]) -> String {
    serde_json::to_string_pretty(rows).expect("rows are strings and booleans") + "\n"
}
