//! What a VPC has of itself and nobody here can change: its main route table and its default network ACL. There are
//! no gateways. Terraform's provider reads all three.

use super::render;
use super::select::Selection;
use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::filters::Field;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Tags, Vpc, World};
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("DescribeInternetGateways", gateways),
    ("DescribeNetworkAcls", acls),
    ("DescribeRouteTables", tables),
];

/// Something that each VPC has one of. Its id has the digits of the VPC's.
struct Own<'w> {
    id: String,
    vpc: &'w Vpc,
}

fn id_like(prefix: &str, id: &str) -> String {
    let digits = id.rsplit('-').next().unwrap_or_default();
    format!("{prefix}{digits}")
}

/// Those of the caller's VPCs, in the order of their ids.
fn own<'w>(world: &'w World, input: &Input<'_>, prefix: &str) -> Vec<Own<'w>> {
    let vpcs = world
        .vpcs
        .values()
        .filter(|vpc| vpc.account == input.account());
    vpcs.map(|vpc| Own {
        id: id_like(prefix, vpc.id.as_str()),
        vpc,
    })
    .collect()
}

fn choose<'o, 'w>(
    asked: &Selection<'_, Own<'w>, String>,
    all: &'o [Own<'w>],
    missing: impl Fn(&str) -> Ec2Error,
) -> Result<(Vec<&'o Own<'w>>, Option<String>)> {
    let find = |id: &String| all.iter().find(|own| own.id == *id);
    asked.choose(all, find, missing, |own| own.id.as_str())
}

