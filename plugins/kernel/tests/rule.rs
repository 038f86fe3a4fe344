//! Rules of policy routing, as `ip rule` shows them.

mod common;

use common::Lab;
use kernel::rule::{self, Mark, Rule};
use kernel::{At, Error, Made, Object};

fn rule(at: At, table: u32) -> Rule {
    Rule::lookup(at, true, table)
}

#[test]
fn every_condition_is_as_ip_rule_shows_it() {
    let lab = Lab::new();
    let from = Rule { from: Some("10.1.2.3/24".parse().unwrap()), priority: Some(100), ..rule(At::Pod, 100) };
    let every = Rule {
        to: Some("10.9.0.0/16".parse().unwrap()),
        input: Some("eth7".to_owned()),
        output: Some("eth8".to_owned()),
        mark: Some(Mark { value: 0x10, mask: 0xf0 }),
        priority: Some(200),
        protocol: 77,
        ..rule(At::Pod, 4_000_000_000)
    };
    let ipv6 = Rule { ipv4: false, from: Some("fd00:1::/64".parse().unwrap()), ..Rule::lookup(At::Pod, false, 1000) };
    for rule in [&from, &every, &ipv6] {
        lab.makes(rule);
    }
    let shown = lab.pod.sh("ip rule; ip -6 rule");
    let shown = |words: &str| assert!(shown.contains(words), "{words:?} in\n{shown}");
    shown("100:\tfrom 10.1.2.0/24 lookup 100");
    shown(
        "200:\tfrom all to 10.9.0.0/16 fwmark 0x10/0xf0 iif eth7 [detached] oif eth8 [detached] lookup 4000000000 proto 77",
    );
    shown("from fd00:1::/64 lookup 1000");

    // The kernel tells all of it again.
    let told = lab.kernel(|kernel| rule::all(kernel, At::Pod, true)).unwrap();
    assert!(told.contains(&every), "{told:?}");
    assert_eq!(told.iter().map(|rule| rule.table).filter(|table| [255, 254, 253].contains(table)).count(), 3);

    for rule in [&from, &every, &ipv6] {
        lab.removes(rule);
    }
    assert_eq!(lab.pod.sh("ip rule; ip -6 rule").lines().count(), 5);
}

#[test]
fn a_rule_with_more_or_fewer_conditions_is_another() {
    let lab = Lab::new();
    lab.node.sh(
        "ip rule add from 10.1.0.0/16 iif n0 table 100 pref 50 protocol 0; ip rule add ipproto tcp table 100 pref 50",
    );
    let all = Rule { input: Some("n0".to_owned()), priority: Some(50), ..rule(At::Host, 100) };
    lab.makes(&all);
    let anything = Rule { priority: Some(50), ..rule(At::Host, 100) };
    lab.makes(&anything);
    let shown = lab.node.sh("ip rule");
    assert_eq!(shown.matches("lookup 100").count(), 4, "{shown}");
    // The kernel would remove the first with these conditions, which is another.
    let refused = lab.kernel(|kernel| anything.remove(kernel)).unwrap_err();
    assert!(matches!(&refused, Error::NotOurs(why) if why.contains("more conditions comes first")), "{refused}");
    assert_eq!(lab.node.sh("ip rule"), shown);
    lab.node.sh("ip rule del from 10.1.0.0/16 iif n0 table 100 pref 50; ip rule del ipproto tcp table 100 pref 50");
    lab.removes(&all);
    lab.removes(&anything);
    assert_eq!(lab.node.sh("ip rule").lines().count(), 3);
}

#[test]
fn a_broken_rule_is_found_and_any_priority_will_do() {
    let lab = Lab::new();
    let rule = Rule { from: Some("10.1.2.3/32".parse().unwrap()), ..rule(At::Pod, 300) };
    lab.pod.sh("ip rule add from 10.1.2.3 table 300 pref 4711 protocol 0");
    assert_eq!(lab.ensure(&rule).unwrap(), Made::Already);
    lab.pod.sh("ip rule del from 10.1.2.3; ip rule add from 10.1.2.3 table 301");
    lab.faults(&rule, "from 10.1.2.3/32 to table 300 in the Pod is missing");
    lab.kernel(|kernel| rule.ensure(kernel)).unwrap();
    lab.removes(&rule);
    assert!(lab.pod.sh("ip rule").contains("from 10.1.2.3 lookup 301"));
}
