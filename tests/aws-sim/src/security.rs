//! Security group rules: what they match, and how EC2 writes it.

use std::fmt;
use std::ops::RangeInclusive;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::error::Ec2Error;
use crate::ids::GroupId;

/// Traffic that a group lets in (or out).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Which protocol.
    pub protocol: Protocol,
    /// Destination ports, for TCP and UDP; `None` is all of them.
    pub ports: Option<RangeInclusive<u16>>,
    /// From whom (or to whom).
    pub peer: Peer,
}

impl Rule {
    /// Everything, from or to `peer`.
    #[must_use]
    pub fn all(peer: Peer) -> Rule {
        Rule {
            protocol: Protocol::All,
            ports: None,
            peer,
        }
    }

    /// EC2's `fromPort` and `toPort`: ports, or the type and code of ICMP with -1 for all; `None` where they mean
    /// nothing.
    #[must_use]
    pub fn from_to(&self) -> Option<(i32, i32)> {
        match (self.protocol, &self.ports) {
            (Protocol::Tcp | Protocol::Udp, Some(ports)) => {
                Some((i32::from(*ports.start()), i32::from(*ports.end())))
            }
            (Protocol::Tcp | Protocol::Udp, None) => Some((0, i32::from(u16::MAX))),
            (Protocol::Icmp(messages) | Protocol::Icmpv6(messages), _) => {
                let (kind, code) = messages.type_and_code();
                Some((kind.map_or(-1, i32::from), code.map_or(-1, i32::from)))
            }
            (Protocol::All | Protocol::Number(_), _) => None,
        }
    }

    /// Whether EC2 takes the two for the same rule.
    #[must_use]
    pub fn is_same(&self, other: &Rule) -> bool {
        self.protocol == other.protocol
            && self.from_to() == other.from_to()
            && self.peer == other.peer
    }

    /// What EC2 says of a rule that a group has already.
    pub(crate) fn duplicate(&self) -> Ec2Error {
        let message = format!("the specified rule \"{self}\" already exists");
        Ec2Error::client("InvalidPermission.Duplicate", message)
    }
}

/// As EC2's errors write it: `peer: 0.0.0.0/0, TCP, from port: 22, to port: 22, ALLOW`.
impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "peer: {}, ", self.peer)?;
        match (self.protocol, self.from_to()) {
            (Protocol::All, _) => f.write_str("ALL")?,
            (Protocol::Icmp(messages) | Protocol::Icmpv6(messages), _) => {
                let (kind, code) = messages.type_and_code();
                let text = |value: Option<u8>| value.map_or("ALL".to_owned(), |v| v.to_string());
                let name = self.protocol.to_string().to_ascii_uppercase();
                write!(f, "{name}, type: {}, code: {}", text(kind), text(code))?;
            }
            (protocol, Some((from, to))) => {
                let name = protocol.to_string().to_ascii_uppercase();
                write!(f, "{name}, from port: {from}, to port: {to}")?;
            }
            (protocol, None) => write!(f, "{protocol}")?,
        }
        f.write_str(", ALLOW")
    }
}

/// What a rule matches by protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// Any; EC2 writes -1.
    All,
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// ICMP
    Icmp(Messages),
    /// ICMP of IPv6.
    Icmpv6(Messages),
    /// Another, by its IANA number.
    Number(u8),
}

/// As EC2's `ipProtocol`.
impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Protocol::All => f.write_str("-1"),
            Protocol::Tcp => f.write_str("tcp"),
            Protocol::Udp => f.write_str("udp"),
            Protocol::Icmp(_) => f.write_str("icmp"),
            Protocol::Icmpv6(_) => f.write_str("icmpv6"),
            Protocol::Number(number) => write!(f, "{number}"),
        }
    }
}

/// Which messages of ICMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Messages {
    /// All.
    All,
    /// All codes of a type.
    Type(u8),
    /// A type and a code.
    Code(u8, u8),
}

impl Messages {
    /// The type and the code, where they are told.
    #[must_use]
    pub fn type_and_code(self) -> (Option<u8>, Option<u8>) {
        match self {
            Messages::All => (None, None),
            Messages::Type(kind) => (Some(kind), None),
            Messages::Code(kind, code) => (Some(kind), Some(code)),
        }
    }
}

/// The other end of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Addresses.
    Cidr(Ipv4Net),
    /// IPv6 addresses.
    Cidr6(Ipv6Net),
    /// Every ENI that is in this group.
    Group(GroupId),
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Cidr(cidr) => cidr.fmt(f),
            Peer::Cidr6(cidr) => cidr.fmt(f),
            Peer::Group(group) => group.fmt(f),
        }
    }
}
