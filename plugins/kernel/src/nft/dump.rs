//! All elements of a set, read straight from the kernel's answers.
//!
//! The library's decoder prints the whole list for each element of it, in case of an error: its time grows with the square
//! of an answer's length, and a set of ten thousand subnets takes it seconds. So these answers are read here, attribute by
//! attribute. (include/uapi/linux/netfilter/nf_tables.h: NFTA_SET_ELEM_*, NFTA_DATA_*,
//! NFTA_VERDICT_*.)

use netlink_packet_netfilter::NetfilterMessage;

use super::read_comment;
use crate::attribute::{each, text, within};
use crate::error::Result;
use crate::kernel::Kernel;

/// One element, as much as is read of it.
#[derive(Debug, Default)]
pub(crate) struct Dumped {
    /// Its key, in network byte order.
    pub key: Vec<u8>,
    /// Is it the end of an interval?
    pub is_end: bool,
    /// Of a verdict map: the chain to go to.
    pub goto: Option<String>,
    /// Its comment.
    pub comment: Option<String>,
}

/// Asks for all elements that `request` selects.
pub(super) fn elements(kernel: &Kernel, request: NetfilterMessage, doing: &dyn Fn() -> String) -> Result<Vec<Dumped>> {
    // Behind the family, version and resource.
    let read = |_kind, message: &[u8], elements: &mut Vec<Dumped>| {
        read_list(message.get(4..).unwrap_or_default(), elements);
        Ok(())
    };
    kernel.netfilter()?.dump_as(request, &read, doing)
}

pub(crate) fn read_list(attributes: &[u8], elements: &mut Vec<Dumped>) {
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
                element.goto = chain.map(text);
            }
            NFTA_SET_ELEM_USERDATA => element.comment = read_comment(value).map(str::to_owned),
            _ => {}
        }
    }
    element
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
        }
    }
}
