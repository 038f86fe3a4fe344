//! Section 5, Error: what a failure looks like.
//!
//! The document is read from stdout, as every runtime does and as section 2 says of STATUS and section 5 of result
//! types; the one sentence in section 2 that puts it on stderr is a slip of the specification.

use serde_json::json;

use super::super::clause::{Clause, SINGLE, Step, Trial};
use super::super::exec::Reply;
use super::super::world::World;

const KEYS: &str = "Plugins should output a JSON object with the following keys if they encounter an error: \
    cniVersion: The protocol version in use; code: A numeric error code; msg: A short message characterizing the \
    error; details: A longer message describing the error.";

/// The trials.
pub const TRIALS: &[Trial] = &[Trial {
    name: "errors",
    clauses: &[
        Clause::should(
            "error.document",
            "5, Error",
            KEYS,
            "ADD without CNI_CONTAINERID, with garbage, with an unknown version, with a malformed name: where \
             refused, stdout is one JSON document with a numeric code and a text msg.",
        )
        .only(SINGLE),
        Clause::should(
            "error.cni-version",
            "5, Error",
            KEYS,
            "ADD with a configuration that is refused for its name: the error's cniVersion is the configuration's.",
        )
        .only(SINGLE),
        Clause::must(
            "error.reserved-codes",
            "5, Error",
            "Error codes 0-99 are reserved for well-known errors. Values of 100+ can be freely used for plugin \
             specific errors.",
            "The same failures: each code is one of 1 to 7, 11, 50 and 51, or 100 and more.",
        )
        .only(SINGLE),
    ],
    run: errors,
}];

fn errors(w: &World) -> Step {
    let mut pod = w.pod()?;
    let add = w.call("ADD", &mut pod)?;
    let misnamed = w.execute(&add.clone().edit(|config| config["name"] = json!("../x")))?;
    let replies = [
        w.execute(&add.clone().without("CNI_CONTAINERID"))?,
        w.execute(&add.clone().input("this is no JSON"))?,
        w.execute(&add.edit(|config| config["cniVersion"] = json!("99.0.0")))?,
    ];
    for reply in replies.iter().chain([&misnamed]).filter(|reply| !reply.success()) {
        let fault = fault(reply);
        w.expect(
            "error.document",
            fault.is_none(),
            "one document with code and msg on stdout",
            fault.unwrap_or_default(),
        );
        if let Some(code) = reply.code() {
            let known = matches!(code, 1..=7 | 11 | 50 | 51 | 100..);
            w.expect("error.reserved-codes", known, "a code of the specification, or 100 and more", reply.summary());
        }
    }
    match misnamed.document() {
        Ok(document) if !misnamed.success() => {
            let version = w.job.version.as_str();
            w.expect(
                "error.cni-version",
                document["cniVersion"] == version,
                format!("cniVersion {version}"),
                &document,
            );
        }
        _ => w.skip("error.cni-version", "the malformed name is not refused with a document"),
    }
    w.skip("error.document", "nothing is refused");
    w.skip("error.reserved-codes", "there is no error document");
    Ok(())
}

fn fault(reply: &Reply) -> Option<String> {
    match reply.document() {
        Err(why) => Some(format!("{}: {why}", reply.title)),
        Ok(document) => {
            let whole = document["code"].is_u64() && document["msg"].is_string();
            (!whole).then(|| format!("{}: {document}", reply.title))
        }
    }
}
