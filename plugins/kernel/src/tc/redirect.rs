//! A filter that hands every packet received to another link: u32 with nothing to match, and the action mirred.
//!
//! u32 and not matchall, which says the same in less, for more kernels have it. Only for packets received: u32 keeps the
//! filters of both hooks of a `clsact` in one place, and tells those of one as the other's if they have one priority.
//! (include/uapi/linux/pkt_cls.h: TCA_U32_…, struct tc_u32_sel, TCA_ACT_…; include/uapi/linux/tc_act/tc_mirred.h.)

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_EXCL};
use nix::errno::Errno;
use rtnetlink::packet_route::tc::{TcHandle, TcMessage};

use super::{Told, explain, message, nest, options, read_all};
use crate::attribute::{each, number, text, within};
use crate::error::Result;
use crate::kernel::{At, Kernel, changed};
use crate::link;
use crate::message::Rtm;
use crate::plan::{Made, Object};

const KIND: &str = "u32";
/// ETH_P_ALL of include/uapi/linux/if_ether.h, in network byte order.
const EVERY_PROTOCOL: u32 = 3u16.to_be() as u32;
const TCA_U32_CLASSID: u16 = 1;
const TCA_U32_SEL: u16 = 5;
const TCA_U32_ACT: u16 = 7;
const TCA_ACT_KIND: u16 = 1;
const TCA_ACT_OPTIONS: u16 = 2;
const TCA_MIRRED_PARMS: u16 = 2;
const TCA_EGRESS_REDIR: i32 = 1;
const TC_ACT_STOLEN: i32 = 4;

/// A filter that redirects every packet that a link receives. The link needs the hook for it ([`super::Ingress`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// Where both links are.
    pub at: At,
    /// The link's name.
    pub link: String,
    /// The name of the link that sends what this one receives.
    pub to: String,
}

/// Where filters of packets received are.
const RECEIVED: TcHandle = TcHandle { minor: TcHandle::MIN_INGRESS, ..TcHandle::CLSACT };

impl Object for Redirect {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        let index = link::index(kernel, self.at, &self.link)?;
        let to = link::index(kernel, self.at, &self.to)?;
        if !self.found(kernel, index, to)?.is_empty() {
            return Ok(Made::Already);
        }
        // Without a priority the kernel takes one that no other filter has.
        let mut message = self.message(index, 0);
        message.attributes.push(options(&all_to(to)));
        let made = kernel.route(self.at).change(Rtm::new_filter(message), NLM_F_CREATE | NLM_F_EXCL, &|| self.words());
        made.map_err(|error| {
            explain(error, "the filter u32 or the action mirred (CONFIG_NET_CLS_U32, CONFIG_NET_ACT_MIRRED)")
        })?;
        Ok(Made::New)
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        let index = link::expect(kernel, self.at, &self.link)?.index;
        let to = link::expect(kernel, self.at, &self.to)?.index;
        match self.found(kernel, index, to)?.is_empty() {
            true => Err(changed(format!("{} is missing", self.words()))),
            false => Ok(()),
        }
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        let Some(link) = link::get(kernel, self.at, &self.link)? else { return Ok(()) };
        // When the other link goes, the filter stays and says 0 (mirred_device_event, net/sched/act_mirred.c).
        let to = link::get(kernel, self.at, &self.to)?.map(|to| to.index).unwrap_or_default();
        for priority in self.found(kernel, link.index, to)? {
            let message = Rtm::del_filter(self.message(link.index, priority));
            match kernel.route(self.at).change(message, 0, &|| format!("removing {}", self.words())) {
                Err(error) if !(error.is(Errno::ENOENT) || error.is(Errno::EINVAL)) => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }
}

impl Redirect {
    fn words(&self) -> String {
        format!("the redirection to {:?} of what interface {:?} {} receives", self.to, self.link, self.at.words())
    }

