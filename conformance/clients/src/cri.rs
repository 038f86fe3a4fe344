//! The kubelet's side of the Container Runtime Interface (kubernetes/cri-api, `runtime.v1`), as far as Pods' networking needs it.
//!
//! The messages are written down here with the fields that are used; protobuf skips the others. (The crate k8s-cri
//! has them all, and wants the compiler `protoc` to be installed.)

use std::path::{Path, PathBuf};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};

use crate::containerd::IMAGE;

/// `PodSandboxConfig`.
#[derive(Clone, PartialEq, Message)]
pub struct PodConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<PodMetadata>,
    #[prost(message, repeated, tag = "5")]
    port_mappings: Vec<PortMapping>,
    #[prost(map = "string, string", tag = "7")]
    annotations: std::collections::HashMap<String, String>,
    #[prost(message, optional, tag = "8")]
    linux: Option<LinuxPodConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct PodMetadata {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    uid: String,
    #[prost(string, tag = "3")]
    namespace: String,
}

#[derive(Clone, PartialEq, Message)]
struct PortMapping {
    #[prost(int32, tag = "2")]
    container_port: i32,
    #[prost(int32, tag = "3")]
    host_port: i32,
}

#[derive(Clone, PartialEq, Message)]
struct LinuxPodConfig {
    #[prost(string, tag = "1")]
    cgroup_parent: String,
}

#[derive(Clone, PartialEq, Message)]
struct RunPodRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<PodConfig>,
}

/// Several requests and answers are one identifier.
#[derive(Clone, PartialEq, Message)]
struct Id {
    #[prost(string, tag = "1")]
    id: String,
}

#[derive(Clone, PartialEq, Message)]
struct PodStatusAnswer {
    #[prost(message, optional, tag = "1")]
    status: Option<PodStatusFields>,
}

#[derive(Clone, PartialEq, Message)]
struct PodStatusFields {
    #[prost(int32, tag = "3")]
    state: i32,
    #[prost(message, optional, tag = "5")]
    network: Option<PodNetwork>,
}

#[derive(Clone, PartialEq, Message)]
struct PodNetwork {
    #[prost(string, tag = "1")]
    ip: String,
    #[prost(message, repeated, tag = "2")]
    additional_ips: Vec<Id>,
}

#[derive(Clone, PartialEq, Message)]
struct PodList {
    #[prost(message, repeated, tag = "1")]
    items: Vec<Id>,
}

#[derive(Clone, PartialEq, Message)]
struct CreateContainerRequest {
    #[prost(string, tag = "1")]
    pod: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    pod_config: Option<PodConfig>,
}

#[derive(Clone, PartialEq, Message)]
struct ContainerConfig {
    /// `ContainerMetadata`: its first field is the name.
    #[prost(message, optional, tag = "1")]
    metadata: Option<Id>,
    /// `ImageSpec`: its first field is the name.
    #[prost(message, optional, tag = "2")]
    image: Option<Id>,
    #[prost(string, repeated, tag = "4")]
    args: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
struct ExecRequest {
    #[prost(string, tag = "1")]
    container: String,
    #[prost(string, repeated, tag = "2")]
    command: Vec<String>,
    /// In seconds.
    #[prost(int64, tag = "3")]
    timeout: i64,
}

#[derive(Clone, PartialEq, Message)]
struct ExecAnswer {
    #[prost(bytes = "vec", tag = "1")]
    stdout: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    stderr: Vec<u8>,
    #[prost(int32, tag = "3")]
    exit_code: i32,
}

/// Requests and answers of which nothing is asked or read.
#[derive(Clone, PartialEq, Message)]
struct Empty {}

#[derive(Clone, PartialEq, Message)]
struct StatusAnswer {
    #[prost(message, optional, tag = "1")]
    status: Option<RuntimeStatus>,
}

#[derive(Clone, PartialEq, Message)]
struct RuntimeStatus {
    #[prost(message, repeated, tag = "1")]
    conditions: Vec<Condition>,
}

#[derive(Clone, PartialEq, Message)]
struct Condition {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(bool, tag = "2")]
    holds: bool,
    #[prost(string, tag = "4")]
    message: String,
}

/// What containerd says of a Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodStatus {
    /// Is its sandbox running?
    pub ready: bool,
    /// Its addresses, the primary one first.
    pub ips: Vec<String>,
}

impl PodConfig {
    /// A Pod called `name`.
    pub fn new(name: &str) -> Self {
        PodConfig {
            metadata: Some(PodMetadata { name: name.into(), uid: name.into(), namespace: "default".into() }),
            port_mappings: Vec::new(),
            annotations: Default::default(),
            linux: Some(LinuxPodConfig { cgroup_parent: crate::machine::cgroup() }),
        }
    }

    /// The same Pod with a port of the node passed on to it.
    #[must_use]
    pub fn host_port(mut self, host_port: u16, container_port: u16) -> Self {
        self.port_mappings.push(PortMapping { host_port: host_port.into(), container_port: container_port.into() });
        self
    }
}

/// A connection to a runtime.
#[derive(Debug)]
pub struct Cri {
    runtime: Runtime,
    channel: Channel,
}

/// No call takes longer.
const PATIENCE: Duration = Duration::from_secs(120);

impl Cri {
    /// Connects to the runtime that listens at `socket`.
    pub fn connect(socket: &Path) -> Self {
        Cri::try_connect(socket).unwrap_or_else(|error| panic!("{}: {error}", socket.display()))
    }

