//! The keys, each declared once, and the types that their values have.

use std::net::IpAddr;
use std::str::FromStr;

use libcni::ipnetwork::IpNetwork;
use libcni::keys::{At, KeyType, Shape, Shaped, scalar};
use libcni::{Configuration, Error, Route};
use nodes::MapKeys;
use serde_json::Value;

use super::DEFAULT_DATA_DIR;

/// What is read of the complete network configuration.
#[derive(Debug, Configuration)]
pub struct HostLocal {
    /// `nodes`, `nodeName`.
    #[key(
        flatten,
        describe("nodes", shown = "none", help = "the node map: without ranges, those of this node's podCIDRs")
    )]
    pub(super) map: MapKeys,
    pub(super) ipam: Option<Ipam>,
    /// As ipam.ranges, from the runtime (capability ipRanges), and before them.
    #[key(name = "runtimeConfig.ipRanges", shown = "[]", brief)]
    pub(super) runtime_ranges: Option<Vec<Vec<RangeKeys>>>,
    /// Addresses requested by the runtime (capability ips), `<ip>[/<prefix>]`.
    #[key(name = "runtimeConfig.ips", shown = "[]")]
    pub(super) runtime_ips: Option<Vec<Requested>>,
    /// Addresses requested, `<ip>[/<prefix>]`; CNI_ARGS `IP=<ip>` is read if there is none.
    #[key(name = "args.cni.ips", shown = "[]")]
    pub(super) args_ips: Option<Vec<Requested>>,
}

#[derive(Debug, Configuration)]
pub(super) struct Ipam {
    /// Range sets: a list of lists of ranges; the Pod gets an address from each set.
    pub(super) ranges: Option<Vec<Vec<RangeKeys>>>,
    #[key(
        flatten,
        describe("subnet", shown = "none", help = "a range set of one range, before those of ipam.ranges"),
        describe("rangeStart", shown = "as in ranges", help = "with ipam.subnet"),
        describe("rangeEnd", shown = "as in ranges", help = "with ipam.subnet"),
        describe("gateway", shown = "as in ranges", help = "with ipam.subnet")
    )]
    pub(super) top: RangeKeys,
    /// Routes for the Pod: dst, and gw, mtu, advmss, priority, table, scope as wanted.
    #[key(shown = "[]")]
    pub(super) routes: Option<Vec<Route>>,
    /// Where reservations are kept, a directory for each network.
    #[key(shown = DEFAULT_DATA_DIR)]
    pub(super) data_dir: Option<String>,
    /// A resolv.conf whose content is reported as the Pod's dns.
    pub(super) resolv_conf: Option<String>,
}

#[derive(Debug, Configuration)]
pub(super) struct RangeKeys {
    /// Address and prefix length, without host bits, at most /30 or /126.
    #[key(shown = "required")]
    pub(super) subnet: Option<Subnet>,
    /// The first address to give.
    #[key(shown = "the subnet's first address")]
    pub(super) range_start: Address,
    /// The last address to give (never IPv4's broadcast).
    #[key(shown = "the subnet's last address")]
    pub(super) range_end: Address,
    /// Reported as the gateway, and never given.
    #[key(shown = "the subnet's first address")]
    pub(super) gateway: Address,
}

/// A subnet: an address with a prefix length, which no default stands in for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Subnet(pub(super) IpNetwork);

impl FromStr for Subnet {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains('/') {
            return Err("not an address with a prefix length, such as 10.22.0.0/16".to_owned());
        }
        text.parse().map(Subnet).map_err(|error: libcni::ipnetwork::IpNetworkError| error.to_string())
    }
}

/// A requested address, `<ip>[/<prefix>]`. The prefix length given in the end is the subnet's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Requested(pub(super) IpAddr);

impl FromStr for Requested {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let network: IpNetwork = text.parse().map_err(|_| "not an address, with or without a prefix length")?;
        Ok(Requested(network.ip().to_canonical()))
    }
}

/// An address; empty or null is absent, as the reference reads it.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Address(pub(super) Option<IpAddr>);

impl FromStr for Address {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let address: Option<IpAddr> = match text {
            "" => None,
            text => Some(text.parse().map_err(|error: std::net::AddrParseError| error.to_string())?),
        };
        Ok(Address(address.map(|address| address.to_canonical())))
    }
}

/// Keys that are written as text.
macro_rules! written_as_text {
    ($($type:ty),*) => { $(
        impl Shaped for $type {
            fn shape() -> Shape {
                Shape::String
            }
        }

        impl KeyType for $type {
            fn read(value: &Value, at: &At<'_>) -> Result<Self, Error> {
                let text: Option<String> = scalar(value, at)?;
                text.unwrap_or_default().parse().map_err(|why| at.misfit(value, why))
            }
        }
    )* };
}

written_as_text!(Subnet, Requested, Address);
