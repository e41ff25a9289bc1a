//! Making a world by hand: what an account has before anyone runs pods in it.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{
    Attachment, AttachmentStatus, Eni, Group, ImdsOptions, Instance, InstanceState, Subnet, Tags,
    Transition, Vpc, World,
};
use crate::error::{Ec2Error, Result};
use crate::ids::{AttachmentId, EniId, GroupId, InstanceId, SubnetId, VpcId};
use crate::instance_types;
use crate::security::{Peer, Rule};
use crate::subnet::AddressPool;
use crate::time::SimTime;

/// An instance to launch.
#[derive(Clone, Debug)]
pub struct LaunchSpec {
    /// Such as `m5.large`.
    pub instance_type: String,
    /// Where its primary ENI goes, and with that the zone.
    pub subnet: SubnetId,
    /// Security groups of the primary ENI; empty is the VPC's default group.
    pub groups: Vec<GroupId>,
    /// A public address that maps to the primary one.
    pub public_address: Option<Ipv4Addr>,
    /// The IAM role whose credentials its IMDS gives out.
    pub role: Option<String>,
    /// Tags of the instance.
    pub tags: Tags,
}

impl LaunchSpec {
    /// With the VPC's default group, no public address, and a role.
    #[must_use]
    pub fn new(instance_type: &str, subnet: &SubnetId) -> LaunchSpec {
        LaunchSpec {
            instance_type: instance_type.to_owned(),
            subnet: subnet.clone(),
            groups: Vec::new(),
            public_address: None,
            role: Some("weir-node".to_owned()),
            tags: Tags::new(),
        }
    }
}

impl World {
    /// Makes a VPC, with its default group: everything in from the group itself, everything out.
    ///
    /// # Errors
    /// `InvalidVpc.Range` when the CIDR is not /16 to /28.
    pub fn add_vpc(&mut self, cidr: Ipv4Net) -> Result<VpcId> {
        check_vpc_range(cidr)?;
        let id = VpcId::new(&mut self.dice);
        let default_group = GroupId::new(&mut self.dice);
        self.vpcs.insert(
            id.clone(),
            Vpc {
                id: id.clone(),
                cidrs: vec![cidr.trunc()],
                default_group: default_group.clone(),
                tags: Tags::new(),
            },
        );
        self.groups.insert(
            default_group.clone(),
            Group {
                id: default_group.clone(),
                name: "default".to_owned(),
                vpc: id.clone(),
                ingress: vec![Rule::all(Peer::Group(default_group))],
                egress: vec![Rule::all(Peer::Cidr(Ipv4Net::default()))],
                tags: Tags::new(),
            },
        );
        self.touch();
        Ok(id)
    }

    /// Gives a VPC another CIDR, as AssociateVpcCidrBlock.
    ///
    /// # Errors
    /// `InvalidVpcID.NotFound`; `InvalidVpc.Range` when it is not /16 to /28, or overlaps one that the VPC has.
    pub fn add_vpc_cidr(&mut self, vpc: &VpcId, cidr: Ipv4Net) -> Result<()> {
        check_vpc_range(cidr)?;
        let vpc = self
            .vpcs
            .get_mut(vpc)
            .ok_or_else(|| Ec2Error::no_such_vpc(vpc))?;
        if vpc.cidrs.iter().any(|other| overlap(*other, cidr)) {
            let message = format!("The CIDR '{cidr}' conflicts with another of the VPC");
            return Err(Ec2Error::client("InvalidVpc.Range", message));
        }
        vpc.cidrs.push(cidr.trunc());
        self.touch();
        Ok(())
    }

