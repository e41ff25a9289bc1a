//! A node under test: the real ipamd and the real CNI plugin on a node of the lab.

use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use proto::v1::pool_client::PoolClient;
use proto::v1::{GetPoolRequest, GetPoolResponse};
use serde_json::{Value, json};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use vpc_lab::netns::Running;
use vpc_lab::{Lab, Netns};

use crate::programs;

/// How long ipamd may take from its start to serving. It needs a few answers of IMDS and one of EC2: a second, or many
/// where the machine is busy with other tests.
const START: Duration = Duration::from_mins(1);

/// A node of the lab with ipamd on it. Dropped, its ipamd is killed.
#[derive(Debug)]
pub struct Node<'lab> {
    lab: &'lab vpc_lab::Node,
    env: Vec<(String, String)>,
    ipamd: Option<Running>,
}

impl<'lab> Node<'lab> {
    /// The node of this name, without ipamd yet.
    #[must_use]
    pub fn new(lab: &'lab Lab, name: &str) -> Self {
        Self {
            lab: lab.node(name),
            env: Vec::new(),
            ipamd: None,
        }
    }

    /// Sets a variable of ipamd's environment, for its next start.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl std::fmt::Display) -> Self {
        self.env.push((name.to_owned(), format!("{value}")));
        self
    }

    /// The lab's side of it.
    #[must_use]
    pub fn lab(&self) -> &'lab vpc_lab::Node {
        self.lab
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'lab str {
        self.lab.name()
    }

    /// Where its ipamd listens.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.lab.run_dir().join("ipamd.sock")
    }

    /// Where its books lie.
    #[must_use]
    pub fn books(&self) -> PathBuf {
        self.lab.run_dir().join("books.json")
    }

    /// Where its ipamd logs to, over all its starts.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.lab.run_dir().join("ipamd.log")
    }

    /// Starts ipamd and waits until it serves.
    ///
    /// # Errors
    /// When it does not within a minute, with the end of its log.
    pub async fn start_ipamd(&mut self) -> anyhow::Result<()> {
        self.launch_ipamd()?;
        let deadline = Instant::now() + START;
        loop {
            if let Ok(true) = self.serves().await {
                return Ok(());
            }
            if let Some(ipamd) = &mut self.ipamd
                && let Some(status) = ipamd.child().try_wait()?
            {
                bail!(
                    "ipamd on {} ended with {status}:\n{}",
                    self.name(),
                    self.log_tail()
                );
            }
            if Instant::now() > deadline {
                bail!(
                    "ipamd on {} does not serve:\n{}",
                    self.name(),
                    self.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Starts ipamd without waiting for anything.
    ///
    /// # Errors
    /// When the program can't be started.
    pub fn launch_ipamd(&mut self) -> anyhow::Result<()> {
        let log = File::options().create(true).append(true).open(self.log())?;
        let mut command = std::process::Command::new(programs::path("ipamd")?);
        command
            .arg("--socket")
            .arg(self.socket())
            .arg("--books")
            .arg(self.books())
            .env_clear()
            .envs(self.lab.env().iter().cloned())
            .envs(self.env.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        self.ipamd = Some(self.lab.netns().spawn(command)?);
        Ok(())
    }

    /// Ends ipamd as an operating system does: SIGTERM, and its exit status within ten seconds.
    ///
    /// # Errors
    /// When it does not end, or with another status than 0.
    pub async fn stop_ipamd(&mut self) -> anyhow::Result<()> {
        let Some(mut ipamd) = self.ipamd.take() else {
            return Ok(());
        };
        let pid = i32::try_from(ipamd.pid())
            .ok()
            .and_then(rustix::process::Pid::from_raw);
        rustix::process::kill_process(
            pid.context("ipamd has no pid")?,
            rustix::process::Signal::TERM,
        )?;
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            if let Some(status) = ipamd.child().try_wait()? {
                if !status.success() {
                    bail!("ipamd ended with {status}:\n{}", self.log_tail());
                }
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        bail!("ipamd does not end on SIGTERM:\n{}", self.log_tail())
    }

    /// The pid of the ipamd that was started last, unless it was ended since.
    #[must_use]
    pub fn ipamd_pid(&self) -> Option<u32> {
        self.ipamd.as_ref().map(Running::pid)
    }

    /// Kills ipamd, as a crash would.
    pub fn kill_ipamd(&mut self) {
        self.ipamd = None;
    }

    /// The end of ipamd's log, for people.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(15)..].join("\n")
    }

    async fn channel(&self) -> anyhow::Result<Channel> {
        let endpoint = Endpoint::try_from(format!("unix:{}", self.socket().display()))?;
        Ok(endpoint.timeout(Duration::from_secs(70)).connect().await?)
    }

    /// Whether an ADD could be served now.
    ///
    /// # Errors
    /// When ipamd can't be asked.
    pub async fn ready(&self) -> anyhow::Result<bool> {
        let mut client = proto::v1::ipam_client::IpamClient::new(self.channel().await?);
        Ok(client
            .status(proto::v1::StatusRequest {})
            .await?
            .into_inner()
            .ready)
    }

    /// Whether ipamd knows what the node holds, by its health service.
    ///
    /// # Errors
    /// When ipamd can't be asked.
    pub async fn serves(&self) -> anyhow::Result<bool> {
        let mut client = HealthClient::new(self.channel().await?);
        let health = client
            .check(HealthCheckRequest::default())
            .await?
            .into_inner();
        Ok(health.status() == ServingStatus::Serving)
    }

    /// The pool as ipamd tells it.
    ///
    /// # Errors
    /// When ipamd can't be asked.
    pub async fn pool(&self) -> anyhow::Result<GetPoolResponse> {
        let mut client = PoolClient::new(self.channel().await?);
        Ok(client.get(GetPoolRequest {}).await?.into_inner())
    }

    /// Waits until the pool is as wanted.
    ///
    /// # Errors
    /// When it is not within 30 s, with the pool and the end of ipamd's log.
    pub async fn wait_for_pool(
        &self,
        what: &str,
        wanted: impl Fn(&GetPoolResponse) -> bool,
    ) -> anyhow::Result<GetPoolResponse> {
        self.wait_for_pool_within(Duration::from_secs(30), what, wanted)
            .await
    }

    /// The same, with more patience.
    ///
    /// # Errors
    /// When the pool is not as wanted in time, with the pool and the end of ipamd's log.
    pub async fn wait_for_pool_within(
        &self,
        patience: Duration,
        what: &str,
        wanted: impl Fn(&GetPoolResponse) -> bool,
    ) -> anyhow::Result<GetPoolResponse> {
        let deadline = Instant::now() + patience;
        loop {
            let pool = self.pool().await?;
            if wanted(&pool) {
                return Ok(pool);
            }
            if Instant::now() > deadline {
                bail!(
                    "{what}: not within {patience:?}\n{pool:#?}\n{}",
                    self.log_tail()
                );
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// What a container runtime would call for a pod on this node.
    #[must_use]
    pub fn sandbox(&self, container_id: &str, pod: &str, netns: &Path) -> Sandbox<'lab> {
        Sandbox {
            node: self.lab.netns(),
            conf: json!({
                "cniVersion": "1.0.0",
                "name": "aws-cni",
                "type": "weir-cni",
                "ipamdSocket": self.socket(),
            }),
            container_id: container_id.to_owned(),
            pod: pod.to_owned(),
            netns: netns.display().to_string(),
        }
    }

    /// How many host ends of pods' links the node has.
    ///
    /// # Errors
    /// When `ip` fails.
    pub fn pod_links(&self) -> anyhow::Result<usize> {
        let links = json_of(self.lab.netns(), "ip", &["-j", "link", "show"])?;
        let links = links.as_array().context("`ip -j link` gave no list")?;
        Ok(links
            .iter()
            .filter(|link| name_of(link).starts_with("weir"))
            .count())
    }
}

fn name_of(link: &Value) -> &str {
    link["ifname"].as_str().unwrap_or_default()
}

/// What `ip -j` or `nft -j` prints in a namespace.
///
/// # Errors
/// When it fails, with its words.
pub fn json_of(netns: &Netns, program: &str, arguments: &[&str]) -> anyhow::Result<Value> {
    let output = text_of(netns, program, arguments)?;
    if output.trim().is_empty() {
        return Ok(json!([]));
    }
    serde_json::from_str(&output)
        .with_context(|| format!("reading what {program} printed: {output}"))
}

/// What a program prints in a namespace.
///
/// # Errors
/// When it fails, with its words.
pub fn text_of(netns: &Netns, program: &str, arguments: &[&str]) -> anyhow::Result<String> {
    let output = netns
        .command(program)
        .args(arguments)
        .stdin(Stdio::null())
        .output()?;
    if !output.status.success() {
        bail!(
            "`{program} {}` in {}: {}",
            arguments.join(" "),
            netns.name(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// One pod sandbox, as the runtime names it to the plugin.
#[derive(Debug, Clone)]
pub struct Sandbox<'a> {
    node: &'a Netns,
    /// The plugin's configuration, on its standard input.
    pub conf: Value,
    /// `CNI_CONTAINERID`.
    pub container_id: String,
    /// The pod's name in `CNI_ARGS`.
    pub pod: String,
    /// `CNI_NETNS`.
    pub netns: String,
}

/// What the plugin did.
#[derive(Debug)]
pub struct Outcome {
    /// Its exit code; none when a signal ended it.
    pub code: Option<i32>,
    /// What it printed on standard output.
    pub stdout: String,
    /// What it printed on standard error.
    pub stderr: String,
    /// From its start to its end.
    pub took: Duration,
}

impl Outcome {
    /// The result, when it succeeded.
    ///
    /// # Errors
    /// When it did not, with what it printed.
    pub fn result(&self) -> anyhow::Result<Value> {
        if self.code != Some(0) {
            bail!(
                "the plugin ended with {:?}: {}{}",
                self.code,
                self.stdout,
                self.stderr
            );
        }
        serde_json::from_str(&self.stdout).with_context(|| format!("reading {}", self.stdout))
    }

    /// The address that the result gives the pod.
    ///
    /// # Errors
    /// When there is none.
    pub fn address(&self) -> anyhow::Result<Ipv4Addr> {
        let result = self.result()?;
        let cidr = result["ips"][0]["address"]
            .as_str()
            .context("the result has no address")?;
        let address = cidr
            .strip_suffix("/32")
            .with_context(|| format!("{cidr} is no /32"))?;
        Ok(address.parse()?)
    }

    /// The error object, when it failed.
    ///
    /// # Errors
    /// When it did not, or printed none.
    pub fn error(&self) -> anyhow::Result<Value> {
        if self.code == Some(0) {
            bail!("the plugin succeeded: {}", self.stdout);
        }
        serde_json::from_str(&self.stdout).with_context(|| format!("reading {}", self.stdout))
    }
}

impl Sandbox<'_> {
    /// Runs the plugin on the node with this `CNI_COMMAND`.
    ///
    /// # Errors
    /// When it can't be started, or does not end.
    pub fn call(&self, verb: &str) -> anyhow::Result<Outcome> {
        let start = Instant::now();
        let output = self.start(verb, Stdio::piped)?.wait_with_output()?;
        Ok(Outcome {
            took: start.elapsed(),
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout)?,
            stderr: String::from_utf8(output.stderr)?,
        })
    }

    /// Starts the plugin on the node with this `CNI_COMMAND`; what it prints goes where `output` says. It is killed when
    /// the thread that started it ends.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn start(&self, verb: &str, output: impl Fn() -> Stdio) -> anyhow::Result<Child> {
        let plugin = programs::path("weir-cni")?;
        let mut command = self.node.command(&plugin);
        command
            .env_clear()
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &self.container_id)
            .env("CNI_NETNS", &self.netns)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", plugin.parent().unwrap_or(Path::new("/")))
            .env(
                "CNI_ARGS",
                format!(
                    "IgnoreUnknown=1;K8S_POD_NAMESPACE=demo;K8S_POD_NAME={};\
                     K8S_POD_INFRA_CONTAINER_ID={}",
                    self.pod, self.container_id
                ),
            )
            .stdin(Stdio::piped())
            .stdout(output())
            .stderr(output());
        let conf = serde_json::to_vec(&self.conf)?;
        let mut child = command
            .spawn()
            .with_context(|| format!("starting {}", plugin.display()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A plugin may end without reading it: VERSION does.
            drop(stdin.write_all(&conf));
        }
        Ok(child)
    }

    /// ADD.
    ///
    /// # Errors
    /// As [`Sandbox::call`].
    pub fn add(&self) -> anyhow::Result<Outcome> {
        self.call("ADD")
    }

    /// DEL.
    ///
    /// # Errors
    /// As [`Sandbox::call`].
    pub fn del(&self) -> anyhow::Result<Outcome> {
        self.call("DEL")
    }
}
