//! What the pool asks of EC2, and what EC2 answers.

use std::collections::BTreeMap;
use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::{
    AttachmentId, ClientToken, EniId, Family, InstanceId, Mac, SecurityGroupId, SubnetId, VpcId,
};

/// What an attachment slot of an ENI holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SlotKind {
    /// One IPv4 address.
    Address,
    /// An IPv4 /28.
    Prefix,
    /// An IPv6 /80.
    Ipv6Prefix,
}

/// A call to EC2. The shell adds what is the same for all (tags, description, the instance).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// DescribeNetworkInterfaces, filtered to those attached to this instance.
    DescribeEnis,
    /// DescribeNetworkInterfaces, of those that carry tags of ours; of other instances', those that are attached to nothing.
    DescribeOrphans(Whose),
    /// DescribeSubnets, filtered to this instance's VPC and zone.
    DescribeSubnets,
    /// CreateNetworkInterface, with our tags, and slots beside its own address.
    CreateEni {
        /// Makes the call safe to repeat.
        token: ClientToken,
        /// Where.
        subnet: SubnetId,
        /// The security groups.
        groups: Vec<SecurityGroupId>,
        /// What of IPv4, and how many; EC2 takes addresses or prefixes, not both.
        ipv4: Option<(SlotKind, u32)>,
        /// How many IPv6 prefixes.
        ipv6_prefixes: u32,
    },
    /// AttachNetworkInterface to this instance. Carries no token: an unknown outcome is settled by a
    /// Describe.
    AttachEni {
        /// What.
        eni: EniId,
        /// Where.
        place: Place,
    },
    /// ModifyNetworkInterfaceAttribute: the ENI goes when its instance goes.
    DeleteOnTermination {
        /// What.
        eni: EniId,
        /// Its attachment to this instance.
        attachment: AttachmentId,
    },
    /// ModifyNetworkInterfaceAttribute: the ENI has these security groups and no others. Repeating it changes nothing.
    SetGroups {
        /// What.
        eni: EniId,
        /// Its groups from now on; never none.
        groups: Vec<SecurityGroupId>,
    },
    /// AssignPrivateIpAddresses or AssignIpv6Addresses, by count. Carries no token: an unknown outcome is settled
    /// by a Describe.
    Assign {
        /// To what.
        eni: EniId,
        /// What.
        kind: SlotKind,
        /// How many.
        count: u32,
    },
    /// UnassignPrivateIpAddresses or UnassignIpv6Addresses. Carries no token: repeating it says that they are not
    /// assigned, and a Describe settles it.
    Unassign {
        /// From what.
        eni: EniId,
        /// All of one family: addresses as /32, and prefixes.
        slots: Vec<IpNet>,
    },
    /// DetachNetworkInterface.
    DetachEni {
        /// What.
        eni: EniId,
        /// Its attachment to this instance.
        attachment: AttachmentId,
    },
    /// DeleteNetworkInterface, of one that is attached to nothing.
    DeleteEni {
        /// What.
        eni: EniId,
    },
    /// DeleteNetworkInterface, of one that nobody else will delete.
    DeleteOrphan {
        /// What.
        eni: EniId,
    },
}

/// Whose ENIs are looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whose {
    /// Those that were made for this instance.
    Instance,
    /// Those of the whole cluster ([`Sweep::Cluster`](crate::Sweep::Cluster)).
    Cluster,
}

/// Where on an instance an ENI is. 0 on card 0 is the primary ENI.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Place {
    /// The network card.
    pub card: u32,
    /// Unique on its card.
    pub device_index: u32,
}

impl Place {
    /// The primary ENI's.
    pub const PRIMARY: Self = Self {
        card: 0,
        device_index: 0,
    };
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.card {
            0 => write!(f, "device index {}", self.device_index),
            card => write!(f, "device index {} of card {card}", self.device_index),
        }
    }
}

