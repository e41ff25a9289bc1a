//! Tags: CreateTags, DeleteTags, and those that come with a resource.

use super::render;
use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::ids::{EniId, GroupId, InstanceId, SubnetId, VpcId};
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Tags, World};
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[("CreateTags", create), ("DeleteTags", delete)];

const MOST_TAGS: usize = 50;

pub(super) fn create(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let ids = resources(world, input)?;
    let tags = read(input, "Tag")?;
    input.finish()?;

    if tags.is_empty() {
        return Err(Ec2Error::missing("Tag"));
    }
    for id in &ids {
        let known = of(world, input.account(), id)?;
        if known.len() + tags.keys().filter(|key| !known.contains_key(*key)).count() > MOST_TAGS {
            return Err(too_many());
        }
    }
    for id in &ids {
        change(world, id, |known| known.extend(tags.clone()))?;
    }
    Ok(render::done())
}

pub(super) fn delete(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let ids = resources(world, input)?;
    let mut wanted = Vec::new();
    for tag in input.elements("Tag") {
        let key = input.required(&format!("{tag}.Key"))?;
        wanted.push((key, input.text_or_empty(&format!("{tag}.Value"))));
    }
    input.finish()?;

    for id in &ids {
        change(world, id, |known| {
            if wanted.is_empty() {
                known.clear();
            }
            known.retain(|key, value| {
                // A value that does not match leaves the tag where it is.
                !wanted
                    .iter()
                    .any(|(k, v)| k == key && v.is_none_or(|v| v == value))
            });
        })?;
    }
    Ok(render::done())
}

/// `TagSpecification.N`, for a resource of this type.
pub(super) fn specified(input: &Input<'_>, resource_type: &str) -> Result<Tags> {
    let mut tags = Tags::new();
    for specification in input.elements("TagSpecification") {
        let kind = input.required(&format!("{specification}.ResourceType"))?;
        if kind != resource_type {
            // Not all operations have the same code for it.
            let code = match resource_type {
                "network-interface" | "subnet" | "vpc" => "InvalidParameter",
                _ => "InvalidParameterValue",
            };
            let message =
                format!("'{kind}' is not a valid taggable resource type for this operation.");
            return Err(Ec2Error::client(code, message));
        }
        tags.extend(read(input, &format!("{specification}.Tag"))?);
    }
    if tags.len() > MOST_TAGS {
        return Err(too_many());
    }
    Ok(tags)
}

pub(super) fn read(input: &Input<'_>, name: &str) -> Result<Tags> {
    let mut tags = Tags::new();
    for tag in input.elements(name) {
        let key = input.required(&format!("{tag}.Key"))?;
        let value = input
            .text_or_empty(&format!("{tag}.Value"))
            .unwrap_or_default();
        if key.to_ascii_lowercase().starts_with("aws:") {
            return Err(Ec2Error::invalid(format!(
                "Tag keys starting with 'aws:' are reserved for internal use: {key}"
            )));
        }
        if key.chars().count() > 128 {
            let why = "Tag keys must not exceed 128 characters.";
            return Err(Ec2Error::value(key, "key", why));
        }
        if value.chars().count() > 256 {
            let why = "Tag values must not exceed 256 characters.";
            return Err(Ec2Error::value(value, "value", why));
        }
        if tags.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(Ec2Error::invalid(format!(
                "Duplicate tag key '{key}' specified."
            )));
        }
    }
    Ok(tags)
}

fn resources<'a>(world: &World, input: &Input<'a>) -> Result<Vec<&'a str>> {
    let ids = input.list("ResourceId");
    if ids.is_empty() {
        return Err(Ec2Error::missing("ResourceId"));
    }
    ids.iter()
        .try_for_each(|id| of(world, input.account(), id).map(drop))?;
    Ok(ids)
}

fn of<'w>(world: &'w World, account: &str, id: &str) -> Result<&'w Tags> {
    let own = |vpc: &VpcId| world.owns(account, vpc);
    if EniId::is_well_formed(id) {
        let found = world.eni(&id.into()).filter(|eni| own(&eni.vpc));
        return found
            .map(|eni| &eni.tags)
            .ok_or_else(|| Ec2Error::no_such_eni(id));
    }
    if InstanceId::is_well_formed(id) {
        let found = world.instance(&id.into()).filter(|found| own(&found.vpc));
        return found
            .map(|instance| &instance.tags)
            .ok_or_else(|| Ec2Error::no_such_instance(id));
    }
    if SubnetId::is_well_formed(id) {
        let found = world.subnets.get(id).filter(|found| own(&found.vpc));
        return found
            .map(|subnet| &subnet.tags)
            .ok_or_else(|| Ec2Error::no_such_subnet(id));
    }
    if VpcId::is_well_formed(id) {
        let found = world.vpcs.get(id).filter(|found| own(&found.id));
        return found
            .map(|vpc| &vpc.tags)
            .ok_or_else(|| Ec2Error::no_such_vpc(id));
    }
    if GroupId::is_well_formed(id) {
        let found = world.groups.get(id).filter(|found| own(&found.vpc));
        return found
            .map(|group| &group.tags)
            .ok_or_else(|| Ec2Error::no_such_group(id));
    }
    Err(Ec2Error::client(
        "InvalidID",
        format!("The ID '{id}' is not valid"),
    ))
}

fn change(world: &mut World, id: &str, f: impl FnOnce(&mut Tags)) -> Result<()> {
    if EniId::is_well_formed(id) {
        return world.change_eni(&id.into(), |eni| f(&mut eni.tags));
    }
    if InstanceId::is_well_formed(id) {
        return world.change_instance(&id.into(), |instance| f(&mut instance.tags));
    }
    let others = [
        world.subnets.get_mut(id).map(|subnet| &mut subnet.tags),
        world.vpcs.get_mut(id).map(|vpc| &mut vpc.tags),
        world.groups.get_mut(id).map(|group| &mut group.tags),
    ];
    if let Some(tags) = others.into_iter().flatten().next() {
        f(tags);
    }
    world.touch();
    Ok(())
}

fn too_many() -> Ec2Error {
    let message = "The maximum number of Tags for a resource has been reached.";
    Ec2Error::client("TagLimitExceeded", message)
}
