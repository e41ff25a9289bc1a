//! VPCs, subnets and security groups.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{Ask, Tags, World};
use crate::error::{Ec2Error, Result};
use crate::ids::{EniId, GroupId, SubnetId, VpcId};
use crate::security::{Peer, Rule};
use crate::subnet::{AddressPool, Refusal};
use crate::subnet6::Ipv6Pool;

/// A VPC.
#[derive(Clone, Debug)]
pub struct Vpc {
    /// `vpc-...`
    pub id: VpcId,
    /// The account that it belongs to, and all that is in it.
    pub account: String,
    /// The first is the primary.
    pub cidrs: Vec<Ipv4Net>,
    /// The group that an ENI gets when none is named.
    pub default_group: GroupId,
    /// Tags.
    pub tags: Tags,
}

/// A subnet.
#[derive(Clone, Debug)]
pub struct Subnet {
    /// `subnet-...`
    pub id: SubnetId,
    /// The VPC it is part of.
    pub vpc: VpcId,
    /// Its availability zone.
    pub az: String,
    /// Its addresses, and which are taken.
    pub pool: AddressPool,
    /// Its IPv6 addresses, when it has an IPv6 block.
    pub ipv6: Option<Ipv6Pool>,
    /// Who holds a single address, or the prefix that begins with it.
    pub(crate) holders: BTreeMap<Ipv4Addr, EniId>,
    /// Tags.
    pub tags: Tags,
}

/// A security group.
#[derive(Clone, Debug)]
pub struct Group {
    /// `sg-...`
    pub id: GroupId,
    /// Its name, unique in the VPC.
    pub name: String,
    /// The VPC it belongs to.
    pub vpc: VpcId,
    /// What may come in.
    pub ingress: Vec<Rule>,
    /// What may go out.
    pub egress: Vec<Rule>,
    /// Tags.
    pub tags: Tags,
}

impl World {
    /// Makes a VPC in the world's own account, with its default group: everything in from the group itself,
    /// everything out.
    ///
    /// # Errors
    /// `InvalidVpc.Range` when the CIDR is not /16 to /28.
    pub fn add_vpc(&mut self, cidr: Ipv4Net) -> Result<VpcId> {
        self.add_vpc_in(&self.config.account.clone(), cidr)
    }

