//! The kubelet's side of the Container Runtime Interface, as far as the tests go.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// Longer than an ADD may take.
const PATIENCE: Duration = Duration::from_secs(70);

/// A runtime that listens on a unix socket.
#[derive(Debug, Clone)]
pub(crate) struct Cri {
    channel: Channel,
}

impl Cri {
    /// Connects.
    pub(crate) async fn connect(socket: &Path) -> anyhow::Result<Self> {
        let endpoint = Endpoint::try_from(format!("unix:{}", socket.display()))?;
        let channel = endpoint.timeout(PATIENCE).connect().await?;
        Ok(Self { channel })
    }

    /// `RunPodSandbox`; answers the sandbox's id.
    pub(crate) async fn run(&self, config: &SandboxConfig) -> anyhow::Result<String> {
        let request = RunPodSandboxRequest {
            config: Some(config.clone()),
        };
        let answer: Id = self.call("RunPodSandbox", request).await?;
        Ok(answer.id)
    }

    /// `StopPodSandbox`.
    pub(crate) async fn stop(&self, sandbox: &str) -> anyhow::Result<()> {
        let answer: Empty = self.call("StopPodSandbox", Id::of(sandbox)).await?;
        let Empty {} = answer;
        Ok(())
    }

    /// `RemovePodSandbox`.
    pub(crate) async fn remove(&self, sandbox: &str) -> anyhow::Result<()> {
        let answer: Empty = self.call("RemovePodSandbox", Id::of(sandbox)).await?;
        let Empty {} = answer;
        Ok(())
    }

    /// `PodSandboxStatus`, with what only people get.
    pub(crate) async fn sandbox(&self, sandbox: &str) -> anyhow::Result<PodSandboxStatusResponse> {
        let request = PodSandboxStatusRequest {
            id: sandbox.to_owned(),
            verbose: true,
        };
        self.call("PodSandboxStatus", request).await
    }

    /// `CreateContainer` and `StartContainer`; answers the container's id.
    pub(crate) async fn start(
        &self,
        sandbox: &str,
        config: &SandboxConfig,
        name: &str,
        image: &str,
        command: &[&str],
    ) -> anyhow::Result<String> {
        let request = CreateContainerRequest {
            sandbox: sandbox.to_owned(),
            config: Some(ContainerConfig {
                metadata: Some(ContainerMetadata {
                    name: name.to_owned(),
                }),
                image: Some(Id::of(image)),
                command: command.iter().map(|word| (*word).to_owned()).collect(),
            }),
            sandbox_config: Some(config.clone()),
        };
        let container: Id = self.call("CreateContainer", request).await?;
        let answer: Empty = self.call("StartContainer", Id::of(&container.id)).await?;
        let Empty {} = answer;
        Ok(container.id)
    }

    /// `ExecSync`.
    pub(crate) async fn exec(
        &self,
        container: &str,
        command: &[&str],
    ) -> anyhow::Result<ExecSyncResponse> {
        let request = ExecSyncRequest {
            container: container.to_owned(),
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            timeout: 10,
        };
        self.call("ExecSync", request).await
    }

    /// Whether a condition of `Status` holds: `RuntimeReady`, `NetworkReady`.
    pub(crate) async fn is(&self, condition: &str) -> anyhow::Result<bool> {
        Ok(self.condition(condition).await?.holds)
    }

    /// A condition of `Status`.
    pub(crate) async fn condition(&self, kind: &str) -> anyhow::Result<Condition> {
        let answer: StatusResponse = self.call("Status", Empty {}).await?;
        let conditions = answer.status.context("no status")?.conditions;
        let found = conditions.into_iter().find(|found| found.kind == kind);
        found.with_context(|| format!("no {kind}"))
    }

    async fn call<Q, A>(&self, method: &str, request: Q) -> anyhow::Result<A>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let path = PathAndQuery::try_from(format!("/runtime.v1.RuntimeService/{method}"))?;
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await?;
        let request = tonic::Request::new(request);
        let answer = grpc.unary(request, path, ProstCodec::<Q, A>::default());
        Ok(answer
            .await
            .with_context(|| method.to_owned())?
            .into_inner())
    }
}

// The messages, by the numbers in k8s.io/cri-api, pkg/apis/runtime/v1/api.proto. What is not here is left at its
// default.

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Empty {}

