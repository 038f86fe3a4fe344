//! `cni-conformance crash`: every point, or a sample, as a command.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::crash::network::Subject;
use crate::crash::{self, Harm, Options, Sample, trial::Verb};
use crate::lab::{self, leave};

/// Kill a plugin at every system call it makes, or let its calls fail, and look whether anything stays behind.
///
/// Needs root, strace, ip, bridge and nft. Works in network namespaces and a directory of its own. Without --config and --network:
/// every network below whose plugins are there.
#[derive(Debug, Args)]
pub struct CrashArgs {
    /// Directory of plugins; several may be given: what the first one has is harmed. Without it, where this program is.
    #[arg(long = "bin-dir", value_name = "DIR")]
    bin_dirs: Vec<PathBuf>,
    /// Only these: bridge, bridge-masq, bridge-nodes, bridge-many (of a Pod with more addresses than an alias has room for),
    /// bridge-portmap, bridge-vxlan, vxlan-overlay, routed-veth, routed-many, ptp, loopback, host-local.
    #[arg(long, value_delimiter = ',', value_name = "NETWORK,…", conflicts_with = "config")]
    network: Vec<String>,
    /// A configuration of your own, a plugin's (.conf) or a list (.conflist). A range of less than 32 addresses shows what is lost.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// With --config: a shell command that prepares each fresh node.
    #[arg(long, value_name = "COMMAND", requires = "config")]
    setup: Option<String>,
    /// Only during these commands: add, first-add, del, gc, sync.
    #[arg(long, value_delimiter = ',', value_name = "VERB,…", value_parser = verb)]
    during: Vec<Verb>,
    /// Only these harms: kill, outlive, fail.
    #[arg(long, value_delimiter = ',', value_name = "HARM,…", value_parser = harm)]
    harm: Vec<Harm>,
    /// Only at these system calls, by their names.
    #[arg(long, value_delimiter = ',', value_name = "CALL,…")]
    at: Vec<String>,
    /// So many trials at a time [default: two for each core].
    #[arg(long, value_name = "N")]
    jobs: Option<usize>,
    /// Not all points, but so many.
    #[arg(long, value_name = "COUNT")]
    sample: Option<usize>,
    /// Which sample: the same number, the same points. Without it, a number is drawn; the report names it.
    #[arg(long, requires = "sample", value_name = "NUMBER")]
    seed: Option<u64>,
}

fn verb(text: &str) -> Result<Verb, String> {
    Verb::ALL.into_iter().find(|verb| verb.name() == text).ok_or_else(|| "add, first-add, del, gc or sync".to_owned())
}

fn harm(text: &str) -> Result<Harm, String> {
    Harm::ALL.into_iter().find(|harm| harm.name() == text).ok_or_else(|| "kill, outlive or fail".to_owned())
}

/// A number that is another one in every run, short enough to be typed again.
fn drawn() -> u64 {
    RandomState::new().build_hasher().finish() % 1_000_000
}

/// Of the networks that are known, those whose plugins are there.
pub fn networks_in(bin_dirs: &[PathBuf]) -> Vec<Subject> {
    let all = Subject::all().into_iter();
    all.filter(|subject| subject.tested(bin_dirs).is_some_and(|tested| !tested.is_empty())).collect()
}

impl CrashArgs {
    /// Runs the command. Success: nothing was wrong after any harm.
    pub fn execute(self) -> Result<ExitCode, String> {
        let _files = leave::nothing_behind().map_err(|error| error.to_string())?;
        let options = self.options()?;
        let (start, bar) = (Instant::now(), progress_bar());
        let report = crash::run(&options, &|done, all, what| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
            bar.set_message(what.to_owned());
        });
        bar.finish_and_clear();
        let report = report.inspect_err(|_| leave::hold())?;
        println!("{report}, in {} s, {} at a time", start.elapsed().as_secs(), options.jobs);
        Ok(if report.failures().next().is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }

    fn options(self) -> Result<Options, String> {
        let absolute =
            |path: &PathBuf| path.canonicalize().map_err(|error| format!("--bin-dir {}: {error}", path.display()));
        let mut bin_dirs = self.bin_dirs.iter().map(absolute).collect::<Result<Vec<_>, _>>()?;
        if bin_dirs.is_empty() {
            bin_dirs.push(lab::bin_dir());
        }
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Options {
            networks: self.networks(&bin_dirs)?,
            bin_dirs,
            verbs: if self.during.is_empty() { Verb::ALL.to_vec() } else { self.during },
            harms: if self.harm.is_empty() { Harm::ALL.to_vec() } else { self.harm },
            calls: self.at,
            jobs: self.jobs.unwrap_or(2 * cores),
            sample: self.sample.map(|count| Sample { count, seed: self.seed.unwrap_or_else(drawn) }),
        })
    }

    fn networks(&self, bin_dirs: &[PathBuf]) -> Result<Vec<Subject>, String> {
        if let Some(path) = &self.config {
            return Ok(vec![Subject::load(path, self.setup.clone())?]);
        }
        let there = networks_in(bin_dirs);
        let named = |name: &String| {
            let found = there.iter().find(|subject| subject.name == *name).cloned();
            found.ok_or_else(|| format!("--network {name}: not known, or its plugins are not in {bin_dirs:?}"))
        };
        match self.network.as_slice() {
            [] if there.is_empty() => Err(format!("no plugins in {bin_dirs:?}: give --bin-dir")),
            [] => Ok(there),
            names => names.iter().map(named).collect(),
        }
    }
}

/// A bar on a terminal; elsewhere nothing, for it can't be taken back there.
fn progress_bar() -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg:.dim} {elapsed} of about {duration}");
    ProgressBar::with_draw_target(Some(1), target).with_style(style.expect("a template that is right"))
}
