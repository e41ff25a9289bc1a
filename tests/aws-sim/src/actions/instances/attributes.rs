//! DescribeInstanceAttribute, ModifyInstanceAttribute and ModifyInstanceMetadataOptions.

use super::options::{AskedImds, check_user_data, shutdown_behavior};
use super::render::{self, is_primary};
use super::run::check_architecture;
use crate::actions::addresses::takes_prefixes;
use crate::actions::ids;
use crate::actions::render::done;
use crate::error::{Ec2Error, Result};
use crate::ids::{EniId, GroupId, InstanceId};
use crate::instance_types;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{EniKind, Instance, InstanceState, World};
use crate::xml::Xml;

pub(super) fn describe(world: &mut World, now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let then = world.describe_time(now);
    let id = input.required("InstanceId")?;
    let attribute = input.required("Attribute")?;
    input.finish()?;
    let world = &*world;
    let id = ids::instance_id(id)?;
    let instance = world
        .instance_at(&id, then)
        .filter(|instance| world.owns(input.account(), &instance.vpc))
        .ok_or_else(|| Ec2Error::no_such_instance(&id))?;
    let enis = render::interfaces_at(world, instance, then);
    let primary = enis.into_iter().find(|eni| is_primary(eni));
    let settings = &instance.settings;
    let value = match attribute {
        "disableApiStop" => Some(settings.stop_protected.to_string()),
        "disableApiTermination" => Some(settings.termination_protected.to_string()),
        "ebsOptimized" => Some(settings.ebs_optimized.to_string()),
        "enaSupport" => Some("true".to_owned()),
        "instanceInitiatedShutdownBehavior" => Some(shutdown_name(instance).to_owned()),
        "instanceType" => Some(instance.kind.name.clone()),
        "rootDeviceName" => Some(instance.image.root_device.to_owned()),
        "sourceDestCheck" => Some(primary.is_none_or(|eni| eni.source_dest_check).to_string()),
        "userData" => instance.user_data.clone(),
        "kernel" | "ramdisk" | "sriovNetSupport" | "blockDeviceMapping" | "enclaveOptions"
        | "groupSet" | "productCodes" => None,
        other => {
            let why = "Unknown attribute.";
            return Err(Ec2Error::value(other, "attribute", why));
        }
    };
    let mut xml = Xml::new();
    xml.text("instanceId", &instance.id);
    match attribute {
        "groupSet" => match primary {
            Some(primary) => crate::actions::render::groups(&mut xml, world, primary),
            None => render::empty(&mut xml, "groupSet"),
        },
        "blockDeviceMapping" | "productCodes" => {
            render::empty(&mut xml, attribute);
        }
        "enclaveOptions" => {
            xml.node(attribute, |xml| {
                xml.text("enabled", false);
            });
        }
        _ => {
            xml.node(attribute, |xml| {
                xml.maybe("value", value);
            });
        }
    }
    Ok(xml)
}

fn shutdown_name(instance: &Instance) -> &'static str {
    if instance.settings.terminates_on_shutdown {
        "terminate"
    } else {
        "stop"
    }
}

