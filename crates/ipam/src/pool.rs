//! What the node holds: ENIs, what is in their slots, and who has a claim on each address.
//!
//! Three parties have a word on an address, and none speaks for another: EC2 says whether the ENI holds its slot
//! ([`Holding`]), the node whether the slot is routed ([`Routing`]), the books whose the address is ([`Claim`]).
//! What people call its state follows from the three ([`Pool::state_of`]); it is kept nowhere.
//!
//! All changes go through here, because what is free, what cools and how much there is of each is indexed: no
//! question on the way of an ADD looks at every address.

#[cfg(test)]
mod check;
mod claims;
mod eni;
mod index;
mod tally;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

pub(crate) use self::claims::{Claim, Claimed, Owner};
use self::eni::Claims;
pub(crate) use self::eni::{Eni, Holding, Life, Routing, Slot};
use self::index::Free;
pub(crate) use self::tally::{Counts, Tally};
use crate::{AddressState, EniId, Sandbox, SlotKind, Time};

/// All that the node holds, or that the books name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pool {
    enis: BTreeMap<EniId, Eni>,
    /// Addresses that are not simply free.
    claims: BTreeMap<IpAddr, Claimed>,
    owners: BTreeMap<Sandbox, Owner>,
    /// Which ENI each slot is on.
    slots: BTreeMap<IpNet, EniId>,
    /// When each cooling address has cooled.
    cooling: BTreeSet<(Time, IpAddr)>,
    free: Free,
    total: Tally,
    /// ENIs of which something is to be done or waited for.
    odd: usize,
}

impl Pool {
    pub(crate) fn enis(&self) -> impl Iterator<Item = (&EniId, &Eni)> {
        self.enis.iter()
    }

    pub(crate) fn eni(&self, id: &EniId) -> Option<&Eni> {
        self.enis.get(id)
    }

    pub(crate) fn insert_eni(&mut self, id: EniId, eni: Eni) {
        debug_assert!(eni.slots().next().is_none(), "slots come by `hold`");
        if let Entry::Vacant(entry) = self.enis.entry(id) {
            self.odd += usize::from(eni.is_odd());
            entry.insert(eni);
        }
    }

    /// Whether every ENI is ready, in good order, and as EC2 knows it: then counts over all say all.
    pub(crate) fn is_even(&self) -> bool {
        self.odd == 0
    }

    /// Changes what is not in a slot: its life, its trouble.
    pub(crate) fn change_eni<R>(
        &mut self,
        id: &EniId,
        change: impl FnOnce(&mut Eni) -> R,
    ) -> Option<R> {
        let eni = self.enis.get_mut(id)?;
        let (place, of) = (eni.place, eni.use_of());
        self.odd -= usize::from(eni.is_odd());
        let result = change(eni);
        self.odd += usize::from(eni.is_odd());
        let moved = (eni.place, eni.use_of()) != (place, of);
        if moved {
            let slots: Vec<IpNet> = eni.slots().map(|(net, _)| *net).collect();
            slots.iter().for_each(|net| self.reindex(id, net));
            self.free.rank(id, self.enis.get(id));
        }
        Some(result)
    }

    /// Counts over all ENIs.
    pub(crate) fn total(&self) -> &Tally {
        &self.total
    }

    /// The slot that an address is in.
    pub(crate) fn slot_of(&self, ip: &IpAddr) -> Option<IpNet> {
        let nets = match ip {
            IpAddr::V4(_) => [32, 28],
            IpAddr::V6(_) => [128, 80],
        };
        nets.into_iter()
            .filter_map(|length| Some(IpNet::new(*ip, length).ok()?.trunc()))
            .find(|net| self.slots.contains_key(net))
    }

    /// The ENI that a slot is on.
    pub(crate) fn eni_of(&self, slot: &IpNet) -> Option<(&EniId, &Eni)> {
        self.enis.get_key_value(self.slots.get(slot)?)
    }

    /// The same, by its id alone.
    pub(crate) fn eni_id_of(&self, slot: &IpNet) -> Option<&EniId> {
        self.slots.get(slot)
    }

