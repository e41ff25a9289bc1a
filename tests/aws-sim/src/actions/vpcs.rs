//! VPCs and their CIDRs.

mod attributes;
mod cidrs;

use ipnet::Ipv4Net;

use super::select::Selection;
use super::{ids, render, tags};
use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, tag_field};
use crate::ids::mix;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Tenancy, Vpc, VpcCidr, World};
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("AssociateVpcCidrBlock", cidrs::associate),
    ("CreateVpc", create),
    ("DeleteVpc", delete),
    ("DescribeVpcAttribute", attributes::describe),
    ("DescribeVpcs", describe),
    ("DisassociateVpcCidrBlock", cidrs::disassociate),
    ("ModifyVpcAttribute", attributes::modify),
];

fn create(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let cidr = input.required("CidrBlock")?;
    let ipv6 = cidrs::wants_amazon_ipv6(world, input)?;
    let tenancy = input.text("InstanceTenancy");
    let tags = tags::specified(input, "vpc")?;
    input.finish()?;

    let cidr: Ipv4Net = parse_cidr(cidr, "cidrBlock")?;
    let tenancy = match tenancy {
        None | Some("default") => Tenancy::Default,
        Some("dedicated") => Tenancy::Dedicated,
        Some(other) => {
            let message = format!("The tenancy value {other} is not supported.");
            return Err(Ec2Error::client("UnsupportedTenancy", message));
        }
    };
    let id = world.add_vpc_in(input.account(), cidr)?;
    if ipv6 {
        world.add_vpc_ipv6(&id)?;
    }
    world.change_vpc(&id, |vpc| {
        vpc.tenancy = tenancy;
        vpc.tags = tags;
    })?;
    let made = world.vpc(&id).ok_or_else(|| Ec2Error::no_such_vpc(&id))?;
    let mut xml = Xml::new();
    xml.node("vpc", |xml| {
        show(xml, world, made, "pending", "associating");
    });
    Ok(xml)
}

fn delete(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let id = input.required("VpcId")?;
    input.finish()?;
    let vpc = ids::owned_vpc(world, input, &ids::vpc_id(id)?)?;

    let (id, default_group) = (vpc.id.clone(), &vpc.default_group);
    let mut groups = world.groups.values().filter(|group| group.vpc == id);
    if groups.any(|group| group.id != *default_group) || world.subnets_of(&id).next().is_some() {
        let message = format!("The vpc '{id}' has dependencies and cannot be deleted.");
        return Err(Ec2Error::client("DependencyViolation", message));
    }
    world.delete_vpc(&id);
    Ok(render::done())
}