    /// The same, in this account.
    ///
    /// # Errors
    /// `InvalidVpc.Range`
    pub fn add_vpc_in(&mut self, account: &str, cidr: Ipv4Net) -> Result<VpcId> {
        check_vpc_range(cidr)?;
        let id = VpcId::new(&mut self.dice);
        let default_group = GroupId::new(&mut self.dice);
        self.vpcs.insert(
            id.clone(),
            Vpc {
                id: id.clone(),
                account: account.to_owned(),
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
            ipv6: None,
            holders: BTreeMap::new(),
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

    /// Takes this address of a subnet.
    pub(crate) fn take_address(&mut self, id: &SubnetId, address: Ipv4Addr) -> Result<Ipv4Addr> {
        let subnet = self
            .subnets
            .get_mut(id)
            .ok_or_else(|| Ec2Error::no_such_subnet(id))?;
        match subnet.pool.take(address) {
            Ok(()) => Ok(address),
            Err(Refusal::Taken) => Err(Ec2Error::client(
                "InvalidIPAddress.InUse",
                format!("Address {address} is in use."),
            )),
            Err(Refusal::Reserved) => Err(Ec2Error::invalid(format!(
                "Address {address} is in subnet's reserved address range"
            ))),
            Err(Refusal::Outside | Refusal::NotABlock) => Err(Ec2Error::invalid(format!(
                "Address {address} does not fall within the subnet's address range"
            ))),
        }
    }

    /// Takes this /28 of a subnet.
    pub(crate) fn take_prefix(&mut self, id: &SubnetId, prefix: Ipv4Net) -> Result<Ipv4Net> {
        let subnet = self
            .subnets
            .get_mut(id)
            .ok_or_else(|| Ec2Error::no_such_subnet(id))?;
        let message = match subnet.pool.take_block(prefix) {
            Ok(()) => return Ok(prefix),
            Err(Refusal::NotABlock) => {
                let why = "The prefix must be a /28 and begin on a multiple of 16.";
                return Err(Ec2Error::value(prefix, "Ipv4Prefix", why));
            }
            Err(Refusal::Taken) => {
                format!("The prefix {prefix} has addresses that are already in use.")
            }
            Err(Refusal::Reserved) => {
                format!("The prefix {prefix} has addresses in subnet's reserved address range")
            }
            Err(Refusal::Outside) => {
                format!("The prefix {prefix} does not fall within the subnet's address range")
            }
        };
        Err(Ec2Error::invalid(message))
    }

    /// Takes so many addresses of a subnet: all or none.
    pub(crate) fn take_addresses(&mut self, id: &SubnetId, count: usize) -> Result<Vec<Ipv4Addr>> {
        let subnet = self
            .subnets
            .get_mut(id)
            .ok_or_else(|| Ec2Error::no_such_subnet(id))?;
        if subnet.pool.free() < count {
            return Err(if self.config.vague_subnet_errors {
                Ec2Error::vaguely_insufficient()
            } else {
                Ec2Error::no_free_addresses()
            });
        }
        let (order, dice) = (self.config.order, &mut self.dice);
        Ok((0..count)
            .filter_map(|_| subnet.pool.take_any(order, dice))
            .collect())
    }

    /// Takes so many prefixes of a subnet: all or none.
    pub(crate) fn take_prefixes(&mut self, id: &SubnetId, count: usize) -> Result<Vec<Ipv4Net>> {
        let subnet = self
            .subnets
            .get_mut(id)
            .ok_or_else(|| Ec2Error::no_such_subnet(id))?;
        let (order, dice) = (self.config.order, &mut self.dice);
        let mut taken = Vec::new();
        while taken.len() < count {
            if let Some(prefix) = subnet.pool.take_any_block(order, dice) {
                taken.push(prefix);
                continue;
            }
            taken
                .into_iter()
                .for_each(|prefix| subnet.pool.give_back_block(prefix));
            return Err(if self.config.vague_subnet_errors {
                Ec2Error::vaguely_insufficient()
            } else {
                Ec2Error::no_free_blocks()
            });
        }
        Ok(taken)
    }

    pub(crate) fn give_back(
        &mut self,
        id: &SubnetId,
        addresses: &[Ipv4Addr],
        prefixes: &[Ipv4Net],
    ) {
        if let Some(subnet) = self.subnets.get_mut(id) {
            addresses
                .iter()
                .for_each(|address| subnet.pool.give_back(*address));
            prefixes
                .iter()
                .for_each(|prefix| subnet.pool.give_back_block(*prefix));
        }
    }

    /// Takes what is asked for: all or none.
    pub(crate) fn take(
        &mut self,
        id: &SubnetId,
        ask: Ask<Ipv4Addr, Ipv4Net>,
    ) -> Result<(Vec<Ipv4Addr>, Vec<Ipv4Net>)> {
        let mut taken = (Vec::new(), Vec::new());
        let refused = match ask {
            Ask::AddressCount(count) => return Ok((self.take_addresses(id, count)?, Vec::new())),
            Ask::PrefixCount(count) => return Ok((Vec::new(), self.take_prefixes(id, count)?)),
            Ask::Addresses(asked) => asked.into_iter().find_map(|address| {
                let address = self.take_address(id, address);
                address.map(|address| taken.0.push(address)).err()
            }),
            Ask::Prefixes(asked) => asked.into_iter().find_map(|prefix| {
                let prefix = self.take_prefix(id, prefix);
                prefix.map(|prefix| taken.1.push(prefix)).err()
            }),
        };
        match refused {
            None => Ok(taken),
            Some(error) => {
                self.give_back(id, &taken.0, &taken.1);
                Err(error)
            }
        }
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
