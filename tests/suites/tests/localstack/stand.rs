//! One node with a real ipamd, and LocalStack as its EC2, all in one namespace.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use proto::v1::ipam_client::IpamClient;
use proto::v1::pool_client::PoolClient;
use proto::v1::{GetPoolRequest, GetPoolResponse, StatusRequest};
use suites::programs;
use tonic::transport::{Channel, Endpoint};
use vpc_lab::Netns;
use vpc_lab::netns::Running;

use crate::ec2::{Ec2, Eni, text};
use crate::imds::{self, Table};
use crate::server::{self, LocalStack};

const VPC: &str = "10.60.0.0/16";
const SUBNET: &str = "10.60.1.0/24";
const ZONE: &str = "us-east-1a";
const RUN: &str = "/run/localstack-node";

/// From its start to serving: a few answers of IMDS, and LocalStack's first answers, which take seconds.
const START: Duration = Duration::from_secs(60);

/// Taken down when dropped: ipamd first, LocalStack after it, the namespace last.
#[derive(Debug)]
pub(crate) struct Stand {
    pub(crate) instance_id: String,
    _ipamd: Running,
    _links: Links,
    _localstack: LocalStack,
    netns: Arc<Netns>,
}

impl Stand {
    /// Starts LocalStack, launches an instance there, gives it IMDS and links, and starts ipamd on it.
    pub(crate) async fn raise() -> anyhow::Result<Self> {
        let netns = Arc::new(Netns::create("localstack")?);
        let localstack = LocalStack::start(&netns)?;
        let off_loopback = server::listeners_off_loopback(&netns)?;
        if !off_loopback.is_empty() {
            bail!("LocalStack listens on {off_loopback:?}: nothing is run against it");
        }
        let ec2 = Ec2 { netns: &netns };
        let instance = Instance::launch(ec2)?;
        let imds = imds::serve(&netns, instance.metadata())?;
        let links = Links::follow(&netns, &instance)?;
        fs::create_dir_all(RUN)?;
        let mut ipamd = start_ipamd(&netns, imds)?;
        wait_until_it_serves(&mut ipamd).await?;
        Ok(Self {
            instance_id: instance.id,
            _ipamd: ipamd,
            _links: links,
            _localstack: localstack,
            netns,
        })
    }

    pub(crate) fn ec2(&self) -> Ec2<'_> {
        Ec2 { netns: &self.netns }
    }

    pub(crate) fn listeners_off_loopback(&self) -> anyhow::Result<Vec<String>> {
        server::listeners_off_loopback(&self.netns)
    }

    pub(crate) async fn ipam(&self) -> anyhow::Result<IpamClient<Channel>> {
        ipam().await
    }

    pub(crate) async fn pool(&self) -> anyhow::Result<GetPoolResponse> {
        let mut client = PoolClient::new(channel().await?);
        Ok(client.get(GetPoolRequest {}).await?.into_inner())
    }
}

/// The end of ipamd's log, for people.
pub(crate) fn log_tail() -> String {
    let log = fs::read_to_string(log_path()).unwrap_or_default();
    let lines: Vec<_> = log.lines().collect();
    let tail = lines.get(lines.len().saturating_sub(20)..);
    tail.unwrap_or_default().join("\n")
}

