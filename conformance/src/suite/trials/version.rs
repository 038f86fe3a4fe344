//! Section 2 and 5, VERSION.

use serde_json::{Value, json};

use super::super::clause::{Clause, Step, Trial};
use super::super::world::World;

const SENTENCE: &str = "Plugins must output a JSON object with the following keys upon a VERSION operation: \
    cniVersion: The value of cniVersion specified on input; supportedVersions: A list of supported specification versions";

/// The name of the only trial here, which is run whatever is claimed.
pub const NAME: &str = "version";

/// The trials.
pub const TRIALS: &[Trial] = &[Trial {
    name: NAME,
    clauses: &[
        Clause::must(
            "version.answers",
            "5, VERSION Success",
            SENTENCE,
            "VERSION with the configured version on stdin: exit status 0 and one document with both keys, the list \
             holding that version. (Of a chain: each plugin.)",
        ),
        Clause::must(
            "version.echoes",
            "5, VERSION Success",
            "cniVersion: The value of cniVersion specified on input",
            "VERSION once for each claimed version; each answer carries the version that was on stdin.",
        ),
        Clause::must(
            "version.needs-only-command",
            "2, VERSION",
            "Required environment parameters: CNI_COMMAND",
            "VERSION with CNI_COMMAND and nothing else in the environment.",
        ),
    ],
    run: version,
}];

fn version(w: &World) -> Step {
    for index in w.job.network.first..w.job.network.plugins.len() {
        of_plugin(w, index)?;
    }
    w.skip("version.echoes", "VERSION has no answer that reads, and so no list of versions");
    Ok(())
}

fn of_plugin(w: &World, index: usize) -> Step {
    let ask = |version: &str| -> Step<_> {
        w.execute(&w.network_call(index, "VERSION")?.input(json!({ "cniVersion": version }).to_string()))
    };
    let asked = w.job.version.as_str();
    let reply = ask(asked)?;
    let fault = fault(reply.success(), reply.document(), asked);
    w.expect("version.answers", fault.is_none(), "status 0 and one document with both keys", fault.unwrap_or_default());

    for version in &w.job.claims {
        let reply = ask(version.as_str())?;
        let echoed = reply.document().unwrap_or_default()["cniVersion"].clone();
        w.expect("version.echoes", echoed == version.as_str(), format!("cniVersion {version}"), &echoed);
    }

    let mut bare = w.network_call(index, "VERSION")?.input(json!({ "cniVersion": asked }).to_string());
    bare.env.retain(|name, _| name == "CNI_COMMAND");
    let reply = w.execute(&bare)?;
    let answered = reply.success() && reply.document().is_ok();
    w.expect("version.needs-only-command", answered, "status 0 and a document", reply.summary());
    Ok(())
}

fn fault(success: bool, document: Result<Value, String>, asked: &str) -> Option<String> {
    let document = match document {
        _ if !success => return Some("a failure".to_owned()),
        Err(why) => return Some(why),
        Ok(document) => document,
    };
    if !document["cniVersion"].is_string() {
        return Some(format!("no cniVersion in {document}"));
    }
    let listed =
        document["supportedVersions"].as_array().is_some_and(|list| list.iter().any(|version| version == asked));
    (!listed).then(|| format!("no list with {asked} in {document}"))
}
