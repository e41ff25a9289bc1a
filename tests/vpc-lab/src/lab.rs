//! The lab: a simulated EC2, and a kernel that does what it says.

mod describe;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use aws_sim::{
    ImdsFor, InstanceId, LaunchSpec, Peer, Rule, Sim, SimTime, SubnetId, World, WorldConfig,
};
use ipnet::Ipv4Net;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::fabric::Surroundings;
use crate::kernel::{self, Kernel};
use crate::netns::Netns;
use crate::{places, sandbox};

/// What to build. The default is a VPC 10.0.0.0/16 with two subnets and two m5.large nodes, `a` and `b`.
#[derive(Debug, Clone)]
pub struct LabConfig {
    /// Put before the names of all namespaces, so that several labs fit into one sandbox. Usually empty.
    pub prefix: String,
    /// The VPC's address ranges.
    pub vpc_cidrs: Vec<Ipv4Net>,
    /// Its subnets.
    pub subnets: Vec<SubnetConfig>,
    /// Its nodes: one instance and one namespace each.
    pub nodes: Vec<NodeConfig>,
    /// How long after EC2 began attaching an ENI its link appears in the node.
    pub link_lag: Duration,
    /// The seed of everything random in the simulated EC2.
    pub seed: u64,
    /// How the simulated EC2 behaves otherwise: Region, latencies, other lags.
    pub world: WorldConfig,
    /// What the nodes' security group lets in, besides everything from its own members. All may go out.
    pub ingress: Vec<Rule>,
    /// What the nodes' links have in `rp_filter` before ipamd touches them.
    pub rp_filter: ReversePath,
}

impl Default for LabConfig {
    fn default() -> LabConfig {
        let net = |a, b, c, d, length| Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), length);
        let world = WorldConfig::default();
        let subnet = |name: &str, cidr, zone| SubnetConfig {
            name: name.to_owned(),
            cidr,
            availability_zone: format!("{}{zone}", world.region),
        };
        let node = |name: &str, subnet: &str, last| NodeConfig {
            name: name.to_owned(),
            instance_type: "m5.large".to_owned(),
            subnet: subnet.to_owned(),
            public_address: Some(Ipv4Addr::new(198, 51, 100, last)),
        };
        LabConfig {
            prefix: String::new(),
            vpc_cidrs: vec![net(10, 0, 0, 0, 16)],
            subnets: vec![
                subnet("subnet-a", net(10, 0, 1, 0, 24), "a"),
                subnet("subnet-b", net(10, 0, 2, 0, 24), "b"),
            ],
            nodes: vec![node("a", "subnet-a", 101), node("b", "subnet-b", 102)],
            link_lag: world.link_lag,
            seed: world.seed,
            world,
            ingress: vec![
                Rule::all(Peer::Cidr(places::PEER_NETWORK)),
                Rule {
                    protocol: aws_sim::Protocol::Tcp,
                    ports: Some(30000..=32767),
                    peer: Peer::Cidr(net(0, 0, 0, 0, 0)),
                },
            ],
            rp_filter: ReversePath::Strict,
        }
    }
}

/// A subnet of the VPC.
#[derive(Debug, Clone)]
pub struct SubnetConfig {
    /// A name for the configuration; the id is EC2's.
    pub name: String,
    /// Its range.
    pub cidr: Ipv4Net,
    /// Its availability zone, for example `us-west-2a`.
    pub availability_zone: String,
}

/// A node of the lab.
#[derive(Debug, Clone)]
pub struct NodeConfig {
    /// The name of the node, and of its namespace.
    pub name: String,
    /// For example `m5.large`.
    pub instance_type: String,
    /// The name of its subnet.
    pub subnet: String,
    /// The public address that the VPC maps to its primary address, if any.
    pub public_address: Option<Ipv4Addr>,
}

/// The kernel's reverse path filter (`net.ipv4.conf.default.rp_filter`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReversePath {
    /// 0
    Off,
    /// 1
    Strict,
    /// 2
    Loose,
}

impl ReversePath {
    fn value(self) -> &'static str {
        match self {
            ReversePath::Off => "0",
            ReversePath::Strict => "1",
            ReversePath::Loose => "2",
        }
    }
}

/// What a node can be cut off from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Endpoint {
    /// The instance metadata at 169.254.169.254.
    Imds,
    /// The EC2 API.
    Ec2,
}

/// Packets that the VPC did not deliver, by the reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Drops {
    /// The source address is not one of the ENI's.
    pub spoofed_source: u64,
    /// Nobody holds the destination address.
    pub nobody_holds_it: u64,
    /// A security group does not let it in or out.
    pub security_group: u64,
    /// The source address has no public mapping, so it does not get out to the internet.
    pub no_public_address: u64,
    /// The node is cut off from this endpoint.
    pub cut: u64,
}

/// A running lab. Everything in it goes when it is dropped.
#[derive(Debug)]
pub struct Lab {
    // In the order in which they are to go.
    _servers: Servers,
    kernel: Kernel,
    nodes: Vec<Node>,
    internet: Host,
    peer: Host,
    vpc: Netns,
    sim: Sim,
    prefix: String,
}