    /// Is there a runtime at `socket` that takes calls?
    pub fn answers(socket: &Path) -> bool {
        Cri::try_connect(socket).is_ok_and(|cri| cri.call::<_, Empty>("Version", Empty {}).is_ok())
    }

    fn try_connect(socket: &Path) -> Result<Self, tonic::transport::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let path = PathBuf::from(socket);
        let connect = tower::service_fn(move |_| {
            let path = path.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
        });
        // The address is for HTTP only; the connector knows where to go.
        let endpoint = Endpoint::from_static("http://localhost").timeout(PATIENCE);
        let channel = runtime.block_on(endpoint.connect_with_connector(connect))?;
        Ok(Cri { runtime, channel })
    }

    fn call<Q, A>(&self, method: &str, request: Q) -> Result<A, String>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        self.runtime.block_on(self.start(method, request))
    }

    async fn start<Q, A>(&self, method: &str, request: Q) -> Result<A, String>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let path = format!("/runtime.v1.RuntimeService/{method}");
        let path = PathAndQuery::try_from(path).expect("a method's path");
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        grpc.ready().await.map_err(|error| error.to_string())?;
        let codec = tonic_prost::ProstCodec::<Q, A>::default();
        let answer = grpc.unary(tonic::Request::new(request), path, codec).await;
        answer.map(tonic::Response::into_inner).map_err(|status| status.message().to_owned())
    }

    /// RunPodSandbox of all of them at once, over the one connection, as a kubelet that starts has it; in their order.
    pub fn run_pods(&self, configs: &[PodConfig]) -> Vec<Result<String, String>> {
        let request = |config: &PodConfig| RunPodRequest { config: Some(config.clone()) };
        let calls = configs.iter().map(|config| self.start::<_, Id>("RunPodSandbox", request(config)));
        let answers = self.runtime.block_on(futures::future::join_all(calls));
        answers.into_iter().map(|answer| answer.map(|Id { id }| id)).collect()
    }

    /// RunPodSandbox: the Pod's ID, or the error as containerd words it.
    pub fn run_pod(&self, config: &PodConfig) -> Result<String, String> {
        self.call::<_, Id>("RunPodSandbox", RunPodRequest { config: Some(config.clone()) }).map(|answer| answer.id)
    }

    /// PodSandboxStatus.
    pub fn pod_status(&self, pod: &str) -> Result<PodStatus, String> {
        let answer: PodStatusAnswer = self.call("PodSandboxStatus", Id { id: pod.into() })?;
        let status = answer.status.unwrap_or_default();
        let network = status.network.unwrap_or_default();
        let ips = std::iter::once(network.ip).chain(network.additional_ips.into_iter().map(|ip| ip.id));
        Ok(PodStatus { ready: status.state == 0, ips: ips.filter(|ip| !ip.is_empty()).collect() })
    }

    /// ListPodSandbox: the IDs of all Pods, whatever their state.
    pub fn pods(&self) -> Result<Vec<String>, String> {
        let answer: PodList = self.call("ListPodSandbox", Empty {})?;
        Ok(answer.items.into_iter().map(|pod| pod.id).collect())
    }

    /// StopPodSandbox and RemovePodSandbox.
    pub fn remove_pod(&self, pod: &str) -> Result<(), String> {
        self.stop_pod(pod)?;
        self.call::<_, Empty>("RemovePodSandbox", Id { id: pod.into() }).map(drop)
    }

    /// StopPodSandbox.
    pub fn stop_pod(&self, pod: &str) -> Result<(), String> {
        self.call::<_, Empty>("StopPodSandbox", Id { id: pod.into() }).map(drop)
    }

    /// A container of that Pod, created and started; its ID.
    pub fn run_container(&self, pod: &str, config: &PodConfig, name: &str, args: &[&str]) -> Result<String, String> {
        let container = ContainerConfig {
            metadata: Some(Id { id: name.into() }),
            image: Some(Id { id: IMAGE.into() }),
            args: args.iter().map(|&arg| arg.to_owned()).collect(),
        };
        let request =
            CreateContainerRequest { pod: pod.into(), config: Some(container), pod_config: Some(config.clone()) };
        let Id { id } = self.call("CreateContainer", request)?;
        self.call::<_, Empty>("StartContainer", Id { id: id.clone() })?;
        Ok(id)
    }

    /// A command in a container; its stdout, or all that is known of its failure.
    pub fn exec(&self, container: &str, command: &[&str]) -> Result<String, String> {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        let request = ExecRequest { container: container.into(), command, timeout: 30 };
        let answer: ExecAnswer = self.call("ExecSync", request)?;
        let stdout = String::from_utf8_lossy(&answer.stdout).into_owned();
        match answer.exit_code {
            0 => Ok(stdout),
            code => Err(format!("exit status {code}: {stdout}{}", String::from_utf8_lossy(&answer.stderr))),
        }
    }

    /// Status: is the network ready, and if not, why?
    pub fn network_ready(&self) -> Result<(), String> {
        let answer: StatusAnswer = self.call("Status", Empty {})?;
        let conditions = answer.status.unwrap_or_default().conditions;
        match conditions.into_iter().find(|condition| condition.kind == "NetworkReady") {
            Some(condition) if condition.holds => Ok(()),
            Some(condition) => Err(condition.message),
            None => Err("no word of the network".to_owned()),
        }
    }
}
