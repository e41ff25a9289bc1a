//! What an account has: VPCs, subnets, groups, instances, ENIs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::ids::{AttachmentId, EniId, GroupId, InstanceId, SubnetId, VpcId};
use crate::instance_types::InstanceType;
use crate::security::Rule;
use crate::subnet::AddressPool;
use crate::time::SimTime;

/// Tags by key.
pub type Tags = BTreeMap<String, String>;

/// A VPC.
#[derive(Clone, Debug)]
pub struct Vpc {
    /// `vpc-...`
    pub id: VpcId,
    /// The first is the primary.
    pub cidrs: Vec<Ipv4Net>,
    /// The group that an ENI gets when none is named.
    pub default_group: GroupId,
    /// Tags.
    pub tags: Tags,
}

/// A subnet.
#[derive(Clone, Debug)]
pub struct Subnet {
    /// `subnet-...`
    pub id: SubnetId,
    /// The VPC it is part of.
    pub vpc: VpcId,
    /// Its availability zone.
    pub az: String,
    /// Its addresses, and which are taken.
    pub pool: AddressPool,
    /// Tags.
    pub tags: Tags,
}

/// A security group.
#[derive(Clone, Debug)]
pub struct Group {
    /// `sg-...`
    pub id: GroupId,
    /// Its name, unique in the VPC.
    pub name: String,
    /// The VPC it belongs to.
    pub vpc: VpcId,
    /// What may come in.
    pub ingress: Vec<Rule>,
    /// What may go out.
    pub egress: Vec<Rule>,
    /// Tags.
    pub tags: Tags,
}

/// An instance.
#[derive(Clone, Debug)]
pub struct Instance {
    /// `i-...`
    pub id: InstanceId,
    /// Its type, with the limits that follow from it.
    pub kind: &'static InstanceType,
    /// Where its primary ENI is.
    pub subnet: SubnetId,
    /// Its availability zone.
    pub az: String,
    /// Its state.
    pub state: InstanceState,
    /// When it was launched.
    pub launched_at: SimTime,
    /// The IAM role whose credentials its IMDS gives out.
    pub role: Option<String>,
    /// The access key in those credentials: a request signed with it comes from this instance.
    pub access_key: String,
    /// What is attached to it, in any state of attachment.
    pub enis: BTreeSet<EniId>,
    /// How its metadata service answers.
    pub imds: ImdsOptions,
    /// Tags.
    pub tags: Tags,
}

/// An instance's metadata options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImdsOptions {
    /// `HttpEndpoint`: disabled answers 403.
    pub enabled: bool,
    /// `HttpTokens: optional`: requests without a token are answered.
    pub v1_allowed: bool,
}

impl Default for ImdsOptions {
    fn default() -> ImdsOptions {
        ImdsOptions {
            enabled: true,
            v1_allowed: false,
        }
    }
}

/// Where an instance is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InstanceState {
    /// Launched, not there yet.
    Pending,
    /// There.
    Running,
    /// Going.
    ShuttingDown,
    /// Gone; Describe shows it still.
    Terminated,
}

impl InstanceState {
    /// EC2's code and name.
    #[must_use]
    pub fn code_and_name(self) -> (u8, &'static str) {
        match self {
            InstanceState::Pending => (0, "pending"),
            InstanceState::Running => (16, "running"),
            InstanceState::ShuttingDown => (32, "shutting-down"),
            InstanceState::Terminated => (48, "terminated"),
        }
    }
}

/// An ENI.
#[derive(Clone, Debug)]
pub struct Eni {
    /// `eni-...`
    pub id: EniId,
    /// The subnet it is in, and with that the zone.
    pub subnet: SubnetId,
    /// The VPC it is in.
    pub vpc: VpcId,
    /// Its availability zone.
    pub az: String,
    /// Its MAC address.
    pub mac: [u8; 6],
    /// What its maker wrote.
    pub description: String,
    /// Whether EC2 is still making it.
    pub pending: bool,
    /// The address that can't be taken away.
    pub primary: Ipv4Addr,
    /// Other single addresses, in the order they came.
    pub secondary: Vec<Ipv4Addr>,
    /// Delegated /28s, in the order they came.
    pub prefixes: Vec<Ipv4Net>,
    /// Its security groups; at least one.
    pub groups: Vec<GroupId>,
    /// What it is attached to.
    pub attachment: Option<Attachment>,
    /// Whether what it sends and gets must be from and to an address of its own.
    pub source_dest_check: bool,
    /// The public address that maps to the primary one.
    pub public_address: Option<Ipv4Addr>,
    /// Tags.
    pub tags: Tags,
}

impl Eni {
    /// All single addresses, the primary first.
    pub fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        std::iter::once(self.primary).chain(self.secondary.iter().copied())
    }

    /// How many of the type's IPv4 slots it takes: one for each address and one for each prefix.
    #[must_use]
    pub fn slots(&self) -> usize {
        1 + self.secondary.len() + self.prefixes.len()
    }

    /// EC2's `status`.
    #[must_use]
    pub fn status(&self) -> &'static str {
        match &self.attachment {
            Some(_) => "in-use",
            None if self.pending => "pending",
            None => "available",
        }
    }

    /// The MAC address as EC2 and IMDS write it.
    #[must_use]
    pub fn mac_text(&self) -> String {
        let [a, b, c, d, e, f] = self.mac;
        format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }

    /// The name that the VPC's DNS has for an address.
    #[must_use]
    pub fn dns_name(address: Ipv4Addr, region: &str) -> String {
        let [a, b, c, d] = address.octets();
        if region == "us-east-1" {
            format!("ip-{a}-{b}-{c}-{d}.ec2.internal")
        } else {
            format!("ip-{a}-{b}-{c}-{d}.{region}.compute.internal")
        }
    }
}

/// An ENI on an instance.
#[derive(Clone, Debug)]
pub struct Attachment {
    /// `eni-attach-...`
    pub id: AttachmentId,
    /// The instance.
    pub instance: InstanceId,
    /// Unique on its network card.
    pub device_index: u32,
    /// The network card.
    pub card: u32,
    /// How far it is.
    pub status: AttachmentStatus,
    /// When attaching began.
    pub since: SimTime,
    /// Whether the ENI goes with the instance.
    pub delete_on_termination: bool,
}

/// How far an attachment is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttachmentStatus {
    /// Asked for.
    Attaching,
    /// There.
    Attached,
    /// Asked to go.
    Detaching,
}

impl AttachmentStatus {
    /// EC2's name for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            AttachmentStatus::Attaching => "attaching",
            AttachmentStatus::Attached => "attached",
            AttachmentStatus::Detaching => "detaching",
        }
    }
}
