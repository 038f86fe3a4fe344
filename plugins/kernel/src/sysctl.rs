//! Settings under /proc/sys.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::PathBuf;

use crate::error::{Error, Result};
use crate::kernel::{At, Kernel, changed};
use crate::plan::{Changes, Made, Object};

/// Settings in one namespace, made together: entering a namespace costs more than writing a file.
///
/// A Pod's interface is new and has the kernel's defaults, so its settings are written at once; the node's are read
/// first, for they stand already but for the first Pod, and writing some of them again makes the kernel go over every
/// interface.
///
/// Nothing removes them: a Pod's settings go with its interface, and the node's are shared.
#[derive(Clone, Debug)]
pub struct Sysctls {
    /// Where.
    pub at: At,
    /// Which.
    pub settings: Vec<Setting>,
}

/// One setting.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Its path below /proc/sys: `net/ipv4/conf/eth0/arp_notify`.
    pub key: String,
    /// What it should be.
    pub value: &'static str,
    /// A kernel without it does without it (IPv6 not compiled in).
    pub optional: bool,
}

impl Setting {
    /// A setting that must be there.
    pub fn new(key: impl Into<String>, value: &'static str) -> Self {
        Setting { key: key.into(), value, optional: false }
    }

    /// A setting that a kernel may lack.
    pub fn if_there(key: impl Into<String>, value: &'static str) -> Self {
        Setting { optional: true, ..Setting::new(key, value) }
    }

    /// IPv6 on that link, whatever `default` said when the link was made.
    pub fn ipv6_on(link: &str) -> Self {
        Setting::new(ipv6_switch(link), "0")
    }

    fn is_ipv6_switch(&self) -> bool {
        self.key.ends_with("/disable_ipv6") && self.value == "0"
    }

    fn ensure(&self) -> Result<bool> {
        match read(&self.key) {
            Ok(value) if value == self.value => Ok(false),
            Ok(_) => {
                write(&self.key, self.value)?;
                if self.is_ipv6_switch() {
                    warn_of_ipv6_off();
                }
                Ok(true)
            }
            Err(error) => self.forgive(error).map(|()| false),
        }
    }

    /// Writes without reading first. Where /proc/sys can't be written, what stands there already is fine.
    fn ensure_new(&self) -> Result<()> {
        let Err(error) = write(&self.key, self.value) else { return Ok(()) };
        match read(&self.key) {
            Ok(value) if value == self.value => Ok(()),
            _ => self.forgive(error),
        }
    }

    fn check(&self) -> Result<()> {
        match read(&self.key) {
            Ok(value) if value == self.value => Ok(()),
            Ok(value) => Err(changed(format!("/proc/sys/{} is {value}, not {}", self.key, self.value))),
            Err(error) => self.forgive(error),
        }
    }

    fn forgive(&self, error: Error) -> Result<()> {
        match error {
            Error::File { source, .. } if self.optional && source.kind() == std::io::ErrorKind::NotFound => Ok(()),
            other => Err(other),
        }
    }
}

impl Object for Sysctls {
    fn ensure(&self, kernel: &Kernel) -> Result<Made> {
        let mut changes = Changes::default();
        let mut ensure = |setting: &Setting| match self.at {
            At::Host => setting.ensure().map(|is_set| changes.set += usize::from(is_set)),
            At::Pod => setting.ensure_new(),
        };
        kernel.inside(self.at, || self.settings.iter().try_for_each(&mut ensure))??;
        Ok(changes.into())
    }

    fn check(&self, kernel: &Kernel) -> Result<()> {
        kernel.inside(self.at, || self.settings.iter().try_for_each(Setting::check))?
    }
}

/// Forwarding between interfaces, which makes a node a router.
///
/// Switching IPv6 forwarding on makes the kernel ignore router advertisements on every interface whose `accept_ra` is 1:
/// the node would lose its own default route. So those are set to 2 ("also while forwarding") first.
#[derive(Clone, Debug)]
pub struct Forwarding {
    /// For IPv4?
    pub ipv4: bool,
    /// For IPv6?
    pub ipv6: bool,
    /// What to do where forwarding can't be switched on, for the error.
    pub advice: &'static str,
}

/// Does the node forward packets of that family? A kernel without the family has none to forward.
pub fn is_forwarding(ipv4: bool) -> bool {
    read(if ipv4 { FORWARD_4 } else { FORWARD_6 }).is_ok_and(|value| value == "1")
}

