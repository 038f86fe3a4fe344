//! `cnitool`: a network configuration carried out by hand, in a network namespace that exists already.
//!
//! Arguments, environment, container IDs, output and exit status are those of the containernetworking project's tool of
//! the same name, so that its documentation applies. What differs is written in `--help`: `gc` leaves living
//! attachments alone, and things that may be left out have defaults.

use std::ffi::OsString;
use std::io::Write;
use std::path::{Component, Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use libcni::error::{Error, code};
use libcni::runtime::{Cache, Cached, NetworkList, Parameters, Runtime};
use libcni::{AttachmentId, Version, version};
use serde_json::{Map, Value};
use sha2::{Digest, Sha512};

const HELP: &str = "\
Environment:
  NETCONFPATH  where network configurations are  [default: /etc/cni/net.d]
  CNI_PATH     where plugins are, separated by ':'  [default: /opt/cni/bin]
  CNI_IFNAME   the interface inside the namespace  [default: eth0]
  CNI_ARGS     generic arguments: KEY=VALUE;KEY=VALUE
  CAP_ARGS     capability arguments, a JSON object: {\"mac\": \"0a:58:0a:16:00:05\"}
check and del take the last two from the cache, as add got them, unless they are set.

By hand:
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
  ip netns del blue

Errors go to stderr, with exit status 1. An add that failed may have left something: del removes it.";

/// Carries out a CNI network configuration, by hand, in a network namespace that exists already.
#[derive(Parser)]
#[command(name = "cnitool", version, after_help = HELP, disable_help_subcommand = true)]
struct Cli {
    /// Where results are remembered between add, check and del
    #[arg(long, global = true, value_name = "DIR", default_value = "/var/lib/cni")]
    cache_dir: PathBuf,
    /// The interface inside the namespace; instead of CNI_IFNAME
    #[arg(short, long, global = true, value_name = "NAME")]
    ifname: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Attach a namespace to a network; prints the result
    Add(Target),
    /// Is everything as add left it?
    Check(Target),
    /// Detach a namespace from a network; what is gone already is fine
    Del(Target),
    /// Could an add be served?
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
struct Network {
    /// The network's name, as it stands in its configuration
    network: String,
    /// Taken as upstream's cnitool does, and without a meaning: this is about the whole network
    #[arg(value_name = "NETNS")]
    _netns: Option<PathBuf>,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    init_logging();
    match cli.run().and_then(|output| print(&output)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("cnitool: {error}");
            ExitCode::FAILURE
        }
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
    fn run(&self) -> Result<String, Error> {
        match &self.command {
            Command::Add(target) => self.add(target),
            Command::Check(target) => self.check(target).map(|()| String::new()),
            Command::Del(target) => self.del(target).map(|()| String::new()),
            Command::Status(network) => self.status(network).map(|()| String::new()),
            Command::Gc { network, all } => self.gc(network, *all).map(|()| String::new()),
            Command::Version => Ok(format!(
                "cnitool {}\nCNI spec versions: {}\n",
                env!("CARGO_PKG_VERSION"),
                version::list(&Version::ALL)
            )),
        }
    }

    fn add(&self, target: &Target) -> Result<String, Error> {
        let runtime = self.runtime()?;
        let list = load(&runtime, &target.network)?;
        let parameters = self.parameters(target, None)?;
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

    fn check(&self, target: &Target) -> Result<(), Error> {
        let runtime = self.runtime()?;
        let list = load(&runtime, &target.network)?;
        let cached = runtime.cache.get(&list.name, &self.id(target)?)?;
        runtime.check(&list, &self.parameters(target, cached.as_ref())?)
    }

    fn del(&self, target: &Target) -> Result<(), Error> {
        let runtime = self.runtime()?;
        // What can't be read of the cache does not keep a Pod from being removed.
        let cached = runtime.cache.get(&target.network, &self.id(target)?).unwrap_or_else(|error| {
            log::warn!("{error}");
            None
        });
        let list = load(&runtime, &target.network).or_else(|error| remembered(&runtime, cached.as_ref(), error))?;
        runtime.del(&list, &self.parameters(target, cached.as_ref())?)
    }

    fn status(&self, network: &Network) -> Result<(), Error> {
        let runtime = self.runtime()?;
        let list = load(&runtime, &network.network)?;
        note_if_old(&list, "STATUS", "no plugin was asked");
        runtime.status(&list)
    }

    fn gc(&self, network: &Network, all: bool) -> Result<(), Error> {
        let runtime = self.runtime()?;
        let list = load(&runtime, &network.network)?;
        if list.disable_gc {
            eprintln!("cnitool: network {:?} has disableGC: nothing was done", list.name);
            return Ok(());
        }
        note_if_old(&list, "GC", "what no DEL removes stays");
        if all { runtime.gc(&list, &[]) } else { runtime.gc_by_namespace(&list) }
    }

    fn runtime(&self) -> Result<Runtime, Error> {
        let path = variable("CNI_PATH").unwrap_or_else(|| "/opt/cni/bin".into());
        let directories = std::env::split_paths(&path).filter(|entry| !entry.as_os_str().is_empty());
        let path = directories.map(|directory| absolute(&directory)).collect::<Result<_, _>>()?;
        Ok(Runtime { path, cache: Cache::new(absolute(&self.cache_dir)?) })
    }

    /// Which attachment: the namespace's path tells the container.
    fn id(&self, target: &Target) -> Result<AttachmentId, Error> {
        let netns = absolute(&target.netns)?;
        let digest = Sha512::digest(netns.as_os_str().as_encoded_bytes());
        let hex: String = digest.iter().take(10).map(|byte| format!("{byte:02x}")).collect();
        let ifname = match &self.ifname {
            Some(name) => name.clone(),
            None => text("CNI_IFNAME")?.unwrap_or_else(|| "eth0".to_owned()),
        };
        Ok(AttachmentId { container_id: format!("cnitool-{hex}"), ifname })
    }

    /// The attachment; arguments that are not in the environment are those of its ADD.
    fn parameters(&self, target: &Target, cached: Option<&Cached>) -> Result<Parameters, Error> {
        let added = cached.map(|cached| cached.parameters.clone()).unwrap_or_default();
        Ok(Parameters {
            id: self.id(target)?,
            netns: Some(absolute(&target.netns)?),
            args: text("CNI_ARGS")?.map_or(Ok(added.args), |text| generic_arguments(&text))?,
            capability_args: text("CAP_ARGS")?.map_or(Ok(added.capability_args), |text| capability_arguments(&text))?,
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

fn note_if_old(list: &NetworkList, command: &str, so: &str) {
    if !list.version.has_gc_and_status() {
        let (name, version) = (&list.name, list.version);
        eprintln!("cnitool: network {name:?} speaks {version}, and {command} came with 1.1.0: {so}");
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
        true => format!("do you mean {}?", named.display()),
        false => "make one with: ip netns add NAME".to_owned(),
    };
    let details = format!("network namespace {} does not exist; {hint}", netns.display());
    Err(Error::new(code::INVALID_ENVIRONMENT, "invalid argument", details))
}

/// A variable; an empty one counts as absent.
#[expect(clippy::disallowed_methods, reason = "the command's own variables are in its help")]
fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

fn text(name: &str) -> Result<Option<String>, Error> {
    let Some(value) = variable(name) else { return Ok(None) };
    value.into_string().map(Some).map_err(|value| invalid(name, format!("{value:?} is not UTF-8")))
}

fn generic_arguments(text: &str) -> Result<Vec<(String, String)>, Error> {
    let pairs = text.split(';').filter(|pair| !pair.is_empty()).map(|pair| match pair.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(invalid("CNI_ARGS", format!("{pair:?} is not KEY=VALUE"))),
    });
    pairs.collect()
}

fn capability_arguments(text: &str) -> Result<Map<String, Value>, Error> {
    serde_json::from_str(text).map_err(|error| invalid("CAP_ARGS", format!("not a JSON object: {error}")))
}

fn invalid(name: &str, why: String) -> Error {
    Error::new(code::INVALID_ENVIRONMENT, "invalid environment", format!("{name}: {why}"))
}

/// `path` from the root, without `.`, `..` and doubled slashes: by its letters, as Go's `filepath.Abs` does it, for the
/// container ID depends on them.
fn absolute(path: &Path) -> Result<PathBuf, Error> {
    let joined = std::path::absolute(path).map_err(|error| Error::io(path.display(), error))?;
    let mut clean = PathBuf::new();
    for component in joined.components() {
        match component {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    Ok(clean)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_ids_are_upstreams() {
        let cli = Cli::parse_from(["cnitool", "add", "net", "/var/run/netns/testing"]);
        let id = |netns: &str| cli.id(&Target { network: "net".into(), netns: netns.into() }).unwrap().container_id;
        // printf /var/run/netns/testing | sha512sum | cut -c 1-20
        assert_eq!(id("/var/run/netns/testing"), "cnitool-77383ca0a0715733ca6f");
        assert_eq!(id("/var/run//other/../netns/./testing/"), "cnitool-77383ca0a0715733ca6f");
        assert_eq!(cli.id(&Target { network: "net".into(), netns: "x".into() }).unwrap().ifname, "eth0");
    }

    #[test]
    fn paths_are_cleaned_by_their_letters() {
        assert_eq!(absolute(Path::new("/a/../../b//c/.")).unwrap(), Path::new("/b/c"));
        assert_eq!(absolute(Path::new("x")).unwrap(), std::env::current_dir().unwrap().join("x"));
        assert!(absolute(Path::new("")).is_err());
    }

    #[test]
    fn arguments_are_pairs_and_capabilities_an_object() {
        let pairs = generic_arguments("IP=10.0.0.2;A=b=c;").unwrap();
        assert_eq!(pairs, [("IP".into(), "10.0.0.2".into()), ("A".into(), "b=c".into())]);
        assert!(generic_arguments("nonsense").unwrap_err().details.contains("CNI_ARGS"));
        assert!(capability_arguments("[1]").unwrap_err().details.contains("CAP_ARGS"));
        assert_eq!(capability_arguments(r#"{"mac":"x"}"#).unwrap()["mac"], "x");
    }

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
