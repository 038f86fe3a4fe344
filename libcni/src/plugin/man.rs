//! `--man`: the plugin's manual page of section 8, in the macros of man(7).

use std::fmt::Write as _;

use super::documents::{NO_KEYS, Subject};
use crate::error::code;
use crate::version::{self, Version};

/// What of the environment a plugin reads.
const ENVIRONMENT: [(&str, &str); 7] = [
    ("CNI_COMMAND", "ADD, DEL, CHECK, GC, STATUS or VERSION."),
    ("CNI_CONTAINERID", "The container's ID; for ADD, DEL and CHECK."),
    ("CNI_NETNS", "The path of the container's network namespace; DEL can do without."),
    ("CNI_IFNAME", "The name of the interface inside the container."),
    ("CNI_ARGS", "KEY=VALUE pairs, separated by semicolons."),
    ("CNI_PATH", "The directories in which an IPAM plugin is looked for, separated by colons."),
    ("PODWIRE_LOG", "How much is logged to stderr: error, warn (the default), info, debug or trace."),
];

/// The page.
pub fn page(subject: &Subject) -> String {
    let about = &subject.about;
    let name = text(about.name);
    let mut page = format!(
        ".TH {} 8 \"\" \"{} {}\" \"CNI plugins\"\n.SH NAME\n{name} \\- {}\n",
        text(&about.name.to_uppercase()),
        name,
        text(about.version),
        text(about.summary)
    );
    let _ = write!(page, ".SH SYNOPSIS\n\\fB{name}\\fR < \\fIconfiguration\\fR\n");
    for option in ["--help", "--man", "--schema", "--markdown", "--version"] {
        let _ = write!(page, ".br\n\\fB{name}\\fR \\fB{}\\fR\n", text(option));
    }
    if let Some(operator) = subject.operator {
        let _ = write!(
            page,
            ".br\n\\fB{name}\\fR \\fB{}\\fR \\fIFILE.conflist\\fR [\\fB{}\\fR]\n",
            text(operator.option),
            text("--dry-run")
        );
    }
    let _ = write!(
        page,
        ".SH DESCRIPTION\n{}.\n.PP\nA CNI plugin: a container runtime executes it with the variables below set and a network \
         configuration on stdin. It answers with one JSON document on stdout, or with none. \\fBcnitool\\fR does the same by \
         hand. It speaks versions {} of the CNI specification.\n",
        capitalised(about.summary),
        text(&version::list(&Version::ALL))
    );
    if let Some(operator) = subject.operator {
        let _ = write!(
            page,
            ".PP\n\\fB{}\\fR: {}. With \\fB{}\\fR it only says what it would do.\n",
            text(operator.option),
            text(operator.help),
            text("--dry-run")
        );
    }
    configuration(&mut page, subject);
    page.push_str(".SH ENVIRONMENT\n");
    for (variable, words) in ENVIRONMENT {
        entry(&mut page, variable, &text(words));
    }
    page.push_str(
        ".SH EXIT STATUS\n0 if the command succeeded. Otherwise 1, and stdout has an error document whose \\fBcode\\fR is one of:\n",
    );
    for (code, words) in code::ALL {
        entry(&mut page, &code.to_string(), &text(&words.trim().replace('`', "")));
    }
    let _ = write!(page, ".SH EXAMPLE\n.nf\n{}\n.fi\n", text(about.example.trim()));
    page
}

fn configuration(page: &mut String, subject: &Subject) {
    page.push_str(".SH CONFIGURATION\n");
    let rows = subject.keys.rows();
    if rows.is_empty() {
        let _ = writeln!(page, "{NO_KEYS}");
        return;
    }
    page.push_str(
        "Key names are taken in any case; the log says the proper one. [] stands for each element of a list.\n",
    );
    for row in rows {
        let words = format!("{}.\n.br\nDefault: {}", capitalised(row.help), text(&row.default));
        entry(page, &row.path, &words);
    }
}

/// A term, and what it means.
fn entry(page: &mut String, term: &str, words: &str) {
    let _ = write!(page, ".TP\n\\fB{}\\fR\n{words}\n", text(term));
}

/// As a sentence begins, unless it begins with a name.
fn capitalised(words: &str) -> String {
    let first_word = words.split([' ', ',', ':', '.']).next().unwrap_or_default();
    if first_word.chars().any(char::is_uppercase) {
        return text(words);
    }
    let (initial, rest) = words.split_at(words.chars().next().map_or(0, char::len_utf8));
    text(&(initial.to_uppercase() + rest))
}

/// Text as roff takes it: backslashes and hyphens are escaped, and no line begins with a control character.
fn text(plain: &str) -> String {
    let escaped = plain.replace('\\', "\\e").replace('-', "\\-");
    let lines = escaped.split('\n').map(|line| match line.starts_with(['.', '\'']) {
        true => format!("\\&{line}"),
        false => line.to_owned(),
    });
    lines.collect::<Vec<_>>().join("\n")
}