const FORWARD_4: &str = "net/ipv4/ip_forward";
const FORWARD_6: &str = "net/ipv6/conf/all/forwarding";

impl Forwarding {
    fn settings(&self) -> impl Iterator<Item = Setting> {
        [(self.ipv4, FORWARD_4), (self.ipv6, FORWARD_6)]
            .into_iter()
            .filter(|(wanted, _)| *wanted)
            .map(|(_, key)| Setting::new(key, "1"))
    }
}

impl Object for Forwarding {
    fn ensure(&self, _kernel: &Kernel) -> Result<Made> {
        let mut changes = Changes::default();
        for setting in self.settings() {
            if setting.key == FORWARD_6 && read(FORWARD_6)? != "1" {
                keep_accepting_router_advertisements()?;
            }
            let is_set = setting.ensure().map_err(|error| with_advice(error, &setting, self.advice))?;
            changes.set += usize::from(is_set);
        }
        Ok(changes.into())
    }

    fn check(&self, _kernel: &Kernel) -> Result<()> {
        self.settings().try_for_each(|setting| setting.check())
    }

    fn possible(&self, _kernel: &Kernel) -> Result<()> {
        self.settings().try_for_each(|setting| read(&setting.key).map(drop))
    }
}

/// Forwarding is off and must stay so, by policy or because /proc/sys can't be written here.
fn with_advice(error: Error, setting: &Setting, advice: &str) -> Error {
    let Error::File { path, source } = error else { return error };
    let name = spoken(&setting.key);
    let why = format!("{source}; Pods are routed by the node: have {name}=1 set (sysctl){advice}");
    Error::File { path, source: std::io::Error::new(source.kind(), why) }
}

/// Warns if IPv6 is switched off on all interfaces of the node: one on which it was switched on again leads nowhere.
pub fn warn_of_ipv6_off() {
    if read("net/ipv6/conf/all/disable_ipv6").is_ok_and(|value| value == "1") {
        log::warn!(
            "net.ipv6.conf.all.disable_ipv6 is 1 on the node: Pods reach nothing beyond this node by IPv6 unless it was switched \
             on for each interface on the way; set it to 0 (sysctl), or do without IPv6 ranges"
        );
    }
}

/// The setting that switches IPv6 off on a link.
pub(crate) fn ipv6_switch(link: &str) -> String {
    format!("net/ipv6/conf/{link}/disable_ipv6")
}

/// Is IPv6 switched off on that link?
pub(crate) fn ipv6_is_off(kernel: &Kernel, at: At, link: &str) -> bool {
    let is_off = || read(&ipv6_switch(link)).is_ok_and(|value| value == "1");
    kernel.inside(at, is_off).unwrap_or(false)
}

/// A setting's name as people write it: with dots, unless a name in it has one.
pub(crate) fn spoken(key: &str) -> String {
    if key.contains('.') { key.to_owned() } else { key.replace('/', ".") }
}

/// On every interface; "all" and "default" are no interfaces, and new ones are not to start with 2.
fn keep_accepting_router_advertisements() -> Result<()> {
    const DIRECTORY: &str = "/proc/sys/net/ipv6/conf";
    let entries = std::fs::read_dir(DIRECTORY).map_err(Error::file(DIRECTORY))?;
    for entry in entries {
        let name = entry.map_err(Error::file(DIRECTORY))?.file_name().to_string_lossy().into_owned();
        let key = format!("net/ipv6/conf/{name}/accept_ra");
        // An interface may go while we look.
        if !matches!(name.as_str(), "all" | "default") && read(&key).is_ok_and(|value| value == "1") {
            let _ = write(&key, "2").inspect_err(|error| log::warn!("{error}"));
        }
    }
    Ok(())
}

/// The setting's value, without the final newline.
pub fn read(key: &str) -> Result<String> {
    let path = path(key);
    // A setting is a few bytes long, and whole in one read.
    let mut bytes = [0; 256];
    let length = File::open(&path).and_then(|mut file| file.read(&mut bytes)).map_err(Error::file(path))?;
    Ok(String::from_utf8_lossy(&bytes[..length]).trim_end().to_owned())
}

fn write(key: &str, value: &str) -> Result<()> {
    let path = path(key);
    // Not std::fs::write: asked to create what is not there, /proc refuses with EACCES.
    let written = OpenOptions::new().write(true).open(&path).and_then(|mut file| file.write_all(value.as_bytes()));
    written.map_err(Error::file(path))
}

fn path(key: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(key)
}
