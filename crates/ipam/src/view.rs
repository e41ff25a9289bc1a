//! The pool as people and tools see it: plain data, a copy of one moment.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use crate::{EniId, Mac, Node, Pod, Sandbox, SubnetId, Targets, Time};

/// The whole pool at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolView {
    /// Where it lives and what bounds it.
    pub node: Node,
    /// How much it keeps.
    pub targets: Targets,
    /// Counts over all ENIs that are ours to use.
    pub totals: Totals,
    /// The primary first, then by device index.
    pub enis: Vec<EniView>,
    /// ADDs that wait, oldest first.
    pub waiters: Vec<WaiterView>,
    /// Calls that have not answered yet, and intents that a call will follow, oldest first.
    pub pending_calls: Vec<PendingCallView>,
}

/// Counts pod addresses by state; an ENI's own primary address is never one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// All that the node holds.
    pub held: u32,
    /// Ready for a pod.
    pub free: u32,
    /// Given to a pod.
    pub owned: u32,
    /// Given back, not yet to be given to another.
    pub cooling: u32,
    /// Held by EC2's word, but not yet routed on this node.
    pub preparing: u32,
    /// EC2 and the books disagree: given to nobody.
    pub quarantined: u32,
}

/// One ENI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniView {
    /// Which; none while it is being created.
    pub id: Option<EniId>,
    /// 0 is the primary.
    pub device_index: u32,
    /// Its link's MAC; none until EC2 has told it.
    pub mac: Option<Mac>,
    /// Its subnet; none when EC2 does not hold the ENI any more.
    pub subnet_id: Option<SubnetId>,
    /// That subnet's CIDR; none until EC2 has told it.
    pub subnet_cidr: Option<Ipv4Net>,
    /// Its own address; none until EC2 has told it.
    pub primary_address: Option<Ipv4Addr>,
    /// Where it is in its life.
    pub state: EniState,
    /// Since when.
    pub since: Time,
    /// Why it is not ready, for people; none when nothing went wrong.
    pub trouble: Option<String>,
    /// Its pod addresses, in order.
    pub addresses: Vec<AddressView>,
}

/// Where an ENI is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EniState {
    /// EC2 was asked to create it, or will be.
    Creating,
    /// It exists, and EC2 was asked to attach it.
    Attaching,
    /// Attached; its link is awaited and set up.
    SettingUp,
    /// Its addresses can be given to pods.
    Ready,
    /// Not ours to use.
    Unmanaged,
    /// Its link could not be set up (tried again), or EC2 says that it is gone from this instance.
    Failed,
}

/// One pod address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressView {
    /// The address.
    pub address: Ipv4Addr,
    /// Where it is in its life.
    pub state: AddressState,
    /// Since when.
    pub since: Time,
    /// When it may be given out again, when cooling.
    pub until: Option<Time>,
    /// Who holds it, when owned; who held it last, when cooling.
    pub owner: Option<Sandbox>,
    /// The owner's pod, for people.
    pub pod: Option<Pod>,
}

/// Where a pod address is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressState {
    /// EC2 says that the ENI holds it; its route is being made.
    Preparing,
    /// Ready for a pod.
    Free,
    /// Given to a pod.
    Owned,
    /// Given back; to be given to no other pod until it has cooled.
    Cooling,
    /// EC2 and the books disagree about it: given to nobody.
    Quarantined,
}

/// An ADD that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaiterView {
    /// Who.
    pub sandbox: Sandbox,
    /// The pod, for people.
    pub pod: Pod,
    /// Since when.
    pub since: Time,
    /// When it gives up.
    pub deadline: Time,
}

/// A call to EC2 under way, or one that will follow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingCallView {
    /// EC2's action.
    pub action: &'static str,
    /// The ENI that it is about; none for one that is yet to be created.
    pub eni: Option<EniId>,
    /// Since when.
    pub since: Time,
}
