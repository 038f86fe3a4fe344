//! What comes on stdin: undecodable, empty, truncated, huge, slow, of an unknown version, with unknown keys.

use libcni::Version;
use serde_json::json;

use super::super::clause::{Clause, SINGLE, Step, Trial};
use super::super::exec::{Ended, Reply};
use super::super::world::World;
use super::parameters::has_code;

const NON_ZERO: &str = "A plugin must exit with a return code of 0 on success, and non-zero on failure.";
const CODE_6: &str = "6: Failed to decode content. For example, failed to unmarshal network config from bytes or \
    failed to decode version info from string.";
const CODE_7: &str = "7: Invalid network config. If some validations on network configs do not pass, this error \
    will be raised.";
const NAME: &str = "name (string): Network name. Must start with an alphanumeric character, optionally followed by \
    any combination of one or more alphanumeric characters, underscore, dot (.) or hyphen (-).";

/// The trials.
pub const TRIALS: &[Trial] = &[
    Trial {
        name: "undecodable input",
        clauses: &[
            Clause::must("input.garbage", "2, Errors", NON_ZERO, "ADD with words that are no JSON: refused.")
                .only(SINGLE),
            Clause::must("input.empty", "2, Errors", NON_ZERO, "ADD with nothing on stdin: refused.").only(SINGLE),
            Clause::must(
                "input.truncated",
                "2, Errors",
                NON_ZERO,
                "ADD with the configuration cut off after a quarter, a half and all but the last byte: refused.",
            )
            .only(SINGLE),
            Clause::must(
                "input.not-an-object",
                "2, ADD",
                "The runtime will provide a JSON-serialized plugin configuration object on standard in.",
                "ADD with a list, a string, a number and 100,000 opening brackets: refused, not crashed.",
            )
            .only(SINGLE),
            Clause::should("input.undecodable-is-code-6", "5, Error", CODE_6, "Garbage and truncated JSON: code 6.")
                .only(SINGLE),
            Clause::must(
                "input.huge",
                "2, Errors",
                NON_ZERO,
                "ADD with the configuration padded to 4 MiB by a key of unknown name: it succeeds or is refused, \
                 without a crash or a hang.",
            )
            .only(SINGLE),
        ],
        run: undecodable,
    },
    Trial {
        name: "wrong values",
        clauses: &[
            Clause::should("input.name-missing", "1, Configuration format", NAME, "ADD without `name`: refused.")
                .only(SINGLE),
            Clause::should(
                "input.name-malformed",
                "1, Configuration format",
                NAME,
                "ADD with the names `../x`, `x/y` and `-x`: refused.",
            )
            .only(SINGLE),
            Clause::must("input.wrong-type", "2, Errors", NON_ZERO, "ADD with the number 5 for a name: refused.")
                .only(SINGLE),
            Clause::should(
                "input.wrong-value-is-code-7",
                "5, Error",
                CODE_7,
                "A name that is missing or malformed, where refused: code 7.",
            )
            .only(SINGLE),
            Clause::must(
                "input.unknown-version",
                "2, Errors",
                NON_ZERO,
                "ADD with cniVersion 99.0.0, with each version that VERSION does not list, and with what is no version: refused.",
            )
            .only(SINGLE),
            Clause::should(
                "input.unknown-version-is-code-1",
                "5, Error",
                "1: Incompatible CNI version",
                "ADD with cniVersion 99.0.0, and with each version that VERSION does not list: the error document has code 1.",
            )
            .only(SINGLE),
        ],
        run: wrong_values,
    },
    Trial {
        name: "unusual input",
        clauses: &[
            Clause::must(
                "input.slow",
                "2, Overview",
                "The runtime passes parameters to the plugin via environment variables and configuration. It \
                 supplies configuration via stdin.",
                "ADD with the configuration written in two parts, 50 ms apart: it succeeds.",
            )
            .only(SINGLE),
            Clause::may(
                "input.unknown-keys",
                "1, Plugin configuration objects",
                "Plugins may define additional fields that they accept and may generate an error if called with \
                 unknown fields.",
                "ADD with a key of unknown name: it succeeds.",
            )
            .only(SINGLE),
            Clause::should(
                "input.args-are-ignorable",
                "CONVENTIONS, \"args\" in network config",
                "Runtimes can place additional data in args and plugins that don't understand that data should just \
                 ignore it.",
                "ADD with labels in `args`: it succeeds.",
            )
            .only(SINGLE),
        ],
        run: unusual,
    },
];

