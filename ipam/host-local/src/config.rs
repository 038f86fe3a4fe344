//! The configuration: every key that is read, and what follows from all of them together.
//!
//! The types of `keys.rs` take what JSON says; [`Settings::resolve`] checks it whole, before anything is touched. An error is
//! code 7 and names the key by its path. DEL and GC read nothing but `ipam.dataDir`: [`data_dir`].

mod keys;

use std::collections::HashSet;
use std::net::IpAddr;
use std::path::PathBuf;

use libcni::ipnetwork::IpNetwork;
use libcni::{Error, Request, Route, code, config};
use nodes::MapKeys;
use serde_json::Value;

pub use self::keys::HostLocal;
use self::keys::{Ipam, RangeKeys, Requested, Subnet};
use crate::range::{Range, RangeSet, Wanted};

/// Where the stores are if `ipam.dataDir` does not say: the reference's place.
pub const DEFAULT_DATA_DIR: &str = "/var/lib/cni/networks";

/// All that an ADD, CHECK or STATUS needs to know.
#[derive(Debug)]
pub struct Settings {
    /// The range sets: the Pod gets an address from each.
    pub sets: Vec<RangeSet>,
    /// For each set the address asked for, if one is.
    pub requested: Vec<Option<IpAddr>>,
    /// `ipam.routes`, handed on as they are.
    pub routes: Vec<Route>,
    /// `ipam.dataDir`, or its default.
    pub data_dir: PathBuf,
    /// `ipam.resolvConf`, if there is one.
    pub resolv_conf: Option<String>,
}

impl Settings {
    /// Checks `config` whole, together with the environment of `request`. Code 7; code 4 for a `CNI_ARGS` that can't
    /// be read.
    pub fn resolve(request: &Request, config: &HostLocal) -> Result<Self, Error> {
        let ipam = config.ipam.as_ref().ok_or_else(|| Error::config("ipam", "missing", "host-local reads this key"))?;
        let sets = range_sets(request, config, ipam)?;
        require_one_of_each_family(request, &sets)?;
        require_absolute(ipam.data_dir.as_deref())?;
        let requested = assign(requested_addresses(request, config)?, &sets)?;
        Ok(Settings {
            requested,
            routes: ipam.routes.clone().unwrap_or_default(),
            data_dir: or_default(ipam.data_dir.as_deref()),
            resolv_conf: ipam.resolv_conf.clone().filter(|path| !path.is_empty()),
            sets,
        })
    }
}

/// `ipam.dataDir` for DEL and GC, whatever else has become of the configuration.
pub fn data_dir(request: &Request) -> PathBuf {
    let ipam = request.config.object.get("ipam");
    match ipam.and_then(|ipam| ipam.get("dataDir")) {
        None | Some(Value::Null) => or_default(None),
        Some(Value::String(text)) => or_default(Some(text)),
        Some(other) => {
            let shown = config::shorten(other);
            log::warn!("key \"ipam.dataDir\", value {shown}: not a string; going on with {DEFAULT_DATA_DIR}");
            or_default(None)
        }
    }
}

/// A runtime executes plugins from wherever it stands: a relative path would mean another store each time.
fn require_absolute(data_dir: Option<&str>) -> Result<(), Error> {
    match data_dir.filter(|path| !path.is_empty() && !path.starts_with('/')) {
        Some(path) => Err(Error::config("ipam.dataDir", format!("{path:?}"), "not an absolute path")),
        None => Ok(()),
    }
}

fn or_default(data_dir: Option<&str>) -> PathBuf {
    data_dir.filter(|path| !path.is_empty()).unwrap_or(DEFAULT_DATA_DIR).into()
}

/// More ranges than this are nobody's on one node. Each is compared with every other.
const MOST_RANGES: usize = 4096;

/// A Pod gets an address from each set, and each is a file.
const MOST_SETS: usize = 256;

