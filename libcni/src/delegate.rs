//! Calling another plugin from within a plugin: IPAM (spec section 4).
//!
//! The delegate is looked up in `CNI_PATH`, gets the same environment and the complete configuration, writes its
//! logs to our stderr, and its answer comes back as a value. After a failed ADD it gets a DEL, so that half a
//! reservation never stays; so it does when its answer is never asked for, because the work beside it failed.
//!
//! A delegate that outlives a killed parent must not reserve an address after the runtime's DEL has come and gone.
//! Its stdout is a pipe that only we read: podwire's `host-local` looks, under its lock, whether anybody still does
//! before it writes. Without `unsafe` that is as far as a parent can reach.

use std::ffi::OsString;
use std::path::PathBuf;

use crate::error::Error;
pub use crate::exec::find;
use crate::exec::{self, Execution};
use crate::invocation::Command;
use crate::plugin::Request;
use crate::result::CniResult;

/// A delegate found in `CNI_PATH`, ready to be executed with a request's environment and configuration.
#[derive(Clone, Debug)]
pub struct Delegate<'a> {
    request: &'a Request,
    name: &'a str,
    executable: PathBuf,
    more: Vec<(&'static str, OsString)>,
}

/// A delegate's ADD that has been started: what lies between this and [`Running::finish_add`] runs beside it.
///
/// Dropped unasked, it is waited for and undone with a DEL.
#[derive(Debug)]
#[must_use = "dropped, the delegate's ADD is undone: finish_add() has its result"]
pub struct Running<'a> {
    delegate: &'a Delegate<'a>,
    /// There until its end has been waited for.
    execution: Option<Execution>,
}

impl<'a> Delegate<'a> {
    /// The delegate `name`, found in the request's `CNI_PATH` (code 4 if it is not there, 7 if it is no name).
    pub fn find(request: &'a Request, name: &'a str) -> Result<Self, Error> {
        let executable = find(name, &request.invocation.path)?;
        Ok(Delegate { request, name, executable, more: Vec::new() })
    }

    /// Sets a variable for the delegate, beside those of the protocol.
    pub fn tell(&mut self, variable: &'static str, value: impl Into<OsString>) {
        self.more.push((variable, value.into()));
    }

    /// The delegate that the configuration's `ipam.type` names, if it names one.
    pub fn ipam(request: &'a Request) -> Option<Result<Self, Error>> {
        Some(Delegate::find(request, request.config.ipam_type()?))
    }

    /// ADD, waited for; on an error the delegate gets a DEL.
    pub fn add(&'a self) -> Result<CniResult, Error> {
        self.start_add()?.finish_add()
    }

    /// Starts an ADD; [`Running::finish_add`] waits for it.
    pub fn start_add(&'a self) -> Result<Running<'a>, Error> {
        Ok(Running { delegate: self, execution: Some(self.start(Command::Add)?) })
    }

    /// Any other command, waited for: DEL, CHECK, GC, STATUS.
    pub fn call(&self, command: Command) -> Result<(), Error> {
        self.start(command)?.finish().map(drop).map_err(|error| error.context(self.name))
    }

    fn start(&self, command: Command) -> Result<Execution, Error> {
        exec::start(&self.executable, command, &self.variables(), &self.request.config.bytes)
    }

    /// What this plugin was given; everything else of its environment is inherited.
    fn variables(&self) -> Vec<(&'static str, OsString)> {
        let invocation = &self.request.invocation;
        let mut variables = vec![("CNI_PATH", exec::join_path(&invocation.path).into())];
        if let Some(attachment) = &invocation.attachment {
            variables.push(("CNI_CONTAINERID", attachment.id.container_id.clone().into()));
            variables.push(("CNI_IFNAME", attachment.id.ifname.clone().into()));
            variables.push(("CNI_NETNS", attachment.netns.clone().unwrap_or_default().into()));
        }
        if let Some(args) = &invocation.raw_args {
            variables.push(("CNI_ARGS", args.into()));
        }
        variables.extend(self.more.iter().cloned());
        variables
    }

    fn undo_add(&self) {
        if let Err(error) = self.call(Command::Del) {
            log::warn!("DEL of {} after an ADD that failed: {error}", self.name);
        }
    }
}

impl Running<'_> {
    /// Waits for the ADD and reads its result. If it failed, the delegate gets a DEL first.
    pub fn finish_add(mut self) -> Result<CniResult, Error> {
        let delegate = self.delegate;
        let execution = self.execution.take().expect("there until finished");
        let result = execution
            .finish()
            .and_then(|answer| exec::read_result(&answer, delegate.request.config.version).map(|(_, result)| result));
        result.map_err(|error| {
            delegate.undo_add();
            error.context(delegate.name)
        })
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if let Some(execution) = self.execution.take() {
            let _ = execution.finish();
            self.delegate.undo_add();
        }
    }
}

#[cfg(test)]
mod tests;
