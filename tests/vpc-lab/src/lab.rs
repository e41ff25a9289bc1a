//! The lab: a simulated EC2, and a kernel that does what it says.

mod config;
mod describe;
mod servers;

use std::fs;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use aws_sim::{InstanceId, Sim, World};

pub use config::{LabConfig, NodeConfig, ReversePath, SubnetConfig};

use self::servers::Servers;
use crate::fabric::Surroundings;
use crate::kernel::{self, Kernel};
use crate::netns::Netns;
use crate::{places, sandbox};

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
        kernel::lay_out(
            &vpc,
            &internet.netns,
            &peer.netns,
            config.ipv6_addresses > 0,
        )?;

        let (world, instances) = config.build()?;
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
    ipv6_address: Option<Ipv6Addr>,
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
        // A new instance finds nothing of an earlier one of the same name, whose books would fit: the ids repeat.
        if run_dir.exists() {
            fs::remove_dir_all(&run_dir)
                .with_context(|| format!("emptying {}", run_dir.display()))?;
        }
        fs::create_dir_all(&run_dir).with_context(|| format!("making {}", run_dir.display()))?;
        let eni = world
            .primary_eni(instance)
            .context("an instance without a primary ENI")?;
        Ok(Node {
            name: config.name.clone(),
            netns,
            instance_id: instance.to_string(),
            primary_address: eni.primary.context("a primary ENI without an address")?,
            ipv6_address: eni.ipv6.first().copied(),
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

    /// The first IPv6 address of its primary ENI, if any.
    pub fn ipv6_address(&self) -> Option<Ipv6Addr> {
        self.ipv6_address
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
