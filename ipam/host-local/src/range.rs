//! Ranges and range sets: which addresses may be given out, and in which order.
//!
//! An address is also a number here: IPv6 as it is, IPv4 in its mapped form (`::ffff:a.b.c.d`), so that both fit one
//! sorted list. A range is two numbers whatever its size, and candidates are made one at a time, so a range of 2^128
//! addresses costs what a small one costs.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use libcni::Error;
use libcni::ipnetwork::IpNetwork;

/// Where IPv4 lies among the numbers.
const MAPPED: (u128, u128) = (0xffff_0000_0000, 0xffff_ffff_ffff);

/// An address as a number.
pub fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// A number as the address that it stands for.
pub fn address(number: u128) -> IpAddr {
    Ipv6Addr::from_bits(number).to_canonical()
}

/// One stretch of addresses within a subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Range {
    /// The subnet, whose prefix length the addresses get.
    pub subnet: IpNetwork,
    /// The first address that may be given.
    pub first: u128,
    /// The last address that may be given.
    pub last: u128,
    /// The subnet's gateway, never given.
    pub gateway: IpAddr,
}

/// A range as a configuration says it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// `subnet`.
    pub subnet: IpNetwork,
    /// `rangeStart`; by default the first address after the network's own.
    pub start: Option<IpAddr>,
    /// `rangeEnd`; by default the last one, but for IPv4's broadcast address.
    pub end: Option<IpAddr>,
    /// `gateway`; by default the first address after the network's own.
    pub gateway: Option<IpAddr>,
}

impl Range {
    /// Checks and completes a range. `at` is where it stands in the configuration, for errors (code 7).
    pub fn new(wanted: &Wanted, at: &str) -> Result<Self, Error> {
        let subnet = wanted.subnet;
        let key = |name: &str| format!("{at}.{name}");
        let network = number(subnet.network());
        if number(subnet.ip()) != network {
            let why = format!("has host bits set; the network's address is {}", subnet.network());
            return Err(Error::config(&key("subnet"), subnet, why));
        }
        let bits = if subnet.is_ipv4() { 32 } else { 128 };
        if subnet.prefix() > bits - 2 {
            let why = format!("too small to give addresses from: at most /{}", bits - 2);
            return Err(Error::config(&key("subnet"), subnet, why));
        }
        // IPv4's last address is its broadcast address; IPv6 has none.
        let highest = number(subnet.broadcast()) - u128::from(subnet.is_ipv4());
        let inside = |name: &str, address: Option<IpAddr>, default: u128| match address {
            None => Ok(default),
            Some(address) if subnet.contains(address) => Ok(number(address)),
            Some(address) => Err(Error::config(&key(name), address, format!("not in the subnet {subnet}"))),
        };
        let start = inside("rangeStart", wanted.start, network + 1)?;
        let end = inside("rangeEnd", wanted.end, highest)?;
        if start > end {
            let why = format!("the range ends at {} before it starts", address(end));
            return Err(Error::config(&key("rangeStart"), address(start), why));
        }
        // The reference would give the network's own and the broadcast address if told to start or end there.
        let (first, last) = (start.max(network + 1), end.min(highest));
        if first > last {
            let why = "the range holds the network's own or the broadcast address only";
            return Err(Error::config(&key("rangeStart"), address(start), why));
        }
        let gateway = wanted.gateway.unwrap_or_else(|| address(network + 1));
        if gateway.is_ipv4() != subnet.is_ipv4() {
            return Err(Error::config(&key("gateway"), gateway, format!("not of the family of the subnet {subnet}")));
        }
        Ok(Range { subnet, first, last, gateway })
    }

    /// May `address` be given, as far as the range's bounds go?
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.subnet.is_ipv4() && (self.first..=self.last).contains(&number(address))
    }

    /// Do both hold some address?
    pub fn overlaps(&self, other: &Range) -> bool {
        self.subnet.is_ipv4() == other.subnet.is_ipv4() && self.first <= other.last && other.first <= self.last
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", address(self.first), address(self.last))
    }
}

/// Ranges of one family that serve one address together. Never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeSet(pub Vec<Range>);

