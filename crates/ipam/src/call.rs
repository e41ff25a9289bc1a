//! What the pool asks of EC2, and what EC2 answers.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::{AttachmentId, ClientToken, EniId, Mac, SecurityGroupId, SubnetId};

/// A call to EC2. The shell adds what is the same for all (tags, description, the instance).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// DescribeNetworkInterfaces, filtered to those attached to this instance.
    DescribeEnis,
    /// CreateNetworkInterface, with `addresses` secondary addresses and our tags.
    CreateEni {
        /// Makes the call safe to repeat.
        token: ClientToken,
        /// Where.
        subnet: SubnetId,
        /// The security groups.
        groups: Vec<SecurityGroupId>,
        /// How many secondary addresses.
        addresses: u32,
    },
    /// AttachNetworkInterface to this instance. Carries no token: an unknown outcome is settled by a
    /// Describe.
    AttachEni {
        /// What.
        eni: EniId,
        /// Where.
        device_index: u32,
    },
    /// ModifyNetworkInterfaceAttribute: the ENI goes when its instance goes.
    DeleteOnTermination {
        /// What.
        eni: EniId,
        /// Its attachment to this instance.
        attachment: AttachmentId,
    },
    /// AssignPrivateIpAddresses by count. Carries no token: an unknown outcome is settled by a Describe.
    AssignAddresses {
        /// To what.
        eni: EniId,
        /// How many.
        count: u32,
    },
    /// DeleteNetworkInterface, of one that was created and cannot be attached.
    DeleteEni {
        /// What.
        eni: EniId,
    },
}

impl Call {
    /// EC2's name for it.
    #[must_use]
    pub fn action(&self) -> &'static str {
        match self {
            Self::DescribeEnis => "DescribeNetworkInterfaces",
            Self::CreateEni { .. } => "CreateNetworkInterface",
            Self::AttachEni { .. } => "AttachNetworkInterface",
            Self::DeleteOnTermination { .. } => "ModifyNetworkInterfaceAttribute",
            Self::AssignAddresses { .. } => "AssignPrivateIpAddresses",
            Self::DeleteEni { .. } => "DeleteNetworkInterface",
        }
    }

    /// The ENI that it is about, where there is one already.
    #[must_use]
    pub fn eni(&self) -> Option<&EniId> {
        match self {
            Self::DescribeEnis | Self::CreateEni { .. } => None,
            Self::AttachEni { eni, .. }
            | Self::DeleteOnTermination { eni, .. }
            | Self::AssignAddresses { eni, .. }
            | Self::DeleteEni { eni } => Some(eni),
        }
    }
}

/// What a [`Call`] gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallReply {
    /// Of `DescribeEnis`: all that are attached to this instance.
    Enis(Vec<EniFacts>),
    /// Of `CreateEni`.
    Created(EniFacts),
    /// Of `AttachEni`.
    Attached(AttachmentId),
    /// Of `AssignAddresses`: the new ones alone.
    Assigned(Vec<Ipv4Addr>),
    /// Of the others.
    Done,
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
    /// Its secondary addresses.
    pub secondary_addresses: Vec<Ipv4Addr>,
    /// Its security groups.
    pub security_groups: Vec<SecurityGroupId>,
    /// Whether pods may have its addresses: false when it is tagged `node.k8s.amazonaws.com/no_manage`, is
    /// of a type that is not for pods (trunk, EFA), or was neither made by us nor is the primary.
    pub managed: bool,
    /// Its attachment; none when it is not attached, or is being detached.
    pub attachment: Option<Attachment>,
}

/// An ENI's attachment to this instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// Which.
    pub id: AttachmentId,
    /// 0 is the primary ENI.
    pub device_index: u32,
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
    /// Nothing happened: the instance has all the ENIs that it may have.
    EniLimit,
    /// Nothing happened: the ENI has all the addresses that it may have.
    AddressLimit,
    /// Nothing happened: what was named is not there (or not to be seen yet).
    NotFound,
    /// Nothing happened: what was named is attached elsewhere, or the device index is taken.
    InUse,
    /// Nothing happened: credentials or permissions.
    Refused,
    /// Nothing happened: EC2 was not reached, or said that it is unavailable.
    Unavailable,
    /// Nobody knows whether it happened (a time-out, a connection reset, a 5xx).
    Unknown,
    /// Nothing happened, for a reason that only people understand.
    Other,
}
