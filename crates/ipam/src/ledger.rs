//! What must survive a restart: the content of the books.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use crate::{
    AttachmentId, BooksVersion, ClientToken, EniId, Pod, Sandbox, SecurityGroupId, SubnetId, Time,
};

/// What the pool must still know after a restart. The rest is EC2's to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ledger {
    /// Counts its changes.
    pub version: BooksVersion,
    /// Who owns what.
    pub grants: Vec<GrantEntry>,
    /// What is not to be given out yet.
    pub cooling: Vec<CoolingEntry>,
    /// ENIs that are being made; written before the call that makes them.
    pub intents: Vec<EniIntent>,
}

/// One owned address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GrantEntry {
    /// The address.
    pub address: Ipv4Addr,
    /// The ENI that held it when it was granted.
    pub eni: EniId,
    /// That ENI's device index.
    pub device_index: u32,
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
}

/// One address that cools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CoolingEntry {
    /// The address.
    pub address: Ipv4Addr,
    /// The ENI that held it.
    pub eni: EniId,
    /// Who held it last.
    pub sandbox: Sandbox,
    /// The last holder's pod, for people.
    pub pod: Pod,
    /// Since when.
    pub since: Time,
    /// When it may be given out again.
    pub until: Time,
}

/// One ENI on its way from the wish to the attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EniIntent {
    /// The token of its CreateNetworkInterface; unique, so it names the intent.
    pub token: ClientToken,
    /// Where it is made.
    pub subnet: SubnetId,
    /// Its security groups: a token is only good with the parameters that it was first sent with.
    pub groups: Vec<SecurityGroupId>,
    /// Secondary addresses asked for.
    pub addresses: u32,
    /// The device index that it will take.
    pub device_index: u32,
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
    /// It can't be attached and is to be deleted.
    Delete(EniId),
}