impl RangeSet {
    /// The range that `address` is in.
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.0.iter().find(|range| range.contains(address))
    }

    /// Are its addresses IPv4?
    pub fn is_ipv4(&self) -> bool {
        self.0.first().is_some_and(|range| range.subnet.is_ipv4())
    }

    /// Do both hold some address?
    pub fn overlaps(&self, other: &RangeSet) -> bool {
        self.0.iter().any(|range| other.0.iter().any(|theirs| range.overlaps(theirs)))
    }

    /// All addresses as inclusive stretches, in round-robin order: from the one after `last` to the end of its range,
    /// through the other ranges, and up to `last` itself. As the reference does it.
    pub fn stretches(&self, last: Option<IpAddr>) -> Vec<(u128, u128)> {
        let ranges = &self.0;
        let start = last.and_then(|last| Some((ranges.iter().position(|range| range.contains(last))?, number(last))));
        let Some((at, last)) = start else {
            return ranges.iter().flat_map(|range| without_ipv4(range, range.first, range.last)).collect();
        };
        let after = last.checked_add(1).map(|next| (at, next, ranges[at].last));
        let others = (1..ranges.len()).map(|step| (at + step) % ranges.len());
        let others = others.map(|index| (index, ranges[index].first, ranges[index].last));
        let before = (at, ranges[at].first, last);
        let all = after.into_iter().chain(others).chain([before]);
        all.flat_map(|(index, first, last)| without_ipv4(&ranges[index], first, last)).collect()
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, range) in self.0.iter().enumerate() {
            write!(f, "{}{range}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// The stretch, without what would read as IPv4 if an IPv6 range is so large that it reaches there.
fn without_ipv4(range: &Range, first: u128, last: u128) -> impl Iterator<Item = (u128, u128)> + use<> {
    let parts = match range.subnet {
        IpNetwork::V6(_) if first <= MAPPED.1 && MAPPED.0 <= last => {
            [(first, last.min(MAPPED.0 - 1)), (first.max(MAPPED.1 + 1), last)]
        }
        // No second part: a stretch that ends before it starts.
        _ => [(first, last), (1, 0)],
    };
    parts.into_iter().filter(|(first, last)| first <= last)
}

/// The numbers in `stretches`, in order, that are not in `excluded`, which is sorted.
pub fn candidates<'a>(stretches: &'a [(u128, u128)], excluded: &'a [u128]) -> impl Iterator<Item = u128> + 'a {
    stretches.iter().flat_map(move |&(first, last)| {
        let mut at = excluded.partition_point(|&number| number < first);
        let mut next = Some(first);
        std::iter::from_fn(move || {
            loop {
                let candidate = next.filter(|&candidate| candidate <= last)?;
                next = candidate.checked_add(1);
                if excluded.get(at) != Some(&candidate) {
                    return Some(candidate);
                }
                at += 1;
            }
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(subnet: &str, start: Option<&str>, end: Option<&str>) -> Result<Range, Error> {
        let ip = |text: Option<&str>| text.map(|text| text.parse().unwrap());
        let wanted = Wanted { subnet: subnet.parse().unwrap(), start: ip(start), end: ip(end), gateway: None };
        Range::new(&wanted, "ipam")
    }

    fn shown(stretches: &[(u128, u128)]) -> Vec<String> {
        stretches.iter().map(|&(first, last)| format!("{}-{}", address(first), address(last))).collect()
    }

    #[test]
    fn a_subnet_alone_gives_all_but_network_and_broadcast() {
        assert_eq!(range("10.1.2.0/24", None, None).unwrap().to_string(), "10.1.2.1-10.1.2.254");
        assert_eq!(range("fd00::/64", None, None).unwrap().to_string(), "fd00::1-fd00::ffff:ffff:ffff:ffff");
        let edges = range("10.1.2.0/24", Some("10.1.2.0"), Some("10.1.2.255")).unwrap();
        assert_eq!(edges.to_string(), "10.1.2.1-10.1.2.254");
    }

    #[test]
    fn what_does_not_hold_is_code_7_and_names_the_key() {
        let cases = [
            (range("10.1.2.3/24", None, None), "ipam.subnet"),
            (range("10.1.2.0/31", None, None), "ipam.subnet"),
            (range("fd00::/127", None, None), "ipam.subnet"),
            (range("10.1.2.0/24", Some("10.1.3.1"), None), "ipam.rangeStart"),
            (range("10.1.2.0/24", Some("fd00::1"), None), "ipam.rangeStart"),
            (range("10.1.2.0/24", None, Some("10.1.1.1")), "ipam.rangeEnd"),
            (range("10.1.2.0/24", Some("10.1.2.9"), Some("10.1.2.8")), "ipam.rangeStart"),
            (range("10.1.2.0/24", Some("10.1.2.0"), Some("10.1.2.0")), "ipam.rangeStart"),
        ];
        for (outcome, key) in cases {
            let error = outcome.unwrap_err();
            assert!(error.code == 7 && error.details.contains(&format!("{key:?}")), "{error}");
        }
    }

    #[test]
    fn the_order_goes_round_from_the_last_reserved_address() {
        let set = RangeSet(vec![
            range("10.0.0.0/24", None, Some("10.0.0.9")).unwrap(),
            range("10.0.1.0/24", None, Some("10.0.1.9")).unwrap(),
            range("10.0.2.0/24", None, Some("10.0.2.9")).unwrap(),
        ]);
        assert_eq!(
            shown(&set.stretches(Some("10.0.1.4".parse().unwrap()))),
            ["10.0.1.5-10.0.1.9", "10.0.2.1-10.0.2.9", "10.0.0.1-10.0.0.9", "10.0.1.1-10.0.1.4"]
        );
        assert_eq!(shown(&set.stretches(Some("10.0.1.9".parse().unwrap())))[0], "10.0.2.1-10.0.2.9");
        assert_eq!(shown(&set.stretches(Some("192.168.0.1".parse().unwrap())))[0], "10.0.0.1-10.0.0.9");
    }

    #[test]
    fn all_of_ipv6_is_a_range_like_any_other_and_never_gives_ipv4() {
        let all = RangeSet(vec![range("::/0", None, None).unwrap()]);
        let stretches = all.stretches(None);
        assert_eq!(stretches, [(1, MAPPED.0 - 1), (MAPPED.1 + 1, u128::MAX)]);
        assert_eq!(candidates(&stretches, &[1, 2, 4]).take(2).collect::<Vec<_>>(), [3, 5]);
        let from_the_end = all.stretches(Some(address(u128::MAX)));
        assert_eq!(candidates(&from_the_end, &[]).next(), Some(1));
        assert!(!all.0[0].contains("10.0.0.1".parse().unwrap()));
        let full = [(u128::MAX - 1, u128::MAX)];
        assert_eq!(candidates(&full, &[u128::MAX - 1, u128::MAX]).next(), None);
    }

    proptest! {
        #[test]
        fn candidates_are_all_that_is_not_excluded(
            first in 0u128..60, length in 0u128..60, other in 100u128..140,
            mut excluded in proptest::collection::vec(0u128..160, 0..80),
        ) {
            excluded.sort_unstable();
            excluded.dedup();
            let stretches = [(other, other + 20), (first, first + length)];
            let expected: Vec<u128> = (other..=other + 20).chain(first..=first + length)
                .filter(|number| !excluded.contains(number)).collect();
            prop_assert_eq!(candidates(&stretches, &excluded).collect::<Vec<_>>(), expected);
        }

        #[test]
        fn stretches_hold_every_address_once_whatever_came_last(
            sizes in proptest::collection::vec(1u8..6, 1..4), last in any::<u16>(),
        ) {
            let ranges = sizes.iter().enumerate().map(|(index, size)| {
                range(&format!("10.0.{index}.0/24"), None, Some(&format!("10.0.{index}.{size}"))).unwrap()
            });
            let set = RangeSet(ranges.collect());
            let all: Vec<u128> = candidates(&set.stretches(None), &[]).collect();
            let last = all[usize::from(last) % all.len()];
            let mut round: Vec<u128> = candidates(&set.stretches(Some(address(last))), &[]).collect();
            prop_assert_eq!(round.last(), Some(&last));
            round.sort_unstable();
            prop_assert_eq!(round, all);
        }

        #[test]
        fn a_number_is_its_address(bits in any::<u128>(), v4 in any::<u32>()) {
            prop_assert_eq!(number(address(bits)), bits);
            let v4 = IpAddr::from(std::net::Ipv4Addr::from_bits(v4));
            prop_assert_eq!(address(number(v4)), v4);
        }
    }
}
