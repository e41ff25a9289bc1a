//! DescribeInstanceStatus

use super::describe::read_page;
use super::render;
use crate::actions::ids;
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, Filters};
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Instance, InstanceState, World};
use crate::xml::Xml;

/// Filters on scheduled events, of which there are none.
const OF_EVENTS: &[&str] = &[
    "event.code",
    "event.description",
    "event.instance-event-id",
    "event.not-after",
    "event.not-before",
    "event.not-before-deadline",
];

pub(super) fn describe(world: &mut World, now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let then = world.describe_time(now);
    let world = &*world;
    let asked = input.list("InstanceId");
    let filters = Filters::read(input, |name| field(world, then, name))?;
    let page = read_page(input)?;
    let all_states = input.flag("IncludeAllInstances")?.unwrap_or(false);
    input.flag("IncludeManagedResources")?;
    input.finish()?;

    let asked = asked.into_iter().map(ids::instance_id);
    let asked = asked.collect::<Result<Vec<_>>>()?;
    let own = |instance: &&Instance| world.owns(input.account(), &instance.vpc);
    let found: Vec<&Instance> = if asked.is_empty() {
        world.instances_at(then).filter(own).collect()
    } else {
        let find = |id| {
            let instance = world.instance_at(id, then).filter(own);
            instance.ok_or_else(|| Ec2Error::no_such_instance(id))
        };
        asked.iter().map(find).collect::<Result<_>>()?
    };
    let seen = found.into_iter().filter(|instance| {
        (all_states || instance.state == InstanceState::Running) && filters.matches(instance)
    });
    let page = page.shortened(world.config.short_pages);
    let (shown, next) = page.cut(seen.collect(), |i: &&Instance| i.id.as_str());

    let mut xml = Xml::new();
    xml.set("instanceStatusSet", shown, |xml, instance| {
        xml.text("instanceId", &instance.id)
            .text("availabilityZone", &instance.az)
            .text("availabilityZoneId", world.az_id(&instance.az))
            .node("instanceState", |xml| render::state(xml, instance.state));
        let (status, reachability) = status(world, instance, then);
        for name in ["systemStatus", "instanceStatus"] {
            xml.node(name, |xml| {
                xml.text("status", status);
                if let Some(reachability) = reachability {
                    xml.set("details", [reachability], |xml, reachability| {
                        xml.text("name", "reachability")
                            .text("status", reachability);
                    });
                }
            });
        }
        xml.node("attachedEbsStatus", |xml| {
            xml.text("status", status);
        });
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

/// What the checks of a running instance have found so far, and whether it could be reached.
fn status(
    world: &World,
    instance: &Instance,
    then: SimTime,
) -> (&'static str, Option<&'static str>) {
    let checked = instance.state_since.plus(world.config.latencies.checks);
    match instance.state {
        InstanceState::Running if checked <= then => ("ok", Some("passed")),
        InstanceState::Running | InstanceState::Pending => ("initializing", Some("initializing")),
        _ => ("not-applicable", None),
    }
}

fn field<'w>(world: &'w World, then: SimTime, name: &str) -> Option<Field<'w, Instance>> {
    if OF_EVENTS.contains(&name) {
        return Some(Box::new(|_| Vec::new()));
    }
    Some(match name {
        "availability-zone" => Box::new(|instance| vec![instance.az.clone()]),
        "availability-zone-id" => Box::new(|instance| vec![world.az_id(&instance.az)]),
        "instance-state-code" => {
            Box::new(|instance| vec![instance.state.code_and_name().0.to_string()])
        }
        "instance-state-name" => {
            Box::new(|instance| vec![instance.state.code_and_name().1.to_owned()])
        }
        "instance-status.status" | "system-status.status" | "attached-ebs-status.status" => {
            Box::new(move |instance| vec![status(world, instance, then).0.to_owned()])
        }
        "instance-status.reachability" | "system-status.reachability" => {
            Box::new(move |instance| {
                let (_, reachability) = status(world, instance, then);
                reachability.map(str::to_owned).into_iter().collect()
            })
        }
        "operator.managed" => Box::new(|_| vec!["false".to_owned()]),
        _ => return None,
    })
}
