//! The facts that the planner wants, out of what is held and on the way.

use std::collections::BTreeMap;

use super::ending::unseen_yet;
use super::{Intent, Spot, State};
use crate::planner::{ComingEni, EniStock, Facts, Gate, Stock};
use crate::pool::{Counts, Eni, Life};
use crate::retry::passes;
use crate::{Call, CallErrorKind, EniId, Family, IntentStage, SlotKind};

/// An ENI that is younger may not go: what made it needed may come again (as aws-node has it).
const OLD: std::time::Duration = std::time::Duration::from_mins(1);

/// What an ENI was asked to take, of each kind.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asked {
    pub(super) addresses: u32,
    pub(super) prefixes: u32,
    pub(super) ipv6_prefixes: u32,
    /// Any change of it is under way.
    pub(super) busy: bool,
}

impl Asked {
    /// How many slots of a family.
    pub(super) fn slots(self, family: Family) -> u32 {
        match family {
            Family::V4 => self.addresses + self.prefixes,
            Family::V6 => self.ipv6_prefixes,
        }
    }

    /// How many addresses of a family.
    pub(super) fn size(self, family: Family) -> u32 {
        match family {
            Family::V4 => {
                let in_prefixes = self.prefixes.saturating_mul(SlotKind::Prefix.addresses());
                in_prefixes.saturating_add(self.addresses)
            }
            Family::V6 => {
                let endless = SlotKind::Ipv6Prefix.addresses();
                self.ipv6_prefixes.saturating_mul(endless)
            }
        }
    }
}

impl State {
    /// With so many sandboxes that wait for an address.
    pub(super) fn facts(&self, waiters: u32) -> Facts {
        let limits = &self.node.limits;
        let mut facts = Facts {
            waiters,
            bound: self.expected(waiters),
            draining: self.draining,
            mode: self.mode(),
            new_eni: self.gate(|| Spot::Create),
            subnets: self.subnets(),
            ..Facts::default()
        };
        let mut per_card = BTreeMap::new();
        let mut enis = Vec::new();
        for (id, eni) in self.pool.enis() {
            if eni.life != Life::Absent {
                *per_card.entry(eni.place.card).or_insert(0) += 1;
                facts.taken.insert(eni.place);
            }
            if !eni.is_ours() {
                continue;
            }
            let asked = self.asked_of(id);
            let stock = self.eni_stock(id, eni, asked);
            add(&mut facts.ipv4, &stock.ipv4);
            add(&mut facts.ipv6, &stock.ipv6);
            // Nothing is asked of it, and what it has goes back by itself.
            if !eni.kept_from_pods {
                enis.push(stock);
            }
        }
        for intent in &self.intents {
            if !self.is_unseen(intent) {
                continue;
            }
            *per_card.entry(intent.place.card).or_insert(0) += 1;
            facts.taken.insert(intent.place);
            if intent.comes() {
                let brought = brings(intent.ipv4, intent.ipv6_prefixes);
                add(&mut facts.ipv4, &brought.0);
                add(&mut facts.ipv6, &brought.1);
                let slots = intent.ipv4.map_or(0, |(_, slots)| slots);
                facts.coming.push(ComingEni {
                    ipv4_room: limits.slots_for_pods(Family::V4).saturating_sub(slots),
                    ipv6_room: limits
                        .slots_for_pods(Family::V6)
                        .saturating_sub(intent.ipv6_prefixes),
                });
            }
        }
        enis.sort_by_key(|eni| eni.place);
        facts.enis = enis;
        facts.enis_per_card = per_card;
        facts
    }

