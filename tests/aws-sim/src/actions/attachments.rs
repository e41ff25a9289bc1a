//! AttachNetworkInterface and DetachNetworkInterface.

use super::{ids, render};
use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::ids::AttachmentId;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Attachment, AttachmentStatus, Eni, Instance, InstanceState, Transition, World};
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("AttachNetworkInterface", attach),
    ("DetachNetworkInterface", detach),
];

pub(super) fn attach(world: &mut World, now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let eni = ids::eni(world, input)?.clone();
    let instance = ids::instance(world, input)?.clone();
    let device_index = input
        .parsed::<u32>("DeviceIndex")?
        .ok_or_else(|| Ec2Error::missing("DeviceIndex"))?;
    let card = input
        .parsed::<u32>("NetworkCardIndex")?
        .unwrap_or(instance.kind.default_card);
    input.finish()?;

    check_attach(world, &eni, &instance, device_index, card)?;
    let id = AttachmentId::new(&mut world.dice);
    let attachment = Attachment {
        id: id.clone(),
        instance: instance.id.clone(),
        device_index,
        card,
        status: AttachmentStatus::Attaching,
        since: now,
        delete_on_termination: false,
    };
    world.change_eni(&eni.id, |eni| eni.attachment = Some(attachment))?;
    let at = now.plus(world.config.latencies.attach);
    world.schedule(at, Transition::Attached(eni.id, id.clone()));
    world.advance(now);

    let mut xml = Xml::new();
    xml.text("attachmentId", id).text("networkCardIndex", card);
    Ok(xml)
}

fn check_attach(
    world: &World,
    eni: &Eni,
    instance: &Instance,
    device_index: u32,
    card: u32,
) -> Result<()> {
    if eni.attachment.is_some() {
        return Err(Ec2Error::in_use(&eni.id));
    }
    if instance.state != InstanceState::Running {
        let message = format!("Instance '{}' is not 'running' or 'stopped'.", instance.id);
        return Err(Ec2Error::client("IncorrectInstanceState", message));
    }
    if eni.az != instance.az {
        return Err(Ec2Error::combination(
            "You may not attach a network interface to an instance if they are not in the same \
             availability zone",
        ));
    }
    let kind = instance.kind;
    let Some(card_limit) = usize::try_from(card)
        .ok()
        .and_then(|c| kind.enis_per_card.get(c))
    else {
        return Err(Ec2Error::value(
            card,
            "networkCardIndex",
            &format!(
                "{} has {} network cards.",
                kind.name,
                kind.enis_per_card.len()
            ),
        ));
    };
    let there = || {
        world
            .enis_of(&instance.id)
            .filter_map(|eni| eni.attachment.as_ref())
    };
    if there().any(|other| other.card == card && other.device_index == device_index) {
        return Err(Ec2Error::invalid(format!(
            "Instance '{}' already has an interface attached at device index '{device_index}'.",
            instance.id
        )));
    }
    let count = there().count() + 1;
    let on_card = there().filter(|other| other.card == card).count() + 1;
    let exceeds = |count: usize, limit: u32| count > usize::try_from(limit).unwrap_or(0);
    if exceeds(count, kind.enis) || exceeds(on_card, *card_limit) {
        let message = format!(
            "Interface count {count} exceeds the limit for {}",
            kind.name
        );
        return Err(Ec2Error::client("AttachmentLimitExceeded", message));
    }
    if exceeds(eni.slots(), kind.ipv4_per_eni) || exceeds(eni.ipv6_slots(), kind.ipv6_per_eni) {
        return Err(Ec2Error::address_limit());
    }
    let has_prefixes = !eni.prefixes.is_empty() || !eni.ipv6_prefixes.is_empty();
    if has_prefixes && !kind.takes_prefixes() {
        return Err(Ec2Error::invalid(format!(
            "Network interface '{}' has prefixes, which {} does not support.",
            eni.id, kind.name
        )));
    }
    Ok(())
}

pub(super) fn detach(world: &mut World, now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let (eni, attachment) = ids::attachment(world, input, input.required("AttachmentId")?)?;
    let (eni, attachment) = (eni.id.clone(), attachment.clone());
    input.flag("Force")?;
    input.finish()?;

    if attachment.device_index == 0 {
        return Err(Ec2Error::client(
            "OperationNotPermitted",
            "The network interface at device index 0 cannot be detached.",
        ));
    }
    if attachment.status == AttachmentStatus::Detaching {
        let message = format!(
            "The attachment '{}' is already being detached.",
            attachment.id
        );
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
