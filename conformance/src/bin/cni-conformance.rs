//! `cni-conformance`: does a CNI plugin keep the specification, clause by clause?

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};

use conformance::crash::command::CrashArgs;
use conformance::suite::clause::{Kind, Level, Verdict};
use conformance::suite::config::Network;
use conformance::suite::report::{html, junit, text};
use conformance::suite::runner::{self, Options, Run};
use conformance::suite::trials;
use libcni::{Version, tool};

const AFTER_HELP: &str = "\
Examples:
  cni-conformance run --bin-dir /opt/cni/bin --config bridge.conflist
  cni-conformance run --bin-dir . --config my.conf --versions 0.4.0,1.1.0 --strict
  cni-conformance run --bin-dir . --config my.conf --report json --out my.json
  cni-conformance report my.json theirs.json --out comparison.html
  cni-conformance explain del.repeated

Needs root. Every trial runs in mount and network namespaces of its own, and changes nothing outside
of them. It uses the programs ip, bridge, tc (iproute2), nsenter (util-linux) and, where installed,
nft and iptables.

Exit status:
  0  every must is kept (with --strict every should too)
  1  one is broken
  2  wrong usage
  3  the suite could not find out about a clause";

#[derive(Parser)]
#[command(version = tool::version(env!("CARGO_PKG_VERSION")), after_help = AFTER_HELP, max_term_width = 100)]
#[command(about = "Does a CNI plugin keep the specification, clause by clause?", arg_required_else_help = true)]
struct Cli {
    #[command(flatten)]
    documents: tool::Documents,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Run the suite over a plugin or a chain of plugins.
    Run(Box<RunArgs>),
    /// Compare runs (reports in JSON) on one page of HTML.
    Report {
        /// Reports of `run --report json`: each is a column.
        #[arg(required = true)]
        runs: Vec<PathBuf>,
        /// The page; without it, stdout.
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print every clause: its level, its ID, its section.
    List,
    /// Print one clause (or all of `check`, say): the specification's words, and how it is tested.
    Explain {
        /// An ID of `list`, or its beginning up to a dot.
        id: String,
    },
    /// Kill a plugin at every system call, or let its calls fail, and look whether anything stays behind.
    Crash(CrashArgs),
    /// One trial, for `run`: a job on stdin, its findings on stdout.
    #[command(hide = true)]
    Worker,
}

#[derive(Args)]
struct RunArgs {
    /// Where the plugins and their delegates are; may be given more than once, as CNI_PATH may name more than one.
    #[arg(long, required = true, value_name = "DIR")]
    bin_dir: Vec<PathBuf>,
    /// The configuration: one plugin (.conf) or a list (.conflist). Of a list the whole chain is under test. A range of 40
    /// to 300 addresses lets the suite fill it.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Of a list, test this plugin alone, chained onto those before it.
    #[arg(long, value_name = "TYPE")]
    plugin: Option<String>,
    /// The versions to speak [default: the configuration's newest, or the newest that the plugin claims].
    #[arg(long, value_delimiter = ',', value_name = "VERSIONS")]
    versions: Vec<Version>,
    /// What the plugin is [default: found out by an ADD].
    #[arg(long)]
    kind: Option<KindArg>,
    /// Test these clauses only: IDs, or their beginnings up to a dot (`check`).
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    only: Vec<String>,
    /// Leave these clauses out.
    #[arg(long, value_delimiter = ',', value_name = "IDS")]
    skip: Vec<String>,
    /// A shell command that prepares each fresh node, before anything else: a device or a file that the configuration names.
    #[arg(long, value_name = "COMMAND")]
    setup: Option<String>,
    /// The form of the report.
    #[arg(long, default_value = "text")]
    report: Form,
    /// Write the report there; a summary still goes to stdout.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// The subject's name in reports [default: the types of the plugins under test].
    #[arg(long)]
    label: Option<String>,
    /// A "should" that is not kept fails too.
    #[arg(long)]
    strict: bool,
    /// How many trials run at the same time [default: two for each core].
    #[arg(long, value_name = "NUMBER")]
    jobs: Option<usize>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Form {
    Text,
    Json,
    Junit,
    Html,
}

#[derive(Clone, Copy, ValueEnum)]
enum KindArg {
    Interface,
    Loopback,
    Chained,
    Ipam,
    Chain,
}

impl From<KindArg> for Kind {
    fn from(kind: KindArg) -> Kind {
        match kind {
            KindArg::Interface => Kind::Interface,
            KindArg::Loopback => Kind::Loopback,
            KindArg::Chained => Kind::Chained,
            KindArg::Ipam => Kind::Ipam,
            KindArg::Chain => Kind::Chain,
        }
    }
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Some(text) = cli.documents.text::<Cli>(AFTER_HELP) {
        let _ = print(&text);
        return ExitCode::SUCCESS;
    }
    let Some(command) = cli.command else {
        Cli::command()
            .error(ErrorKind::MissingSubcommand, "a subcommand is missing; see cni-conformance --help")
            .exit();
    };
    let done = match command {
        Command::Run(arguments) => run(&arguments),
        Command::Report { runs, out } => compare(&runs, out.as_deref()),
        Command::List => {
            list();
            Ok(ExitCode::SUCCESS)
        }
        Command::Explain { id } => explain(&id),
        Command::Crash(arguments) => arguments.execute(),
        Command::Worker => runner::worker().map(|answer| {
            println!("{answer}");
            ExitCode::SUCCESS
        }),
    };
    done.unwrap_or_else(|error| {
        eprintln!("cni-conformance: {error}");
        ExitCode::from(2)
    })
}

fn run(arguments: &RunArgs) -> Result<ExitCode, String> {
    let network = Network::load(&arguments.config, arguments.plugin.as_deref())?;
    let bin_dirs = arguments.bin_dir.iter().map(|path| absolute(path)).collect::<Result<Vec<_>, _>>()?;
    for id in arguments.only.iter().chain(&arguments.skip) {
        known(id)?;
    }
    if let Some(path) = &arguments.out {
        // Better told now than after the run.
        std::fs::File::create(path).map_err(|error| format!("--out {}: {error}", path.display()))?;
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let options = Options {
        label: arguments.label.clone().unwrap_or_else(|| network.title()),
        network,
        bin_dirs,
        versions: arguments.versions.clone(),
        kind: arguments.kind.map(Kind::from),
        setup: arguments.setup.clone(),
        only: arguments.only.clone(),
        skip: arguments.skip.clone(),
        jobs: arguments.jobs.unwrap_or(2 * cores),
    };
    let bar = progress_bar();
    let run = runner::run(&options, &|done, all, trial| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
        bar.set_message(trial.to_owned());
    });
    bar.finish_and_clear();
    let run = run?;
    write_report(&run, arguments)?;
    Ok(exit_status(&run, arguments.strict))
}

fn absolute(path: &Path) -> Result<PathBuf, String> {
    path.canonicalize().map_err(|error| format!("--bin-dir {}: {error}", path.display()))
}

fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg:.dim}").expect("a template that is right");
    let bar = if std::io::stderr().is_terminal() { ProgressBar::new(1) } else { ProgressBar::hidden() };
    bar.with_style(style)
}

