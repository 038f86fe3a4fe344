//! The Pods of a workload on one node: ADD all, CHECK all, DEL all; or GC.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Map, Value, json};
use tempfile::TempDir;

use super::Set;
use super::measure::{Call, Sample, inside};
use super::workload::{NETWORK, Workload, complete};
use crate::lab::Netns;

/// A set's node: a namespace, and a directory for its stores.
#[derive(Debug)]
pub struct Node<'a> {
    /// Its plugins.
    pub set: &'a Set,
    /// Where they run.
    pub netns: Netns,
    /// What they keep.
    pub files: TempDir,
}

/// The samples of one verb in one round.
#[derive(Clone, Debug, Default)]
pub struct Round {
    /// One for each Pod.
    pub samples: Vec<Sample>,
    /// From the first start to the last end.
    pub elapsed: Duration,
}

impl From<(Duration, Vec<Sample>)> for Round {
    fn from((elapsed, samples): (Duration, Vec<Sample>)) -> Self {
        Round { samples, elapsed }
    }
}

/// Which verb of CNI.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Verb {
    /// ADD.
    Add,
    /// CHECK.
    Check,
    /// DEL.
    Del,
    /// GC.
    Gc,
    /// `--sync` of a plugin that follows a node map.
    Sync,
}

impl Verb {
    /// CNI_COMMAND.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Add => "ADD",
            Verb::Check => "CHECK",
            Verb::Del => "DEL",
            Verb::Gc => "GC",
            Verb::Sync => "--sync",
        }
    }
}

impl<'a> Node<'a> {
    /// A node for a set.
    pub fn new(set: &'a Set) -> Result<Self, String> {
        let files = tempfile::tempdir().map_err(|error| format!("a temporary directory: {error}"))?;
        Ok(Node { set, netns: Netns::new("bench"), files })
    }

    /// The directory of host-local's stores.
    pub fn data_dir(&self) -> PathBuf {
        self.files.path().join("networks")
    }

    /// The node map's file.
    pub fn map(&self) -> PathBuf {
        self.files.path().join("nodes.json")
    }

    /// One round of `workload` over `pods`: what each verb took.
    pub fn round(&self, workload: &Workload, pods: &[Netns]) -> Result<Vec<(Verb, Round)>, String> {
        let chain = Chain { node: self, workload };
        let pods = &pods[..workload.pods];
        let mut rounds = Vec::new();
        let (add, results) = chain.all(Verb::Add, pods, &[])?;
        rounds.push((Verb::Add, add));
        if workload.check {
            rounds.push((Verb::Check, chain.all(Verb::Check, pods, &results)?.0));
        }
        if workload.gc {
            let gc = chain.gc();
            if gc.is_err() {
                // A set without GC: its Pods are to be free for the other's next round.
                chain.all(Verb::Del, pods, &results)?;
            }
            rounds.push((Verb::Gc, gc?));
        } else {
            rounds.push((Verb::Del, chain.all(Verb::Del, pods, &results)?.0));
        }
        Ok(rounds)
    }

    /// Wires all of `pods`, and leaves them so.
    pub fn wire(&self, workload: &Workload, pods: &[Netns]) -> Result<(), String> {
        Chain { node: self, workload }.all(Verb::Add, pods, &[]).map(drop)
    }

    /// The peak of each verb's memory, of one Pod wired apart.
    pub fn peaks(&self, workload: &Workload, pod: &Netns) -> Result<Vec<(Verb, u64)>, String> {
        let chain = Chain { node: self, workload };
        let mut result = Value::Null;
        let mut peaks = Vec::new();
        for verb in [Verb::Add, Verb::Check, Verb::Del] {
            if verb == Verb::Check && !workload.check {
                continue;
            }
            let (_, peak, last) = inside(&self.netns.path(), || chain.one(verb, 0, pod, &result, true))??;
            peaks.push((verb, peak));
            if verb == Verb::Add {
                result = last;
            }
        }
        Ok(peaks)
    }
}

