//! One node with a real ipamd, and somebody as its EC2, all in one namespace.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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

use crate::cloud::{Cloud, Server};
use crate::ec2::{Ec2, Eni, text};
use crate::imds::Table;
use crate::server;

const VPC: &str = "10.60.0.0/16";
/// Large: moto draws addresses blindly, and gives one twice where there are few.
const SUBNET: &str = "10.60.0.0/17";
const ZONE: &str = "us-east-1a";

/// From its start to serving: a few answers of IMDS, and LocalStack's first answers, which take seconds.
const START: Duration = Duration::from_secs(60);

/// Taken down when dropped: ipamd first, EC2 after it, the namespace last.
#[derive(Debug)]
pub(crate) struct Stand {
    pub(crate) cloud: Cloud,
    pub(crate) instance_id: String,
    ipamd: Mutex<Option<Running>>,
    imds: SocketAddr,
    _links: Links,
    _server: Server,
    netns: Arc<Netns>,
}

impl Stand {
    /// Starts EC2, launches an instance there, gives it IMDS and links, and starts ipamd on it.
    pub(crate) async fn raise(cloud: Cloud) -> anyhow::Result<Self> {
        let netns = Arc::new(Netns::create(cloud.word())?);
        let server = cloud.start(&netns)?;
        let off_loopback = server::listeners_off_loopback(&netns)?;
        if !off_loopback.is_empty() {
            bail!("{cloud:?} listens on {off_loopback:?}: nothing is run against it");
        }
        let ec2 = Ec2 {
            netns: &netns,
            address: cloud.address(),
        };
        let instance = Instance::launch(ec2)?;
        let imds = server.imds(&netns, &instance.id, instance.metadata())?;
        let links = Links::follow(&netns, cloud, &instance)?;
        fs::create_dir_all(run_dir(cloud))?;
        let stand = Self {
            cloud,
            instance_id: instance.id,
            ipamd: Mutex::new(None),
            imds,
            _links: links,
            _server: server,
            netns,
        };
        stand.start_ipamd().await?;
        Ok(stand)
    }

    pub(crate) fn ec2(&self) -> Ec2<'_> {
        Ec2 {
            netns: &self.netns,
            address: self.cloud.address(),
        }
    }

    pub(crate) fn listeners_off_loopback(&self) -> anyhow::Result<Vec<String>> {
        server::listeners_off_loopback(&self.netns)
    }

    pub(crate) async fn ipam(&self) -> anyhow::Result<IpamClient<Channel>> {
        Ok(IpamClient::new(self.channel().await?))
    }

    pub(crate) async fn pool(&self) -> anyhow::Result<GetPoolResponse> {
        let mut client = PoolClient::new(self.channel().await?);
        Ok(client.get(GetPoolRequest {}).await?.into_inner())
    }

    /// Ends ipamd as a crash would, and takes away what it remembers.
    pub(crate) fn lose_ipamd_and_its_books(&self) -> anyhow::Result<()> {
        drop(self.running().take());
        Ok(fs::remove_file(run_dir(self.cloud).join("books.json"))?)
    }

    /// Starts ipamd with no argument, and waits until it serves.
    pub(crate) async fn start_ipamd(&self) -> anyhow::Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let mut command = Command::new(programs::path("ipamd")?);
        command
            .env_clear()
            .envs(environment(self.cloud, self.imds))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        *self.running() = Some(self.netns.spawn(command)?);
        let deadline = Instant::now() + START;
        loop {
            if let Ok(mut ipam) = self.ipam().await
                && let Ok(status) = ipam.status(StatusRequest {}).await
                && status.into_inner().ready
            {
                return Ok(());
            }
            let ended = match self.running().as_mut() {
                Some(ipamd) => ipamd.child().try_wait()?,
                None => None,
            };
            if ended.is_some() || Instant::now() > deadline {
                bail!("ipamd does not serve ({ended:?}):\n{}", self.log_tail());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// All that ipamd has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The end of ipamd's log, for people.
    pub(crate) fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(20)..);
        tail.unwrap_or_default().join("\n")
    }

    fn log_path(&self) -> PathBuf {
        run_dir(self.cloud).join("ipamd.log")
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.ipamd.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn channel(&self) -> anyhow::Result<Channel> {
        let socket = run_dir(self.cloud).join("ipamd.sock");
        let endpoint = Endpoint::try_from(format!("unix:{}", socket.display()))?;
        Ok(endpoint.timeout(Duration::from_secs(60)).connect().await?)
    }
}

