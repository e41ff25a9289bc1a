//! Fleets as the seed has them: sizes, settings, and how EC2 behaves.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use aws_sim::ids::Dice;
use aws_sim::subnet::Order;
use aws_sim::{Latencies, LaunchSpec, SimTime, Size, Throttling, World, WorldConfig};
use ipam::{
    Dial, Families, InstanceId, InstanceLimits, Mac, Mode, Settings, SubnetChoice, SubnetId,
    Subnets, Sweep, VpcId, Warm, WarmTargets,
};
use torture::imds;
use torture::queue::Queue;

use super::{Fleet, Truth};
use crate::act::Weather;
use crate::cover::{Cover, Met};
use crate::ec2::{CLUSTER, Client};
use crate::node::{Disk, Kernel, Knowledge, Node, PodSlot};
use crate::trace::Trace;

impl Fleet {
    /// The fleet of a seed, with so many nodes or as many as the seed says, before anything has happened.
    pub(crate) fn new(seed: u64, nodes: Option<usize>, weather: Weather, keep_trace: bool) -> Self {
        let mut dice = Dice::new(seed ^ 0x7765_6972);
        let mut cover = Cover::new();
        let config = config(&mut dice, seed, weather, &mut cover);
        let mut aws = World::new(config);
        let subnets = network(&mut aws, &mut dice);
        let groups = groups(&mut aws, &subnets[0]);
        let mut fleet = Self {
            now: 0,
            steps: 0,
            cover,
            trace: Trace::new(keep_trace),
            broken: None,
            seed,
            aws,
            nodes: Vec::new(),
            queue: Queue::default(),
            subnets,
            groups,
            owners: HashMap::new(),
            cooling: HashMap::new(),
            taken: BTreeMap::new(),
            taken_enis: BTreeMap::new(),
            foreign: BTreeMap::new(),
            left_over: BTreeMap::new(),
            given_up: Vec::new(),
            truth: Truth::default(),
            most_calls: 0,
            outage_until: 0,
            steps_before: 0,
            pools_took: Duration::ZERO,
        };
        let many = nodes.unwrap_or(2 + dice.below(3));
        for number in 0..many {
            let node = fleet.new_node(number, &mut dice);
            fleet.nodes.push(node);
            fleet.learn_node(number);
        }
        for n in 0..many {
            fleet.start(n);
        }
        fleet
    }

    fn new_node(&mut self, number: usize, dice: &mut Dice) -> Node {
        const KINDS: [&str; 8] = [
            "t3.small",
            "t3.small",
            "t3.medium",
            "t3.medium",
            "m5.large",
            "c5n.large",
            "t2.medium",
            "p4d.24xlarge",
        ];
        let kind = KINDS[dice.below(KINDS.len())];
        let subnet = &self.subnets[0];
        let spec = LaunchSpec::new(kind, subnet);
        let instance = self
            .aws
            .launch_instance(SimTime::ZERO, spec)
            .expect("a new subnet has room");
        let settings = self.settings(dice, kind);
        let pods = if dice.below(4) == 0 {
            4 + dice.below(28)
        } else {
            2 + dice.below(8)
        };
        Node {
            number,
            dice: Dice::new(dice.roll()),
            client: Client {
                instance: instance.as_str().to_owned(),
                access_key: String::new(),
                subnets: self.cidrs(),
                all_cards: settings.all_cards,
            },
            facts: blank(kind),
            instance,
            settings,
            boot: 1,
            booted_at: 0,
            life: 1,
            state: None,
            started: false,
            seeks: false,
            up: true,
            replaced: false,
            wake: None,
            crash: None,
            disk: Disk::default(),
            kernel: Kernel::default(),
            host_free_at: 0,
            hosting: BTreeMap::new(),
            next_host: 0,
            imds_gone_until: 0,
            calls: BTreeMap::new(),
            ghosts: BTreeMap::new(),
            next_request: 0,
            waiting: BTreeMap::new(),
            pods: vec![PodSlot::default(); pods],
            next_serial: 0,
            departed: Vec::new(),
            spool: std::collections::BTreeSet::new(),
            owned: BTreeMap::new(),
            mode: None,
            last_mode: Mode::Normal,
            knows: Knowledge::default(),
            calls_at: Vec::new(),
            calls_made: 0,
            sweeps_at: Vec::new(),
        }
    }

