//! ADD results (spec section 5), in one shape inside and in every version's shape outside.
//!
//! Inside, a result is what 1.1.0 can say. [`CniResult::to_value`] writes it in an older version's words, leaving out
//! what that version has no words for, but never addresses: 0.1.0 and 0.2.0 hold at most one of each family, so
//! more is an error there. [`CniResult::from_value`] reads any of them.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::parse_at;
use crate::error::{Error, code};
use crate::version::Version;

/// The result of an ADD.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CniResult {
    /// Every interface the attachment made, host ends and bridges included.
    pub interfaces: Vec<Interface>,
    /// Addresses, each pointing at its interface.
    pub ips: Vec<IpConfig>,
    /// Routes inside the container.
    pub routes: Vec<Route>,
    /// Name resolution, for the runtime to apply.
    pub dns: Dns,
}

/// An interface of a result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Its name, where it is.
    pub name: String,
    /// Hardware address, `aa:bb:cc:dd:ee:ff`; empty if it has none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// MTU in bytes (from 1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// Path of the network namespace it is in; empty on the host.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// A socket that stands for the interface (from 1.1.0).
    #[serde(rename = "socketPath", default, skip_serializing_if = "String::is_empty")]
    pub socket_path: String,
    /// The PCI device behind the interface (from 1.1.0).
    #[serde(rename = "pciID", default, skip_serializing_if = "String::is_empty")]
    pub pci_id: String,
}

/// An address of a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IpConfig {
    /// The address with its prefix length.
    pub address: IpNetwork,
    /// The subnet's default gateway.
    pub gateway: Option<IpAddr>,
    /// Index into [`CniResult::interfaces`]; none from an IPAM plugin.
    pub interface: Option<usize>,
}

/// A route of a result, or of a configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// Destination.
    pub dst: IpNetwork,
    /// Next hop; the address's gateway if missing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gw: Option<IpAddr>,
    /// Path MTU in bytes (from 1.1.0, as all below).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The segment size to advertise, in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Priority: lower is preferred.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Routing table.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Scope: 0 global, 253 link, 254 host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// A route to `dst` through `gw`, nothing else said.
    pub fn new(dst: IpNetwork, gw: Option<IpAddr>) -> Self {
        Route { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

/// Name resolution, in results and configurations.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dns {
    /// Name servers, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nameservers: Vec<String>,
    /// The local domain.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Search domains, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<String>,
    /// Resolver options.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<String>,
}

impl Dns {
    /// Nothing said?
    pub fn is_empty(&self) -> bool {
        *self == Dns::default()
    }
}

/// 0.3.0 and newer.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    #[serde(default)]
    cni_version: String,
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    interfaces: Vec<Interface>,
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    ips: Vec<ListedIp>,
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
    // Always written: upstream's own plugins write it, and some readers expect it.
    #[serde(default)]
    dns: Dns,
}

#[derive(Serialize, Deserialize)]
struct ListedIp {
    /// "4" or "6", from 0.3.0 to 0.4.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    interface: Option<i64>,
    address: IpNetwork,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
}

/// 0.1.0 and 0.2.0.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Single {
    #[serde(default)]
    cni_version: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip4: Option<SingleIp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ip6: Option<SingleIp>,
    #[serde(default)]
    dns: Dns,
}

#[derive(Serialize, Deserialize)]
struct SingleIp {
    ip: IpNetwork,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    gateway: Option<IpAddr>,
    #[serde(default, deserialize_with = "null_is_empty", skip_serializing_if = "Vec::is_empty")]
    routes: Vec<Route>,
}

/// A result in the words of one version.
#[derive(Serialize)]
#[serde(untagged)]
enum Written {
    Listed(Listed),
    Single(Single),
}

