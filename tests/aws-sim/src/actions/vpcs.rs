//! VPCs and their CIDRs.

use super::{ids, render};
use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, Filters, tag_field};
use crate::page::Page;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Vpc, World};
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[("DescribeVpcs", describe)];

fn describe(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let world = &*world;
    let asked = input.list("VpcId");
    let asked = asked
        .into_iter()
        .map(ids::vpc_id)
        .collect::<Result<Vec<_>>>()?;
    let filters = Filters::read(input, |name| field(world, name))?;
    let page = Page::read(input, "VpcId", 5..=1000)?;
    input.finish()?;

    let seen: Vec<&Vpc> = if asked.is_empty() {
        world
            .vpcs
            .values()
            .filter(|vpc| world.owns(input.account(), &vpc.id))
            .collect()
    } else {
        let find = |id| {
            world
                .vpc(id)
                .filter(|vpc| world.owns(input.account(), &vpc.id))
                .ok_or_else(|| Ec2Error::no_such_vpc(id))
        };
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
            .text("ownerId", &vpc.account)
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

fn field<'w>(world: &'w World, name: &str) -> Option<Field<'w, Vpc>> {
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
        "owner-id" => Box::new(|vpc| vec![world.owner(&vpc.id).to_owned()]),
        _ => return None,
    })
}
