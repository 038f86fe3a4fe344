//! What podwire's tools print about themselves beside `--help`: shell completions and a manual page, both from the declaration of
//! their arguments. For `cnitool` and the conformance suite's tools; no part of this crate's interface.
#![allow(missing_docs)]

use std::fmt::Write as _;

use clap::{ArgAction, Args, Command, CommandFactory};
use clap_complete::Shell;
use clap_mangen::Man;

/// The options that every tool has for this.
#[derive(Args, Debug)]
pub struct Documents {
    /// Print a script that completes the arguments in this shell
    #[arg(long, value_name = "SHELL", exclusive = true)]
    completions: Option<Shell>,
    /// Print the manual page; to read it: --man | man -l -
    #[arg(long, exclusive = true)]
    man: bool,
}

impl Documents {
    /// What is to be printed, if that was asked for. `notes` ends the manual page: paragraphs, of which one that begins with a line
    /// like `Environment:` opens a section.
    pub fn text<C: CommandFactory>(&self, notes: &str) -> Option<String> {
        let mut command = C::command();
        if let Some(shell) = self.completions {
            let name = command.get_name().to_owned();
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command, name, &mut script);
            return Some(String::from_utf8_lossy(&script).into_owned());
        }
        self.man.then(|| page(command, notes))
    }
}

/// The version with the commit, as an attribute of clap's takes it.
pub fn version(version: &'static str) -> &'static str {
    crate::version::of_program(version, crate::COMMIT).leak()
}

/// One page, with the subcommands as sections.
fn page(mut command: Command, notes: &str) -> String {
    command.build();
    let man = Man::new(command.clone());
    let mut page = rendered(|to| {
        man.render_title(to)?;
        man.render_name_section(to)?;
        man.render_synopsis_section(to)?;
        man.render_description_section(to)?;
        man.render_options_section(to)
    });
    for subcommand in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        section(&mut page, command.get_name(), subcommand);
    }
    for paragraph in notes.split("\n\n") {
        note(&mut page, paragraph);
    }
    page
}

/// A subcommand. The options that all of them have are in the first section already.
fn section(page: &mut String, tool: &str, subcommand: &Command) {
    let own = subcommand.clone().mut_args(|argument| {
        let is_shared =
            argument.is_global_set() || matches!(argument.get_action(), ArgAction::Help | ArgAction::HelpLong);
        argument.hide(is_shared)
    });
    let has_options = own.get_arguments().any(|argument| !argument.is_hide_set());
    let man = Man::new(own);
    let _ = writeln!(page, ".SH \"{} {}\"", tool.to_uppercase(), subcommand.get_name().to_uppercase());
    let parts = rendered(|to| {
        man.render_description_section(to)?;
        man.render_synopsis_section(to)?;
        if has_options { man.render_options_section(to) } else { Ok(()) }
    });
    page.push_str(&parts.replace(".SH DESCRIPTION\n", "").replace(".SH ", ".SS "));
}

/// What is indented keeps its lines.
fn note(page: &mut String, paragraph: &str) {
    let (heading, lines) = match paragraph.split_once('\n') {
        Some((first, rest)) if first.ends_with(':') && !first.starts_with(' ') => (Some(first), rest),
        _ => (None, paragraph),
    };
    match heading {
        Some(heading) => drop(writeln!(page, ".SH \"{}\"", heading.trim_end_matches(':').to_uppercase())),
        None => page.push_str(".PP\n"),
    }
    let mut as_it_is = false;
    for line in lines.lines() {
        if line.starts_with(' ') != as_it_is {
            as_it_is = !as_it_is;
            page.push_str(if as_it_is { ".nf\n" } else { ".fi\n" });
        }
        let escaped = line.replace('\\', "\\e").replace('-', "\\-");
        let guard = if escaped.starts_with(['.', '\'']) { "\\&" } else { "" };
        let _ = writeln!(page, "{guard}{escaped}");
    }
    if as_it_is {
        page.push_str(".fi\n");
    }
}

fn rendered(render: impl FnOnce(&mut Vec<u8>) -> std::io::Result<()>) -> String {
    let mut text = Vec::new();
    render(&mut text).expect("memory takes whatever is written");
    String::from_utf8(text).expect("clap_mangen writes UTF-8")
}