/// Go writes an empty list as `null`.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl CniResult {
    /// The result in `version`'s words. Code 7 if that version has none for it: 0.1.0 and 0.2.0 need one
    /// address, and take at most one of each family.
    pub fn to_value(&self, version: Version) -> Result<Value, Error> {
        serde_json::to_value(self.written(version)?).map_err(|error| Error::decode("result", error))
    }

    /// [`to_value`](CniResult::to_value) for people: keys in the specification's order, indented by four spaces.
    pub fn to_json_pretty(&self, version: Version) -> Result<String, Error> {
        let mut text = Vec::new();
        let four_spaces = serde_json::ser::PrettyFormatter::with_indent(b"    ");
        self.written(version)?
            .serialize(&mut serde_json::Serializer::with_formatter(&mut text, four_spaces))
            .map_err(|error| Error::decode("result", error))?;
        Ok(String::from_utf8(text).expect("JSON is UTF-8"))
    }

    /// Reads a result in the version that it names, else in `version`.
    pub fn from_value(value: &Value, version: Version) -> Result<Self, Error> {
        let version = match value.get("cniVersion").and_then(Value::as_str) {
            Some(text) if !text.is_empty() => text.parse()?,
            _ => version,
        };
        let result = if version.is_single_address() {
            Self::from_single(parse_at(value, "")?)
        } else {
            Self::from_listed(parse_at(value, "")?)
        };
        result.validate()?;
        Ok(result)
    }

    fn validate(&self) -> Result<(), Error> {
        for ip in &self.ips {
            if let Some(index) = ip.interface.filter(|&index| index >= self.interfaces.len()) {
                let why = format!("the result has {} interfaces", self.interfaces.len());
                return Err(Error::config("ips.interface", index, why));
            }
        }
        Ok(())
    }

    fn written(&self, version: Version) -> Result<Written, Error> {
        Ok(match version.is_single_address() {
            true => Written::Single(self.single(version)?),
            false => Written::Listed(self.listed(version)),
        })
    }

    fn listed(&self, version: Version) -> Listed {
        let modern = version >= Version::V1_1_0;
        let interfaces = self.interfaces.iter().cloned().map(|interface| match modern {
            true => interface,
            false => Interface { mtu: None, socket_path: String::new(), pci_id: String::new(), ..interface },
        });
        let ips = self.ips.iter().map(|ip| ListedIp {
            version: (version < Version::V1_0_0).then(|| if ip.address.is_ipv4() { "4" } else { "6" }.to_owned()),
            interface: ip.interface.map(|index| index as i64),
            address: ip.address,
            gateway: ip.gateway,
        });
        let routes = self.routes.iter().map(|route| if modern { route.clone() } else { plain(route) });
        Listed {
            cni_version: version.as_str().to_owned(),
            interfaces: interfaces.collect(),
            ips: ips.collect(),
            routes: routes.collect(),
            dns: self.dns.clone(),
        }
    }

    fn single(&self, version: Version) -> Result<Single, Error> {
        let refuse = |why: String| {
            Error::new(
                code::INVALID_CONFIG,
                "result does not fit the configured version",
                format!("{why}; cniVersion {version} needs one address, and takes at most one of each family"),
            )
        };
        let family = |ipv4: bool| -> Result<Option<SingleIp>, Error> {
            let mut ips = self.ips.iter().filter(|ip| ip.address.is_ipv4() == ipv4);
            let Some(ip) = ips.next() else { return Ok(None) };
            if ips.next().is_some() {
                let name = if ipv4 { "IPv4" } else { "IPv6" };
                return Err(refuse(format!("more than one {name} address")));
            }
            let routes = self.routes.iter().filter(|route| route.dst.is_ipv4() == ipv4).map(plain).collect();
            Ok(Some(SingleIp { ip: ip.address, gateway: ip.gateway, routes }))
        };
        let (ip4, ip6) = (family(true)?, family(false)?);
        if ip4.is_none() && ip6.is_none() {
            return Err(refuse("no address".to_owned()));
        }
        Ok(Single { cni_version: version.as_str().to_owned(), ip4, ip6, dns: self.dns.clone() })
    }

    fn from_listed(listed: Listed) -> Self {
        let ips = listed.ips.into_iter().map(|ip| IpConfig {
            address: ip.address,
            gateway: ip.gateway,
            // Some old plugins write -1 for "none".
            interface: ip.interface.and_then(|index| usize::try_from(index).ok()),
        });
        CniResult { interfaces: listed.interfaces, ips: ips.collect(), routes: listed.routes, dns: listed.dns }
    }

    fn from_single(single: Single) -> Self {
        let mut result = CniResult { dns: single.dns, ..CniResult::default() };
        for ip in [single.ip4, single.ip6].into_iter().flatten() {
            result.ips.push(IpConfig { address: ip.ip, gateway: ip.gateway, interface: None });
            result.routes.extend(ip.routes);
        }
        result
    }
}

