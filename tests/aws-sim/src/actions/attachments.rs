//! AttachNetworkInterface and DetachNetworkInterface.

use super::interfaces::attributes::ena_srd;
use super::{ids, render};
use crate::actions::Action;
use crate::actions::addresses::takes_prefixes;
use crate::error::{Ec2Error, Result};
use crate::ids::AttachmentId;
use crate::instance_types::{Card, InstanceType};
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Attachment, AttachmentStatus, Eni, EniKind, Instance, Transition, World};
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("AttachNetworkInterface", attach),
    ("DetachNetworkInterface", detach),
];

pub(super) fn attach(world: &mut World, now: SimTime, input: &Input<'_>) -> Result<Xml> {
    input.required("NetworkInterfaceId")?;
    input.required("InstanceId")?;
    input.required("DeviceIndex")?;
    let device_index = input.parsed::<u32>("DeviceIndex")?.unwrap_or_default();
    let card = input.parsed::<u32>("NetworkCardIndex")?;
    let ena_srd = ena_srd(input)?;
    input.finish()?;

    let eni = ids::eni(world, input)?;
    let instance = ids::instance(world, input)?;
    let card = card.unwrap_or(instance.kind.default_card);
    check_eni(eni, instance)?;
    check_place(world, instance, device_index, card)?;
    check_kind(world, eni, instance, card)?;
    if ena_srd.is_some_and(|ena_srd| ena_srd.enabled) && !instance.kind.ena_srd {
        return Err(unsupported(instance.kind, "ENA Express"));
    }
    check_slots(eni, instance.kind)?;
    let (eni, instance) = (eni.id.clone(), instance.id.clone());
    let id = AttachmentId::new(&mut world.dice);
    let attachment = Attachment {
        id: id.clone(),
        instance,
        device_index,
        card,
        status: AttachmentStatus::Attaching,
        since: now,
        delete_on_termination: false,
    };
    world.change_eni(&eni, |eni| {
        eni.attachment = Some(attachment);
        eni.ena_srd = ena_srd;
    })?;
    let at = now.plus(world.config.latencies.attach);
    world.schedule(at, Transition::Attached(eni, id.clone()));
    world.advance(now);

    let mut xml = Xml::new();
    xml.text("attachmentId", id).text("networkCardIndex", card);
    Ok(xml)
}

fn check_eni(eni: &Eni, instance: &Instance) -> Result<()> {
    if eni.status() == "in-use" {
        return Err(Ec2Error::in_use(&eni.id));
    }
    if eni.kind == EniKind::Branch {
        return Err(Ec2Error::invalid(format!(
            "Network interface '{}' of type branch cannot be attached to an instance.",
            eni.id
        )));
    }
    if !matches!(instance.state.code_and_name().1, "running" | "stopped") {
        let message = format!("Instance '{}' is not 'running' or 'stopped'.", instance.id);
        return Err(Ec2Error::client("IncorrectState", message));
    }
    if eni.az != instance.az {
        return Err(Ec2Error::combination(
            "You may not attach a network interface to an instance if they are not in the same \
             availability zone",
        ));
    }
    if eni.vpc != instance.vpc {
        return Err(Ec2Error::combination(
            "You may not attach a network interface to an instance if they are not in the same VPC",
        ));
    }
    Ok(())
}

fn check_place(world: &World, instance: &Instance, device_index: u32, card: u32) -> Result<()> {
    let kind = instance.kind;
    let cards = kind.enis_per_card.as_slice();
    let Some(card_limit) = usize::try_from(card).ok().and_then(|c| cards.get(c)) else {
        let why = format!("{} has {} network cards.", kind.name, cards.len());
        return Err(Ec2Error::value(card, "networkCardIndex", &why));
    };
    let there = || {
        let enis = world.enis_of(&instance.id);
        enis.filter_map(|eni| eni.attachment.as_ref())
    };
    if there().any(|other| other.card == card && other.device_index == device_index) {
        return Err(Ec2Error::invalid(format!(
            "Instance '{}' already has an interface attached at device index '{device_index}'.",
            instance.id
        )));
    }
    let count = there().count() + 1;
    let on_card = there().filter(|other| other.card == card).count() + 1;
    if exceeds(count, kind.enis) || exceeds(on_card, *card_limit) {
        let message = format!(
            "Interface count {count} exceeds the limit for {}",
            kind.name
        );
        return Err(Ec2Error::client("AttachmentLimitExceeded", message));
    }
    Ok(())
}

