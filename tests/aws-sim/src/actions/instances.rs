//! DescribeInstances

use super::render::{self, Within};
use super::{IMAGE, ids};
use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::filters::{Field, Filters, tag_field};
use crate::page::Page;
use crate::params::Input;
use crate::time::{SimTime, iso8601_millis};
use crate::world::{Eni, Instance, World};
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[("DescribeInstances", describe)];

pub(super) fn describe(world: &mut World, now: SimTime, input: &Input<'_>) -> Result<Xml> {
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

    let then = now.minus(world.config.describe_lag);
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

    let mut xml = Xml::new();
    xml.set("reservationSet", shown, |xml, instance| {
        xml.text("reservationId", instance.id.as_str().replace("i-", "r-"))
            .text("ownerId", world.owner(&instance.vpc));
        xml.set("groupSet", std::iter::empty::<()>(), |_, ()| {});
        xml.set("instancesSet", [instance], |xml, instance| {
            render_instance(xml, world, instance, then);
        });
    });
    xml.maybe("nextToken", next);
    Ok(xml)
}

fn render_instance(xml: &mut Xml, world: &World, instance: &Instance, then: SimTime) {
    let enis: Vec<&Eni> = enis_at(world, instance, then);
    let primary = enis.iter().copied().find(|eni| is_primary(eni));
    let (code, state) = instance.state.code_and_name();
    xml.text("instanceId", &instance.id)
        .text("imageId", IMAGE)
        .node("instanceState", |xml| {
            xml.text("code", code).text("name", state);
        })
        .text("instanceType", &instance.kind.name)
        .text("amiLaunchIndex", 0)
        .text(
            "launchTime",
            iso8601_millis(world.unix_millis(instance.launched_at)),
        )
        .node("placement", |xml| {
            xml.text("availabilityZone", &instance.az)
                .text("availabilityZoneId", world.az_id(&instance.az))
                .text("tenancy", "default");
        })
        .node("monitoring", |xml| {
            xml.text("state", "disabled");
        })
        .text("architecture", &instance.kind.architecture)
        .text("rootDeviceType", "ebs")
        .text("rootDeviceName", "/dev/xvda")
        .text("virtualizationType", "hvm")
        .text("hypervisor", "xen")
        .text("enaSupport", true);
    if let Some(primary) = primary {
        xml.text("subnetId", &primary.subnet)
            .text("vpcId", &primary.vpc)
            .maybe("privateIpAddress", primary.primary)
            .maybe(
                "privateDnsName",
                primary.private_dns_name(&world.config.region),
            )
            .maybe("ipAddress", primary.public_address)
            .maybe(
                "dnsName",
                primary
                    .public_address
                    .map(|address| world.public_dns_name(address)),
            )
            .text("sourceDestCheck", primary.source_dest_check);
        render::groups(xml, world, primary);
    }
    if let Some(role) = &instance.role {
        xml.node("iamInstanceProfile", |xml| {
            let account = world.owner(&instance.vpc);
            xml.text(
                "arn",
                format!("arn:aws:iam::{account}:instance-profile/{role}"),
            )
            .text("id", "AIPAIOSFODNN7EXAMPLE");
        });
    }
    xml.node("metadataOptions", |xml| {
        let options = instance.imds;
        xml.text("state", "applied")
            .text(
                "httpTokens",
                if options.v1_allowed {
                    "optional"
                } else {
                    "required"
                },
            )
            .text("httpPutResponseHopLimit", 2)
            .text(
                "httpEndpoint",
                if options.enabled {
                    "enabled"
                } else {
                    "disabled"
                },
            );
    });
    xml.set("networkInterfaceSet", enis, |xml, eni| {
        render::eni(xml, world, eni, Within::Instance);
    });
    render::tags(xml, &instance.tags);
}

/// What an instance had attached at `then`, by device index.
fn enis_at<'w>(world: &'w World, instance: &Instance, then: SimTime) -> Vec<&'w Eni> {
    let mut enis: Vec<&Eni> = world.enis_of_at(&instance.id, then).collect();
    enis.sort_by_key(|eni| eni.attachment.as_ref().map(|a| (a.card, a.device_index)));
    enis
}

fn is_primary(eni: &Eni) -> bool {
    eni.attachment
        .as_ref()
        .is_some_and(|a| a.device_index == 0 && a.card == 0)
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
        "image-id" => Box::new(|_| vec![IMAGE.to_owned()]),
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
