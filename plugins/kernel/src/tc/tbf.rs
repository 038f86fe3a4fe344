//! A token bucket: a link sends no more than a rate, but for a burst.
//!
//! (struct tc_tbf_qopt and TCA_TBF_… of include/uapi/linux/pkt_sched.h; net/sched/sch_tbf.c.) The kernel counts the burst as
//! the time that it takes at the rate, in ticks of 64 ns. `tc` also sends a table of 256 packet sizes and their times; it is left
//! out here, for the kernel has done without since Linux 3.8 when it is told the link layer.

use netlink_packet_core::{DefaultNla, NLM_F_CREATE, NLM_F_REPLACE};
use rtnetlink::packet_route::tc::TcHandle;

use super::{Told, explain, in_the_way, message, options, qdisc, remove_qdisc};
use crate::attribute::{number, within};
use crate::error::Result;
use crate::kernel::{At, Kernel, changed};
use crate::link;
use crate::message::Rtm;
use crate::plan::{Changes, Made, Object};

const KIND: &str = "tbf";
/// `1:`, which a person would give it.
const HANDLE: TcHandle = TcHandle { major: 1, minor: 0 };
const TCA_TBF_PARMS: u16 = 1;
const TCA_TBF_RATE64: u16 = 4;
const TCA_TBF_BURST: u16 = 6;

/// A token bucket filter at the root of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tbf {
    /// Where the link is.
    pub at: At,
    /// The link's name.
    pub link: String,
    /// Bytes per second, not 0.
    pub rate: u64,
    /// How many bytes may go out at once, not 0. Less than the link's MTU lets no full packet through.
    pub burst: u32,
    /// How many bytes may wait; what comes then is dropped. See [`Tbf::limit_for`].
    pub limit: u32,
}

impl Object for Tbf {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        let index = link::index(kernel, self.at, &self.link)?;
        match qdisc(kernel, self.at, &self.link, index, TcHandle::ROOT)? {
            None => self.send(kernel, index).map(|()| Made::New),
            Some(found) if found.kind != KIND => Err(in_the_way(self.at, &self.link, &found, KIND)),
            Some(found) if self.difference(&found).is_none() => Ok(Made::Already),
            Some(found) => {
                // Given another handle, the kernel would make a second one and throw away what waits in the first.
                self.change(kernel, index, found.handle.into())?;
                Ok(Made::Changed(Changes { set: 1, removed: 0 }))
            }
        }
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        let index = link::expect(kernel, self.at, &self.link)?.index;
        let found = qdisc(kernel, self.at, &self.link, index, TcHandle::ROOT)?;
        let what = match found.filter(|found| found.kind == KIND) {
            None => Some("no token bucket (tbf) as its queueing discipline".to_owned()),
            Some(found) => self.difference(&found),
        };
        match what {
            Some(what) => Err(changed(format!("interface {:?} {} has {what}", self.link, self.at.words()))),
            None => Ok(()),
        }
    }

    fn remove(&self, kernel: &Kernel) -> Result<()> {
        remove_qdisc(kernel, self.at, &self.link, TcHandle::ROOT, &[KIND])
    }
}

impl Tbf {
    /// The limit for which no packet waits longer than `latency` microseconds: as `tc` counts it.
    pub fn limit_for(rate: u64, burst: u32, latency: u32) -> u32 {
        let waiting = u128::from(rate) * u128::from(latency) / 1_000_000;
        u32::try_from(waiting + u128::from(burst)).unwrap_or(u32::MAX)
    }

    fn send(&self, kernel: &Kernel, index: u32) -> Result<()> {
        self.change(kernel, index, HANDLE)
    }

    fn change(&self, kernel: &Kernel, index: u32, handle: TcHandle) -> Result<()> {
        let mut message = message(index, handle, TcHandle::ROOT, Some(KIND));
        message.attributes.push(options(&self.options()));
        let doing =
            || format!("holding interface {:?} {} to {} bytes per second", self.link, self.at.words(), self.rate);
        let made = kernel.route(self.at).change(Rtm::new_qdisc(message), NLM_F_CREATE | NLM_F_REPLACE, &doing);
        made.map_err(|error| explain(error, "the queueing discipline tbf (CONFIG_NET_SCH_TBF)"))
    }

