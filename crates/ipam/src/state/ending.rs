//! Giving back: slots and ENIs that are more than is wanted.
//!
//! Nothing leaves that anybody has a claim on. What leaves is in the books before the node forgets it, and the node
//! has forgotten it before EC2 may give it to others: else this node would black-hole a stranger's address.

use std::time::Duration;

use ipnet::IpNet;

use super::calls::NOT_FOUND_AT_MOST;
use super::merge::LAG;
use super::{Phase, Spot, State, Tombstone, TornDown};
use crate::planner::{self, Action, EniStock};
use crate::pool::{Eni, Holding, Life, Routing, Slot};
use crate::retry;
use crate::{
    Call, CallError, CallErrorKind, Effect, EniId, Haste, IntentStage, Mode, Place, SlotKind, Time,
};

/// How long after there came to be more is looked for what is too much: demand comes and goes.
const PATIENCE: Duration = Duration::from_secs(30);
/// A slot that is younger is not given back.
const OLD: Duration = Duration::from_mins(1);

impl State {
    /// Marks what is to be given back, some time after there came to be more.
    pub(super) fn shrink(&mut self) {
        let again = self.now.after(PATIENCE);
        let supply = self.supply();
        let total = self.pool.total();
        // What is lost keeps its ENI for as long as a pod has it.
        let lost = total.v4.quarantined + total.v6.quarantined;
        if supply > self.supply_before || lost < self.lost_before {
            self.shrink_at.get_or_insert(again);
        }
        (self.supply_before, self.lost_before) = (supply, lost);
        if self.shrink_at.is_none_or(|at| at > self.now) {
            return;
        }
        let quiet = self.phase == Phase::Running
            && self.mode() == Mode::Normal
            && !self.draining
            && self.adds.is_empty()
            && self.warm_at.is_none();
        if !quiet {
            self.shrink_at = Some(again);
            return;
        }
        let facts = self.facts(0);
        let plan = planner::shrink(&self.settings, &self.node.limits, &facts);
        // More may come of it: one slot at a time grows old enough, and so does an ENI; one that is busy, or on its way,
        // comes to rest, and what one in trouble has serves pods again.
        let waits = facts.enis.iter().any(EniStock::is_busy)
            || self
                .pool
                .enis()
                .filter(|(_, eni)| eni.is_ours())
                .any(|(id, eni)| {
                    !eni.is_sound()
                        || self.now.since(eni.since) < OLD
                        || self.is_on_its_way(id)
                        || eni.is_being_routed()
                        || has_to_go_back(eni)
                });
        self.shrink_at = (waits || !plan.is_empty()).then_some(again);
        for action in plan {
            match action {
                Action::Unassign { eni, kind, count } => self.leave(&eni, kind, count),
                Action::Drain { eni } => self.drain(&eni),
                // What is asked for is not given back.
                Action::Assign { .. } | Action::Create { .. } => {}
            }
        }
        self.empty_kept_enis();
    }

    /// How many addresses of each family serve who waits, or will: without those of ENIs that go or are not here, which
    /// may end in the very step in which others come.
    fn supply(&self) -> (u64, u64) {
        let total = self.pool.total();
        let supply = (total.v4.supply(), total.v6.supply());
        if self.pool.is_even() {
            return supply;
        }
        let enis = self.pool.enis().map(|(_, eni)| eni);
        enis.filter(|eni| matches!(eni.life, Life::Draining | Life::Absent | Life::Unmanaged))
            .map(Eni::tally)
            .fold(supply, |(v4, v6), of| {
                (v4 - of.v4.supply(), v6 - of.v6.supply())
            })
    }

    /// What no pod gets any more goes back, as pods leave it; and with the last of it an ENI that we made.
    fn empty_kept_enis(&mut self) {
        let kept = self.pool.enis().filter(|(_, eni)| has_to_go_back(eni));
        let kept: Vec<EniId> = kept.map(|(id, _)| id.clone()).collect();
        for id in &kept {
            let Some(eni) = self.pool.eni(id) else {
                continue;
            };
            let empty = eni.slots().all(|(_, slot)| slot.is_empty());
            let stock = self.eni_stock(id, eni, self.asked_of(id));
            if stock.may_go && empty && !stock.is_busy() {
                self.drain(id);
                continue;
            }
            for kind in [SlotKind::Address, SlotKind::Prefix, SlotKind::Ipv6Prefix] {
                self.leave(id, kind, u32::MAX);
            }
        }
    }

    /// What is wanted has changed: there may be too much.
    pub(super) fn look_for_too_much(&mut self) {
        self.shrink_at.get_or_insert(self.now.after(PATIENCE));
    }

