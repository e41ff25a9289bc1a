//! Rules as requests write them: `IpPermissions.N`, or flat for a single one.

use crate::actions::ids;
use crate::error::{Ec2Error, Result};
use crate::ids::VpcId;
use crate::params::Input;
use crate::security::{Messages, Peer, Protocol, Rule};
use crate::world::{NewRule, Tags, World};

/// One rule, not looked at yet: a permission with several peers is several of them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    pub(super) protocol: Option<&'a str>,
    pub(super) from: Option<&'a str>,
    pub(super) to: Option<&'a str>,
    pub(super) peer: Option<AskedPeer<'a>>,
    pub(super) description: Option<&'a str>,
}

/// The other end.
#[derive(Clone, Copy, Debug)]
pub(super) enum AskedPeer<'a> {
    Cidr(&'a str),
    Cidr6(&'a str),
    Group {
        id: Option<&'a str>,
        name: Option<&'a str>,
        account: Option<&'a str>,
    },
    PrefixList(&'a str),
}

/// All that a request asks for; empty when it names no rule.
pub(super) fn read<'a>(input: &Input<'a>) -> Result<Vec<Asked<'a>>> {
    let flat = Asked {
        protocol: input.text("IpProtocol"),
        from: input.text("FromPort"),
        to: input.text("ToPort"),
        peer: input.text("CidrIp").map(AskedPeer::Cidr),
        description: None,
    };
    let name = input.text("SourceSecurityGroupName");
    let account = input.text("SourceSecurityGroupOwnerId");
    if name.is_some() || account.is_some() {
        return Err(super::no_default_vpc());
    }
    let is_flat = flat.protocol.or(flat.from).or(flat.to).is_some() || flat.peer.is_some();
    let permissions = input.elements("IpPermissions");
    match (is_flat, permissions.is_empty()) {
        (true, true) => Ok(vec![flat]),
        (true, false) => Err(Ec2Error::combination(
            "The parameter ipPermissions cannot be used with the parameters of a single rule",
        )),
        (false, _) => {
            let read = permissions.iter().map(|name| permission(input, name));
            Ok(read.collect::<Result<Vec<_>>>()?.concat())
        }
    }
}

fn permission<'a>(input: &Input<'a>, name: &str) -> Result<Vec<Asked<'a>>> {
    let member = |list: &str, member: &str| -> Vec<(Option<&'a str>, Option<&'a str>)> {
        let elements = input.elements(&format!("{name}.{list}")).into_iter();
        elements
            .map(|element| {
                let value = input.text(&format!("{element}.{member}"));
                (
                    value,
                    input.text_or_empty(&format!("{element}.Description")),
                )
            })
            .collect()
    };
    let mut peers = Vec::new();
    for (cidr, description) in member("IpRanges", "CidrIp") {
        let cidr = cidr.ok_or_else(|| Ec2Error::missing("cidrIp"))?;
        peers.push((AskedPeer::Cidr(cidr), description));
    }
    for (cidr, description) in member("Ipv6Ranges", "CidrIpv6") {
        let cidr = cidr.ok_or_else(|| Ec2Error::missing("cidrIpv6"))?;
        peers.push((AskedPeer::Cidr6(cidr), description));
    }
    for (list, description) in member("PrefixListIds", "PrefixListId") {
        let list = list.ok_or_else(|| Ec2Error::missing("prefixListId"))?;
        peers.push((AskedPeer::PrefixList(list), description));
    }
    for element in input.elements(&format!("{name}.Groups")) {
        let member = |member: &str| input.text(&format!("{element}.{member}"));
        let group = AskedPeer::Group {
            id: member("GroupId"),
            name: member("GroupName"),
            account: member("UserId"),
        };
        peers.push((
            group,
            input.text_or_empty(&format!("{element}.Description")),
        ));
    }
    let base = Asked {
        protocol: input.text(&format!("{name}.IpProtocol")),
        from: input.text(&format!("{name}.FromPort")),
        to: input.text(&format!("{name}.ToPort")),
        peer: None,
        description: None,
    };
    if peers.is_empty() {
        return Ok(vec![base]);
    }
    let each = peers.into_iter().map(|(peer, description)| Asked {
        peer: Some(peer),
        description,
        ..base
    });
    Ok(each.collect())
}

