//! DescribeInstances

mod fields;

use std::collections::BTreeMap;

use super::render;
use crate::actions::ids;
use crate::error::{Ec2Error, Result};
use crate::filters::Filters;
use crate::page::Page;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Instance, World};
use crate::xml::Xml;

pub(super) fn describe(world: &mut World, now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let then = world.describe_time(now);
    let world = &*world;
    let asked = input.list("InstanceId");
    let asked = asked
        .into_iter()
        .map(ids::instance_id)
        .collect::<Result<Vec<_>>>()?;
    let filters = Filters::read(input, |name| fields::find(world, then, name))?;
    let page = read_page(input)?;
    input.flag("IncludeManagedResources")?;
    input.finish()?;

    let seen: Vec<&Instance> = if asked.is_empty() {
        world
            .instances_at(then)
            .filter(|instance| world.owns(input.account(), &instance.vpc))
            .collect()
    } else {
        let find = |id| {
            world
                .instance_at(id, then)
                .filter(|instance| world.owns(input.account(), &instance.vpc))
                .ok_or_else(|| Ec2Error::no_such_instance(id))
        };
        asked.iter().map(find).collect::<Result<_>>()?
    };
    let matching = seen
        .into_iter()
        .filter(|instance| filters.matches(instance))
        .collect();
    let page = page.shortened(world.config.short_pages);
    let (shown, next) = page.cut(matching, |instance: &&Instance| instance.id.as_str());

    let mut reservations: BTreeMap<&str, Vec<&Instance>> = BTreeMap::new();
    for instance in shown {
        let of_launch = reservations.entry(&instance.reservation).or_default();
        of_launch.push(instance);
    }
    let mut xml = Xml::new();
    xml.set("reservationSet", reservations, |xml, (id, instances)| {
        render::reservation(xml, world, id, &instances, then);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

/// The two parameters of pages. More than 1000 is asked for in vain.
pub(super) fn read_page(input: &Input<'_>) -> Result<Page> {
    Ok(Page::read(input, "InstanceId", 5..=usize::MAX)?.at_most(1000))
}
