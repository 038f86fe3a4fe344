//! The declared keys as a tree: which there are on each level, and what the documents say about them.

/// The keys of one JSON object.
#[derive(Clone, Debug, Default)]
pub struct Level {
    keys: Vec<Key>,
}

/// One key of a level.
#[derive(Clone, Debug)]
pub struct Key {
    /// Its name on this level: `rangeStart`.
    pub name: &'static str,
    /// What its value can be.
    pub shape: Shape,
    /// What the documents say.
    pub words: Words,
}

/// What JSON a value is.
#[derive(Clone, Debug)]
pub enum Shape {
    /// Anything: a value that is handed on.
    Any,
    /// true or false.
    Boolean,
    /// A whole number.
    Integer {
        /// The least.
        least: i64,
        /// The largest.
        most: i64,
    },
    /// Text.
    String,
    /// One of these texts.
    Word(&'static [&'static str]),
    /// An object with these keys; others are let through.
    Object(Level),
    /// A list of this. What is inside of a list is worked out when a configuration has such a list: an execution
    /// that does not need it should not pay for it.
    List(fn() -> Shape),
    /// One of two.
    Either([fn() -> Shape; 2]),
    /// A value that may be long, and is parsed only when it is needed: kept as text ([`Config::text`](crate::Config::text)).
    Text(fn() -> Shape),
}

/// What the documents say about a key.
#[derive(Clone, Copy, Debug)]
pub struct Words {
    /// What the key does, in one line; empty for a key that is not documented.
    pub help: &'static str,
    /// Its default.
    pub shown: Shown,
    /// The keys inside are documented in another place.
    pub brief: bool,
}

/// A default as the documents show it.
#[derive(Clone, Copy, Debug)]
pub enum Shown {
    /// As it is put here.
    Words(&'static str),
    /// As JSON, made when it is asked for.
    Json(fn() -> String),
}

impl std::fmt::Display for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Shown::Words(words) => f.write_str(words),
            Shown::Json(make) => f.write_str(&make()),
        }
    }
}

/// A documented key, as a line of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its path: `ipam.ranges[][].subnet`.
    pub path: String,
    /// What it does.
    pub help: &'static str,
    /// Its default.
    pub default: String,
}

const UNDOCUMENTED: Words = Words { help: "", shown: Shown::Words(""), brief: false };

/// Keys of every configuration (spec sections 1 and 3), whatever the plugin. A plugin may declare them too, and say more.
const COMMON: [(&str, Shape); 9] = [
    ("cniVersion", Shape::String),
    ("name", Shape::String),
    ("type", Shape::String),
    ("args.cni", Shape::Object(Level { keys: Vec::new() })),
    ("capabilities", Shape::Any),
    ("runtimeConfig", Shape::Object(Level { keys: Vec::new() })),
    ("prevResult", Shape::Any),
    ("ipam.type", Shape::String),
    ("dns", Shape::Any),
];

/// What a runtime reads or writes itself, by these very names: Go's libcni compares them to the byte.
const EXACT: [&str; 2] = ["cniVersion", "name"];

impl Level {
    /// All keys of a plugin with this configuration, those of every plugin included.
    pub fn of<C: super::Configuration>() -> Self {
        // As many as most plugins have: the tree is built by each execution, and should not be moved as it grows.
        let mut level = Level { keys: Vec::with_capacity(32) };
        C::declare(&mut level);
        for (path, shape) in COMMON {
            level.declare(path, shape, UNDOCUMENTED);
        }
        level
    }

    /// The keys.
    pub fn keys(&self) -> &[Key] {
        &self.keys
    }

    /// Adds a key that is not on this level yet.
    pub fn push(&mut self, name: &'static str, shape: Shape, words: Words) {
        self.keys.push(Key { name, shape, words });
    }

    /// Adds a key. A path with dots leads into objects, which come with it. What was said about the key before stays.
    pub fn declare(&mut self, path: &'static str, shape: Shape, words: Words) {
        let Some((first, rest)) = path.split_once('.') else {
            match self.keys.iter_mut().find(|key| key.name == path) {
                None => self.push(path, shape, words),
                Some(key) if key.words.help.is_empty() && !words.help.is_empty() => key.words = words,
                Some(_) => (),
            }
            return;
        };
        let place = self.keys.iter().position(|key| key.name == first).unwrap_or_else(|| {
            self.keys.push(Key { name: first, shape: Shape::Object(Level::default()), words: UNDOCUMENTED });
            self.keys.len() - 1
        });
        if let Shape::Object(inner) = &mut self.keys[place].shape {
            inner.declare(rest, shape, words);
        }
    }

    /// Changes what the documents say about a key that is declared.
    pub fn describe(&mut self, path: &str, change: impl FnOnce(&mut Words)) {
        let (first, rest) = path.split_once('.').unwrap_or((path, ""));
        let Some(key) = self.keys.iter_mut().find(|key| key.name == first) else {
            unreachable!("no key {path:?} is declared before it is described");
        };
        match &mut key.shape {
            Shape::Object(inner) if !rest.is_empty() => inner.describe(rest, change),
            _ => change(&mut key.words),
        }
    }

    /// The declared key that `name` means: the same name, or else one that differs in case alone, as Go's decoder takes it.
    pub fn find(&self, name: &str) -> Option<&Key> {
        let same = self.keys.iter().find(|key| key.name == name);
        same.or_else(|| self.keys.iter().find(|key| !EXACT.contains(&key.name) && folds_to(name, key.name)))
    }

    /// The shape of a key of this level.
    pub fn shape(&self, name: &str) -> Option<&Shape> {
        self.keys.iter().find(|key| key.name == name).map(|key| &key.shape)
    }

    /// The documented keys, in the order of their declaration, each before those inside of it.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        self.add_rows("", &mut rows);
        rows
    }

    fn add_rows(&self, prefix: &str, rows: &mut Vec<Row>) {
        for Key { name, shape, words } in &self.keys {
            let path = format!("{prefix}{name}");
            if !words.help.is_empty() {
                rows.push(Row { path: path.clone(), help: words.help, default: words.shown.to_string() });
            }
            if !words.brief {
                add_rows_inside(shape, path, rows);
            }
        }
    }
}

fn add_rows_inside(shape: &Shape, path: String, rows: &mut Vec<Row>) {
    match shape {
        Shape::List(element) => add_rows_inside(&element(), path + "[]", rows),
        Shape::Object(level) => level.add_rows(&format!("{path}."), rows),
        _ => (),
    }
}

/// Are they the same but for case? As Go's encoding/json folds names (`foldName`): two letters beyond ASCII have an ASCII letter as
/// their other case.
pub(crate) fn folds_to(one: &str, other: &str) -> bool {
    let fold = |letter: char| match letter {
        'ſ' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    };
    one.chars().map(fold).eq(other.chars().map(fold))
}
