//! What an ADD and a DEL may cost, in things that do not depend on the machine's mood: system calls, netlink messages,
//! instructions.
//!
//! `recorded/budget.json` has the budget of each, and why it is what it is; whoever changes a number changes the reason
//! too. What costs more fails, and what costs much less as well: then the budget is to be lowered. Counted is a node's
//! second Pod, with the plugin and its IPAM together, from where each program's own code begins (what the loader and the
//! C library do before that differs between systems). Instructions are those of the build that the tests run.

use std::collections::BTreeMap;
use std::path::Path;

use conformance::lab::{Node, Pod, bin_dir};
use conformance::trace::calls_made;
use serde::Deserialize;
use serde_json::{Value, json};

/// Of a verb.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Budget {
    /// System calls, less those for memory and signals.
    calls: usize,
    /// Messages sent to the kernel over netlink.
    messages: usize,
    /// Instructions in user space, in thousands.
    kilo_instructions: usize,
    /// Why it is this much.
    why: String,
}

/// Calls that the C library and the allocator make as they see fit.
const NOT_OURS: [&str; 9] =
    ["mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "rt_sigaction", "rt_sigprocmask", "futex"];

/// How far an unchanged program's counts are apart, from run to run and from machine to machine, in percent.
const SWAY: usize = 3;
const SWAY_OF_INSTRUCTIONS: usize = 15;
/// How much less than its budget something may cost before that is to be lowered, in percent.
const SLACK: usize = 15;

fn ipam(node: &Node) -> Value {
    json!({
        "type": "host-local",
        "dataDir": node.file("store"),
        "ranges": [[{"subnet": "10.88.0.0/16"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    })
}

fn config(name: &str, node: &Node) -> Value {
    let mut config = match name {
        "bridge" => json!({"type": "bridge", "isGateway": true}),
        "bridge + ipMasq" => json!({"type": "bridge", "isGateway": true, "ipMasq": true}),
        "routed-veth" => json!({"type": "routed-veth"}),
        "ptp" => json!({"type": "ptp"}),
        "host-local" => json!({"type": "host-local"}),
        other => panic!("no configuration for {other:?} of the budget"),
    };
    config["cniVersion"] = "1.1.0".into();
    config["name"] = "budget".into();
    config["ipam"] = ipam(node);
    config
}

/// Executes a verb behind `tool`, which writes to `file`; what it wrote.
fn behind(tool: &str, file: &Path, node: &Node, pod: &Pod, verb: &str, config: &Value) -> String {
    let input = node.file("config.json");
    std::fs::write(&input, config.to_string()).unwrap();
    node.netns.sh(&format!(
        "CNI_COMMAND={verb} CNI_CONTAINERID={} CNI_IFNAME=eth0 CNI_NETNS={} CNI_PATH={} {tool} {}/{} < {}",
        pod.container_id,
        pod.netns().path().display(),
        node.cni_path(),
        bin_dir().display(),
        config["type"].as_str().unwrap(),
        input.display(),
    ));
    std::fs::read_to_string(file).unwrap()
}

/// System calls by name, and netlink messages.
fn calls(node: &Node, pod: &Pod, verb: &str, config: &Value) -> (BTreeMap<String, usize>, usize) {
    let file = node.file("trace");
    let trace = behind(&format!("strace -f -qq -o {}", file.display()), &file, node, pod, verb, config);
    let (mut counts, mut messages) = (BTreeMap::new(), 0);
    // Each program begins with a look at its standard descriptors (Rust's own start).
    let mut begun: Vec<String> = Vec::new();
    for line in calls_made(&trace) {
        let Some((process, call)) = line.split_once(' ') else { continue };
        let Some((name, arguments)) = call.trim_start().split_once('(') else { continue };
        if name == "poll" && arguments.starts_with("[{fd=0, ") {
            begun.push(process.to_owned());
        } else if begun.iter().any(|other| other == process) && !NOT_OURS.contains(&name) {
            *counts.entry(name.to_owned()).or_default() += 1;
            if name == "sendto" {
                messages += arguments.matches("nlmsg_len=").count();
            }
        }
    }
    (counts, messages)
}

/// Thousands of instructions.
fn instructions(node: &Node, pod: &Pod, verb: &str, config: &Value) -> usize {
    let file = node.file("instructions");
    let tool = format!(
        "valgrind --tool=callgrind --trace-children=yes --callgrind-out-file=/dev/null --log-file={}.%p",
        file.display()
    );
    std::fs::write(&file, "").unwrap();
    behind(&tool, &file, node, pod, verb, config);
    let mut sum = 0;
    for entry in std::fs::read_dir(file.parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some() && path.file_stem() == file.file_name() {
            let log = std::fs::read_to_string(&path).unwrap();
            let counted = log.lines().find_map(|line| line.split_once("Collected :"));
            sum += counted.map_or(0, |(_, count)| count.trim().parse::<usize>().unwrap());
            std::fs::remove_file(path).unwrap();
        }
    }
    sum / 1000
}

fn is_there(program: &str) -> bool {
    let there = std::process::Command::new(program).arg("--version").output().is_ok();
    if !there {
        println!("skipped, in part: {program} is not installed");
    }
    there
}

/// What is wrong with `measured`, if anything.
fn compare(what: &str, measured: usize, budget: usize, sway: usize) -> Option<String> {
    match measured * 100 {
        m if m > budget * (100 + sway) => Some(format!("{what}: {measured}, over its budget of {budget}")),
        m if m < budget * (100 - SLACK.max(sway)) => {
            Some(format!("{what}: {measured}, far below its budget of {budget}: lower that"))
        }
        _ => None,
    }
}

#[test]
fn an_add_and_a_del_cost_what_is_recorded() {
    let budgets: BTreeMap<String, BTreeMap<String, Budget>> =
        serde_json::from_str(include_str!("recorded/budget.json")).unwrap();
    let (strace, valgrind) = (is_there("strace"), is_there("valgrind"));
    let mut wrong = Vec::new();
    for (name, verbs) in &budgets {
        let node = Node::new("budget");
        let config = config(name, &node);
        let plugin = config["type"].as_str().unwrap();
        let first = Pod::new("first");
        node.call(plugin, "ADD", &first, &config).ok();
        let pod = Pod::new("counted");
        for verb in ["ADD", "DEL"] {
            let budget = &verbs[verb];
            let what = format!("{name}, {verb} ({})", budget.why);
            if strace {
                let (calls, messages) = calls(&node, &pod, verb, &config);
                let sum = calls.values().sum();
                println!("{name}, {verb}: {sum} calls, {messages} messages: {calls:?}");
                let too_many = compare(&format!("{what}: system calls, {calls:?}"), sum, budget.calls, SWAY);
                wrong.extend(too_many.or(compare(&format!("{what}: messages"), messages, budget.messages, 0)));
            }
        }
        for verb in ["ADD", "DEL"] {
            if valgrind {
                let budget = &verbs[verb];
                let counted = instructions(&node, &pod, verb, &config);
                println!("{name}, {verb}: {counted} thousand instructions");
                let what = format!("{name}, {verb} ({}): thousands of instructions", budget.why);
                wrong.extend(compare(&what, counted, budget.kilo_instructions, SWAY_OF_INSTRUCTIONS));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
