//! Calling the IPAM plugin, by hand, so that it can be done wrong.

use std::io::Write;
use std::process::{Command, Stdio};

use libcni::{CniResult, Error, Request};

use crate::tools::{fault, owner};

/// Executes the configuration's delegate.
pub fn call(request: &Request, command: &str) -> Result<Vec<u8>, Error> {
    let name = request.config.ipam_type().ok_or_else(|| Error::config("ipam.type", "missing", "it is needed"))?;
    let path = match fault("looks-in-first-directory-only") {
        true => request.invocation.path.get(..2).unwrap_or(&request.invocation.path),
        false => &request.invocation.path,
    };
    let program = libcni::delegate::find(name, path)?;
    let mut process = Command::new(program);
    process.env("CNI_COMMAND", command).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::inherit());
    if fault("delegate-lacks-environment") {
        process.env_remove("CNI_ARGS").env_remove("CONFORMANCE_MARK");
    }
    if fault("takes-any-ifname") {
        process.env("CNI_IFNAME", owner(request).2);
    }
    if fault("delegate-stderr-swallowed") {
        process.stderr(Stdio::null());
    }
    let mut input = request.config.bytes.clone();
    if fault("delegate-gets-known-keys") {
        let mut config = request.config.object.clone();
        config.retain(|key, _| {
            ["cniVersion", "name", "type", "ipam", "cni.dev/valid-attachments"].contains(&key.as_str())
        });
        if let Some(ipam) = config["ipam"].as_object_mut() {
            ipam.retain(|key, _| key == "type" || key == "subnet");
        }
        input = serde_json::Value::Object(config).to_string().into_bytes();
    }
    let io = |error| Error::io(format!("executing {name}"), error);
    let mut child = process.spawn().map_err(io)?;
    let _ = child.stdin.take().expect("piped above").write_all(&input);
    let output = child.wait_with_output().map_err(io)?;
    match output.status.success() {
        true => Ok(output.stdout),
        false => Err(Error::from_json(&output.stdout).unwrap_or_else(|| Error::new(100, "delegate failed", name))),
    }
}

/// ADD; a DEL if it fails, or answers what is none.
pub fn add(request: &Request) -> Result<CniResult, Error> {
    let answer = call(request, "ADD");
    let result = answer.and_then(|answer| {
        let value = serde_json::from_slice(&answer).map_err(|error| Error::decode("the delegate's result", error))?;
        CniResult::from_value(&value, request.config.version)
    });
    if result.is_err() && !fault("no-del-after-failed-delegate") {
        let _ = call(request, "DEL");
    }
    match result {
        Err(_) if fault("swallows-delegate-error") => Ok(CniResult::default()),
        Err(error) if fault("delegate-error-replaced") => Err(Error::new(error.code, "something went wrong", "")),
        result => result,
    }
}
