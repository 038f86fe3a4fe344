//! What a plugin prints about itself.

use super::*;
use crate::keys::{Shape, Shown, Words};
use crate::plugin::documents::Subject;

#[test]
fn help_has_keys_defaults_and_an_example_and_version_is_one_line() {
    let help = answer_argument::<Ipam>(&"--help".into()).ok().stdout;
    for part in ["addresses", "what ADD reports", Ipam::ABOUT.example, "--man"] {
        assert!(help.contains(part), "{part}: {help}");
    }
    assert_eq!(answer_argument::<Ipam>(&"--version".into()).ok().stdout, "recorder 1.2.3\n");
    let unknown = answer_argument::<Ipam>(&"--hlep".into());
    assert!(!unknown.success && unknown.stdout.is_empty() && unknown.stderr.contains("--hlep"), "{unknown:?}");
}

#[test]
fn the_schema_types_the_keys_and_lets_others_through() {
    let schema = answer_argument::<Interface>(&"--schema".into()).ok().document();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(
        (&schema["additionalProperties"], &schema["properties"]["type"]["const"]),
        (&json!(true), &json!("recorder"))
    );
    let expected =
        json!({"type": "array", "items": {"type": "string"}, "description": "what ADD reports", "default": []});
    assert_eq!(schema["properties"]["addresses"], expected);
    assert_eq!(schema["properties"]["panic"], json!({"type": "boolean"}));
    let of_ipam = answer_argument::<Ipam>(&"--schema".into()).ok().document();
    assert_eq!(of_ipam["properties"]["ipam"]["properties"]["type"]["const"], "recorder");
}

#[test]
fn the_manual_page_has_keys_codes_and_the_example_escaped_for_roff() {
    let page = answer_argument::<Ipam>(&"--man".into()).ok().stdout;
    assert!(page.starts_with(".TH RECORDER 8 "), "{page}");
    for part in ["\\fBaddresses\\fR\nWhat ADD reports.\n.br\nDefault: []", "\\fB102\\fR", "PODWIRE_LOG", "\\-\\-help"] {
        assert!(page.contains(part), "{part}: {page}");
    }
}

#[test]
fn the_table_is_markdown() {
    let table = answer_argument::<Ipam>(&"--markdown".into()).ok().stdout;
    assert_eq!(table, "| Key | Default | What it does |\n|---|---|---|\n| `addresses` | [] | what ADD reports |\n");
}

#[test]
fn version_names_the_commit_where_it_is_known() {
    assert_eq!(version::of_program("1.2.3", Some("0123456789ab")), "1.2.3 (0123456789ab)");
    assert_eq!(version::of_program("1.2.3", None), "1.2.3");
}

#[test]
fn help_explains_as_many_keys_as_a_screen_has_room_for_and_names_the_others() {
    const NAMES: [&str; 4] = ["one", "two", "three", "four"];
    let words =
        "as long as it takes to need more than one line of a screen that has a hundred columns, and no more than that";
    let mut keys = Level::default();
    for name in NAMES {
        keys.push(name, Shape::Boolean, Words { help: words, shown: Shown::Words("none"), brief: false });
    }
    let subject = Subject { about: Ipam::ABOUT, kind: Kind::Ipam, operator: None, keys };
    let first_two = format!("{0}{1}  Also:  three, four\n", entry_of("one", words), entry_of("two", words));
    assert_eq!(subject.explained_keys(6), first_two);
    assert_eq!(subject.explained_keys(100).lines().count(), 8);
    assert_eq!(subject.explained_keys(0), "  Also:  one, two, three, four\n");
}

/// As it is wrapped.
fn entry_of(key: &str, words: &str) -> String {
    let (first, rest) = words.split_at(words[..92].rfind(' ').unwrap());
    format!("  {key:5}  {first}\n         {}\n", rest.trim_start())
}

#[test]
fn a_table_escapes_what_markdown_would_take_for_its_own() {
    let mut keys = Level::default();
    keys.push("key", Shape::String, Words { help: "a|b, or <name>", shown: Shown::Words("<none|>"), brief: false });
    let subject = Subject { about: Ipam::ABOUT, kind: Kind::Ipam, operator: None, keys };
    assert!(subject.markdown().ends_with("| `key` | \\<none\\|> | a\\|b, or \\<name> |\n"), "{}", subject.markdown());
}