    /// struct tc_tbf_qopt: two of struct tc_ratespec (the second, a peak rate, is not used), limit u32, buffer u32 in ticks,
    /// mtu u32. struct tc_ratespec: cell_log u8, linklayer u8, overhead u16, cell_align i16, mpu u16, rate u32.
    fn options(&self) -> Vec<DefaultNla> {
        const ETHERNET: u8 = 1;
        const CELLS_OF_8: u8 = 3;
        let rate = u32::try_from(self.rate).unwrap_or(u32::MAX);
        let mut parameters = vec![CELLS_OF_8, ETHERNET, 0, 0];
        parameters.extend((-1i16).to_ne_bytes());
        parameters.extend([0; 2]);
        parameters.extend(rate.to_ne_bytes());
        parameters.extend([0; 12]);
        parameters.extend(self.limit.to_ne_bytes());
        parameters.extend(ticks(self.rate, self.burst).to_ne_bytes());
        parameters.extend([0; 4]);
        let mut options = vec![
            DefaultNla::new(TCA_TBF_PARMS, parameters),
            DefaultNla::new(TCA_TBF_BURST, self.burst.to_ne_bytes().to_vec()),
        ];
        if self.rate >= 1 << 32 {
            options.push(DefaultNla::new(TCA_TBF_RATE64, self.rate.to_ne_bytes().to_vec()));
        }
        options
    }

    /// The kernel tells the burst in ticks only, and rounds.
    fn difference(&self, found: &Told) -> Option<String> {
        const ROUNDED: u32 = 3;
        let Some(Settings { rate, limit, buffer }) = read(&found.options) else {
            return Some("a token bucket that has no VXLAN attributes".to_owned());
        };
        let wanted = ticks(self.rate, self.burst);
        match () {
            () if rate != self.rate => Some(format!("a rate of {rate} bytes per second, not {}", self.rate)),
            () if limit != self.limit => Some(format!("a limit of {limit} bytes, not {}", self.limit)),
            () if buffer.abs_diff(wanted) > ROUNDED => {
                let burst = u128::from(buffer) * u128::from(self.rate) / u128::from(TICKS_PER_SECOND);
                Some(format!("a burst of about {burst} bytes, not {}", self.burst))
            }
            () => None,
        }
    }
}

/// What a token bucket says of itself: bytes per second, bytes, ticks.
pub(super) struct Settings {
    rate: u64,
    limit: u32,
    buffer: u32,
}

pub(super) fn read(options: &[u8]) -> Option<Settings> {
    const RATE: usize = 8;
    const LIMIT: usize = 24;
    const BUFFER: usize = 28;
    let parameters = within(options, TCA_TBF_PARMS)?;
    let rate = number(parameters.get(RATE..)?)?;
    let rate64 = within(options, TCA_TBF_RATE64).and_then(|value| value.first_chunk());
    Some(Settings {
        rate: rate64.map_or(rate.into(), |bytes| u64::from_ne_bytes(*bytes)),
        limit: number(parameters.get(LIMIT..)?)?,
        buffer: number(parameters.get(BUFFER..)?)?,
    })
}

/// PSCHED_SHIFT of include/net/pkt_sched.h: a tick is 64 ns.
const TICKS_PER_SECOND: u64 = 1_000_000_000 / 64;

/// How long so many bytes take, in ticks, rounded up. The kernel keeps 32 bits of it: 274 s.
fn ticks(rate: u64, bytes: u32) -> u32 {
    (u64::from(bytes) * TICKS_PER_SECOND).div_ceil(rate.max(1)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_counted_in_ticks_and_a_limit_in_bytes() {
        assert_eq!(ticks(1_000_000, 100_000), 1_562_500);
        assert_eq!(ticks(1 << 40, 1), 1);
        assert_eq!(Tbf::limit_for(1_000_000, 100_000, 25_000), 125_000);
        assert_eq!(Tbf::limit_for(u64::MAX, u32::MAX, u32::MAX), u32::MAX);
    }

    #[test]
    fn half_of_the_options_is_no_crash() {
        let tbf = Tbf { at: At::Host, link: String::new(), rate: 5 << 30, burst: 9000, limit: 20_000 };
        let super::super::TcAttribute::Other(options) = options(&tbf.options()) else { unreachable!("built so") };
        let mut bytes = vec![0; netlink_packet_core::Nla::value_len(&options)];
        netlink_packet_core::Nla::emit_value(&options, &mut bytes);
        let told = |bytes: &[u8]| Told { options: bytes.to_vec(), ..Told::default() };
        assert_eq!(tbf.difference(&told(&bytes)), None);
        for end in 0..bytes.len() {
            assert!(tbf.difference(&told(&bytes[..end])).is_some());
        }
    }
}