/// What ModifyInstanceAttribute changes: one thing at a time.
enum Change<'a> {
    EbsOptimized(bool),
    Groups(Vec<&'a str>),
    ShutdownBehavior(&'a str),
    SourceDestCheck(bool),
    StopProtected(bool),
    TerminationProtected(bool),
    Type(&'a str),
    UserData(&'a str),
}

impl Change<'_> {
    fn name(&self) -> &'static str {
        match self {
            Change::EbsOptimized(_) => "ebsOptimized",
            Change::Groups(_) => "groupSet",
            Change::ShutdownBehavior(_) => "instanceInitiatedShutdownBehavior",
            Change::SourceDestCheck(_) => "sourceDestCheck",
            Change::StopProtected(_) => "disableApiStop",
            Change::TerminationProtected(_) => "disableApiTermination",
            Change::Type(_) => "instanceType",
            Change::UserData(_) => "userData",
        }
    }
}

pub(super) fn modify(world: &mut World, now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let id = input.required("InstanceId")?;
    let mut changes = read(input)?;
    input.finish()?;

    if changes.len() > 1 {
        let names: Vec<_> = changes.iter().map(Change::name).collect();
        return Err(Ec2Error::combination(format!(
            "Fields for multiple attribute types specified: {}",
            names.join(", ")
        )));
    }
    let Some(change) = changes.pop() else {
        return Err(Ec2Error::combination("No attributes specified."));
    };
    let id = ids::instance_id(id)?;
    let instance = world
        .instance(&id)
        .filter(|instance| world.owns(input.account(), &instance.vpc))
        .ok_or_else(|| Ec2Error::no_such_instance(&id))?;
    if instance.state == InstanceState::Terminated {
        return Err(incorrect(&id, "modified"));
    }
    apply(world, input, &id, change)?;
    world.advance(now);
    Ok(done())
}

/// Each in both forms: `InstanceType.Value=x`, and `Attribute=instanceType` with `Value=x`.
fn read<'a>(input: &Input<'a>) -> Result<Vec<Change<'a>>> {
    let attribute = input.text("Attribute");
    let value = input.text("Value");
    let named = |name: &str| value.filter(|_| attribute == Some(name));
    let text = |member: &str, name: &str| input.text(member).or(named(name));
    let flag = |member: &str, name: &str| match named(name) {
        None => input.flag(member),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(other) => Err(Ec2Error::value(other, "value", "Must be true or false.")),
    };
    let groups = input.list("GroupId");
    let changes = [
        flag("DisableApiStop.Value", "disableApiStop")?.map(Change::StopProtected),
        flag("DisableApiTermination.Value", "disableApiTermination")?
            .map(Change::TerminationProtected),
        flag("EbsOptimized.Value", "ebsOptimized")?
            .or(flag("EbsOptimized", "ebsOptimized")?)
            .map(Change::EbsOptimized),
        (!groups.is_empty()).then_some(Change::Groups(groups)),
        text(
            "InstanceInitiatedShutdownBehavior.Value",
            "instanceInitiatedShutdownBehavior",
        )
        .map(Change::ShutdownBehavior),
        text("InstanceType.Value", "instanceType").map(Change::Type),
        flag("SourceDestCheck.Value", "sourceDestCheck")?.map(Change::SourceDestCheck),
        text("UserData.Value", "userData").map(Change::UserData),
    ];
    let changes: Vec<Change<'_>> = changes.into_iter().flatten().collect();
    if let Some(attribute) = attribute
        && !changes.iter().any(|change| change.name() == attribute)
    {
        return Err(Ec2Error::value(attribute, "attribute", ""));
    }
    Ok(changes)
}

fn apply(world: &mut World, input: &Input<'_>, id: &InstanceId, change: Change<'_>) -> Result<()> {
    match change {
        Change::EbsOptimized(on) => {
            stopped(world, id, "ebsOptimized")?;
            world.change_instance(id, |instance| instance.settings.ebs_optimized = on)
        }
        Change::Groups(groups) => {
            let (eni, vpc) = primary(world, id)?;
            let groups = groups.into_iter().map(ids::group_id);
            let groups = groups.collect::<Result<Vec<GroupId>>>()?;
            for group in &groups {
                let known = world
                    .group(group)
                    .filter(|g| world.owns(input.account(), &g.vpc));
                known.ok_or_else(|| Ec2Error::no_such_group(group))?;
            }
            let groups = world.groups_for(&vpc, groups)?;
            world.change_eni(&eni, |eni| eni.groups = groups)
        }
        Change::ShutdownBehavior(name) => {
            let terminates = shutdown_behavior(Some(name))?;
            world.change_instance(id, |instance| {
                instance.settings.terminates_on_shutdown = terminates;
            })
        }
        Change::SourceDestCheck(on) => {
            let (eni, _) = primary(world, id)?;
            world.change_eni(&eni, |eni| eni.source_dest_check = on)
        }
        Change::StopProtected(on) => {
            world.change_instance(id, |instance| instance.settings.stop_protected = on)
        }
        Change::TerminationProtected(on) => {
            world.change_instance(id, |instance| instance.settings.termination_protected = on)
        }
        Change::Type(name) => change_type(world, id, name),
        Change::UserData(data) => {
            check_user_data(data)?;
            stopped(world, id, "userData")?;
            let data = Some(data.to_owned());
            world.change_instance(id, |instance| instance.user_data = data)
        }
    }
}

