//! Rules and base chains of nftables: what is made here is listed as if `nft` had made it.

mod common;

use common::Lab;
use common::nft::{TABLE, hooked};
use kernel::nft::condition::*;
use kernel::nft::statement::*;
use kernel::nft::{self, Expression, Family, Field, Policy, State, Table, Transaction, name_key};
use netlink_packet_netfilter::NetfilterProtoFamily;
use netlink_packet_netfilter::nftables::{InetHookNumber, Verdict};
use nix::errno::Errno;

const TCP: u8 = 6;
const UDP: u8 = 17;

fn rule(parts: &[Vec<Expression>]) -> Vec<Expression> {
    parts.concat()
}

#[test]
fn conditions_and_statements_are_those_of_nft() {
    let lab = Lab::new();
    let accept = || vec![nft::end(nft::ACCEPT)];
    let rules = |transaction: &mut Transaction| {
        transaction.counter("seen");
        transaction.empty_chain("aside");
        transaction.empty_chain("every");
        let web = [is_protocol(TCP), is(Field::DestinationPort, &80u16.to_be_bytes())].concat();
        let ports = is_between(Field::SourcePort, &1000u16.to_be_bytes(), &2000u16.to_be_bytes());
        let log_group = vec![log(Log::Group(10, 0), "to ten "), log(Log::Group(11, 64), "")];
        for rule in [
            rule(&[is_in_state(State::ESTABLISHED.or(State::RELATED)), accept()]),
            rule(&[is_in_state(State::INVALID), vec![counter(), nft::end(nft::DROP)]]),
            rule(&[is_in_state(State::NEW.or(State::UNTRACKED)), vec![named_counter("seen")]]),
            rule(&[goes_out(true), vec![jump("aside")]]),
            rule(&[goes_out(false), vec![goto("aside")]]),
            rule(&[was_redirected(), accept()]),
            rule(&[is(Field::OriginalDestination(Family::V4), &[10, 0, 0, 1]), accept()]),
            rule(&[is_protocol(TCP), is(Field::OriginalDestinationPort, &8080u16.to_be_bytes()), accept()]),
            rule(&[is_for_this_node(), vec![nft::end(Verdict::Return)]]),
            rule(&[is(Field::SourceType, &2u32.to_ne_bytes()), accept()]),
            rule(&[web.clone(), vec![log(Log::Kernel(4), "web: ")]]),
            rule(&[is_protocol(UDP), ports, log_group]),
            rule(&[came_by("eth0"), leaves_by("eth1"), accept()]),
            rule(&[is_not(Field::Input, &name_key("eth0")), accept()]),
            rule(&[has_mark(0x1234, u32::MAX), accept()]),
            rule(&[has_mark(0x10, 0xf0), accept()]),
            rule(&[is(Field::ConnectionMark, &7u32.to_ne_bytes()), accept()]),
            set_mark(0x1234, u32::MAX),
            set_mark(0x20, 0xf0),
            set_connection_mark(0x20, 0xf0),
            rule(&[is_ethernet(), is(Field::SourceMac, &[2, 0, 0, 0, 0, 1]), accept()]),
            rule(&[web, vec![reject(Reject::TcpReset)]]),
            vec![reject(Reject::Prohibited)],
            vec![reject(Reject::PortUnreachable)],
        ] {
            transaction.rule("every", rule);
        }
    };
    for _ in 0..2 {
        // The chains are emptied and filled again: as idempotent as a transaction can be.
        lab.commit(TABLE, rules).unwrap();
    }
    lab.is_listed_as(
        "table inet t {
            counter seen { }
            chain aside { }
            chain every {
                ct state established,related accept
                ct state invalid counter drop
                ct state new,untracked counter name seen
                ct direction original jump aside
                ct direction reply goto aside
                ct status dnat accept
                ct original ip daddr 10.0.0.1 accept
                meta l4proto tcp ct original proto-dst 8080 accept
                fib daddr type local return
                fib saddr type local accept
                tcp dport 80 log prefix \"web: \" level warn
                udp sport 1000-2000 log prefix \"to ten \" group 10 log group 11 snaplen 64
                iifname eth0 oifname eth1 accept
                iifname != eth0 accept
                meta mark 0x1234 accept
                meta mark & 0xf0 == 0x10 accept
                ct mark 7 accept
                meta mark set 0x1234
                meta mark set meta mark & 0xffffff0f | 0x20
                ct mark set ct mark & 0xffffff0f | 0x20
                ether saddr 02:00:00:00:00:01 accept
                tcp dport 80 reject with tcp reset
                reject with icmpx admin-prohibited
                reject with icmpx port-unreachable
            }
        }",
    );
    lab.kernel(|kernel| {
        assert_eq!(TABLE.count(kernel, "seen").unwrap(), Some(nft::Count::default()));
        assert_eq!(TABLE.count(kernel, "unseen").unwrap(), None);
        let mut gone = TABLE.transaction();
        gone.remove_table();
        gone.commit(kernel, &|| "removing".to_owned()).unwrap();
        let mut gone = TABLE.transaction();
        gone.remove_table();
        let error = gone.commit(kernel, &|| "removing".to_owned()).unwrap_err();
        assert!(error.is(Errno::ENOENT), "{error}");
    });
    assert_eq!(lab.node.sh("nft list ruleset"), "");
}

