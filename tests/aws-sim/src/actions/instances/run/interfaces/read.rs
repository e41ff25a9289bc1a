//! Reading what a request says about interfaces.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::{Asked, no_default_vpc};
use crate::actions::addresses::address;
use crate::error::{Ec2Error, Result};
use crate::params::Input;
use crate::world::{Ask, ConnectionTracking, EnaSrd};

/// All that the request says about interfaces.
///
/// # Errors
/// `InvalidParameterValue` for what can't be parsed, `InvalidParameterCombination` for both forms at once.
pub(in crate::actions::instances::run) fn read<'a>(input: &Input<'a>) -> Result<Vec<Asked<'a>>> {
    let alone = read_instance(input)?;
    let elements = input.elements("NetworkInterface");
    if elements.is_empty() {
        return Ok(vec![alone]);
    }
    let clash = [
        (alone.subnet.is_some(), "subnet ID"),
        (!alone.groups.is_empty(), "security groups"),
        (!alone.primaries.is_empty(), "private IP address"),
        (!alone.ipv6.is_empty(), "IPv6 addresses"),
    ];
    if let Some((_, what)) = clash.into_iter().find(|(is_there, _)| *is_there) {
        return Err(Ec2Error::combination(format!(
            "Network interfaces and an instance-level {what} may not be specified on the same request"
        )));
    }
    elements.iter().map(|name| read_one(input, name)).collect()
}

/// The one interface of a request that names none.
fn read_instance<'a>(input: &Input<'a>) -> Result<Asked<'a>> {
    let subnet = input.text("SubnetId");
    let names = input.list("SecurityGroup");
    if !names.is_empty() {
        return Err(match subnet {
            // No VPC here is a default VPC.
            None => no_default_vpc(),
            Some(_) => Ec2Error::combination(
                "The parameter groupName cannot be used with the parameter subnet",
            ),
        });
    }
    let primary = input.text("PrivateIpAddress").map(address).transpose()?;
    let (ipv6, has_primary) = ipv6_addresses(input, "Ipv6Address")?;
    Ok(Asked {
        device_index: Some(0),
        subnet,
        groups: input.list("SecurityGroupId"),
        primaries: primary.into_iter().collect(),
        ipv6: asks(ipv6, number(input, "Ipv6AddressCount")?, Vec::new(), None),
        no_ipv6: input.text("Ipv6AddressCount") == Some("0"),
        primary_ipv6: has_primary || input.flag("EnablePrimaryIpv6")?.unwrap_or(false),
        ..Asked::default()
    })
}

