//! Security group rules, as far as packets and DescribeSecurityGroups need them.

use std::ops::RangeInclusive;

use ipnet::Ipv4Net;

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
    /// ICMP, all types.
    Icmp,
}

impl Protocol {
    /// As EC2's `ipProtocol`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Protocol::All => "-1",
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Icmp => "icmp",
        }
    }
}

/// The other end of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// Addresses.
    Cidr(Ipv4Net),
    /// Every ENI that is in this group.
    Group(GroupId),
}