    /// What of the facts decides whether anything is wanted: without the ENIs, and so without looking at each.
    pub(super) fn summary(&self, waiters: u32) -> Facts {
        if !self.pool.is_even() {
            return self.facts(waiters);
        }
        let total = self.pool.total();
        let mut facts = Facts {
            waiters,
            bound: self.expected(waiters),
            draining: self.draining,
            mode: self.mode(),
            ipv4: stock(&total.v4, true),
            ipv6: stock(&total.v6, true),
            ..Facts::default()
        };
        for call in self.calls.values() {
            if let Call::Assign { kind, count, .. } = call.call {
                on_its_way(&mut facts, kind, count);
            }
        }
        for intent in self.intents.iter().filter(|intent| self.is_unseen(intent)) {
            if intent.comes() {
                let brought = brings(intent.ipv4, intent.ipv6_prefixes);
                add(&mut facts.ipv4, &brought.0);
                add(&mut facts.ipv6, &brought.1);
            }
        }
        facts
    }

    /// An ENI of which nothing is known yet but the intent.
    pub(super) fn is_unseen(&self, intent: &Intent) -> bool {
        match &intent.stage {
            IntentStage::Create => true,
            IntentStage::Attach(eni) => self.pool.eni(eni).is_none(),
            IntentStage::DeleteOnTermination(..)
            | IntentStage::Detach(..)
            | IntentStage::Delete(_) => false,
        }
    }

    /// Whether the ENI is on its way in or out.
    pub(super) fn is_on_its_way(&self, id: &EniId) -> bool {
        let mut intents = self.intents.iter();
        intents.any(|intent| intent.stage.eni() == Some(id))
    }

    pub(super) fn eni_stock(&self, id: &EniId, eni: &Eni, asked: Asked) -> EniStock {
        let limits = &self.node.limits;
        let (v4, v6) = (&eni.tally().v4, &eni.tally().v6);
        let mut ipv4 = stock(v4, eni.is_sound());
        let mut ipv6 = stock(v6, eni.is_sound());
        for (family, stock) in [(Family::V4, &mut ipv4), (Family::V6, &mut ipv6)] {
            let coming = asked.size(family);
            stock.addresses = stock.addresses.saturating_add(coming);
            if eni.is_sound() {
                stock.supply = stock.supply.saturating_add(coming);
            }
        }
        ipv4.prefixes += asked.prefixes;
        ipv4.empty_prefixes += asked.prefixes;
        ipv6.prefixes += asked.ipv6_prefixes;
        ipv6.empty_prefixes += asked.ipv6_prefixes;
        let room = |family| {
            let taken = count_of(eni.tally().family(family).slots) + asked.slots(family);
            limits.slots_for_pods(family).saturating_sub(taken)
        };
        let is_primary = *id == self.node.primary_eni || eni.place == crate::Place::PRIMARY;
        EniStock {
            eni: id.clone(),
            place: eni.place,
            ipv4_room: room(Family::V4),
            ipv6_room: room(Family::V6),
            addresses: self.room_gate(id, eni, asked.busy, SlotKind::Address),
            prefixes: self.room_gate(id, eni, asked.busy, SlotKind::Prefix),
            ipv6_prefixes: self.room_gate(id, eni, asked.busy, SlotKind::Ipv6Prefix),
            ipv4,
            ipv6,
            empty_slots: count_of(v4.empty),
            // That it is idle and nothing is under way, the planner sees by the rest.
            may_go: !is_primary
                && v4.quarantined == 0
                && v6.quarantined == 0
                && eni.life == Life::Ready
                && eni.trouble.is_none()
                && self.now.since(eni.since) >= OLD
                && eni
                    .link
                    .as_ref()
                    .is_some_and(|link| link.attachment.is_some() && !link.borrowed)
                && !eni.is_being_routed()
                && !self.is_on_its_way(id),
        }
    }

    /// What the ENI was asked to take, and whether any change of it is under way.
    pub(super) fn asked_of(&self, id: &EniId) -> Asked {
        let calls = self
            .calls
            .values()
            .filter(|call| call.call.eni() == Some(id));
        calls.fold(Asked::default(), |mut asked, call| {
            asked.busy = true;
            if let Call::Assign { kind, count, .. } = call.call {
                match kind {
                    SlotKind::Address => asked.addresses += count,
                    SlotKind::Prefix => asked.prefixes += count,
                    SlotKind::Ipv6Prefix => asked.ipv6_prefixes += count,
                }
            }
            asked
        })
    }

