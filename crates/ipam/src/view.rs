//! The pool as people and tools see it: plain data, a copy of one moment.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use crate::{EniId, Mac, Mode, Node, Place, Pod, Sandbox, Settings, SubnetId, Time};

/// The whole pool at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolView {
    /// Where it lives and what bounds it.
    pub node: Node,
    /// What its user wants of it.
    pub settings: Settings,
    /// How much of EC2 is asked for now.
    pub mode: Mode,
    /// IPv4, over all ENIs.
    pub ipv4: Totals,
    /// IPv6, over all ENIs.
    pub ipv6: Totals,
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
    /// All that the node holds; a /80 brings 2^48.
    pub held: u64,
    /// Ready for a pod.
    pub free: u64,
    /// Given to a pod.
    pub owned: u64,
    /// Given back, not yet to be given to another.
    pub cooling: u64,
    /// Held by EC2's word, but not yet routed on this node.
    pub preparing: u64,
    /// EC2 and the books disagree: given to nobody.
    pub quarantined: u64,
    /// To be given back to EC2.
    pub leaving: u64,
}

/// One ENI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniView {
    /// Which; none while it is being created.
    pub id: Option<EniId>,
    /// Where it is, or will be.
    pub place: Place,
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
    /// What its slots hold, in order: addresses as /32, and prefixes.
    pub slots: Vec<SlotView>,
    /// Its pod addresses, in order: single ones, and those of prefixes that somebody has or had of late.
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
    /// It is given back: nobody has anything of it.
    Draining,
    /// Not ours to use.
    Unmanaged,
    /// Its link could not be set up (tried again), or EC2 says that it is gone from this instance.
    Failed,
}

/// What one slot of an ENI holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotView {
    /// The address as /32, or the prefix.
    pub slot: IpNet,
    /// The state of its addresses that nobody has or had of late; of a single address that somebody has, its state.
    pub state: AddressState,
    /// How many of its addresses somebody has or had of late.
    pub claimed: u64,
    /// Since when it is there, or since when nobody has anything of it.
    pub since: Time,
}

/// One pod address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressView {
    /// The address.
    pub address: IpAddr,
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
    /// The prefix that it belongs to; none for a single address.
    pub prefix: Option<IpNet>,
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
    /// To be given back to EC2: given to nobody.
    Leaving,
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
