//! What to ask of EC2 next: functions from facts to actions.
//!
//! A plan is computed whole, in one round, and is a fixpoint: with what it planned counted as on its way, it plans
//! nothing more. It knows no time and keeps nothing; whether a refusal of EC2 still holds is a fact like the others
//! ([`Gate`]). All counts are derived from what is held.

mod facts;
mod giving_back;
mod growth;
mod targets;

use std::collections::{BTreeMap, BTreeSet};

pub use self::giving_back::shrink;
pub use self::growth::grow;
pub(crate) use self::growth::is_content;
use crate::{EniId, Mode, Place, SecurityGroupId, SlotKind, SubnetId};

/// All that a plan depends on, besides the settings and the limits of the instance type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Sandboxes that wait: each wants an address of each family of the node.
    pub waiters: u32,
    /// Pods that are bound to the node and have not been added yet, those that wait included or not: the larger of
    /// the two counts.
    pub bound: u32,
    /// The node drains, or may not be scheduled to.
    pub draining: bool,
    /// How much of EC2 is asked for.
    pub mode: Mode,
    /// IPv4 over all ENIs, with what is on its way.
    pub ipv4: Stock,
    /// IPv6, likewise.
    pub ipv6: Stock,
    /// Our ENIs that are there, by place. Those that drain are not here, but in `taken`.
    pub enis: Vec<EniStock>,
    /// ENIs that are being made: what they still have room for when they are there, beyond what they bring.
    pub coming: Vec<ComingEni>,
    /// How many ENIs each card has or gets, by its index: ours, those of others, those that drain.
    pub enis_per_card: BTreeMap<u32, u32>,
    /// Places that are taken or promised.
    pub taken: BTreeSet<Place>,
    /// Where a new ENI may be made, the first that has room first.
    pub subnets: Vec<SubnetGates>,
    /// Whether a new ENI can be made now, wherever.
    pub new_eni: Gate,
}

/// Addresses of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// What serves who waits: free, being prepared, or asked for and on the way. Cooling addresses are not supply.
    pub supply: u32,
    /// All that is held or on the way, whoever has it; without what leaves.
    pub addresses: u32,
    /// Given to pods.
    pub owned: u32,
    /// Given back of late.
    pub cooling: u32,
    /// Prefixes held or on the way.
    pub prefixes: u32,
    /// Of these, prefixes that nobody has anything of.
    pub empty_prefixes: u32,
}

/// What one of our ENIs has, and can still take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EniStock {
    /// Which.
    pub eni: EniId,
    /// Where.
    pub place: Place,
    /// IPv4 slots for pods that are not taken nor asked for.
    pub ipv4_room: u32,
    /// IPv6 slots, likewise.
    pub ipv6_room: u32,
    /// Whether it can be asked to take single addresses now.
    pub addresses: Gate,
    /// Whether it can be asked to take /28s now.
    pub prefixes: Gate,
    /// Whether it can be asked to take /80s now.
    pub ipv6_prefixes: Gate,
    /// What it holds of IPv4.
    pub ipv4: Stock,
    /// What it holds of IPv6.
    pub ipv6: Stock,
    /// IPv4 slots that nobody has anything of and that do not leave: addresses and prefixes.
    pub empty_slots: u32,
    /// Whether it may be drained and deleted: ours, not the primary, old enough, in good order.
    pub may_go: bool,
}

/// An ENI that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ComingEni {
    /// IPv4 slots for pods that it will have left.
    pub ipv4_room: u32,
    /// IPv6 slots that it will have left.
    pub ipv6_room: u32,
}

/// A subnet for new ENIs, and whether it is said to have room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubnetGates {
    /// Which.
    pub subnet: SubnetId,
    /// The security groups of ENIs there.
    pub groups: Vec<SecurityGroupId>,
    /// For single addresses; without one, no ENI can be made.
    pub addresses: Gate,
    /// For /28s.
    pub prefixes: Gate,
    /// For /80s.
    pub ipv6_prefixes: Gate,
}

/// Whether EC2 can be asked for something now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    #[default]
    Open,
    /// Not now, but soon: a call is under way, or a passing error is waited out. It is worth waiting for.
    Busy,
    /// EC2 has refused, or the ENI does not work; asked again later, but not worth waiting for.
    Closed,
}

/// One thing to ask of EC2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// More on an ENI that is there.
    Assign {
        /// Which.
        eni: EniId,
        /// What.
        kind: SlotKind,
        /// How many; at least 1.
        count: u32,
    },
    /// A new ENI.
    Create {
        /// Where it is made.
        subnet: SubnetId,
        /// Its security groups.
        groups: Vec<SecurityGroupId>,
        /// The lowest place that is not taken.
        place: Place,
        /// What of IPv4 it brings, and how many; at least 1 when there is any.
        ipv4: Option<(SlotKind, u32)>,
        /// How many IPv6 prefixes it brings.
        ipv6_prefixes: u32,
    },
    /// Give back slots of an ENI that nobody has anything of.
    Unassign {
        /// Which.
        eni: EniId,
        /// What.
        kind: SlotKind,
        /// How many at the most; at least 1.
        count: u32,
    },
    /// Detach and delete an ENI that nobody has anything of.
    Drain {
        /// Which.
        eni: EniId,
    },
}

impl Gate {
    /// Both must let through.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Closed, _) | (_, Self::Closed) => Self::Closed,
            (Self::Busy, _) | (_, Self::Busy) => Self::Busy,
            (Self::Open, Self::Open) => Self::Open,
        }
    }
}

#[cfg(test)]
mod tests;