/// What a kind of ENI needs of the instance and of the card. An EFA can't come to an instance that runs.
fn check_kind(world: &World, eni: &Eni, instance: &Instance, card: u32) -> Result<()> {
    let kind = instance.kind;
    if !matches!(eni.kind, EniKind::Efa | EniKind::EfaOnly) {
        if eni.kind == EniKind::Trunk && !kind.takes_prefixes() {
            return Err(unsupported(kind, "trunk interfaces"));
        }
        return Ok(());
    }
    if kind.efa_interfaces == 0 {
        return Err(unsupported(kind, "Elastic Fabric Adapters"));
    }
    if instance.state.code_and_name().1 != "stopped" {
        let message = format!("Instance '{}' is not 'stopped'.", instance.id);
        return Err(Ec2Error::client("IncorrectState", message));
    }
    let place = usize::try_from(card).ok().and_then(|c| kind.cards.get(c));
    let takes = |card: &Card| card.interface_types.iter().any(|t| t == eni.kind.as_str());
    if !place.is_some_and(takes) {
        let (kind, name) = (eni.kind.as_str(), &kind.name);
        return Err(Ec2Error::invalid(format!(
            "Network card {card} of {name} does not support network interfaces of type {kind}."
        )));
    }
    let efas = || {
        let enis = world.enis_of(&instance.id);
        enis.filter(|other| matches!(other.kind, EniKind::Efa | EniKind::EfaOnly))
    };
    let mut cards = efas().filter_map(|efa| efa.attachment.as_ref());
    if cards.any(|other| other.card == card) {
        return Err(Ec2Error::invalid(format!(
            "Network card {card} of instance '{}' has an Elastic Fabric Adapter already.",
            instance.id
        )));
    }
    let count = efas().count() + 1;
    if exceeds(count, kind.efa_interfaces) {
        let message = format!(
            "Elastic Fabric Adapter count {count} exceeds the limit for {}",
            kind.name
        );
        return Err(Ec2Error::client("AttachmentLimitExceeded", message));
    }
    Ok(())
}

fn unsupported(kind: &InstanceType, what: &str) -> Ec2Error {
    Ec2Error::invalid(format!("{} instances do not support {what}.", kind.name))
}

fn check_slots(eni: &Eni, kind: &InstanceType) -> Result<()> {
    if exceeds(eni.slots(), kind.ipv4_per_eni) || exceeds(eni.ipv6_slots(), kind.ipv6_per_eni) {
        return Err(Ec2Error::address_limit());
    }
    if eni.prefixes.is_empty() && eni.ipv6_prefixes.is_empty() {
        return Ok(());
    }
    takes_prefixes(Some(kind))
}

fn exceeds(count: usize, limit: u32) -> bool {
    count > usize::try_from(limit).unwrap_or(0)
}

pub(super) fn detach(world: &mut World, now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let id = input.required("AttachmentId")?;
    let force = input.flag("Force")?.unwrap_or(false);
    input.finish()?;

    let (eni, attachment) = ids::attachment(world, input, id)?;
    let (eni, attachment) = (eni.id.clone(), attachment.clone());
    if attachment.device_index == 0 && attachment.card == 0 {
        return Err(Ec2Error::client(
            "OperationNotPermitted",
            "The network interface at device index 0 and networkCard index 0 cannot be detached.",
        ));
    }
    // By force, what hangs is asked to go again.
    if attachment.status == AttachmentStatus::Detaching && !force {
        let message = format!("The attachment '{id}' is already being detached.");
        return Err(Ec2Error::client("IncorrectState", message));
    }
    world.change_eni(&eni, |eni| {
        if let Some(attachment) = &mut eni.attachment {
            attachment.status = AttachmentStatus::Detaching;
        }
    })?;
    let at = now.plus(world.config.latencies.detach);
    world.schedule(at, Transition::Detached(eni, attachment.id));
    world.advance(now);
    Ok(render::done())
}
