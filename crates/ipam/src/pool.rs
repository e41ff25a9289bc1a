//! What the node holds: ENIs, what is in their slots, and who has a claim on each address.
//!
//! Three parties have a word on an address, and none speaks for another: EC2 says whether the ENI holds its slot
//! ([`Holding`]), the node whether the slot is routed ([`Routing`]), the books whose the address is ([`Claim`]).
//! What people call its state follows from the three ([`Pool::state_of`]); it is kept nowhere.
//!
//! All changes go through here, because what is free, what cools and how much there is of each is indexed: no
//! question on the way of an ADD looks at every address.

mod eni;
mod index;
mod tally;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use self::eni::Claims;
pub(crate) use self::eni::{Eni, Holding, Life, Routing, Slot};
use self::index::Free;
pub(crate) use self::tally::{Counts, Tally};
use crate::{AddressState, BooksVersion, EniId, Family, Pod, Sandbox, SlotKind, Time};

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

/// An address that somebody has a claim on.
#[derive(Clone, Debug)]
pub(crate) struct Claimed {
    pub(crate) slot: IpNet,
    pub(crate) claim: Claim,
    /// Since when.
    pub(crate) since: Time,
}

/// The books' word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Owned(Sandbox),
    Cooling {
        /// None when the books of the last one were lost.
        last: Option<Sandbox>,
        pod: Pod,
        until: Time,
    },
    /// A pod's link has it, and the books do not know whose: they were lost. It cools once the link has gone.
    Stray,
}

