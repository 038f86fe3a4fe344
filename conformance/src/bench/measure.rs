//! One execution of a program: how long, how much CPU, how much memory.
//!
//! Wall time runs from before the program is started until it has been waited for; a plugin's delegates fall within.
//! CPU time is the kernel's account of the process and of all it has waited for (getrusage(2)).
//!
//! Memory is measured apart, by [`weigh`]: the kernel counts what the starting process held as the started one's peak
//! (`setmax_mm_hiwater_rss` at exec), so a process that holds next to nothing has to start it.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use serde_json::Value;
use wait4::Wait4;

/// A program to execute, with nothing in its environment but what stands here.
#[derive(Clone, Debug)]
pub struct Call {
    /// The program.
    pub executable: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Its environment.
    pub variables: Vec<(&'static str, String)>,
    /// Its stdin: one pipe must hold it, 64 KiB.
    pub input: Vec<u8>,
}

/// What one execution took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Sample {
    /// From start to end.
    pub wall: Duration,
    /// User and system time, delegates included.
    pub cpu: Duration,
}

impl Sample {
    /// One after the other.
    pub fn and(self, next: Sample) -> Sample {
        Sample { wall: self.wall + next.wall, cpu: self.cpu + next.cpu }
    }
}

impl Call {
    /// Executes it, in the calling thread's namespace. `Err` says what failed, with what the program printed.
    pub fn execute(&self) -> Result<(Sample, Value), String> {
        let before = Instant::now();
        let (status, cpu, stdout) = self.run().map_err(|error| format!("{}: {error}", self.executable.display()))?;
        let wall = before.elapsed();
        if !status.success() {
            let printed = String::from_utf8_lossy(&stdout);
            return Err(format!("{} {:?}: {status}: {printed}", self.executable.display(), self.variables));
        }
        Ok((Sample { wall, cpu }, serde_json::from_slice(&stdout).unwrap_or(Value::Null)))
    }

    fn run(&self) -> std::io::Result<(std::process::ExitStatus, Duration, Vec<u8>)> {
        let mut child = self.command(&self.executable).args(&self.arguments).stdout(Stdio::piped()).spawn()?;
        // A program that does not read its configuration closes the pipe, which is fine.
        let _ = child.stdin.take().expect("piped").write_all(&self.input);
        let mut stdout = Vec::new();
        child.stdout.take().expect("piped").read_to_end(&mut stdout)?;
        let used = child.wait4()?;
        Ok((used.status, used.rusage.utime + used.rusage.stime, stdout))
    }

    /// Executes it once more by way of [`weigh`]; the peak of its memory, or its biggest delegate's, in KiB.
    pub fn peak(&self) -> Result<(u64, Value), String> {
        let failed = |error: std::io::Error| format!("weighing {}: {error}", self.executable.display());
        let this = std::env::current_exe().map_err(failed)?;
        let mut command = self.command(&this);
        command.arg(WEIGH).arg(&self.executable).args(&self.arguments).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(failed)?;
        let _ = child.stdin.take().expect("piped").write_all(&self.input);
        let output = child.wait_with_output().map_err(failed)?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stdout = String::from_utf8_lossy(&output.stdout);
        let said = stderr.lines().last().and_then(|line| line.parse().ok());
        match said.filter(|_| output.status.success()) {
            Some(peak) => Ok((peak, serde_json::from_str(&stdout).unwrap_or(Value::Null))),
            None => Err(format!("weighing {}: {stdout}{stderr}", self.executable.display())),
        }
    }

    fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::piped());
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        command
    }
}

/// The first argument that makes this program do nothing but [`weigh`].
pub const WEIGH: &str = "--weigh";

/// Executes the program that the arguments name with our own stdin and stdout, and prints the peak of its memory in
/// KiB on stderr. To be called before anything else, while this process is small.
pub fn weigh(mut arguments: impl Iterator<Item = std::ffi::OsString>) -> std::io::Result<bool> {
    let program = arguments.next().ok_or(std::io::ErrorKind::InvalidInput)?;
    let used = Command::new(program).args(arguments).spawn()?.wait4()?;
    eprintln!("{}", used.rusage.maxrss / 1024);
    Ok(used.status.success())
}

/// Does `job` in a thread of its own inside the namespace at `netns`.
pub fn inside<T: Send>(netns: &Path, job: impl FnOnce() -> T + Send) -> Result<T, String> {
    let enter = || -> Result<T, String> {
        let failed = |error: &dyn std::fmt::Display| format!("entering {}: {error}", netns.display());
        let file = File::open(netns).map_err(|error| failed(&error))?;
        setns(file, CloneFlags::CLONE_NEWNET).map_err(|error| failed(&error))?;
        Ok(job())
    };
    std::thread::scope(|scope| scope.spawn(enter).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
}
