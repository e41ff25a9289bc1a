//! VPCs and subnets.

mod groups;
mod invariants;
mod ranges;
mod reservations;
mod take;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnet::{Ipv4Net, Ipv6Net};

pub(crate) use self::groups::NewRule;
pub use self::groups::{Direction, Group, GroupRule};
pub use self::reservations::{Reservation, ReservationKind};
use super::{Tags, World};
use crate::error::{Ec2Error, Result};
use crate::ids::{EniId, GroupId, ReservationId, SubnetCidrId, SubnetId, VpcCidrId, VpcId};
use crate::subnet::AddressPool;
use crate::subnet6::Ipv6Pool;

/// EC2's default quota of CIDRs of a VPC, for IPv4 and for IPv6 each.
const MOST_VPC_CIDRS: usize = 5;

/// A VPC.
#[derive(Clone, Debug)]
pub struct Vpc {
    /// `vpc-...`
    pub id: VpcId,
    /// The account that it belongs to, and all that is in it.
    pub account: String,
    /// Its IPv4 ranges. The first is the primary.
    pub ipv4: Vec<VpcCidr<Ipv4Net>>,
    /// Its IPv6 ranges, each a /56.
    pub ipv6: Vec<VpcCidr<Ipv6Net>>,
    /// The group that an ENI gets when none is named.
    pub default_group: GroupId,
    /// EC2's `instanceTenancy`.
    pub tenancy: Tenancy,
    /// EC2's `enableDnsSupport`.
    pub dns_support: bool,
    /// EC2's `enableDnsHostnames`.
    pub dns_hostnames: bool,
    /// EC2's `enableNetworkAddressUsageMetrics`.
    pub usage_metrics: bool,
    /// Tags.
    pub tags: Tags,
}

impl Vpc {
    /// Its IPv4 ranges, the primary first.
    #[must_use]
    pub fn cidrs(&self) -> Vec<Ipv4Net> {
        self.ipv4.iter().map(|block| block.cidr).collect()
    }

    /// Its IPv6 ranges.
    #[must_use]
    pub fn ipv6_cidrs(&self) -> Vec<Ipv6Net> {
        self.ipv6.iter().map(|block| block.cidr).collect()
    }
}

/// A range of a VPC, with the id that EC2 gives to that they belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VpcCidr<N> {
    /// `vpc-cidr-assoc-...`
    pub id: VpcCidrId,
    /// The range.
    pub cidr: N,
}

/// Whose hardware instances of a VPC are on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tenancy {
    /// Shared.
    #[default]
    Default,
    /// Of this account alone.
    Dedicated,
}

impl Tenancy {
    /// As EC2 writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Tenancy::Default => "default",
            Tenancy::Dedicated => "dedicated",
        }
    }
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
    /// What EC2 calls that the subnet has `ipv6`, when it has.
    pub ipv6_association: Option<SubnetCidrId>,
    /// What new ENIs and instances get.
    pub attributes: SubnetAttributes,
    /// Its CIDR reservations.
    pub reservations: BTreeMap<ReservationId, Reservation>,
    /// Who holds a single address, or the prefix that begins with it.
    pub(crate) holders: BTreeMap<Ipv4Addr, EniId>,
    /// Tags.
    pub tags: Tags,
}

/// What ModifySubnetAttribute changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubnetAttributes {
    /// Whether an instance's primary ENI gets a public address.
    pub map_public_ip_on_launch: bool,
    /// Whether a new ENI gets an IPv6 address.
    pub assign_ipv6_on_creation: bool,
    /// EC2's `enableDns64`.
    pub dns64: bool,
    /// Whether instances are named after themselves, and not after their addresses.
    pub resource_names: bool,
    /// EC2's `enableResourceNameDnsARecord`.
    pub resource_name_a_record: bool,
    /// EC2's `enableResourceNameDnsAAAARecord`.
    pub resource_name_aaaa_record: bool,
}

