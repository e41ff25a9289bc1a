//! AssociateVpcCidrBlock and DisassociateVpcCidrBlock

use ipnet::Ipv4Net;

use super::{parse_cidr, show_cidr, show_ipv6_cidr};
use crate::actions::ids;
use crate::error::{Ec2Error, Result};
use crate::ids::{VpcCidrId, VpcId};
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Vpc, World};
use crate::xml::Xml;

pub(super) fn associate(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let vpc = input.required("VpcId")?;
    let cidr = input.text("CidrBlock");
    let ipv6 = wants_amazon_ipv6(world, input)?;
    input.finish()?;

    let vpc = ids::owned_vpc(world, input, &ids::vpc_id(vpc)?)?.id.clone();
    let id = match (cidr, ipv6) {
        (Some(cidr), false) => {
            let cidr: Ipv4Net = parse_cidr(cidr, "cidrBlock")?;
            world.add_vpc_cidr(&vpc, cidr)?
        }
        (None, true) => world.add_vpc_ipv6(&vpc)?,
        (Some(_), true) => {
            let message = "The parameter amazonProvidedIpv6CidrBlock cannot be used with the parameter cidrBlock";
            return Err(Ec2Error::combination(message));
        }
        (None, false) => {
            let message = "Either 'cidrBlock' or 'amazonProvidedIpv6CidrBlock' should be provided.";
            return Err(Ec2Error::client("MissingParameter", message));
        }
    };
    Ok(response(world, &vpc, &id, "associating"))
}

pub(super) fn disassociate(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let id = input.required("AssociationId")?;
    input.finish()?;

    let mut own = world
        .vpcs
        .values()
        .filter(|vpc| vpc.account == input.account());
    let vpc = own
        .find(|vpc| {
            vpc.ipv4.iter().any(|b| b.id.as_str() == id)
                || vpc.ipv6.iter().any(|b| b.id.as_str() == id)
        })
        .ok_or_else(|| {
            let message = format!("The vpc CIDR block association ID '{id}' does not exist");
            Ec2Error::client("InvalidVpcCidrBlockAssociationID.NotFound", message)
        })?;
    check_unused(world, vpc, id)?;
    let (vpc, id) = (vpc.id.clone(), VpcCidrId::from(id));
    let answer = response(world, &vpc, &id, "disassociating");
    world.change_vpc(&vpc, |vpc| {
        vpc.ipv4.retain(|block| block.id != id);
        vpc.ipv6.retain(|block| block.id != id);
    })?;
    Ok(answer)
}

/// Whether Amazon shall provide a /56. There is one place to advertise it from: the Region.
pub(super) fn wants_amazon_ipv6(world: &World, input: &Input<'_>) -> Result<bool> {
    let wanted = input.flag("AmazonProvidedIpv6CidrBlock")?.unwrap_or(false);
    if let Some(group) = input.text("Ipv6CidrBlockNetworkBorderGroup") {
        if !wanted {
            let message = "The parameter ipv6CidrBlockNetworkBorderGroup can only be used with amazonProvidedIpv6CidrBlock.";
            return Err(Ec2Error::combination(message));
        }
        if group != world.config.region {
            let why = "Unknown network border group.";
            return Err(Ec2Error::value(
                group,
                "ipv6CidrBlockNetworkBorderGroup",
                why,
            ));
        }
    }
    Ok(wanted)
}

fn check_unused(world: &World, vpc: &Vpc, id: &str) -> Result<()> {
    if vpc
        .ipv4
        .first()
        .is_some_and(|primary| primary.id.as_str() == id)
    {
        let message = format!(
            "The vpc CIDR block with association ID {id} may not be disassociated. It is the primary IPv4 CIDR \
             block of the VPC"
        );
        return Err(Ec2Error::client("OperationNotPermitted", message));
    }
    let ipv4 = vpc.ipv4.iter().find(|block| block.id.as_str() == id);
    let ipv6 = vpc.ipv6.iter().find(|block| block.id.as_str() == id);
    let in_use = |range: String| {
        let vpc = &vpc.id;
        let message = format!("The vpc {vpc} currently has a subnet within CIDR block {range}");
        Err(Ec2Error::client("InvalidCidrBlock.InUse", message))
    };
    for subnet in world.subnets_of(&vpc.id) {
        if let Some(block) = ipv4
            && block.cidr.contains(&subnet.pool.cidr())
        {
            return in_use(block.cidr.to_string());
        }
        if let (Some(block), Some(pool)) = (ipv6, &subnet.ipv6)
            && block.cidr.contains(&pool.cidr())
        {
            return in_use(block.cidr.to_string());
        }
    }
    Ok(())
}

fn response(world: &World, vpc: &VpcId, id: &VpcCidrId, state: &str) -> Xml {
    let mut xml = Xml::new();
    xml.text("vpcId", vpc);
    let Some(vpc) = world.vpc(vpc) else {
        return xml;
    };
    if let Some(block) = vpc.ipv4.iter().find(|block| block.id == *id) {
        xml.node("cidrBlockAssociation", |xml| show_cidr(xml, block, state));
    }
    if let Some(block) = vpc.ipv6.iter().find(|block| block.id == *id) {
        xml.node("ipv6CidrBlockAssociation", |xml| {
            show_ipv6_cidr(xml, world, block, state);
        });
    }
    xml
}
