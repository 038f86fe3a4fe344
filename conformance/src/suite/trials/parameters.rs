//! Section 2, Parameters: each variable missing and malformed, and what is optional.

use super::super::clause::{Clause, Kind, SINGLE, Step, Trial};
use super::super::exec::{Call, Reply};
use super::super::world::World;
use super::CHECK;
use super::input::in_order;

const REQUIRED_ADD: &str = "Required environment parameters: CNI_COMMAND, CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME";
const REQUIRED_DEL: &str = "Required environment parameters: CNI_COMMAND, CNI_CONTAINERID, CNI_IFNAME";
const CODE_4: &str = "4: Invalid necessary environment variables, like CNI_COMMAND, CNI_CONTAINERID, etc. The error \
    message must contain the names of invalid variables.";
const WITHOUT: &str =
    "The command without the variable, and with it empty: the plugin exits with a status other than 0.";

/// The trials.
pub const TRIALS: &[Trial] = &[
    Trial {
        name: "parameters missing",
        clauses: &[
            Clause::must("parameters.add.container-id", "2, ADD", REQUIRED_ADD, WITHOUT).only(SINGLE),
            Clause::must("parameters.add.netns", "2, ADD", REQUIRED_ADD, WITHOUT).only(SINGLE),
            Clause::must("parameters.add.ifname", "2, ADD", REQUIRED_ADD, WITHOUT).only(SINGLE),
            Clause::must("parameters.del.container-id", "2, DEL", REQUIRED_DEL, WITHOUT).only(SINGLE),
            Clause::must("parameters.del.ifname", "2, DEL", REQUIRED_DEL, WITHOUT).only(SINGLE),
            Clause::must("parameters.check.container-id", "2, CHECK", REQUIRED_ADD, WITHOUT).only(SINGLE).since(CHECK),
            Clause::must("parameters.check.netns", "2, CHECK", REQUIRED_ADD, WITHOUT).only(SINGLE).since(CHECK),
            Clause::must("parameters.check.ifname", "2, CHECK", REQUIRED_ADD, WITHOUT).only(SINGLE).since(CHECK),
            Clause::should(
                "parameters.missing-is-code-4",
                "5, Error",
                CODE_4,
                "Each required variable left out in turn: the error document has code 4.",
            )
            .only(SINGLE),
            Clause::must(
                "parameters.missing-are-named",
                "5, Error",
                CODE_4,
                "Two required variables left out of an ADD: where the error has code 4, its words have both names.",
            )
            .only(SINGLE),
        ],
        run: missing,
    },
    Trial {
        name: "parameters malformed",
        clauses: &[
            Clause::must(
                "parameters.container-id.malformed",
                "2, Parameters",
                "CNI_CONTAINERID: Must start with an alphanumeric character, optionally followed by any combination \
                 of one or more alphanumeric characters, underscore (), dot (.) or hyphen (-).",
                "ADD with container IDs that are none, `../x`, `x/y`, `-x` and `x y` among them: refused.",
            )
            .only(SINGLE),
            Clause::must(
                "parameters.ifname.unusable",
                "2, Parameters",
                "CNI_IFNAME: Name of the interface to create inside the container; if the plugin is unable to use \
                 this interface name it must return an error.",
                "ADD with names that the kernel takes for no interface: `a/b`, `..`, 16 letters. Refused.",
            )
            .only(&[Kind::Interface]),
            Clause::must(
                "parameters.netns.absent",
                "2, Errors",
                "A plugin must exit with a return code of 0 on success, and non-zero on failure.",
                "ADD with a CNI_NETNS that does not exist: refused.",
            )
            .only(&[Kind::Interface, Kind::Loopback]),
            Clause::must(
                "parameters.netns.not-a-namespace",
                "2, Errors",
                "A plugin must exit with a return code of 0 on success, and non-zero on failure.",
                "ADD with a CNI_NETNS that is an ordinary file: refused.",
            )
            .only(&[Kind::Interface, Kind::Loopback]),
            Clause::must(
                "parameters.command.unknown",
                "2, Errors",
                "A plugin must exit with a return code of 0 on success, and non-zero on failure.",
                "CNI_COMMAND=FROBNICATE: refused. (A missing CNI_COMMAND is a person at the keyboard and no concern \
                 of the suite.)",
            )
            .only(SINGLE),
            Clause::should(
                "parameters.malformed-is-code-4",
                "5, Error",
                CODE_4,
                "An unknown CNI_COMMAND and a container ID that is none: the error document has code 4.",
            )
            .only(SINGLE),
        ],
        run: malformed,
    },
    Trial {
        name: "parameters optional",
        clauses: &[
            Clause::may(
                "parameters.path-is-optional",
                "2, ADD and DEL",
                "Optional environment parameters: CNI_ARGS, CNI_PATH",
                "ADD and DEL without CNI_PATH, of a plugin that is configured with no delegate: both succeed. (Every runtime sets \
                 it: for information only.)",
            )
            .only(SINGLE),
            Clause::must(
                "parameters.args.ignorable",
                "3, Deriving runtimeConfig",
                "Whereas CNI_ARGS are provided to all plugins, with no indication if they are going to be consumed",
                "ADD with CNI_ARGS as Kubernetes sends them: IgnoreUnknown=1;K8S_POD_NAMESPACE=…",
            ),
            Clause::should(
                "parameters.args.any",
                "2, Parameters",
                "CNI_ARGS: Extra arguments passed in by the user at invocation time. Alphanumeric key-value pairs \
                 separated by semicolons; for example, \"FOO=BAR;ABC=123\"",
                "ADD with the specification's own example in CNI_ARGS.",
            ),
            Clause::must(
                "parameters.args.malformed",
                "2, Errors",
                "A plugin must exit with a return code of 0 on success, and non-zero on failure.",
                "ADD with CNI_ARGS that are no pairs, `FOO`, `=;=` and `;;` among them: a result, or an error document; no crash.",
            )
            .only(SINGLE),
        ],
        run: optional,
    },
];