impl Lab {
    /// Raises the lab and returns when every node has its primary link, and EC2 and IMDS answer. It brings its own
    /// threads, so it may be called from anywhere.
    ///
    /// # Errors
    /// When the process is not in the [sandbox](crate::sandbox::enter), when the configuration names a subnet
    /// that it does not have, or when `ip` or `nft` fail; with their words.
    pub fn start(config: LabConfig) -> anyhow::Result<Lab> {
        ensure!(
            sandbox::is_entered(),
            "the lab only lives in a sandbox: call vpc_lab::sandbox::enter() first in main()"
        );
        let create = |name: &str| Netns::create(&format!("{}{name}", config.prefix));
        let vpc = create("vpc")?;
        let internet = Host {
            netns: create(places::INTERNET)?,
            address: places::INTERNET_HOST,
        };
        let peer = Host {
            netns: create(places::PEER)?,
            address: places::PEER_HOST,
        };
        kernel::lay_out(&vpc, &internet.netns, &peer.netns)?;

        let (world, instances) = build(&config)?;
        let mut nodes = Vec::new();
        for (node, instance) in config.nodes.iter().zip(&instances) {
            let netns = create(&node.name)?;
            kernel::boot(&netns, config.rp_filter.value())?;
            nodes.push(Node::new(node, netns, &world, instance)?);
        }

        let sim = Sim::new(world);
        let around = Surroundings {
            nodes: nodes
                .iter()
                .map(|node| (node.instance_id.clone(), node.netns.name().to_owned()))
                .collect(),
            link_lag: config.link_lag,
            ..Surroundings::default()
        };
        let kernel = Kernel::start(&vpc, sim.clone(), around)?;
        let _servers = Servers::start(&vpc, &sim, &kernel)?;
        let prefix = config.prefix;
        let lab = Lab {
            _servers,
            kernel,
            nodes,
            internet,
            peer,
            vpc,
            sim,
            prefix,
        };
        lab.settle()?;
        Ok(lab)
    }

    /// The simulated EC2 behind it.
    pub fn sim(&self) -> &Sim {
        &self.sim
    }

    /// The node of this name.
    ///
    /// # Panics
    /// When there is none: a typo in a test.
    pub fn node(&self, name: &str) -> &Node {
        let node = self.nodes.iter().find(|node| node.name == name);
        #[expect(
            clippy::panic,
            reason = "a test names a node that it did not configure"
        )]
        node.unwrap_or_else(|| panic!("the lab has no node {name:?}: {:?}", self.nodes))
    }

    /// All nodes, in the order of the configuration.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// What the names of its namespaces begin with; usually nothing.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// The namespace of the VPC itself: its routes, its filter (`nft list ruleset`).
    pub fn vpc(&self) -> &Netns {
        &self.vpc
    }

    /// The internet, with one host.
    pub fn internet(&self) -> &Host {
        &self.internet
    }

    /// The peered network 10.9.0.0/16, with one host.
    pub fn peer(&self) -> &Host {
        &self.peer
    }

    /// A namespace for a pod, as a container runtime makes it: loopback up, nothing else.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn pod_netns(&self, name: &str) -> anyhow::Result<Netns> {
        Netns::create(&format!("{}{name}", self.prefix))
    }

    /// Cuts a node off from an endpoint: the VPC drops the packets. Returns when it is cut.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn cut(&self, node: &str, endpoint: Endpoint) -> anyhow::Result<()> {
        self.kernel
            .cut(self.node(node).netns.name(), endpoint, true)
    }

    /// Takes back a [cut](Lab::cut).
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn restore(&self, node: &str, endpoint: Endpoint) -> anyhow::Result<()> {
        self.kernel
            .cut(self.node(node).netns.name(), endpoint, false)
    }

    /// From now on an ENI's link appears this long after EC2 began attaching it.
    ///
    /// # Errors
    /// When the lab's thread has died.
    pub fn set_link_lag(&self, lag: Duration) -> anyhow::Result<()> {
        self.kernel.set_link_lag(lag)
    }

    /// What the VPC has dropped so far.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn drops(&self) -> anyhow::Result<Drops> {
        self.kernel.drops()
    }

    /// Waits until the kernel is what EC2 says now (links still in their lag excepted).
    ///
    /// # Errors
    /// When that takes too long, or `ip` or `nft` failed since the last time; with their words.
    pub fn settle(&self) -> anyhow::Result<()> {
        self.kernel.settle()
    }

    /// Takes the lab down; the same as dropping it.
    pub fn stop(self) {}
}

