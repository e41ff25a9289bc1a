//! AssignPrivateIpAddresses and UnassignPrivateIpAddresses.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{ids, render};
use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::ids::EniId;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Ask, Eni, World};
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("AssignPrivateIpAddresses", assign),
    ("UnassignPrivateIpAddresses", unassign),
];

/// IPv4 slots of an ENI that no instance has: what the largest types allow.
pub(super) const MOST_SLOTS: usize = 50;

pub(super) fn assign(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let eni = ids::eni(world, input)?.clone();
    let ask = read_ask(input)?;
    let may_move = input.flag("AllowReassignment")?.unwrap_or(false);
    input.finish()?;

    if eni.slots().saturating_add(ask.slots()) > slots_of(world, &eni) {
        return Err(Ec2Error::address_limit());
    }
    if ask.is_prefixes() && !takes_prefixes(world, &eni) {
        return Err(Ec2Error::invalid(
            "Prefixes can only be assigned to network interfaces of instances built on Nitro.",
        ));
    }
    let (addresses, prefixes) = match ask {
        Ask::Addresses(asked) => (take_or_move(world, &eni, &asked, may_move)?, Vec::new()),
        ask => world.take(&eni.subnet, ask)?,
    };
    world.change_eni(&eni.id, |eni| {
        eni.secondary.extend(&addresses);
        eni.prefixes.extend(&prefixes);
    })?;

    let mut xml = Xml::new();
    xml.text("networkInterfaceId", &eni.id);
    xml.set(
        "assignedPrivateIpAddressesSet",
        addresses,
        |xml, address| {
            xml.text("privateIpAddress", address);
        },
    );
    xml.set("assignedIpv4PrefixSet", prefixes, |xml, prefix| {
        xml.text("ipv4Prefix", prefix);
    });
    xml.text("return", true);
    Ok(xml)
}

pub(super) fn unassign(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    let eni = ids::eni(world, input)?.clone();
    let addresses: BTreeSet<Ipv4Addr> =
        input.parsed_list("PrivateIpAddress")?.into_iter().collect();
    let prefixes: BTreeSet<Ipv4Net> = input.parsed_list("Ipv4Prefix")?.into_iter().collect();
    input.finish()?;

    if addresses.is_empty() && prefixes.is_empty() {
        return Err(Ec2Error::missing("PrivateIpAddress"));
    }
    if let Some(primary) = eni.primary.filter(|primary| addresses.contains(primary)) {
        let why = "The primary IP address of an interface cannot be unassigned.";
        return Err(Ec2Error::value(primary, "privateIpAddress", why));
    }
    let strangers = addresses
        .iter()
        .filter(|address| !eni.secondary.contains(address));
    let strange_prefixes = prefixes
        .iter()
        .filter(|prefix| !eni.prefixes.contains(prefix));
    let strange: Vec<String> = strangers
        .map(ToString::to_string)
        .chain(strange_prefixes.map(ToString::to_string))
        .collect();
    if !strange.is_empty() {
        return Err(Ec2Error::invalid(format!(
            "Some of the specified addresses are not assigned to interface {}: [{}]",
            eni.id,
            strange.join(", ")
        )));
    }
    world.change_eni(&eni.id, |eni| {
        eni.secondary.retain(|address| !addresses.contains(address));
        eni.prefixes.retain(|prefix| !prefixes.contains(prefix));
    })?;
    let addresses: Vec<Ipv4Addr> = addresses.into_iter().collect();
    let prefixes: Vec<Ipv4Net> = prefixes.into_iter().collect();
    world.give_back(&eni.subnet, &addresses, &prefixes);
    Ok(render::done())
}

/// How many IPv4 slots this ENI has where it is.
fn slots_of(world: &World, eni: &Eni) -> usize {
    let instance = eni
        .attachment
        .as_ref()
        .and_then(|a| world.instance(&a.instance));
    instance.map_or(MOST_SLOTS, |instance| {
        usize::try_from(instance.kind.ipv4_per_eni).unwrap_or(0)
    })
}

fn takes_prefixes(world: &World, eni: &Eni) -> bool {
    let instance = eni
        .attachment
        .as_ref()
        .and_then(|a| world.instance(&a.instance));
    instance.is_none_or(|instance| instance.kind.takes_prefixes())
}

fn read_ask(input: &Input<'_>) -> Result<Ask<Ipv4Addr, Ipv4Net>> {
    let addresses = input.parsed_list::<Ipv4Addr>("PrivateIpAddress")?;
    let prefixes = input.parsed_list::<Ipv4Net>("Ipv4Prefix")?;
    let asks = [
        (!addresses.is_empty()).then_some(Ask::Addresses(addresses)),
        input
            .count("SecondaryPrivateIpAddressCount")?
            .map(Ask::AddressCount),
        (!prefixes.is_empty()).then_some(Ask::Prefixes(prefixes)),
        input.count("Ipv4PrefixCount")?.map(Ask::PrefixCount),
    ];
    let mut asks = asks.into_iter().flatten();
    let Some(ask) = asks.next() else {
        return Err(Ec2Error::client(
            "MissingParameter",
            "Either PrivateIpAddress, SecondaryPrivateIpAddressCount, Ipv4Prefix or \
             Ipv4PrefixCount must be specified.",
        ));
    };
    if asks.next().is_some() {
        return Err(Ec2Error::combination(
            "Only one of PrivateIpAddress, SecondaryPrivateIpAddressCount, Ipv4Prefix and \
             Ipv4PrefixCount can be specified.",
        ));
    }
    Ok(ask)
}

/// Takes these addresses for `eni`, those that another ENI of the subnet has too if they may move.
fn take_or_move(
    world: &mut World,
    eni: &Eni,
    asked: &[Ipv4Addr],
    may_move: bool,
) -> Result<Vec<Ipv4Addr>> {
    if asked.iter().collect::<BTreeSet<_>>().len() != asked.len() {
        return Err(Ec2Error::invalid(
            "The same private IP address is specified more than once.",
        ));
    }
    let assigned: Vec<Ipv4Addr> = asked
        .iter()
        .copied()
        .filter(|address| world.holder(&eni.subnet, *address).is_some())
        .collect();
    if !assigned.is_empty() && !may_move {
        let list: Vec<String> = assigned.iter().map(ToString::to_string).collect();
        return Err(Ec2Error::invalid(format!(
            "Some of [{}] are assigned, but move is not allowed.",
            list.join(", ")
        )));
    }
    let mut moves: Vec<(EniId, Ipv4Addr)> = Vec::new();
    for address in &assigned {
        if let Some(from) = world.holder(&eni.subnet, *address) {
            if from.id == eni.id || !from.secondary.contains(address) {
                return Err(Ec2Error::invalid(format!(
                    "Address {address} is assigned to {} and cannot be moved",
                    from.id
                )));
            }
            moves.push((from.id.clone(), *address));
        }
    }
    let fresh: Vec<Ipv4Addr> = asked
        .iter()
        .copied()
        .filter(|address| !assigned.contains(address))
        .collect();
    world.take(&eni.subnet, Ask::Addresses(fresh))?;
    for (from, address) in moves {
        world.change_eni(&from, |from| from.secondary.retain(|held| *held != address))?;
    }
    Ok(asked.to_vec())
}