/// Any message whose first field is an id, and that needs no other.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Id {
    #[prost(string, tag = "1")]
    pub(crate) id: String,
}

impl Id {
    fn of(id: &str) -> Self {
        Self { id: id.to_owned() }
    }
}

#[derive(Clone, PartialEq, prost::Message)]
struct RunPodSandboxRequest {
    #[prost(message, optional, tag = "1")]
    config: Option<SandboxConfig>,
}

/// `PodSandboxConfig`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SandboxConfig {
    #[prost(message, optional, tag = "1")]
    pub(crate) metadata: Option<SandboxMetadata>,
    #[prost(string, tag = "3")]
    pub(crate) log_directory: String,
    #[prost(message, repeated, tag = "5")]
    pub(crate) port_mappings: Vec<PortMapping>,
    #[prost(message, optional, tag = "8")]
    pub(crate) linux: Option<LinuxSandbox>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SandboxMetadata {
    #[prost(string, tag = "1")]
    pub(crate) name: String,
    #[prost(string, tag = "2")]
    pub(crate) uid: String,
    #[prost(string, tag = "3")]
    pub(crate) namespace: String,
}

/// TCP, which is 0.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PortMapping {
    #[prost(int32, tag = "2")]
    pub(crate) container_port: i32,
    #[prost(int32, tag = "3")]
    pub(crate) host_port: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct LinuxSandbox {
    #[prost(string, tag = "1")]
    pub(crate) cgroup_parent: String,
    #[prost(message, optional, tag = "2")]
    pub(crate) security: Option<Security>,
}

/// `LinuxSandboxSecurityContext`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Security {
    #[prost(message, optional, tag = "1")]
    pub(crate) namespaces: Option<Namespaces>,
}

/// `NamespaceMode`: the node's. The pod's own is 0.
pub(crate) const NODE: i32 = 2;

/// `NamespaceOption`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Namespaces {
    #[prost(int32, tag = "1")]
    pub(crate) network: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PodSandboxStatusRequest {
    #[prost(string, tag = "1")]
    id: String,
    #[prost(bool, tag = "2")]
    verbose: bool,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct PodSandboxStatusResponse {
    #[prost(message, optional, tag = "1")]
    pub(crate) status: Option<SandboxStatus>,
    #[prost(map = "string, string", tag = "2")]
    pub(crate) info: std::collections::HashMap<String, String>,
}

/// `PodSandboxStatus`: state 0 is ready, 1 is not.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct SandboxStatus {
    #[prost(int32, tag = "3")]
    pub(crate) state: i32,
    #[prost(message, optional, tag = "5")]
    pub(crate) network: Option<NetworkStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct NetworkStatus {
    #[prost(string, tag = "1")]
    pub(crate) ip: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct CreateContainerRequest {
    #[prost(string, tag = "1")]
    sandbox: String,
    #[prost(message, optional, tag = "2")]
    config: Option<ContainerConfig>,
    #[prost(message, optional, tag = "3")]
    sandbox_config: Option<SandboxConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerConfig {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ContainerMetadata>,
    #[prost(message, optional, tag = "2")]
    image: Option<Id>,
    #[prost(string, repeated, tag = "3")]
    command: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ContainerMetadata {
    #[prost(string, tag = "1")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ExecSyncRequest {
    #[prost(string, tag = "1")]
    container: String,
    #[prost(string, repeated, tag = "2")]
    command: Vec<String>,
    /// In seconds.
    #[prost(int64, tag = "3")]
    timeout: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct ExecSyncResponse {
    #[prost(bytes = "vec", tag = "1")]
    pub(crate) stdout: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) stderr: Vec<u8>,
    #[prost(int32, tag = "3")]
    pub(crate) exit_code: i32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct StatusResponse {
    #[prost(message, optional, tag = "1")]
    status: Option<RuntimeStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct RuntimeStatus {
    #[prost(message, repeated, tag = "1")]
    conditions: Vec<Condition>,
}

/// `RuntimeCondition`.
#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Condition {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(bool, tag = "2")]
    pub(crate) holds: bool,
    #[prost(string, tag = "4")]
    pub(crate) message: String,
}
