//! The node, and what its user wants of it.

use std::time::Duration;

use ipnet::Ipv4Net;

use crate::{EniId, InstanceId, Mac, SecurityGroupId, SubnetId, VpcId};

/// The node as IMDS and the limits of its instance type tell it. Fixed while ipamd runs, but for the security groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The instance.
    pub instance_id: InstanceId,
    /// Its type: `m5.large`.
    pub instance_type: String,
    /// Its zone: `eu-west-1a`.
    pub availability_zone: String,
    /// The VPC that it is in.
    pub vpc_id: VpcId,
    /// The primary ENI, by its id.
    pub primary_eni: EniId,
    /// The primary ENI, by its MAC.
    pub primary_mac: Mac,
    /// The subnet of the primary ENI; new ENIs are made in it.
    pub subnet_id: SubnetId,
    /// That subnet's CIDR.
    pub subnet_cidr: Ipv4Net,
    /// The security groups of the primary ENI; those that the pool makes have them too, and keep up with them
    /// ([`Event::SecurityGroups`](crate::Event::SecurityGroups)).
    pub security_groups: Vec<SecurityGroupId>,
    /// What the instance type allows.
    pub limits: InstanceLimits,
}

/// What EC2 lets an instance of a type have (DescribeInstanceTypes, `NetworkInfo`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceLimits {
    /// ENIs on each network card, by its index; the primary ENI is on card 0.
    pub enis_per_card: Vec<u32>,
    /// IPv4 slots on each ENI. Its own primary address takes one; each further address or /28 prefix one.
    pub ipv4_slots_per_eni: u32,
    /// IPv6 slots on each ENI: an address or a /80 prefix takes one.
    pub ipv6_slots_per_eni: u32,
    /// Whether ENIs may hold prefixes: Nitro only.
    pub prefixes: bool,
}

impl InstanceLimits {
    /// ENIs on all cards.
    #[must_use]
    pub fn max_enis(&self) -> u32 {
        self.enis_per_card.iter().sum()
    }

    /// Slots for pods that a new ENI has: of IPv4 one less than all, for its own address.
    pub(crate) fn slots_for_pods(&self, family: Family) -> u32 {
        match family {
            Family::V4 => self.ipv4_slots_per_eni.saturating_sub(1),
            Family::V6 if self.prefixes => self.ipv6_slots_per_eni,
            Family::V6 => 0,
        }
    }
}

/// What the user wants of the pool: aws-node's settings and ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Which addresses a pod gets.
    pub families: Families,
    /// Whether IPv4 comes in /28 prefixes instead of single addresses (`ENABLE_PREFIX_DELEGATION`). IPv6 always
    /// comes in /80 prefixes.
    pub delegation: bool,
    /// How much is kept ready.
    pub warm: Warm,
    /// ENIs used on each network card at the most (`MAX_ENI`), when fewer than the instance type allows.
    pub max_enis_per_card: Option<u32>,
    /// Whether cards beyond the first get ENIs too.
    pub all_cards: bool,
    /// Pods that kubelet lets onto the node at the most: with this many addresses the pool keeps no more warm.
    pub max_pods: Option<u32>,
    /// How long an address cools after its pod has gone (`IP_COOLDOWN_PERIOD`).
    pub cooldown: Duration,
    /// Where new ENIs are made.
    pub subnets: Subnets,
    /// How many nodes share what the account may ask of EC2 (`WEIR_CLUSTER_SIZE`), see [`crate::Governor`]; with 0, no
    /// call is held back.
    pub cluster_size: u32,
    /// Which ENIs that nobody will delete are looked for (`CLUSTER_NAME`, `DISABLE_LEAKED_ENI_CLEANUP`).
    pub sweep: Sweep,
}

/// Which ENIs that nobody will delete a node looks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Sweep {
    /// None.
    Off,
    /// Those that were made for this instance: without a cluster's name, others can't be told apart.
    #[default]
    Own,
    /// Those of the cluster of this name too.
    Cluster(String),
}

/// Where new ENIs are made; the first subnet that has room is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subnets {
    /// In the primary ENI's subnet, or else in these.
    Listed(Vec<SubnetChoice>),
    /// Where the tags of the zone's subnets say (`ENABLE_SUBNET_DISCOVERY`), those with most free addresses first.
    Tagged {
        /// The cluster, where tags name some (`CLUSTER_NAME`).
        cluster: Option<String>,
    },
    /// In this one alone, and pods get no addresses of the primary ENI (`AWS_VPC_K8S_CNI_CUSTOM_NETWORK_CFG`).
    Custom(SubnetChoice),
}

impl Default for Subnets {
    /// The primary ENI's alone.
    fn default() -> Self {
        Self::Listed(Vec::new())
    }
}

/// A subnet for new ENIs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetChoice {
    /// Which.
    pub id: SubnetId,
    /// The security groups of ENIs there; empty: the primary's.
    pub groups: Vec<SecurityGroupId>,
}

/// Which addresses a pod gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Families {
    /// An IPv4 address.
    V4,
    /// An IPv6 address.
    V6,
    /// One of each.
    Dual,
}

/// How much is kept ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Warm {
    /// As aws-node's targets have it.
    Targets(WarmTargets),
    /// As demand has it: what is in use, and what is about to come.
    Demand(Dial),
}

/// aws-node's targets, with its meaning, for IPv4. `None` is not set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WarmTargets {
    /// `WARM_ENI_TARGET`: free addresses, in units of whole ENIs.
    pub eni: Option<u32>,
    /// `WARM_IP_TARGET`: free addresses.
    pub ip: Option<u32>,
    /// `MINIMUM_IP_TARGET`: addresses in all, free or not.
    pub minimum_ip: Option<u32>,
    /// `WARM_PREFIX_TARGET`: free prefixes, with delegation.
    pub prefix: Option<u32>,
}

/// How much is kept ready beyond demand: the fewer, the more often a pod waits for EC2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Dial {
    /// Next to nothing: addresses are dear.
    Economy,
    /// A little.
    #[default]
    Balanced,
    /// Much: pods must start at once.
    Latency,
}

/// An IP family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Family {
    /// IPv4
    V4,
    /// IPv6
    V6,
}

impl Families {
    /// One by one.
    #[must_use]
    pub fn all(self) -> &'static [Family] {
        match self {
            Self::V4 => &[Family::V4],
            Self::V6 => &[Family::V6],
            Self::Dual => &[Family::V4, Family::V6],
        }
    }
}
