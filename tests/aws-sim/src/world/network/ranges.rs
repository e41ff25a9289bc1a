//! Which ranges a VPC and a subnet may have.

use ipnet::{Ipv4Net, Ipv6Net};

use crate::error::{Ec2Error, Result};

const fn net(a: u8, b: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(std::net::Ipv4Addr::new(a, b, 0, 0), length)
}

const TEN: Ipv4Net = net(10, 0, 8);
const TEN_FIRST: Ipv4Net = net(10, 0, 15);
const TEN_ZERO: Ipv4Net = net(10, 0, 16);
const TWELVE: Ipv4Net = net(172, 16, 12);
const DOCKER: Ipv4Net = net(172, 31, 16);
const HOME: Ipv4Net = net(192, 168, 16);
const BENCHMARK: Ipv4Net = net(198, 19, 16);

/// The ranges of RFC 1918.
const PRIVATE: [Ipv4Net; 3] = [TEN, TWELVE, HOME];

/// What no VPC can have, by the VPC user guide: this network, loopback, link-local, multicast.
const NEVER: [Ipv4Net; 4] = [
    net(0, 0, 8),
    net(127, 0, 8),
    net(169, 254, 16),
    net(224, 0, 4),
];

/// A VPC has /16 to /28.
pub(super) fn check_vpc(cidr: Ipv4Net) -> Result<()> {
    let outside = NEVER.iter().all(|never| !overlap(*never, cidr));
    if (16..=28).contains(&cidr.prefix_len()) && outside {
        return Ok(());
    }
    let message = format!("The CIDR '{cidr}' is invalid.");
    Err(Ec2Error::client("InvalidVpc.Range", message))
}

/// Whether a VPC with these ranges may get this one too: the table of restrictions in the VPC user guide, "VPC CIDR
/// blocks".
pub(super) fn check_beside(cidr: Ipv4Net, known: &[Ipv4Net]) -> Result<()> {
    if known.iter().any(|other| overlap(*other, cidr)) {
        let message = format!("The CIDR '{cidr}' conflicts with another of the VPC");
        return Err(Ec2Error::client("InvalidVpc.Range", message));
    }
    if known
        .first()
        .is_none_or(|primary| may_stand_beside(cidr, *primary))
    {
        return Ok(());
    }
    let message = format!(
        "The CIDR '{cidr}' is restricted. Use a CIDR from the same private address range as the current VPC CIDR, \
         or use a publicly-routable CIDR. For additional restrictions, see \
         https://docs.aws.amazon.com/vpc/latest/userguide/vpc-cidr-blocks.html"
    );
    Err(Ec2Error::client("InvalidVpc.Range", message))
}

fn may_stand_beside(cidr: Ipv4Net, primary: Ipv4Net) -> bool {
    let home = |net: Ipv4Net| PRIVATE.iter().find(|range| range.contains(&net));
    let foreign = home(cidr).is_some() && home(cidr) != home(primary);
    let benchmark = BENCHMARK.contains(&cidr) && !BENCHMARK.contains(&primary);
    let ten_zero = TEN_FIRST.contains(&primary) && TEN_ZERO.contains(&cidr);
    let docker = TWELVE.contains(&primary) && DOCKER.contains(&cidr);
    !(foreign || benchmark || ten_zero || docker)
}

/// A subnet has /16 to /28, inside one range of the VPC and apart from its siblings.
pub(super) fn check_subnet(
    cidr: Ipv4Net,
    of_vpc: &[Ipv4Net],
    mut siblings: impl Iterator<Item = Ipv4Net>,
) -> Result<()> {
    let inside = of_vpc.iter().any(|range| range.contains(&cidr));
    if !inside || !(16..=28).contains(&cidr.prefix_len()) {
        let message = format!("The CIDR '{cidr}' is invalid.");
        return Err(Ec2Error::client("InvalidSubnet.Range", message));
    }
    if siblings.any(|sibling| overlap(sibling, cidr)) {
        return Err(conflict(cidr));
    }
    Ok(())
}

/// A subnet has /44 to /64 of the VPC's IPv6, in steps of four: the VPC user guide, "Subnet CIDR blocks".
pub(super) fn check_subnet_ipv6(
    cidr: Ipv6Net,
    of_vpc: &[Ipv6Net],
    mut siblings: impl Iterator<Item = Ipv6Net>,
) -> Result<()> {
    if !(44..=64).contains(&cidr.prefix_len()) || !cidr.prefix_len().is_multiple_of(4) {
        let message = format!("invalid value for parameter ipv6-cidr-block: {cidr}");
        return Err(Ec2Error::invalid(message));
    }
    if !of_vpc.iter().any(|range| range.contains(&cidr)) {
        let message = format!("The IPv6 CIDR '{cidr}' is invalid.");
        return Err(Ec2Error::client("InvalidSubnet.Range", message));
    }
    if siblings.any(|sibling| sibling.contains(&cidr) || cidr.contains(&sibling)) {
        return Err(conflict(cidr));
    }
    Ok(())
}

fn conflict(cidr: impl std::fmt::Display) -> Ec2Error {
    let message = format!("The CIDR '{cidr}' conflicts with another subnet");
    Ec2Error::client("InvalidSubnet.Conflict", message)
}

pub(super) fn overlap(one: Ipv4Net, other: Ipv4Net) -> bool {
    one.contains(&other) || other.contains(&one)
}