fn refused(w: &World, id: &'static str, what: &str, reply: &Reply) {
    w.expect(id, reply.refused(), format!("{what}: an exit status other than 0"), reply.summary());
}

fn undecodable(w: &World) -> Step {
    let mut pod = w.pod()?;
    let add = w.call("ADD", &mut pod)?;
    let with = |input: &[u8]| w.execute(&add.clone().input(input));

    let garbage = with(b"this is no JSON")?;
    refused(w, "input.garbage", "garbage", &garbage);
    refused(w, "input.empty", "nothing", &with(b"")?);
    let mut undecoded = vec![garbage];
    for length in [add.input.len() / 4, add.input.len() / 2, add.input.len() - 1] {
        let reply = with(&add.input[..length])?;
        refused(w, "input.truncated", &format!("the first {length} bytes"), &reply);
        undecoded.push(reply);
    }
    for reply in undecoded {
        has_code(w, "input.undecodable-is-code-6", &reply, 6);
    }
    for input in ["[]", "\"text\"", "5", &"[".repeat(100_000)] {
        let reply = with(input.as_bytes())?;
        refused(w, "input.not-an-object", &input[..input.len().min(10)], &reply);
    }

    let huge = w.execute(&add.edit(|config| config["conformance.padding"] = json!("x".repeat(4 << 20))))?;
    w.expect("input.huge", in_order(&huge), "a result, or an error document", huge.summary());
    Ok(())
}

/// A success, or a failure with one document: no crash, no hang.
pub fn in_order(reply: &Reply) -> bool {
    matches!(reply.ended, Ended::Exit(_)) && (reply.success() || reply.document().is_ok())
}

fn wrong_values(w: &World) -> Step {
    let mut pod = w.pod()?;
    let add = w.call("ADD", &mut pod)?;
    let with = |key: &str, value: serde_json::Value| w.execute(&add.clone().edit(|config| config[key] = value));

    let unnamed = w.execute(&add.clone().edit(|config| super::del::without(config, "name")))?;
    refused(w, "input.name-missing", "no name", &unnamed);
    let mut invalid = vec![unnamed];
    for name in ["../x", "x/y", "-x"] {
        let reply = with("name", json!(name))?;
        refused(w, "input.name-malformed", name, &reply);
        invalid.push(reply);
    }
    for reply in invalid.iter().filter(|reply| !reply.success()) {
        w.expect(
            "input.wrong-value-is-code-7",
            reply.code() == Some(7),
            "an error document with code 7",
            reply.summary(),
        );
    }
    if invalid.iter().all(Reply::success) {
        w.skip("input.wrong-value-is-code-7", "none of them is refused");
    }
    refused(w, "input.wrong-type", "name 5", &with("name", json!(5))?);

    let unclaimed =
        Version::ALL.iter().filter(|version| !w.job.claims.contains(version)).map(|version| version.as_str());
    for version in std::iter::once("99.0.0").chain(unclaimed) {
        let unknown = with("cniVersion", json!(version))?;
        refused(w, "input.unknown-version", &format!("cniVersion {version}"), &unknown);
        has_code(w, "input.unknown-version-is-code-1", &unknown, 1);
    }
    for nonsense in [json!("new"), json!(1.1)] {
        refused(w, "input.unknown-version", &format!("cniVersion {nonsense}"), &with("cniVersion", nonsense.clone())?);
    }
    Ok(())
}

fn unusual(w: &World) -> Step {
    let succeeds = |id: &'static str, change: &dyn Fn(super::super::exec::Call) -> super::super::exec::Call| -> Step {
        let mut pod = w.pod()?;
        let reply = w.add_with(&mut pod, change)?;
        w.expect(id, reply.success(), "ADD succeeds", reply.summary());
        w.del(&pod).map(drop)
    };
    succeeds("input.slow", &|mut call| {
        call.hesitate = true;
        call
    })?;
    succeeds("input.unknown-keys", &|call| {
        call.edit(|config| config["conformance.example"] = json!({"some": ["thing"]}))
    })?;
    succeeds("input.args-are-ignorable", &|call| {
        call.edit(|config| config["args"] = json!({"cni": {"labels": [{"key": "app", "value": "myapp"}]}}))
    })
}