    /// What people call the state of an address that has a claim, or else of an unclaimed one of its slot.
    pub(crate) fn state_of(eni: &Eni, slot: &Slot, claim: Option<&Claim>) -> AddressState {
        match (slot.holding, claim, slot.routing) {
            (Holding::Lost, ..) | (_, Some(Claim::Stray), _) => AddressState::Quarantined,
            (_, Some(Claim::Owned(_)), _) => AddressState::Owned,
            (_, Some(Claim::Cooling { .. }), _) => AddressState::Cooling,
            (_, None, _) if slot.leaving => AddressState::Leaving,
            (Holding::Held, None, _) if eni.kept_from_pods => AddressState::Leaving,
            (Holding::Held, None, Routing::Done) if eni.is_up() => AddressState::Free,
            (_, None, _) => AddressState::Preparing,
        }
    }

    /// EC2 says that this ENI holds this slot. One that comes from another ENI keeps its claims: its pods may still
    /// be there. Whether anything has changed.
    pub(crate) fn hold(&mut self, id: &EniId, net: IpNet, now: Time) -> bool {
        if !self.enis.contains_key(id) {
            return false;
        }
        let from = self.slots.get(&net).cloned();
        if from.as_ref().is_some_and(|from| from != id) {
            self.take_slot(&net);
        }
        let Some(eni) = self.enis.get_mut(id) else {
            return false;
        };
        let changed = match eni.slots.entry(net) {
            Entry::Vacant(entry) => {
                entry.insert(Slot::new(Holding::Held, now));
                self.slots.insert(net, id.clone());
                true
            }
            Entry::Occupied(mut entry) => {
                let slot = entry.get_mut();
                let changed = slot.holding != Holding::Held;
                if changed {
                    slot.holding = Holding::Held;
                    slot.routing = Routing::None;
                    slot.since = now;
                }
                changed
            }
        };
        if changed {
            self.move_claims(&net);
        }
        if from.is_some_and(|from| from != *id) {
            let mut claims = Claims::default();
            for (_, claimed) in self.claims_in(&net) {
                *claims.of(&claimed.claim) += 1;
            }
            if let Some(slot) = self.slot_mut(&net) {
                slot.claims = claims;
            }
        }
        self.reindex(id, &net);
        changed
    }

    /// Slots that share addresses with this one: EC2 can't hold both.
    pub(crate) fn overlapping(&self, net: &IpNet) -> Vec<IpNet> {
        let all = self.slots.range(..=IpNet::from(net.broadcast())).rev();
        let near = all.take_while(|(other, _)| other.network() >= block(net));
        near.map(|(other, _)| *other)
            .filter(|other| other != net && (other.contains(net) || net.contains(other)))
            .collect()
    }

    /// A slot that only the books name: EC2 has not been asked yet.
    pub(crate) fn restore(&mut self, id: &EniId, net: IpNet, now: Time) {
        let known = self.slots.contains_key(&net);
        if let Some(eni) = self.enis.get_mut(id).filter(|_| !known) {
            eni.slots.insert(net, Slot::new(Holding::Unconfirmed, now));
            self.slots.insert(net, id.clone());
            self.reindex(id, &net);
        }
    }

    /// EC2 does not hold the slot on this ENI any more. What has a claim stays, quarantined; the rest is forgotten.
    pub(crate) fn lose(&mut self, net: &IpNet) {
        self.change_slot(net, |slot| {
            slot.holding = Holding::Lost;
            slot.routing = Routing::None;
            slot.leaving = false;
        });
        self.sweep(net);
    }

    /// The node's word on a slot.
    pub(crate) fn set_routing(&mut self, net: &IpNet, routing: Routing, now: Time) {
        self.change_slot(net, |slot| {
            slot.routing = routing;
            if routing == Routing::Done && slot.is_empty() {
                slot.since = now;
            }
        });
    }

