//! Executing a plugin as a runtime does, or as no runtime should: environment and input are free.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use serde_json::Value;
use wait_timeout::ChildExt;

/// A plugin that has not answered by then hangs.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long one is waited for that has hung before, lest the suite take for ever.
pub const LITTLE_PATIENCE: Duration = Duration::from_secs(2);

/// One execution to be: what is in it can be changed at will.
#[derive(Clone, Debug)]
pub struct Call {
    /// The executable.
    pub program: PathBuf,
    /// The whole environment.
    pub env: BTreeMap<String, String>,
    /// stdin.
    pub input: Vec<u8>,
    /// Pause in the middle of stdin, as a slow runtime makes one.
    pub hesitate: bool,
}

impl Call {
    /// The same without a variable.
    #[must_use]
    pub fn without(mut self, variable: &str) -> Self {
        self.env.remove(variable);
        self
    }

    /// The same with a variable.
    #[must_use]
    pub fn with(mut self, variable: &str, value: impl Into<String>) -> Self {
        self.env.insert(variable.to_owned(), value.into());
        self
    }

    /// The same with another input.
    #[must_use]
    pub fn input(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.input = bytes.into();
        self
    }

    /// The same with the configuration edited.
    #[must_use]
    pub fn edit(mut self, edit: impl FnOnce(&mut Value)) -> Self {
        let mut config: Value = serde_json::from_slice(&self.input).expect("a configuration made here is JSON");
        edit(&mut config);
        self.input = config.to_string().into_bytes();
        self
    }

    /// `ADD bridge 00…01/eth0`.
    pub fn title(&self) -> String {
        let variable = |name: &str| self.env.get(name).map(String::as_str);
        let program = self.program.file_name().unwrap_or_default().to_string_lossy();
        let mut title = format!("{} {program}", variable("CNI_COMMAND").unwrap_or("(no command)"));
        if let Some(id) = variable("CNI_CONTAINERID") {
            let tail = id.len().saturating_sub(6);
            let short = if id.len() > 20 { format!("…{}", id.get(tail..).unwrap_or(id)) } else { id.to_owned() };
            title += &format!(" {short}/{}", variable("CNI_IFNAME").unwrap_or("(no name)"));
        }
        title
    }

    /// Executes it and waits so long.
    pub fn run(&self, patience: Duration) -> std::io::Result<Reply> {
        let mut child = Command::new(&self.program)
            .env_clear()
            .envs(&self.env)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn()?;
        let (stdout, stderr) = (collect(child.stdout.take()), collect(child.stderr.take()));
        self.feed(&mut child);
        let ended = match child.wait_timeout(patience)? {
            Some(status) => status.code().map_or_else(|| Ended::Signal(status.signal().unwrap_or(0)), Ended::Exit),
            None => {
                end_group(&child);
                child.wait()?;
                Ended::Hung(patience.as_secs())
            }
        };
        // A grandchild may hold the pipe open for ever; what has come by then is what there is.
        let text = |pipe: mpsc::Receiver<Vec<u8>>| {
            String::from_utf8_lossy(&pipe.recv_timeout(Duration::from_secs(5)).unwrap_or_default()).into_owned()
        };
        Ok(Reply { title: self.title(), ended, stdout: text(stdout), stderr: text(stderr) })
    }

    /// Writes stdin from a thread of its own: a plugin that answers before it has read all must not block us.
    fn feed(&self, child: &mut Child) {
        let (mut stdin, input, hesitate) =
            (child.stdin.take().expect("piped above"), self.input.clone(), self.hesitate);
        std::thread::spawn(move || {
            let (first, second) = input.split_at(if hesitate { input.len() / 2 } else { 0 });
            // A plugin may answer without reading: a broken pipe is no news.
            let _ = stdin.write_all(first).and_then(|()| stdin.flush());
            if hesitate {
                std::thread::sleep(Duration::from_millis(50));
            }
            let _ = stdin.write_all(second);
        });
    }
}

fn collect(pipe: Option<impl Read + Send + 'static>) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    let mut pipe = pipe.expect("piped above");
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = pipe.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

fn end_group(child: &Child) {
    let group = nix::unistd::Pid::from_raw(child.id() as i32);
    let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
}

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// By itself, with this status.
    Exit(i32),
    /// By this signal.
    Signal(i32),
    /// It did not within so many seconds, and was ended.
    Hung(u64),
}

/// What one execution left.
#[derive(Clone, Debug)]
pub struct Reply {
    /// What was executed.
    pub title: String,
    /// How it ended.
    pub ended: Ended,
    /// stdout.
    pub stdout: String,
    /// stderr.
    pub stderr: String,
}

impl Reply {
    /// Exit status 0?
    pub fn success(&self) -> bool {
        self.ended == Ended::Exit(0)
    }

    /// A failure in good order: the plugin itself ended with a status other than 0.
    pub fn refused(&self) -> bool {
        matches!(self.ended, Ended::Exit(status) if status != 0)
    }

    /// The one document on stdout; `Err` says what is there instead.
    pub fn document(&self) -> Result<Value, String> {
        let mut documents = serde_json::Deserializer::from_str(&self.stdout).into_iter::<Value>();
        match (documents.next(), documents.next()) {
            (None, _) => Err("nothing on stdout".to_owned()),
            (Some(Err(error)), _) => Err(format!("stdout is not JSON ({error}): {}", shorten(&self.stdout))),
            (Some(Ok(document)), None) => Ok(document),
            (Some(Ok(_)), Some(_)) => Err(format!("more than one document on stdout: {}", shorten(&self.stdout))),
        }
    }

    /// The code of the error document; `None` if there is none.
    pub fn code(&self) -> Option<u64> {
        self.document().ok()?.get("code")?.as_u64()
    }

    /// `msg` and `details` of the error document.
    pub fn words(&self) -> String {
        let document = self.document().unwrap_or_default();
        ["msg", "details"].map(|key| document[key].as_str().unwrap_or_default().to_owned()).join(" ")
    }

    /// How it ended, with what it printed.
    pub fn summary(&self) -> String {
        let mut text = match self.ended {
            Ended::Exit(status) => format!("exit status {status}"),
            Ended::Signal(signal) => format!("ended by signal {signal}"),
            Ended::Hung(seconds) => format!("no end after {seconds} seconds"),
        };
        for (name, output) in [("stdout", &self.stdout), ("stderr", &self.stderr)] {
            if !output.trim().is_empty() {
                text += &format!("; {name}: {}", shorten(output));
            }
        }
        text
    }
}

/// Text short enough for a report, on one line.
pub fn shorten(text: &str) -> String {
    const MOST: usize = 400;
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.chars().count() <= MOST {
        return text;
    }
    format!("{}…", text.chars().take(MOST).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(stdout: &str) -> Reply {
        Reply { title: String::new(), ended: Ended::Exit(0), stdout: stdout.to_owned(), stderr: String::new() }
    }

    #[test]
    fn one_document_is_one_document() {
        assert_eq!(reply("{\"a\":1}\n").document().unwrap()["a"], 1);
        for (stdout, words) in
            [("", "nothing"), ("{}{}", "more than one"), ("{} log", "more than one"), ("log", "not JSON")]
        {
            let error = reply(stdout).document().unwrap_err();
            assert!(error.contains(words), "{stdout}: {error}");
        }
    }
}