    fn room_gate(&self, id: &EniId, eni: &Eni, busy: bool, kind: SlotKind) -> Gate {
        if eni.trouble.is_some() {
            return Gate::Closed;
        }
        let gate = self.gate(|| Spot::Assign(id.clone(), kind));
        let subnet = eni.link.as_ref().map(|link| &link.subnet_id);
        let gate = subnet.map_or(gate, |subnet| gate.and(self.subnet_gate(subnet, kind)));
        if busy || eni.unsettled.is_some() || eni.life == Life::Attaching {
            gate.and(Gate::Busy)
        } else {
            gate
        }
    }

    pub(super) fn gate(&self, spot: impl FnOnce() -> Spot) -> Gate {
        if self.setbacks.is_empty() {
            return Gate::Open;
        }
        let spot = spot();
        match self.setbacks.get(&spot) {
            Some(setback) if setback.until > self.now => {
                let kind = setback.error.kind;
                if passes(kind) || unseen_yet(&spot, kind, setback.failures) {
                    Gate::Busy
                } else {
                    Gate::Closed
                }
            }
            _ => Gate::Open,
        }
    }
}

impl Intent {
    /// Whether what it brings may still come by itself.
    fn comes(&self) -> bool {
        let Some(setback) = &self.setback else {
            return true;
        };
        // A token that was used has made something, whether EC2 shows it yet or not.
        let made = self.stage == IntentStage::Create && setback.error.kind == CallErrorKind::InUse;
        made || passes(setback.error.kind)
    }
}

fn on_its_way(facts: &mut Facts, kind: SlotKind, count: u32) {
    let ipv6 = if kind == SlotKind::Ipv6Prefix {
        count
    } else {
        0
    };
    let ipv4 = Some((kind, count)).filter(|_| ipv6 == 0);
    let (ipv4, ipv6) = brings(ipv4, ipv6);
    add(&mut facts.ipv4, &ipv4);
    add(&mut facts.ipv6, &ipv6);
}

/// What an ENI that is being made brings, of each family.
fn brings(ipv4: Option<(SlotKind, u32)>, ipv6_prefixes: u32) -> (Stock, Stock) {
    let (kind, slots) = ipv4.unwrap_or((SlotKind::Address, 0));
    let addresses = slots.saturating_mul(kind.addresses());
    let prefixes = if kind == SlotKind::Prefix { slots } else { 0 };
    let endless = if ipv6_prefixes > 0 { u32::MAX } else { 0 };
    (
        Stock {
            supply: addresses,
            addresses,
            prefixes,
            empty_prefixes: prefixes,
            ..Stock::default()
        },
        Stock {
            supply: endless,
            addresses: endless,
            prefixes: ipv6_prefixes,
            empty_prefixes: ipv6_prefixes,
            ..Stock::default()
        },
    )
}

fn stock(counts: &Counts, sound: bool) -> Stock {
    Stock {
        supply: if sound { count_of(counts.supply()) } else { 0 },
        addresses: count_of(counts.addresses - counts.going),
        owned: count_of(counts.owned),
        cooling: count_of(counts.cooling),
        prefixes: count_of(counts.prefixes),
        // What an unsound ENI has empty is not warm.
        empty_prefixes: if sound {
            count_of(counts.empty_prefixes)
        } else {
            0
        },
    }
}

fn add(to: &mut Stock, more: &Stock) {
    to.supply = to.supply.saturating_add(more.supply);
    to.addresses = to.addresses.saturating_add(more.addresses);
    to.owned = to.owned.saturating_add(more.owned);
    to.cooling = to.cooling.saturating_add(more.cooling);
    to.prefixes = to.prefixes.saturating_add(more.prefixes);
    to.empty_prefixes = to.empty_prefixes.saturating_add(more.empty_prefixes);
}

/// Saturates: no node has so many of anything, but for the addresses of a /80.
pub(super) fn count_of(number: u64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