async fn wait_until_it_serves(ipamd: &mut Running) -> anyhow::Result<()> {
    let deadline = Instant::now() + START;
    loop {
        if let Ok(mut ipam) = ipam().await
            && let Ok(status) = ipam.status(StatusRequest {}).await
            && status.into_inner().ready
        {
            return Ok(());
        }
        let ended = ipamd.child().try_wait()?;
        if ended.is_some() || Instant::now() > deadline {
            bail!("ipamd does not serve ({ended:?}):\n{}", log_tail());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn ipam() -> anyhow::Result<IpamClient<Channel>> {
    Ok(IpamClient::new(channel().await?))
}

async fn channel() -> anyhow::Result<Channel> {
    let endpoint = Endpoint::try_from(format!("unix:{}", socket_path().display()))?;
    Ok(endpoint.timeout(Duration::from_secs(60)).connect().await?)
}

fn socket_path() -> PathBuf {
    Path::new(RUN).join("ipamd.sock")
}

fn log_path() -> PathBuf {
    Path::new(RUN).join("ipamd.log")
}

/// ipamd with no argument: all that differs from AWS is in these variables.
fn start_ipamd(netns: &Netns, imds: SocketAddr) -> anyhow::Result<Running> {
    let log = File::create(log_path())?;
    let mut command = Command::new(programs::path("ipamd")?);
    command
        .env_clear()
        .env(
            "AWS_ENDPOINT_URL_EC2",
            format!("http://{}", server::ADDRESS),
        )
        .env(
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            format!("http://{imds}"),
        )
        .env("AWS_REGION", "us-east-1")
        .env("AWS_ACCESS_KEY_ID", "test")
        .env("AWS_SECRET_ACCESS_KEY", "test")
        .env("CLUSTER_NAME", "localstack")
        .env("WARM_IP_TARGET", "2")
        .env("MINIMUM_IP_TARGET", "4")
        .env("IP_COOLDOWN_PERIOD", "2")
        .env("WEIR_SOCKET", socket_path())
        .env("WEIR_BOOKS", Path::new(RUN).join("books.json"))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    netns.spawn(command)
}

/// The instance as LocalStack launched it.
#[derive(Debug)]
struct Instance {
    id: String,
    vpc_id: String,
    subnet_id: String,
    primary: Eni,
}

impl Instance {
    fn launch(ec2: Ec2<'_>) -> anyhow::Result<Self> {
        let vpc = ec2.call("CreateVpc", &[("CidrBlock", VPC)])?;
        let vpc_id = text(&vpc, "vpcId")?.to_owned();
        let place = [
            ("VpcId", vpc_id.as_str()),
            ("CidrBlock", SUBNET),
            ("AvailabilityZone", ZONE),
        ];
        let subnet_id = text(&ec2.call("CreateSubnet", &place)?, "subnetId")?.to_owned();
        let launch = [
            ("ImageId", "ami-12c6146b"),
            ("InstanceType", "m5.large"),
            ("MinCount", "1"),
            ("MaxCount", "1"),
            ("SubnetId", subnet_id.as_str()),
        ];
        let id = text(&ec2.call("RunInstances", &launch)?, "instanceId")?.to_owned();
        let enis = ec2.enis(&id)?;
        let primary = enis
            .into_iter()
            .next()
            .context("an instance without an ENI")?;
        Ok(Self {
            id,
            vpc_id,
            subnet_id,
            primary,
        })
    }

    fn primary_address(&self) -> &str {
        self.primary.addresses.first().map_or("", String::as_str)
    }

    fn metadata(&self) -> Table {
        let mac = &self.primary.mac;
        let of_eni = |leaf: &str| format!("network/interfaces/macs/{mac}/{leaf}");
        [
            ("instance-id".to_owned(), self.id.as_str()),
            ("instance-type".to_owned(), "m5.large"),
            ("placement/availability-zone".to_owned(), ZONE),
            ("placement/region".to_owned(), "us-east-1"),
            ("mac".to_owned(), mac),
            ("local-ipv4".to_owned(), self.primary_address()),
            (of_eni("interface-id"), self.primary.id.as_str()),
            (of_eni("device-number"), "0"),
            (of_eni("vpc-id"), self.vpc_id.as_str()),
            (of_eni("vpc-ipv4-cidr-blocks"), VPC),
            (of_eni("subnet-id"), self.subnet_id.as_str()),
            (of_eni("subnet-ipv4-cidr-block"), SUBNET),
            (of_eni("local-ipv4s"), self.primary_address()),
            (of_eni("security-group-ids"), self.primary.group.as_str()),
        ]
        .into_iter()
        .map(|(path, value)| (path, value.to_owned()))
        .collect()
    }
}

/// Gives the node a link for each ENI that LocalStack attaches, until dropped.
#[derive(Debug)]
struct Links {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Links {
    fn follow(netns: &Arc<Netns>, instance: &Instance) -> anyhow::Result<Self> {
        add_link(netns, &instance.primary)?;
        let own = format!("{}/24", instance.primary_address());
        ip(netns, &["addr", "add", &own, "dev", "ens0"])?;
        ip(
            netns,
            &[
                "route",
                "add",
                "default",
                "via",
                "10.60.1.1",
                "dev",
                "ens0",
                "onlink",
            ],
        )?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, netns, id) = (Arc::clone(&stop), Arc::clone(netns), instance.id.clone());
        let mut known = BTreeSet::from([instance.primary.id.clone()]);
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let enis = Ec2 { netns: &netns }.enis(&id).unwrap_or_default();
                for eni in enis {
                    if !known.contains(&eni.id) && add_link(&netns, &eni).is_ok() {
                        known.insert(eni.id);
                    }
                }
                thread::sleep(Duration::from_millis(200));
            }
        });
        Ok(Self {
            stop,
            thread: Some(thread),
        })
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// A veth with the ENI's MAC; its other end stands for the VPC.
fn add_link(netns: &Netns, eni: &Eni) -> anyhow::Result<()> {
    let (node, vpc) = (
        format!("ens{}", eni.device_index),
        format!("vpc{}", eni.device_index),
    );
    let veth = ["type", "veth", "peer", "name", &vpc, "mtu", "9001"];
    let link = ["link", "add", &node, "mtu", "9001", "address", &eni.mac];
    ip(netns, &[link.as_slice(), &veth].concat())?;
    ip(netns, &["link", "set", &vpc, "up"])?;
    if eni.device_index == 0 {
        ip(netns, &["link", "set", &node, "up"])?;
    }
    Ok(())
}

fn ip(netns: &Netns, arguments: &[&str]) -> anyhow::Result<()> {
    let output = netns
        .command("ip")
        .args(arguments)
        .output()
        .context("running ip")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("`ip {}`: {}", arguments.join(" "), said.trim());
    }
    Ok(())
}
