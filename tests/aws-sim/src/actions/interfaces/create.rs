//! CreateNetworkInterface

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use super::attributes;
use crate::actions::addresses::{self, MOST_SLOTS, Unusable, at_most_one};
use crate::actions::render::{self, Within};
use crate::actions::{ids, ipv6, tags};
use crate::error::{Ec2Error, Result};
use crate::ids::GroupId;
use crate::params::Input;
use crate::time::SimTime;
use crate::world::{Ask, Eni, EniKind, EniSpec, Made, Subnet, Token, World, fingerprint, mismatch};
use crate::xml::Xml;

pub(in crate::actions) fn create(
    world: &mut World,
    now: SimTime,
    input: &Input<'_>,
) -> Result<Xml> {
    input.required("SubnetId")?;
    let groups = input.list("SecurityGroupId");
    let ipv4 = read_ipv4(input)?;
    let ipv6 = read_ipv6(input)?;
    let description = input.text("Description").unwrap_or_default();
    attributes::check_description(description)?;
    let connection_tracking = attributes::connection_tracking(input)?.unwrap_or_default();
    let tags = tags::specified(input, "network-interface")?;
    let token = Token::read(input, "CreateNetworkInterface")?;
    let kind = read_kind(input)?;
    input.finish()?;

    let fingerprint = token.as_ref().map(|_| fingerprint(input));
    if let (Some(token), Some(fingerprint)) = (&token, &fingerprint)
        && let Some(Made::Eni(made)) = world.client_tokens.recall(token, fingerprint)?
    {
        // Once the ENI is deleted, EC2 no longer has what the token asks for.
        let eni = world.eni(&made).ok_or_else(mismatch)?;
        return Ok(response(world, eni));
    }
    let subnet = ids::subnet(world, input)?;
    let groups = check_groups(world, subnet, &groups)?;
    check_addresses(subnet, &ipv4)?;
    if kind == EniKind::EfaOnly && (ipv4.is_some() || ipv6.is_some()) {
        return Err(Ec2Error::combination(
            "IP addresses cannot be specified for a network interface of type efa-only.",
        ));
    }
    let eni = world.new_eni(EniSpec {
        groups,
        primary: ipv4.primary,
        ipv4: ipv4.more,
        ipv6: ipv6.ask,
        primary_ipv6: ipv6.primary,
        kind,
        description: description.to_owned(),
        connection_tracking,
        tags,
        ..EniSpec::new(&subnet.id.clone())
    })?;
    if let (Some(token), Some(fingerprint)) = (&token, fingerprint) {
        let made = Made::Eni(eni.id.clone());
        world.client_tokens.remember(token, fingerprint, made);
    }
    // Shown as `pending`, also when it is available at once.
    let answer = response(world, &eni);
    world.insert_eni(now, eni);
    world.advance(now);
    Ok(answer)
}

fn response(world: &World, eni: &Eni) -> Xml {
    let mut xml = Xml::new();
    xml.node("networkInterface", |xml| {
        render::eni(xml, world, eni, Within::Itself);
    });
    xml
}

fn read_kind(input: &Input<'_>) -> Result<EniKind> {
    let Some(name) = input.text("InterfaceType") else {
        return Ok(EniKind::Interface);
    };
    let known = EniKind::ALL.into_iter().find(|kind| kind.as_str() == name);
    known.ok_or_else(|| {
        Ec2Error::invalid(format!(
            "invalid value for parameter interface-type: {name}"
        ))
    })
}

/// The groups are there, and in the VPC of the subnet: CreateNetworkInterface says so in its own words.
fn check_groups(world: &World, subnet: &Subnet, asked: &[&str]) -> Result<Vec<GroupId>> {
    let ids = asked.iter().map(|id| ids::group_id(id));
    let ids = ids.collect::<Result<Vec<GroupId>>>()?;
    // Too many is said first.
    let few = ids.get(..5).is_none_or(|first| first.len() == ids.len());
    for id in ids.iter().filter(|_| few) {
        let Some(group) = world.group(id) else {
            return Err(Ec2Error::client(
                "InvalidSecurityGroupID.NotFound",
                format!("The securityGroup ID '{id}' does not exist"),
            ));
        };
        if group.vpc != subnet.vpc {
            return Err(Ec2Error::invalid(format!(
                "Security group {id} and subnet {} belong to different networks.",
                subnet.id
            )));
        }
    }
    world.groups_for(&subnet.vpc, ids)
}

/// What is asked for of IPv4.
struct Ipv4 {
    primary: Option<Ipv4Addr>,
    more: Ask<Ipv4Addr, Ipv4Net>,
}

impl Ipv4 {
    fn is_some(&self) -> bool {
        self.primary.is_some() || self.more.slots() > 0
    }
}

/// What is asked for of IPv6.
struct Ipv6 {
    ask: Ask<Ipv6Addr, Ipv6Net>,
    primary: bool,
}

impl Ipv6 {
    fn is_some(&self) -> bool {
        self.primary || self.ask.slots() > 0
    }
}

