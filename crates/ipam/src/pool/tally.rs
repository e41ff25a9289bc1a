//! How much there is of each: kept by slot, ENI and pool, so that nothing has to be counted on the way of an ADD.

use super::eni::Use;
use super::{Holding, Routing, Slot};
use crate::{Family, SlotKind, Totals};

/// Counts of slots and of the addresses in them, by family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) v4: Counts,
    pub(crate) v6: Counts,
}

/// Counts of one family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Slots that EC2 holds for us (or that the books say it did), leaving ones too.
    pub(crate) slots: u64,
    /// Of these, prefixes.
    pub(crate) prefixes: u64,
    /// Of these, slots none of whose addresses anybody has a claim on, and that do not leave.
    pub(crate) empty: u64,
    /// Of these, prefixes.
    pub(crate) empty_prefixes: u64,
    /// Slots that are held and still to be routed, and nobody was asked yet.
    pub(crate) unrouted: u64,
    /// Addresses in all slots that are held, leaving ones too.
    pub(crate) addresses: u64,
    /// Ready for a pod.
    pub(crate) free: u64,
    /// Held, and not ready yet.
    pub(crate) preparing: u64,
    /// Given to a pod.
    pub(crate) owned: u64,
    /// Given back of late.
    pub(crate) cooling: u64,
    /// EC2 or the kernel disagree with the books.
    pub(crate) quarantined: u64,
    /// In slots that leave, or of ENIs that no pod gets an address of.
    pub(crate) going: u64,
}

impl Tally {
    /// Of one slot of an ENI.
    pub(super) fn of(kind: SlotKind, slot: &Slot, of: Use) -> Self {
        let counts = Counts::of(kind, slot, of);
        match kind.family() {
            Family::V4 => Self {
                v4: counts,
                ..Self::default()
            },
            Family::V6 => Self {
                v6: counts,
                ..Self::default()
            },
        }
    }

    /// Those of one family.
    pub(crate) fn family(&self, family: Family) -> &Counts {
        match family {
            Family::V4 => &self.v4,
            Family::V6 => &self.v6,
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.v4.each(&other.v4, |a, b| a + b);
        self.v6.each(&other.v6, |a, b| a + b);
    }

    pub(super) fn subtract(&mut self, other: &Self) {
        self.v4.each(&other.v4, |a, b| a - b);
        self.v6.each(&other.v6, |a, b| a - b);
    }
}

impl Counts {
    fn of(kind: SlotKind, slot: &Slot, of: Use) -> Self {
        let claims = slot.claims;
        let one = |it: bool| u64::from(it);
        let mut counts = Self::default();
        if slot.holding == Holding::Lost {
            counts.quarantined = claims.all();
            return counts;
        }
        let held = slot.holding == Holding::Held;
        counts.slots = 1;
        counts.prefixes = one(kind != SlotKind::Address);
        let leaves = slot.leaving || of == Use::GoBack;
        counts.empty = one(claims.all() == 0 && !leaves);
        counts.empty_prefixes = counts.empty * counts.prefixes;
        counts.unrouted = one(held && !slot.leaving && slot.routing == Routing::None);
        counts.owned = claims.owned;
        counts.cooling = claims.cooling;
        counts.quarantined = claims.strays;
        if held {
            counts.addresses = kind.size();
            let unclaimed = kind.size() - claims.all();
            if leaves {
                counts.going = unclaimed;
            } else if of == Use::Give && slot.routing == Routing::Done {
                counts.free = unclaimed;
            } else {
                counts.preparing = unclaimed;
            }
        } else {
            counts.addresses = claims.all();
        }
        counts
    }

    /// Addresses that serve, or will serve, who waits.
    pub(crate) fn supply(&self) -> u64 {
        self.free + self.preparing
    }

    /// For people.
    pub(crate) fn totals(&self) -> Totals {
        Totals {
            held: self.addresses,
            free: self.free,
            owned: self.owned,
            cooling: self.cooling,
            preparing: self.preparing,
            quarantined: self.quarantined,
            leaving: self.going,
        }
    }

    fn each(&mut self, other: &Self, f: impl Fn(u64, u64) -> u64) {
        let Self {
            slots,
            prefixes,
            empty,
            empty_prefixes,
            unrouted,
            addresses,
            free,
            preparing,
            owned,
            cooling,
            quarantined,
            going,
        } = self;
        for (mine, others) in [
            (slots, other.slots),
            (prefixes, other.prefixes),
            (empty, other.empty),
            (empty_prefixes, other.empty_prefixes),
            (unrouted, other.unrouted),
            (addresses, other.addresses),
            (free, other.free),
            (preparing, other.preparing),
            (owned, other.owned),
            (cooling, other.cooling),
            (quarantined, other.quarantined),
            (going, other.going),
        ] {
            *mine = f(*mine, others);
        }
    }
}
