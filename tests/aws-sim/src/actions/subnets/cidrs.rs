//! AssociateSubnetCidrBlock and DisassociateSubnetCidrBlock

use ipnet::Ipv6Net;

use super::show_ipv6_cidr;
use crate::actions::ids;
use crate::actions::vpcs::parse_cidr;
use crate::error::{Ec2Error, Result};
use crate::params::Input;
use crate::time::SimTime;
use crate::world::World;
use crate::xml::Xml;

pub(super) fn associate(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let id = input.required("SubnetId")?;
    let cidr = input.required("Ipv6CidrBlock")?;
    input.finish()?;

    let id = ids::owned_subnet(world, input, &ids::subnet_id(id)?)?
        .id
        .clone();
    let cidr: Ipv6Net = parse_cidr(cidr, "ipv6CidrBlock")?;
    let association = world.add_subnet_ipv6(&id, cidr)?;
    Ok(response(
        id.as_str(),
        cidr.trunc(),
        association.as_str(),
        "associating",
    ))
}

pub(super) fn disassociate(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let asked = input.required("AssociationId")?;
    input.finish()?;

    let mut own = world
        .subnets
        .values()
        .filter(|subnet| world.owns(input.account(), &subnet.vpc));
    let found = own.find_map(|subnet| {
        let association = subnet.ipv6_association.as_ref()?;
        (association.as_str() == asked).then_some((subnet, subnet.ipv6.as_ref()?.cidr()))
    });
    let (subnet, cidr) = found.ok_or_else(|| {
        let message = format!("The subnet CIDR block association ID '{asked}' does not exist");
        Ec2Error::client("InvalidSubnetCidrBlockAssociationID.NotFound", message)
    })?;
    let why = if subnet.attributes.assign_ipv6_on_creation {
        Some("its subnet has assign-ipv6-address-on-creation set to true.")
    } else if world
        .enis()
        .any(|eni| eni.subnet == subnet.id && eni.ipv6_slots() > 0)
    {
        Some("it has addresses that are in use.")
    } else {
        None
    };
    if let Some(why) = why {
        let message = format!(
            "The subnet IPv6 CIDR block with association ID {asked} may not be disassociated, because {why}"
        );
        return Err(Ec2Error::client("InvalidCidrBlock.InUse", message));
    }
    let id = subnet.id.clone();
    world.change_subnet(&id, |subnet| {
        subnet.ipv6 = None;
        subnet.ipv6_association = None;
    })?;
    Ok(response(id.as_str(), cidr, asked, "disassociating"))
}

fn response(subnet: &str, cidr: Ipv6Net, association: &str, state: &str) -> Xml {
    let mut xml = Xml::new();
    xml.text("subnetId", subnet)
        .node("ipv6CidrBlockAssociation", |xml| {
            show_ipv6_cidr(xml, cidr, association, state);
        });
    xml
}
