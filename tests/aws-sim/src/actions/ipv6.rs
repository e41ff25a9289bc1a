//! AssignIpv6Addresses and UnassignIpv6Addresses.

use std::collections::BTreeSet;
use std::net::Ipv6Addr;

use ipnet::Ipv6Net;

use super::addresses::{
    address, at_most_one, count, kind_of, not_assigned, slots, takes_addresses, takes_prefixes,
};
use super::ids;
use crate::actions::Action;
use crate::error::{Ec2Error, Result};
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Ask, World};
use crate::xml::Xml;

pub(super) const ACTIONS: &[(&str, Action)] = &[
    ("AssignIpv6Addresses", assign),
    ("UnassignIpv6Addresses", unassign),
];

fn assign(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    input.required("NetworkInterfaceId")?;
    let ask = read_ask(input)?;
    input.finish()?;

    let eni = ids::eni(world, input)?;
    takes_addresses(eni)?;
    let (id, subnet) = (eni.id.clone(), eni.subnet.clone());
    let kind = kind_of(world, eni);
    if eni.ipv6_slots().saturating_add(ask.slots()) > slots(kind.map(|kind| kind.ipv6_per_eni)) {
        return Err(Ec2Error::address_limit());
    }
    if ask.is_prefixes() {
        takes_prefixes(kind)?;
    }
    let (addresses, prefixes) = world.take_ipv6(&subnet, ask)?;
    world.change_eni(&id, |eni| {
        eni.ipv6.extend(&addresses);
        eni.ipv6_prefixes.extend(&prefixes);
    })?;

    let mut xml = Xml::new();
    xml.set("assignedIpv6Addresses", addresses, Xml::value)
        .set("assignedIpv6PrefixSet", prefixes, Xml::value)
        .text("networkInterfaceId", &id);
    Ok(xml)
}

fn unassign(world: &mut World, _now: SimTime, input: &Input<'_>) -> Result<Xml> {
    input.required("NetworkInterfaceId")?;
    let addresses: BTreeSet<Ipv6Addr> = input
        .list("Ipv6Addresses")
        .into_iter()
        .map(address)
        .collect::<Result<_>>()?;
    let prefixes: BTreeSet<Ipv6Net> = input.parsed_list("Ipv6Prefix")?.into_iter().collect();
    input.finish()?;

    if addresses.is_empty() && prefixes.is_empty() {
        return Err(Ec2Error::client(
            "MissingParameter",
            "One of ipv6Addresses or ipv6Prefixes must be specified.",
        ));
    }
    let eni = ids::eni(world, input)?;
    if let Some(primary) = eni.primary_ipv6.filter(|own| addresses.contains(own)) {
        let why = "The primary IPv6 address of an interface cannot be unassigned.";
        return Err(Ec2Error::value(primary, "ipv6Address", why));
    }
    let has_all = addresses.iter().all(|own| eni.ipv6.contains(own))
        && prefixes.iter().all(|own| eni.ipv6_prefixes.contains(own));
    if !has_all {
        return Err(not_assigned(&eni.id));
    }
    let (id, subnet) = (eni.id.clone(), eni.subnet.clone());
    world.change_eni(&id, |eni| {
        eni.ipv6.retain(|address| !addresses.contains(address));
        eni.ipv6_prefixes
            .retain(|prefix| !prefixes.contains(prefix));
    })?;
    let addresses: Vec<Ipv6Addr> = addresses.into_iter().collect();
    let prefixes: Vec<Ipv6Net> = prefixes.into_iter().collect();
    world.give_back_ipv6(&subnet, &addresses, &prefixes);

    let mut xml = Xml::new();
    xml.text("networkInterfaceId", &id)
        .set("unassignedIpv6Addresses", addresses, Xml::value)
        .set("unassignedIpv6PrefixSet", prefixes, Xml::value);
    Ok(xml)
}

fn read_ask(input: &Input<'_>) -> Result<Ask<Ipv6Addr, Ipv6Net>> {
    let addresses = input
        .list("Ipv6Addresses")
        .into_iter()
        .map(address)
        .collect::<Result<Vec<Ipv6Addr>>>()?;
    let prefixes = input.parsed_list::<Ipv6Net>("Ipv6Prefix")?;
    let ask = at_most_one(
        [
            (!addresses.is_empty()).then_some(Ask::Addresses(addresses)),
            count(input, "Ipv6AddressCount", "ipv6AddressCount")?.map(Ask::AddressCount),
            (!prefixes.is_empty()).then_some(Ask::Prefixes(prefixes)),
            count(input, "Ipv6PrefixCount", "ipv6PrefixCount")?.map(Ask::PrefixCount),
        ],
        SEVERAL,
    )?;
    ask.ok_or_else(|| {
        Ec2Error::client(
            "MissingParameter",
            "One of ipv6Addresses or ipv6AddressCount or ipv6Prefixes or ipv6PrefixCount must be \
             specified.",
        )
    })
}

pub(super) const SEVERAL: &str = "You may specify one and only one of ipv6Addresses or \
     ipv6AddressCount or ipv6Prefixes or ipv6PrefixCount, but not more than one of them.";
