//! Security groups.

use super::{ids, render};
use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, Filters, tag_field};
use crate::page::Page;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Group, World};
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[("DescribeSecurityGroups", describe)];

fn describe(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let world = &*world;
    let asked = input.list("GroupId");
    let asked = asked
        .into_iter()
        .map(ids::group_id)
        .collect::<Result<Vec<_>>>()?;
    let filters = Filters::read(input, |name| field(world, name))?;
    let page = Page::read(input, "GroupId", 5..=1000)?;
    input.finish()?;

    let seen: Vec<&Group> = if asked.is_empty() {
        world
            .groups
            .values()
            .filter(|group| world.owns(input.account(), &group.vpc))
            .collect()
    } else {
        let find = |id| {
            world
                .group(id)
                .filter(|group| world.owns(input.account(), &group.vpc))
                .ok_or_else(|| Ec2Error::no_such_group(id))
        };
        asked.iter().map(find).collect::<Result<_>>()?
    };
    let matching = seen
        .into_iter()
        .filter(|group| filters.matches(group))
        .collect();
    let (shown, next) = page.cut(matching, |group: &&Group| group.id.as_str());

    let mut xml = Xml::new();
    xml.set("securityGroupInfo", shown, |xml, group| {
        xml.text("ownerId", world.owner(&group.vpc))
            .text("groupId", &group.id)
            .text("groupName", &group.name)
            .text("groupDescription", &group.name)
            .text("vpcId", &group.vpc)
            .text(
                "securityGroupArn",
                world.arn(world.owner(&group.vpc), "security-group", group.id.as_str()),
            );
        xml.set("ipPermissions", &group.ingress, |xml, rule| {
            render::rule(xml, world.owner(&group.vpc), rule);
        });
        xml.set("ipPermissionsEgress", &group.egress, |xml, rule| {
            render::rule(xml, world.owner(&group.vpc), rule);
        });
        render::tags(xml, &group.tags);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn field<'w>(world: &'w World, name: &str) -> Option<Field<'w, Group>> {
    if let Some(field) = tag_field(name, |group: &Group| &group.tags) {
        return Some(field);
    }
    Some(match name {
        "group-id" => Box::new(|group| vec![group.id.to_string()]),
        "group-name" | "description" => Box::new(|group| vec![group.name.clone()]),
        "vpc-id" => Box::new(|group| vec![group.vpc.to_string()]),
        "owner-id" => Box::new(|group| vec![world.owner(&group.vpc).to_owned()]),
        _ => return None,
    })
}
