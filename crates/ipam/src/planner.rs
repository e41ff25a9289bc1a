//! What to ask of EC2 next: a function from facts to actions.
//!
//! It is computed whole, in one round, and it is a fixpoint: with what it planned counted as on its way,
//! it plans nothing more. It knows no time and keeps nothing; whether a refusal of EC2 still holds is a
//! fact like the others ([`Gate`]).

use std::collections::BTreeSet;

use crate::{EniId, SubnetId};

/// All that a plan depends on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Sandboxes that wait for an address.
    pub waiters: u32,
    /// `WARM_IP_TARGET`: addresses to keep free beyond what waits.
    pub warm_ip: u32,
    /// `MINIMUM_IP_TARGET`: addresses to hold at the least.
    pub minimum_ip: u32,
    /// What serves waiters: free, preparing, or asked for and on the way. Cooling addresses are not supply.
    pub supply: u32,
    /// All that is held or on the way, whoever has it.
    pub held: u32,
    /// ENIs that the node may have, all included.
    pub max_enis: u32,
    /// ENIs that it has or is getting, those of others included.
    pub enis: u32,
    /// Addresses for pods that one ENI can hold.
    pub addresses_per_eni: u32,
    /// Device indexes that are taken or promised.
    pub device_indexes: BTreeSet<u32>,
    /// Our ENIs that have room, by device index.
    pub rooms: Vec<Room>,
    /// Room beyond what was asked for on ENIs that are being made: it can be asked for when they are there.
    pub coming: u32,
    /// Where a new ENI is made.
    pub subnet: SubnetId,
    /// Whether a new ENI can be made now.
    pub new_eni: Gate,
}

/// What one of our ENIs can still take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Room {
    /// Which.
    pub eni: EniId,
    /// How many addresses.
    pub addresses: u32,
    /// Whether it can be asked now.
    pub gate: Gate,
}

/// Whether EC2 can be asked for something now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// Yes.
    Open,
    /// Not now, but soon: a call is under way, or a passing error is waited out. It is worth waiting for.
    Busy,
    /// EC2 has refused, or the ENI does not work; asked again later, but not worth waiting for.
    Closed,
}

/// One thing to ask of EC2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Addresses on an ENI that is there.
    Assign {
        /// Which.
        eni: EniId,
        /// How many; at least 1.
        addresses: u32,
    },
    /// A new ENI.
    Create {
        /// Where it is made.
        subnet: SubnetId,
        /// The lowest that is not taken.
        device_index: u32,
        /// How many addresses it brings; at least 1.
        addresses: u32,
    },
}

impl Facts {
    /// How many addresses are wanted beyond what is held and on the way.
    #[must_use]
    pub fn shortfall(&self) -> u32 {
        let demand = self.waiters.saturating_add(self.warm_ip);
        demand
            .saturating_sub(self.supply)
            .max(self.minimum_ip.saturating_sub(self.held))
    }

    /// How many addresses the pool could get beyond what is held and on the way, now or soon.
    #[must_use]
    pub fn reach(&self) -> u32 {
        let rooms = self
            .rooms
            .iter()
            .filter(|room| room.gate != Gate::Closed)
            .map(|room| room.addresses)
            .sum::<u32>()
            .saturating_add(self.coming);
        let new = match self.new_eni {
            Gate::Open | Gate::Busy => self.max_enis.saturating_sub(self.enis),
            Gate::Closed => 0,
        };
        rooms.saturating_add(new.saturating_mul(self.addresses_per_eni))
    }

    /// Like [`reach`](Self::reach), if no gate were closed: what the limits alone allow.
    #[must_use]
    pub fn limit(&self) -> u32 {
        let rooms = self.rooms.iter().map(|room| room.addresses).sum::<u32>();
        let rooms = rooms.saturating_add(self.coming);
        let new = self.max_enis.saturating_sub(self.enis);
        rooms.saturating_add(new.saturating_mul(self.addresses_per_eni))
    }
}

/// Plans the growth.
///
/// First addresses on ENIs that have room, in device order, so that the primary fills first; then as many new
/// ENIs as the rest needs, each with what is wanted of it and no more. Room on an ENI that is busy or being
/// made is left to be asked for when it can be: an address there comes sooner than one more ENI does.
#[must_use]
pub fn plan(facts: &Facts) -> Vec<Action> {
    let mut want = facts.shortfall();
    let mut actions = Vec::new();
    for room in &facts.rooms {
        let addresses = want.min(room.addresses);
        if addresses == 0 || room.gate == Gate::Closed {
            continue;
        }
        want -= addresses;
        if room.gate == Gate::Open {
            actions.push(Action::Assign {
                eni: room.eni.clone(),
                addresses,
            });
        }
    }
    if facts.new_eni != Gate::Open || facts.addresses_per_eni == 0 {
        return actions;
    }
    want = want.saturating_sub(facts.coming);
    // 0 is the primary's for ever.
    let mut indexes = (1..).filter(|index| !facts.device_indexes.contains(index));
    for _ in facts.enis..facts.max_enis {
        let Some(device_index) = indexes.next().filter(|_| want > 0) else {
            break;
        };
        let addresses = want.min(facts.addresses_per_eni);
        want -= addresses;
        actions.push(Action::Create {
            subnet: facts.subnet.clone(),
            device_index,
            addresses,
        });
    }
    actions
}

#[cfg(test)]
mod tests;
