//! Stores of host-local with many addresses taken, in the format that both programs share: a file for each address,
//! named by it, that holds the container ID, CR LF, and the interface.

use std::net::Ipv4Addr;
use std::path::Path;

use serde_json::json;

use super::workload::{Floor, NETWORK, Workload, ipam};

/// The range that the store is filled from.
const SUBNET: &str = "10.64.0.0/16";

/// How many addresses a store of that size gives out: 65,534 hosts less the gateway.
pub const ALL: usize = 65_533;

/// The workloads: `host-local` alone, with so many addresses taken.
pub fn workloads(taken: &[usize], pods: usize) -> Vec<Workload> {
    let workload = |&taken: &usize| {
        let name =
            if taken + 1 == ALL { "host-local, one left".to_owned() } else { format!("host-local, {taken} taken") };
        let config = json!({"type": "host-local", "ipam": ipam(&[SUBNET])});
        // Slow at many: fewer calls tell as much.
        let pods = if taken + 1 == ALL {
            1
        } else if taken >= 16_000 {
            pods.min(20)
        } else {
            pods
        };
        let workload = Workload::new(name, vec![config], pods);
        Workload { reserved: Some(taken), floor: Some(Floor::Execution), ..workload }
    };
    taken.iter().map(workload).collect()
}

/// Fills the store in `data_dir` with `taken` reservations of other Pods, the free addresses scattered among them.
pub fn fill(data_dir: &Path, taken: usize) -> Result<(), String> {
    let store = data_dir.join(NETWORK);
    let failed = |error: std::io::Error| format!("filling {}: {error}", store.display());
    std::fs::create_dir_all(&store).map_err(failed)?;
    for number in 0..taken {
        let ip = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 64, 0, 2)) + scattered(number, taken) as u32);
        std::fs::write(store.join(ip.to_string()), format!("taken-{number}\r\neth0")).map_err(failed)?;
    }
    let last = Ipv4Addr::new(10, 64, 0, 1);
    std::fs::write(store.join("last_reserved_ip.0"), last.to_string()).map_err(failed)
}

/// Spreads `0..taken` over `0..ALL`, so that gaps are everywhere.
fn scattered(number: usize, taken: usize) -> usize {
    number * ALL / taken
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_taken_twice_and_none_outside() {
        for taken in [1, 250, 60_000, ALL - 1] {
            let mut all: Vec<_> = (0..taken).map(|number| scattered(number, taken)).collect();
            all.dedup();
            assert_eq!(all.len(), taken);
            assert!(all.iter().all(|&at| at < ALL));
        }
    }
}