    /// Makes a subnet. `az` is a zone's name, such as `us-east-1a`.
    ///
    /// # Errors
    /// `InvalidVpcID.NotFound`; `InvalidSubnet.Range` outside the VPC or not /16 to /28; `InvalidSubnet.Conflict`.
    pub fn add_subnet(&mut self, vpc: &VpcId, cidr: Ipv4Net, az: &str) -> Result<SubnetId> {
        let cidr = cidr.trunc();
        let cidrs = &self
            .vpcs
            .get(vpc)
            .ok_or_else(|| Ec2Error::no_such_vpc(vpc))?
            .cidrs;
        if !(16..=28).contains(&cidr.prefix_len()) || !cidrs.iter().any(|c| c.contains(&cidr)) {
            let message = format!("The CIDR '{cidr}' is invalid.");
            return Err(Ec2Error::client("InvalidSubnet.Range", message));
        }
        let mut siblings = self.subnets.values().filter(|subnet| subnet.vpc == *vpc);
        if siblings.any(|subnet| overlap(subnet.pool.cidr(), cidr)) {
            let message = format!("The CIDR '{cidr}' conflicts with another subnet");
            return Err(Ec2Error::client("InvalidSubnet.Conflict", message));
        }
        if !az.starts_with(&self.config.region) || az.len() != self.config.region.len() + 1 {
            let region = &self.config.region;
            let why = format!("Subnets can currently only be created in zones of {region}.");
            return Err(Ec2Error::value(az, "availabilityZone", &why));
        }
        let id = SubnetId::new(&mut self.dice);
        let subnet = Subnet {
            id: id.clone(),
            vpc: vpc.clone(),
            az: az.to_owned(),
            pool: AddressPool::new(cidr),
            tags: Tags::new(),
        };
        self.subnets.insert(id.clone(), subnet);
        self.touch();
        Ok(id)
    }

    /// Makes a security group.
    ///
    /// # Errors
    /// `InvalidVpcID.NotFound`; `InvalidGroup.Duplicate`; `InvalidGroup.NotFound` when a rule names no group.
    pub fn add_security_group(
        &mut self,
        vpc: &VpcId,
        name: &str,
        ingress: Vec<Rule>,
        egress: Vec<Rule>,
    ) -> Result<GroupId> {
        if !self.vpcs.contains_key(vpc) {
            return Err(Ec2Error::no_such_vpc(vpc));
        }
        if self
            .groups
            .values()
            .any(|group| group.vpc == *vpc && group.name == name)
        {
            let message = format!("The security group '{name}' already exists for VPC '{vpc}'");
            return Err(Ec2Error::client("InvalidGroup.Duplicate", message));
        }
        for rule in ingress.iter().chain(&egress) {
            if let Peer::Group(peer) = &rule.peer
                && !self.groups.contains_key(peer)
            {
                return Err(Ec2Error::no_such_group(peer));
            }
        }
        let id = GroupId::new(&mut self.dice);
        let group = Group {
            id: id.clone(),
            name: name.to_owned(),
            vpc: vpc.clone(),
            ingress,
            egress,
            tags: Tags::new(),
        };
        self.groups.insert(id.clone(), group);
        self.touch();
        Ok(id)
    }

    /// Lets more into a group.
    ///
    /// # Errors
    /// `InvalidGroup.NotFound`.
    pub fn authorize_ingress(&mut self, group: &GroupId, rule: Rule) -> Result<()> {
        let found = self
            .groups
            .get_mut(group)
            .ok_or_else(|| Ec2Error::no_such_group(group))?;
        found.ingress.push(rule);
        self.touch();
        Ok(())
    }

    /// Launches an instance with a primary ENI, which goes with it.
    ///
    /// # Errors
    /// `InvalidInstanceType`, `InvalidSubnetID.NotFound`, `InvalidGroup.NotFound`,
    /// `InsufficientFreeAddressesInSubnet`.
    pub fn launch_instance(&mut self, now: SimTime, spec: LaunchSpec) -> Result<InstanceId> {
        let now = self.advance(now);
        let kind = instance_types::get(&spec.instance_type)
            .ok_or_else(|| Ec2Error::no_such_type(&spec.instance_type))?;
        let subnet = self
            .subnets
            .get(&spec.subnet)
            .ok_or_else(|| Ec2Error::no_such_subnet(&spec.subnet))?;
        let az = subnet.az.clone();
        let groups = self.groups_for(&subnet.vpc.clone(), spec.groups)?;
        let id = InstanceId::new(&mut self.dice);
        let eni = self.new_eni(&spec.subnet, groups, None)?;
        let attachment = Attachment {
            id: AttachmentId::new(&mut self.dice),
            instance: id.clone(),
            device_index: 0,
            card: 0,
            status: AttachmentStatus::Attached,
            since: now,
            delete_on_termination: true,
        };
        let eni = Eni {
            pending: false,
            attachment: Some(attachment),
            public_address: spec.public_address,
            ..eni
        };
        let instance = Instance {
            id: id.clone(),
            kind,
            subnet: spec.subnet,
            az,
            state: InstanceState::Pending,
            launched_at: now,
            role: spec.role,
            access_key: format!("ASIA{:016X}", self.dice.roll()),
            enis: [eni.id.clone()].into(),
            imds: ImdsOptions::default(),
            tags: spec.tags,
        };
        self.keys.insert(instance.access_key.clone(), id.clone());
        self.instances.insert(id.clone(), instance);
        self.insert_eni(now, eni);
        self.schedule(
            now.plus(self.config.latencies.launch),
            Transition::Running(id.clone()),
        );
        self.advance(now);
        Ok(id)
    }