fn tables(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let world = &*world;
    let asked = Selection::read(input, "RouteTableId", |id| Ok(id.to_owned()), table_field)?;
    let all = own(world, input, "rtb-");
    let (shown, next) = choose(&asked, &all, |id| {
        let message = format!("The routeTable ID '{id}' does not exist");
        Ec2Error::client("InvalidRouteTableID.NotFound", message)
    })?;

    let mut xml = Xml::new();
    xml.set("routeTableSet", shown, |xml, own| {
        xml.text("routeTableId", &own.id)
            .text("vpcId", &own.vpc.id)
            .text("ownerId", &own.vpc.account);
        let ipv4 = own.vpc.cidrs().into_iter();
        let ipv4 = ipv4.map(|cidr| ("destinationCidrBlock", cidr.to_string()));
        let ipv6 = own.vpc.ipv6_cidrs().into_iter();
        let ipv6 = ipv6.map(|cidr| ("destinationIpv6CidrBlock", cidr.to_string()));
        xml.set("routeSet", ipv4.chain(ipv6), |xml, (name, cidr)| {
            xml.text(name, cidr)
                .text("gatewayId", "local")
                .text("state", "active")
                .text("origin", "CreateRouteTable");
        });
        xml.set("associationSet", [own], |xml, own| {
            xml.text("routeTableAssociationId", main_association(own))
                .text("routeTableId", &own.id)
                .text("main", true)
                .node("associationState", |xml| {
                    xml.text("state", "associated");
                });
        });
        xml.set("propagatingVgwSet", std::iter::empty::<()>(), |_, ()| {});
        render::tags(xml, &Tags::new());
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn main_association(own: &Own<'_>) -> String {
    id_like("rtbassoc-", &own.id)
}

fn table_field<'w>(name: &str) -> Option<Field<'w, Own<'w>>> {
    Some(match name {
        "route-table-id" | "association.route-table-id" => Box::new(|own| vec![own.id.clone()]),
        "vpc-id" => Box::new(|own| vec![own.vpc.id.to_string()]),
        "owner-id" => Box::new(|own| vec![own.vpc.account.clone()]),
        "association.main" => Box::new(|_| vec!["true".to_owned()]),
        "association.route-table-association-id" => Box::new(|own| vec![main_association(own)]),
        "route.gateway-id" => Box::new(|_| vec!["local".to_owned()]),
        "route.state" => Box::new(|_| vec!["active".to_owned()]),
        "route.origin" => Box::new(|_| vec!["CreateRouteTable".to_owned()]),
        "route.destination-cidr-block" => {
            Box::new(|own| own.vpc.cidrs().iter().map(ToString::to_string).collect())
        }
        "route.destination-ipv6-cidr-block" => Box::new(|own| {
            own.vpc
                .ipv6_cidrs()
                .iter()
                .map(ToString::to_string)
                .collect()
        }),
        "association.subnet-id" | "association.gateway-id" | "tag-key" => Box::new(|_| Vec::new()),
        _ if name.starts_with("tag:") => Box::new(|_| Vec::new()),
        _ => return None,
    })
}

fn acls(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let world = &*world;
    let asked = Selection::read(
        input,
        "NetworkAclId",
        |id| Ok(id.to_owned()),
        |name| acl_field(world, name),
    )?;
    let all = own(world, input, "acl-");
    let (shown, next) = choose(&asked, &all, |id| {
        let message = format!("The networkAcl ID '{id}' does not exist");
        Ec2Error::client("InvalidNetworkAclID.NotFound", message)
    })?;

    let mut xml = Xml::new();
    xml.set("networkAclSet", shown, |xml, own| {
        xml.text("networkAclId", &own.id)
            .text("vpcId", &own.vpc.id)
            .text("ownerId", &own.vpc.account)
            .text("default", true);
        // Everything is allowed, and what no rule allowed is denied.
        let entries = [true, false].into_iter().flat_map(|egress| {
            [("100", "allow"), ("32767", "deny")].map(|(number, action)| (egress, number, action))
        });
        xml.set("entrySet", entries, |xml, (egress, number, action)| {
            xml.text("ruleNumber", number)
                .text("protocol", "-1")
                .text("ruleAction", action)
                .text("egress", egress)
                .text("cidrBlock", "0.0.0.0/0");
        });
        let subnets = world.subnets_of(&own.vpc.id);
        xml.set("associationSet", subnets, |xml, subnet| {
            xml.text(
                "networkAclAssociationId",
                id_like("aclassoc-", subnet.id.as_str()),
            )
            .text("networkAclId", &own.id)
            .text("subnetId", &subnet.id);
        });
        render::tags(xml, &Tags::new());
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn acl_field<'w>(world: &'w World, name: &str) -> Option<Field<'w, Own<'w>>> {
    Some(match name {
        "network-acl-id" | "association.network-acl-id" => Box::new(|own| vec![own.id.clone()]),
        "vpc-id" => Box::new(|own| vec![own.vpc.id.to_string()]),
        "owner-id" => Box::new(|own| vec![own.vpc.account.clone()]),
        "default" => Box::new(|_| vec!["true".to_owned()]),
        "association.subnet-id" => Box::new(|own| {
            let subnets = world.subnets_of(&own.vpc.id);
            subnets.map(|subnet| subnet.id.to_string()).collect()
        }),
        "association.association-id" => Box::new(|own| {
            let subnets = world.subnets_of(&own.vpc.id);
            subnets
                .map(|subnet| id_like("aclassoc-", subnet.id.as_str()))
                .collect()
        }),
        "tag-key" => Box::new(|_| Vec::new()),
        _ if name.starts_with("tag:") => Box::new(|_| Vec::new()),
        _ => return None,
    })
}

/// There is none.
fn gateways(_world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let known = |name: &str| {
        let known = matches!(
            name,
            "attachment.vpc-id"
                | "attachment.state"
                | "internet-gateway-id"
                | "owner-id"
                | "tag-key"
        );
        (known || name.starts_with("tag:")).then(|| -> Field<'_, ()> { Box::new(|()| Vec::new()) })
    };
    let asked = Selection::read(input, "InternetGatewayId", |id| Ok(id.to_owned()), known)?;
    let missing = |id: &str| {
        let message = format!("The internetGateway ID '{id}' does not exist");
        Ec2Error::client("InvalidInternetGatewayID.NotFound", message)
    };
    asked.choose(&[], |_: &String| None, missing, |()| "")?;

    let mut xml = Xml::new();
    xml.set("internetGatewaySet", std::iter::empty::<()>(), |_, ()| {});
    Ok(xml)
}