fn run_dir(cloud: Cloud) -> PathBuf {
    Path::new("/run").join(format!("{}-node", cloud.word()))
}

/// Whatever ipamd is told. On AWS the first four are not set: the SDK knows the endpoints, and the instance its role.
pub(crate) fn environment(cloud: Cloud, imds: SocketAddr) -> Vec<(&'static str, String)> {
    let run = run_dir(cloud);
    vec![
        (
            "AWS_ENDPOINT_URL_EC2",
            format!("http://{}", cloud.address()),
        ),
        (
            "AWS_EC2_METADATA_SERVICE_ENDPOINT",
            format!("http://{imds}"),
        ),
        ("AWS_ACCESS_KEY_ID", "test".to_owned()),
        ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
        ("AWS_REGION", "us-east-1".to_owned()),
        ("CLUSTER_NAME", "demo".to_owned()),
        ("WARM_IP_TARGET", "2".to_owned()),
        ("MINIMUM_IP_TARGET", "4".to_owned()),
        ("IP_COOLDOWN_PERIOD", "2".to_owned()),
        ("WEIR_SOCKET", run.join("ipamd.sock").display().to_string()),
        ("WEIR_BOOKS", run.join("books.json").display().to_string()),
    ]
}

/// The instance as EC2 launched it.
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
        let deadline = Instant::now() + START;
        // ENIs can't be attached before it runs.
        let itself = [("InstanceId.1", id.as_str())];
        while !ec2
            .call("DescribeInstances", &itself)?
            .contains("<name>running</name>")
        {
            if Instant::now() > deadline {
                bail!("{id} does not run");
            }
            thread::sleep(Duration::from_millis(50));
        }
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

/// Gives the node a link for each ENI that EC2 attaches, for as long as it does, until dropped.
#[derive(Debug)]
struct Links {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Links {
    fn follow(netns: &Arc<Netns>, cloud: Cloud, instance: &Instance) -> anyhow::Result<Self> {
        add_link(netns, &instance.primary)?;
        let own = format!("{}/17", instance.primary_address());
        ip(netns, &["addr", "add", &own, "dev", "ens0"])?;
        ip(
            netns,
            &[
                "route",
                "add",
                "default",
                "via",
                "10.60.0.1",
                "dev",
                "ens0",
                "onlink",
            ],
        )?;
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, netns, id) = (Arc::clone(&stop), Arc::clone(netns), instance.id.clone());
        let mut known = BTreeMap::from([(instance.primary.id.clone(), 0)]);
        let thread = thread::spawn(move || {
            let address = cloud.address();
            while !stopped.load(Ordering::Relaxed) {
                let netns = &netns;
                // An EC2 that does not answer has changed nothing.
                if let Ok(enis) = (Ec2 { netns, address }).enis(&id) {
                    known.retain(|id, index| {
                        enis.iter().any(|eni| eni.id == *id) || remove_link(netns, *index).is_err()
                    });
                    for eni in enis {
                        if !known.contains_key(&eni.id) && add_link(netns, &eni).is_ok() {
                            known.insert(eni.id, eni.device_index);
                        }
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

fn remove_link(netns: &Netns, device_index: u32) -> anyhow::Result<()> {
    ip(netns, &["link", "del", &format!("ens{device_index}")])
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
