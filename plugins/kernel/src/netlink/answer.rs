//! An answer's bytes: the messages in a datagram, and what an acknowledgement says.

use nix::errno::Errno;

use super::{Fault, Outcome};
use crate::attribute;

/// Of include/uapi/linux/netlink.h.
pub(super) const NLMSG_NOOP: u16 = 1;
pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;
pub(super) const NLMSG_OVERRUN: u16 = 4;
/// struct nlmsghdr: length u32, type u16, flags u16, sequence u32, port u32.
pub(super) const HEADER: usize = 16;

/// One message of an answer.
pub(crate) struct Answer<'a> {
    pub(crate) kind: u16,
    pub(super) flags: u16,
    pub(super) sequence: u32,
    pub(crate) payload: &'a [u8],
}

/// The messages in a datagram; what is no message ends them.
pub(crate) struct Answers<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Answers<'a> {
    type Item = Answer<'a>;

    fn next(&mut self) -> Option<Answer<'a>> {
        let bytes = self.0;
        let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
        let answer = Answer {
            kind: u16::from_ne_bytes(*bytes.get(4..)?.first_chunk()?),
            flags: u16::from_ne_bytes(*bytes.get(6..)?.first_chunk()?),
            sequence: u32::from_ne_bytes(*bytes.get(8..)?.first_chunk()?),
            payload: bytes.get(HEADER..length)?,
        };
        self.0 = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(answer)
    }
}

impl Answer<'_> {
    /// Of an acknowledgement or a dump's end, which begin with an error number, negative or 0.
    pub(crate) fn outcome(&self) -> Outcome {
        let Some(code) = self.payload.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes)) else {
            return Err(Fault::silence("half an answer"));
        };
        let words = || if self.kind == NLMSG_ERROR { extended_words(&self.payload[4..]) } else { None };
        match code {
            0 => Ok(()),
            _ => Err(Fault::Refused(Errno::from_raw(code.wrapping_abs()), words().unwrap_or_default())),
        }
    }
}

/// The kernel's own explanation (NLMSGERR_ATTR_MSG, include/uapi/linux/netlink.h) behind the refused message's
/// header: the message itself follows the header unless NLM_F_CAPPED says that it was left out.
pub(crate) fn extended_words(after_code: &[u8]) -> Option<String> {
    const NLM_F_CAPPED: u16 = 0x100;
    const NLMSGERR_ATTR_MSG: u16 = 1;
    let length = u32::from_ne_bytes(after_code.get(0..4)?.try_into().ok()?) as usize;
    let flags = u16::from_ne_bytes(after_code.get(6..8)?.try_into().ok()?);
    let echoed = if flags & NLM_F_CAPPED != 0 { HEADER } else { length.next_multiple_of(4).max(HEADER) };
    attribute::within(after_code.get(echoed..)?, NLMSGERR_ATTR_MSG).map(attribute::text)
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::NLM_F_DUMP_INTR;

    use super::*;

    #[test]
    fn the_kernels_words_are_found_and_garbage_is_not_read() {
        let mut bytes = vec![0; 16];
        bytes[0] = 16;
        bytes.extend([8, 0, 1, 0, b'n', b'o', b'!', 0]);
        assert_eq!(extended_words(&bytes).as_deref(), Some("no!"));
        for end in 0..bytes.len() {
            let _ = extended_words(&bytes[..end]);
        }
        bytes[0..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(extended_words(&bytes), None);
    }

    #[test]
    fn answers_are_read_one_by_one_and_half_of_one_is_no_crash() {
        let mut bytes = Vec::new();
        for (kind, payload) in [(16_u16, b"abc".as_slice()), (NLMSG_ERROR, &(-1_i32).to_ne_bytes())] {
            bytes.extend((HEADER as u32 + payload.len() as u32).to_ne_bytes());
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(NLM_F_DUMP_INTR.to_ne_bytes());
            bytes.extend(7_u32.to_ne_bytes());
            bytes.extend([0; 4]);
            bytes.extend(payload);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        let answers: Vec<_> = Answers(&bytes).collect();
        assert_eq!(answers.iter().map(|answer| answer.kind).collect::<Vec<_>>(), [16, NLMSG_ERROR]);
        assert_eq!(
            (answers[0].payload, answers[0].sequence, answers[0].flags),
            (b"abc".as_slice(), 7, NLM_F_DUMP_INTR)
        );
        assert!(matches!(answers[1].outcome(), Err(Fault::Refused(Errno::EPERM, _))));
        for end in 0..bytes.len() {
            for answer in Answers(&bytes[..end]) {
                let _ = answer.outcome();
            }
        }
    }
}