fn read_one<'a>(input: &Input<'a>, name: &str) -> Result<Asked<'a>> {
    let of = |member: &str| format!("{name}.{member}");
    let primary = input.text(&of("PrivateIpAddress")).map(address);
    let mut primaries: Vec<Ipv4Addr> = primary.transpose()?.into_iter().collect();
    let mut secondary = Vec::new();
    for element in input.elements(&of("PrivateIpAddresses")) {
        let address = address(input.required(&format!("{element}.PrivateIpAddress"))?)?;
        if input.flag(&format!("{element}.Primary"))?.unwrap_or(false) {
            primaries.push(address);
        } else {
            secondary.push(address);
        }
    }
    let ipv4 = asks(
        secondary,
        number(input, &of("SecondaryPrivateIpAddressCount"))?,
        members(input, &of("Ipv4Prefix"), "Ipv4Prefix")?,
        number(input, &of("Ipv4PrefixCount"))?,
    );
    let (ipv6, has_primary) = ipv6_addresses(input, &of("Ipv6Addresses"))?;
    let ipv6 = asks(
        ipv6,
        number(input, &of("Ipv6AddressCount"))?,
        members(input, &of("Ipv6Prefix"), "Ipv6Prefix")?,
        number(input, &of("Ipv6PrefixCount"))?,
    );
    let tracking = |name: &str, member: &str, least: u32, most: u32| -> Result<Option<u32>> {
        let seconds = input.parsed(&of(&format!("ConnectionTrackingSpecification.{name}")))?;
        match seconds.filter(|seconds| !(least..=most).contains(seconds)) {
            None => Ok(seconds),
            Some(wrong) => {
                let why = format!("Expecting a value from {least} to {most}.");
                Err(Ec2Error::value(wrong, member, &why))
            }
        }
    };
    let srd = input.flag(&of("EnaSrdSpecification.EnaSrdEnabled"))?;
    let srd_udp = input.flag(&of(
        "EnaSrdSpecification.EnaSrdUdpSpecification.EnaSrdUdpEnabled",
    ))?;
    Ok(Asked {
        device_index: input.parsed(&of("DeviceIndex"))?,
        card: input.parsed(&of("NetworkCardIndex"))?,
        eni: input.text(&of("NetworkInterfaceId")),
        subnet: input.text(&of("SubnetId")),
        groups: input.list(&of("SecurityGroupId")),
        description: input.text(&of("Description")),
        primaries,
        ipv4,
        ipv6,
        no_ipv6: input.text(&of("Ipv6AddressCount")) == Some("0"),
        primary_ipv6: has_primary || input.flag(&of("PrimaryIpv6"))?.unwrap_or(false),
        kind: input.text(&of("InterfaceType")),
        connection_tracking: ConnectionTracking {
            tcp_established: tracking(
                "TcpEstablishedTimeout",
                "tcpEstablishedTimeout",
                60,
                432_000,
            )?,
            udp_stream: tracking("UdpStreamTimeout", "udpStreamTimeout", 60, 180)?,
            udp: tracking("UdpTimeout", "udpTimeout", 30, 60)?,
        },
        ena_srd: srd.or(srd_udp).map(|enabled| EnaSrd {
            enabled,
            udp: srd_udp.unwrap_or(false),
        }),
        public_address: input.flag(&of("AssociatePublicIpAddress"))?,
        delete_on_termination: input.flag(&of("DeleteOnTermination"))?,
    })
}

/// IPv6 addresses, the one that is said to be primary first, and whether there is one.
fn ipv6_addresses(input: &Input<'_>, name: &str) -> Result<(Vec<Ipv6Addr>, bool)> {
    let mut addresses = Vec::new();
    let mut primaries = 0;
    for element in input.elements(name) {
        let address = address(input.required(&format!("{element}.Ipv6Address"))?)?;
        if input.flag(&format!("{element}.IsPrimaryIpv6"))? == Some(true) {
            primaries += 1;
            addresses.insert(0, address);
        } else {
            addresses.push(address);
        }
    }
    if primaries > 1 {
        let message = "Only one primary IPv6 address can be specified.";
        return Err(Ec2Error::invalid(message));
    }
    Ok((addresses, primaries > 0))
}

/// Structures that have one member that is parsed.
fn members<T: FromStr>(input: &Input<'_>, name: &str, member: &str) -> Result<Vec<T>> {
    let elements = input.elements(name);
    let names = elements.iter().map(|element| format!("{element}.{member}"));
    names
        .map(|name| input.parsed(&name)?.ok_or_else(|| Ec2Error::missing(&name)))
        .collect()
}

/// How many; none is as good as not said.
fn number(input: &Input<'_>, name: &str) -> Result<Option<usize>> {
    Ok(input.parsed(name)?.filter(|count| *count > 0))
}

/// What is asked for of one family, each form that is used.
fn asks<A, P>(
    addresses: Vec<A>,
    address_count: Option<usize>,
    prefixes: Vec<P>,
    prefix_count: Option<usize>,
) -> Vec<Ask<A, P>> {
    let forms = [
        (!addresses.is_empty()).then_some(Ask::Addresses(addresses)),
        address_count.map(Ask::AddressCount),
        (!prefixes.is_empty()).then_some(Ask::Prefixes(prefixes)),
        prefix_count.map(Ask::PrefixCount),
    ];
    forms.into_iter().flatten().collect()
}