/// Another type, as long as what is attached fits on it.
fn change_type(world: &mut World, id: &InstanceId, name: &str) -> Result<()> {
    let kind = instance_types::get(name)
        .ok_or_else(|| Ec2Error::invalid(format!("Invalid value '{name}' for InstanceType.")))?;
    stopped(world, id, "instanceType")?;
    if let Some(image) = world.instance(id).map(|instance| instance.image) {
        check_architecture(kind, image)?;
    }
    let mut on_card = vec![0_u32; kind.enis_per_card.len()];
    let mut count = 0;
    for eni in world.enis_of(id) {
        count += 1;
        let limit = |limit: u32| usize::try_from(limit).unwrap_or(usize::MAX);
        if eni.slots() > limit(kind.ipv4_per_eni) || eni.ipv6_slots() > limit(kind.ipv6_per_eni) {
            return Err(Ec2Error::address_limit());
        }
        let is_efa = matches!(eni.kind, EniKind::Efa | EniKind::EfaOnly);
        if is_efa && kind.efa_interfaces == 0 {
            return Err(Ec2Error::combination(format!(
                "{name} instances do not support Elastic Fabric Adapters."
            )));
        }
        let has_prefixes = !eni.prefixes.is_empty() || !eni.ipv6_prefixes.is_empty();
        takes_prefixes(Some(kind).filter(|_| has_prefixes))?;
        let card = eni
            .attachment
            .as_ref()
            .map_or(0, |attachment| attachment.card);
        if let Some(used) = usize::try_from(card)
            .ok()
            .and_then(|card| on_card.get_mut(card))
        {
            *used += 1;
        } else {
            return Err(too_many(count, name));
        }
    }
    let mut cards = on_card.iter().zip(&kind.enis_per_card);
    if cards.any(|(used, limit)| used > limit) {
        return Err(too_many(count, name));
    }
    world.change_instance(id, |instance| instance.kind = kind)
}

fn too_many(count: usize, kind: &str) -> Ec2Error {
    let message = format!("Interface count {count} exceeds the limit for {kind}");
    Ec2Error::client("AttachmentLimitExceeded", message)
}

/// What only a stopped instance may have changed.
fn stopped(world: &World, id: &InstanceId, attribute: &str) -> Result<()> {
    match world.instance(id).map(|instance| instance.state) {
        Some(InstanceState::Stopped) => Ok(()),
        _ => Err(Ec2Error::client(
            "IncorrectInstanceState",
            format!(
                "The instance '{id}' must be in a 'stopped' state to modify its '{attribute}' attribute."
            ),
        )),
    }
}

/// The only ENI of an instance: with several, each has groups and a check of its own.
fn primary(world: &World, id: &InstanceId) -> Result<(EniId, crate::ids::VpcId)> {
    let mut enis = world.enis_of(id);
    match (enis.next(), enis.next()) {
        (Some(eni), None) => Ok((eni.id.clone(), eni.vpc.clone())),
        _ => Err(Ec2Error::client(
            "InvalidInstanceID",
            format!(
                "There are multiple interfaces attached to instance '{id}'. Please specify an \
                 interface ID for the operation instead."
            ),
        )),
    }
}

pub(super) fn modify_metadata_options(
    world: &mut World,
    now: SimTime,
    input: &Input<'_>,
) -> Result<Xml> {
    let id = input.required("InstanceId")?;
    let asked = AskedImds::read(input, "")?;
    input.finish()?;

    let id = ids::instance_id(id)?;
    let instance = world
        .instance(&id)
        .filter(|instance| world.owns(input.account(), &instance.vpc))
        .ok_or_else(|| Ec2Error::no_such_instance(&id))?;
    if asked.is_empty() {
        return Err(Ec2Error::client(
            "MissingParameter",
            "The request must include at least one metadata option to modify.",
        ));
    }
    if !instance.is_alive() {
        return Err(incorrect(&id, "modified"));
    }
    let options = asked.over(instance.imds)?;
    world.change_instance(&id, |instance| instance.imds = options)?;
    world.advance(now);

    let mut xml = Xml::new();
    xml.text("instanceId", &id);
    if let Some(instance) = world.instance(&id) {
        xml.node("instanceMetadataOptions", |xml| {
            // EC2 says `pending` here, and `applied` in the next Describe.
            render::metadata_options(xml, instance, "pending");
        });
    }
    Ok(xml)
}

fn incorrect(id: &InstanceId, done: &str) -> Ec2Error {
    let message = format!("The instance '{id}' is not in a state from which it can be {done}.");
    Ec2Error::client("IncorrectInstanceState", message)
}
