//! AssignPrivateIpAddresses and UnassignPrivateIpAddresses.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::{ids, render};
use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::ids::{EniId, SubnetId};
use crate::instance_types::InstanceType;
use crate::params::Input;
use crate::subnet::AddressPool;
use crate::time::SimTime;
use crate::world::{Ask, Eni, EniKind, World};
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("AssignPrivateIpAddresses", assign),
    ("UnassignPrivateIpAddresses", unassign),
];

/// Slots of an ENI that no instance has, of each family: what the largest types allow.
pub(super) const MOST_SLOTS: usize = 50;

pub(super) fn assign(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    input.required("NetworkInterfaceId")?;
    let ask = read_ask(input)?;
    let may_move = input.flag("AllowReassignment")?.unwrap_or(false);
    input.finish()?;

    let eni = ids::eni(world, input)?;
    takes_addresses(eni)?;
    let (id, subnet) = (eni.id.clone(), eni.subnet.clone());
    // What it has already takes no further slot.
    let new = match &ask {
        Ask::Addresses(asked) => asked.iter().filter(|a| !eni.secondary.contains(a)).count(),
        ask => ask.slots(),
    };
    let kind = kind_of(world, eni);
    if eni.slots().saturating_add(new) > slots(kind.map(|kind| kind.ipv4_per_eni)) {
        return Err(Ec2Error::address_limit());
    }
    if ask.is_prefixes() {
        takes_prefixes(kind)?;
    }
    let (shown, addresses, prefixes) = match ask {
        Ask::Addresses(asked) => {
            let new = take_or_move(world, &id, &subnet, &asked, may_move)?;
            (asked, new, Vec::new())
        }
        ask => {
            let (addresses, prefixes) = world.take(&subnet, ask)?;
            (addresses.clone(), addresses, prefixes)
        }
    };
    world.change_eni(&id, |eni| {
        eni.secondary.extend(addresses);
        eni.prefixes.extend(&prefixes);
    })?;

    let mut xml = Xml::new();
    xml.text("networkInterfaceId", &id);
    xml.set("assignedPrivateIpAddressesSet", shown, |xml, address| {
        xml.text("privateIpAddress", address);
    });
    xml.set("assignedIpv4PrefixSet", prefixes, |xml, prefix| {
        xml.text("ipv4Prefix", prefix);
    });
    xml.text("return", true);
    Ok(xml)
}

pub(super) fn unassign(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    input.required("NetworkInterfaceId")?;
    let addresses: BTreeSet<Ipv4Addr> = input
        .list("PrivateIpAddress")
        .into_iter()
        .map(address)
        .collect::<Result<_>>()?;
    let prefixes: BTreeSet<Ipv4Net> = input.parsed_list("Ipv4Prefix")?.into_iter().collect();
    input.finish()?;

    if addresses.is_empty() && prefixes.is_empty() {
        return Err(Ec2Error::client(
            "MissingParameter",
            "One of privateIpAddresses or ipv4Prefixes must be specified.",
        ));
    }
    let eni = ids::eni(world, input)?;
    if let Some(primary) = eni.primary.filter(|own| addresses.contains(own)) {
        let why = "The primary IP address of an interface cannot be unassigned.";
        return Err(Ec2Error::value(primary, "privateIpAddress", why));
    }
    let has_all = addresses.iter().all(|own| eni.secondary.contains(own))
        && prefixes.iter().all(|own| eni.prefixes.contains(own));
    if !has_all {
        return Err(not_assigned(&eni.id));
    }
    let (id, subnet) = (eni.id.clone(), eni.subnet.clone());
    world.change_eni(&id, |eni| {
        eni.secondary.retain(|address| !addresses.contains(address));
        eni.prefixes.retain(|prefix| !prefixes.contains(prefix));
    })?;
    let addresses: Vec<Ipv4Addr> = addresses.into_iter().collect();
    let prefixes: Vec<Ipv4Net> = prefixes.into_iter().collect();
    world.give_back(&subnet, &addresses, &prefixes);
    Ok(render::done())
}

/// The type of the instance that this ENI is on, whose limits are its own.
pub(super) fn kind_of(world: &World, eni: &Eni) -> Option<&'static InstanceType> {
    let attachment = eni.attachment.as_ref()?;
    Some(world.instance(&attachment.instance)?.kind)
}

/// How many slots of a family an ENI has: those of its instance's type, if it has one.
pub(super) fn slots(of_type: Option<u32>) -> usize {
    of_type.map_or(MOST_SLOTS, |slots| usize::try_from(slots).unwrap_or(0))
}

/// An Elastic Fabric Adapter without a network device has no addresses.
pub(super) fn takes_addresses(eni: &Eni) -> Result<()> {
    if eni.kind == EniKind::EfaOnly {
        return Err(Ec2Error::invalid(format!(
            "Network interface '{}' is of type efa-only, which does not support IP addresses.",
            eni.id
        )));
    }
    Ok(())
}

/// Prefixes are for Nitro; an ENI that no instance has takes them.
pub(super) fn takes_prefixes(kind: Option<&InstanceType>) -> Result<()> {
    match kind.filter(|kind| !kind.takes_prefixes()) {
        None => Ok(()),
        Some(kind) => Err(Ec2Error::invalid(format!(
            "Prefixes can only be assigned to network interfaces of instances built on the Nitro \
             System, which {} is not.",
            kind.name
        ))),
    }
}

pub(super) fn not_assigned(eni: &EniId) -> Ec2Error {
    Ec2Error::invalid(format!(
        "Some of the specified addresses are not assigned to interface {eni}"
    ))
}