/// The VPC, its subnets and its instances, and the ids of those in the order of the configuration.
fn build(config: &LabConfig) -> anyhow::Result<(World, Vec<InstanceId>)> {
    let mut world = World::new(WorldConfig {
        seed: config.seed,
        link_lag: config.link_lag,
        ..config.world.clone()
    });
    let (first, others) = config
        .vpc_cidrs
        .split_first()
        .context("a VPC needs a range")?;
    let vpc = world.add_vpc(*first)?;
    for cidr in others {
        world.add_vpc_cidr(&vpc, *cidr)?;
    }
    let group = world
        .vpc(&vpc)
        .context("the VPC just made")?
        .default_group
        .clone();
    for rule in &config.ingress {
        world.authorize_ingress(&group, rule.clone())?;
    }
    let mut subnets: BTreeMap<&str, SubnetId> = BTreeMap::new();
    for subnet in &config.subnets {
        let id = world.add_subnet(&vpc, subnet.cidr, &subnet.availability_zone)?;
        subnets.insert(&subnet.name, id);
    }
    let mut instances = Vec::new();
    for node in &config.nodes {
        let subnet = subnets.get(node.subnet.as_str()).with_context(|| {
            format!(
                "node {:?} is in subnet {:?}, which is not configured",
                node.name, node.subnet
            )
        })?;
        let spec = LaunchSpec {
            public_address: node.public_address,
            tags: [("Name".to_owned(), node.name.clone())].into(),
            ..LaunchSpec::new(&node.instance_type, subnet)
        };
        instances.push(world.launch_instance(SimTime::ZERO, spec)?);
    }
    Ok((world, instances))
}

/// EC2 and IMDS, listening in the namespace of the VPC, and who tells the kernel's thread of changes.
#[derive(Debug)]
struct Servers {
    shutdown: CancellationToken,
    runtime: Option<Runtime>,
}

impl Servers {
    fn start(vpc: &Netns, sim: &Sim, kernel: &Kernel) -> anyhow::Result<Servers> {
        let listen = |address: Ipv4Addr| -> anyhow::Result<TcpListener> {
            let listener = vpc
                .run(|| TcpListener::bind((address, 80)))
                .with_context(|| format!("listening at {address} in the VPC"))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let (ec2, imds) = (listen(places::EC2)?, listen(places::IMDS)?);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("aws-sim")
            .enable_all()
            .build()?;
        let shutdown = CancellationToken::new();
        {
            let (sim, shutdown) = (sim.clone(), shutdown.clone());
            runtime.spawn(async move {
                if let Err(error) = sim.serve_ec2(ec2, shutdown).await {
                    tracing::error!(%error, "EC2 ended");
                }
            });
        }
        {
            let (sim, shutdown) = (sim.clone(), shutdown.clone());
            runtime.spawn(async move {
                if let Err(error) = sim.serve_imds(imds, ImdsFor::Peer, shutdown).await {
                    tracing::error!(%error, "IMDS ended");
                }
            });
        }
        let mut changes = {
            let _inside = runtime.enter();
            sim.changes()
        };
        let bell = kernel.bell()?;
        runtime.spawn(async move { while changes.changed().await.is_ok() && bell.ring() {} });
        Ok(Servers {
            shutdown,
            runtime: Some(runtime),
        })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(runtime) = self.runtime.take() {
            // Not waiting is what lets the lab be dropped inside another runtime.
            runtime.shutdown_background();
        }
    }
}

/// A host outside the VPC.
#[derive(Debug)]
pub struct Host {
    netns: Netns,
    address: Ipv4Addr,
}

impl Host {
    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Its address.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }
}

/// An EC2 instance with its own namespace.
#[derive(Debug)]
pub struct Node {
    name: String,
    netns: Netns,
    instance_id: String,
    primary_address: Ipv4Addr,
    public_address: Option<Ipv4Addr>,
    run_dir: PathBuf,
    env: Vec<(String, String)>,
}

impl Node {
    fn new(
        config: &NodeConfig,
        netns: Netns,
        world: &World,
        instance: &InstanceId,
    ) -> anyhow::Result<Node> {
        let run_dir = Path::new("/run/nodes").join(netns.name());
        fs::create_dir_all(&run_dir).with_context(|| format!("making {}", run_dir.display()))?;
        let eni = world
            .primary_eni(instance)
            .context("an instance without a primary ENI")?;
        Ok(Node {
            name: config.name.clone(),
            netns,
            instance_id: instance.to_string(),
            primary_address: eni.primary,
            public_address: eni.public_address,
            run_dir,
            env: vec![
                (
                    "AWS_ENDPOINT_URL_EC2".to_owned(),
                    format!("http://{}", places::EC2),
                ),
                ("AWS_REGION".to_owned(), world.config.region.clone()),
            ],
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    pub fn netns(&self) -> &Netns {
        &self.netns
    }

    /// Its instance id.
    pub fn instance_id(&self) -> &str {
        &self.instance_id
    }

    /// The primary private address of its primary ENI, on `ens5`.
    pub fn primary_address(&self) -> Ipv4Addr {
        self.primary_address
    }

    /// The public address mapped to it, if any.
    pub fn public_address(&self) -> Option<Ipv4Addr> {
        self.public_address
    }

    /// A folder of its own for sockets and books, under the sandbox's `/run`.
    pub fn run_dir(&self) -> &Path {
        &self.run_dir
    }

    /// The environment with which AWS clients on this node find the simulated EC2. IMDS needs none.
    pub fn env(&self) -> &[(String, String)] {
        &self.env
    }
}
