//! Subnets.

mod attributes;
mod cidrs;

use ipnet::{Ipv4Net, Ipv6Net};

use super::select::Selection;
use super::vpcs::parse_cidr;
use super::{ids, render, tags};
use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, tag_field};
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Subnet, World};
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("AssociateSubnetCidrBlock", cidrs::associate),
    ("CreateSubnet", create),
    ("DeleteSubnet", delete),
    ("DescribeSubnets", describe),
    ("DisassociateSubnetCidrBlock", cidrs::disassociate),
    ("ModifySubnetAttribute", attributes::modify),
];

fn create(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let vpc = input.required("VpcId")?;
    let cidr = input.required("CidrBlock")?;
    let ipv6 = input.text("Ipv6CidrBlock");
    let (az, az_id) = (
        input.text("AvailabilityZone"),
        input.text("AvailabilityZoneId"),
    );
    let tags = tags::specified(input, "subnet")?;
    input.finish()?;

    let vpc = ids::owned_vpc(world, input, &ids::vpc_id(vpc)?)?.id.clone();
    let cidr: Ipv4Net = parse_cidr(cidr, "cidrBlock")?;
    let ipv6: Option<Ipv6Net> = ipv6
        .map(|text| parse_cidr(text, "ipv6CidrBlock"))
        .transpose()?;
    let az = zone(world, az, az_id)?;
    if let Some(ipv6) = ipv6 {
        world.check_subnet_ipv6(&vpc, ipv6)?;
    }
    let id = world.add_subnet(&vpc, cidr, &az)?;
    if let Some(ipv6) = ipv6 {
        world.add_subnet_ipv6(&id, ipv6)?;
    }
    world.change_subnet(&id, |subnet| subnet.tags = tags)?;
    let made = ids::owned_subnet(world, input, &id)?;
    let mut xml = Xml::new();
    let free = world.available(made);
    xml.node("subnet", |xml| show(xml, world, made, free, "associating"));
    Ok(xml)
}

/// The name of the zone that is asked for. Without one it is the first: EC2 has a favourite too.
fn zone(world: &World, name: Option<&str>, id: Option<&str>) -> Result<String> {
    let zones = world.zones();
    match (name, id) {
        (Some(_), Some(_)) => Err(Ec2Error::combination(
            "The parameter availabilityZone cannot be used with the parameter availabilityZoneId",
        )),
        (Some(name), None) => Ok(name.to_owned()),
        (None, Some(id)) => {
            let ids: Vec<String> = zones.iter().map(|zone| world.az_id(zone)).collect();
            let mut found = zones.into_iter().filter(|zone| world.az_id(zone) == id);
            found.next().ok_or_else(|| {
                let why = format!(
                    "Subnets can currently only be created in the following availability zones: {}.",
                    ids.join(", ")
                );
                Ec2Error::value(id, "availabilityZoneId", &why)
            })
        }
        (None, None) => Ok(zones.into_iter().next().unwrap_or_default()),
    }
}

fn delete(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let id = input.required("SubnetId")?;
    input.finish()?;
    let id = ids::owned_subnet(world, input, &ids::subnet_id(id)?)?
        .id
        .clone();

    if world.enis().any(|eni| eni.subnet == id) {
        let message = format!("The subnet '{id}' has dependencies and cannot be deleted.");
        return Err(Ec2Error::client("DependencyViolation", message));
    }
    world.delete_subnet(&id);
    Ok(render::done())
}

