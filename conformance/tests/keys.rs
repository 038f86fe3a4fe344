//! Whatever a plugin prints about its keys, it is the same keys: `--help`, `--markdown`, `--man` and `--schema`. (`docs.rs` compares
//! the book with them.)

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use conformance::lab::bin_dir;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every folder of plugins/ and ipam/ with a main of its own, as install.sh finds them.
fn plugins() -> Vec<String> {
    let mut names = Vec::new();
    for parent in ["plugins", "ipam"] {
        for entry in std::fs::read_dir(root().join(parent)).unwrap() {
            let path = entry.unwrap().path();
            if path.join("src/main.rs").exists() {
                names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    assert!(names.len() >= 3, "{names:?}");
    names
}

/// What `plugin option` prints.
fn printed(plugin: &str, option: &str) -> String {
    let output = Command::new(bin_dir().join(plugin)).arg(option).output().expect("build the workspace first");
    assert!(output.status.success(), "{plugin} {option}");
    String::from_utf8(output.stdout).unwrap()
}

/// A key's path, with what it does and its default.
type Keys = BTreeMap<String, (String, String)>;

fn keys_of_table(text: &str) -> Keys {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.strip_suffix(" |")).map(|row| {
        let row = row.replace("\\|", "\u{0}").replace("\\<", "<");
        let cells: Vec<String> = row.split(" | ").map(|cell| cell.replace('\u{0}', "|")).collect();
        (cells[0].trim_end_matches('`').to_owned(), (cells[2].clone(), cells[1].clone()))
    });
    rows.collect()
}

/// The keys that are explained, and the names of those that had no room. The defaults that need no words are those of the heading.
fn keys_of_help(text: &str) -> (Keys, Vec<String>) {
    let section =
        text.split("\nConfiguration (").nth(1).unwrap().split_once('\n').unwrap().1.split("\n\n").next().unwrap();
    let mut entries: Vec<String> = Vec::new();
    for line in section.lines() {
        match (line.starts_with("   "), entries.last_mut()) {
            (true, Some(last)) => *last = format!("{last} {}", line.trim()),
            _ => entries.push(line.trim().to_owned()),
        }
    }
    let named = entries.last().and_then(|last| last.strip_prefix("Also: ")).map(str::to_owned);
    let named: Vec<String> = named.iter().flat_map(|names| names.trim().split(", ")).map(str::to_owned).collect();
    let explained =
        entries.iter().filter(|entry| !entry.starts_with("Also: ") && entry.contains(' ')).filter_map(|entry| {
            let (key, words) = entry.split_once(' ')?;
            let (words, default) = words.split_once(" [default: ").unwrap_or((words, "]"));
            Some((key.to_owned(), (words.trim().to_owned(), default.strip_suffix(']').unwrap().to_owned())))
        });
    (explained.collect(), named)
}

/// What it does is a sentence there.
fn keys_of_man(text: &str) -> Keys {
    let section = text.split(".SH CONFIGURATION\n").nth(1).unwrap().split("\n.SH").next().unwrap();
    let entries = section.split(".TP\n").skip(1).map(|entry| {
        let plain = entry.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "");
        let (key, rest) = plain.split_once('\n').unwrap();
        let (words, default) = rest.split_once(".\n.br\nDefault: ").unwrap();
        (key.to_owned(), (words.to_lowercase(), default.trim_end().to_owned()))
    });
    entries.collect()
}

/// What has a description. Defaults are there only where they are JSON.
fn keys_of_schema(schema: &Value, path: &str, keys: &mut Keys) {
    if let Some(words) = schema["description"].as_str().filter(|_| !path.is_empty()) {
        let default = schema.get("default").map(Value::to_string).unwrap_or_default();
        keys.insert(path.trim_end_matches("[]").to_owned(), (words.to_owned(), default));
    }
    if let Some(items) = schema.get("items") {
        keys_of_schema(items, &format!("{path}[]"), keys);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        keys_of_schema(property, &path, keys);
    }
}

#[test]
fn help_table_manual_page_and_schema_have_the_same_keys() {
    for plugin in plugins() {
        let table = keys_of_table(&printed(&plugin, "--markdown"));
        assert!(plugin == "loopback" || table.len() > 5, "{plugin}: {table:?}");

        let sentences: Keys = table
            .iter()
            .map(|(key, (words, default))| (key.clone(), (words.to_lowercase(), default.clone())))
            .collect();
        assert_eq!(keys_of_man(&printed(&plugin, "--man")), sentences, "{plugin} --man");

        let json =
            |default: &String| serde_json::from_str::<Value>(default).map(|it| it.to_string()).unwrap_or_default();
        let typed: Keys =
            table.iter().map(|(key, (words, default))| (key.clone(), (words.clone(), json(default)))).collect();
        let mut of_schema = Keys::new();
        keys_of_schema(&serde_json::from_str(&printed(&plugin, "--schema")).unwrap(), "", &mut of_schema);
        assert_eq!(of_schema, typed, "{plugin} --schema");
    }
}

#[test]
fn help_fits_a_screen_and_has_every_key_at_least_by_name() {
    for plugin in plugins() {
        let help = printed(&plugin, "--help");
        let wide: Vec<&str> = help.lines().filter(|line| line.chars().count() > 100).collect();
        assert!(help.lines().count() <= 40 && wide.is_empty(), "{plugin}: {} lines; {wide:#?}", help.lines().count());
        if plugin == "loopback" {
            continue;
        }
        let table = keys_of_table(&printed(&plugin, "--markdown"));
        let (explained, named) = keys_of_help(&help);
        assert!(explained.len() > 5, "{plugin}: {explained:?}");
        for (key, (words, default)) in &explained {
            let (expected, usual) = &table[key];
            let is_usual = ["false", "none", "[]"].contains(&usual.as_str());
            assert_eq!(
                (words, default.as_str()),
                (expected, if is_usual { "" } else { usual }),
                "{plugin} --help: {key}"
            );
        }
        let all: Vec<&String> = explained.keys().chain(&named).collect();
        assert_eq!(all.len(), table.len(), "{plugin}: {all:?}");
        assert!(all.iter().all(|key| table.contains_key(*key)), "{plugin}: {all:?}");
    }
}

#[test]
fn every_program_says_its_version_on_one_line() {
    let tools = ["cnitool", "cni-conformance", "cni-bench"].map(str::to_owned);
    for program in plugins().into_iter().chain(tools) {
        // Which commit only an optimized build says; .ci/package-test looks there.
        assert_eq!(printed(&program, "--version"), format!("{program} {}\n", env!("CARGO_PKG_VERSION")));
    }
}

/// Which plugins have a key on the outermost level.
fn plugins_by_key() -> BTreeMap<String, Vec<String>> {
    let mut by_key: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut plugins = plugins();
    plugins.sort();
    for plugin in plugins {
        for key in keys_of_table(&printed(&plugin, "--markdown")).into_keys().filter(|key| !key.contains(['.', '['])) {
            by_key.entry(key).or_default().push(plugin.clone());
        }
    }
    // Every plugin takes these, in the words of the specification.
    by_key.retain(|key, _| !["dns", "ipam"].contains(&key.as_str()));
    by_key
}

fn listed(plugins: &[String]) -> String {
    match plugins {
        [rest @ .., last] if !rest.is_empty() => format!("{} and {last}", rest.join(", ")),
        _ => plugins.concat(),
    }
}

#[test]
fn a_key_that_only_other_plugins_have_is_warned_of() {
    let by_key = plugins_by_key();
    assert!(by_key.len() > 20, "{by_key:?}");
    for plugin in plugins().into_iter().filter(|plugin| plugin != "host-local") {
        let mut config = serde_json::json!({"cniVersion": "1.1.0", "name": "net", "type": plugin});
        by_key.keys().for_each(|key| config[key] = Value::Null);
        let mut command = Command::new(bin_dir().join(&plugin));
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, config.to_string()).unwrap();
        let output = command.env("CNI_COMMAND", "STATUS").stdin(file.reopen().unwrap()).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        for (key, others) in &by_key {
            let words = format!(
                "key {key:?} is a key of {}: {plugin} does not have it, and it has no effect here",
                listed(others)
            );
            let is_own = others.contains(&plugin);
            assert_eq!(stderr.contains(&words), !is_own, "{words}\n{stderr}");
        }
        let warnings = stderr.lines().filter(|line| line.contains("does not have it")).count();
        assert_eq!(warnings, by_key.values().filter(|others| !others.contains(&plugin)).count(), "{plugin}: {stderr}");
    }
}
