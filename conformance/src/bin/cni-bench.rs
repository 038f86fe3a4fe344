//! `cni-bench`: two sets of plugins, measured side by side in namespaces of their own.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use conformance::bench::report::{Report, Row, binaries};
use conformance::bench::workload::{self, Workload};
use conformance::bench::{Set, across, chart, host_local, map, measure, run, wires};
use conformance::lab;
use libcni::tool;

const HELP: &str = "\
Needs root. Touches only network namespaces and temporary directories that it makes itself, but for
nftables' and iptables' lock files. Stops by itself, and leaves nothing behind when interrupted.

Both sets run in turn (A B A B) in one run: the ratios are what counts, for they hold on other
machines too. The floor is the netlink messages of the ADD or DEL, sent by this process, and two
executions of an empty program.

All of it, against Debian's containernetworking-plugins, takes some minutes:
  cni-bench --bin-dir /opt/cni/bin --against /usr/lib/cni --json bench.json --svg bench.svg";

/// Measures two sets of CNI plugins side by side.
#[derive(Parser)]
#[command(name = "cni-bench", version = tool::version(env!("CARGO_PKG_VERSION")), after_help = HELP, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    documents: tool::Documents,
    /// The plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    bin_dir: PathBuf,
    /// The plugins to compare with
    #[arg(long, value_name = "DIR", default_value = lab::REFERENCE_DIR)]
    against: PathBuf,
    /// Measure this configuration (a list, or one plugin's) instead of the workloads of our own; may be repeated
    #[arg(long, value_name = "FILE")]
    config: Vec<PathBuf>,
    /// Pods in one round
    #[arg(long, value_name = "N", default_value_t = 50)]
    pods: usize,
    /// How many at a time: in the workloads of many at a time (200 Pods), and of every --config
    #[arg(long, value_name = "K", default_value_t = 16)]
    parallel: usize,
    /// Addresses taken when host-local starts; may be repeated
    #[arg(long, value_name = "N", default_values_t = [0, 250, 4_000, 16_000, 60_000, host_local::ALL - 1])]
    reserved: Vec<usize>,
    /// Rounds of each set
    #[arg(long, value_name = "N", default_value_t = 2)]
    rounds: usize,
    /// Only the workloads whose name contains one of these
    #[arg(long, value_name = "WORDS")]
    only: Vec<String>,
    /// Where the numbers go, for programs
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the chart goes
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    // First of all: this execution measures memory, and must hold none itself.
    if std::env::args_os().nth(1).is_some_and(|first| first == measure::WEIGH) {
        return match measure::weigh(std::env::args_os().skip(2)) {
            Ok(true) => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        };
    }
    let cli = Cli::parse();
    if let Some(text) = cli.documents.text::<Cli>(HELP) {
        print!("{text}");
        return ExitCode::SUCCESS;
    }
    match bench(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            lab::leave::hold();
            eprintln!("cni-bench: {why}");
            ExitCode::FAILURE
        }
    }
}

fn bench(cli: &Cli) -> Result<(), String> {
    let _files = lab::leave::nothing_behind().map_err(|error| error.to_string())?;
    let sets = sets(cli)?;
    let empty = empty_program()?;
    let mut rows: Vec<Row> = Vec::new();
    for workload in workloads(cli)?.iter().filter(|workload| cli.wants(&workload.name)) {
        eprintln!("{} …", workload.name);
        rows.extend(run::run(workload, &sets, cli.rounds, &empty)?);
    }
    if cli.config.is_empty() && cli.wants("map of nodes") {
        eprintln!("map of nodes …");
        rows.extend(map::following(&sets)?);
    }
    let report = Report {
        labels: sets.each_ref().map(|set| set.label.clone()),
        rows,
        wires: measured_wires(cli, &sets)?,
        binaries: sets.iter().flat_map(|set| binaries(set, &NAMES)).collect(),
    };
    print!("{}", report.to_text());
    let written = [(&cli.json, report.to_json().to_string()), (&cli.svg, chart::svg(&report)?)];
    for (path, text) in written {
        if let Some(path) = path {
            std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
    }
    Ok(())
}

/// The binaries whose sizes are told.
const NAMES: [&str; 6] = ["bridge", "routed-veth", "ptp", "vxlan-overlay", "host-local", "loopback"];

impl Cli {
    fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|words| name.contains(words.as_str()))
    }
}

fn sets(cli: &Cli) -> Result<[Set; 2], String> {
    let absolute = |path: &Path| path.canonicalize().map_err(|error| format!("{}: {error}", path.display()));
    let (ours, theirs) = (absolute(&cli.bin_dir)?, absolute(&cli.against)?);
    let set = |label: &str, own: &PathBuf, other: &PathBuf| Set {
        label: format!("{label} ({})", own.display()),
        directory: own.clone(),
        path: vec![own.clone(), other.clone()],
    };
    Ok([set("A", &ours, &theirs), set("B", &theirs, &ours)])
}

/// cargo and install.sh put it beside this program.
fn empty_program() -> Result<PathBuf, String> {
    let path = lab::bin_dir().join("cni-bench-empty");
    if path.is_file() { Ok(path) } else { Err(format!("{}: not there; it comes with cni-bench", path.display())) }
}

fn workloads(cli: &Cli) -> Result<Vec<Workload>, String> {
    if !cli.config.is_empty() {
        let read = |path: &PathBuf| {
            let name = path.display().to_string();
            let text = std::fs::read_to_string(path).map_err(|error| format!("{name}: {error}"))?;
            let workload = workload::from_file(&name, &text, cli.pods)?;
            Ok(Workload { parallel: cli.parallel, ..workload })
        };
        return cli.config.iter().map(read).collect();
    }
    let mut all = workload::wiring(cli.pods, cli.parallel);
    all.extend(host_local::workloads(&cli.reserved, cli.pods));
    all.extend(workload::crowd());
    all.extend(map::workloads(cli.pods));
    Ok(all)
}

/// Throughput, of the wirings that are asked for.
fn measured_wires(cli: &Cli, sets: &[Set; 2]) -> Result<Vec<wires::Wire>, String> {
    let mut measured = Vec::new();
    if !cli.config.is_empty() {
        return Ok(measured);
    }
    let rounds = cli.rounds * wires::TIMES;
    for (workload, by_hand) in workload::wires() {
        if cli.wants(&workload.name) {
            eprintln!("{} …", workload.name);
            match wires::run(&workload, sets, by_hand, rounds) {
                Ok(wires) => measured.extend(wires),
                Err(why) => eprintln!("{} is not measured: {why}", workload.name),
            }
        }
    }
    for wire in across::all() {
        if cli.wants(wire.name) {
            eprintln!("{} …", wire.name);
            match wire.run(sets, rounds) {
                Ok(wires) => measured.extend(wires),
                Err(why) => eprintln!("{} is not measured: {why}", wire.name),
            }
        }
    }
    Ok(measured)
}
