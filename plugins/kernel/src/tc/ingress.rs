//! A place for filters on what a link receives.
//!
//! `ingress` (net/sched/sch_ingress.c) has that place alone, `clsact` one more for what the link sends. They queue nothing. A link
//! has one of the two, at one place (TC_H_INGRESS, the same as TC_H_CLSACT, of include/uapi/linux/pkt_sched.h).

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use nix::errno::Errno;
use rtnetlink::packet_route::tc::TcHandle;

use super::{explain, in_the_way, message, qdisc, remove_qdisc};
use crate::error::Result;
use crate::kernel::{At, Kernel, changed};
use crate::link;
use crate::message::Rtm;
use crate::plan::{Made, Object};

/// A link's hooks for filters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ingress {
    /// Where the link is.
    pub at: At,
    /// The link's name.
    pub link: String,
    /// Which.
    pub hooks: Hooks,
}

/// Where filters of a link see packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hooks {
    /// Those received (`ingress`). A `clsact` will do too.
    Received,
    /// Those received and those sent (`clsact`).
    Both,
}

impl Hooks {
    /// The kinds that have these hooks; the first is the one to make.
    fn kinds(self) -> &'static [&'static str] {
        match self {
            Hooks::Received => &["ingress", "clsact"],
            Hooks::Both => &["clsact"],
        }
    }
}

impl Object for Ingress {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        let index = link::index(kernel, self.at, &self.link)?;
        let kinds = self.hooks.kinds();
        match qdisc(kernel, self.at, &self.link, index, TcHandle::INGRESS)? {
            Some(found) if kinds.contains(&found.kind.as_str()) => return Ok(Made::Already),
            Some(found) => return Err(in_the_way(self.at, &self.link, &found, kinds[0])),
            None => {}
        }
        let handle = TcHandle { minor: 0, ..TcHandle::INGRESS };
        let message = Rtm::new_qdisc(message(index, handle, TcHandle::INGRESS, Some(kinds[0])));
        let doing = || format!("giving interface {:?} {} the {} hooks", self.link, self.at.words(), kinds[0]);
        match kernel.route(self.at).change(message, NLM_F_CREATE | NLM_F_EXCL, &doing) {
            Ok(()) => Ok(Made::New),
            // Another process was faster.
            Err(error) if error.is(Errno::EEXIST) => self.check(kernel).map(|()| Made::Already),
            Err(error) => Err(explain(error, "the queueing disciplines ingress and clsact (CONFIG_NET_SCH_INGRESS)")),
        }
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        let index = link::expect(kernel, self.at, &self.link)?.index;
        let kinds = self.hooks.kinds();
        let found = qdisc(kernel, self.at, &self.link, index, TcHandle::INGRESS)?;
        match found.filter(|found| kinds.contains(&found.kind.as_str())) {
            Some(_) => Ok(()),
            None => Err(changed(format!("interface {:?} {} has no {}", self.link, self.at.words(), kinds[0]))),
        }
    }

    /// Its filters go with it, whoever made them.
    fn remove(&self, kernel: &Kernel) -> Result<()> {
        remove_qdisc(kernel, self.at, &self.link, TcHandle::INGRESS, &self.hooks.kinds()[..1])
    }
}