impl Asked<'_> {
    /// The rule, for a group of this VPC.
    pub(super) fn check(self, world: &World, input: &Input<'_>, vpc: &VpcId) -> Result<NewRule> {
        let protocol = self.protocol.ok_or_else(|| {
            Ec2Error::invalid(
                "Invalid value 'null' for protocol. VPC security group rules must specify protocols explicitly.",
            )
        })?;
        let (from, to) = (number(self.from, "fromPort")?, number(self.to, "toPort")?);
        let (protocol, ports) = match protocol.to_ascii_lowercase().as_str() {
            "-1" => (Protocol::All, None),
            "tcp" | "6" => (Protocol::Tcp, Some(ports(from, to)?)),
            "udp" | "17" => (Protocol::Udp, Some(ports(from, to)?)),
            "icmp" | "1" => (Protocol::Icmp(messages(from, to)?), None),
            "icmpv6" | "58" => (Protocol::Icmpv6(messages(from, to)?), None),
            other => match other.parse::<u8>() {
                Ok(number) => (Protocol::Number(number), None),
                Err(_) => {
                    return Err(Ec2Error::invalid(format!(
                        "Invalid value '{other}' for IP protocol. Unknown protocol."
                    )));
                }
            },
        };
        let peer = self.peer.ok_or_else(|| {
            let message =
                "The request must contain exactly one of: cidrIp, cidrIpv6, prefixListId, or referencedGroupId";
            Ec2Error::client("MissingParameter", message)
        })?;
        let rule = Rule {
            protocol,
            ports,
            peer: check_peer(peer, world, input, vpc)?,
        };
        let description = self.description.filter(|text| !text.is_empty());
        if let Some(text) = description {
            super::check_text(text, "rule description")?;
        }
        Ok(NewRule {
            rule,
            description: description.map(str::to_owned),
            tags: Tags::new(),
        })
    }
}

fn check_peer(peer: AskedPeer<'_>, world: &World, input: &Input<'_>, vpc: &VpcId) -> Result<Peer> {
    let malformed = |text: &str| Ec2Error::invalid(format!("CIDR block {text} is malformed"));
    match peer {
        AskedPeer::Cidr(text) => {
            let cidr: ipnet::Ipv4Net = text.parse().map_err(|_| malformed(text))?;
            Ok(Peer::Cidr(cidr.trunc()))
        }
        AskedPeer::Cidr6(text) => {
            let cidr: ipnet::Ipv6Net = text.parse().map_err(|_| malformed(text))?;
            Ok(Peer::Cidr6(cidr.trunc()))
        }
        AskedPeer::PrefixList(id) => {
            let message = format!("The prefix list ID '{id}' does not exist");
            Err(Ec2Error::client("InvalidPrefixListID.NotFound", message))
        }
        AskedPeer::Group { name: Some(_), .. } => Err(super::no_default_vpc()),
        AskedPeer::Group { id: None, .. } => {
            let message = "Source group ID missing.";
            Err(Ec2Error::client("MissingParameter", message))
        }
        AskedPeer::Group {
            id: Some(id),
            account,
            ..
        } => {
            let id = ids::group_id(id)?;
            let group = ids::owned_group(world, input, &id)?;
            if account.is_some_and(|account| account != input.account()) {
                return Err(Ec2Error::no_such_group(&id));
            }
            if group.vpc != *vpc {
                let message = "You have specified two resources that belong to different networks.";
                return Err(Ec2Error::client("InvalidGroup.NotFound", message));
            }
            Ok(Peer::Group(id))
        }
    }
}

fn number(text: Option<&str>, name: &str) -> Result<Option<i32>> {
    let parse = |text: &str| {
        let why = "It can't be parsed.";
        text.parse().map_err(|_| Ec2Error::value(text, name, why))
    };
    text.map(parse).transpose()
}

fn ports(from: Option<i32>, to: Option<i32>) -> Result<std::ops::RangeInclusive<u16>> {
    let (Some(from), Some(to)) = (from, to) else {
        return Err(Ec2Error::invalid(
            "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.",
        ));
    };
    let port = |value: i32, which: &str| {
        let message = || format!("TCP/UDP ({which}) port ({value}) out of range");
        u16::try_from(value).map_err(|_| Ec2Error::invalid(message()))
    };
    let range = port(from, "from")?..=port(to, "to")?;
    if range.is_empty() {
        let message = format!("Invalid TCP/UDP port range ({from}:{to})");
        return Err(Ec2Error::invalid(message));
    }
    Ok(range)
}

/// EC2 writes the type of a message as the first port and the code as the second.
fn messages(kind: Option<i32>, code: Option<i32>) -> Result<Messages> {
    let byte = |value: i32, what: &str| {
        let message = || format!("ICMP {what} ({value}) out of range");
        u8::try_from(value).map_err(|_| Ec2Error::invalid(message()))
    };
    match (kind.unwrap_or(-1), code.unwrap_or(-1)) {
        (-1, -1) => Ok(Messages::All),
        (-1, code) => Err(Ec2Error::invalid(format!(
            "ICMP code ({code}) must be -1 when the ICMP type is -1"
        ))),
        (kind, -1) => Ok(Messages::Type(byte(kind, "type")?)),
        (kind, code) => Ok(Messages::Code(byte(kind, "type")?, byte(code, "code")?)),
    }
}
