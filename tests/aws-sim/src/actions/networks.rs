//! DescribeSubnets, DescribeVpcs and DescribeSecurityGroups.

use super::{ids, render};
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, Filters, tag_field};
use crate::page::Page;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Group, Subnet, Vpc, World};
use crate::xml::Xml;

pub(super) fn describe_subnets(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let world = &*world;
    let asked = input.list("SubnetId");
    let asked = asked
        .into_iter()
        .map(ids::subnet_id)
        .collect::<Result<Vec<_>>>()?;
    let filters = Filters::read(input, |name| subnet_field(world, name))?;
    let page = Page::read(input, "SubnetId", 5..=1000)?;
    input.finish()?;

    let seen: Vec<&Subnet> = if asked.is_empty() {
        world.subnets.values().collect()
    } else {
        let find = |id| world.subnet(id).ok_or_else(|| Ec2Error::no_such_subnet(id));
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
            .text("subnetArn", world.arn("subnet", subnet.id.as_str()))
            .text("state", "available")
            .text("ownerId", &world.config.account)
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

pub(super) fn describe_vpcs(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let world = &*world;
    let asked = input.list("VpcId");
    let asked = asked
        .into_iter()
        .map(ids::vpc_id)
        .collect::<Result<Vec<_>>>()?;
    let filters = Filters::read(input, |name| vpc_field(world, name))?;
    let page = Page::read(input, "VpcId", 5..=1000)?;
    input.finish()?;

    let seen: Vec<&Vpc> = if asked.is_empty() {
        world.vpcs.values().collect()
    } else {
        let find = |id| world.vpc(id).ok_or_else(|| Ec2Error::no_such_vpc(id));
        asked.iter().map(find).collect::<Result<_>>()?
    };
    let matching = seen
        .into_iter()
        .filter(|vpc| filters.matches(vpc))
        .collect();
    let (shown, next) = page.cut(matching, |vpc: &&Vpc| vpc.id.as_str());

    let mut xml = Xml::new();
    xml.set("vpcSet", shown, |xml, vpc| {
        xml.text("vpcId", &vpc.id)
            .text("ownerId", &world.config.account)
            .text("state", "available")
            .maybe("cidrBlock", vpc.cidrs.first())
            .text("dhcpOptionsId", "default")
            .text("instanceTenancy", "default")
            .text("isDefault", false);
        let digits = vpc.id.as_str().trim_start_matches("vpc-");
        xml.set(
            "cidrBlockAssociationSet",
            vpc.cidrs.iter().enumerate(),
            |xml, (nth, cidr)| {
                let tail = digits.get(2..).unwrap_or_default();
                xml.text("associationId", format!("vpc-cidr-assoc-{nth:02x}{tail}"))
                    .text("cidrBlock", cidr)
                    .node("cidrBlockState", |xml| {
                        xml.text("state", "associated");
                    });
            },
        );
        render::tags(xml, &vpc.tags);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

pub(super) fn describe_groups(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let world = &*world;
    let asked = input.list("GroupId");
    let asked = asked
        .into_iter()
        .map(ids::group_id)
        .collect::<Result<Vec<_>>>()?;
    let filters = Filters::read(input, |name| group_field(world, name))?;
    let page = Page::read(input, "GroupId", 5..=1000)?;
    input.finish()?;

    let seen: Vec<&Group> = if asked.is_empty() {
        world.groups.values().collect()
    } else {
        let find = |id| world.group(id).ok_or_else(|| Ec2Error::no_such_group(id));
        asked.iter().map(find).collect::<Result<_>>()?
    };
    let matching = seen
        .into_iter()
        .filter(|group| filters.matches(group))
        .collect();
    let (shown, next) = page.cut(matching, |group: &&Group| group.id.as_str());

    let mut xml = Xml::new();
    xml.set("securityGroupInfo", shown, |xml, group| {
        xml.text("ownerId", &world.config.account)
            .text("groupId", &group.id)
            .text("groupName", &group.name)
            .text("groupDescription", &group.name)
            .text("vpcId", &group.vpc)
            .text(
                "securityGroupArn",
                world.arn("security-group", group.id.as_str()),
            );
        xml.set("ipPermissions", &group.ingress, |xml, rule| {
            render::rule(xml, world, rule);
        });
        xml.set("ipPermissionsEgress", &group.egress, |xml, rule| {
            render::rule(xml, world, rule);
        });
        render::tags(xml, &group.tags);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn subnet_field<'w>(world: &'w World, name: &str) -> Option<Field<'w, Subnet>> {
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
        "owner-id" => Box::new(|_| vec![world.config.account.clone()]),
        _ => return None,
    })
}

fn vpc_field<'w>(world: &'w World, name: &str) -> Option<Field<'w, Vpc>> {
    if let Some(field) = tag_field(name, |vpc: &Vpc| &vpc.tags) {
        return Some(field);
    }
    Some(match name {
        "vpc-id" => Box::new(|vpc| vec![vpc.id.to_string()]),
        "cidr" | "cidr-block" | "cidrBlock" => {
            Box::new(|vpc| vpc.cidrs.first().iter().map(ToString::to_string).collect())
        }
        "cidr-block-association.cidr-block" => {
            Box::new(|vpc| vpc.cidrs.iter().map(ToString::to_string).collect())
        }
        "state" => Box::new(|_| vec!["available".to_owned()]),
        "is-default" | "isDefault" => Box::new(|_| vec!["false".to_owned()]),
        "owner-id" => Box::new(|_| vec![world.config.account.clone()]),
        _ => return None,
    })
}

fn group_field<'w>(world: &'w World, name: &str) -> Option<Field<'w, Group>> {
    if let Some(field) = tag_field(name, |group: &Group| &group.tags) {
        return Some(field);
    }
    Some(match name {
        "group-id" => Box::new(|group| vec![group.id.to_string()]),
        "group-name" | "description" => Box::new(|group| vec![group.name.clone()]),
        "vpc-id" => Box::new(|group| vec![group.vpc.to_string()]),
        "owner-id" => Box::new(|_| vec![world.config.account.clone()]),
        _ => return None,
    })
}