impl Call {
    /// EC2's name for it.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::DescribeEnis | Self::DescribeOrphans(_) => "DescribeNetworkInterfaces",
            Self::DescribeSubnets => "DescribeSubnets",
            Self::CreateEni { .. } => "CreateNetworkInterface",
            Self::AttachEni { .. } => "AttachNetworkInterface",
            Self::DeleteOnTermination { .. } | Self::SetGroups { .. } => {
                "ModifyNetworkInterfaceAttribute"
            }
            Self::Assign {
                kind: SlotKind::Ipv6Prefix,
                ..
            } => "AssignIpv6Addresses",
            Self::Assign { .. } => "AssignPrivateIpAddresses",
            Self::Unassign { slots, .. } => match slots.first() {
                Some(IpNet::V6(_)) => "UnassignIpv6Addresses",
                Some(IpNet::V4(_)) | None => "UnassignPrivateIpAddresses",
            },
            Self::DetachEni { .. } => "DetachNetworkInterface",
            Self::DeleteEni { .. } | Self::DeleteOrphan { .. } => "DeleteNetworkInterface",
        }
    }

    /// Whether it changes anything.
    #[must_use]
    pub fn changes(&self) -> bool {
        !matches!(
            self,
            Self::DescribeEnis | Self::DescribeOrphans(_) | Self::DescribeSubnets
        )
    }

    /// The ENI that it is about, where there is one already.
    #[must_use]
    pub fn eni(&self) -> Option<&EniId> {
        match self {
            Self::DescribeEnis
            | Self::DescribeOrphans(_)
            | Self::DescribeSubnets
            | Self::CreateEni { .. } => None,
            Self::AttachEni { eni, .. }
            | Self::DeleteOnTermination { eni, .. }
            | Self::SetGroups { eni, .. }
            | Self::Assign { eni, .. }
            | Self::Unassign { eni, .. }
            | Self::DetachEni { eni, .. }
            | Self::DeleteEni { eni }
            | Self::DeleteOrphan { eni } => Some(eni),
        }
    }

    /// Whether it tidies up what was left over, here or elsewhere: the pool itself neither gains nor loses by it.
    #[must_use]
    pub fn sweeps(&self) -> bool {
        matches!(self, Self::DescribeOrphans(_) | Self::DeleteOrphan { .. })
    }
}

impl SlotKind {
    /// Of a slot's network, as EC2 has it.
    #[must_use]
    pub fn of(slot: &IpNet) -> Self {
        match slot {
            IpNet::V6(_) => Self::Ipv6Prefix,
            IpNet::V4(net) if net.prefix_len() == 32 => Self::Address,
            IpNet::V4(_) => Self::Prefix,
        }
    }

    /// Its family.
    #[must_use]
    pub fn family(self) -> Family {
        match self {
            Self::Address | Self::Prefix => Family::V4,
            Self::Ipv6Prefix => Family::V6,
        }
    }

    /// How many addresses for pods it brings; as many as there are numbers for a /80.
    #[must_use]
    pub fn addresses(self) -> u32 {
        match self {
            Self::Address => 1,
            Self::Prefix => 16,
            Self::Ipv6Prefix => u32::MAX,
        }
    }
}

/// What a [`Call`] gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallReply {
    /// Of `DescribeEnis`: all that are attached to this instance.
    Enis(Vec<EniFacts>),
    /// Of `DescribeOrphans`: all that EC2 shows.
    Orphans(Vec<LooseEni>),
    /// Of `DescribeSubnets`: those with IPv4 addresses.
    Subnets(Vec<SubnetFacts>),
    /// Of `CreateEni`.
    Created(EniFacts),
    /// Of `AttachEni`.
    Attached(AttachmentId),
    /// Of `Assign`: the new ones alone; addresses as /32.
    Assigned(Vec<IpNet>),
    /// Of the others.
    Done,
}

/// A subnet as EC2 tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetFacts {
    /// Which.
    pub id: SubnetId,
    /// Addresses that nobody has.
    pub free: u32,
    /// By their keys.
    pub tags: BTreeMap<String, String>,
}