/// Who owns addresses.
#[derive(Clone, Debug)]
pub(crate) struct Owner {
    pub(crate) pod: Pod,
    pub(crate) network: String,
    pub(crate) netns: String,
    /// One for each family of the node, IPv4 first.
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) since: Time,
    /// The books have it from this version on.
    pub(crate) version: BooksVersion,
    /// When a plugin was told, or may have been told at the latest. What nobody was told can be undone.
    pub(crate) told: Option<Time>,
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

    pub(crate) fn owners(&self) -> impl Iterator<Item = (&Sandbox, &Owner)> {
        self.owners.iter()
    }

    pub(crate) fn owner(&self, sandbox: &Sandbox) -> Option<&Owner> {
        self.owners.get(sandbox)
    }

    /// What a plugin was told and when, and from which version on the books have it: nothing that is indexed.
    pub(crate) fn owner_mut(&mut self, sandbox: &Sandbox) -> Option<&mut Owner> {
        self.owners.get_mut(sandbox)
    }

    pub(crate) fn claims(&self) -> impl Iterator<Item = (&IpAddr, &Claimed)> {
        self.claims.iter()
    }

    pub(crate) fn claim(&self, ip: &IpAddr) -> Option<&Claimed> {
        self.claims.get(ip)
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

    /// Addresses that pods' links have and the books do not know, with their slots.
    pub(crate) fn strays(&self) -> impl Iterator<Item = (IpAddr, IpNet)> + '_ {
        let strays = self.total.v4.quarantined + self.total.v6.quarantined;
        self.claims
            .iter()
            .take(if strays == 0 { 0 } else { usize::MAX })
            .filter(|(_, claimed)| claimed.claim == Claim::Stray)
            .map(|(ip, claimed)| (*ip, claimed.slot))
    }

    /// The ENI that a slot is on.
    pub(crate) fn eni_of(&self, slot: &IpNet) -> Option<(&EniId, &Eni)> {
        self.enis.get_key_value(self.slots.get(slot)?)
    }

    /// The same, by its id alone.
    pub(crate) fn eni_id_of(&self, slot: &IpNet) -> Option<&EniId> {
        self.slots.get(slot)
    }

    /// When the next address has cooled.
    pub(crate) fn next_cooled(&self) -> Option<Time> {
        self.cooling.first().map(|(until, _)| *until)
    }

    /// When each cooling address has cooled, the first first.
    pub(crate) fn cooled_at(&self) -> impl Iterator<Item = (Time, &IpAddr)> {
        self.cooling.iter().map(|(until, ip)| (*until, ip))
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

    /// Claims on addresses of a slot that has come stay with the addresses: they were of a prefix, or of single
    /// addresses, that EC2 took away.
    fn move_claims(&mut self, net: &IpNet) {
        let moved: Vec<(IpAddr, Claimed)> = self
            .claims
            .range(net.network()..=net.broadcast())
            .filter(|(_, claimed)| claimed.slot != *net)
            .map(|(ip, claimed)| (*ip, claimed.clone()))
            .collect();
        for (ip, claimed) in moved {
            self.set_claim(ip, *net, claimed.claim, claimed.since);
            self.sweep(&claimed.slot);
        }
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

    /// Gives a sandbox a free address of each family: all or none. The books have it from `owner.version` on.
    ///
    /// Packs: the ENI with the most claims first, and on it the fullest slot, so that the others can drain; of equals
    /// the one that is free for the longest time, so that late packets, caches and connections of its last holder
    /// have gone.
    pub(crate) fn grant(
        &mut self,
        sandbox: Sandbox,
        families: &[Family],
        mut owner: Owner,
    ) -> bool {
        let picked: Option<Vec<(IpNet, IpAddr)>> =
            families.iter().map(|family| self.pick(*family)).collect();
        let Some(picked) = picked else {
            return false;
        };
        owner.addresses = picked.iter().map(|(_, ip)| *ip).collect();
        for (slot, ip) in picked {
            self.set_claim(ip, slot, Claim::Owned(sandbox.clone()), owner.since);
        }
        self.owners.insert(sandbox, owner);
        true
    }

    /// Whether each family has a free address.
    pub(crate) fn has_free(&self, families: &[Family]) -> bool {
        let mut families = families.iter();
        families.all(|family| self.free.fullest_eni(*family).is_some())
    }

    /// What the books say of a sandbox, at the start.
    pub(crate) fn restore_owner(&mut self, sandbox: Sandbox, slots: &[IpNet], owner: Owner) {
        for (slot, ip) in slots.iter().zip(&owner.addresses) {
            self.set_claim(*ip, *slot, Claim::Owned(sandbox.clone()), owner.since);
        }
        self.owners.insert(sandbox, owner);
    }

    /// Ends a sandbox's claims. They cool until `until`; with none they are free at once.
    pub(crate) fn release(
        &mut self,
        sandbox: &Sandbox,
        until: Option<Time>,
        now: Time,
    ) -> Option<Owner> {
        let owner = self.owners.remove(sandbox)?;
        for ip in &owner.addresses {
            let Some(slot) = self.claims.get(ip).map(|claimed| claimed.slot) else {
                continue;
            };
            match until {
                Some(until) => {
                    let claim = Claim::Cooling {
                        last: Some(sandbox.clone()),
                        pod: owner.pod.clone(),
                        until,
                    };
                    self.set_claim(*ip, slot, claim, now);
                }
                None => self.end_claim(ip, now),
            }
        }
        Some(owner)
    }

    /// Claims an address, whoever had a claim on it.
    pub(crate) fn set_claim(&mut self, ip: IpAddr, slot: IpNet, claim: Claim, since: Time) {
        self.drop_claim(&ip);
        if let Claim::Cooling { until, .. } = &claim {
            self.cooling.insert((*until, ip));
        }
        self.change_slot(&slot, |held| {
            *held.claims.of(&claim) += 1;
            held.note_given(&slot, &ip);
        });
        self.claims.insert(ip, Claimed { slot, claim, since });
    }

    /// Nobody has a claim on the address any more.
    pub(crate) fn end_claim(&mut self, ip: &IpAddr, now: Time) {
        if let Some(slot) = self.drop_claim(ip) {
            self.change_slot(&slot, |held| held.note_freed(&slot, *ip, now));
            self.sweep(&slot);
        }
    }

    fn drop_claim(&mut self, ip: &IpAddr) -> Option<IpNet> {
        let Claimed { slot, claim, .. } = self.claims.remove(ip)?;
        if let Claim::Cooling { until, .. } = &claim {
            self.cooling.remove(&(*until, *ip));
        }
        self.change_slot(&slot, |held| *held.claims.of(&claim) -= 1);
        Some(slot)
    }

    /// Ends the claims of what has cooled by now; whether there were any.
    pub(crate) fn end_cooling(&mut self, now: Time) -> bool {
        let mut ended = false;
        while let Some((until, ip)) = self.cooling.first().copied()
            && until <= now
        {
            self.end_claim(&ip, now);
            ended = true;
        }
        ended
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

    /// Claims within a slot.
    pub(crate) fn claims_in(&self, slot: &IpNet) -> impl Iterator<Item = (&IpAddr, &Claimed)> {
        let slot = *slot;
        self.claims
            .range(slot.network()..=slot.broadcast())
            .filter(move |(_, claimed)| claimed.slot == slot)
    }

    fn pick(&self, family: Family) -> Option<(IpNet, IpAddr)> {
        let eni = self.enis.get(self.free.fullest_eni(family)?)?;
        let net = eni.free.first(family)?;
        let slot = eni.slots.get(net)?;
        let ip = slot.next_free(net, |ip| self.claims.contains_key(ip))?;
        Some((*net, ip))
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

    /// What the indexes and counts would be if they were made anew: for tests.
    #[cfg(test)]
    pub(crate) fn check(&self) {
        let mut anew = Self::default();
        for (id, eni) in &self.enis {
            let bare = Eni {
                slots: BTreeMap::new(),
                tally: Tally::default(),
                free: index::FreeSlots::default(),
                ..eni.clone()
            };
            anew.enis.insert(id.clone(), bare);
            for (net, slot) in &eni.slots {
                anew.slots.insert(*net, id.clone());
                let mut slot = slot.clone();
                slot.claims = Claims::default();
                for (_, claimed) in self.claims_in(net) {
                    *slot.claims.of(&claimed.claim) += 1;
                }
                slot.tally = Tally::default();
                slot.free_key = None;
                if let Some(eni) = anew.enis.get_mut(id) {
                    eni.slots.insert(*net, slot);
                }
            }
        }
        anew.claims.clone_from(&self.claims);
        anew.cooling = self
            .claims
            .iter()
            .filter_map(|(ip, claimed)| match claimed.claim {
                Claim::Cooling { until, .. } => Some((until, *ip)),
                Claim::Owned(_) | Claim::Stray => None,
            })
            .collect();
        for (net, id) in anew.slots.clone() {
            anew.reindex(&id, &net);
        }
        assert_eq!(anew.slots, self.slots);
        assert_eq!(anew.cooling, self.cooling);
        assert_eq!(anew.total, self.total);
        assert_eq!(anew.free, self.free);
        let odd = self.enis.values().filter(|eni| eni.is_odd()).count();
        assert_eq!((self.odd, self.is_even()), (odd, odd == 0));
        for (id, eni) in &self.enis {
            assert_eq!(Some(&eni.tally), anew.eni(id).map(|eni| &eni.tally), "{id}");
            assert_eq!(Some(&eni.free), anew.eni(id).map(|eni| &eni.free), "{id}");
        }
        for (ip, claimed) in &self.claims {
            assert!(self.slots.contains_key(&claimed.slot), "{ip} is in no slot");
            if let Claim::Owned(sandbox) = &claimed.claim {
                let owner = self.owners.get(sandbox).expect("an owner");
                assert!(owner.addresses.contains(ip), "{ip} is not {sandbox}'s");
            }
        }
        for (sandbox, owner) in &self.owners {
            for ip in &owner.addresses {
                let claim = self.claims.get(ip).map(|claimed| &claimed.claim);
                assert_eq!(claim, Some(&Claim::Owned(sandbox.clone())), "{ip}");
            }
        }
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
