//! What is free, in the order in which it is given out.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::{Eni, Slot};
use crate::{EniId, Family, Place, SlotKind, Time};

/// An ENI's slots that have a free address: the fullest first, of equals the one that is free for the longest time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct FreeSlots {
    v4: BTreeSet<FreeKey>,
    v6: BTreeSet<FreeKey>,
}

pub(super) type FreeKey = (Reverse<u64>, Time, IpNet);

impl FreeSlots {
    pub(super) fn first(&self, family: Family) -> Option<&IpNet> {
        self.of(family).first().map(|(_, _, net)| net)
    }

    /// Where it was, if it was.
    pub(super) fn remove(&mut self, slot: &mut Slot) {
        if let Some(key) = slot.free_key.take() {
            self.of_mut(SlotKind::of(&key.2).family()).remove(&key);
        }
    }

    /// If it has a free address.
    pub(super) fn insert(&mut self, net: &IpNet, slot: &mut Slot) {
        let family = SlotKind::of(net).family();
        if slot.tally.family(family).free > 0 {
            let key = (Reverse(slot.claims.all()), slot.since, *net);
            slot.free_key = Some(key);
            self.of_mut(family).insert(key);
        }
    }

    fn of(&self, family: Family) -> &BTreeSet<FreeKey> {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    fn of_mut(&mut self, family: Family) -> &mut BTreeSet<FreeKey> {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }
}

/// ENIs that have a free address: the one with the most claims first, of equals the first by place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Free {
    v4: Ranking,
    v6: Ranking,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranking {
    order: BTreeSet<(Reverse<u64>, Place, EniId)>,
    keys: BTreeMap<EniId, (Reverse<u64>, Place)>,
}

impl Free {
    pub(super) fn fullest_eni(&self, family: Family) -> Option<&EniId> {
        let ranking = match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        };
        ranking.order.first().map(|(_, _, id)| id)
    }

    /// Puts the ENI where it belongs now; `None` when it is gone.
    pub(super) fn rank(&mut self, id: &EniId, eni: Option<&Eni>) {
        for (family, ranking) in [(Family::V4, &mut self.v4), (Family::V6, &mut self.v6)] {
            let key = eni
                .filter(|eni| eni.free.first(family).is_some())
                .map(|eni| {
                    let counts = eni.tally.family(family);
                    (Reverse(counts.owned + counts.cooling), eni.place)
                });
            ranking.put(id, key);
        }
    }
}

impl Ranking {
    fn put(&mut self, id: &EniId, key: Option<(Reverse<u64>, Place)>) {
        let nobody = self.keys.is_empty() && key.is_none();
        if nobody || self.keys.get(id) == key.as_ref() {
            return;
        }
        if let Some((claims, place)) = self.keys.remove(id) {
            self.order.remove(&(claims, place, id.clone()));
        }
        if let Some((claims, place)) = key {
            self.order.insert((claims, place, id.clone()));
            self.keys.insert(id.clone(), (claims, place));
        }
    }
}