/// A route with the fields every version has.
fn plain(route: &Route) -> Route {
    Route::new(route.dst, route.gw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn dual_stack() -> CniResult {
        CniResult {
            interfaces: vec![Interface {
                name: "eth0".into(),
                mac: "0a:58:0a:16:00:05".into(),
                mtu: Some(1450),
                sandbox: "/run/netns/a".into(),
                socket_path: "/run/s".into(),
                pci_id: "0000:00:1f.0".into(),
            }],
            ips: vec![
                IpConfig {
                    address: "10.22.0.5/16".parse().unwrap(),
                    gateway: Some("10.22.0.1".parse().unwrap()),
                    interface: Some(0),
                },
                IpConfig { address: "fd00::5/64".parse().unwrap(), gateway: None, interface: Some(0) },
            ],
            routes: vec![Route {
                mtu: Some(1400),
                advmss: Some(1360),
                priority: Some(7),
                table: Some(100),
                scope: Some(253),
                ..Route::new("0.0.0.0/0".parse().unwrap(), None)
            }],
            dns: Dns { nameservers: vec!["10.0.0.10".into()], ..Dns::default() },
        }
    }

    #[test]
    fn the_newest_version_says_everything() {
        let value = dual_stack().to_value(Version::V1_1_0).unwrap();
        assert_eq!(CniResult::from_value(&value, Version::V0_3_1).unwrap(), dual_stack());
        assert_eq!(value["cniVersion"], "1.1.0");
        assert!(value["ips"][0].get("version").is_none());
    }

    #[test]
    fn each_version_has_its_own_words() {
        let value = dual_stack().to_value(Version::V0_4_0).unwrap();
        assert_eq!(value["ips"][0]["version"], "4");
        assert_eq!(value["ips"][1]["version"], "6");
        assert!(value["interfaces"][0].get("mtu").is_none());
        assert!(value["routes"][0].get("table").is_none());

        let value = dual_stack().to_value(Version::V1_0_0).unwrap();
        assert!(value["ips"][0].get("version").is_none() && value["interfaces"][0].get("mtu").is_none());

        let value = dual_stack().to_value(Version::V0_2_0).unwrap();
        assert_eq!(value["ip4"], json!({"ip":"10.22.0.5/16","gateway":"10.22.0.1","routes":[{"dst":"0.0.0.0/0"}]}));
        assert_eq!(value["ip6"]["ip"], "fd00::5/64");
        assert!(value.get("ips").is_none() && value.get("interfaces").is_none());
    }

    #[test]
    fn every_version_reads_what_it_wrote() {
        for version in Version::ALL {
            let value = dual_stack().to_value(version).unwrap();
            let read = CniResult::from_value(&value, Version::LATEST).unwrap();
            let addresses = |result: &CniResult| result.ips.iter().map(|ip| ip.address).collect::<Vec<_>>();
            assert_eq!(addresses(&read), addresses(&dual_stack()), "{version}");
            assert_eq!(read.to_value(version).unwrap(), value, "{version}");
        }
    }

    #[test]
    fn the_old_versions_take_one_address_of_each_family_and_need_one() {
        let mut two = dual_stack();
        two.ips[1] = two.ips[0].clone();
        assert_eq!(two.to_value(Version::V0_2_0).unwrap_err().code, code::INVALID_CONFIG);
        assert_eq!(CniResult::default().to_value(Version::V0_1_0).unwrap_err().code, code::INVALID_CONFIG);
        assert!(CniResult::default().to_value(Version::V0_3_0).is_ok());
    }

    #[test]
    fn nulls_of_go_and_an_interface_out_of_range() {
        let value = json!({"cniVersion":"1.0.0","interfaces":null,"ips":null,"routes":null,"dns":{}});
        assert_eq!(CniResult::from_value(&value, Version::LATEST).unwrap(), CniResult::default());
        let value = json!({"cniVersion":"1.0.0","ips":[{"address":"10.0.0.2/24","interface":1}]});
        assert!(CniResult::from_value(&value, Version::LATEST).is_err());
    }
}
