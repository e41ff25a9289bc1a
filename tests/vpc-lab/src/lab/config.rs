//! What a lab is made of.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::Context;
use aws_sim::{
    GroupId, InstanceId, LaunchSpec, Peer, Rule, SimTime, SubnetId, VpcId, World, WorldConfig,
};
use ipnet::{Ipv4Net, Ipv6Net};

use crate::places;

/// What to build. The default is a VPC 10.0.0.0/16 with two subnets and two m5.large nodes, `a` and `b`.
#[derive(Debug, Clone)]
pub struct LabConfig {
    /// Put before the names of all namespaces, so that several labs fit into one sandbox. Usually empty.
    pub prefix: String,
    /// The VPC's address ranges.
    pub vpc_cidrs: Vec<Ipv4Net>,
    /// Its subnets.
    pub subnets: Vec<SubnetConfig>,
    /// How many IPv6 addresses of its own each node has; with 0, VPC and subnets have no IPv6 either.
    pub ipv6_addresses: usize,
    /// Its nodes: one instance and one namespace each.
    pub nodes: Vec<NodeConfig>,
    /// How long after EC2 began attaching an ENI its link appears in the node, but not before EC2 has attached it
    /// (`world.latencies.attach`).
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
            ipv6_addresses: 0,
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

impl LabConfig {
    /// The VPC, its subnets and its instances, and the ids of those in the order of the configuration.
    pub(super) fn build(&self) -> anyhow::Result<(World, Vec<InstanceId>)> {
        let mut world = World::new(WorldConfig {
            seed: self.seed,
            link_lag: self.link_lag,
            ..self.world.clone()
        });
        let (first, others) = self
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
        for rule in &self.ingress {
            world.authorize_ingress(&group, rule.clone())?;
        }
        let mut subnets: BTreeMap<&str, SubnetId> = BTreeMap::new();
        for subnet in &self.subnets {
            let id = world.add_subnet(&vpc, subnet.cidr, &subnet.availability_zone)?;
            subnets.insert(&subnet.name, id);
        }
        if self.ipv6_addresses > 0 {
            give_ipv6(&mut world, &vpc, &group, subnets.values())?;
        }
        let mut instances = Vec::new();
        for node in &self.nodes {
            let subnet = subnets.get(node.subnet.as_str()).with_context(|| {
                format!(
                    "node {:?} is in subnet {:?}, which is not configured",
                    node.name, node.subnet
                )
            })?;
            let spec = LaunchSpec {
                public_address: node.public_address,
                ipv6_addresses: self.ipv6_addresses,
                tags: [("Name".to_owned(), node.name.clone())].into(),
                ..LaunchSpec::new(&node.instance_type, subnet)
            };
            instances.push(world.launch_instance(SimTime::ZERO, spec)?);
        }
        Ok((world, instances))
    }
}

/// A /56 for the VPC and a /64 of it for each subnet; and the rule that EC2 adds to a VPC's groups then: all may go out.
fn give_ipv6<'a>(
    world: &mut World,
    vpc: &VpcId,
    group: &GroupId,
    subnets: impl Iterator<Item = &'a SubnetId>,
) -> anyhow::Result<()> {
    world.add_vpc_ipv6(vpc)?;
    let block = world
        .vpc(vpc)
        .and_then(|vpc| vpc.ipv6_cidrs().first().copied());
    let parts = block.context("the VPC's /56")?.subnets(64)?;
    for (subnet, part) in subnets.zip(parts) {
        world.add_subnet_ipv6(subnet, part)?;
    }
    let all = Rule::all(Peer::Cidr6(Ipv6Net::default()));
    Ok(world.authorize_egress(group, all)?)
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
    pub(super) fn value(self) -> &'static str {
        match self {
            ReversePath::Off => "0",
            ReversePath::Strict => "1",
            ReversePath::Loose => "2",
        }
    }
}
