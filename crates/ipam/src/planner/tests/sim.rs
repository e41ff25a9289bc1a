//! A node that does what is planned, at once, and packs its pods densely.

use super::*;

/// What a slot holds.
#[derive(Clone, Debug)]
struct Slot {
    kind: SlotKind,
    owned: u32,
}

/// A node, and the calls that it cost.
#[derive(Clone, Debug)]
pub(super) struct Sim {
    pub(super) settings: Settings,
    pub(super) limits: InstanceLimits,
    /// Slots of IPv4 by ENI.
    enis: BTreeMap<Place, Vec<Slot>>,
    pub(super) bound: u32,
    /// No /28 is to be had.
    pub(super) fragmented: bool,
    pub(super) grown: u32,
    pub(super) shrunk: u32,
}

impl Sim {
    /// A primary ENI with nothing on it, settled.
    pub(super) fn start(settings: Settings, limits: InstanceLimits) -> Self {
        let mut sim = Self {
            settings,
            limits,
            enis: BTreeMap::from([(Place::PRIMARY, Vec::new())]),
            bound: 0,
            fragmented: false,
            grown: 0,
            shrunk: 0,
        };
        sim.settle();
        sim
    }

    pub(super) fn facts(&self, waiters: u32) -> Facts {
        let per_eni = self.limits.ipv4_slots_per_eni - 1;
        let prefixes = match self.fragmented {
            true => Gate::Closed,
            false => Gate::Open,
        };
        let enis = self.enis.iter().map(|(place, slots)| {
            let room = per_eni - u32::try_from(slots.len()).unwrap();
            let mut stock = eni(place.device_index, room);
            stock.prefixes = prefixes;
            for slot in slots {
                stock = match slot.kind {
                    SlotKind::Prefix => stock.with_prefix(slot.owned),
                    _ => stock.holding(slot.owned, 0, 1 - slot.owned),
                };
            }
            stock
        });
        let mut facts = node(enis.collect()).waiting(waiters);
        facts.bound = self.bound.max(waiters);
        facts
            .subnets
            .iter_mut()
            .for_each(|it| it.prefixes = prefixes);
        facts
    }

    /// So many pods come at once, and then nothing happens for long.
    pub(super) fn add(&mut self, pods: u32) {
        for _ in 0..100 {
            let supply = self.facts(0).ipv4.supply;
            if supply >= pods {
                break;
            }
            let plan = grow(&self.settings, &self.limits, &self.facts(pods));
            assert!(!plan.is_empty(), "{pods} wait: {self:?}");
            self.apply(&plan);
        }
        for _ in 0..pods {
            let mut slots = self.enis.values_mut().flatten();
            let slot = slots.find(|slot| slot.owned < slot.kind.addresses());
            slot.unwrap().owned += 1;
        }
        self.settle();
    }

    /// The youngest pods go, and their addresses have cooled.
    pub(super) fn remove(&mut self, pods: u32) {
        for _ in 0..pods {
            let mut slots = self.enis.values_mut().flatten().rev();
            slots.find(|slot| slot.owned > 0).unwrap().owned -= 1;
        }
        self.settle();
    }

    /// Plans until there is nothing to do. What was given back is never asked for again.
    pub(super) fn settle(&mut self) {
        let mut gave_back = false;
        for _ in 0..100 {
            let growth = grow(&self.settings, &self.limits, &self.facts(0));
            assert!(
                growth.is_empty() || !gave_back,
                "{growth:?} after giving back: {self:?}"
            );
            let plan = match growth.is_empty() {
                true => shrink(&self.settings, &self.limits, &self.facts(0)),
                false => growth,
            };
            if plan.is_empty() {
                return;
            }
            self.apply(&plan);
            gave_back |= matches!(plan[0], Action::Unassign { .. } | Action::Drain { .. });
        }
        panic!("never quiet: {self:?}");
    }

    pub(super) fn owned(&self) -> u32 {
        self.facts(0).ipv4.owned
    }

    pub(super) fn free(&self) -> u32 {
        self.facts(0).ipv4.supply
    }

    /// Slots of each ENI, in the order of their places.
    pub(super) fn slots(&self) -> Vec<usize> {
        self.enis.values().map(Vec::len).collect()
    }

    fn apply(&mut self, plan: &[Action]) {
        for action in plan {
            match action {
                Action::Assign { eni, kind, count } => {
                    self.grown += 1;
                    self.fill(self.place(eni), *kind, *count);
                }
                Action::Create { place, ipv4, .. } => {
                    self.grown += 1;
                    assert!(self.enis.insert(*place, Vec::new()).is_none());
                    let (kind, count) = ipv4.unwrap();
                    self.fill(*place, kind, count);
                }
                Action::Unassign { eni, kind, count } => {
                    self.shrunk += 1;
                    for _ in 0..*count {
                        let place = self.place(eni);
                        let slots = self.enis.get_mut(&place).unwrap();
                        let empty = |slot: &Slot| slot.kind == *kind && slot.owned == 0;
                        let at = slots.iter().rposition(empty).unwrap();
                        slots.remove(at);
                    }
                }
                Action::Drain { eni } => {
                    self.shrunk += 1;
                    let slots = self.enis.remove(&self.place(eni)).unwrap();
                    assert!(slots.iter().all(|slot| slot.owned == 0), "{plan:?}");
                }
            }
        }
        let enis = u32::try_from(self.enis.len()).unwrap();
        assert!(enis <= self.limits.max_enis(), "{plan:?}");
    }

    fn fill(&mut self, place: Place, kind: SlotKind, count: u32) {
        let slots = self.enis.get_mut(&place).unwrap();
        slots.extend((0..count).map(|_| Slot { kind, owned: 0 }));
        let most = usize::try_from(self.limits.ipv4_slots_per_eni - 1).unwrap();
        assert!(slots.len() <= most, "{place}: {slots:?}");
    }

    fn place(&self, eni: &EniId) -> Place {
        *self.enis.keys().find(|place| id(**place) == *eni).unwrap()
    }
}
