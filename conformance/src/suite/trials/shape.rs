//! The shape of an ADD result in each version (section 5, and the earlier versions of the specification).

use std::net::IpAddr;

use libcni::Version;
use libcni::ipnetwork::IpNetwork;
use serde_json::Value;

/// What is wrong with the shape of a result in `version`; empty if nothing is.
pub fn faults(value: &Value, version: Version) -> Vec<String> {
    let mut faults = Faults(Vec::new());
    if !value.is_object() {
        return vec![format!("not an object: {value}")];
    }
    if version <= Version::V0_2_0 {
        faults.single(value);
    } else {
        faults.listed(value, version);
    }
    faults.dns(&value["dns"]);
    faults.0
}

struct Faults(Vec<String>);

impl Faults {
    fn require(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(what());
        }
    }

    /// 0.1.0 and 0.2.0.
    fn single(&mut self, value: &Value) {
        for foreign in ["ips", "interfaces"] {
            self.require(value.get(foreign).is_none(), || format!("{foreign}: came with 0.3.0"));
        }
        for (key, ipv4) in [("ip4", true), ("ip6", false)] {
            let Some(ip) = value.get(key).filter(|ip| !ip.is_null()) else { continue };
            self.cidr(&format!("{key}.ip"), &ip["ip"], Some(ipv4));
            self.optional_ip(&format!("{key}.gateway"), &ip["gateway"]);
            self.routes(&format!("{key}.routes"), &ip["routes"]);
        }
    }

    /// 0.3.0 and newer.
    fn listed(&mut self, value: &Value, version: Version) {
        for foreign in ["ip4", "ip6"] {
            self.require(value.get(foreign).is_none(), || format!("{foreign}: ended with 0.2.0"));
        }
        let interfaces = self.list("interfaces", &value["interfaces"]);
        for (index, interface) in interfaces.iter().enumerate() {
            self.interface(&format!("interfaces[{index}]"), interface);
        }
        for (index, ip) in self.list("ips", &value["ips"]).iter().enumerate() {
            let at = format!("ips[{index}]");
            self.cidr(&format!("{at}.address"), &ip["address"], None);
            self.optional_ip(&format!("{at}.gateway"), &ip["gateway"]);
            if let Some(number) = ip.get("interface").filter(|number| !number.is_null()) {
                let within = number.as_u64().is_some_and(|number| number < interfaces.len() as u64);
                self.require(within, || format!("{at}.interface: {number} of {} interfaces", interfaces.len()));
            }
            if version < Version::V1_0_0 {
                let family = if ip["address"].as_str().is_some_and(|text| text.contains(':')) { "6" } else { "4" };
                self.require(ip["version"] == family, || format!("{at}.version: {} is not {family:?}", ip["version"]));
            }
        }
        self.routes("routes", &value["routes"]);
    }

    fn interface(&mut self, at: &str, interface: &Value) {
        self.require(interface["name"].as_str().is_some_and(|name| !name.is_empty()), || format!("{at}.name: missing"));
        let optional_text = |key: &str| interface.get(key).is_none_or(|value| value.is_string());
        for key in ["mac", "sandbox", "socketPath", "pciID"] {
            self.require(optional_text(key), || format!("{at}.{key}: {} is not text", interface[key]));
        }
        let mtu = &interface["mtu"];
        self.require(mtu.is_null() || mtu.is_u64(), || format!("{at}.mtu: {mtu} is not a number"));
    }

    fn routes(&mut self, at: &str, routes: &Value) {
        for (index, route) in self.list(at, routes).iter().enumerate() {
            self.cidr(&format!("{at}[{index}].dst"), &route["dst"], None);
            self.optional_ip(&format!("{at}[{index}].gw"), &route["gw"]);
            for key in ["mtu", "advmss", "priority", "table", "scope"] {
                let number = &route[key];
                self.require(number.is_null() || number.is_u64(), || format!("{at}[{index}].{key}: {number}"));
            }
        }
    }

    fn dns(&mut self, dns: &Value) {
        self.require(dns.is_null() || dns.is_object(), || format!("dns: {dns} is not an object"));
        for key in ["nameservers", "search", "options"] {
            let list = &dns[key];
            let texts = list.as_array().is_some_and(|list| list.iter().all(Value::is_string));
            self.require(list.is_null() || texts, || format!("dns.{key}: {list} is not a list of texts"));
        }
    }

    /// A list; Go writes an empty one as `null`.
    fn list(&mut self, at: &str, value: &Value) -> Vec<Value> {
        self.require(value.is_null() || value.is_array(), || format!("{at}: {value} is not a list"));
        value.as_array().cloned().unwrap_or_default()
    }

    fn cidr(&mut self, at: &str, value: &Value, ipv4: Option<bool>) {
        let text = value.as_str().filter(|text| text.contains('/'));
        let network = text.and_then(|text| text.parse::<IpNetwork>().ok());
        let fits = network.is_some_and(|network| ipv4.is_none_or(|ipv4| network.is_ipv4() == ipv4));
        self.require(fits, || format!("{at}: {value} is not in CIDR notation"));
    }

    fn optional_ip(&mut self, at: &str, value: &Value) {
        let is_ip = value.as_str().is_some_and(|text| text.parse::<IpAddr>().is_ok());
        self.require(value.is_null() || is_ip, || format!("{at}: {value} is not an address"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_version_has_its_shape() {
        let listed = json!({"interfaces":[{"name":"eth0"}],"ips":[{"address":"10.0.0.2/24","interface":0}]});
        assert!(faults(&listed, Version::V1_0_0).is_empty());
        assert_eq!(faults(&listed, Version::V0_4_0).len(), 1, "no ips[0].version");
        assert_eq!(faults(&listed, Version::V0_2_0).len(), 2, "ips and interfaces");
        assert!(faults(&json!({"ip4":{"ip":"10.0.0.2/24"}}), Version::V0_2_0).is_empty());
    }

    #[test]
    fn a_wrong_value_is_named_with_its_place() {
        let value = json!({"interfaces":[{"mac":5}],"ips":[{"address":"10.0.0.2","gateway":"x","interface":3}],
                           "routes":[{"dst":"default"}],"dns":{"search":"x"}});
        let faults = faults(&value, Version::V1_1_0).join("; ");
        for place in [
            "interfaces[0].name",
            "interfaces[0].mac",
            "ips[0].address",
            "ips[0].gateway",
            "ips[0].interface",
            "routes[0].dst",
            "dns.search",
        ] {
            assert!(faults.contains(place), "{place}: {faults}");
        }
    }
}
