//! A complete plugin. Behind another, it names Pods: one hosts file for each, as dnsmasq's `--hostsdir` reads them.
use libcni::{About, Attachment, AttachmentId, CniResult, Configuration, Error, Kind, Plugin, Request, code};
use std::{collections::HashSet, fs, path::Path, path::PathBuf};

#[derive(Configuration)]
struct Hosts {
    /// Where each network gets a directory.
    #[key(default = PathBuf::from("/run/cni-hosts"))]
    dir: PathBuf,
}
/// DEL and GC have to work whatever has become of the configuration: what does not parse is the default there.
fn directory(request: &Request) -> PathBuf {
    request.config.read::<Hosts>().unwrap_or_default().dir.join(&request.config.name)
}
fn file(request: &Request, id: &AttachmentId) -> PathBuf {
    directory(request).join(format!("{},{}", id.container_id, id.ifname))
}
fn wanted(request: &Request, pod: &Attachment) -> Result<(String, CniResult), Error> {
    let result = request.config.required_prev_result()?;
    let name = request.invocation.args()?.remove("K8S_POD_NAME").unwrap_or(pod.id.container_id.clone());
    Ok((result.ips.iter().map(|ip| format!("{} {name}\n", ip.address.ip())).collect(), result))
}
fn remove(file: &Path) -> Result<(), Error> {
    if file.exists() { fs::remove_file(file).map_err(|error| Error::io(file.display(), error)) } else { Ok(()) }
}
impl Plugin for Hosts {
    type Config = Hosts;
    const KIND: Kind = Kind::Interface;
    const ABOUT: About = About {
        name: "hosts",
        version: env!("CARGO_PKG_VERSION"),
        summary: "names Pods in hosts files.",
        example: r#"{"cniVersion": "1.1.0", "name": "net", "plugins": [{"type": "bridge"}, {"type": "hosts"}]}"#,
    };
    fn add(request: &Request, _: Hosts, pod: &Attachment) -> Result<CniResult, Error> {
        let (lines, result) = wanted(request, pod)?;
        let written = fs::create_dir_all(directory(request)).and_then(|()| fs::write(file(request, &pod.id), lines));
        written.map(|()| result).map_err(|error| Error::io("dir", error))
    }
    fn check(request: &Request, _: Hosts, pod: &Attachment) -> Result<(), Error> {
        let (text, known) = (fs::read_to_string(file(request, &pod.id)).unwrap_or_default(), wanted(request, pod)?.0);
        let same = !text.is_empty() && text.lines().all(|line| known.contains(line)); // plugins behind may add some
        same.then_some(()).ok_or_else(|| Error::check(format!("the hosts file of {} is missing or changed", pod.id)))
    }
    fn del(request: &Request, pod: &Attachment) -> Result<(), Error> {
        remove(&file(request, &pod.id))
    }
    fn gc(request: &Request, valid: &[AttachmentId]) -> Result<(), Error> {
        let valid: HashSet<PathBuf> = valid.iter().map(|id| file(request, id)).collect();
        let files = fs::read_dir(directory(request)).into_iter().flatten().flatten().map(|entry| entry.path());
        Error::all(files.filter(|file| !valid.contains(file)).filter_map(|file| remove(&file).err()).collect())
    }
    fn status(request: &Request, _: Hosts) -> Result<(), Error> {
        fs::create_dir_all(directory(request)).map_err(|error| Error::new(code::UNAVAILABLE, "dir", error.to_string()))
    }
}
fn main() -> std::process::ExitCode {
    libcni::plugin::main::<Hosts>()
}