    /// From now on nobody gets an address of so many empty slots of an ENI: those that are free for the longest time.
    fn leave(&mut self, id: &EniId, kind: SlotKind, most: u32) {
        let Some(eni) = self.pool.eni(id) else {
            return;
        };
        let mut empty: Vec<(Time, IpNet)> = eni
            .slots()
            .filter(|(net, slot)| SlotKind::of(net) == kind && slot.is_empty() && !slot.leaving)
            .filter(|(_, slot)| slot.holding == Holding::Held)
            // What is not routed yet may be routed since a life before.
            .filter(|(_, slot)| slot.routing == Routing::Done)
            .filter(|(_, slot)| self.now.since(slot.since) >= OLD)
            .map(|(net, slot)| (slot.since, *net))
            .collect();
        empty.sort_unstable();
        empty.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        if empty.is_empty() {
            return;
        }
        let version = self.changed();
        for (_, net) in empty {
            self.pool.set_leaving(&net, true);
            let tombstone = Tombstone {
                eni: id.clone(),
                version,
                given_back: None,
            };
            self.tombstones.insert(net, tombstone);
        }
    }

    /// An ENI goes, with all that it holds.
    fn drain(&mut self, id: &EniId) {
        let Some(eni) = self.pool.eni(id) else {
            return;
        };
        let Some(link) = eni.link.clone() else {
            return;
        };
        let Some(attachment) = link.attachment else {
            return;
        };
        let (place, now) = (eni.place, self.now);
        self.pool
            .change_eni(id, |eni| eni.enter(Life::Draining, now));
        let stage = IntentStage::Detach(id.clone(), attachment);
        self.intend(link.subnet_id, Vec::new(), place, (None, 0), stage);
    }

    /// Carries on with what leaves, as far as the books and the node have come.
    pub(super) fn give_back(&mut self) {
        if self.mode() == Mode::Frozen {
            return;
        }
        let now = self.now;
        let mut unroute: Vec<(EniId, Vec<IpNet>)> = Vec::new();
        let mut unassign: Vec<(EniId, Vec<IpNet>)> = Vec::new();
        for (net, tombstone) in &self.tombstones {
            if tombstone.given_back.is_some() || tombstone.version > self.written {
                continue;
            }
            let Some((id, eni)) = self
                .pool
                .eni_of(net)
                .filter(|(id, _)| **id == tombstone.eni)
            else {
                continue;
            };
            let gate = self.gate(|| Spot::Unassign(id.clone()));
            let waits = eni.unsettled.is_some() || gate != planner::Gate::Open || !eni.is_up();
            let routing = eni.slot(net).map(|slot| slot.routing);
            let list = match routing {
                Some(Routing::Done) if self.preparation.under_way => continue,
                Some(Routing::Done) if eni.trouble.as_ref().is_none_or(|it| it.until <= now) => {
                    &mut unroute
                }
                Some(Routing::None) if !waits && !self.asked_of(id).busy => &mut unassign,
                _ => continue,
            };
            match list.last_mut() {
                Some((last, nets)) if last == id => nets.push(*net),
                _ => list.push((id.clone(), vec![*net])),
            }
        }
        for (eni, slots) in unroute {
            for net in &slots {
                self.pool.set_routing(net, Routing::Undoing, self.now);
            }
            let Some(place) = self.pool.eni(&eni).map(|eni| eni.place) else {
                continue;
            };
            self.effects.push(Effect::Unroute { eni, place, slots });
        }
        let mut called = Vec::new();
        for (eni, slots) in unassign {
            // One change of an ENI at a time.
            if called.contains(&eni) {
                continue;
            }
            called.push(eni.clone());
            let call = Call::Unassign { eni, slots };
            if self.may_ask(&call, Haste::Later) {
                self.call(call);
            }
        }
    }

    pub(super) fn unrouted(&mut self, id: &EniId, slots: &[IpNet], outcome: Result<(), String>) {
        let now = self.now;
        let failed = outcome.is_err();
        for net in slots {
            let undoing = self
                .pool
                .eni_of(net)
                .and_then(|(_, eni)| eni.slot(net))
                .is_some_and(|slot| slot.routing == Routing::Undoing);
            if undoing {
                let routing = if failed { Routing::Done } else { Routing::None };
                self.pool.set_routing(net, routing, now);
            }
        }
        match outcome {
            Ok(()) => drop(self.pool.change_eni(id, |eni| eni.trouble = None)),
            Err(why) => self.note_trouble(id, format!("its routes could not be removed: {why}")),
        }
    }

