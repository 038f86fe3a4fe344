//! All elements of a set, read straight from the kernel's answers.
//!
//! The library's decoder prints the whole list for each element of it, in case of an error: its time grows with the square
//! of an answer's length, and a set of ten thousand subnets takes it seconds. So these answers are read here, attribute by
//! attribute, from a socket of their own. (include/uapi/linux/netfilter/nf_tables.h: NFTA_SET_ELEM_*, NFTA_DATA_*,
//! NFTA_VERDICT_*.)

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, NlasIterator};
use netlink_packet_netfilter::NetfilterMessage;
use netlink_sys::protocols::NETLINK_NETFILTER;
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;

use super::read_comment;
use crate::error::{Error, Result};

/// One element, as much as is read of it.
#[derive(Debug, Default)]
pub(super) struct Dumped {
    /// Its key, in network byte order.
    pub key: Vec<u8>,
    /// Is it the end of an interval?
    pub is_end: bool,
    /// Of a verdict map: the chain to go to.
    pub goto: Option<String>,
    /// Its comment.
    pub comment: Option<String>,
}

/// Asks for all elements that `request` selects, in the namespace this thread is in.
pub(super) fn elements(request: NetfilterMessage, doing: &dyn Fn() -> String) -> Result<Vec<Dumped>> {
    let failed = |error: std::io::Error| refused(error.raw_os_error().unwrap_or_default(), doing);
    let mut socket = Socket::new(NETLINK_NETFILTER).map_err(failed)?;
    socket.bind_auto().map_err(failed)?;
    socket.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
    socket.send(&bytes_of(request), 0).map_err(failed)?;
    let mut elements = Vec::new();
    loop {
        let (answer, _) = socket.recv_from_full().map_err(failed)?;
        let mut rest = answer.as_slice();
        while let Some((kind, payload, behind)) = next_message(rest) {
            match kind {
                NLMSG_DONE | NLMSG_ERROR => {
                    let code = payload.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
                    return if code == 0 { Ok(elements) } else { Err(refused(-code, doing)) };
                }
                // Behind the family, version and resource.
                _ => read_list(payload.get(4..).unwrap_or_default(), &mut elements),
            }
            rest = behind;
        }
    }
}

/// Of include/uapi/linux/netlink.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;

fn refused(errno: i32, doing: &dyn Fn() -> String) -> Error {
    Error::Refused { doing: doing(), errno: Errno::from_raw(errno), said: String::new() }
}

fn bytes_of(request: NetfilterMessage) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

/// The kind and payload of the first message in `bytes`, and what is behind it.
fn next_message(bytes: &[u8]) -> Option<(u16, &[u8], &[u8])> {
    const HEADER: usize = 16;
    let length = u32::from_ne_bytes(*bytes.first_chunk()?) as usize;
    let kind = u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?);
    let payload = bytes.get(HEADER..length)?;
    Some((kind, payload, bytes.get(length.next_multiple_of(4)..).unwrap_or_default()))
}

fn read_list(attributes: &[u8], elements: &mut Vec<Dumped>) {
    const NFTA_SET_ELEM_LIST_ELEMENTS: u16 = 3;
    let lists = each(attributes).filter(|(kind, _)| *kind == NFTA_SET_ELEM_LIST_ELEMENTS);
    elements.extend(lists.flat_map(|(_, list)| each(list)).map(|(_, element)| read_element(element)));
}

fn read_element(attributes: &[u8]) -> Dumped {
    const NFTA_SET_ELEM_KEY: u16 = 1;
    const NFTA_SET_ELEM_DATA: u16 = 2;
    const NFTA_SET_ELEM_FLAGS: u16 = 3;
    const NFTA_SET_ELEM_USERDATA: u16 = 6;
    const NFT_SET_ELEM_INTERVAL_END: u8 = 1;
    const NFTA_DATA_VALUE: u16 = 1;
    const NFTA_DATA_VERDICT: u16 = 2;
    const NFTA_VERDICT_CHAIN: u16 = 2;
    let mut element = Dumped::default();
    for (kind, value) in each(attributes) {
        match kind {
            NFTA_SET_ELEM_KEY => element.key = within(value, NFTA_DATA_VALUE).unwrap_or_default().to_vec(),
            NFTA_SET_ELEM_FLAGS => {
                element.is_end = value.last().is_some_and(|flags| flags & NFT_SET_ELEM_INTERVAL_END != 0);
            }
            NFTA_SET_ELEM_DATA => {
                let chain = within(value, NFTA_DATA_VERDICT).and_then(|verdict| within(verdict, NFTA_VERDICT_CHAIN));
                element.goto = chain.map(|name| String::from_utf8_lossy(name).trim_end_matches('\0').to_owned());
            }
            NFTA_SET_ELEM_USERDATA => element.comment = read_comment(value).map(str::to_owned),
            _ => {}
        }
    }
    element
}

/// The value of the first attribute of that kind.
fn within(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    each(attributes).find(|(its_kind, _)| *its_kind == kind).map(|(_, value)| value)
}

/// Kind and value of each attribute.
fn each(attributes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    NlasIterator::new(attributes).filter_map(|attribute| {
        const HEADER: usize = 4;
        let attribute = attribute.ok()?;
        let (kind, end) = (attribute.kind(), usize::from(attribute.length()));
        Some((kind, attribute.into_inner().get(HEADER..end)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_read_and_half_of_one_is_no_crash() {
        // Key 10.0.0.1 with the flag of an end and a comment, in an element, in a list.
        let key = [12, 0, 1, 0x80, 8, 0, 1, 0, 10, 0, 0, 1];
        let flags = [8, 0, 3, 0, 0, 0, 0, 1];
        let comment = [10, 0, 6, 0, 0, 3, b'h', b'i', 0, 0, 0, 0];
        let element = [&[36, 0, 1, 0x80], key.as_slice(), &flags, &comment].concat();
        let list = [&[40, 0, 3, 0x80], element.as_slice()].concat();
        let mut elements = Vec::new();
        read_list(&list, &mut elements);
        assert_eq!(elements.len(), 1);
        let Dumped { key, is_end, comment, .. } = &elements[0];
        assert_eq!((key.as_slice(), *is_end, comment.as_deref()), ([10, 0, 0, 1].as_slice(), true, Some("hi")));
        for end in 0..list.len() {
            read_list(&list[..end], &mut Vec::new());
            let _ = next_message(&list[..end]);
        }
    }
}
