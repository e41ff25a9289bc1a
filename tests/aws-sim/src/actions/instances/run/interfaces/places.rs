//! Where the interfaces of an instance go: indexes, cards, adapters, and one network for all.

use std::collections::{BTreeMap, BTreeSet};

use super::{Nic, Source};
use crate::error::{Ec2Error, Result};
use crate::instance_types::InstanceType;
use crate::world::{Eni, EniKind, World};

/// Whether the interfaces have room on the cards, each in a place of its own, and one of them in the first.
pub(super) fn check(nics: &[Nic], kind: &InstanceType) -> Result<()> {
    let mut places = BTreeSet::new();
    let mut existing = BTreeSet::new();
    let mut on_card: BTreeMap<u32, u32> = BTreeMap::new();
    for nic in nics {
        if !places.insert((nic.card, nic.device_index)) {
            let message = "Each network interface requires a unique device index.";
            return Err(Ec2Error::invalid(message));
        }
        if let Source::Existing(id) = &nic.source
            && !existing.insert(id)
        {
            return Err(Ec2Error::invalid(format!(
                "Network interface ID '{id}' may not be specified on multiple interfaces."
            )));
        }
        *on_card.entry(nic.card).or_default() += 1;
    }
    if !places.contains(&(0, 0)) {
        return Err(Ec2Error::client(
            "UnsupportedOperation",
            "When specifying network interfaces, you must include a device at index 0.",
        ));
    }
    for (card, count) in on_card {
        let index = usize::try_from(card).unwrap_or(usize::MAX);
        let Some(limit) = kind.enis_per_card.get(index) else {
            let why = format!(
                "{} has {} network cards.",
                kind.name,
                kind.enis_per_card.len()
            );
            return Err(Ec2Error::value(card, "networkCardIndex", &why));
        };
        if count > *limit {
            let count = nics.len();
            let message = format!(
                "Interface count {count} exceeds the limit for {}",
                kind.name
            );
            return Err(Ec2Error::client("AttachmentLimitExceeded", message));
        }
    }
    Ok(())
}

/// Whether the type has the Elastic Fabric Adapters that are asked for, at most one on a card, and a primary
/// interface that has an address.
pub(super) fn check_adapters(world: &World, nics: &[Nic], kind: &InstanceType) -> Result<()> {
    let mut cards = BTreeSet::new();
    for nic in nics {
        let eni_kind = match &nic.source {
            Source::New(spec) => spec.kind,
            Source::Existing(id) => world.eni(id).map_or(EniKind::Interface, |eni| eni.kind),
        };
        if !matches!(eni_kind, EniKind::Efa | EniKind::EfaOnly) {
            continue;
        }
        let card = usize::try_from(nic.card).unwrap_or(usize::MAX);
        let types = kind.cards.get(card).map(|card| &card.interface_types);
        if types.is_none_or(|types| types.iter().all(|name| name != eni_kind.as_str())) {
            return Err(Ec2Error::combination(format!(
                "{} instances do not support Elastic Fabric Adapters.",
                kind.name
            )));
        }
        if !cards.insert(nic.card) {
            return Err(Ec2Error::combination(format!(
                "Network card {} takes one Elastic Fabric Adapter.",
                nic.card
            )));
        }
        if eni_kind == EniKind::EfaOnly && (nic.card, nic.device_index) == (0, 0) {
            let message = "The primary network interface can't be of the type efa-only.";
            return Err(Ec2Error::combination(message));
        }
    }
    let most = usize::try_from(kind.efa_interfaces).unwrap_or(usize::MAX);
    if cards.len() > most {
        return Err(Ec2Error::combination(format!(
            "{} takes {most} Elastic Fabric Adapters.",
            kind.name
        )));
    }
    Ok(())
}

/// Whether all are in one VPC and one zone.
pub(super) fn check_network(world: &World, nics: &[Nic]) -> Result<()> {
    let mut vpcs = BTreeSet::new();
    let mut zones = BTreeSet::new();
    for nic in nics {
        let subnet = match &nic.source {
            Source::Existing(id) => world.eni(id).map(|eni: &Eni| &eni.subnet),
            Source::New(spec) => Some(&spec.subnet),
        };
        if let Some(subnet) = subnet.and_then(|id| world.subnet(id)) {
            vpcs.insert(&subnet.vpc);
            zones.insert(&subnet.az);
        }
    }
    if vpcs.len() > 1 {
        let message = "Network interface attachments may not cross VPC boundaries.";
        return Err(Ec2Error::invalid(message));
    }
    if zones.len() > 1 {
        return Err(Ec2Error::combination(
            "You may not attach a network interface to an instance if they are not in the same \
             availability zone",
        ));
    }
    Ok(())
}
