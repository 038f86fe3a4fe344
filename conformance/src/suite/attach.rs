//! The runtime's part (spec section 3): Pods, and the operations on what is under test.
//!
//! What comes before the plugins under test in their list, or the suite's own veth for a chained plugin by
//! itself, is added before them and deleted after them.

use serde_json::{Value, json};

use libcni::{CniResult, Version};

use super::clause::{Kind, Step, Stop};
use super::exec::{Call, Ended, Reply};
use super::world::World;

/// A container's attachment to be.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Counts from 1 in each world.
    pub number: usize,
    /// CNI_CONTAINERID.
    pub id: String,
    /// CNI_IFNAME.
    pub ifname: String,
    /// CNI_ARGS; none: not set.
    pub args: Option<String>,
    netns: String,
    /// Has what comes before the plugins under test been added?
    begun: bool,
    /// The result of what comes before the plugins under test.
    pub before: Option<Value>,
    /// The result of the last ADD.
    pub result: Option<Value>,
}

impl Pod {
    /// The name of its namespace.
    pub fn netns_name(&self) -> &str {
        &self.netns
    }

    /// CNI_NETNS.
    pub fn netns_path(&self) -> String {
        format!("/run/netns/{}", self.netns)
    }

    /// The same container with another interface.
    pub fn second(&self, ifname: &str) -> Pod {
        Pod { ifname: ifname.to_owned(), begun: false, before: None, result: None, ..self.clone() }
    }
}

/// A successful ADD.
#[derive(Clone, Debug)]
pub struct Added {
    /// As it came.
    pub value: Value,
    /// As it reads.
    pub result: CniResult,
}

impl World {
    /// A Pod with a namespace of its own.
    pub fn pod(&self) -> Step<Pod> {
        let number = self.next_pod();
        let netns = format!("pod{number}");
        self.make_netns(&netns)?;
        self.without_dad(Some(&netns))?;
        let ifname = if self.job.kind == Kind::Loopback { "lo" } else { "eth0" };
        // As containerd's: 64 digits. They differ at the end only, as an unlucky hash might.
        let id = format!("c0ffee{number:058x}");
        let ifname = ifname.to_owned();
        Ok(Pod { number, id, ifname, args: None, netns, begun: false, before: None, result: None })
    }

