//! Addresses that the caller knows to be in use elsewhere on the node.
//!
//! This program asks no kernel: which address a route or a neighbor of the node belongs to is for the plugin that wires the
//! Pod to find out. A plugin that was given an address which is in use frees it (DEL) and asks again (ADD) with
//! `CNI_PODWIRE_AVOID` in the environment: addresses, separated by commas, that this ADD does not give (the kernel passes on at most
//! 128 KiB, some 8,000 of IPv4). An IPAM plugin that does not know the
//! variable ignores it; if it goes round its range as this one does, the second ADD gives another address all the same.

use std::net::IpAddr;

use libcni::{Error, code};
use nodes::AVOID;

use crate::range;

/// The addresses, sorted; none where the variable is not set or empty.
#[expect(clippy::disallowed_methods, reason = "passed from plugin to plugin, beside what the specification names")]
pub fn from_environment() -> Result<Vec<u128>, Error> {
    parse(&std::env::var_os(AVOID).unwrap_or_default().to_string_lossy())
}

/// Reads the variable's value (code 4 if it is wrong).
pub fn parse(text: &str) -> Result<Vec<u128>, Error> {
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let mut addresses = words.map(number).collect::<Result<Vec<_>, _>>()?;
    addresses.sort_unstable();
    Ok(addresses)
}

fn number(word: &str) -> Result<u128, Error> {
    let address: Result<IpAddr, _> = word.parse();
    address.map(range::number).map_err(|_| {
        let details = format!("{AVOID}: {word:?} is not an IP address; separate addresses with commas");
        Error::new(code::INVALID_ENVIRONMENT, "invalid environment", details)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_separated_by_commas_and_anything_else_is_code_4() {
        let numbers = |texts: &[&str]| texts.iter().map(|text| number(text).unwrap()).collect::<Vec<_>>();
        assert_eq!(parse("fd00::2, 10.0.0.3,10.0.0.2,").unwrap(), numbers(&["10.0.0.2", "10.0.0.3", "fd00::2"]));
        assert_eq!(parse("").unwrap(), []);
        for bad in ["10.0.0", "10.0.0.0/24", "10.0.0.2 10.0.0.3"] {
            let error = parse(bad).unwrap_err();
            assert!(error.code == code::INVALID_ENVIRONMENT && error.details.contains(AVOID), "{error}");
        }
    }
}