fn describe(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let world = &*world;
    let asked = Selection::read(input, "VpcId", ids::vpc_id, field)?;
    let own = |vpc: &&Vpc| vpc.account == input.account();
    let (shown, next) = asked.choose(
        world.vpcs.values().filter(own),
        |id| world.vpc(id).filter(own),
        |id| Ec2Error::no_such_vpc(id),
        |vpc| vpc.id.as_str(),
    )?;

    let mut xml = Xml::new();
    xml.set("vpcSet", shown, |xml, vpc| {
        show(xml, world, vpc, "available", "associated");
        render::public_access(xml);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

/// `ipv6_state` is that of the IPv6 ranges: right after CreateVpc they are still being associated.
fn show(xml: &mut Xml, world: &World, vpc: &Vpc, state: &str, ipv6_state: &str) {
    xml.text("vpcId", &vpc.id)
        .text("ownerId", &vpc.account)
        .text("state", state)
        .maybe("cidrBlock", vpc.cidrs().first());
    xml.set("cidrBlockAssociationSet", &vpc.ipv4, |xml, block| {
        show_cidr(xml, block, "associated");
    });
    // DescribeVpcs leaves an empty one out.
    if state == "pending" || !vpc.ipv6.is_empty() {
        xml.set("ipv6CidrBlockAssociationSet", &vpc.ipv6, |xml, block| {
            show_ipv6_cidr(xml, world, block, ipv6_state);
        });
    }
    xml.text("dhcpOptionsId", dhcp_options(&vpc.account));
    render::tags(xml, &vpc.tags);
    xml.text("instanceTenancy", vpc.tenancy.as_str())
        .text("isDefault", false);
}

fn show_cidr(xml: &mut Xml, block: &VpcCidr<Ipv4Net>, state: &str) {
    xml.text("cidrBlock", block.cidr)
        .text("associationId", &block.id)
        .node("cidrBlockState", |xml| {
            xml.text("state", state);
        });
}

fn show_ipv6_cidr(xml: &mut Xml, world: &World, block: &VpcCidr<ipnet::Ipv6Net>, state: &str) {
    xml.text("ipv6CidrBlock", block.cidr)
        .text("associationId", &block.id)
        .node("ipv6CidrBlockState", |xml| {
            xml.text("state", state);
        })
        .text("networkBorderGroup", &world.config.region)
        .text("ipv6Pool", AMAZON)
        .text("ipv6AddressAttribute", "public")
        .text("ipSource", "amazon");
}

/// The pool that Amazon's own IPv6 ranges are from.
const AMAZON: &str = "Amazon";

/// The set of DHCP options that all VPCs of an account begin with.
fn dhcp_options(account: &str) -> String {
    let digits = account
        .bytes()
        .fold(0, |id, byte| mix(id ^ u64::from(byte)));
    format!("dopt-0{digits:016x}")
}

/// EC2 takes a CIDR with host bits, and forgets them.
pub(super) fn parse_cidr<T: std::str::FromStr>(text: &str, name: &str) -> Result<T> {
    let why = "This is not a valid CIDR block.";
    text.parse().map_err(|_| Ec2Error::value(text, name, why))
}

fn field(name: &str) -> Option<Field<'static, Vpc>> {
    if let Some(field) = tag_field(name, |vpc: &Vpc| &vpc.tags) {
        return Some(field);
    }
    Some(match name {
        "vpc-id" => Box::new(|vpc| vec![vpc.id.to_string()]),
        "cidr" | "cidr-block" | "cidrBlock" => Box::new(|vpc| {
            vpc.cidrs()
                .first()
                .iter()
                .map(ToString::to_string)
                .collect()
        }),
        "cidr-block-association.cidr-block" => {
            Box::new(|vpc| vpc.cidrs().iter().map(ToString::to_string).collect())
        }
        "cidr-block-association.association-id" => {
            Box::new(|vpc| vpc.ipv4.iter().map(|block| block.id.to_string()).collect())
        }
        "cidr-block-association.state" => {
            Box::new(|vpc| vpc.ipv4.iter().map(|_| "associated".to_owned()).collect())
        }
        "ipv6-cidr-block-association.ipv6-cidr-block" => {
            Box::new(|vpc| vpc.ipv6_cidrs().iter().map(ToString::to_string).collect())
        }
        "ipv6-cidr-block-association.association-id" => {
            Box::new(|vpc| vpc.ipv6.iter().map(|block| block.id.to_string()).collect())
        }
        "ipv6-cidr-block-association.ipv6-pool" => {
            Box::new(|vpc| vpc.ipv6.iter().map(|_| AMAZON.to_owned()).collect())
        }
        "ipv6-cidr-block-association.state" => {
            Box::new(|vpc| vpc.ipv6.iter().map(|_| "associated".to_owned()).collect())
        }
        "dhcp-options-id" | "dhcpOptionsId" => Box::new(|vpc| vec![dhcp_options(&vpc.account)]),
        "instance-tenancy" => Box::new(|vpc| vec![vpc.tenancy.as_str().to_owned()]),
        "state" => Box::new(|_| vec!["available".to_owned()]),
        "is-default" | "isDefault" => Box::new(|_| vec!["false".to_owned()]),
        "owner-id" => Box::new(|vpc| vec![vpc.account.clone()]),
        _ => return None,
    })
}
