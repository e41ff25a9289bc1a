//! CreateNetworkInterface

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::actions::addresses::{MOST_SLOTS, take_these, take_these_prefixes};
use crate::actions::render::{self, Within};
use crate::actions::{ids, tags};
use crate::error::{Ec2Error, Result};
use crate::ids::{EniId, SubnetId};
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Eni, World};
use crate::xml::Xml;

/// What the new ENI shall hold besides its primary address.
enum More {
    Addresses(Vec<Ipv4Addr>),
    AddressCount(usize),
    Prefixes(Vec<Ipv4Net>),
    PrefixCount(usize),
}

pub(in crate::actions) fn create(
    world: &mut World,
    now: SimTime,
    input: &Input<'_>,
) -> Result<Xml> {
    let subnet = ids::subnet_id(input.required("SubnetId")?)?;
    let place = world
        .subnet(&subnet)
        .ok_or_else(|| Ec2Error::no_such_subnet(&subnet))?;
    let groups = input.list("SecurityGroupId");
    let groups = groups
        .into_iter()
        .map(ids::group_id)
        .collect::<Result<Vec<_>>>()?;
    let groups = world.groups_for(&place.vpc, groups)?;
    let (primary, more) = read_addresses(input)?;
    let description = input.text("Description").unwrap_or_default();
    let tags = tags::specified(input, "network-interface")?;
    let client_token = input.text("ClientToken");
    match input.text("InterfaceType") {
        None | Some("interface") => {}
        Some(other) => {
            return Err(Ec2Error::value(
                other,
                "interfaceType",
                "aws-sim knows only `interface`.",
            ));
        }
    }
    input.finish()?;

    if description.chars().count() > 255 {
        return Err(Ec2Error::value(
            description,
            "description",
            "At most 255 characters.",
        ));
    }
    let fingerprint = fingerprint(input);
    if let Some(token) = client_token {
        if !token.is_ascii() || token.len() > 64 {
            return Err(Ec2Error::value(
                token,
                "clientToken",
                "At most 64 ASCII characters.",
            ));
        }
        if let Some(made) = world.client_tokens.recall(token, &fingerprint)? {
            let eni = world
                .eni(&made)
                .ok_or_else(|| Ec2Error::no_such_eni(&made))?;
            return Ok(response(world, eni, client_token));
        }
    }
    let eni = world.new_eni(&subnet, groups, primary)?;
    let (secondary, prefixes) = match take_more(world, &subnet, more) {
        Ok(taken) => taken,
        Err(error) => {
            world.give_back(&subnet, &[eni.primary], &[]);
            return Err(error);
        }
    };
    let eni = Eni {
        description: description.to_owned(),
        tags,
        secondary,
        prefixes,
        ..eni
    };
    let id: EniId = eni.id.clone();
    if let Some(token) = client_token {
        world.client_tokens.remember(token, fingerprint, id.clone());
    }
    // Shown as `pending`, also when it is available at once.
    let answer = response(world, &eni, client_token);
    world.insert_eni(now, eni);
    world.advance(now);
    Ok(answer)
}

fn response(world: &World, eni: &Eni, client_token: Option<&str>) -> Xml {
    let mut xml = Xml::new();
    xml.node("networkInterface", |xml| {
        render::eni(xml, world, eni, Within::Itself);
    });
    xml.maybe("clientToken", client_token);
    xml
}

fn read_addresses(input: &Input<'_>) -> Result<(Option<Ipv4Addr>, More)> {
    let mut primaries: Vec<Ipv4Addr> = input.parsed("PrivateIpAddress")?.into_iter().collect();
    let mut secondary = Vec::new();
    for element in input.elements("PrivateIpAddresses") {
        let name = format!("{element}.PrivateIpAddress");
        let address = input
            .parsed(&name)?
            .ok_or_else(|| Ec2Error::missing(&name))?;
        if input.flag(&format!("{element}.Primary"))?.unwrap_or(false) {
            primaries.push(address);
        } else {
            secondary.push(address);
        }
    }
    let mut prefixes = Vec::new();
    for element in input.elements("Ipv4Prefix") {
        let name = format!("{element}.Ipv4Prefix");
        prefixes.push(
            input
                .parsed::<Ipv4Net>(&name)?
                .ok_or_else(|| Ec2Error::missing(&name))?,
        );
    }
    if primaries.len() > 1 {
        return Err(Ec2Error::combination(
            "Only one primary private IP address can be specified.",
        ));
    }
    if secondary
        .iter()
        .chain(&primaries)
        .collect::<BTreeSet<_>>()
        .len()
        != secondary.len() + primaries.len()
    {
        return Err(Ec2Error::invalid(
            "The same private IP address is specified more than once.",
        ));
    }
    let asks = [
        (!secondary.is_empty()).then_some(More::Addresses(secondary)),
        input
            .count("SecondaryPrivateIpAddressCount")?
            .map(More::AddressCount),
        (!prefixes.is_empty()).then_some(More::Prefixes(prefixes)),
        input.count("Ipv4PrefixCount")?.map(More::PrefixCount),
    ];
    let mut asks = asks.into_iter().flatten();
    let more = asks.next().unwrap_or(More::Addresses(Vec::new()));
    if asks.next().is_some() {
        return Err(Ec2Error::combination(
            "Only one of PrivateIpAddresses, SecondaryPrivateIpAddressCount, Ipv4Prefix and \
             Ipv4PrefixCount can be specified.",
        ));
    }
    let slots = match &more {
        More::Addresses(addresses) => addresses.len(),
        More::AddressCount(count) | More::PrefixCount(count) => *count,
        More::Prefixes(prefixes) => prefixes.len(),
    };
    if slots >= MOST_SLOTS {
        return Err(Ec2Error::address_limit());
    }
    Ok((primaries.first().copied(), more))
}

fn take_more(
    world: &mut World,
    subnet: &SubnetId,
    more: More,
) -> Result<(Vec<Ipv4Addr>, Vec<Ipv4Net>)> {
    Ok(match more {
        More::Addresses(addresses) => (take_these(world, subnet, &addresses)?, Vec::new()),
        More::AddressCount(count) => (world.take_addresses(subnet, count)?, Vec::new()),
        More::Prefixes(prefixes) => (Vec::new(), take_these_prefixes(world, subnet, &prefixes)?),
        More::PrefixCount(count) => (Vec::new(), world.take_prefixes(subnet, count)?),
    })
}

/// Everything that was asked for: what a repeated client token must repeat.
fn fingerprint(input: &Input<'_>) -> String {
    let asked = input.params().all().iter();
    let asked = asked.filter(|(name, _)| *name != "ClientToken" && !name.starts_with("X-Amz-"));
    asked
        .flat_map(|(name, value)| [name.as_str(), "\0", value.as_str(), "\0"])
        .collect()
}
