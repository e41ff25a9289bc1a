//! Fleets as a scenario has them, before anything has happened.

use std::time::{Duration, Instant};

use aws_sim::ids::Dice;
use aws_sim::subnet::Order;
use aws_sim::{LaunchSpec, Request, SimTime, SubnetId, Throttling, World, WorldConfig};
use ipam::{Families, Settings, Subnets, Sweep, Warm};
use ipnet::Ipv4Net;
use torture::ec2::CLUSTER;
use torture::imds;
use torture::queue::Queue;

use super::{Fleet, Job};
use crate::node::Node;
use crate::tally::Tally;

/// 4 ENIs of 15 slots: more than 30 pods, also where only single addresses are to be had.
const INSTANCE_TYPE: &str = "m5.xlarge";
/// Nodes in one /16: 49 addresses for each leave some room.
const NODES_PER_SUBNET: usize = 1_200;
/// EC2's usual most of IPv4 blocks in a VPC.
const SUBNETS_PER_VPC: usize = 5;

/// What a fleet is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    /// Pods that each node gets.
    pub(crate) pods: usize,
    /// Prefixes that instances are launched with.
    pub(crate) prefixes: u32,
    /// All are in one subnet of this size; else in as many /16 as they need.
    pub(crate) subnet: Option<u8>,
    /// How often one pod of each node is replaced, milliseconds.
    pub(crate) churn: Option<u64>,
    /// Whether books are kept for a restart.
    pub(crate) keeps_books: bool,
    /// What nodes are told of their number: 0 for nothing.
    pub(crate) cluster_size: u32,
    pub(crate) seed: u64,
}

impl Fleet {
    /// Launches the instances. Until [`Fleet::limit`], EC2 does not throttle.
    pub(crate) fn new(plan: Plan) -> Self {
        let mut aws = World::new(WorldConfig {
            seed: plan.seed,
            eni_quota: plan.nodes * 15,
            throttling: Throttling::Off,
            // Prefixes stay whole, as where a part of the subnet is reserved for them.
            order: Order::Lowest,
            log_capacity: 0,
            ..WorldConfig::default()
        });
        let per_subnet = match plan.subnet {
            None => NODES_PER_SUBNET,
            Some(_) => plan.nodes,
        };
        let subnets = plan.nodes.div_ceil(per_subnet);
        let subnets = network(&mut aws, subnets, plan.subnet.unwrap_or(16));
        let nodes = (0..plan.nodes).map(|n| launch(&mut aws, plan, n, &subnets[n / per_subnet]));
        let nodes = nodes.collect();
        aws.config.order = Order::Random;
        Self {
            now: 0,
            aws,
            nodes,
            tally: Tally::default(),
            steps: 0,
            settings: Settings {
                families: Families::V4,
                delegation: true,
                warm: Warm::Demand(ipam::Dial::Balanced),
                max_enis_per_card: None,
                all_cards: false,
                max_pods: Some(110),
                cooldown: Duration::from_secs(30),
                subnets: Subnets::default(),
                cluster_size: plan.cluster_size,
                sweep: Sweep::Cluster(CLUSTER.to_owned()),
            },
            dice: Dice::new(plan.seed),
            queue: Queue::default(),
            churn: plan.churn,
            keeps_books: plan.keeps_books,
            told_at: Instant::now(),
        }
    }

    /// ipamd starts on all nodes, within so many milliseconds.
    pub(crate) fn boot(&mut self, within: u64) {
        for n in 0..self.nodes.len() {
            let after = self.below(within);
            self.push(after, Job::Start(n));
        }
    }

    /// From now on EC2 throttles as a new account is throttled, with full buckets; what is asked is counted, and pods are replaced.
    pub(crate) fn limit(&mut self) {
        self.aws.config.throttling = Throttling::Ec2;
        self.tally.begin(self.now);
        if let Some(every) = self.churn {
            for n in 0..self.nodes.len() {
                let after = self.below(every);
                self.push(after, Job::Replace(n));
            }
        }
    }
}

/// So many subnets of this size, in as many VPCs as they need.
fn network(aws: &mut World, subnets: usize, size: u8) -> Vec<(SubnetId, Ipv4Net)> {
    let mut made = Vec::new();
    let mut vpc = None;
    for number in 0..subnets {
        let place = number % SUBNETS_PER_VPC;
        let block = format!("10.{place}.0.0/16").parse().expect("a CIDR");
        let id = match vpc.take().filter(|_| place > 0) {
            None => aws.add_vpc(block).expect("a VPC"),
            Some(id) => {
                aws.add_vpc_cidr(&id, block).expect("a block of a VPC");
                id
            }
        };
        let cidr = Ipv4Net::new(block.network(), size).expect("a size of a subnet");
        let subnet = aws.add_subnet(&id, cidr, "us-east-1a").expect("a subnet");
        made.push((subnet, cidr));
        vpc = Some(id);
    }
    made
}

fn launch(aws: &mut World, plan: Plan, number: usize, subnet: &(SubnetId, Ipv4Net)) -> Node {
    let (subnet, cidr) = subnet;
    let spec = LaunchSpec::new(INSTANCE_TYPE, subnet);
    let id = aws
        .launch_instance(SimTime::ZERO, spec)
        .expect("the subnet has room for an instance");
    let facts = imds::node(aws, &id).expect("an instance that runs");
    if plan.prefixes > 0 {
        let assign = Request::new(
            "AssignPrivateIpAddresses",
            [
                ("NetworkInterfaceId", facts.primary_eni.as_str()),
                ("Ipv4PrefixCount", &plan.prefixes.to_string()),
            ],
        );
        let answer = aws_sim::call(aws, SimTime::ZERO, &assign);
        assert!(answer.error.is_none(), "{}", answer.body);
    }
    let instance = aws.instance(&id).expect("an instance that runs");
    let access_key = instance.access_key.clone();
    let known = vec![(subnet.as_str().to_owned(), *cidr)];
    Node::new(number, (id, access_key), facts, known, plan.pods)
}
