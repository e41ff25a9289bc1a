//! DescribeInstanceCreditSpecifications

use super::describe::read_page;
use crate::actions::ids;
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, Filters};
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Credits, Instance, World};
use crate::xml::Xml;

pub(super) fn describe(world: &mut World, now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let then = world.describe_time(now);
    let world = &*world;
    let asked = input.list("InstanceId");
    let filters = Filters::read(input, field)?;
    let page = read_page(input)?.shortened(world.config.short_pages);
    input.finish()?;

    let own = |instance: &&Instance| world.owns(input.account(), &instance.vpc);
    let mut found = Vec::new();
    for id in asked {
        let id = ids::instance_id(id)?;
        let instance = world.instance_at(&id, then).filter(own);
        found.push(instance.ok_or_else(|| Ec2Error::no_such_instance(&id))?);
    }
    if found.is_empty() {
        // Without ids, EC2 shows those that are not as their type is by default.
        let all = world.instances_at(then).filter(own);
        found = all.filter(|i| credits(i) != by_default(i)).collect();
    }
    found.retain(|instance| instance.kind.burstable && filters.matches(instance));
    let (shown, next) = page.cut(found, |instance: &&Instance| instance.id.as_str());

    let mut xml = Xml::new();
    xml.set("instanceCreditSpecificationSet", shown, |xml, instance| {
        let credits = match credits(instance) {
            Credits::Standard => "standard",
            Credits::Unlimited => "unlimited",
        };
        xml.text("instanceId", &instance.id)
            .text("cpuCredits", credits);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn credits(instance: &Instance) -> Credits {
    let asked = instance.settings.credits;
    asked.unwrap_or_else(|| by_default(instance))
}

/// The first of them, t2, is standard; the later are unlimited.
fn by_default(instance: &Instance) -> Credits {
    if instance.kind.name.starts_with("t2.") {
        Credits::Standard
    } else {
        Credits::Unlimited
    }
}

fn field(name: &str) -> Option<Field<'static, Instance>> {
    Some(match name {
        "instance-id" => Box::new(|instance| vec![instance.id.to_string()]),
        _ => return None,
    })
}
