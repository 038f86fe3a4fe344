//! The node's addresses on the bridge: the gateways of the Pods' subnets.
//!
//! A gateway's interface has these addresses and, of IPv4, no others (`kernel::address::Others`): what another program or an earlier
//! configuration set there is refused, or with `forceAddress` replaced. A configuration may have several ranges of one
//! family, and each Pod shows those that its own addresses are of; the gateways of the others are read from the
//! configuration ([`configured`]).

use std::net::IpAddr;

use attach::pod::first_of_subnet;
use ipnetwork::IpNetwork;
use kernel::address::Address;
use kernel::sysctl::{Setting, Sysctls};
use kernel::{At, Error, Kernel, Made, Object, Result, link};
use serde_json::{Map, Value};

/// An address of the node on the bridge, or on the interface that the node has in a VLAN of it.
#[derive(Debug)]
pub struct Gateway {
    /// The address.
    pub address: Address,
    /// The alias of links that podwire made: where IPv6 is off on one of those, it is switched on.
    pub mark: &'static str,
}

impl Object for Gateway {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        match self.address.ensure(kernel) {
            Err(Error::Ipv6Off { .. }) if self.is_on_a_link_of_podwire(kernel)? => {
                let on = Setting::ipv6_on(&self.address.link);
                Sysctls { at: At::Host, settings: vec![on] }.ensure(kernel)?;
                self.address.ensure(kernel)
            }
            done => done,
        }
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        self.address.check(kernel)
    }

    fn settle(&self, kernel: &Kernel) -> Result<()> {
        self.address.settle(kernel)
    }
}

impl Gateway {
    fn is_on_a_link_of_podwire(&self, kernel: &Kernel) -> Result<bool> {
        let link = link::get(kernel, At::Host, &self.address.link)?;
        Ok(link.is_some_and(|link| link.alias == self.mark))
    }
}

/// The gateway with the prefix length of the Pod's address; none if it lies outside of that subnet (then it can't be the
/// node).
pub fn with_prefix(gateway: IpAddr, address: IpNetwork) -> Option<IpNetwork> {
    if address.contains(gateway) { IpNetwork::new(gateway, address.prefix()).ok() } else { None }
}

/// The gateways of everything that a configuration of an IPAM plugin names: host-local's ranges, those of the runtime
/// among them, and static's addresses.
pub fn configured(config: &Map<String, Value>) -> Vec<IpNetwork> {
    let (ipam, runtime) = (config.get("ipam"), config.get("runtimeConfig"));
    let sets = [ipam.and_then(|ipam| get(ipam, "ranges")), runtime.and_then(|runtime| get(runtime, "ipRanges"))];
    let ranges = sets.into_iter().flatten().flat_map(items).flat_map(items);
    let addresses = ipam.and_then(|ipam| get(ipam, "addresses")).into_iter().flat_map(items);
    ipam.into_iter().chain(ranges).chain(addresses).filter_map(gateway_of).collect()
}

/// The gateway of a range, or of a static address. What is no address is for the IPAM plugin to refuse.
fn gateway_of(range: &Value) -> Option<IpNetwork> {
    let text = |name| get(range, name).and_then(Value::as_str);
    let subnet: IpNetwork = text("subnet").or_else(|| text("address"))?.parse().ok()?;
    let gateway = match text("gateway") {
        Some(gateway) => gateway.parse().ok()?,
        None => first_of_subnet(subnet)?,
    };
    with_prefix(gateway, subnet)
}

fn items(array: &Value) -> &[Value] {
    array.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// A key's value. Names of keys are accepted in any case.
fn get<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    let object = object.as_object()?;
    object.get(name).or_else(|| object.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_gateways_of_every_range_are_known() {
        let config = json!({
            "runtimeConfig": {"ipRanges": [[{"subnet": "10.9.0.0/24"}]]},
            "ipam": {
                "subnet": "10.1.0.0/16", "gateway": "10.1.0.9",
                "Ranges": [[{"SUBNET": "10.2.0.0/24"}, {"subnet": "10.3.0.0/24", "gateway": "10.3.0.254"}], [{"subnet": "fd00::/64"}]],
                "addresses": [{"address": "10.5.0.9/24"}, {"address": "nonsense"}, 7],
            },
        });
        let found: Vec<String> = configured(config.as_object().unwrap()).iter().map(IpNetwork::to_string).collect();
        let expected = ["10.1.0.9/16", "10.2.0.1/24", "10.3.0.254/24", "fd00::1/64", "10.9.0.1/24", "10.5.0.1/24"];
        assert_eq!(found, expected);
        for nothing in [json!({}), json!({"ipam": null}), json!({"ipam": {"ranges": {"subnet": "10.0.0.0/8"}}})] {
            assert_eq!(configured(nothing.as_object().unwrap()), []);
        }
    }
}