fn write_report(run: &Run, arguments: &RunArgs) -> Result<(), String> {
    let report = match arguments.report {
        Form::Text => text::report(run),
        Form::Json => serde_json::to_string_pretty(run).map_err(|error| error.to_string())? + "\n",
        Form::Junit => junit::report(run, arguments.strict)?,
        Form::Html => html::report(std::slice::from_ref(run)),
    };
    match &arguments.out {
        None => print(&report),
        Some(path) => {
            write_file(path, &report)?;
            print(&text::summary(run))
        }
    }
}

/// A file is no terminal: it gets no colours.
fn write_file(path: &Path, report: &str) -> Result<(), String> {
    let plain = anstream::adapter::strip_str(report).to_string();
    std::fs::write(path, plain).map_err(|error| format!("--out {}: {error}", path.display()))
}

/// To stdout, with colours if it is a terminal that wants them. A reader that has gone away is no error.
fn print(text: &str) -> Result<(), String> {
    match anstream::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("stdout: {error}")),
        _ => Ok(()),
    }
}

fn exit_status(run: &Run, strict: bool) -> ExitCode {
    let broken = |level| run.count(level, |verdict| matches!(verdict, Verdict::Failed { .. }));
    if broken(Level::Must) > 0 || (strict && broken(Level::Should) > 0) {
        ExitCode::from(1)
    } else if run.has_errors() {
        ExitCode::from(3)
    } else {
        ExitCode::SUCCESS
    }
}

fn compare(runs: &[PathBuf], out: Option<&Path>) -> Result<ExitCode, String> {
    let read = |path: &PathBuf| -> Result<Run, String> {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{}: not a report in JSON: {error}", path.display()))
    };
    let mut read = runs.iter().map(read).collect::<Result<Vec<_>, _>>()?;
    tell_apart(&mut read, runs);
    let page = html::report(&read);
    match out {
        Some(path) => write_file(path, &page)?,
        None => print(&page)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Two runs of the same name are columns by the names of their files.
fn tell_apart(read: &mut [Run], files: &[PathBuf]) {
    let names: Vec<String> = read.iter().map(|run| run.subject.clone()).collect();
    for (run, file) in read.iter_mut().zip(files) {
        if names.iter().filter(|name| **name == run.subject).count() > 1 {
            let stem = file.file_stem().unwrap_or_default().to_string_lossy();
            run.subject = format!("{} ({stem})", run.subject);
        }
    }
}

fn list() {
    for clause in trials::clauses() {
        let _ = print(&format!("{:<6}  {:<40}  {}\n", clause.level.as_str(), clause.id, clause.section));
    }
}

/// Does an ID, or the beginning of one up to a dot, name a clause?
fn known(id: &str) -> Result<(), String> {
    match trials::clauses().any(|clause| names(id, clause.id)) {
        true => Ok(()),
        false => Err(format!("no clause {id:?}: see `cni-conformance list`")),
    }
}

fn names(pattern: &str, id: &str) -> bool {
    id == pattern || id.starts_with(&format!("{}.", pattern.trim_end_matches('.')))
}

fn explain(id: &str) -> Result<ExitCode, String> {
    known(id)?;
    for clause in trials::clauses().filter(|clause| names(id, clause.id)) {
        let kinds = clause.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>().join(", ");
        let delegating = if clause.delegating { "; with a delegate (ipam.type) only" } else { "" };
        print(&format!(
            "{id} ({level})\n  section   {section}\n  the spec  {sentence}\n  tested    {how}\n  of        {kinds}\n  since     {since}{delegating}\n\n",
            id = clause.id,
            level = clause.level.as_str(),
            section = clause.section,
            sentence = clause.sentence,
            how = clause.how,
            since = clause.since,
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}