    /// Changes how an instance's metadata service answers.
    ///
    /// # Errors
    /// `InvalidInstanceID.NotFound`.
    pub fn set_imds_options(&mut self, id: &InstanceId, options: ImdsOptions) -> Result<()> {
        let instance = self
            .instances
            .get_mut(id)
            .ok_or_else(|| Ec2Error::no_such_instance(id))?;
        instance.imds = options;
        self.touch();
        Ok(())
    }

    /// The groups of a new ENI: those asked for, or the VPC's default.
    pub(crate) fn groups_for(&self, vpc: &VpcId, asked: Vec<GroupId>) -> Result<Vec<GroupId>> {
        if asked.is_empty() {
            let vpc = self
                .vpcs
                .get(vpc)
                .ok_or_else(|| Ec2Error::no_such_vpc(vpc))?;
            return Ok(vec![vpc.default_group.clone()]);
        }
        // EC2's default quota.
        if asked.len() > 5 {
            return Err(Ec2Error::client(
                "SecurityGroupsPerInterfaceLimitExceeded",
                "The maximum number of security groups per interface has been reached.",
            ));
        }
        for id in &asked {
            let group = self
                .groups
                .get(id)
                .ok_or_else(|| Ec2Error::no_such_group(id))?;
            if group.vpc != *vpc {
                let message = format!(
                    "You have specified two resources that belong to different networks: {id}, {vpc}"
                );
                return Err(Ec2Error::client("InvalidGroup.NotFound", message));
            }
        }
        Ok(asked)
    }

    /// An ENI with its primary address taken from the subnet, not yet in the world.
    pub(crate) fn new_eni(
        &mut self,
        subnet: &SubnetId,
        groups: Vec<GroupId>,
        primary: Option<Ipv4Addr>,
    ) -> Result<Eni> {
        let primary = match primary {
            Some(address) => self.take_address(subnet, address)?,
            None => self
                .take_addresses(subnet, 1)?
                .first()
                .copied()
                .unwrap_or(Ipv4Addr::UNSPECIFIED),
        };
        let place = self
            .subnets
            .get(subnet)
            .ok_or_else(|| Ec2Error::no_such_subnet(subnet))?;
        let [_, _, _, a, b, c, d, e] = self.dice.roll().to_be_bytes();
        Ok(Eni {
            id: EniId::new(&mut self.dice),
            subnet: subnet.clone(),
            vpc: place.vpc.clone(),
            az: place.az.clone(),
            // Locally administered, as EC2's are.
            mac: [0x02, a, b, c, d, e],
            description: String::new(),
            pending: true,
            primary,
            secondary: Vec::new(),
            prefixes: Vec::new(),
            groups,
            attachment: None,
            source_dest_check: true,
            public_address: None,
            tags: Tags::new(),
        })
    }
}

fn check_vpc_range(cidr: Ipv4Net) -> Result<()> {
    if (16..=28).contains(&cidr.prefix_len()) {
        return Ok(());
    }
    Err(Ec2Error::client(
        "InvalidVpc.Range",
        format!("The CIDR '{cidr}' is invalid."),
    ))
}

fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other) || other.contains(&one)
}
