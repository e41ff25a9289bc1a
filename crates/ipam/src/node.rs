//! What is fixed while ipamd runs: the node and the targets.

use ipnet::Ipv4Net;

use crate::{EniId, InstanceId, Mac, SecurityGroupId, SubnetId, VpcId};

/// The node as IMDS and the limits of its instance type tell it.
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
    /// The security groups of the primary ENI; new ENIs get them too.
    pub security_groups: Vec<SecurityGroupId>,
    /// What the instance type allows.
    pub limits: InstanceLimits,
}

/// What EC2 lets an instance of a type have (DescribeInstanceTypes, `NetworkInfo`; network card 0 alone).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InstanceLimits {
    /// ENIs, the primary included.
    pub max_enis: u32,
    /// IPv4 slots on each ENI. Its own primary address takes one; each further address or /28 prefix one.
    pub ipv4_slots_per_eni: u32,
}

/// How much the pool keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Targets {
    /// Free addresses kept ready (`WARM_IP_TARGET`).
    pub warm_ip: u32,
    /// Addresses held at the least (`MINIMUM_IP_TARGET`).
    pub minimum_ip: u32,
    /// ENIs used at the most (`MAX_ENI`), when fewer than the instance type allows.
    pub max_enis: Option<u32>,
    /// How long an address cools after its pod has gone (`IP_COOLDOWN_PERIOD`).
    pub cooldown: std::time::Duration,
}
