//! The suite's own test plugin: correct, unless its file name asks for a fault.
//!
//! `model-interface` makes a veth on a bridge and delegates its addresses, `model-ipam` hands them out, `model-chained` sets a
//! sysctl of what an earlier plugin made, `model-lo` looks after `lo`. `model-interface.leaks-veth` is the first with one fault.
//! Each fault is a few lines where the thing is done; tests/suite_self.rs lists them with the clauses that they break.

mod chained;
mod delegate;
mod interface;
mod ipam;
mod loopback;
mod tools;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::process::ExitCode;

use libcni::plugin::{Answer, answer};
use serde_json::{Value, json};
use tools::{fault, role};

fn main() -> ExitCode {
    let mut input = Vec::new();
    if fault("reads-once") {
        input.resize(1 << 16, 0);
        let length = std::io::stdin().read(&mut input).unwrap_or(0);
        input.truncate(length);
    } else {
        let _ = std::io::stdin().read_to_end(&mut input);
    }
    let command = std::env::var("CNI_COMMAND").unwrap_or_default();
    if let Some(early) = before(&command, &mut input) {
        return early;
    }
    let lookup = |name: &str| variable(name);
    let mut input = input.as_slice();
    let answer = match role().as_str() {
        "model-interface" => answer::<interface::Model>(&lookup, &mut input),
        "model-ipam" => answer::<ipam::Model>(&lookup, &mut input),
        "model-chained" => answer::<chained::Model>(&lookup, &mut input),
        _ => answer::<loopback::Model>(&lookup, &mut input),
    };
    let answer = after(&command, answer);
    let _ = std::io::stderr().write_all(answer.stderr.as_bytes());
    let _ = std::io::stdout().write_all(answer.stdout.as_bytes());
    if answer.success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The environment as the plugin sees it.
fn variable(name: &str) -> Option<OsString> {
    let stand_in = match name {
        "CNI_CONTAINERID" if fault("accepts-no-container-id") => "nobody",
        "CNI_IFNAME" if fault("accepts-no-ifname") => "eth0",
        "CNI_CONTAINERID" if fault("accepts-any-container-id") => {
            let id = std::env::var(name).ok()?;
            return Some(id.chars().filter(char::is_ascii_alphanumeric).collect::<String>().into());
        }
        "CNI_IFNAME" if fault("takes-any-ifname") => {
            let name = std::env::var(name).ok()?;
            let usable = !name.contains(['/', '.']) && name.len() < 16;
            return Some(if usable { name } else { "eth0".to_owned() }.into());
        }
        "CNI_IFNAME" if fault("ignores-ifname") => return std::env::var_os(name).map(|_| "eth0".into()),
        _ => return std::env::var_os(name),
    };
    std::env::var_os(name).or(Some(stand_in.into()))
}

/// What this command is answered with, whatever the request says.
fn refusal(command: &str, config: &Value) -> Option<(u64, &'static str)> {
    let set = |name: &str| std::env::var_os(name).is_some();
    let args = std::env::var("CNI_ARGS").unwrap_or_default();
    let known = ["cniVersion", "name", "type", "args", "prevResult", "runtimeConfig", "cni.dev/valid-attachments"];
    let stranger = config.as_object().is_some_and(|object| object.keys().any(|key| !known.contains(&key.as_str())));
    type Refusal<'a> = (&'static str, u64, &'static str, &'a dyn Fn() -> bool);
    let refuses: [Refusal; 11] = [
        ("needs-path", 4, "CNI_PATH is not set", &|| command != "VERSION" && !set("CNI_PATH")),
        ("version-needs-path", 4, "CNI_PATH is not set", &|| command == "VERSION" && !set("CNI_PATH")),
        ("chokes-on-args", 7, "unknown arguments", &|| !args.is_empty()),
        ("chokes-on-example-args", 7, "unknown arguments", &|| args.starts_with("FOO=")),
        ("chokes-on-args-key", 7, "args is unknown", &|| config.get("args").is_some()),
        ("refuses-unknown-keys", 7, "a key is unknown", &|| stranger),
        ("add-always-fails", 11, "not today", &|| command == "ADD"),
        ("del-always-fails", 11, "not today", &|| command == "DEL"),
        ("gc-always-fails", 11, "not today", &|| command == "GC"),
        ("gc-fails-on-a-fresh-node", 11, "nothing to collect", &|| count(command) == 0),
        ("gc-fails-when-repeated", 11, "once is enough", &|| count(command) > 2),
    ];
    let asked = refuses.into_iter().find(|(name, ..)| fault(name))?;
    (asked.3)().then_some((asked.1, asked.2))
}

