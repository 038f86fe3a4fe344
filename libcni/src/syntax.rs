//! What is wrong with a text that is not JSON, in plain words.
//!
//! serde_json says where it stopped and what it expected there. What people write into a configuration is mostly one of a few
//! things that other formats allow: a comment, a comma after the last element, other quotation marks, a byte order mark. These
//! are recognised by the bytes at the place of the error; everything else is said as serde_json says it.

/// What is wrong with `text`, which serde_json refused with `error`: with line and column.
pub fn explain(text: &[u8], error: &serde_json::Error) -> String {
    if let Some(fault) = byte_order_mark(text) {
        return fault;
    }
    let at = offset(text, error.line(), error.column());
    let known = at.filter(|_| error.is_syntax()).and_then(|at| known_fault(text, at));
    known.unwrap_or_else(|| error.to_string())
}

/// Editors on Windows write one in front of the text, and show nothing of it.
fn byte_order_mark(text: &[u8]) -> Option<String> {
    let (mark, encoding) = match text {
        [0xef, 0xbb, 0xbf, ..] => ("EF BB BF", "UTF-8"),
        [0xff, 0xfe, ..] => ("FF FE", "UTF-16"),
        [0xfe, 0xff, ..] => ("FE FF", "UTF-16"),
        _ => return None,
    };
    let command = match encoding {
        "UTF-8" => r"sed -i '1s/^\xEF\xBB\xBF//' FILE",
        _ => "iconv -f UTF-16 -t UTF-8 FILE > NEWFILE",
    };
    Some(format!(
        "the text begins with a byte order mark of {encoding} ({mark}), and JSON has none: save it as UTF-8 without a byte \
         order mark, or run {command}"
    ))
}

/// Where in `text` a line and a column are, both counted from 1.
fn offset(text: &[u8], line: usize, column: usize) -> Option<usize> {
    let before: usize = text.split_inclusive(|byte| *byte == b'\n').take(line.checked_sub(1)?).map(<[u8]>::len).sum();
    Some(before + column.checked_sub(1)?).filter(|at| *at < text.len())
}

/// The line and the column of an offset.
fn place(text: &[u8], at: usize) -> String {
    let before = &text[..at];
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let column = at - before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1) + 1;
    format!("line {line} column {column}")
}

fn known_fault(text: &[u8], at: usize) -> Option<String> {
    let here = place(text, at);
    match &text[at..] {
        [b'/', b'/' | b'*', ..] | [b'#', ..] => Some(format!("JSON has no comments: remove the one at {here}")),
        [end @ (b'}' | b']'), ..] => {
            let comma = text[..at].iter().rposition(|byte| !byte.is_ascii_whitespace())?;
            let is_comma = text[comma] == b',';
            let end = char::from(*end);
            is_comma
                .then(|| format!("a comma before {end} at {}: JSON allows none there, remove it", place(text, comma)))
        }
        [b'\'', ..] | [0xe2, 0x80, 0x98..=0x9f, ..] => {
            Some(format!("JSON has no quotation marks but \": write that at {here}"))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;
    use serde_json::value::RawValue;
    use std::collections::BTreeMap;

    /// What is said of a text, however it is read: as values, and as text of values.
    #[track_caller]
    fn said(text: &[u8]) -> String {
        let as_value = explain(text, &serde_json::from_slice::<Value>(text).unwrap_err());
        let as_text = explain(text, &serde_json::from_slice::<BTreeMap<String, Box<RawValue>>>(text).unwrap_err());
        assert_eq!(as_value, as_text);
        as_value
    }

    #[test]
    fn comments_are_called_so_wherever_they_are() {
        for (text, place) in [
            ("// the network\n{}", "line 1 column 1"),
            ("{\n  // its name\n  \"name\": 1}", "line 2 column 3"),
            ("{\"name\": /* what */ 1}", "line 1 column 10"),
            ("{\"a\": {\"b\": [1 # one\n]}}", "line 1 column 16"),
            ("{\"a\": {\"b\": 1, // one\n}}", "line 1 column 16"),
            ("{\"a\": 1}\n// the end", "line 2 column 1"),
        ] {
            assert_eq!(said(text.as_bytes()), format!("JSON has no comments: remove the one at {place}"), "{text}");
        }
    }

    #[test]
    fn a_comma_too_many_is_told_by_its_own_place() {
        for (text, end, place) in [
            ("{\"a\": 1,}", '}', "line 1 column 8"),
            ("{\"a\": [1, 2,\n\n  ]}", ']', "line 1 column 12"),
            ("{\"a\": {\"b\": {\"c\": 1,\r\n}}}", '}', "line 1 column 20"),
            ("{\"a\": [[{}],\t]}", ']', "line 1 column 12"),
        ] {
            let expected = format!("a comma before {end} at {place}: JSON allows none there, remove it");
            assert_eq!(said(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn other_quotation_marks_and_byte_order_marks_are_named() {
        assert!(said(b"{'a': 1}").contains("JSON has no quotation marks but \": write that at line 1 column 2"));
        assert!(said("{\"a\": “b”}".as_bytes()).contains("line 1 column 7"));
        for (text, mark) in [
            (&b"\xef\xbb\xbf{}"[..], "byte order mark of UTF-8 (EF BB BF)"),
            (b"\xff\xfe{\0}\0", "byte order mark of UTF-16 (FF FE)"),
            (b"\xfe\xff\0{\0}", "byte order mark of UTF-16 (FE FF)"),
        ] {
            assert!(said(text).contains(mark), "{}", said(text));
        }
    }

    #[test]
    fn everything_else_is_said_as_serde_json_says_it() {
        for text in ["", "{", "{\"a\" 1}", "{\"a\": }", "[1 2]", "]", "{\"a\": 1} x", "{\"a\": /1}", "nul", "\n\n"] {
            let error = serde_json::from_str::<Value>(text).unwrap_err();
            assert_eq!(explain(text.as_bytes(), &error), error.to_string(), "{text}");
        }
        let of_another_kind = serde_json::from_str::<Vec<u8>>("[1, {}]").unwrap_err();
        assert_eq!(explain(b"[1, {}]", &of_another_kind), of_another_kind.to_string());
    }
}
