//! First in a chain: an address from IPAM, a routed wire, and the overlay.

use attach::keys::WireKeys;
use attach::kinds::Owned;
use attach::routed;
use attach::wire::{WirePlugin, Wiring};
use kernel::link::MtuAtMost;
use kernel::veth::Veth;
use kernel::{At, Kernel, Mac, Plan};
use libcni::{About, CniResult, Error, Request};

use crate::config::{self, Config, OverlayKeys};

/// The overlay as the plugin that wires the Pod.
pub struct First;

impl WirePlugin for First {
    type Config = Config;
    type Nodes = OverlayKeys;

    const ABOUT: About = config::ABOUT;

    fn validate(request: &Request, config: &Config) -> Result<(), Error> {
        config.validate(request)
    }

    fn nodes(config: &Config) -> &OverlayKeys {
        &config.overlay
    }

    fn keys(config: &Config) -> &WireKeys {
        &config.wire
    }

    fn masquerades(config: &Config) -> bool {
        config.ip_masq
    }

    fn complete(config: &Config, kernel: &Kernel, from_ipam: CniResult) -> Result<CniResult, Error> {
        routed::complete(config.shape(), kernel, from_ipam)
    }

    fn pod_mac(addresses: &CniResult) -> Mac {
        routed::pod_mac(addresses)
    }

    fn pair(wiring: &Wiring<Config>) -> Veth {
        routed::pair(wiring, wiring.overlay_mtu)
    }

    fn settings(wiring: &Wiring<Config>, plan: &mut Plan) {
        routed::settings(wiring, plan);
    }

    fn owned(wiring: &Wiring<Config>) -> Vec<Box<dyn Owned>> {
        routed::owned(wiring, Some(wiring.pod.mac), Vec::new())
    }

    fn plan(wiring: &Wiring<Config>, plan: &mut Plan) {
        for (at, link) in [(At::Pod, &wiring.pod.name), (At::Host, &wiring.host.name)] {
            let Some(mtu) = wiring.overlay_mtu else { continue };
            // The pair was made with that MTU.
            plan.owned(MtuAtMost { at, link: link.clone(), before: mtu, mtu, fits: config::FITS });
        }
        routed::plan(wiring, plan);
    }
}