    /// The priorities of filters that redirect all packets to the link with index `to`.
    fn found(&self, kernel: &Kernel, index: u32, to: u32) -> Result<Vec<u32>> {
        let request = Rtm::get_filter(message(index, TcHandle::UNSPEC, RECEIVED, None));
        let doing = || format!("listing the filters of interface {:?} {}", self.link, self.at.words());
        let filters = match kernel.route(self.at).dump_as(request, &read_all, &doing) {
            Ok(filters) => filters,
            // There is no hook for filters.
            Err(error) if error.is(Errno::EINVAL) || error.is(Errno::ENOENT) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let ours = filters.iter().filter(|filter| filter.index == index && redirects_all(filter) == Some(to));
        Ok(ours.map(|filter| filter.info >> 16).collect())
    }

    /// All filters of one priority: the kernel's choice if 0.
    fn message(&self, index: u32, priority: u32) -> TcMessage {
        let mut message = message(index, TcHandle::UNSPEC, RECEIVED, Some(KIND));
        message.header.info = priority << 16 | EVERY_PROTOCOL;
        message
    }
}

/// struct tc_u32_sel: flags u8, offshift u8, nkeys u8, a byte of padding, offmask u16, off u16, offoff i16, hoff i16, hmask
/// u32, and keys of mask u32, value u32, offset i32, offset's mask i32. Flag 1 (TC_U32_TERMINAL): what matches is done with.
const SELECTOR_OF_ALL: [u8; 32] = {
    let mut selector = [0; 32];
    selector[0] = 1;
    selector[2] = 1;
    selector
};

/// The options of a filter that matches all and redirects to the link with index `to`. `tc` gives such filters the class
/// 1:1 too, of which there is none.
fn all_to(to: u32) -> Vec<DefaultNla> {
    const CLASS: u32 = 0x1_0001;
    // struct tc_mirred: index u32, capab u32, action i32, refcnt i32, bindcnt i32, eaction i32, ifindex u32.
    let mut parameters = vec![0; 8];
    parameters.extend(TC_ACT_STOLEN.to_ne_bytes());
    parameters.extend([0; 8]);
    parameters.extend(TCA_EGRESS_REDIR.to_ne_bytes());
    parameters.extend(to.to_ne_bytes());
    let action = [
        DefaultNla::new(TCA_ACT_KIND, b"mirred\0".to_vec()),
        nest(TCA_ACT_OPTIONS, &[DefaultNla::new(TCA_MIRRED_PARMS, parameters)]),
    ];
    vec![
        DefaultNla::new(TCA_U32_CLASSID, CLASS.to_ne_bytes().to_vec()),
        nest(TCA_U32_ACT, &[nest(1, &action)]),
        DefaultNla::new(TCA_U32_SEL, SELECTOR_OF_ALL.to_vec()),
    ]
}

/// The index of the link that a filter redirects every packet to, if it does.
pub(super) fn redirects_all(filter: &Told) -> Option<u32> {
    let options = &filter.options;
    let selector =
        within(options, TCA_U32_SEL).filter(|_| filter.kind == KIND && filter.info & 0xffff == EVERY_PROTOCOL)?;
    // One key, and a mask of 0.
    if *selector.get(2)? > 1 || selector.get(16..20).is_some_and(|mask| mask != [0; 4]) {
        return None;
    }
    let actions = each(within(options, TCA_U32_ACT)?);
    let mirrored = |(_, action): (u16, &[u8])| {
        let parameters = within(within(action, TCA_ACT_OPTIONS)?, TCA_MIRRED_PARMS)?;
        let is_redirection = number(parameters.get(20..)?)? == TCA_EGRESS_REDIR as u32;
        let is_mirred = within(action, TCA_ACT_KIND).map(text)? == "mirred";
        if is_redirection && is_mirred { number(parameters.get(24..)?) } else { None }
    };
    actions.filter_map(mirrored).next()
}
