//! What must survive a restart: the content of the books.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::{
    AttachmentId, BooksVersion, ClientToken, EniFacts, EniId, Mac, Place, Pod, Sandbox,
    SecurityGroupId, SlotKind, SubnetId, Time,
};

/// What the pool must still know after a restart. The rest is EC2's to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Counts its changes.
    pub version: BooksVersion,
    /// The ENIs of this instance, and what is in their slots, as EC2 last told it.
    pub enis: Vec<EniEntry>,
    /// Who owns what, in order of the sandboxes. Shared with the pool: one that has not changed is the same.
    pub grants: Vec<Arc<GrantEntry>>,
    /// What is not to be given out yet.
    pub cooling: Vec<CoolingEntry>,
    /// ENIs that are being made, or are going; written before the call that makes or ends them.
    pub intents: Vec<EniIntent>,
    /// Slots that are being given back, or were of late; written before the call that gives them back.
    pub tombstones: Vec<Tombstone>,
    /// ENIs that were made for this instance may be left over: they are still to be looked for.
    #[serde(default)]
    pub orphans: bool,
    /// What the tags of the zone's subnets said; none where they were not asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnets: Option<SubnetsSeen>,
}

/// What one sandbox owns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantEntry {
    /// Whose it is.
    pub sandbox: Sandbox,
    /// The owner's pod, for people.
    pub pod: Pod,
    /// The conflist's name.
    pub network: String,
    /// `CNI_NETNS` of the ADD, for people.
    pub netns: String,
    /// Since when.
    pub since: Time,
    /// One for each family of the node.
    pub addresses: Vec<AddressEntry>,
}

/// One ENI, as EC2 last told it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EniEntry {
    /// Which.
    pub id: EniId,
    /// Where it is.
    pub place: Place,
    /// What never changes; none of an ENI that EC2 does not have (any more).
    pub link: Option<EniLink>,
    /// Whether pods may have its addresses.
    pub managed: bool,
    /// What it holds for pods: addresses as /32, and prefixes.
    pub slots: Vec<IpNet>,
    /// Its security groups; none where they are not known.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub groups: BTreeSet<SecurityGroupId>,
}

/// What of an ENI never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EniLink {
    /// Its link's MAC.
    pub mac: Mac,
    /// Its subnet.
    pub subnet_id: SubnetId,
    /// That subnet's CIDR.
    pub subnet_cidr: Ipv4Net,
    /// Its own address.
    pub primary_address: Ipv4Addr,
    /// Its attachment to this instance; none while it is not known.
    pub attachment: Option<AttachmentId>,
    /// Whether somebody else made it, so that it is never detached nor deleted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub borrowed: bool,
}

/// An address, and what held it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AddressEntry {
    /// The address.
    pub address: IpAddr,
    /// The slot that it is part of: itself, or a prefix.
    pub slot: IpNet,
    /// The ENI that held it: one of [`Ledger::enis`].
    pub eni: EniId,
}

/// What the tags of the zone's subnets said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SubnetsSeen {
    /// When.
    pub at: Time,
    /// Where new ENIs may be made, the best first.
    pub usable: Vec<SubnetId>,
    /// Of whose ENIs pods get no addresses.
    pub excluded: Vec<SubnetId>,
}

/// One address that cools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoolingEntry {
    /// Which.
    pub address: AddressEntry,
    /// Who held it last; none when that is not known (its books were lost).
    pub sandbox: Option<Sandbox>,
    /// The last holder's pod, for people.
    pub pod: Pod,
    /// Since when.
    pub since: Time,
    /// When it may be given out again.
    pub until: Time,
}

/// A slot that is being given back, or was of late: nobody gets an address of it, whatever an older view of EC2
/// says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tombstone {
    /// Which.
    pub slot: IpNet,
    /// Of which ENI.
    pub eni: EniId,
    /// When EC2 said that it is gone; none while that is not known.
    pub given_back: Option<Time>,
}

/// One ENI on its way from the wish to the attachment, or from there to its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EniIntent {
    /// The token of its CreateNetworkInterface; unique, so it names the intent, also of one that goes.
    pub token: ClientToken,
    /// Where it is made.
    pub subnet: SubnetId,
    /// Its security groups: a token is only good with the parameters that it was first sent with.
    pub groups: Vec<SecurityGroupId>,
    /// What of IPv4 it brings, and how many.
    pub ipv4: Option<(SlotKind, u32)>,
    /// How many IPv6 prefixes it brings.
    pub ipv6_prefixes: u32,
    /// Where it will be, is, or was.
    pub place: Place,
    /// How far it is.
    pub stage: IntentStage,
    /// Since when.
    pub since: Time,
}

/// How far an ENI is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntentStage {
    /// CreateNetworkInterface was or will be called. After a crash it is called again, with the same token.
    Create,
    /// It exists. AttachNetworkInterface was or will be called; after a crash a Describe settles which.
    Attach(EniId),
    /// It is attached, but does not go yet when the instance goes.
    DeleteOnTermination(EniId, AttachmentId),
    /// It goes: DetachNetworkInterface was or will be called; nobody has an address of it.
    Detach(EniId, AttachmentId),
    /// It is attached to nothing (any more) and is to be deleted.
    Delete(EniId),
}

impl From<&EniFacts> for EniLink {
    fn from(facts: &EniFacts) -> Self {
        Self {
            mac: facts.mac,
            subnet_id: facts.subnet_id.clone(),
            subnet_cidr: facts.subnet_cidr,
            primary_address: facts.primary_address,
            attachment: facts.attachment.as_ref().map(|it| it.id.clone()),
            borrowed: facts.borrowed,
        }
    }
}
