//! `cnitool`: a network configuration carried out by hand, in a network namespace that exists already.
//!
//! Arguments, environment, container IDs, output and exit status are those of the containernetworking project's tool of
//! the same name, so that its documentation applies. What differs is written in `--help`: `gc` leaves living
//! attachments alone, what another program added is found too, a status that nobody can tell is not called a good one,
//! and things that may be left out have defaults.

mod attachment;
mod environment;
mod list;

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use libcni::error::{Error, code};
use libcni::runtime::{Cache, Cached, NetworkList, Parameters, Runtime};
use libcni::{Version, tool, version};

use attachment::{Found, Named};
use environment::{absolute, text, variable};

/// Ends `--help`, which is to fit a screen. The manual page has this too, and [`MORE`].
const HELP: &str = "\
Environment:
  NETCONFPATH      where network configurations are  [default: /etc/cni/net.d]
  CNI_PATH         where plugins are, separated by ':'  [default: /opt/cni/bin:/usr/lib/cni]
  CNI_CONTAINERID  the container's ID  [default: made of the namespace's path]
  CNI_IFNAME       the interface inside the namespace  [default: eth0]
  CNI_ARGS         generic arguments: KEY=VALUE;KEY=VALUE
  CAP_ARGS         capability arguments, a JSON object: {\"mac\": \"0a:58:0a:16:00:05\"}

Exit status:
  0  done; a del of what is not there too, which says so on stderr
  1  an error, which is on stderr; an add that failed may have left something: del removes it
  4  status: unknown, for the network's version is older than 1.1.0 and has no STATUS";

/// What only the manual page has.
const MORE: &str = "\
Cache:
check and del take CNI_ARGS and CAP_ARGS from the cache, as add got them, unless they are set.

What another program added (containerd, CRI-O, Podman): list shows it, if its cache is in --cache-dir.
check and del find it by its namespace, or by --container-id, which needs no namespace.

Example:
  mkdir -p /etc/cni/net.d
  cat > /etc/cni/net.d/10-demo.conflist <<END
  {\"cniVersion\": \"1.0.0\", \"name\": \"demo\", \"plugins\": [{
    \"type\": \"bridge\", \"bridge\": \"demo0\", \"isGateway\": true, \"ipMasq\": true,
    \"ipam\": {\"type\": \"host-local\", \"subnet\": \"10.22.0.0/24\", \"routes\": [{\"dst\": \"0.0.0.0/0\"}]}}]}
  END
  ip netns add blue
  cnitool add demo /run/netns/blue
  ip netns exec blue ping -c 1 10.22.0.1
  cnitool del demo /run/netns/blue
  ip netns del blue";

/// `status` of a network whose plugins can't be asked: what init scripts answer for an unknown status (LSB).
const UNKNOWN: u8 = 4;

/// Carries out a CNI network configuration, by hand, in a network namespace that exists already.
#[derive(Parser)]
#[command(name = "cnitool", version = tool::version(env!("CARGO_PKG_VERSION")), after_help = HELP, max_term_width = 100)]
#[command(disable_help_subcommand = true, arg_required_else_help = true)]
struct Cli {
    /// Where results are remembered between add, check and del
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/cni")]
    cache_dir: PathBuf,
    /// The interface inside the namespace; instead of CNI_IFNAME
    #[arg(short, long, global = true, value_name = "NAME")]
    ifname: Option<String>,
    /// The container's ID; instead of CNI_CONTAINERID
    #[arg(long, global = true, value_name = "ID")]
    container_id: Option<String>,
    #[command(flatten)]
    documents: tool::Documents,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Attach a namespace to a network; prints the result
    Add(Target),
    /// Is everything as add left it?
    Check(Added),
    /// Detach a namespace from a network; what is gone already is fine
    Del(Added),
    /// The attachments in the cache, of all programs that use it
    List {
        /// Only those of this network
        network: Option<String>,
        /// As a JSON document
        #[arg(long)]
        json: bool,
    },
    /// Could an add be served? Exit status 4: unknown
    Status(Network),
    /// Remove what attachments left whose namespace is gone
    ///
    /// Attachments in the cache whose namespace exists are valid; the others get a DEL, then the plugins get a GC with the
    /// valid ones. Attachments that are not in the cache (another --cache-dir, a runtime that keeps none) count as gone.
    Gc {
        #[command(flatten)]
        network: Network,
        /// Remove every attachment, also those of running containers
        #[arg(long)]
        all: bool,
    },
    /// Print the version of cnitool and the CNI spec versions that it speaks
    Version,
}

#[derive(Args)]
struct Target {
    /// The network's name, as it stands in its configuration
    network: String,
    /// Path of the network namespace: /run/netns/NAME
    netns: PathBuf,
}

#[derive(Args)]
struct Added {
    /// The network's name, as it stands in its configuration
    network: String,
    /// Path of the network namespace: /run/netns/NAME; may be left out beside a container's ID
    netns: Option<PathBuf>,
}

#[derive(Args)]
struct Network {
    /// The network's name, as it stands in its configuration
    network: String,
    /// Taken as upstream's cnitool does, and without a meaning: this is about the whole network
    #[arg(value_name = "NETNS")]
    _netns: Option<PathBuf>,
}

fn main() -> ExitCode {
    init_logging();
    let done = match Cli::try_parse() {
        Ok(cli) => cli.answer(),
        Err(error) => Ok(wrong_usage(&error)),
    };
    done.unwrap_or_else(|error| {
        eprintln!("cnitool: {error}");
        ExitCode::FAILURE
    })
}

/// Also what is printed because it was asked for, which is no failure.
fn wrong_usage(error: &clap::Error) -> ExitCode {
    let _ = error.print();
    if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// How a command ended that did not fail.
enum Outcome {
    /// Done; what it prints.
    Done(String),
    /// It could not find out, and has said why.
    Unknown,
}

impl From<()> for Outcome {
    fn from((): ()) -> Self {
        Outcome::Done(String::new())
    }
}

/// Logs go to stderr; `PODWIRE_LOG` sets the level, as for the plugins.
fn init_logging() {
    #[expect(clippy::disallowed_methods, reason = "the log level")]
    let level = std::env::var("PODWIRE_LOG").ok().and_then(|text| text.parse().ok());
    env_logger::Builder::new().filter_level(level.unwrap_or(log::LevelFilter::Warn)).format_timestamp(None).init();
}

fn print(output: &str) -> Result<(), Error> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(output.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| Error::io("stdout", error))
}

impl Cli {
    fn answer(&self) -> Result<ExitCode, Error> {
        if let Some(text) = self.documents.text::<Cli>(&format!("{HELP}\n\n{MORE}")) {
            return print(&text).map(|()| ExitCode::SUCCESS);
        }
        let Some(command) = &self.command else {
            let words = "a subcommand is missing; see cnitool --help";
            return Ok(wrong_usage(&Cli::command().error(ErrorKind::MissingSubcommand, words)));
        };
        match self.run(command)? {
            Outcome::Done(output) => print(&output).map(|()| ExitCode::SUCCESS),
            Outcome::Unknown => Ok(ExitCode::from(UNKNOWN)),
        }
    }

    fn run(&self, command: &Command) -> Result<Outcome, Error> {
        match command {
            Command::Add(target) => self.add(target).map(Outcome::Done),
            Command::Check(added) => self.check(added).map(Outcome::from),
            Command::Del(added) => self.del(added).map(Outcome::from),
            Command::List { network, json } => self.list(network.as_deref(), *json).map(Outcome::Done),
            Command::Status(network) => self.status(network),
            Command::Gc { network, all } => self.gc(network, *all).map(Outcome::from),
            Command::Version => Ok(Outcome::Done(format!(
                "cnitool {}\nCNI spec versions: {}\n",
                tool::version(env!("CARGO_PKG_VERSION")),
                version::list(&Version::ALL)
            ))),
        }
    }

    fn add(&self, target: &Target) -> Result<String, Error> {
        let runtime = self.runtime()?;
        let list = load(&runtime, &target.network)?;
        let parameters = self.named(Some(&target.netns))?.to_be_added()?.parameters()?;
        require_present(&target.netns, &parameters)?;
        warn_of_unused(&list, &parameters);
        let result = runtime.add(&list, &parameters).map_err(|mut error| {
            // A single plugin that refused its configuration or its environment touched nothing.
            let refused =
                [code::INCOMPATIBLE_VERSION, code::INVALID_ENVIRONMENT, code::DECODING_FAILURE, code::INVALID_CONFIG];
            if list.plugins.len() > 1 || !refused.contains(&error.code) {
                error
                    .details
                    .push_str("; if the namespace was not attached before, cnitool del removes what this made");
            }
            error
        })?;
        Ok(result.to_json_pretty(list.version)? + "\n")
    }

    fn check(&self, added: &Added) -> Result<(), Error> {
        let runtime = self.runtime()?;
        let list = load(&runtime, &added.network)?;
        let found = self.named(added.netns.as_deref())?.find(&runtime.cache, &list.name)?;
        if list.disable_check {
            eprintln!("cnitool: network {:?} has disableCheck: nothing was checked", list.name);
        }
        runtime.check(&list, &found.parameters()?).map_err(|mut error| {
            if found.cached.is_none() && error.code == code::CHECK_FAILED {
                error.details.push_str("; cnitool list shows the attachments that are there");
            }
            error
        })
    }

    fn del(&self, added: &Added) -> Result<(), Error> {
        let runtime = self.runtime()?;
        let named = self.named(added.netns.as_deref())?;
        let found = match named.find(&runtime.cache, &added.network) {
            // What can't be read of the cache does not keep a Pod from being removed.
            Err(error) if error.code != code::INVALID_ENVIRONMENT => {
                log::warn!("{error}");
                named.to_be_added()?
            }
            found => found?,
        };
        let list =
            load(&runtime, &added.network).or_else(|error| remembered(&runtime, found.cached.as_ref(), error))?;
        runtime.del(&list, &found.parameters()?)?;
        if found.cached.is_none() {
            say_not_found(&runtime, &list, &found);
        }
        Ok(())
    }

    fn list(&self, network: Option<&str>, json: bool) -> Result<String, Error> {
        let cache = self.runtime()?.cache;
        let (cached, unclear) = cache.all()?;
        unclear.iter().for_each(|error| log::warn!("passed over: {error}"));
        let wanted = cached.iter().filter(|cached| network.is_none_or(|name| cached.network == name));
        let rows: Vec<list::Row> = wanted.map(list::Row::from).collect();
        if json {
            return Ok(list::json(&rows));
        }
        if rows.is_empty() {
            let of = network.map(|name| format!(" to network {name:?}")).unwrap_or_default();
            eprintln!("cnitool: no attachments{of} in {}", cache.results().display());
            return Ok(String::new());
        }
        Ok(list::table(&rows, std::io::stdout().is_terminal()))
    }

    fn status(&self, network: &Network) -> Result<Outcome, Error> {
        let runtime = self.runtime()?;
        let list = load(&runtime, &network.network)?;
        if !list.version.has_gc_and_status() {
            eprintln!("cnitool: the status of network {:?} is unknown: {}", list.name, too_old(&list, "STATUS"));
            return Ok(Outcome::Unknown);
        }
        runtime.status(&list).map(Outcome::from)
    }

    fn gc(&self, network: &Network, all: bool) -> Result<(), Error> {
        let runtime = self.runtime()?;
        let list = load(&runtime, &network.network)?;
        if list.disable_gc {
            eprintln!("cnitool: network {:?} has disableGC: nothing was done", list.name);
            return Ok(());
        }
        if !list.version.has_gc_and_status() {
            let why = too_old(&list, "GC");
            eprintln!("cnitool: objects that no DEL removes may remain in network {:?}: {why}", list.name);
        }
        if all { runtime.gc(&list, &[]) } else { runtime.gc_by_namespace(&list) }
    }

    fn runtime(&self) -> Result<Runtime, Error> {
        let path = variable("CNI_PATH").unwrap_or_else(|| "/opt/cni/bin:/usr/lib/cni".into());
        let directories = std::env::split_paths(&path).filter(|entry| !entry.as_os_str().is_empty());
        let path = directories.map(|directory| absolute(&directory)).collect::<Result<_, _>>()?;
        Ok(Runtime { path, cache: Cache::new(absolute(&self.cache_dir)?) })
    }

    /// What the command line and the environment say of an attachment.
    fn named(&self, netns: Option<&Path>) -> Result<Named, Error> {
        let or_variable = |given: &Option<String>, name| given.clone().map_or_else(|| text(name), |id| Ok(Some(id)));
        Ok(Named {
            container_id: or_variable(&self.container_id, "CNI_CONTAINERID")?,
            ifname: or_variable(&self.ifname, "CNI_IFNAME")?.unwrap_or_else(|| "eth0".to_owned()),
            netns: netns.map(absolute).transpose()?,
        })
    }
}

/// The network, in a version that all its plugins speak.
fn load(runtime: &Runtime, name: &str) -> Result<NetworkList, Error> {
    let directory = variable("NETCONFPATH").unwrap_or_else(|| "/etc/cni/net.d".into());
    let mut list = NetworkList::load(Path::new(&directory), name)?;
    runtime.agree(&mut list);
    Ok(list)
}

/// The network as it was when the attachment was added: its configuration has gone since.
fn remembered(runtime: &Runtime, cached: Option<&Cached>, error: Error) -> Result<NetworkList, Error> {
    let Some(cached) = cached.filter(|cached| !cached.config.is_empty()) else { return Err(error) };
    log::warn!("{error}; using the configuration that add used");
    let mut list = NetworkList::from_bytes(&cached.config)?;
    runtime.agree(&mut list);
    Ok(list)
}

/// A capability argument reaches only who declares the capability: one that nobody gets is mostly a mistake.
fn warn_of_unused(list: &NetworkList, parameters: &Parameters) {
    let is_declared = |name: &String| list.plugins.iter().any(|plugin| plugin.capabilities.contains(name));
    for name in parameters.capability_args.keys().filter(|name| !is_declared(name)) {
        log::warn!(
            "CAP_ARGS: no plugin of network {:?} gets {name:?}: \"capabilities\": {{{name:?}: true}} is missing",
            list.name
        );
    }
}

/// A DEL of what is not there succeeds (spec section 2). A person who named the wrong namespace should know it.
fn say_not_found(runtime: &Runtime, list: &NetworkList, found: &Found) {
    let place = found.netns.as_deref().map(|netns| format!(" in {}", netns.display())).unwrap_or_default();
    eprintln!(
        "cnitool: no attachment to network {:?} was found{place}: {} is not in the cache, {}. The plugins were asked to \
         remove it all the same. cnitool list shows the attachments in the cache; --container-id and --ifname choose one, \
         --cache-dir another cache",
        list.name,
        found.id,
        runtime.cache.results().display()
    );
}

/// Why a network has no `command`, and where its version comes from.
fn too_old(list: &NetworkList, command: &str) -> String {
    let version = list.version;
    match list.versions.last() {
        Some(newest) if *newest > version => {
            format!("the newest version that all its plugins speak is {version}, and {command} came with 1.1.0")
        }
        _ => format!("its cniVersion is {version}, and {command} came with 1.1.0"),
    }
}

/// A name in place of a path is the usual mistake.
fn require_present(given: &Path, parameters: &Parameters) -> Result<(), Error> {
    let netns = parameters.netns.as_deref().unwrap_or(given);
    if netns.exists() {
        return Ok(());
    }
    let named = Path::new("/run/netns").join(given);
    let hint = match given.components().count() == 1 && named.exists() {
        true => format!("did you mean {}?", named.display()),
        false => "make one with: ip netns add NAME".to_owned(),
    };
    let details = format!("network namespace {} does not exist; {hint}", netns.display());
    Err(Error::new(code::INVALID_ENVIRONMENT, "invalid argument", details))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_names_an_attachment_has_defaults() {
        let cli = Cli::parse_from(["cnitool", "check", "net", "--container-id", "abc"]);
        let named = cli.named(Some(Path::new("/var/run//other/../netns/./testing/"))).unwrap();
        assert_eq!((named.container_id.as_deref(), named.ifname.as_str()), (Some("abc"), "eth0"));
        assert_eq!(named.netns.as_deref(), Some(Path::new("/var/run/netns/testing")));
    }
}