impl World {
    /// The zones of the Region, by name.
    #[must_use]
    pub fn zones(&self) -> Vec<String> {
        let region = &self.config.region;
        ('a'..='f').map(|zone| format!("{region}{zone}")).collect()
    }

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
        ranges::check_vpc(cidr)?;
        let id = VpcId::new(&mut self.dice);
        let primary = VpcCidr {
            id: VpcCidrId::new(&mut self.dice),
            cidr: cidr.trunc(),
        };
        let default_group = self.add_default_group(&id);
        let vpc = Vpc {
            id: id.clone(),
            account: account.to_owned(),
            ipv4: vec![primary],
            ipv6: Vec::new(),
            default_group,
            tenancy: Tenancy::Default,
            dns_support: true,
            dns_hostnames: false,
            usage_metrics: false,
            tags: Tags::new(),
        };
        self.vpcs.insert(id.clone(), vpc);
        self.touch();
        Ok(id)
    }

    /// Gives a VPC another CIDR, as AssociateVpcCidrBlock.
    ///
    /// # Errors
    /// `InvalidVpcID.NotFound`; `InvalidVpc.Range` when it is not /16 to /28, overlaps one that the VPC has, or
    /// may not stand beside them; `CidrLimitExceeded` above five.
    pub fn add_vpc_cidr(&mut self, vpc: &VpcId, cidr: Ipv4Net) -> Result<VpcCidrId> {
        ranges::check_vpc(cidr)?;
        let known = self.vpcs.get(vpc);
        let known = known.ok_or_else(|| Ec2Error::no_such_vpc(vpc))?.cidrs();
        ranges::check_beside(cidr, &known)?;
        check_room(vpc, known.len())?;
        let id = VpcCidrId::new(&mut self.dice);
        let block = VpcCidr {
            id: id.clone(),
            cidr: cidr.trunc(),
        };
        self.change_vpc(vpc, |vpc| vpc.ipv4.push(block))?;
        Ok(id)
    }

    /// Gives a VPC a /56 of IPv6, as Amazon provides them.
    ///
    /// # Errors
    /// `InvalidVpcID.NotFound`; `CidrLimitExceeded` above five.
    pub fn add_vpc_ipv6(&mut self, vpc: &VpcId) -> Result<VpcCidrId> {
        let known = self.vpcs.get(vpc);
        check_room(
            vpc,
            known.ok_or_else(|| Ec2Error::no_such_vpc(vpc))?.ipv6.len(),
        )?;
        let id = VpcCidrId::new(&mut self.dice);
        let cidr = self.free_ipv6_block();
        let block = VpcCidr {
            id: id.clone(),
            cidr,
        };
        self.change_vpc(vpc, |vpc| vpc.ipv6.push(block))?;
        Ok(id)
    }

    /// A /56 of the range for documentation that no VPC has.
    fn free_ipv6_block(&mut self) -> Ipv6Net {
        const DOCUMENTATION: u128 = 0x2001_0db8 << 96;
        loop {
            let place = u128::from(self.dice.roll() & 0x00ff_ffff);
            let block = Ipv6Net::new_assert((DOCUMENTATION | place << 72).into(), 56);
            if !self
                .vpcs
                .values()
                .any(|vpc| vpc.ipv6_cidrs().contains(&block))
            {
                return block;
            }
        }
    }

    pub(crate) fn change_vpc(&mut self, id: &VpcId, f: impl FnOnce(&mut Vpc)) -> Result<()> {
        let vpc = self.vpcs.get_mut(id);
        f(vpc.ok_or_else(|| Ec2Error::no_such_vpc(id))?);
        self.touch();
        Ok(())
    }

    /// Deletes a VPC and its default group.
    pub(crate) fn delete_vpc(&mut self, id: &VpcId) {
        if let Some(vpc) = self.vpcs.remove(id) {
            self.groups.remove(&vpc.default_group);
        }
        self.touch();
    }

    /// Makes a subnet. `az` is a zone's name, such as `us-east-1a`.
    ///
    /// # Errors
    /// `InvalidVpcID.NotFound`; `InvalidSubnet.Range` outside the VPC or not /16 to /28; `InvalidSubnet.Conflict`.
    pub fn add_subnet(&mut self, vpc: &VpcId, cidr: Ipv4Net, az: &str) -> Result<SubnetId> {
        let cidrs = self.vpcs.get(vpc);
        let cidrs = cidrs.ok_or_else(|| Ec2Error::no_such_vpc(vpc))?.cidrs();
        let siblings = self.subnets_of(vpc).map(|subnet| subnet.pool.cidr());
        ranges::check_subnet(cidr, &cidrs, siblings)?;
        let zones = self.zones();
        if !zones.iter().any(|zone| zone == az) {
            let why = format!(
                "Subnets can currently only be created in the following availability zones: {}.",
                zones.join(", ")
            );
            return Err(Ec2Error::value(az, "availabilityZone", &why));
        }
        let id = SubnetId::new(&mut self.dice);
        let subnet = Subnet {
            id: id.clone(),
            vpc: vpc.clone(),
            az: az.to_owned(),
            pool: AddressPool::new(cidr.trunc()),
            ipv6: None,
            ipv6_association: None,
            attributes: SubnetAttributes::default(),
            reservations: BTreeMap::new(),
            holders: BTreeMap::new(),
            tags: Tags::new(),
        };
        self.subnets.insert(id.clone(), subnet);
        self.touch();
        Ok(id)
    }

    /// Gives a subnet an IPv6 block, as AssociateSubnetCidrBlock.
    ///
    /// # Errors
    /// `InvalidSubnetID.NotFound`; `InvalidSubnet.Range` outside the VPC or not a /64; `InvalidSubnet.Conflict`;
    /// `InvalidParameterValue` when it has one already.
    pub fn add_subnet_ipv6(&mut self, id: &SubnetId, cidr: Ipv6Net) -> Result<SubnetCidrId> {
        let subnet = self
            .subnet(id)
            .ok_or_else(|| Ec2Error::no_such_subnet(id))?;
        if subnet.ipv6.is_some() {
            let message = format!("The subnet '{id}' already has an IPv6 CIDR block.");
            return Err(Ec2Error::invalid(message));
        }
        self.check_subnet_ipv6(&subnet.vpc, cidr)?;
        let association = SubnetCidrId::new(&mut self.dice);
        let named = association.clone();
        self.change_subnet(id, |subnet| {
            subnet.ipv6 = Some(Ipv6Pool::new(cidr.trunc()));
            subnet.ipv6_association = Some(named);
        })?;
        Ok(association)
    }

    /// Whether a subnet of this VPC could have this IPv6 block.
    pub(crate) fn check_subnet_ipv6(&self, vpc: &VpcId, cidr: Ipv6Net) -> Result<()> {
        let blocks = self.vpc(vpc).map(Vpc::ipv6_cidrs).unwrap_or_default();
        let siblings = self.subnets_of(vpc);
        let siblings = siblings.filter_map(|subnet| Some(subnet.ipv6.as_ref()?.cidr()));
        ranges::check_subnet_ipv6(cidr, &blocks, siblings)
    }

    /// The subnets of a VPC.
    pub(crate) fn subnets_of(&self, vpc: &VpcId) -> impl Iterator<Item = &Subnet> {
        let subnets = self.subnets.values();
        subnets.filter(move |subnet| subnet.vpc == *vpc)
    }

    /// EC2's `availableIpAddressCount`.
    pub(crate) fn available(&self, subnet: &Subnet) -> usize {
        if self.config.reservations_lower_count {
            subnet.pool.open()
        } else {
            subnet.pool.free()
        }
    }

    pub(crate) fn change_subnet(
        &mut self,
        id: &SubnetId,
        f: impl FnOnce(&mut Subnet),
    ) -> Result<()> {
        let subnet = self.subnets.get_mut(id);
        f(subnet.ok_or_else(|| Ec2Error::no_such_subnet(id))?);
        self.touch();
        Ok(())
    }

    pub(crate) fn delete_subnet(&mut self, id: &SubnetId) {
        self.subnets.remove(id);
        self.touch();
    }
}

fn check_room(vpc: &VpcId, known: usize) -> Result<()> {
    if known < MOST_VPC_CIDRS {
        return Ok(());
    }
    let message =
        format!("This network '{vpc}' has met its maximum number of allowed CIDRs: {known}");
    Err(Ec2Error::client("CidrLimitExceeded", message))
}
