//! Tags: CreateTags, DeleteTags, DescribeTags, and those that come with a resource.

mod kinds;

use self::kinds::{KINDS, Kind};
use super::render;
use super::select::Selection;
use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::filters::Field;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Tags, World};
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("CreateTags", create),
    ("DeleteTags", delete),
    ("DescribeTags", describe),
];

const MOST_TAGS: usize = 50;

fn create(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let ids = input.list("ResourceId");
    let tags = read(input, "Tag")?;
    input.finish()?;

    if tags.is_empty() {
        return Err(Ec2Error::missing("Tag"));
    }
    let things = things(world, input, &ids)?;
    for (kind, id) in &things {
        let known = kind.find(world, input.account(), id)?.tags;
        if known.len() + tags.keys().filter(|key| !known.contains_key(*key)).count() > MOST_TAGS {
            return Err(too_many());
        }
    }
    for (kind, id) in things {
        kind.change(world, id, |known| known.extend(tags.clone()))?;
    }
    Ok(render::done())
}

fn delete(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let ids = input.list("ResourceId");
    let mut wanted = Vec::new();
    for tag in input.elements("Tag") {
        let key = input.required(&format!("{tag}.Key"))?;
        wanted.push((key, input.text_or_empty(&format!("{tag}.Value"))));
    }
    input.finish()?;

    wanted.iter().try_for_each(|(key, _)| check_key(key))?;
    for (kind, id) in things(world, input, &ids)? {
        kind.change(world, id, |known| {
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

/// A tag of a thing.
struct Found<'w> {
    /// What orders them.
    place: String,
    kind: &'static str,
    id: &'w str,
    key: &'w str,
    value: &'w str,
}

fn describe(world: &mut World, now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let then = world.describe_time(now);
    let world = &*world;
    let asked = Selection::read_all(input, field)?;
    let things = KINDS.iter().flat_map(|kind| {
        let all = kind.all(world, then, input.account());
        all.map(move |found| (kind.name, found))
    });
    let mut all: Vec<Found<'_>> = things
        .flat_map(|(kind, thing)| {
            thing.tags.iter().map(move |(key, value)| Found {
                place: format!("{}/{key}", thing.id),
                kind,
                id: thing.id,
                key,
                value,
            })
        })
        .collect();
    all.sort_by(|one, other| one.place.cmp(&other.place));
    let (shown, next) = asked.choose_all(&all, |found| found.place.as_str());

    let mut xml = Xml::new();
    xml.set("tagSet", shown, |xml, found| {
        xml.text("resourceId", found.id)
            .text("resourceType", found.kind)
            .text("key", found.key)
            .text("value", found.value);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn field<'w>(name: &str) -> Option<Field<'w, Found<'w>>> {
    if let Some(key) = name.strip_prefix("tag:") {
        let key = key.to_owned();
        return Some(Box::new(move |found| {
            let value = (found.key == key).then(|| found.value.to_owned());
            value.into_iter().collect()
        }));
    }
    Some(match name {
        "key" => Box::new(|found| vec![found.key.to_owned()]),
        "value" => Box::new(|found| vec![found.value.to_owned()]),
        "resource-id" => Box::new(|found| vec![found.id.to_owned()]),
        "resource-type" => Box::new(|found| vec![found.kind.to_owned()]),
        _ => return None,
    })
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
        check_key(key)?;
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

/// The things of these ids, all of which are there and the caller's.
fn things<'a>(
    world: &World,
    input: &Input<'_>,
    ids: &[&'a str],
) -> Result<Vec<(&'static Kind, &'a str)>> {
    if ids.is_empty() {
        return Err(Ec2Error::missing("ResourceId"));
    }
    let find = |id: &&'a str| {
        let kind = Kind::of(id)?;
        kind.find(world, input.account(), id)?;
        Ok((kind, *id))
    };
    ids.iter().map(find).collect()
}

fn check_key(key: &str) -> Result<()> {
    if key.to_ascii_lowercase().starts_with("aws:") {
        let message = "Tag keys starting with 'aws:' are reserved for internal use";
        return Err(Ec2Error::invalid(message));
    }
    Ok(())
}

fn too_many() -> Ec2Error {
    let message = "The maximum number of Tags for a resource has been reached.";
    Ec2Error::client("TagLimitExceeded", message)
}
