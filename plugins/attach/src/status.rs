//! What STATUS, and a node's first ADD, say beside yes and no: to the log, for it keeps no Pod from being wired.

use kernel::{Kernel, forward_policy};

/// Says so if the node's firewall drops what it forwards. A later plugin in the chain may let Pods through, so it is no error.
pub fn warn_of_dropped_forwarding(kernel: &Kernel) {
    for program in forward_policy::dropping(kernel).unwrap_or_default() {
        log::warn!(
            "the FORWARD chain of {program} has a policy of DROP, which nothing here can override: Pods reach nothing \
             beyond this node unless rules let them; chain the plugin \"firewall\" after this one, or run {program} -P FORWARD ACCEPT"
        );
    }
}