/// The range sets in their order: the runtime's first, then the one of the top-level keys, then `ipam.ranges`; if there
/// are none, those of this node in the node map. The one place that says where ranges come from.
fn range_sets(request: &Request, config: &HostLocal, ipam: &Ipam) -> Result<Vec<RangeSet>, Error> {
    let runtime = config.runtime_ranges.as_deref().unwrap_or_default();
    let mut named: Vec<(String, RangeSet)> = Vec::new();
    read_sets(runtime, "runtimeConfig.ipRanges", &mut named)?;
    if ipam.top.subnet.is_some() {
        named.push(("ipam.subnet".to_owned(), RangeSet(vec![range(&ipam.top, "ipam")?])));
    }
    read_sets(ipam.ranges.as_deref().unwrap_or_default(), "ipam.ranges", &mut named)?;
    if named.is_empty() {
        named = pod_cidrs(request, &config.map)?;
    }
    if let Some(nodes) = request.config.object.get("ipam").and_then(|ipam| ipam.get("nodes")) {
        let why = "the node map belongs one level up: beside \"ipam\", not in it";
        let misplaced = Error::config("ipam.nodes", config::shorten(nodes), why);
        if named.is_empty() {
            return Err(misplaced);
        }
        log::warn!("{}", misplaced.details);
    }
    if named.is_empty() {
        let why = "no addresses to give: set ipam.ranges, ipam.subnet, runtimeConfig.ipRanges, or a node map (nodes)";
        return Err(Error::config("ipam.ranges", "missing", why));
    }
    require_few(named.len(), MOST_SETS, "range sets", "ipam.ranges")?;
    require_few(named.iter().map(|(_, set)| set.0.len()).sum(), MOST_RANGES, "ranges", "ipam.ranges")?;
    for (index, (key, set)) in named.iter().enumerate() {
        if let Some((other, _)) = named[..index].iter().find(|(_, earlier)| earlier.overlaps(set)) {
            return Err(Error::config(key, set, format!("overlaps with {other}")));
        }
    }
    Ok(named.into_iter().map(|(_, set)| set).collect())
}

/// The Pod CIDRs of this node, if the configuration has a node map: one range set for each family.
fn pod_cidrs(request: &Request, map: &MapKeys) -> Result<Vec<(String, RangeSet)>, Error> {
    if !map.are_given() {
        return Ok(Vec::new());
    }
    let (node, pod_cidrs) = match told_pod_cidrs()? {
        Some(pod_cidrs) => ("this node".to_owned(), pod_cidrs),
        None => pod_cidrs_of_map(request, map)?,
    };
    let mut named = Vec::new();
    for ipv4 in [true, false] {
        let of_family = pod_cidrs.iter().filter(|cidr| cidr.is_ipv4() == ipv4);
        let key = format!("podCIDRs of {node}");
        let range =
            |cidr: &IpNetwork| Range::new(&Wanted { subnet: *cidr, start: None, end: None, gateway: None }, &key);
        let ranges: Vec<Range> = of_family.map(range).collect::<Result<_, _>>()?;
        if !ranges.is_empty() {
            named.push((key.clone(), RangeSet(ranges)));
        }
    }
    if named.is_empty() {
        return Err(Error::config("nodes", node, "the node has no podCIDRs to give addresses from"));
    }
    Ok(named)
}

/// What the plugin that calls this one knows already: a map of thousands of nodes is read once for an ADD, not twice.
fn told_pod_cidrs() -> Result<Option<Vec<IpNetwork>>, Error> {
    #[expect(clippy::disallowed_methods, reason = "a CNI_* variable")]
    let Some(text) = std::env::var_os(nodes::POD_CIDRS) else { return Ok(None) };
    let text = text.to_string_lossy();
    let refuse = |error| {
        let details = format!("{}={text:?}: {error}", nodes::POD_CIDRS);
        Error::new(code::INVALID_ENVIRONMENT, "invalid environment", details)
    };
    text.split(',').map(|cidr| cidr.parse().map_err(refuse)).collect::<Result<_, _>>().map(Some)
}

/// This node, in words, and its Pod CIDRs.
fn pod_cidrs_of_map(request: &Request, map: &MapKeys) -> Result<(String, Vec<IpNetwork>), Error> {
    let Some(keys) = map.open(&request.config)? else { return Ok(Default::default()) };
    let own = keys.source.parse()?.own(keys.node_name.as_deref(), &machine_addresses()?)?.clone();
    Ok((format!("node {:?}", own.name), own.pod_cidrs))
}

/// By which the own node is found in a map that does not name it.
fn machine_addresses() -> Result<Vec<IpAddr>, Error> {
    let interfaces = nix::ifaddrs::getifaddrs().map_err(|error| Error::io("listing the node's addresses", error))?;
    let addresses = interfaces.filter_map(|interface| {
        let address = interface.address?;
        let ipv4 = address.as_sockaddr_in().map(|address| IpAddr::V4(address.ip()));
        ipv4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::V6(address.ip())))
    });
    Ok(addresses.filter(|address| !address.is_loopback()).collect())
}

fn read_sets(sets: &[Vec<RangeKeys>], at: &str, named: &mut Vec<(String, RangeSet)>) -> Result<(), Error> {
    for (index, ranges) in sets.iter().enumerate() {
        let key = format!("{at}[{index}]");
        let set = range_set(ranges, &key)?;
        named.push((key, set));
    }
    Ok(())
}

fn require_few(count: usize, most: usize, what: &str, at: &str) -> Result<(), Error> {
    match count > most {
        true => Err(Error::config(at, format!("{count} {what}"), format!("at most {most} are served"))),
        false => Ok(()),
    }
}