#[test]
fn base_chains_of_every_family_are_made_and_listed() {
    use InetHookNumber::{Forward, LocalIn, LocalOut, Other, PostRouting, PreRouting};
    use NetfilterProtoFamily::{Bridge, IPv4, IPv6, Inet, NetDev};
    let lab = Lab::new();
    let hooks = [
        (PreRouting, "prerouting"),
        (LocalIn, "input"),
        (Forward, "forward"),
        (LocalOut, "output"),
        (PostRouting, "postrouting"),
    ];
    let mut text = String::new();
    for (family, word) in [(IPv4, "ip"), (IPv6, "ip6"), (Inet, "inet"), (Bridge, "bridge")] {
        let table = Table { family, name: "t" };
        text += &format!("table {word} t {{\n");
        for (hook, name) in hooks {
            let policy = if hook == Forward { Policy::Drop } else { Policy::Accept };
            lab.commit(table, |it| it.base_chain(name, hooked(hook, "filter", -7), policy, None)).unwrap();
            text +=
                &format!("chain {name} {{ type filter hook {name} priority -7; policy {policy:?}; }}\n").to_lowercase();
        }
        text += "}\n";
    }
    let nat = |it: &mut Transaction| it.base_chain("nat", hooked(PostRouting, "nat", 100), Policy::Accept, None);
    for _ in 0..2 {
        lab.commit(Table { family: IPv4, name: "n" }, nat).unwrap();
    }
    text += "table ip n { chain nat { type nat hook postrouting priority 100; }; }\n";
    let netdev = Table { family: NetDev, name: "t" };
    let device =
        lab.commit(netdev, |it| it.base_chain("in", hooked(Other(0), "filter", 5), Policy::Accept, Some("n0")));
    match &device {
        Ok(()) => text += "table netdev t { chain in { type filter hook ingress device n0 priority 5; }; }\n",
        Err(error) => eprintln!("skipped: family netdev: {error}"),
    }
    lab.is_listed_as(&text);

    let chains = lab.kernel(nft::base_chains).unwrap();
    assert_eq!(chains.len(), 4 * 5 + 1 + usize::from(device.is_ok()), "{chains:?}");
    let dropping: Vec<_> = chains.iter().filter(|chain| chain.policy == Policy::Drop).collect();
    assert_eq!(dropping.len(), 4);
    assert!(dropping.iter().all(|chain| (chain.hook, chain.priority, chain.name.as_str()) == (Forward, -7, "forward")));
    let nat = chains.iter().find(|chain| chain.table == "n").unwrap();
    assert_eq!((nat.family, nat.kind.as_str(), nat.priority, nat.hook), (IPv4, "nat", 100, PostRouting));
}