fn read_ipv4(input: &Input<'_>) -> Result<Ipv4> {
    let mut primaries: Vec<Ipv4Addr> = input
        .text("PrivateIpAddress")
        .map(addresses::address)
        .transpose()?
        .into_iter()
        .collect();
    let mut secondary = Vec::new();
    for element in input.elements("PrivateIpAddresses") {
        let address = addresses::address(input.required(&format!("{element}.PrivateIpAddress"))?)?;
        if input.flag(&format!("{element}.Primary"))?.unwrap_or(false) {
            primaries.push(address);
        } else {
            secondary.push(address);
        }
    }
    let mut prefixes = Vec::new();
    for element in input.elements("Ipv4Prefix") {
        let name = format!("{element}.Ipv4Prefix");
        prefixes.extend(input.parsed::<Ipv4Net>(&name)?);
    }
    let more = at_most_one(
        [
            (!secondary.is_empty()).then(|| Ask::Addresses(secondary.clone())),
            addresses::count(
                input,
                "SecondaryPrivateIpAddressCount",
                "secondaryPrivateIpAddressCount",
            )?
            .map(Ask::AddressCount),
            (!prefixes.is_empty()).then_some(Ask::Prefixes(prefixes)),
            addresses::count(input, "Ipv4PrefixCount", "ipv4PrefixCount")?.map(Ask::PrefixCount),
        ],
        "You can specify one and only one secondaryPrivateIpAddressCount or \
         secondaryPrivateIpAddressCount or ipv4Prefixes or ipv4PrefixCount.",
    )?
    .unwrap_or_default();
    if primaries.len() > 1 {
        return Err(Ec2Error::invalid(
            "Only one primary private IP address can be specified.",
        ));
    }
    if primaries.iter().any(|primary| secondary.contains(primary)) {
        return Err(Ec2Error::invalid(
            "address value can't be both primary and secondary",
        ));
    }
    if secondary.iter().collect::<BTreeSet<_>>().len() != secondary.len() {
        return Err(Ec2Error::invalid(
            "The same private IP address is specified more than once.",
        ));
    }
    if more.slots() >= MOST_SLOTS {
        return Err(Ec2Error::address_limit());
    }
    Ok(Ipv4 {
        primary: primaries.first().copied(),
        more,
    })
}

fn read_ipv6(input: &Input<'_>) -> Result<Ipv6> {
    let mut asked = Vec::new();
    let mut primaries = 0;
    for element in input.elements("Ipv6Addresses") {
        let address = addresses::address(input.required(&format!("{element}.Ipv6Address"))?)?;
        // The first address is the primary one.
        if input.flag(&format!("{element}.IsPrimaryIpv6"))? == Some(true) {
            primaries += 1;
            asked.insert(0, address);
        } else {
            asked.push(address);
        }
    }
    let mut prefixes = Vec::new();
    for element in input.elements("Ipv6Prefix") {
        let name = format!("{element}.Ipv6Prefix");
        prefixes.extend(input.parsed::<Ipv6Net>(&name)?);
    }
    let enabled = input.flag("EnablePrimaryIpv6")?.unwrap_or(false);
    let ask = at_most_one(
        [
            (!asked.is_empty()).then_some(Ask::Addresses(asked)),
            // Zero is how to have none where the subnet gives one to all.
            input
                .parsed::<usize>("Ipv6AddressCount")?
                .map(Ask::AddressCount),
            (!prefixes.is_empty()).then_some(Ask::Prefixes(prefixes)),
            addresses::count(input, "Ipv6PrefixCount", "ipv6PrefixCount")?.map(Ask::PrefixCount),
        ],
        ipv6::SEVERAL,
    )?;
    if primaries > 1 {
        return Err(Ec2Error::invalid(
            "Only one primary IPv6 address can be specified.",
        ));
    }
    let primary = enabled || primaries > 0;
    let ask = match ask {
        // The primary address has to come from somewhere.
        None if primary => Ask::AddressCount(1),
        Some(ask) if primary && (ask.is_prefixes() || ask.slots() == 0) => {
            return Err(Ec2Error::combination(
                "EnablePrimaryIpv6 needs an IPv6 address on the network interface.",
            ));
        }
        ask => ask.unwrap_or_default(),
    };
    if ask.slots() > MOST_SLOTS {
        return Err(Ec2Error::address_limit());
    }
    Ok(Ipv6 { ask, primary })
}

/// The addresses that are asked for can be had: CreateNetworkInterface says so in its own words.
fn check_addresses(subnet: &Subnet, ipv4: &Ipv4) -> Result<()> {
    let secondary = match &ipv4.more {
        Ask::Addresses(addresses) => addresses.as_slice(),
        _ => &[],
    };
    for address in ipv4.primary.iter().chain(secondary) {
        let wrong = addresses::unusable(&subnet.pool, *address);
        if wrong == Some(Unusable::Outside) {
            let message = "Address does not fall within the subnet's address range";
            return Err(Ec2Error::invalid(message));
        }
        if wrong == Some(Unusable::Reserved) {
            let message = "Address is in subnet's reserved address range";
            return Err(Ec2Error::invalid(message));
        }
        if subnet.pool.holds(*address) {
            return Err(Ec2Error::client(
                "InvalidIPAddress.InUse",
                "The specified address is already in use.",
            ));
        }
    }
    Ok(())
}
