//! Properties of ranges and of the store's file names, over inputs nobody thought of.

use std::ffi::CString;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libcni::ipnetwork::IpNetwork;
use proptest::prelude::*;

use crate::directory::named_address;
use crate::range::{Range, RangeSet, Wanted, address, candidates, number};

fn ip() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    ]
}

/// A range as somebody may ask for it: bounds mostly in the subnet, in either order.
fn wanted() -> impl Strategy<Value = Wanted> {
    let of = |ip: IpAddr, prefix: u8| {
        let subnet = IpNetwork::new(ip, if ip.is_ipv4() { prefix % 33 } else { prefix % 129 }).unwrap();
        IpNetwork::new(subnet.network(), subnet.prefix()).unwrap()
    };
    let bounds = (any::<Option<u128>>(), any::<Option<u128>>(), prop::option::of(ip()));
    (ip(), any::<u8>(), bounds).prop_map(move |(ip, prefix, (start, end, gateway))| {
        let subnet = of(ip, prefix);
        let (first, last) = (number(subnet.network()), number(subnet.broadcast()));
        let inside = |bits: u128| address(first + (last - first).checked_add(1).map_or(bits, |size| bits % size));
        Wanted { subnet, start: start.map(inside), end: end.map(inside), gateway }
    })
}

proptest! {
    #[test]
    fn what_a_range_gives_lies_in_its_subnet_and_between_its_bounds(wanted in wanted()) {
        let Ok(range) = Range::new(&wanted, "ipam") else { return Ok(()) };
        let set = RangeSet(vec![range.clone()]);
        let last = Some(address(range.last));
        for stretches in [set.stretches(None), set.stretches(last)] {
            for candidate in candidates(&stretches, &[]).take(5) {
                let ip = address(candidate);
                prop_assert!(wanted.subnet.contains(ip) && range.contains(ip), "{} of {}", ip, range);
                prop_assert!(ip != wanted.subnet.network());
                prop_assert!(ip.is_ipv6() || ip != wanted.subnet.broadcast());
                prop_assert!(wanted.start.is_none_or(|start| number(start) <= candidate));
                prop_assert!(wanted.end.is_none_or(|end| candidate <= number(end)));
            }
        }
    }

    #[test]
    fn ranges_overlap_exactly_if_both_hold_an_address(
        first in 0u8..30, length in 0u8..30, other in 0u8..30, other_length in 0u8..30,
    ) {
        let of = |first: u8, length: u8| {
            let ip = |low: u8| Some(IpAddr::from([10, 0, 0, low + 1]));
            let subnet = "10.0.0.0/24".parse().unwrap();
            Range::new(&Wanted { subnet, start: ip(first), end: ip(first + length), gateway: None }, "ipam").unwrap()
        };
        let (one, two) = (of(first, length), of(other, other_length));
        let both = (0..=255).any(|low| one.contains([10, 0, 0, low].into()) && two.contains([10, 0, 0, low].into()));
        prop_assert_eq!(one.overlaps(&two), both);
    }

    #[test]
    fn the_name_of_an_address_is_read_as_that_address(ip in ip()) {
        let ip = ip.to_canonical();
        prop_assert_eq!(named_address(&CString::new(ip.to_string()).unwrap()), Some(ip));
    }

    #[test]
    fn a_name_that_is_not_as_an_address_is_written_is_none(text in "[0-9a-fA-F:.%]{1,24}") {
        let read = named_address(&CString::new(text.as_str()).unwrap());
        let written = text.parse::<IpAddr>().ok().filter(|ip| ip.to_canonical().to_string() == text);
        prop_assert_eq!(read, written);
    }
}