    /// From now on nobody gets an address of the slot (or, again, anybody may).
    pub(crate) fn set_leaving(&mut self, net: &IpNet, leaving: bool) {
        self.change_slot(net, |slot| slot.leaving = leaving);
    }

    /// Forgets an ENI and its slots that nobody has a claim on, if that is all of it.
    pub(crate) fn forget_eni(&mut self, id: &EniId) {
        let Some(eni) = self.enis.get(id) else {
            return;
        };
        let slots: Vec<IpNet> = eni.slots().map(|(net, _)| *net).collect();
        for net in &slots {
            self.lose(net);
        }
        if self.enis.get(id).is_some_and(|eni| eni.slots.is_empty()) {
            self.remove_eni(id);
        }
    }

    fn remove_eni(&mut self, id: &EniId) {
        if let Some(eni) = self.enis.remove(id) {
            self.odd -= usize::from(eni.is_odd());
        }
        self.free.rank(id, None);
    }

    fn slot_mut(&mut self, net: &IpNet) -> Option<&mut Slot> {
        let id = self.slots.get(net)?;
        self.enis.get_mut(id)?.slots.get_mut(net)
    }

    fn change_slot(&mut self, net: &IpNet, change: impl FnOnce(&mut Slot)) {
        let Some(id) = self.slots.get(net).cloned() else {
            return;
        };
        if let Some(slot) = self.slot_mut(net) {
            change(slot);
        }
        self.reindex(&id, net);
    }

    /// Forgets a slot that nobody speaks for any more: neither EC2 (or it is not ours) nor the books. And an ENI of which nothing is left.
    fn sweep(&mut self, net: &IpNet) {
        let Some(id) = self.slots.get(net).cloned() else {
            return;
        };
        let Some(eni) = self.enis.get(&id) else {
            return;
        };
        // What is not ours to use is only known for as long as a pod has it.
        let over = eni.slots.get(net).is_some_and(|slot| {
            slot.is_empty() && (slot.holding != Holding::Held || eni.life == Life::Unmanaged)
        });
        if over {
            self.take_slot(net);
        }
        let eni = self.enis.get(&id);
        if eni.is_some_and(|eni| eni.life == Life::Absent && eni.slots.is_empty()) {
            self.remove_eni(&id);
        }
    }

    fn take_slot(&mut self, net: &IpNet) {
        if let Some(id) = self.slots.remove(net)
            && let Some(eni) = self.enis.get_mut(&id)
        {
            if let Some(mut slot) = eni.slots.remove(net) {
                eni.free.remove(&mut slot);
                eni.tally.subtract(&slot.tally);
                self.total.subtract(&slot.tally);
            }
            self.free.rank(&id, self.enis.get(&id));
        }
    }

    /// After any change of a slot, its claims or its ENI's life: brings what is counted and indexed up to date.
    fn reindex(&mut self, id: &EniId, net: &IpNet) {
        let Some(eni) = self.enis.get_mut(id) else {
            return;
        };
        let of = eni.use_of();
        let Some(slot) = eni.slots.get_mut(net) else {
            return;
        };
        eni.free.remove(slot);
        let tally = Tally::of(SlotKind::of(net), slot, of);
        eni.tally.subtract(&slot.tally);
        self.total.subtract(&slot.tally);
        eni.tally.add(&tally);
        self.total.add(&tally);
        slot.tally = tally;
        eni.free.insert(net, slot);
        self.free.rank(id, self.enis.get(id));
    }
}

/// Where the largest slot that this one could be part of begins.
fn block(net: &IpNet) -> IpAddr {
    let length = match net {
        IpNet::V4(_) => 28,
        IpNet::V6(_) => 80,
    };
    IpNet::new(net.addr(), length.min(net.prefix_len())).map_or(net.addr(), |net| net.network())
}

impl SlotKind {
    /// How many addresses for pods it brings.
    pub(crate) fn size(self) -> u64 {
        match self {
            Self::Address => 1,
            Self::Prefix => 16,
            Self::Ipv6Prefix => 1 << 48,
        }
    }
}
