//! The lab: a simulated EC2, and a kernel that does what it says.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::Ipv4Net;

use crate::netns::Netns;

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
    /// What the nodes' links have in `rp_filter` before ipamd touches them.
    pub rp_filter: ReversePath,
    /// The seed of everything random in the simulated EC2.
    pub seed: u64,
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
    _private: (),
}

impl Lab {
    /// Raises the lab and returns when every node has its primary link, and EC2 and IMDS answer. It brings its own
    /// threads, so it may be called from anywhere.
    ///
    /// # Errors
    /// When the process is not in the [sandbox](crate::sandbox::enter), or `ip` or `nft` fail; with their words.
    pub fn start(config: LabConfig) -> anyhow::Result<Lab> {
        let _ = config;
        anyhow::bail!("soon")
    }

    /// The node of this name.
    ///
    /// # Panics
    /// When there is none: a typo in a test.
    pub fn node(&self, name: &str) -> &Node {
        let _ = name;
        todo!()
    }

    /// All nodes, in the order of the configuration.
    pub fn nodes(&self) -> &[Node] {
        todo!()
    }

    /// The namespace of the VPC itself: its routes, its filter (`nft list ruleset`).
    pub fn vpc(&self) -> &Netns {
        todo!()
    }

    /// The internet, with one host.
    pub fn internet(&self) -> &Host {
        todo!()
    }

    /// The peered network 10.9.0.0/16, with one host.
    pub fn peer(&self) -> &Host {
        todo!()
    }

    /// A namespace for a pod, as a container runtime makes it: loopback up, nothing else.
    ///
    /// # Errors
    /// When the name is taken.
    pub fn pod_netns(&self, name: &str) -> anyhow::Result<Netns> {
        let _ = name;
        todo!()
    }

    /// Cuts a node off from an endpoint: the VPC drops the packets. Returns when it is cut.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn cut(&self, node: &str, endpoint: Endpoint) -> anyhow::Result<()> {
        let _ = (node, endpoint);
        todo!()
    }

    /// Takes back a [cut](Lab::cut).
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn restore(&self, node: &str, endpoint: Endpoint) -> anyhow::Result<()> {
        let _ = (node, endpoint);
        todo!()
    }

    /// What the VPC has dropped so far.
    ///
    /// # Errors
    /// When `nft` fails.
    pub fn drops(&self) -> anyhow::Result<Drops> {
        todo!()
    }

    /// Waits until the kernel is what EC2 says now (links still in their lag excepted).
    ///
    /// # Errors
    /// When that takes more than a few seconds, or `ip` or `nft` failed meanwhile; with their words.
    pub fn settle(&self) -> anyhow::Result<()> {
        todo!()
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
    public_address: Option<Ipv4Addr>,
    run_dir: PathBuf,
    env: Vec<(String, String)>,
}

impl Node {
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
