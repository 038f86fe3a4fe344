//! After the plugin that wired the Pod: both ends' MTU, and masquerade as an overlay needs it.

use attach::Label;
use attach::chain::{Chained as Facts, ChainedPlugin};
use attach::kinds::masquerade::{self, Masquerade, Masquerades};
use attach::kinds::{Kind, Owned};
use ipnetwork::IpNetwork;
use kernel::Plan;
use kernel::link::{Alias, MtuAtMost};
use libcni::{About, CniResult, Error, Request};

use crate::config::{self, Config, OverlayKeys};

/// The overlay behind another plugin's wire.
pub struct Chained;

impl ChainedPlugin for Chained {
    type Config = Config;
    type Nodes = OverlayKeys;

    const ABOUT: About = config::ABOUT;
    const OWNS: &'static [&'static dyn Kind] = &[&Masquerades];
    const FOLLOWS: &'static str = "vxlan-overlay can follow bridge or routed-veth";

    fn validate(request: &Request, config: &Config) -> Result<(), Error> {
        config.validate(request)
    }

    fn nodes(config: &Config) -> &OverlayKeys {
        &config.overlay
    }

    fn needs_inside(facts: &Facts<Config>) -> bool {
        !addresses_to_masquerade(facts).is_empty()
    }

    fn plan(facts: &Facts<Config>, plan: &mut Plan) {
        // One end alone would make a black hole: what is too large must be refused where it is sent, and answered where it
        // comes in.
        for (at, link) in facts.ends() {
            let Some(mtu) = facts.followed.mtu else { continue };
            plan.owned(MtuAtMost { at, link: link.name.clone(), before: link.mtu, mtu, fits: config::FITS });
        }
        let addresses = addresses_to_masquerade(facts);
        let inside = facts.followed.inside.clone();
        if !addresses.is_empty() && inside.is_some() {
            plan_masquerade(facts, plan, Masquerade { owner: facts.owner, addresses, inside });
        }
    }

    fn amend(config: &Config, result: &mut CniResult) {
        result.dns = config.wire.dns.or(std::mem::take(&mut result.dns));
    }
}

/// Wherever in the chain `ipMasq` is, it means the same: what leaves the cluster.
fn addresses_to_masquerade(facts: &Facts<Config>) -> Vec<IpNetwork> {
    let by_label = facts.label.as_ref().map(masquerade::addresses_in).unwrap_or_default();
    if !by_label.is_empty() || !facts.config.ip_masq {
        return by_label;
    }
    facts.result.ips.iter().map(|ip| ip.address).collect()
}

/// Masquerade by the overlay's inside, in place of what the earlier plugin made. The label says so first: for that plugin's
/// DEL, and for the process that restores a flushed ruleset.
fn plan_masquerade(facts: &Facts<Config>, plan: &mut Plan, masquerade: Masquerade) {
    if let Some(label) = facts.label.clone().filter(|label| label.owner == facts.owner) {
        let mut label: Label = label;
        masquerade.say(&mut label);
        let (alias, record) = label.alias();
        if let Some(record) = record {
            plan.owned(record);
        }
        plan.owned(Alias { link: facts.host.name.clone(), before: Some(facts.host.alias.clone()), alias }).unchecked();
    }
    plan.owned(masquerade::Replaced(masquerade));
}
