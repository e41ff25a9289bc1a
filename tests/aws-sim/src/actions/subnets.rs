//! Subnets.

use super::{ids, render};
use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, Filters, tag_field};
use crate::page::Page;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Subnet, World};
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[("DescribeSubnets", describe)];

fn describe(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let world = &*world;
    let asked = input.list("SubnetId");
    let asked = asked
        .into_iter()
        .map(ids::subnet_id)
        .collect::<Result<Vec<_>>>()?;
    let filters = Filters::read(input, |name| field(world, name))?;
    let page = Page::read(input, "SubnetId", 5..=1000)?;
    input.finish()?;

    let seen: Vec<&Subnet> = if asked.is_empty() {
        world
            .subnets
            .values()
            .filter(|subnet| world.owns(input.account(), &subnet.vpc))
            .collect()
    } else {
        let find = |id| {
            world
                .subnet(id)
                .filter(|subnet| world.owns(input.account(), &subnet.vpc))
                .ok_or_else(|| Ec2Error::no_such_subnet(id))
        };
        asked.iter().map(find).collect::<Result<_>>()?
    };
    let matching = seen
        .into_iter()
        .filter(|subnet| filters.matches(subnet))
        .collect();
    let (shown, next) = page.cut(matching, |subnet: &&Subnet| subnet.id.as_str());

    let mut xml = Xml::new();
    xml.set("subnetSet", shown, |xml, subnet| {
        xml.text("subnetId", &subnet.id)
            .text(
                "subnetArn",
                world.arn(world.owner(&subnet.vpc), "subnet", subnet.id.as_str()),
            )
            .text("state", "available")
            .text("ownerId", world.owner(&subnet.vpc))
            .text("vpcId", &subnet.vpc)
            .text("cidrBlock", subnet.pool.cidr())
            .text("availableIpAddressCount", subnet.pool.free())
            .text("availabilityZone", &subnet.az)
            .text("availabilityZoneId", world.az_id(&subnet.az))
            .text("defaultForAz", false)
            .text("mapPublicIpOnLaunch", false)
            .text("assignIpv6AddressOnCreation", false)
            .text("ipv6Native", false)
            .text("enableDns64", false);
        xml.set(
            "ipv6CidrBlockAssociationSet",
            std::iter::empty::<()>(),
            |_, ()| {},
        );
        render::tags(xml, &subnet.tags);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn field<'w>(world: &'w World, name: &str) -> Option<Field<'w, Subnet>> {
    if let Some(field) = tag_field(name, |subnet: &Subnet| &subnet.tags) {
        return Some(field);
    }
    Some(match name {
        "subnet-id" => Box::new(|subnet| vec![subnet.id.to_string()]),
        "vpc-id" => Box::new(|subnet| vec![subnet.vpc.to_string()]),
        "availability-zone" | "availabilityZone" => Box::new(|subnet| vec![subnet.az.clone()]),
        "availability-zone-id" | "availabilityZoneId" => {
            Box::new(|subnet| vec![world.az_id(&subnet.az)])
        }
        "cidr-block" | "cidr" | "cidrBlock" => {
            Box::new(|subnet| vec![subnet.pool.cidr().to_string()])
        }
        "available-ip-address-count" => Box::new(|subnet| vec![subnet.pool.free().to_string()]),
        "state" => Box::new(|_| vec!["available".to_owned()]),
        "default-for-az" | "defaultForAz" => Box::new(|_| vec!["false".to_owned()]),
        "owner-id" => Box::new(|subnet| vec![world.owner(&subnet.vpc).to_owned()]),
        _ => return None,
    })
}