fn range_set(ranges: &[RangeKeys], at: &str) -> Result<RangeSet, Error> {
    require_few(ranges.len(), MOST_RANGES, "ranges", at)?;
    let mut set: Vec<Range> = Vec::with_capacity(ranges.len());
    for (index, keys) in ranges.iter().enumerate() {
        let key = format!("{at}[{index}]");
        let range = range(keys, &key)?;
        if let Some(first) = set.first().filter(|first| first.subnet.is_ipv4() != range.subnet.is_ipv4()) {
            let why = format!("not of the family of {at}[0], {}", first.subnet);
            return Err(Error::config(&format!("{key}.subnet"), range.subnet, why));
        }
        if let Some(other) = set.iter().position(|other| other.overlaps(&range)) {
            return Err(Error::config(&key, &range, format!("overlaps with {at}[{other}], {}", set[other])));
        }
        set.push(range);
    }
    if set.is_empty() {
        return Err(Error::config(at, "[]", "an empty range set"));
    }
    Ok(RangeSet(set))
}

fn range(keys: &RangeKeys, at: &str) -> Result<Range, Error> {
    let Some(Subnet(subnet)) = keys.subnet else {
        return Err(Error::config(&format!("{at}.subnet"), "missing", "a range needs its subnet"));
    };
    let wanted = Wanted { subnet, start: keys.range_start.0, end: keys.range_end.0, gateway: keys.gateway.0 };
    Range::new(&wanted, at)
}

/// 0.1.0 and 0.2.0 have words for one address of each family.
fn require_one_of_each_family(request: &Request, sets: &[RangeSet]) -> Result<(), Error> {
    let version = request.config.version;
    for ipv4 in [true, false] {
        let count = sets.iter().filter(|set| set.is_ipv4() == ipv4).count();
        if count > 1 && version.is_single_address() {
            let family = if ipv4 { "IPv4" } else { "IPv6" };
            let why =
                format!("cniVersion {version} takes one address of each family, and these are {count} range sets");
            return Err(Error::config("ipam.ranges", format!("{count} range sets of {family}"), why));
        }
    }
    Ok(())
}

/// Addresses asked for, each with where it was. `args.cni.ips` wins over `CNI_ARGS` (as the conventions say);
/// `runtimeConfig.ips` comes besides. The same address twice is one wish.
fn requested_addresses(request: &Request, config: &HostLocal) -> Result<Vec<(String, IpAddr)>, Error> {
    let args = config.args_ips.as_deref().unwrap_or_default();
    let runtime = config.runtime_ips.as_deref().unwrap_or_default();
    let keyed = |key: &'static str, list: &[Requested]| {
        let list: Vec<_> = list.iter().enumerate().map(|(at, ip)| (format!("{key}[{at}]"), ip.0)).collect();
        list
    };
    let mut all = keyed("args.cni.ips", args);
    if all.is_empty() {
        all.extend(address_in_cni_args(request)?.map(|address| ("CNI_ARGS IP".to_owned(), address)));
    }
    all.extend(keyed("runtimeConfig.ips", runtime));
    let mut seen = HashSet::new();
    all.retain(|(_, address)| seen.insert(*address));
    Ok(all)
}

/// `IP=` in `CNI_ARGS`. Other pairs are somebody else's.
fn address_in_cni_args(request: &Request) -> Result<Option<IpAddr>, Error> {
    let args = request.invocation.args()?;
    let Some(text) = args.get("IP").filter(|text| !text.is_empty()) else { return Ok(None) };
    let Requested(address) = text.parse().map_err(|why| {
        Error::new(code::INVALID_ENVIRONMENT, "invalid environment", format!("CNI_ARGS: IP={text}: {why}"))
    })?;
    Ok(Some(address))
}

/// Gives each wish to the first set that has the address and no wish yet; one that none takes is an error.
fn assign(wishes: Vec<(String, IpAddr)>, sets: &[RangeSet]) -> Result<Vec<Option<IpAddr>>, Error> {
    let mut requested = vec![None; sets.len()];
    for (key, address) in wishes {
        let Some((index, range)) =
            sets.iter().enumerate().find_map(|(index, set)| Some((index, set.range_of(address)?)))
        else {
            let shown = sets.iter().map(RangeSet::to_string).collect::<Vec<_>>().join("; ");
            return Err(Error::config(&key, address, format!("in none of the ranges {shown}")));
        };
        if range.gateway == address {
            return Err(Error::config(&key, address, format!("the gateway of the subnet {}", range.subnet)));
        }
        if let Some(earlier) = requested[index].replace(address) {
            let why = format!("range set {index} gives one address, and {earlier} is requested from it too");
            return Err(Error::config(&key, address, why));
        }
    }
    Ok(requested)
}

#[cfg(test)]
mod tests;
