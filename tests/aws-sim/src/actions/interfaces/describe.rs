//! DescribeNetworkInterfaces

use std::collections::BTreeMap;

use crate::actions::ids;
use crate::actions::render::{self, Within};
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, Filters, tag_field};
use crate::ids::InstanceId;
use crate::page::Page;
use crate::params::Input;
use crate::time::{SimTime, iso8601_millis};
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
    let filters = Filters::read(input, |name| field(world, name))?;
    let page = Page::read(input, "NetworkInterfaceId", 5..=1000)?;
    input.flag("IncludeManagedResources")?;
    input.finish()?;

    let own = |eni: &&Eni| world.owns(input.account(), &eni.vpc);
    let seen: Vec<&Eni> = if !asked.is_empty() {
        let mut found = BTreeMap::new();
        for id in asked {
            let id = ids::eni_id(id)?;
            let eni = world.eni_at(&id, then).filter(own);
            found.insert(id.clone(), eni.ok_or_else(|| Ec2Error::no_such_eni(&id))?);
        }
        found.into_values().collect()
    } else if let Some(instances) = instances_asked_for(input) {
        let found = instances.iter().flat_map(|id| world.enis_of_at(id, then));
        let found: BTreeMap<_, _> = found.filter(own).map(|eni| (&eni.id, eni)).collect();
        found.into_values().collect()
    } else {
        world.enis_at(then).filter(own).collect()
    };
    let matching = seen.into_iter().filter(|eni| filters.matches(eni));
    let page = page.shortened(world.config.short_pages);
    let (shown, next) = page.cut(matching.collect(), |eni: &&Eni| eni.id.as_str());

    let mut xml = Xml::new();
    xml.set("networkInterfaceSet", shown, |xml, eni| {
        render::eni(xml, world, eni, Within::Itself);
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

/// The instances that a filter names, if one does so exactly: then there is no need to look at all ENIs.
fn instances_asked_for(input: &Input<'_>) -> Option<Vec<InstanceId>> {
    let filters = input.elements("Filter");
    let by_instance = filters
        .iter()
        .find(|filter| input.text(&format!("{filter}.Name")) == Some("attachment.instance-id"))?;
    let values = input.list(&format!("{by_instance}.Value"));
    let exact = values.iter().all(|value| !value.contains(['*', '?', '\\']));
    exact.then(|| values.into_iter().map(InstanceId::from).collect())
}

/// The filters of DescribeNetworkInterfaces that are about things that the simulator has.
fn field<'w>(world: &'w World, name: &str) -> Option<Field<'w, Eni>> {
    if let Some(field) = tag_field(name, |eni: &Eni| &eni.tags) {
        return Some(field);
    }
    if let Some(name) = name.strip_prefix("attachment.") {
        return attachment_field(world, name);
    }
    if name.contains("association.") {
        return association_field(world, name);
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
        "requester-managed" | "operator.managed" => one(|_| "false".to_owned()),
        // No service and nobody else makes ENIs here.
        "requester-id" | "operator.principal" => Box::new(|_| Vec::new()),
        "source-dest-check" => one(|eni| eni.source_dest_check.to_string()),
        "owner-id" => Box::new(|eni| vec![world.owner(&eni.vpc).to_owned()]),
        "private-ip-address" | "addresses.private-ip-address" => {
            Box::new(|eni| eni.addresses().map(|address| address.to_string()).collect())
        }
        "private-dns-name" => Box::new(|eni| {
            let name = eni.private_dns_name(&world.config.region);
            name.into_iter().collect()
        }),
        "ipv6-addresses.ipv6-address" => {
            Box::new(|eni| eni.ipv6.iter().map(ToString::to_string).collect())
        }
        "addresses.primary" => Box::new(|eni| {
            let addresses = eni.addresses();
            addresses
                .map(|address| (Some(address) == eni.primary).to_string())
                .collect()
        }),
        "group-id" => Box::new(|eni| eni.groups.iter().map(ToString::to_string).collect()),
        "group-name" => Box::new(|eni| {
            let groups = eni.groups.iter().filter_map(|id| world.group(id));
            groups.map(|group| group.name.clone()).collect()
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
        "attach-time" => Box::new(|eni| {
            let times = eni.attachment.iter().map(|a| world.unix_millis(a.since));
            times.map(|time| iso8601_millis(time).to_string()).collect()
        }),
        "instance-owner-id" => Box::new(|eni| {
            let attachments = eni.attachment.iter();
            attachments
                .map(|_| world.owner(&eni.vpc).to_owned())
                .collect()
        }),
        _ => return None,
    })
}

/// About the public address, which has no allocation: it is Amazon's.
fn association_field<'w>(world: &'w World, name: &str) -> Option<Field<'w, Eni>> {
    Some(match name {
        "association.public-ip" | "addresses.association.public-ip" => {
            Box::new(|eni| eni.public_address.iter().map(ToString::to_string).collect())
        }
        "association.public-dns-name" => Box::new(|eni| {
            let addresses = eni.public_address.into_iter();
            addresses
                .map(|address| world.public_dns_name(address))
                .collect()
        }),
        "association.ip-owner-id" | "addresses.association.owner-id" => Box::new(|eni| {
            let addresses = eni.public_address.iter();
            addresses.map(|_| "amazon".to_owned()).collect()
        }),
        "association.allocation-id" | "association.association-id" => Box::new(|_| Vec::new()),
        _ => return None,
    })
}

fn one(value: fn(&Eni) -> String) -> Field<'static, Eni> {
    Box::new(move |eni| vec![value(eni)])
}

fn attached(value: fn(&Attachment) -> String) -> Field<'static, Eni> {
    Box::new(move |eni| eni.attachment.iter().map(value).collect())
}