    /// Removes a Pod's namespace, as a runtime does that forgot the DEL.
    pub fn remove_netns(&self, pod: &Pod) -> Step {
        self.note(format!("the namespace of {}/{} removed", tail(&pod.id), pod.ifname));
        let veths = self.links(Some(&pod.netns))?.iter().filter(|link| link.kind == "veth").count();
        let there = self.links(None)?.len();
        self.sh(None, &format!("ip netns del {}", pod.netns))?;
        // The kernel takes its devices down a little later, and their other ends along: a DEL soon after that is the
        // same every time.
        for _ in 0..100 {
            if self.links(None)?.len() + veths <= there {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        Ok(())
    }

    /// Adds what comes before the plugins under test.
    pub fn begin(&self, pod: &mut Pod) -> Step {
        if pod.begun {
            return Ok(());
        }
        pod.begun = true;
        let network = &self.job.network;
        if self.job.kind == Kind::Chained && network.first == 0 {
            pod.before = Some(self.make_base(pod)?);
        }
        for index in 0..network.first {
            let reply = self.execute(&self.call_of(index, "ADD", pod)?)?;
            let result = reply.document().ok().filter(|_| reply.success());
            pod.before = Some(result.ok_or_else(|| {
                Stop::Suite(format!("{}, which comes first: {}", network.plugin_type(index), reply.summary()))
            })?);
        }
        Ok(())
    }

    /// One execution of the plugin under test (of a chain: the first), with what comes before it in place.
    pub fn call(&self, command: &str, pod: &mut Pod) -> Step<Call> {
        self.begin(pod)?;
        self.call_of(self.job.network.first, command, pod)
    }

    /// An execution of one plugin that is about no attachment: VERSION, GC, STATUS.
    pub fn network_call(&self, index: usize, command: &str) -> Step<Call> {
        let network = &self.job.network;
        let env = [("CNI_COMMAND", command), ("CNI_PATH", &self.cni_path()), ("PATH", "/usr/sbin:/usr/bin:/sbin:/bin")];
        Ok(Call {
            program: self.find(network.plugin_type(index))?,
            env: env.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            input: network.derive(index, self.job.version).to_string().into_bytes(),
            hesitate: false,
        })
    }

    fn call_of(&self, index: usize, command: &str, pod: &Pod) -> Step<Call> {
        let mut call = self
            .network_call(index, command)?
            .with("CNI_CONTAINERID", &pod.id)
            .with("CNI_IFNAME", &pod.ifname)
            .with("CNI_NETNS", pod.netns_path());
        if let Some(args) = &pod.args {
            call = call.with("CNI_ARGS", args);
        }
        let runtime_config = self.job.network.runtime_config(index, pod.number);
        let previous = match command {
            "ADD" => pod.before.as_ref(),
            _ if self.speaks(Version::V0_4_0) => pod.result.as_ref(),
            _ => None,
        };
        Ok(call.edit(|config| {
            if !runtime_config.is_empty() {
                config["runtimeConfig"] = Value::Object(runtime_config);
            }
            if let Some(previous) = previous {
                config["prevResult"] = previous.clone();
            }
        }))
    }

    /// Executes a call and writes it down.
    pub fn execute(&self, call: &Call) -> Step<Reply> {
        let reply = call.run(self.patience());
        let reply = reply.map_err(|error| {
            let program = call.program.display();
            Stop::Suite(format!("{program} can not be executed: {error} (it has to be an executable file)"))
        })?;
        if let Ended::Hung(_) = reply.ended {
            self.lose_patience();
        }
        self.note(format!("{}: {}", reply.title, reply.summary()));
        Ok(reply)
    }

    /// ADD. The result is kept in the Pod.
    pub fn add(&self, pod: &mut Pod) -> Step<Reply> {
        self.add_with(pod, |call| call)
    }

    /// ADD with each execution edited. The reply is the last plugin's, with the logs of all.
    pub fn add_with(&self, pod: &mut Pod, edit: impl Fn(Call) -> Call) -> Step<Reply> {
        self.begin(pod)?;
        let mut at = pod.clone();
        let network = &self.job.network;
        let mut logs = String::new();
        for index in network.first..network.plugins.len() {
            let mut reply = self.execute(&edit(self.call_of(index, "ADD", &at)?))?;
            logs += &reply.stderr;
            reply.stderr.clone_from(&logs);
            let last = index + 1 == network.plugins.len();
            match reply.document() {
                Ok(document) if reply.success() => at.before = Some(document),
                _ => return Ok(reply),
            }
            if last {
                pod.result = at.before;
                return Ok(reply);
            }
        }
        unreachable!("a network has a plugin under test")
    }

    /// ADD that must succeed for the trial to go on.
    pub fn added(&self, pod: &mut Pod) -> Step<Added> {
        let reply = self.add(pod)?;
        let unmet = |why: String| Stop::Unmet(format!("begins with an ADD, which did not succeed: {why}"));
        if !reply.success() {
            return Err(unmet(reply.summary()));
        }
        let value = reply.document().map_err(unmet)?;
        let result = CniResult::from_value(&value, self.job.version).map_err(|error| unmet(error.to_string()))?;
        Ok(Added { value, result })
    }

    /// A Pod that has been added.
    pub fn attached(&self) -> Step<(Pod, Added)> {
        let mut pod = self.pod()?;
        let added = self.added(&mut pod)?;
        Ok((pod, added))
    }

    /// DEL, of all plugins under test in reverse; then of what comes before them.
    pub fn del(&self, pod: &Pod) -> Step<Reply> {
        self.del_with(pod, |call| call)
    }

    /// DEL with each execution edited.
    pub fn del_with(&self, pod: &Pod, edit: impl Fn(Call) -> Call) -> Step<Reply> {
        let reply = self.del_without_end(pod, &edit)?;
        if reply.success() {
            self.end(pod, edit)?;
        }
        Ok(reply)
    }

    /// DEL of the plugins under test only.
    pub fn del_without_end(&self, pod: &Pod, edit: impl Fn(Call) -> Call) -> Step<Reply> {
        let network = &self.job.network;
        let mut replies = Vec::new();
        for index in (network.first..network.plugins.len()).rev() {
            let reply = self.execute(&edit(self.call_of(index, "DEL", pod)?))?;
            let success = reply.success();
            replies.push(reply);
            if !success {
                break;
            }
        }
        Ok(replies.pop().expect("a network has a plugin under test"))
    }

    /// DEL of what comes before the plugins under test.
    pub fn end(&self, pod: &Pod, edit: impl Fn(Call) -> Call) -> Step {
        let network = &self.job.network;
        for index in (0..network.first).rev() {
            self.execute(&edit(self.call_of(index, "DEL", pod)?))?;
        }
        if self.job.kind == Kind::Chained && network.first == 0 {
            self.remove_base(pod);
        }
        Ok(())
    }

    /// DEL that must succeed for the trial to go on.
    pub fn deleted(&self, pod: &Pod) -> Step {
        let reply = self.del(pod)?;
        match reply.success() {
            true => Ok(()),
            false => Err(Stop::Unmet(format!("has a DEL in it, which did not succeed: {}", reply.summary()))),
        }
    }

    /// CHECK, up to the first that fails.
    pub fn check(&self, pod: &Pod) -> Step<Reply> {
        self.over_all(|index| self.call_of(index, "CHECK", pod), true)
    }

    /// CHECK that must succeed for the trial to go on, so that a failure later is news.
    pub fn checked(&self, pod: &Pod) -> Step {
        let reply = self.check(pod)?;
        match reply.success() {
            true => Ok(()),
            false => Err(Stop::Unmet(format!("begins with a CHECK, which did not succeed: {}", reply.summary()))),
        }
    }

    /// GC with these attachments valid, going on after a failure; the first failure's reply.
    pub fn gc(&self, valid: &[&Pod]) -> Step<Reply> {
        self.over_all(|index| self.gc_call(index, valid), false)
    }

    /// GC of one plugin.
    pub fn gc_call(&self, index: usize, valid: &[&Pod]) -> Step<Call> {
        let valid = valid.iter().map(|pod| json!({"containerID": pod.id, "ifname": pod.ifname})).collect::<Vec<_>>();
        let call = self.network_call(index, "GC")?;
        Ok(call.edit(|config| config["cni.dev/valid-attachments"] = json!(valid)))
    }

    /// STATUS of one plugin.
    pub fn status_call(&self, index: usize) -> Step<Call> {
        self.network_call(index, "STATUS")
    }

    /// STATUS, up to the first that fails.
    pub fn status(&self) -> Step<Reply> {
        self.over_all(|index| self.status_call(index), true)
    }

    fn over_all(&self, call: impl Fn(usize) -> Step<Call>, halt: bool) -> Step<Reply> {
        let network = &self.job.network;
        let mut replies = Vec::new();
        for index in network.first..network.plugins.len() {
            let reply = self.execute(&call(index)?)?;
            let failed = !reply.success();
            replies.push(reply);
            if failed && halt {
                break;
            }
        }
        let telling = replies.iter().position(|reply| !reply.success()).unwrap_or(replies.len() - 1);
        Ok(replies.swap_remove(telling))
    }

    /// An execution of the delegate itself with the configuration of the plugin that names it, as that plugin would.
    pub fn delegate_call(&self, command: &str, pod: &Pod) -> Step<Option<Call>> {
        let network = &self.job.network;
        let Some(index) = (network.first..network.plugins.len()).find(|&index| network.delegate(index).is_some())
        else {
            return Ok(None);
        };
        let mut call = self.call_of(index, command, pod)?;
        call.program = self.find(network.delegate(index).expect("found above"))?;
        Ok(Some(call))
    }
}

/// The end of a container ID, for people.
pub fn tail(id: &str) -> String {
    format!("…{}", &id[id.len().saturating_sub(6)..])
}
