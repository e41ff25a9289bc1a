//! Security groups.

mod asked;
mod permissions;
mod rules;

use ipnet::Ipv4Net;

use super::select::Selection;
use super::{ids, render, tags};
use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, tag_field};
use crate::params::Input;
use crate::security::{Peer, Rule};
use crate::time::SimTime;
use crate::world::{Direction, Group, World};
use crate::xml::Xml;

pub(super) use self::rules::no_such_rule;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("AuthorizeSecurityGroupEgress", rules::authorize_egress),
    ("AuthorizeSecurityGroupIngress", rules::authorize_ingress),
    ("CreateSecurityGroup", create),
    ("DeleteSecurityGroup", delete),
    ("DescribeSecurityGroupRules", rules::describe),
    ("DescribeSecurityGroups", describe),
    ("ModifySecurityGroupRules", rules::modify),
    ("RevokeSecurityGroupEgress", rules::revoke_egress),
    ("RevokeSecurityGroupIngress", rules::revoke_ingress),
];

fn create(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let name = input.required("GroupName")?;
    let description = input.required("GroupDescription")?;
    let vpc = input.text("VpcId");
    let tags = tags::specified(input, "security-group")?;
    input.finish()?;

    let vpc = vpc.ok_or_else(no_default_vpc)?;
    let vpc = ids::owned_vpc(world, input, &ids::vpc_id(vpc)?)?.id.clone();
    check_text(name, "groupName")?;
    check_text(description, "GroupDescription")?;
    if name.starts_with("sg-") {
        let why = "Group names may not be in the format sg-*.";
        return Err(Ec2Error::value(name, "groupName", why));
    }
    if name.eq_ignore_ascii_case("default") {
        let message = format!("The security group '{name}' is reserved");
        return Err(Ec2Error::client("InvalidGroup.Reserved", message));
    }
    let egress = vec![Rule::all(Peer::Cidr(Ipv4Net::default()))];
    let id = world.add_security_group(&vpc, name, Vec::new(), egress)?;
    world.change_group(&id, |group| {
        description.clone_into(&mut group.description);
        group.tags = tags;
    })?;
    let group = ids::owned_group(world, input, &id)?;
    let mut xml = Xml::new();
    xml.text("return", true).text("groupId", &id);
    render::tags(&mut xml, &group.tags);
    xml.text("securityGroupArn", arn(world, group));
    Ok(xml)
}

fn delete(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let id = one_group(input)?;
    input.finish()?;

    let group = ids::owned_group(world, input, &ids::group_id(id?)?)?;
    let id = group.id.clone();
    if world
        .vpc(&group.vpc)
        .is_some_and(|vpc| vpc.default_group == id)
    {
        let name = &group.name;
        let message =
            format!("the specified group: \"{id}\" name: \"{name}\" cannot be deleted by a user");
        return Err(Ec2Error::client("CannotDelete", message));
    }
    if world.is_group_used(&id) {
        let message = format!("resource {id} has a dependent object");
        return Err(Ec2Error::client("DependencyViolation", message));
    }
    world.delete_group(&id);
    let mut xml = render::done();
    xml.text("groupId", id);
    Ok(xml)
}

fn describe(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let world = &*world;
    let names = input.list("GroupName");
    let asked = Selection::read(input, "GroupId", ids::group_id, |name| field(world, name))?;
    if !names.is_empty() {
        return Err(no_default_vpc());
    }
    let own = |group: &&Group| world.owns(input.account(), &group.vpc);
    let (shown, next) = asked.choose(
        world.groups.values().filter(own),
        |id| world.group(id).filter(own),
        |id| Ec2Error::no_such_group(id),
        |group| group.id.as_str(),
    )?;

    let mut xml = Xml::new();
    xml.set("securityGroupInfo", shown, |xml, group| {
        let owner = world.owner(&group.vpc);
        xml.text("ownerId", owner)
            .text("groupId", &group.id)
            .text("groupName", &group.name)
            .text("groupDescription", &group.description)
            .text("vpcId", &group.vpc)
            .text("securityGroupArn", arn(world, group));
        permissions::show(xml, "ipPermissions", owner, &group.ingress);
        permissions::show(xml, "ipPermissionsEgress", owner, &group.egress);
        render::tags(xml, &group.tags);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

/// `GroupId`. A name names a group of the default VPC, and there is none.
fn one_group<'a>(input: &Input<'a>) -> Result<Result<&'a str>> {
    match (input.text("GroupId"), input.text("GroupName")) {
        (Some(id), None) => Ok(Ok(id)),
        (None, Some(_)) => Ok(Err(no_default_vpc())),
        (Some(_), Some(_)) => Err(Ec2Error::combination(
            "The parameter groupName cannot be used with the parameter groupId",
        )),
        (None, None) => {
            let message = "The request must contain the parameter groupName or groupId";
            Err(Ec2Error::client("MissingParameter", message))
        }
    }
}

fn no_default_vpc() -> Ec2Error {
    Ec2Error::client("VPCIdNotSpecified", "No default VPC for this user")
}

fn check_text(text: &str, name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=&;{}!$*".contains(c);
    if text.len() <= 255 && text.chars().all(allowed) {
        return Ok(());
    }
    let why = "Character sets beyond ASCII are not supported.";
    if text.is_ascii() {
        let message = format!(
            "Invalid security group {}. Valid descriptions are strings less than 256 characters from the following \
             set:  a-zA-Z0-9. _-:/()#,@[]+=&;{{}}!$*",
            if name == "groupName" {
                "name"
            } else {
                "description"
            }
        );
        return Err(Ec2Error::invalid(message));
    }
    Err(Ec2Error::value(text, name, why))
}

fn arn(world: &World, group: &Group) -> String {
    world.arn(world.owner(&group.vpc), "security-group", group.id.as_str())
}

fn field<'w>(world: &'w World, name: &str) -> Option<Field<'w, Group>> {
    if let Some(field) = tag_field(name, |group: &Group| &group.tags) {
        return Some(field);
    }
    if let Some(name) = name.strip_prefix("ip-permission.") {
        return permissions::field(world, Direction::Ingress, name);
    }
    if let Some(name) = name.strip_prefix("egress.ip-permission.") {
        return permissions::field(world, Direction::Egress, name);
    }
    Some(match name {
        "group-id" => Box::new(|group| vec![group.id.to_string()]),
        "group-name" => Box::new(|group| vec![group.name.clone()]),
        "description" => Box::new(|group| vec![group.description.clone()]),
        "vpc-id" => Box::new(|group| vec![group.vpc.to_string()]),
        "owner-id" => Box::new(|group| vec![world.owner(&group.vpc).to_owned()]),
        _ => return None,
    })
}