/// The number of this GC, from 2 on; 0 before anything was added, 1 for any other command. A file holds it that ADD makes.
fn count(command: &str) -> usize {
    let path = "/run/model-count";
    let old = std::fs::read(path).map(|bytes| bytes.len());
    match (command, old) {
        ("GC", Ok(length)) => std::fs::write(path, "x".repeat(length + 1)).map_or(1, |()| length + 1),
        ("GC", Err(_)) => 0,
        ("ADD", Err(_)) => std::fs::write(path, "x").map_or(1, |()| 1),
        _ => 1,
    }
}

/// One at a time, and who comes meanwhile fails, for he does not wait.
fn collides() -> bool {
    let lock = std::path::Path::new("/run/model-lock");
    if std::fs::File::create_new(lock).is_err() {
        return true;
    }
    std::thread::sleep(std::time::Duration::from_millis(30));
    let _ = std::fs::remove_file(lock);
    false
}

/// Faults that come before a request is understood.
fn before(command: &str, input: &mut Vec<u8>) -> Option<ExitCode> {
    let decoded: Option<Value> = serde_json::from_slice(input).ok();
    if fault("accepts-garbage") && decoded.is_none() && command == "ADD" {
        println!("{}", json!({"cniVersion": "1.0.0"}));
        return Some(ExitCode::SUCCESS);
    }
    if fault("crashes-on-a-list") && decoded.as_ref().is_some_and(Value::is_array) {
        std::process::abort();
    }
    if fault("refuses-unknown-commands-silently") && command == "FROBNICATE" {
        return Some(ExitCode::SUCCESS);
    }
    let lone = |args: String| args.split(';').any(|pair| !pair.contains('='));
    if (fault("crashes-on-huge") && input.len() > 1 << 20)
        || (fault("crashes-on-args") && std::env::var("CNI_ARGS").is_ok_and(lone))
    {
        std::process::abort();
    }
    let collided = (fault("adds-collide") && command == "ADD") || (fault("dels-collide") && command == "DEL");
    let refusal = match collided && collides() {
        true => Some((11, "somebody else is at work")),
        false => refusal(command, decoded.as_ref().unwrap_or(&Value::Null)),
    };
    if let Some((code, words)) = refusal {
        println!("{}", json!({"cniVersion": "1.1.0", "code": code, "msg": words}));
        return Some(ExitCode::FAILURE);
    }
    if let Some(mut config) = decoded.filter(Value::is_object) {
        if fault("accepts-any-version") && config["cniVersion"] == "99.0.0" {
            config["cniVersion"] = json!("1.0.0");
            *input = config.to_string().into_bytes();
        } else if fault("accepts-any-prev-result") && config["prevResult"]["ips"].is_string() {
            config["prevResult"]["ips"] = json!([]);
            *input = config.to_string().into_bytes();
        } else if fault("accepts-any-name") && !config["name"].as_str().is_some_and(|name| name.starts_with("conf")) {
            config["name"] = json!("conformance");
            *input = config.to_string().into_bytes();
        }
    }
    None
}

/// Faults of what is said.
fn after(command: &str, mut answer: Answer) -> Answer {
    let mut document: Value = serde_json::from_str(&answer.stdout).unwrap_or_default();
    match command {
        "ADD" if answer.success => {
            if fault("two-documents") {
                answer.stdout = answer.stdout.repeat(2);
            } else if fault("logs-on-stdout") {
                answer.stdout.insert_str(0, "done: ");
            } else if fault("result-has-a-wrong-type") {
                document["dns"] = json!({"nameservers": "192.0.2.53"});
                answer.stdout = document.to_string();
            } else if fault("answers-in-another-version") {
                document["cniVersion"] = json!("0.3.1");
                answer.stdout = document.to_string();
            }
        }
        "VERSION" if fault("version-not-echoed") => {
            document["cniVersion"] = json!("1.0.0");
            answer.stdout = document.to_string();
        }
        "VERSION" if fault("version-without-list") => {
            answer.stdout = json!({"cniVersion": document["cniVersion"]}).to_string()
        }
        "CHECK" | "GC" if answer.success && fault("talks-on-check-and-gc") => {
            answer.stdout = "{\"ok\":true}".to_owned()
        }
        _ => {}
    }
    if !answer.success {
        if fault("errors-exit-zero") {
            answer.success = true;
        } else if fault("errors-on-stderr") {
            answer.stderr = std::mem::take(&mut answer.stdout);
        } else if fault("errors-have-code-99") {
            document["code"] = json!(99);
            answer.stdout = document.to_string();
        } else if fault("errors-without-version") {
            document.as_object_mut().map(|document| document.remove("cniVersion"));
            answer.stdout = document.to_string();
        } else if fault("errors-all-code-100") {
            document["code"] = json!(100);
            answer.stdout = document.to_string();
        }
    }
    answer
}