    pub(super) fn unassigned(
        &mut self,
        id: &EniId,
        slots: &[IpNet],
        outcome: Result<(), CallError>,
    ) {
        let now = self.now;
        match outcome {
            Ok(()) => {
                self.setbacks.remove(&Spot::Unassign(id.clone()));
                for net in slots {
                    // Another ENI may have it already, whose reply was faster.
                    let here = self.pool.eni_of(net).is_none_or(|(on, _)| on == id);
                    if here {
                        self.gone(net);
                    }
                }
                self.pool.change_eni(id, |eni| eni.changed = Some(now));
            }
            Err(error) => {
                // It may be that it has happened already: a Describe tells.
                let doubt = matches!(
                    error.kind,
                    CallErrorKind::Unknown | CallErrorKind::NotFound | CallErrorKind::Other
                );
                if doubt {
                    self.doubt_eni(id);
                }
                self.set_back(Spot::Unassign(id.clone()), error);
            }
        }
    }

    /// A reply says that this ENI holds a slot: that is the strongest word there is, also on what was given back a moment
    /// ago. What another ENI gave back it does not hold any more, whatever an older view shows, also after a restart.
    pub(super) fn comes_back(&mut self, id: &EniId, net: &IpNet) {
        if self.tombstones.get(net).is_some_and(|it| it.eni == *id) {
            self.tombstones.remove(net);
            self.pool.set_leaving(net, false);
        }
    }

    /// Whether the ENI that has the slot is to give it back, or did.
    pub(super) fn leaves(&self, net: &IpNet) -> bool {
        let on = self.pool.eni_of(net).map(|(id, _)| id);
        let tombstone = self.tombstones.get(net);
        tombstone.is_some_and(|it| on.is_none_or(|on| *on == it.eni))
    }

    /// EC2 does not hold a slot any more that was to go.
    pub(super) fn gone(&mut self, net: &IpNet) {
        let now = self.now;
        self.pool.lose(net);
        let version = self.changed();
        if let Some(tombstone) = self.tombstones.get_mut(net) {
            tombstone.given_back.get_or_insert(now);
            tombstone.version = version;
        }
    }

    /// A tombstone is needed for as long as an older view of EC2 may show what is gone.
    pub(super) fn forget_tombstones(&mut self) {
        let (now, before) = (self.now, self.tombstones.len());
        self.tombstones
            .retain(|_, tombstone| tombstone.given_back.is_none_or(|at| now < at.after(LAG)));
        if self.tombstones.len() != before {
            self.changed();
        }
    }

    pub(super) fn next_forgotten(&self) -> Option<Time> {
        let given_back = self.tombstones.values().filter_map(|it| it.given_back);
        given_back.min().map(|at| at.after(LAG))
    }

    /// Has the node undo what it made for ENIs that go, once the books know that they go.
    pub(super) fn tear_down(&mut self) {
        let now = self.now;
        for intent in &mut self.intents {
            let IntentStage::Detach(id, _) = &intent.stage else {
                continue;
            };
            let Some(eni) = self.pool.eni(id) else {
                continue;
            };
            let Some(link) = &eni.link else {
                continue;
            };
            let troubled = eni.trouble.as_ref().is_some_and(|it| it.until > now);
            if intent.torn_down == TornDown::No && intent.version <= self.written && !troubled {
                intent.torn_down = TornDown::Asked;
                self.effects.push(Effect::TearDownEni {
                    eni: id.clone(),
                    place: eni.place,
                    primary_address: link.primary_address,
                    slots: eni.slots().map(|(net, _)| *net).collect(),
                });
            }
        }
    }

    pub(super) fn eni_torn_down(&mut self, id: &EniId, outcome: Result<(), String>) {
        let done = outcome.is_ok();
        for intent in &mut self.intents {
            if intent.torn_down == TornDown::Asked && intent.stage.eni() == Some(id) {
                intent.torn_down = if done { TornDown::Done } else { TornDown::No };
            }
        }
        match outcome {
            Ok(()) => drop(self.pool.change_eni(id, |eni| eni.trouble = None)),
            Err(why) => self.note_trouble(id, format!("it could not be taken down: {why}")),
        }
    }

    pub(super) fn set_back(&mut self, spot: Spot, error: CallError) {
        let before = self.setbacks.get(&spot);
        let after = if unseen_yet(&spot, error.kind, before.map_or(0, |it| it.failures)) {
            retry::after_lag
        } else {
            retry::after_call
        };
        let setback = after(before, error, self.now, &mut self.jitter);
        self.setbacks.insert(spot, setback);
    }
}

/// Whether pods get nothing of it, and it has what they might.
fn has_to_go_back(eni: &Eni) -> bool {
    let held = |slot: &Slot| slot.holding == Holding::Held && !slot.leaving;
    let primary = eni.place == Place::PRIMARY;
    eni.kept_from_pods && eni.is_ours() && (!primary || eni.slots().any(|(_, slot)| held(slot)))
}

/// An ENI that was made a moment ago may not be seen by the calls that follow: so it is for some tries.
pub(super) fn unseen_yet(spot: &Spot, kind: CallErrorKind, failures: u32) -> bool {
    matches!(spot, Spot::Assign(..))
        && kind == CallErrorKind::NotFound
        && failures < NOT_FOUND_AT_MOST
}
