//! DescribeNetworkInterfaces

use crate::actions::ids;
use crate::actions::render::{self, Within};
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, Filters, tag_field};
use crate::page::Page;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Attachment, Eni, World};
use crate::xml::Xml;

pub(in crate::actions) fn describe(
    world: &mut World,
    now: SimTime,
    input: &Input<'_>,
) -> Result<Xml> {
    let then = world.describe_time(now);
    let world = &*world;
    let asked = input.list("NetworkInterfaceId");
    let asked = asked
        .into_iter()
        .map(ids::eni_id)
        .collect::<Result<Vec<_>>>()?;
    let filters = Filters::read(input, |name| field(world, name))?;
    let page = Page::read(input, "NetworkInterfaceId", 5..=1000)?;
    input.flag("IncludeManagedResources")?;
    input.finish()?;

    let seen: Vec<&Eni> = if asked.is_empty() {
        world
            .enis_at(then)
            .filter(|eni| world.owns(input.account(), &eni.vpc))
            .collect()
    } else {
        let find = |id| {
            world
                .eni_at(id, then)
                .filter(|eni| world.owns(input.account(), &eni.vpc))
                .ok_or_else(|| Ec2Error::no_such_eni(id))
        };
        asked.iter().map(find).collect::<Result<_>>()?
    };
    let matching = seen
        .into_iter()
        .filter(|eni| filters.matches(eni))
        .collect();
    let (shown, next) = page.cut(matching, |eni: &&Eni| eni.id.as_str());

    let mut xml = Xml::new();
    xml.set("networkInterfaceSet", shown, |xml, eni| {
        render::eni(xml, world, eni, Within::Itself);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

/// The filters of DescribeNetworkInterfaces that are about things that the simulator has.
fn field<'w>(world: &'w World, name: &str) -> Option<Field<'w, Eni>> {
    if let Some(field) = tag_field(name, |eni: &Eni| &eni.tags) {
        return Some(field);
    }
    if let Some(name) = name.strip_prefix("attachment.") {
        return attachment_field(world, name);
    }
    Some(match name {
        "network-interface-id" => one(|eni| eni.id.to_string()),
        "subnet-id" => one(|eni| eni.subnet.to_string()),
        "vpc-id" => one(|eni| eni.vpc.to_string()),
        "availability-zone" => one(|eni| eni.az.clone()),
        "availability-zone-id" => Box::new(|eni| vec![world.az_id(&eni.az)]),
        "description" => one(|eni| eni.description.clone()),
        "status" => one(|eni| eni.status().to_owned()),
        "mac-address" => one(Eni::mac_text),
        "interface-type" => one(|eni| eni.kind.as_str().to_owned()),
        "requester-managed" => one(|_| "false".to_owned()),
        "source-dest-check" => one(|eni| eni.source_dest_check.to_string()),
        "owner-id" => Box::new(|eni| vec![world.owner(&eni.vpc).to_owned()]),
        "private-ip-address" => {
            Box::new(|eni| eni.primary.iter().map(ToString::to_string).collect())
        }
        "private-dns-name" => Box::new(|eni| {
            let name = eni.private_dns_name(&world.config.region);
            name.into_iter().collect()
        }),
        "addresses.private-ip-address" => {
            Box::new(|eni| eni.addresses().map(|address| address.to_string()).collect())
        }
        "ipv6-addresses.ipv6-address" => {
            Box::new(|eni| eni.ipv6.iter().map(ToString::to_string).collect())
        }
        "addresses.primary" => Box::new(|eni| {
            eni.addresses()
                .map(|a| (Some(a) == eni.primary).to_string())
                .collect()
        }),
        "association.public-ip" | "addresses.association.public-ip" => {
            Box::new(|eni| eni.public_address.iter().map(ToString::to_string).collect())
        }
        "group-id" => Box::new(|eni| eni.groups.iter().map(ToString::to_string).collect()),
        "group-name" => Box::new(|eni| {
            eni.groups
                .iter()
                .filter_map(|id| Some(world.group(id)?.name.clone()))
                .collect()
        }),
        _ => return None,
    })
}

fn attachment_field<'w>(world: &'w World, name: &str) -> Option<Field<'w, Eni>> {
    Some(match name {
        "attachment-id" => attached(|attachment| attachment.id.to_string()),
        "instance-id" => attached(|attachment| attachment.instance.to_string()),
        "device-index" => attached(|attachment| attachment.device_index.to_string()),
        "network-card-index" => attached(|attachment| attachment.card.to_string()),
        "status" => attached(|attachment| attachment.status.as_str().to_owned()),
        "delete-on-termination" => attached(|a| a.delete_on_termination.to_string()),
        "instance-owner-id" => Box::new(|eni| {
            eni.attachment
                .iter()
                .map(|_| world.config.account.clone())
                .collect()
        }),
        _ => return None,
    })
}

fn one(value: fn(&Eni) -> String) -> Field<'static, Eni> {
    Box::new(move |eni| vec![value(eni)])
}

fn attached(value: fn(&Attachment) -> String) -> Field<'static, Eni> {
    Box::new(move |eni| eni.attachment.iter().map(value).collect())
}
