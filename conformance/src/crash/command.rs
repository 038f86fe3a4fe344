//! `cni-conformance crash`: every point, or a sample, as a command.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use crate::crash::{self, Harm, Options, Sample, trial::Verb};
use crate::lab;

/// Kill a plugin at every system call it makes, or let its calls fail, and look whether anything stays behind.
///
/// Needs root, strace, ip and nft. Works in network namespaces and a directory of its own.
#[derive(Debug, Args)]
pub struct CrashArgs {
    /// Directory of plugins; several may be given. Without it, where this program is.
    #[arg(long = "bin-dir", value_name = "DIR")]
    bin_dirs: Vec<PathBuf>,
    /// A plugin's configuration (one plugin's, not a list). Without it, bridge with host-local, dual-stack, masqueraded.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Only during these commands: add, first-add, del, gc.
    #[arg(long, value_delimiter = ',', value_name = "VERB,…", value_parser = verb)]
    during: Vec<Verb>,
    /// Only these harms: kill, outlive, fail.
    #[arg(long, value_delimiter = ',', value_name = "HARM,…", value_parser = harm)]
    harm: Vec<Harm>,
    /// So many trials at a time.
    #[arg(long, default_value_t = 2, value_name = "N")]
    jobs: usize,
    /// Not all points, but so many.
    #[arg(long, value_name = "COUNT")]
    sample: Option<usize>,
    /// Which sample: the same number, the same points. Without it, today's.
    #[arg(long, requires = "sample", value_name = "NUMBER")]
    seed: Option<u64>,
}

fn verb(text: &str) -> Result<Verb, String> {
    Verb::ALL.into_iter().find(|verb| verb.name() == text).ok_or_else(|| "add, first-add, del or gc".to_owned())
}

fn harm(text: &str) -> Result<Harm, String> {
    Harm::ALL.into_iter().find(|harm| harm.name() == text).ok_or_else(|| "kill, outlive or fail".to_owned())
}

/// A number that is another every day.
pub fn today() -> u64 {
    const DAY: u64 = 24 * 60 * 60;
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs() / DAY)
}

impl CrashArgs {
    /// Runs the command. Success: nothing was wrong after any harm.
    pub fn execute(self) -> ExitCode {
        let options = match self.options() {
            Ok(options) => options,
            Err(error) => {
                eprintln!("{error}");
                return ExitCode::from(2);
            }
        };
        let report = crash::run(&options);
        println!("{report}");
        if report.failures().next().is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    }

    fn options(self) -> Result<Options, String> {
        let config = match &self.config {
            Some(path) => read_config(path)?,
            None => crash::default_config(),
        };
        let absolute =
            |path: PathBuf| std::path::absolute(&path).map_err(|error| format!("{}: {error}", path.display()));
        let bin_dirs = self.bin_dirs.into_iter().map(absolute).collect::<Result<Vec<_>, _>>()?;
        let sample = self.sample.map(|count| Sample { count, seed: self.seed.unwrap_or_else(today) });
        Ok(Options {
            bin_dirs: if bin_dirs.is_empty() { vec![lab::bin_dir()] } else { bin_dirs },
            config,
            verbs: if self.during.is_empty() { Verb::ALL.to_vec() } else { self.during },
            harms: if self.harm.is_empty() { Harm::ALL.to_vec() } else { self.harm },
            jobs: self.jobs,
            sample,
        })
    }
}

fn read_config(path: &std::path::Path) -> Result<Value, String> {
    let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let bytes = std::fs::read(path).map_err(|error| wrong(&error))?;
    let config: Value = serde_json::from_slice(&bytes).map_err(|error| wrong(&error))?;
    match config["type"].as_str() {
        Some(_) => Ok(config),
        None => Err(wrong(&"no type: one plugin's configuration is wanted, not a list")),
    }
}