/// An address of either family.
pub(super) fn address<A: std::str::FromStr>(text: &str) -> Result<A> {
    text.parse()
        .map_err(|_| Ec2Error::invalid(format!("invalid value for parameter address: {text}")))
}

/// The one thing that is asked for; `None` is nothing.
///
/// # Errors
/// `InvalidParameterCombination` with this text when it is not one.
pub(super) fn at_most_one<A, P>(
    asks: [Option<Ask<A, P>>; 4],
    several: &str,
) -> Result<Option<Ask<A, P>>> {
    let mut asks = asks.into_iter().flatten();
    let ask = asks.next();
    if asks.next().is_some() {
        return Err(Ec2Error::combination(several));
    }
    Ok(ask)
}

/// Why EC2 gives this address of a subnet to nobody.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Unusable {
    Outside,
    Reserved,
}

pub(super) fn unusable(pool: &AddressPool, address: Ipv4Addr) -> Option<Unusable> {
    let cidr = pool.cidr();
    if !cidr.contains(&address) {
        return Some(Unusable::Outside);
    }
    let offset = u32::from(address) - u32::from(cidr.network());
    (offset < 4 || address == cidr.broadcast()).then_some(Unusable::Reserved)
}

fn read_ask(input: &Input<'_>) -> Result<Ask<Ipv4Addr, Ipv4Net>> {
    let addresses = input
        .list("PrivateIpAddress")
        .into_iter()
        .map(address)
        .collect::<Result<Vec<Ipv4Addr>>>()?;
    let prefixes = input.parsed_list::<Ipv4Net>("Ipv4Prefix")?;
    let ask = at_most_one(
        [
            (!addresses.is_empty()).then_some(Ask::Addresses(addresses)),
            count(
                input,
                "SecondaryPrivateIpAddressCount",
                "secondaryPrivateIpAddressCount",
            )?
            .map(Ask::AddressCount),
            (!prefixes.is_empty()).then_some(Ask::Prefixes(prefixes)),
            count(input, "Ipv4PrefixCount", "ipv4PrefixCount")?.map(Ask::PrefixCount),
        ],
        "You may specify one and only one of privateIpAddressSet or secondaryPrivateIpAddressCount \
         or ipv4Prefixes or ipv4PrefixCount, but not more than one of them.",
    )?;
    match ask {
        Some(Ask::Addresses(mut asked)) => {
            let mut seen = BTreeSet::new();
            asked.retain(|address| seen.insert(*address));
            Ok(Ask::Addresses(asked))
        }
        Some(ask) => Ok(ask),
        None => Err(Ec2Error::client(
            "MissingParameter",
            "One of privateIpAddressSet or privateIpAddressCount or ipv4PrefixSet or \
             ipv4PrefixCount must be specified.",
        )),
    }
}

/// How many are asked for: at least one. `parameter` is EC2's own name for it.
pub(super) fn count(input: &Input<'_>, name: &str, parameter: &str) -> Result<Option<usize>> {
    match input.parsed::<i64>(name)? {
        None => Ok(None),
        Some(count) => match usize::try_from(count) {
            Ok(count) if count > 0 => Ok(Some(count)),
            _ => {
                let why = "Value must be a positive number.";
                Err(Ec2Error::value(count, parameter, why))
            }
        },
    }
}

/// Takes these addresses for an ENI, from other ENIs of its subnet too if they may move. Answers with those that it
/// had not.
fn take_or_move(
    world: &mut World,
    id: &EniId,
    subnet: &SubnetId,
    asked: &[Ipv4Addr],
    may_move: bool,
) -> Result<Vec<Ipv4Addr>> {
    let pool = &world
        .subnet(subnet)
        .ok_or_else(|| Ec2Error::no_such_subnet(subnet))?
        .pool;
    for address in asked {
        match unusable(pool, *address) {
            None => {}
            Some(Unusable::Outside) => {
                let message = "Address does not fall within the subnet's address range";
                return Err(Ec2Error::invalid(message));
            }
            Some(Unusable::Reserved) => {
                let message = format!("Address {address} is in subnet's reserved range.");
                return Err(Ec2Error::invalid(message));
            }
        }
    }
    let (mut fresh, mut moves, mut stuck) = (Vec::new(), Vec::new(), Vec::new());
    for address in asked {
        match world.holder(subnet, *address) {
            None => fresh.push(*address),
            Some(own) if own.id == *id && own.secondary.contains(address) => {}
            Some(_) if !may_move => stuck.push(address.to_string()),
            Some(other) if other.id != *id && other.secondary.contains(address) => {
                moves.push((other.id.clone(), *address));
            }
            Some(other) if other.primary == Some(*address) => {
                return Err(Ec2Error::invalid("secondary-addresses"));
            }
            Some(other) => {
                return Err(Ec2Error::invalid(format!(
                    "Address {address} is in a prefix of {} and cannot be moved.",
                    other.id
                )));
            }
        }
    }
    if !stuck.is_empty() {
        return Err(Ec2Error::invalid(format!(
            "[{}] assigned, but move is not allowed.",
            stuck.join(", ")
        )));
    }
    world.take(subnet, Ask::Addresses(fresh.clone()))?;
    for (from, address) in &moves {
        world.change_eni(from, |from| from.secondary.retain(|held| held != address))?;
    }
    let moved: BTreeSet<Ipv4Addr> = moves.into_iter().map(|(_, address)| address).collect();
    let new = asked.iter().copied();
    Ok(new
        .filter(|address| fresh.contains(address) || moved.contains(address))
        .collect())
}
