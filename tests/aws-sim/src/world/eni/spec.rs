//! What can be asked of an ENI.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

use crate::ids::{GroupId, SubnetId};
use crate::world::Tags;

/// EC2's `InterfaceType`, as far as callers can ask for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EniKind {
    /// The usual one.
    #[default]
    Interface,
    /// With an Elastic Fabric Adapter beside the network device.
    Efa,
    /// An Elastic Fabric Adapter and no network device: it has no address.
    EfaOnly,
    /// One that branches hang on.
    Trunk,
    /// One that hangs on a trunk.
    Branch,
}

impl EniKind {
    /// All of them.
    pub const ALL: [EniKind; 5] = [
        EniKind::Interface,
        EniKind::Efa,
        EniKind::EfaOnly,
        EniKind::Trunk,
        EniKind::Branch,
    ];

    /// EC2's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            EniKind::Interface => "interface",
            EniKind::Efa => "efa",
            EniKind::EfaOnly => "efa-only",
            EniKind::Trunk => "trunk",
            EniKind::Branch => "branch",
        }
    }
}

/// EC2's `ConnectionTrackingSpecification`, in seconds; `None` is EC2's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ConnectionTracking {
    /// 60 to 432,000.
    pub tcp_established: Option<u32>,
    /// 60 to 180.
    pub udp_stream: Option<u32>,
    /// 30 to 60.
    pub udp: Option<u32>,
}

/// EC2's `EnaSrdSpecification`: ENA Express.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnaSrd {
    /// For TCP.
    pub enabled: bool,
    /// For UDP too.
    pub udp: bool,
}

/// What to add to an ENI of one family: `A` is an address, `P` a prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask<A, P> {
    /// These.
    Addresses(Vec<A>),
    /// Any, so many.
    AddressCount(usize),
    /// These.
    Prefixes(Vec<P>),
    /// Any, so many.
    PrefixCount(usize),
}

impl<A, P> Default for Ask<A, P> {
    /// Nothing.
    fn default() -> Self {
        Ask::Addresses(Vec::new())
    }
}

impl<A, P> Ask<A, P> {
    /// How many slots of an ENI this takes.
    #[must_use]
    pub fn slots(&self) -> usize {
        match self {
            Ask::Addresses(addresses) => addresses.len(),
            Ask::Prefixes(prefixes) => prefixes.len(),
            Ask::AddressCount(count) | Ask::PrefixCount(count) => *count,
        }
    }

    /// Whether it is about prefixes.
    #[must_use]
    pub fn is_prefixes(&self) -> bool {
        matches!(self, Ask::Prefixes(_) | Ask::PrefixCount(_))
    }
}

/// An ENI to make.
#[derive(Clone, Debug)]
pub struct EniSpec {
    /// Where.
    pub subnet: SubnetId,
    /// Its security groups; empty is the VPC's default group.
    pub groups: Vec<GroupId>,
    /// Its primary address; `None` is any.
    pub primary: Option<Ipv4Addr>,
    /// What it holds besides the primary address.
    pub ipv4: Ask<Ipv4Addr, Ipv4Net>,
    /// What it holds of IPv6.
    pub ipv6: Ask<Ipv6Addr, Ipv6Net>,
    /// Whether its first IPv6 address can't be taken away.
    pub primary_ipv6: bool,
    /// What it is for.
    pub kind: EniKind,
    /// What its maker writes.
    pub description: String,
    /// For how long idle connections are remembered.
    pub connection_tracking: ConnectionTracking,
    /// Tags.
    pub tags: Tags,
}

impl EniSpec {
    /// With a primary address and nothing else, in the VPC's default group.
    #[must_use]
    pub fn new(subnet: &SubnetId) -> EniSpec {
        EniSpec {
            subnet: subnet.clone(),
            groups: Vec::new(),
            primary: None,
            ipv4: Ask::default(),
            ipv6: Ask::default(),
            primary_ipv6: false,
            kind: EniKind::default(),
            description: String::new(),
            connection_tracking: ConnectionTracking::default(),
            tags: Tags::new(),
        }
    }
}
