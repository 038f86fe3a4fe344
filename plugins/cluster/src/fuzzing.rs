//! What this crate reads of the kernel's answers, for the fuzzers (conformance/fuzz).

use rtnetlink::packet_route::neighbour::NeighbourMessage;

use crate::peers;

/// A neighbor or an FDB entry, read in both ways.
pub fn neighbor(message: &NeighbourMessage) {
    peers::read_neighbor(message);
    peers::read_fdb(message);
}
