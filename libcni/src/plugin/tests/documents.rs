//! What a plugin prints about itself.

use super::*;

#[test]
fn help_has_keys_defaults_and_an_example_and_version_is_one_line() {
    let help = answer_argument::<Ipam>(&"--help".into()).ok().stdout;
    for part in ["addresses", "[default: []]", "what ADD reports", Ipam::ABOUT.example, "--man"] {
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
