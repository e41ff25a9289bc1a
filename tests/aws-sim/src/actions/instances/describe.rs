//! DescribeInstances

use std::collections::BTreeMap;

use super::render;
use crate::actions::ids;
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, Filters, tag_field};
use crate::page::Page;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Eni, Instance, World};
use crate::xml::Xml;

pub(super) fn describe(world: &mut World, now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let then = world.describe_time(now);
    let world = &*world;
    let asked = input.list("InstanceId");
    let asked = asked
        .into_iter()
        .map(ids::instance_id)
        .collect::<Result<Vec<_>>>()?;
    let filters = Filters::read(input, |name| field(world, name))?;
    let page = Page::read(input, "InstanceId", 5..=1000)?;
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

fn field<'w>(world: &'w World, name: &str) -> Option<Field<'w, Instance>> {
    if let Some(field) = tag_field(name, |instance: &Instance| &instance.tags) {
        return Some(field);
    }
    if let Some(name) = name.strip_prefix("network-interface.") {
        return interface_field(world, name);
    }
    Some(match name {
        "instance-id" => Box::new(|instance| vec![instance.id.to_string()]),
        "instance-type" => Box::new(|instance| vec![instance.kind.name.clone()]),
        "instance-state-name" => Box::new(|i| vec![i.state.code_and_name().1.to_owned()]),
        "instance-state-code" => Box::new(|i| vec![i.state.code_and_name().0.to_string()]),
        "availability-zone" => Box::new(|instance| vec![instance.az.clone()]),
        "subnet-id" => Box::new(|instance| vec![instance.subnet.to_string()]),
        "image-id" => Box::new(|instance| vec![instance.image.id.to_owned()]),
        "owner-id" => Box::new(|i| vec![world.owner(&i.vpc).to_owned()]),
        "architecture" => Box::new(|instance| vec![instance.kind.architecture.clone()]),
        "vpc-id" => of_primary(world, |_, eni| Some(eni.vpc.to_string())),
        "private-ip-address" => of_primary(world, |_, eni| Some(eni.primary?.to_string())),
        "private-dns-name" => of_primary(world, |world, eni| {
            eni.private_dns_name(&world.config.region)
        }),
        "ip-address" => of_primary(world, |_, eni| Some(eni.public_address?.to_string())),
        _ => return None,
    })
}

fn interface_field<'w>(world: &'w World, name: &str) -> Option<Field<'w, Instance>> {
    let values: fn(&Eni) -> Vec<String> = match name {
        "network-interface-id" => |eni| vec![eni.id.to_string()],
        "subnet-id" => |eni| vec![eni.subnet.to_string()],
        "vpc-id" => |eni| vec![eni.vpc.to_string()],
        "status" => |eni| vec![eni.status().to_owned()],
        "mac-address" => |eni| vec![eni.mac_text()],
        "group-id" => |eni| eni.groups.iter().map(ToString::to_string).collect(),
        "addresses.private-ip-address" => |eni| eni.addresses().map(|a| a.to_string()).collect(),
        "attachment.attachment-id" => {
            |eni| eni.attachment.iter().map(|a| a.id.to_string()).collect()
        }
        "attachment.device-index" => |eni| {
            eni.attachment
                .iter()
                .map(|a| a.device_index.to_string())
                .collect()
        },
        _ => return None,
    };
    Some(Box::new(move |instance| {
        world.enis_of(&instance.id).flat_map(values).collect()
    }))
}

fn of_primary<'w>(
    world: &'w World,
    value: fn(&World, &Eni) -> Option<String>,
) -> Field<'w, Instance> {
    Box::new(move |instance| {
        let primary = world.primary_eni(&instance.id);
        primary
            .and_then(|eni| value(world, eni))
            .into_iter()
            .collect()
    })
}
