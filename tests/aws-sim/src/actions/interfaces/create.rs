//! CreateNetworkInterface

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::actions::addresses::MOST_SLOTS;
use crate::actions::render::{self, Within};
use crate::actions::{ids, tags};
use crate::error::{Ec2Error, Result};
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Ask, Eni, EniKind, EniSpec, Made, Token, World, fingerprint};
use crate::xml::Xml;

pub(in crate::actions) fn create(
    world: &mut World,
    now: SimTime,
    input: &Input<'_>,
) -> Result<Xml> {
    let subnet = ids::subnet(world, input)?;
    let groups = input.list("SecurityGroupId");
    let groups = groups
        .into_iter()
        .map(ids::group_id)
        .collect::<Result<Vec<_>>>()?;
    let groups = world.groups_for(&subnet.vpc, groups)?;
    let (primary, ipv4) = read_addresses(input)?;
    let description = input.text("Description").unwrap_or_default();
    let tags = tags::specified(input, "network-interface")?;
    let token = Token::read(input, "CreateNetworkInterface")?;
    let kind = match input.text("InterfaceType") {
        None => EniKind::Interface,
        Some(name) => EniKind::ALL
            .into_iter()
            .find(|kind| kind.as_str() == name)
            .ok_or_else(|| Ec2Error::value(name, "interfaceType", ""))?,
    };
    input.finish()?;

    if description.chars().count() > 255 {
        return Err(Ec2Error::value(
            description,
            "description",
            "At most 255 characters.",
        ));
    }
    let fingerprint = fingerprint(input);
    let client_token = token.as_ref().map(|token| token.token.as_str());
    if let Some(token) = &token
        && let Some(Made::Eni(made)) = world.client_tokens.recall(token, &fingerprint)?
    {
        let eni = world
            .eni(&made)
            .ok_or_else(|| Ec2Error::no_such_eni(&made))?;
        return Ok(response(world, eni, client_token));
    }
    let eni = world.new_eni(EniSpec {
        groups,
        primary,
        ipv4,
        kind,
        description: description.to_owned(),
        tags,
        ..EniSpec::new(&subnet.id.clone())
    })?;
    if let Some(token) = &token {
        let made = Made::Eni(eni.id.clone());
        world.client_tokens.remember(token, fingerprint, made);
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

fn read_addresses(input: &Input<'_>) -> Result<(Option<Ipv4Addr>, Ask<Ipv4Addr, Ipv4Net>)> {
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
        (!secondary.is_empty()).then_some(Ask::Addresses(secondary)),
        input
            .count("SecondaryPrivateIpAddressCount")?
            .map(Ask::AddressCount),
        (!prefixes.is_empty()).then_some(Ask::Prefixes(prefixes)),
        input.count("Ipv4PrefixCount")?.map(Ask::PrefixCount),
    ];
    let mut asks = asks.into_iter().flatten();
    let more = asks.next().unwrap_or_default();
    if asks.next().is_some() {
        return Err(Ec2Error::combination(
            "Only one of PrivateIpAddresses, SecondaryPrivateIpAddressCount, Ipv4Prefix and \
             Ipv4PrefixCount can be specified.",
        ));
    }
    if more.slots() >= MOST_SLOTS {
        return Err(Ec2Error::address_limit());
    }
    Ok((primaries.first().copied(), more))
}