fn describe(world: &mut World, now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let then = world.describe_time(now);
    let world = &*world;
    let asked = Selection::read(input, "SubnetId", ids::subnet_id, |name| {
        field(world, then, name)
    })?;
    let own = |subnet: &&Subnet| world.owns(input.account(), &subnet.vpc);
    let (shown, next) = asked.choose(
        world.subnets.values().filter(own),
        |id| world.subnet(id).filter(own),
        |id| Ec2Error::no_such_subnet(id),
        |subnet| subnet.id.as_str(),
    )?;

    let mut xml = Xml::new();
    xml.set("subnetSet", shown, |xml, subnet| {
        let free = world.available_at(subnet, then);
        show(xml, world, subnet, free, "associated");
        render::public_access(xml);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn show(xml: &mut Xml, world: &World, subnet: &Subnet, free: usize, ipv6_state: &str) {
    let attributes = subnet.attributes;
    xml.text("subnetId", &subnet.id)
        .text("subnetArn", arn(world, subnet))
        .text("state", "available")
        .text("ownerId", world.owner(&subnet.vpc))
        .text("vpcId", &subnet.vpc)
        .text("cidrBlock", subnet.pool.cidr())
        .text("availableIpAddressCount", free)
        .text("availabilityZone", &subnet.az)
        .text("availabilityZoneId", world.az_id(&subnet.az))
        .text("defaultForAz", false)
        .text("mapPublicIpOnLaunch", attributes.map_public_ip_on_launch)
        .text("mapCustomerOwnedIpOnLaunch", false)
        .text(
            "assignIpv6AddressOnCreation",
            attributes.assign_ipv6_on_creation,
        )
        .text("ipv6Native", false)
        .text("enableDns64", attributes.dns64)
        .node("privateDnsNameOptionsOnLaunch", |xml| {
            xml.text("hostnameType", hostname_type(subnet))
                .text(
                    "enableResourceNameDnsARecord",
                    attributes.resource_name_a_record,
                )
                .text(
                    "enableResourceNameDnsAAAARecord",
                    attributes.resource_name_aaaa_record,
                );
        });
    let ipv6 = subnet.ipv6.iter().zip(&subnet.ipv6_association);
    xml.set("ipv6CidrBlockAssociationSet", ipv6, |xml, (pool, id)| {
        show_ipv6_cidr(xml, pool.cidr(), id.as_str(), ipv6_state);
    });
    render::tags(xml, &subnet.tags);
}

fn show_ipv6_cidr(xml: &mut Xml, cidr: Ipv6Net, id: &str, state: &str) {
    xml.text("associationId", id)
        .text("ipv6CidrBlock", cidr)
        .node("ipv6CidrBlockState", |xml| {
            xml.text("state", state);
        })
        .text("ipv6AddressAttribute", "public")
        .text("ipSource", "amazon");
}

fn arn(world: &World, subnet: &Subnet) -> String {
    world.arn(world.owner(&subnet.vpc), "subnet", subnet.id.as_str())
}

fn hostname_type(subnet: &Subnet) -> &'static str {
    if subnet.attributes.resource_names {
        "resource-name"
    } else {
        "ip-name"
    }
}

fn field<'w>(world: &'w World, then: SimTime, name: &str) -> Option<Field<'w, Subnet>> {
    if let Some(field) = tag_field(name, |subnet: &Subnet| &subnet.tags) {
        return Some(field);
    }
    Some(match name {
        "subnet-id" => one(|subnet| subnet.id.to_string()),
        "vpc-id" => one(|subnet| subnet.vpc.to_string()),
        "availability-zone" | "availabilityZone" => one(|subnet| subnet.az.clone()),
        "availability-zone-id" | "availabilityZoneId" => {
            Box::new(|subnet| vec![world.az_id(&subnet.az)])
        }
        "cidr-block" | "cidr" | "cidrBlock" => one(|subnet| subnet.pool.cidr().to_string()),
        "available-ip-address-count" => {
            Box::new(move |subnet| vec![world.available_at(subnet, then).to_string()])
        }
        "state" => one(|_| "available".to_owned()),
        "default-for-az" | "defaultForAz" | "ipv6-native" | "map-customer-owned-ip-on-launch" => {
            one(|_| "false".to_owned())
        }
        "enable-dns64" => one(|subnet| subnet.attributes.dns64.to_string()),
        "map-public-ip-on-launch" => {
            one(|subnet| subnet.attributes.map_public_ip_on_launch.to_string())
        }
        "ipv6-cidr-block-association.ipv6-cidr-block" => Box::new(|subnet| {
            subnet
                .ipv6
                .iter()
                .map(|pool| pool.cidr().to_string())
                .collect()
        }),
        "ipv6-cidr-block-association.association-id" => Box::new(|subnet| {
            subnet
                .ipv6_association
                .iter()
                .map(ToString::to_string)
                .collect()
        }),
        "ipv6-cidr-block-association.state" => Box::new(|subnet| {
            subnet
                .ipv6
                .iter()
                .map(|_| "associated".to_owned())
                .collect()
        }),
        "owner-id" => Box::new(|subnet| vec![world.owner(&subnet.vpc).to_owned()]),
        "private-dns-name-options-on-launch.hostname-type" => {
            one(|subnet| hostname_type(subnet).to_owned())
        }
        "private-dns-name-options-on-launch.enable-resource-name-dns-a-record" => {
            one(|subnet| subnet.attributes.resource_name_a_record.to_string())
        }
        "private-dns-name-options-on-launch.enable-resource-name-dns-aaaa-record" => {
            one(|subnet| subnet.attributes.resource_name_aaaa_record.to_string())
        }
        "subnet-arn" => Box::new(|subnet| vec![arn(world, subnet)]),
        _ => return None,
    })
}

fn one(value: fn(&Subnet) -> String) -> Field<'static, Subnet> {
    Box::new(move |subnet| vec![value(subnet)])
}
