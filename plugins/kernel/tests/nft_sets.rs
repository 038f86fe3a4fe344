//! Sets and maps of nftables: what is made here is listed as if `nft` had made it, and what `nft` made is read.

mod common;

use common::Lab;
use common::nft::{PODS, PUBLISHED, TABLE, published};
use kernel::Kernel;
use kernel::nft::{Entry, Holds, Set, Transaction, Type, Value, concatenated, name_key};
use nix::errno::Errno;

const TCP: u8 = 6;
const UDP: u8 = 17;

const NETWORKS: Set =
    Set { name: "networks", key: &[Type::Ipv4], holds: Holds::Verdicts, intervals: true, comment: None };
const ALLOWED: Set = Set {
    name: "allowed",
    key: &[Type::Ipv6, Type::Protocol, Type::Port],
    holds: Holds::Keys,
    intervals: true,
    comment: None,
};
const MARKS: Set = Set {
    name: "marks",
    key: &[Type::Interface],
    holds: Holds::Values(&[Type::Mark]),
    intervals: false,
    comment: None,
};
const MACS: Set =
    Set { name: "macs", key: &[Type::Ethernet, Type::Interface], holds: Holds::Keys, intervals: false, comment: None };

fn elements() -> Vec<(Set<'static>, Vec<Entry>)> {
    let interval = |first: [u8; 4], last: [u8; 4], value: Value| Entry {
        last: Some(last.to_vec()),
        ..Entry::new(first.to_vec()).with(value)
    };
    let v6 = |last: u8| [&[0xfd, 0][..], &[0; 13], &[last]].concat();
    let range = |last, first_port: u16, last_port: u16| Entry {
        last: Some(concatenated(&[&v6(last), &[TCP], &last_port.to_be_bytes()])),
        ..Entry::new(concatenated(&[&v6(0), &[TCP], &first_port.to_be_bytes()]))
    };
    vec![
        (
            PUBLISHED,
            vec![
                published([192, 0, 2, 1], TCP, 8080, [10, 0, 0, 5], 80).commented("pod a"),
                published([192, 0, 2, 1], UDP, 53, [10, 0, 0, 6], 5353),
            ],
        ),
        (
            PODS,
            vec![
                Entry::new(vec![10, 0, 0, 1]).with(Value::Accept),
                Entry::new(vec![10, 0, 0, 2]).with(Value::Drop),
                Entry::new(vec![10, 0, 0, 3]).with(Value::Jump("aside".to_owned())).commented("jumps"),
                Entry::new(vec![10, 0, 0, 4]).with(Value::Goto("aside".to_owned())),
                Entry::new(vec![10, 0, 0, 5]).with(Value::Return),
            ],
        ),
        (
            NETWORKS,
            vec![
                interval([10, 1, 0, 0], [10, 1, 255, 255], Value::Accept).commented("wide"),
                interval([10, 2, 0, 0], [10, 2, 0, 7], Value::Goto("aside".to_owned())),
                interval([255, 0, 0, 0], [255, 255, 255, 255], Value::Drop),
            ],
        ),
        (ALLOWED, vec![range(0xff, 80, 90).commented("both"), range(0xf, 443, 443)]),
        (MARKS, vec![Entry::new(name_key("eth0")).with(Value::Data(7u32.to_ne_bytes().to_vec()))]),
        (MACS, vec![Entry::new(concatenated(&[&[2, 0, 0, 0, 0, 1], &name_key("eth0")]))]),
    ]
}

const ELEMENTS: &str = "table inet t {
    chain aside { }
    map published {
        type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; comment \"host ports\"
        elements = { 192.0.2.1 . tcp . 8080 comment \"pod a\" : 10.0.0.5 . 80, 192.0.2.1 . udp . 53 : 10.0.0.6 . 5353 } }
    map pods { type ipv4_addr : verdict
        elements = { 10.0.0.1 : accept, 10.0.0.2 : drop, 10.0.0.3 comment \"jumps\" : jump aside, 10.0.0.4 : goto aside,
            10.0.0.5 : return } }
    map networks { type ipv4_addr : verdict; flags interval
        elements = { 10.1.0.0/16 comment \"wide\" : accept, 10.2.0.0/29 : goto aside, 255.0.0.0/8 : drop } }
    set allowed { type ipv6_addr . inet_proto . inet_service; flags interval
        elements = { fd00::/120 . tcp . 80-90 comment \"both\", fd00::/124 . tcp . 443 } }
    map marks { type ifname : mark; elements = { eth0 : 7 } }
    set macs { type ether_addr . ifname; elements = { 02:00:00:00:00:01 . eth0 } }
}";

#[test]
fn sets_and_maps_of_any_type_are_those_of_nft() {
    let lab = Lab::new();
    let declare = |transaction: &mut Transaction| {
        transaction.empty_chain("aside");
        elements().iter().for_each(|(set, _)| transaction.declare(set));
    };
    for _ in 0..2 {
        lab.commit(TABLE, declare).unwrap();
    }
    let insert = |transaction: &mut Transaction| {
        elements().iter().for_each(|(set, entries)| transaction.insert(set, entries));
    };
    lab.commit(TABLE, insert).unwrap();
    lab.is_listed_as(ELEMENTS);
    let again = lab.commit(TABLE, insert).unwrap_err();
    assert!(again.is(Errno::EEXIST), "{again}");

    // What is read is what was written, whoever wrote it.
    let read = |kernel: &Kernel| {
        for (set, mut entries) in elements() {
            let mut found = TABLE.entries(kernel, &set).unwrap();
            found.sort_by(|one, other| one.key.cmp(&other.key));
            entries.sort_by(|one, other| one.key.cmp(&other.key));
            assert_eq!(found, entries, "{}", set.name);
        }
        let missing = Set { name: "missing", ..PODS };
        assert!(TABLE.entries(kernel, &missing).unwrap().is_empty());
    };
    lab.kernel(read);
    lab.other.inside(|| read(&Kernel::open().unwrap()));

    let take_out = |transaction: &mut Transaction| {
        elements().iter().for_each(|(set, entries)| transaction.take_out(set, entries));
    };
    lab.commit(TABLE, take_out).unwrap();
    assert!(!lab.node.sh("nft list ruleset").contains("elements"));
    let again = lab.commit(TABLE, take_out).unwrap_err();
    assert!(again.is(Errno::ENOENT), "{again}");
}