/// A refusal is an orderly exit with a status other than 0.
fn refuses(w: &World, id: &'static str, call: &Call) -> Step<Reply> {
    let reply = w.execute(call)?;
    w.expect(id, reply.refused(), "an exit status other than 0", reply.summary());
    Ok(reply)
}

fn code_4(w: &World, id: &'static str, reply: &Reply) {
    has_code(w, id, reply, 4);
}

/// A refusal has this code. What is not refused has none: that is another clause's affair.
pub fn has_code(w: &World, id: &'static str, reply: &Reply, code: u64) {
    match reply.success() {
        true => w.skip(id, "none of it is refused"),
        false => {
            w.expect(id, reply.code() == Some(code), format!("an error document with code {code}"), reply.summary())
        }
    }
}

fn missing(w: &World) -> Step {
    let mut pod = w.pod()?;
    let add = w.call("ADD", &mut pod)?;
    for (id, variable) in [
        ("parameters.add.container-id", "CNI_CONTAINERID"),
        ("parameters.add.netns", "CNI_NETNS"),
        ("parameters.add.ifname", "CNI_IFNAME"),
    ] {
        both(w, id, &add, variable)?;
    }
    let reply = w.execute(&add.without("CNI_CONTAINERID").without("CNI_IFNAME"))?;
    let named = ["CNI_CONTAINERID", "CNI_IFNAME"].iter().all(|name| reply.words().contains(name));
    match reply.code() {
        Some(4) => w.expect("parameters.missing-are-named", named, "both names", reply.summary()),
        _ => w.skip("parameters.missing-are-named", format!("the error is not of code 4: {}", reply.summary())),
    }

    let (mut pod, _) = w.attached()?;
    if w.speaks(CHECK) {
        let check = w.call("CHECK", &mut pod)?;
        for (id, variable) in [
            ("parameters.check.container-id", "CNI_CONTAINERID"),
            ("parameters.check.netns", "CNI_NETNS"),
            ("parameters.check.ifname", "CNI_IFNAME"),
        ] {
            both(w, id, &check, variable)?;
        }
    }
    let del = w.call("DEL", &mut pod)?;
    for (id, variable) in [("parameters.del.container-id", "CNI_CONTAINERID"), ("parameters.del.ifname", "CNI_IFNAME")]
    {
        both(w, id, &del, variable)?;
    }
    Ok(())
}

/// The variable is not there, and then it is empty.
fn both(w: &World, id: &'static str, call: &Call, variable: &str) -> Step {
    for call in [call.clone().without(variable), call.clone().with(variable, "")] {
        let reply = refuses(w, id, &call)?;
        code_4(w, "parameters.missing-is-code-4", &reply);
    }
    Ok(())
}

fn malformed(w: &World) -> Step {
    let mut pod = w.pod()?;
    let add = w.call("ADD", &mut pod)?;
    for bad in ["../x", "x/y", ".x", "-x", "x y", "x\n"] {
        let reply = refuses(w, "parameters.container-id.malformed", &add.clone().with("CNI_CONTAINERID", bad))?;
        code_4(w, "parameters.malformed-is-code-4", &reply);
    }
    let reply = refuses(w, "parameters.command.unknown", &add.clone().with("CNI_COMMAND", "FROBNICATE"))?;
    code_4(w, "parameters.malformed-is-code-4", &reply);
    if !matches!(w.job.kind, Kind::Interface | Kind::Loopback) {
        return Ok(());
    }
    for bad in ["a/b", "..", "abcdefghijklmnop"] {
        refuses(w, "parameters.ifname.unusable", &add.clone().with("CNI_IFNAME", bad))?;
    }
    w.sh(None, "echo hello > /tmp/file")?;
    refuses(w, "parameters.netns.absent", &add.clone().with("CNI_NETNS", "/run/netns/absent"))?;
    refuses(w, "parameters.netns.not-a-namespace", &add.with("CNI_NETNS", "/tmp/file"))?;
    Ok(())
}

fn optional(w: &World) -> Step {
    match w.delegate() {
        Some(delegate) => {
            w.skip("parameters.path-is-optional", format!("the delegate {delegate} is looked up in CNI_PATH"));
        }
        None => {
            let mut pod = w.pod()?;
            let add = w.execute(&w.call("ADD", &mut pod)?.without("CNI_PATH"))?;
            w.expect("parameters.path-is-optional", add.success(), "ADD succeeds", add.summary());
            let del = w.execute(&w.call("DEL", &mut pod)?.without("CNI_PATH"))?;
            w.expect("parameters.path-is-optional", del.success(), "DEL succeeds", del.summary());
        }
    }
    for (id, args) in [
        (
            "parameters.args.ignorable",
            "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_INFRA_CONTAINER_ID=0a1b;K8S_POD_UID=1-2",
        ),
        ("parameters.args.any", "FOO=BAR;ABC=123"),
    ] {
        let mut pod = w.pod()?;
        pod.args = Some(args.to_owned());
        let reply = w.add(&mut pod)?;
        w.expect(id, reply.success(), format!("ADD with CNI_ARGS={args} succeeds"), reply.summary());
        w.del(&pod)?;
    }
    for args in ["FOO", "=;=", ";;", "A=B=C;D", &"A=B;".repeat(10_000)] {
        let mut pod = w.pod()?;
        pod.args = Some(args.to_owned());
        let reply = w.add(&mut pod)?;
        w.expect("parameters.args.malformed", in_order(&reply), "a result, or an error document", reply.summary());
        w.del(&pod)?;
    }
    Ok(())
}