/// An ENI as EC2 tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniFacts {
    /// Which.
    pub id: EniId,
    /// Its link's MAC.
    pub mac: Mac,
    /// Its subnet.
    pub subnet_id: SubnetId,
    /// That subnet's CIDR.
    pub subnet_cidr: Ipv4Net,
    /// Its own address.
    pub primary_address: Ipv4Addr,
    /// What it holds besides: secondary addresses as /32, /28 and /80 prefixes. IPv6 addresses of its own are not
    /// for pods, and not here.
    pub slots: Vec<IpNet>,
    /// Its security groups.
    pub security_groups: Vec<SecurityGroupId>,
    /// Whether pods may have its addresses: false when it is tagged `node.k8s.amazonaws.com/no_manage`, is
    /// of a type that is not for pods (trunk, EFA), or was neither made by us nor is the primary.
    pub managed: bool,
    /// Whether somebody else made it, and pods may have its addresses all the same: it is never detached nor deleted.
    pub borrowed: bool,
    /// Its attachment; none when it is not attached, or is being detached.
    pub attachment: Option<Attachment>,
}

impl EniFacts {
    /// Whether it is ours to change and to end, and not only to use.
    pub(crate) fn is_ours(&self) -> bool {
        self.managed && !self.borrowed
    }
}

/// An ENI that may be attached to nothing, as EC2 tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LooseEni {
    /// Which.
    pub id: EniId,
    /// Its VPC.
    pub vpc_id: VpcId,
    /// Whether EC2 says `available`, and no attachment.
    pub available: bool,
    /// Whether it is being made or detached, and so will be available.
    pub going: bool,
    /// Its description.
    pub description: String,
    /// `node.k8s.amazonaws.com/instance_id`: the instance that it was made for.
    pub instance: Option<InstanceId>,
    /// `cluster.k8s.amazonaws.com/name`.
    pub cluster: Option<String>,
    /// `eks:eni:owner`.
    pub owner: Option<String>,
    /// `weir/client-token`: the token that it was made with.
    pub token: Option<ClientToken>,
    /// Whether it is tagged `node.k8s.amazonaws.com/no_manage`, with anything but `false`.
    pub no_manage: bool,
    /// How long ago it was made, by `node.k8s.amazonaws.com/createdAt`; none when that is missing, makes no sense, or is
    /// yet to come.
    pub age: Option<Duration>,
}

/// An ENI's attachment to this instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Which.
    pub id: AttachmentId,
    /// Where.
    pub place: Place,
    /// Whether EC2 says `attached` (else it is still `attaching`).
    pub complete: bool,
    /// Whether the ENI goes when its instance goes.
    pub delete_on_termination: bool,
}

/// Why a [`Call`] failed: what the pool must know to go on, and EC2's own words for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{action}: {code}: {message} (request id {})", request_id.as_deref().unwrap_or("none"))]
pub struct CallError {
    /// What the pool must know.
    pub kind: CallErrorKind,
    /// The action that failed.
    pub action: &'static str,
    /// EC2's error code; our own word for what has none (`Timeout`, `Connection`, `Credentials`).
    pub code: String,
    /// EC2's message in full.
    pub message: String,
    /// EC2's request id, for AWS support.
    pub request_id: Option<String>,
}

/// What a failed call means for the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CallErrorKind {
    /// Nothing happened; ask more slowly.
    Throttled,
    /// Nothing happened: the subnet has no free address.
    SubnetExhausted,
    /// Nothing happened: the subnet has no whole /28 (or /80) that is free, though it may have addresses.
    PrefixesExhausted,
    /// Nothing happened: the instance has all the ENIs that it may have.
    EniLimit,
    /// Nothing happened: the ENI has all the addresses that it may have.
    AddressLimit,
    /// Nothing happened: what was named is not there (or not to be seen yet).
    NotFound,
    /// Nothing happened: what was named is attached elsewhere, the device index is taken, or the client token was used
    /// before.
    InUse,
    /// Nothing happened: the instance does not run yet, or not any more, as EC2 has it.
    InstanceNotReady,
    /// Nothing happened: credentials or permissions.
    Refused,
    /// Nothing happened: EC2 was not reached, or said that it is unavailable.
    Unavailable,
    /// Nobody knows whether it happened (a time-out, a connection reset, a 5xx).
    Unknown,
    /// Nothing happened, for a reason that only people understand.
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_names_its_card_where_there_is_more_than_one() {
        let place = |card, device_index| Place { card, device_index }.to_string();
        assert_eq!(place(0, 2), "device index 2");
        assert_eq!(place(1, 3), "device index 3 of card 1");
    }
}