    /// What ipamd learns of its instance from IMDS.
    pub(super) fn learn_node(&mut self, n: usize) {
        let node = &mut self.nodes[n];
        let Some(instance) = self.aws.instance(&node.instance) else {
            return;
        };
        let Some(facts) = imds::node(&self.aws, &node.instance) else {
            return;
        };
        node.client.instance = instance.id.as_str().to_owned();
        node.client.access_key.clone_from(&instance.access_key);
        node.facts = facts;
    }

    fn cidrs(&self) -> Vec<(String, ipnet::Ipv4Net)> {
        let subnets = self.subnets.iter();
        let known = subnets.filter_map(|id| {
            let cidr = self.aws.subnet(id)?.pool.cidr();
            Some((id.as_str().to_owned(), cidr))
        });
        known.collect()
    }

    fn settings(&mut self, dice: &mut Dice, kind: &str) -> Settings {
        let nitro = aws_sim::instance_types::get(kind)
            .is_some_and(aws_sim::instance_types::InstanceType::takes_prefixes);
        let big = kind.starts_with("p4d");
        let cover = &mut self.cover;
        if !nitro {
            cover.met(Met::SetXen);
        }
        let families = match dice.below(8) {
            0 if nitro => Families::V6,
            1 | 2 if nitro => Families::Dual,
            _ => Families::V4,
        };
        cover.met(match families {
            Families::V4 => Met::SetV4,
            Families::V6 => Met::SetV6,
            Families::Dual => Met::SetDual,
        });
        let delegation = nitro && dice.below(3) == 0;
        if delegation {
            cover.met(Met::SetDelegation);
        }
        let some = |dice: &mut Dice, most: usize| u32::try_from(dice.below(most)).ok();
        let warm = match dice.below(8) {
            0 | 1 => {
                cover.met(Met::SetWarmIp);
                Warm::Targets(WarmTargets {
                    ip: some(dice, 7),
                    minimum_ip: some(dice, 12),
                    ..WarmTargets::default()
                })
            }
            2 if !big => {
                cover.met(Met::SetWarmEni);
                Warm::Targets(WarmTargets {
                    eni: some(dice, 3),
                    ..WarmTargets::default()
                })
            }
            3 => {
                cover.met(Met::SetWarmPrefix);
                Warm::Targets(WarmTargets {
                    prefix: some(dice, 3),
                    eni: Some(0),
                    ..WarmTargets::default()
                })
            }
            4 => {
                cover.met(Met::SetEconomy);
                Warm::Demand(Dial::Economy)
            }
            5 => {
                cover.met(Met::SetLatency);
                Warm::Demand(Dial::Latency)
            }
            _ => {
                cover.met(Met::SetBalanced);
                Warm::Demand(Dial::Balanced)
            }
        };
        let all_cards = big && dice.below(2) == 0;
        if all_cards {
            cover.met(Met::SetCards);
        }
        let max_enis_per_card = if big || dice.below(6) == 0 {
            cover.met(Met::SetMaxEni);
            some(dice, 2).map(|most| most + 1)
        } else {
            None
        };
        let max_pods = if dice.below(3) == 0 {
            cover.met(Met::SetMaxPods);
            some(dice, 24).map(|most| most + 4)
        } else {
            None
        };
        let subnets = if dice.below(2) == 0 && self.subnets.len() > 1 {
            cover.met(Met::SetSubnets);
            Subnets::Listed(vec![SubnetChoice {
                id: SubnetId::new(self.subnets[1].as_str()),
                groups: Vec::new(),
            }])
        } else if dice.below(2) == 0 {
            cover.met(Met::SetTagged);
            Subnets::Tagged { cluster: None }
        } else {
            Subnets::default()
        };
        Settings {
            families,
            delegation,
            warm,
            max_enis_per_card,
            all_cards,
            max_pods,
            cooldown: Duration::from_secs([0, 1, 5, 30, 30, 30][dice.below(6)]),
            subnets,
            cluster_size: [0, 4, 20, 60][dice.below(4)],
            sweep: self.sweep(dice),
        }
    }

    fn sweep(&mut self, dice: &mut Dice) -> Sweep {
        let (sweep, met) = match dice.below(6) {
            0 => (Sweep::Off, Met::SetNoSweep),
            1 => (Sweep::Own, Met::SetSweepOwn),
            _ => (Sweep::Cluster(CLUSTER.to_owned()), Met::SetSweepCluster),
        };
        self.cover.met(met);
        sweep
    }
}

