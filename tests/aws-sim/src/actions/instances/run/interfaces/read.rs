//! Reading what a request says about interfaces.

use std::net::Ipv4Addr;
use std::str::FromStr;

use super::{Asked, no_default_vpc};
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
    let ipv6 = members(input, "Ipv6Address", "Ipv6Address")?;
    for element in input.elements("Ipv6Address") {
        input.flag(&format!("{element}.IsPrimaryIpv6"))?;
    }
    Ok(Asked {
        device_index: Some(0),
        subnet,
        groups: input.list("SecurityGroupId"),
        primaries: input.parsed("PrivateIpAddress")?.into_iter().collect(),
        ipv6: asks(ipv6, number(input, "Ipv6AddressCount")?, Vec::new(), None),
        no_ipv6: input.text("Ipv6AddressCount") == Some("0"),
        primary_ipv6: input.flag("EnablePrimaryIpv6")?.unwrap_or(false),
        ..Asked::default()
    })
}

fn read_one<'a>(input: &Input<'a>, name: &str) -> Result<Asked<'a>> {
    let of = |member: &str| format!("{name}.{member}");
    let mut primaries: Vec<Ipv4Addr> = input.parsed(&of("PrivateIpAddress"))?.into_iter().collect();
    let mut secondary = Vec::new();
    for element in input.elements(&of("PrivateIpAddresses")) {
        let member = format!("{element}.PrivateIpAddress");
        let address = input.parsed(&member)?;
        let address = address.ok_or_else(|| Ec2Error::missing(&member))?;
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
    let ipv6 = asks(
        members(input, &of("Ipv6Addresses"), "Ipv6Address")?,
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
        primary_ipv6: input.flag(&of("PrimaryIpv6"))?.unwrap_or(false),
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
