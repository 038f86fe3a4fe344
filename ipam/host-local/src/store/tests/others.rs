//! Two networks in one data directory.

use std::os::unix::fs::symlink;
use std::sync::Barrier;

use super::*;

impl Bench {
    fn old(&self) -> Store {
        self.store_of("old", || 1)
    }
}

#[test]
fn what_another_network_holds_is_not_given_until_it_is_free() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/24", None), set("fd00::/64", None)];
    add(&mut bench.old(), "a", &sets).unwrap();
    add(&mut bench.old(), "b", &sets[..1]).unwrap();
    assert_eq!(add(&mut bench.store(), "c", &sets).unwrap(), ["10.0.0.4", "fd00::3"]);
    assert_eq!(add(&mut bench.old(), "d", &sets).unwrap(), ["10.0.0.5", "fd00::4"]);
    let wanted = |address: &str| bench.store().reserve(&key("e"), &sets[..1], &[Some(address.parse().unwrap())]);
    let error = wanted("10.0.0.2").unwrap_err();
    assert!(error.code == code::NO_FREE_ADDRESS && error.details.contains("old/10.0.0.2"), "{error}");
    assert_eq!(bench.content("10.0.0.2"), None, "given back");
    bench.old().release(&key("a")).unwrap();
    wanted("10.0.0.2").unwrap();
}

#[test]
fn a_range_that_others_hold_is_full_and_the_error_says_who() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/24", Some("10.0.0.200"))];
    for number in 2..=199 {
        std::fs::create_dir_all(bench.files.path().join("cbr0")).unwrap();
        std::fs::write(bench.files.path().join(format!("cbr0/10.0.0.{number}")), "go\r\neth0").unwrap();
    }
    assert!(bench.store().has_free(0, &sets).unwrap());
    assert_eq!(add(&mut bench.store(), "a", &sets).unwrap(), ["10.0.0.200"]);
    assert!(!bench.store().has_free(0, &sets).unwrap());
    let error = add(&mut bench.store(), "b", &sets).unwrap_err();
    assert_eq!(error.code, code::NO_FREE_ADDRESS);
    let data_dir = bench.files.path().display();
    assert!(error.details.contains(&format!("other networks in {data_dir} hold 198 of its addresses")), "{error}");
    std::fs::remove_file(bench.files.path().join("cbr0/10.0.0.77")).unwrap();
    assert_eq!(add(&mut bench.store(), "b", &sets).unwrap(), ["10.0.0.77"]);
}

#[test]
fn an_empty_file_of_another_network_holds_its_address_and_what_is_no_network_does_not() {
    let bench = Bench::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let path = |name: &str| bench.files.path().join(name);
    std::fs::create_dir(path("other")).unwrap();
    std::fs::write(path("other/10.0.0.2"), "").unwrap();
    std::fs::write(elsewhere.path().join("10.0.0.3"), "x\r\neth0").unwrap();
    symlink(elsewhere.path(), path("link")).unwrap();
    std::fs::write(path("10.0.0.3"), "").unwrap();
    assert_eq!(add(&mut bench.store(), "a", &[set("10.0.0.0/24", None)]).unwrap(), ["10.0.0.3"]);
}

#[test]
fn what_podwire_made_in_an_earlier_boot_holds_nothing_for_another_network_either() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/29", None)];
    add(&mut bench.old(), "ours", &sets).unwrap();
    add(&mut bench.old(), "edited", &sets).unwrap();
    std::fs::write(bench.files.path().join("old/10.0.0.3"), "edited\r\neth1").unwrap();
    std::fs::write(bench.files.path().join("old/10.0.0.4"), "go\r\neth0").unwrap();
    assert_eq!(add(&mut bench.store_in(|| 1), "before", &sets).unwrap(), ["10.0.0.5"]);
    let in_the_next = |name: &str| add(&mut bench.store_in(|| 2), name, &sets).map(|given| given[0].clone());
    let given: Vec<_> = (0..3).map_while(|number| in_the_next(&format!("new{number}")).ok()).collect();
    assert_eq!(given, ["10.0.0.6", "10.0.0.2", "10.0.0.5"]);
    let error = in_the_next("more").unwrap_err();
    assert!(error.details.contains("hold 2 of its addresses"), "{error}");
    // The old network's next call frees its own; the new one's are no affair of it.
    assert_eq!(bench.store_of("old", || 2).held(&key("ours")).unwrap(), Vec::<IpAddr>::new());
}

#[test]
fn networks_that_reserve_at_the_same_moment_never_share_an_address_and_together_give_all() {
    const NETWORKS: usize = 3;
    for round in 0..60 {
        let bench = Bench::new();
        let sets = [set("10.0.0.0/28", None)];
        // As long as the first network believes itself alone, the others come into being.
        let start = Barrier::new(NETWORKS);
        let give_all = |network: usize| {
            start.wait();
            let mut given = Vec::new();
            while let Ok(addresses) =
                add(&mut bench.store_of(&format!("net{network}"), || 1), &format!("pod{}", given.len()), &sets)
            {
                given.extend(addresses);
            }
            given
        };
        let mut given: Vec<String> = std::thread::scope(|scope| {
            let give_all = &give_all;
            let networks: Vec<_> = (0..NETWORKS).map(|network| scope.spawn(move || give_all(network))).collect();
            networks.into_iter().flat_map(|network| network.join().unwrap()).collect()
        });
        let count = given.len();
        given.sort();
        given.dedup();
        assert_eq!((given.len(), count), (13, 13), "round {round}: {given:?}");
    }
}

#[test]
fn addresses_to_avoid_are_not_given_even_if_they_are_asked_for() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/24", Some("10.0.0.5"))];
    let avoided = || vec!["10.0.0.2", "10.0.0.4"].into_iter().map(|it| range::number(it.parse().unwrap())).collect();
    let avoiding = |name: &str, requested: Option<IpAddr>| {
        let mut store = bench.store();
        store.avoid(avoided());
        store.reserve(&key(name), &sets, &[requested]).map(|given| given[0].to_string())
    };
    assert_eq!(avoiding("a", None).unwrap(), "10.0.0.3");
    assert_eq!(avoiding("b", None).unwrap(), "10.0.0.5");
    let error = avoiding("c", None).unwrap_err();
    assert!(error.details.contains("the node uses 2 of its addresses for something else"), "{error}");
    let error = avoiding("c", Some("10.0.0.4".parse().unwrap())).unwrap_err();
    assert!(error.code == code::NO_FREE_ADDRESS && error.details.contains("in use elsewhere on the node"), "{error}");
    assert_eq!(add(&mut bench.store(), "c", &sets).unwrap(), ["10.0.0.2"]);
}