fn config(dice: &mut Dice, seed: u64, weather: Weather, cover: &mut Cover) -> WorldConfig {
    let mut chance = |one_in: usize, met: Met| {
        let yes = weather != Weather::Fair && dice.below(one_in) == 0;
        if yes {
            cover.met(met);
        }
        yes
    };
    let lags = chance(2, Met::SetLag);
    let backwards = lags && chance(2, Met::SetBackwards);
    let write_lags = chance(4, Met::SetWriteLag);
    let vague = chance(3, Met::SetVague);
    let pages = chance(4, Met::SetPages);
    let tight = chance(3, Met::SetThrottling);
    let throttling = if tight {
        let small = Size::new(10, 0.5);
        let actions = [
            "CreateNetworkInterface",
            "AttachNetworkInterface",
            "AssignPrivateIpAddresses",
            "DescribeNetworkInterfaces",
            "DeleteNetworkInterface",
        ];
        Throttling::Custom(actions.map(|action| (action.to_owned(), small)).into())
    } else {
        Throttling::Ec2
    };
    let orders = [Order::Random, Order::Lowest, Order::Fragmenting];
    WorldConfig {
        seed,
        latencies: Latencies {
            attach: Duration::from_millis(200 + 2_000 * millis(dice, 3)),
            detach: Duration::from_millis(200 + 2_000 * millis(dice, 3)),
            launch: Duration::from_millis(200 + 30_000 * millis(dice, 3)),
            ..Latencies::default()
        },
        describe_lag: Duration::from_millis(if lags { 500 + millis(dice, 6_000) } else { 0 }),
        imds_lag: Duration::from_millis(millis(dice, 8_000)),
        reads_go_backwards: backwards,
        write_lag: Duration::from_millis(if write_lags { 2_000 } else { 0 }),
        order: orders[dice.below(orders.len())],
        vague_subnet_errors: vague,
        short_pages: pages,
        throttling,
        log_capacity: 0,
        ..WorldConfig::default()
    }
}

fn millis(dice: &mut Dice, most: usize) -> u64 {
    u64::try_from(dice.below(most)).unwrap_or(0)
}

/// A VPC, a subnet for the nodes, and one more in the same zone.
fn network(aws: &mut World, dice: &mut Dice) -> Vec<aws_sim::SubnetId> {
    let cidr = |text: &str| text.parse().expect("a CIDR");
    let vpc = aws.add_vpc(cidr("10.0.0.0/16")).expect("a VPC");
    aws.add_vpc_ipv6(&vpc).expect("an IPv6 block");
    let block = aws
        .vpc(&vpc)
        .and_then(|vpc| vpc.ipv6_cidrs().first().copied())
        .expect("an IPv6 block");
    let sizes = [
        ["10.0.0.0/24", "10.0.1.0/24"],
        ["10.0.0.0/25", "10.0.1.0/25"],
        ["10.0.0.0/26", "10.0.1.0/26"],
        ["10.0.0.0/23", "10.0.2.0/24"],
    ];
    let mut subnets = Vec::new();
    let mut parts = block.subnets(64).expect("a /56 has /64s");
    for text in sizes[dice.below(sizes.len())] {
        let subnet = aws
            .add_subnet(&vpc, cidr(text), "us-east-1a")
            .expect("a subnet");
        let part = parts.next().expect("a /64");
        aws.add_subnet_ipv6(&subnet, part).expect("a /64");
        subnets.push(subnet);
    }
    subnets
}

/// Two security groups, beside the VPC's own.
fn groups(aws: &mut World, subnet: &aws_sim::SubnetId) -> Vec<String> {
    let vpc = aws.subnet(subnet).map(|subnet| subnet.vpc.clone());
    let vpc = vpc.expect("the subnet is in a VPC");
    let made = ["web", "db"].map(|name| aws.add_security_group(&vpc, name, Vec::new(), Vec::new()));
    made.map(|id| id.expect("a group").as_str().to_owned())
        .into()
}

/// Before IMDS has been asked.
fn blank(kind: &str) -> ipam::Node {
    ipam::Node {
        instance_id: InstanceId::new(""),
        instance_type: kind.to_owned(),
        availability_zone: String::new(),
        vpc_id: VpcId::new(""),
        primary_eni: ipam::EniId::new(""),
        primary_mac: Mac([0; 6]),
        subnet_id: SubnetId::new(""),
        subnet_cidr: ipnet::Ipv4Net::default(),
        security_groups: Vec::new(),
        limits: InstanceLimits {
            enis_per_card: Vec::new(),
            ipv4_slots_per_eni: 0,
            ipv6_slots_per_eni: 0,
            prefixes: false,
        },
    }
}