/// Does `job` for each number below `count` in `netns`, in `parallel` threads: how long all of it took, and what each gave.
pub fn at_a_time<T: Send>(
    netns: &Netns,
    count: usize,
    parallel: usize,
    job: impl Fn(usize) -> Result<T, String> + Sync,
) -> Result<(Duration, Vec<T>), String> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    let work = || -> Result<(), String> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= count {
                return Ok(());
            }
            let given = job(number)?;
            done.lock().expect("no panic").push((number, given));
        }
    };
    let before = Instant::now();
    std::thread::scope(|scope| {
        let start = || scope.spawn(|| inside(&netns.path(), work)?);
        let workers: Vec<_> = (0..parallel).map(|_| start()).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("no panic"))
    })?;
    let elapsed = before.elapsed();
    let mut done = done.into_inner().expect("no panic");
    done.sort_by_key(|(number, _)| *number);
    Ok((elapsed, done.into_iter().map(|(_, given)| given).collect()))
}

struct Chain<'a> {
    node: &'a Node<'a>,
    workload: &'a Workload,
}

impl Chain<'_> {
    /// One verb for all Pods, as many at a time as the workload says.
    fn all(&self, verb: Verb, pods: &[Netns], results: &[Value]) -> Result<(Round, Vec<Value>), String> {
        let one = |number: usize| {
            let result = results.get(number).unwrap_or(&Value::Null);
            self.one(verb, number, &pods[number], result, false).map(|(sample, _, result)| (sample, result))
        };
        let (elapsed, done) = at_a_time(&self.node.netns, pods.len(), self.workload.parallel, one)?;
        let (samples, results) = done.into_iter().unzip();
        Ok((Round::from((elapsed, samples)), results))
    }

    /// One verb for one Pod, by every plugin of the chain; its result, and when weighed its peak.
    fn one(
        &self,
        verb: Verb,
        number: usize,
        pod: &Netns,
        result: &Value,
        weighed: bool,
    ) -> Result<(Sample, u64, Value), String> {
        let chain = self.workload.chain_for(self.node.set)?;
        let (mut sum, mut peak, mut result) = (Sample::default(), 0, result.clone());
        let mut steps: Vec<&Value> = chain.iter().collect();
        if verb == Verb::Del {
            steps.reverse();
        }
        for plugin in steps {
            let call = self.call(verb, plugin, number, pod, &result)?;
            let answer = if weighed {
                let (kib, answer) = call.peak()?;
                peak = peak.max(kib);
                answer
            } else {
                let (sample, answer) = call.execute()?;
                sum = sum.and(sample);
                answer
            };
            if verb == Verb::Add {
                result = answer;
            }
        }
        Ok((sum, peak, result))
    }

    fn call(&self, verb: Verb, plugin: &Value, number: usize, pod: &Netns, result: &Value) -> Result<Call, String> {
        let mut config = complete(plugin, "1.0.0", &self.node.map(), &self.node.data_dir().display().to_string());
        give_own_port(&mut config, number);
        if !result.is_null() {
            config.insert("prevResult".into(), result.clone());
        }
        let mut call = self.prepared(verb, plugin, config)?;
        call.variables.extend([
            ("CNI_CONTAINERID", format!("{NETWORK}-{number}")),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_NETNS", pod.path().display().to_string()),
        ]);
        Ok(call)
    }

    /// GC with nothing valid.
    fn gc(&self) -> Result<Round, String> {
        let plugin = &self.workload.chain_for(self.node.set)?[0];
        let mut config = complete(plugin, "1.1.0", &self.node.map(), &self.node.data_dir().display().to_string());
        config.insert("cni.dev/valid-attachments".into(), json!([]));
        let call = self.prepared(Verb::Gc, plugin, config)?;
        let (sample, _) = inside(&self.node.netns.path(), || call.execute())??;
        Ok(Round::from((sample.wall, vec![sample])))
    }

    fn prepared(&self, verb: Verb, plugin: &Value, config: Map<String, Value>) -> Result<Call, String> {
        Ok(Call {
            executable: self.node.set.find(plugin["type"].as_str().unwrap_or_default())?,
            arguments: Vec::new(),
            variables: vec![("CNI_COMMAND", verb.as_str().to_owned()), ("CNI_PATH", self.node.set.cni_path())],
            input: Value::Object(config).to_string().into_bytes(),
        })
    }
}

/// Each Pod maps a port of its own.
fn give_own_port(config: &mut Map<String, Value>, number: usize) {
    if let Some(port) =
        config.get_mut("runtimeConfig").and_then(|capabilities| capabilities.pointer_mut("/portMappings/0/hostPort"))
    {
        *port = json!(8080 + number);
    }
}
