//! What is decoded, what is refused, and how it is said.

use super::*;
use crate::keys::{Shape, Text};

/// One key is kept as text.
#[derive(Configuration, Debug)]
struct Long {
    #[key(name = "long")]
    _long: Text<Anything>,
}

#[derive(Debug)]
struct Anything;

impl crate::keys::Shaped for Anything {
    fn shape() -> Shape {
        Shape::Any
    }
}

/// A configuration whose key `long` is kept as text.
pub fn long() -> Level {
    Level::of::<Long>()
}

fn config(text: &str) -> Result<Config, Error> {
    let document = Document::decode(text.as_bytes(), &long(), Size::Usual)?;
    let version = Config::version_of(document.object())?;
    Config::new(text.as_bytes().to_vec(), document, version)
}

#[test]
fn text_that_does_not_parse_is_code_6_with_line_and_column() {
    let error = config("{\n  \"name\": }").unwrap_err();
    assert_eq!(error.code, code::DECODING_FAILURE);
    assert!(error.details.contains("line 2 column 11"), "{error}");
}

#[test]
fn a_wrong_value_is_code_7_and_names_key_and_value() {
    #[derive(Configuration, Debug)]
    #[expect(dead_code, reason = "read, and not used")]
    struct Outer {
        ipam: Inner,
    }
    #[derive(Configuration, Debug)]
    #[expect(dead_code, reason = "read, and not used")]
    struct Inner {
        mtus: Vec<u32>,
        routes: Vec<crate::Route>,
    }
    for (text, details) in [
        (
            r#"{"name":"n","ipam":{"mtus":[1,"big"]}}"#,
            r#"key "ipam.mtus[1]", value "big": expected a whole number from 0 to 4294967295"#,
        ),
        (r#"{"name":"n","ipam":{"mtus":{}}}"#, r#"key "ipam.mtus", value {}: expected a list"#),
        (r#"{"name":"n","ipam":7}"#, r#"key "ipam", value 7: expected an object"#),
        (r#"{"name":"n","ipam":{"routes":[{}]}}"#, r#"key "ipam.routes[0]", value {}: missing field `dst`"#),
        (
            r#"{"name":"n","ipam":{"routes":[{"dst":"x"}]}}"#,
            r#"key "ipam.routes[0].dst", value "x": invalid address: x"#,
        ),
    ] {
        let error = config(text).unwrap().read::<Outer>().unwrap_err();
        assert_eq!((error.code, error.details.as_str()), (code::INVALID_CONFIG, details));
    }
}

#[test]
fn names_become_file_names_and_are_checked() {
    for bad in [r#"{"name":"../x"}"#, r#"{"name":""}"#, r#"{"name":5}"#, "{}"] {
        assert_eq!(config(bad).unwrap_err().code, code::INVALID_CONFIG, "{bad}");
    }
}

#[test]
fn what_is_kept_as_text_is_as_it_came_and_is_checked_to_be_json() {
    let read = config(r#"{"name":"n","long":[1],"other":[2],"long":[1, {"a":2}]}"#).unwrap();
    assert_eq!(read.text("long"), Some(r#"[1, {"a":2}]"#));
    assert_eq!(read.text("other"), None);
    assert!(!read.object.contains_key("long") && read.object.contains_key("other"));
    assert_eq!(config(r#"{"name":"n","long":null}"#).unwrap().text("long"), None);
    for broken in [r#"{"name":"n","long":[1,}"#, r#"{"name":"n","long":[1]} x"#, r#"["long"]"#] {
        assert_eq!(config(broken).unwrap_err().code, code::DECODING_FAILURE, "{broken}");
    }
}

#[test]
fn gc_without_its_list_is_an_error_and_an_empty_list_is_not() {
    assert_eq!(config(r#"{"name":"n"}"#).unwrap().valid_attachments().unwrap_err().code, code::INVALID_CONFIG);
    let empty = config(r#"{"name":"n","cni.dev/valid-attachments":[]}"#).unwrap();
    assert_eq!(empty.valid_attachments().unwrap(), []);
}

#[test]
fn deep_nesting_is_an_error_and_no_crash() {
    let deep = "[".repeat(100_000);
    assert_eq!(config(&format!("{{\"name\":{deep}")).unwrap_err().code, code::DECODING_FAILURE);
}

#[test]
fn a_list_that_lacks_its_brackets_is_shown_with_them() {
    #[derive(Configuration, Debug)]
    #[expect(dead_code, reason = "read, and not used")]
    struct Outer {
        ips: Vec<String>,
        ranges: Vec<Vec<Object>>,
    }
    #[derive(Configuration, Debug)]
    struct Object {}
    for (text, why) in [
        (r#"{"name":"n","ranges":[{"subnet":"10.1.0.0/16"}]}"#, r#": "ranges": [[{"subnet":"10.1.0.0/16"}]]"#),
        (r#"{"name":"n","ips":"10.1.0.2"}"#, r#": "ips": ["10.1.0.2"]"#),
        (r#"{"name":"n","ranges":{}}"#, ""),
    ] {
        let error = config(text).unwrap().read::<Outer>().unwrap_err();
        assert!(error.details.ends_with(&format!(": expected a list{why}")), "{error}");
    }
}

#[test]
fn keys_that_are_given_twice_are_known_at_any_level_and_the_last_one_counts() {
    for (text, keys) in [
        (r#"{"name":"n","x":{"y":1,"z":[{"a":1},{"a":2}]}}"#, &[][..]),
        (r#"{"name":"o","name":"n"}"#, &["name"]),
        (r#"{"name":"n","long":[1],"long":[2]}"#, &["long"]),
        (r#"{"name":"n","ipam":{"ranges":[[{"subnet":1,"subnet":2}]]}}"#, &["ipam.ranges[0][0].subnet"]),
    ] {
        let config = config(text).unwrap();
        assert_eq!(config.repeated_keys(), keys);
        assert_eq!(config.name, "n");
    }
}

#[test]
fn a_comment_a_comma_too_many_and_a_byte_order_mark_are_named() {
    for (text, fault) in [
        ("{\n  \"name\": \"n\" // the name\n}", "stdin: JSON has no comments: remove the one at line 2 column 15"),
        ("{\"name\": \"n\",\n}", "stdin: a comma before } at line 1 column 13"),
        ("{\"long\": [1,], \"name\": \"n\"}", "stdin: a comma before ] at line 1 column 12"),
        ("\u{feff}{\"name\": \"n\"}", "stdin: the text begins with a byte order mark of UTF-8"),
    ] {
        let error = config(text).unwrap_err();
        assert_eq!(error.code, code::DECODING_FAILURE);
        assert!(error.details.contains(fault), "{error}");
    }
}
