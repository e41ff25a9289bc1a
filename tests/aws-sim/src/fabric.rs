//! What the network must look like: who holds which address now.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::security::Rule;
use crate::time::SimTime;
use crate::world::{AttachmentStatus, Eni, GroupRule, World};

/// The VPCs and what is in them, as EC2's own data plane knows it: no view lags.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fabric {
    /// By id.
    pub vpcs: Vec<FabricVpc>,
    /// By id.
    pub subnets: Vec<FabricSubnet>,
    /// By id; with those that no instance has.
    pub enis: Vec<FabricEni>,
    /// By id.
    pub security_groups: Vec<FabricGroup>,
}

/// A VPC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FabricVpc {
    /// `vpc-...`
    pub id: String,
    /// The first is the primary.
    pub cidrs: Vec<Ipv4Net>,
    /// Its IPv6 ranges.
    pub ipv6_cidrs: Vec<Ipv6Net>,
}

/// A subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FabricSubnet {
    /// `subnet-...`
    pub id: String,
    /// The VPC it is part of.
    pub vpc: String,
    /// Its addresses.
    pub cidr: Ipv4Net,
    /// Its availability zone.
    pub az: String,
}

/// An ENI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FabricEni {
    /// `eni-...`
    pub id: String,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// The subnet it is in.
    pub subnet_id: String,
    /// The VPC it is in.
    pub vpc_id: String,
    /// The instance it is attached to, being attached to, or being detached from.
    pub instance_id: Option<String>,
    /// Its network card; 0 without an instance.
    pub card: u32,
    /// Its place on the card; 0 without one.
    pub device_index: u32,
    /// When EC2 began to attach it.
    pub attached_at: Option<SimTime>,
    /// Whether packets flow: attached, not attaching, and not yet detached.
    pub attached: bool,
    /// The address that can't be taken away.
    pub primary_address: Ipv4Addr,
    /// All single addresses, the primary first.
    pub addresses: Vec<Ipv4Addr>,
    /// Delegated /28s.
    pub prefixes: Vec<Ipv4Net>,
    /// IPv6 addresses of its own.
    pub ipv6: Vec<Ipv6Addr>,
    /// Delegated /80s.
    pub ipv6_prefixes: Vec<Ipv6Net>,
    /// Its security groups.
    pub groups: Vec<String>,
    /// The public address that maps to the primary one.
    pub public_address: Option<Ipv4Addr>,
    /// Whether what it sends must come from an address that it holds.
    pub source_dest_check: bool,
}

/// A security group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FabricGroup {
    /// `sg-...`
    pub id: String,
    /// The VPC it belongs to.
    pub vpc_id: String,
    /// What may come in.
    pub ingress: Vec<Rule>,
    /// What may go out.
    pub egress: Vec<Rule>,
}

impl World {
    /// What the network must look like now.
    #[must_use]
    pub fn fabric(&self) -> Fabric {
        let vpcs = self.vpcs.values().map(|vpc| FabricVpc {
            id: vpc.id.to_string(),
            cidrs: vpc.cidrs(),
            ipv6_cidrs: vpc.ipv6_cidrs(),
        });
        let subnets = self.subnets.values().map(|subnet| FabricSubnet {
            id: subnet.id.to_string(),
            vpc: subnet.vpc.to_string(),
            cidr: subnet.pool.cidr(),
            az: subnet.az.clone(),
        });
        let groups = self.groups.values().map(|group| FabricGroup {
            id: group.id.to_string(),
            vpc_id: group.vpc.to_string(),
            ingress: rules(&group.ingress),
            egress: rules(&group.egress),
        });
        Fabric {
            vpcs: vpcs.collect(),
            subnets: subnets.collect(),
            enis: self.enis().filter_map(fabric_eni).collect(),
            security_groups: groups.collect(),
        }
    }
}

fn rules(rules: &[GroupRule]) -> Vec<Rule> {
    rules.iter().map(|rule| rule.rule.clone()).collect()
}

/// `None` for an EFA without a network device: no packet of IP reaches it.
fn fabric_eni(eni: &Eni) -> Option<FabricEni> {
    let attachment = eni.attachment.as_ref();
    Some(FabricEni {
        id: eni.id.to_string(),
        mac: eni.mac,
        subnet_id: eni.subnet.to_string(),
        vpc_id: eni.vpc.to_string(),
        instance_id: attachment.map(|attachment| attachment.instance.to_string()),
        card: attachment.map_or(0, |attachment| attachment.card),
        device_index: attachment.map_or(0, |attachment| attachment.device_index),
        attached_at: attachment.map(|attachment| attachment.since),
        // Packets flow until EC2 has detached it.
        attached: attachment.is_some_and(|a| a.status != AttachmentStatus::Attaching),
        primary_address: eni.primary?,
        addresses: eni.addresses().collect(),
        prefixes: eni.prefixes.clone(),
        ipv6: eni.ipv6.clone(),
        ipv6_prefixes: eni.ipv6_prefixes.clone(),
        groups: eni.groups.iter().map(ToString::to_string).collect(),
        public_address: eni.public_address,
        source_dest_check: eni.source_dest_check,
    })
}
