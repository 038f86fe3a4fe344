//! Networks of many nodes: every way of wiring Pods, every way of reaching other nodes, every address family.

mod changes;
mod meanwhile;
mod mixed;
mod reach;
mod sizes;

use std::ops::{Deref, DerefMut};

use conformance::network::{DUAL, Network, Reach, V4, V6, V6_OVER_V4, Wire};

struct Shown(Network);

impl Deref for Shown {
    type Target = Network;

    fn deref(&self) -> &Network {
        &self.0
    }
}

impl DerefMut for Shown {
    fn deref_mut(&mut self) -> &mut Network {
        &mut self.0
    }
}

impl Shown {
    fn shows_everything(mut self) {
        self.all_is_as_added();
        self.all_is_well();
        self.outside_sees_the_node();
        self.what_fits_passes_and_one_byte_more_is_refused();
        self.a_hundred_megabytes_arrive();
        self.changes();
        self.stop();
        println!("shown: {}", self.name);
    }
}

macro_rules! combinations {
    ($($name:ident: $wire:ident $reach:ident $families:ident;)*) => {
        $(#[test]
        fn $name() {
            Shown(Network::new(Wire::$wire, Reach::$reach, $families)).shows_everything();
        })*
    };
}

combinations! {
    bridge_node_routes_ipv4: Bridge NodeRoutes V4;
    bridge_node_routes_ipv6: Bridge NodeRoutes V6;
    bridge_node_routes_dual_stack: Bridge NodeRoutes DUAL;
    bridge_gateway_ipv4: Bridge Gateway V4;
    bridge_gateway_ipv6: Bridge Gateway V6;
    bridge_gateway_dual_stack: Bridge Gateway DUAL;
    bridge_vxlan_ipv4: Bridge Vxlan V4;
    bridge_vxlan_ipv6: Bridge Vxlan V6;
    bridge_vxlan_dual_stack: Bridge Vxlan DUAL;
    bridge_vxlan_ipv6_over_ipv4: Bridge Vxlan V6_OVER_V4;
    bridge_direct_ipv4: Bridge Direct V4;
    bridge_direct_ipv6: Bridge Direct V6;
    bridge_direct_dual_stack: Bridge Direct DUAL;
    bridge_direct_ipv6_over_ipv4: Bridge Direct V6_OVER_V4;
    routed_node_routes_ipv4: Routed NodeRoutes V4;
    routed_node_routes_ipv6: Routed NodeRoutes V6;
    routed_node_routes_dual_stack: Routed NodeRoutes DUAL;
    routed_gateway_ipv4: Routed Gateway V4;
    routed_gateway_ipv6: Routed Gateway V6;
    routed_gateway_dual_stack: Routed Gateway DUAL;
    routed_vxlan_ipv4: Routed Vxlan V4;
    routed_vxlan_ipv6: Routed Vxlan V6;
    routed_vxlan_dual_stack: Routed Vxlan DUAL;
    routed_vxlan_ipv6_over_ipv4: Routed Vxlan V6_OVER_V4;
    routed_direct_ipv4: Routed Direct V4;
    routed_direct_ipv6: Routed Direct V6;
    routed_direct_dual_stack: Routed Direct DUAL;
    routed_direct_ipv6_over_ipv4: Routed Direct V6_OVER_V4;
}
