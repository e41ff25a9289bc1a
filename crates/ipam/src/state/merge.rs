//! What a Describe means: EC2's word on every ENI and address, laid beside ours.
//!
//! Truth, strongest first: the reply to our own call, then a Describe. EC2 does not always see its own changes at
//! once, so a Describe takes nothing away that a reply gave less than [`LAG`] before.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use super::calls::ATTACHED_AFTER;
use super::{Phase, State, TornDown};
use crate::pool::{Claim, Eni, Holding, Life};
use crate::{
    Attachment, Call, CallError, CallId, CallReply, EniFacts, EniId, EniLink, IntentStage, Place,
    Time, retry,
};

/// How long EC2 may take to see its own changes.
pub(super) const LAG: Duration = Duration::from_secs(30);

impl State {
    /// Asks EC2 what is there: at the start, and when a change has an unknown outcome.
    pub(super) fn describe_if_needed(&mut self) {
        let waits = self
            .describe_setback
            .as_ref()
            .is_some_and(|setback| setback.until > self.now);
        let under_way = self
            .calls
            .values()
            .any(|call| call.call == Call::DescribeEnis);
        if waits || under_way {
            return;
        }
        let wanted = self.phase == Phase::Loading
            || self.describe_at.is_some_and(|at| at <= self.now)
            || (!self.pool.is_even() && self.pool.enis().any(|(_, eni)| eni.unsettled.is_some()))
            || self.intents.iter().any(|intent| intent.unsettled.is_some());
        if wanted && self.may_ask(&Call::DescribeEnis, self.haste()) {
            if self.describe_at.is_some_and(|at| at <= self.now) {
                self.describe_at = None;
            }
            self.call(Call::DescribeEnis);
        }
    }

    /// Something shows what the pool does not know.
    pub(super) fn doubt(&mut self) {
        self.describe_at.get_or_insert(self.now);
    }

    pub(super) fn described(
        &mut self,
        id: CallId,
        asked: Time,
        outcome: Result<CallReply, CallError>,
    ) {
        match outcome {
            Ok(CallReply::Enis(enis)) => {
                self.describe_setback = None;
                self.merge(id, asked, &enis);
                if self.phase == Phase::Loading {
                    self.seek_orphans_if_not_the_first(&enis);
                    self.phase = Phase::Running;
                    self.preparation.due = Some(self.now);
                }
            }
            Ok(_) => {}
            Err(error) => {
                // Nothing goes on without it, so it is tried again soon even where EC2 has refused.
                let before = self.describe_setback.as_ref();
                let setback = retry::after_lag(before, error, self.now, &mut self.jitter);
                self.describe_setback = Some(setback);
                self.describe_at = Some(self.now);
            }
        }
    }

    fn merge(&mut self, describe: CallId, asked: Time, enis: &[EniFacts]) {
        self.forget_deleted(asked);
        let attached: BTreeMap<&EniId, (&EniFacts, &Attachment)> = enis
            .iter()
            .filter(|facts| !self.deleted.contains_key(&facts.id))
            .filter_map(|facts| Some((&facts.id, (facts, facts.attachment.as_ref()?))))
            .collect();
        let lost_before = self.lost();
        for (facts, attachment) in attached.values() {
            self.merge_eni(facts, attachment, asked);
        }
        let missing = self
            .pool
            .enis()
            .filter(|(id, eni)| !attached.contains_key(id) && eni.life != Life::Attaching);
        let (missing, kept): (Vec<_>, Vec<_>) = missing.partition(|(_, eni)| outweighs(eni, asked));
        // When a view may say of those that they are gone.
        let again = kept.iter().filter_map(|(_, eni)| eni.changed).max();
        let missing: Vec<EniId> = missing.into_iter().map(|(id, _)| id.clone()).collect();
        if let Some(changed) = again {
            self.describe_at.get_or_insert(changed.after(LAG));
        }
        // What others took off the node they may have deleted or not.
        let taken = |id: &EniId| self.pool.eni(id).is_some_and(Eni::is_ours) && !self.goes(id);
        if missing.iter().any(taken) {
            self.seek_own_orphans();
        }
        for id in &missing {
            self.lose_eni(id);
        }
        self.settle_intents(describe, asked, &attached);
        let settled: Vec<EniId> = self
            .pool
            .enis()
            .filter(|(_, eni)| eni.unsettled.is_some_and(|by| by <= describe))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &settled {
            self.pool.change_eni(id, |eni| eni.unsettled = None);
        }
        let mut newly_lost = self.lost();
        newly_lost.retain(|ip, _| !lost_before.contains_key(ip));
        for (ip, whose) in &newly_lost {
            self.tell(format!(
                "address {ip} of {whose} is not held by any ENI of this node any more, EC2 says: its traffic is \
                 lost. It is given to nobody; delete the pod, so that it gets another address"
            ));
        }
        if !newly_lost.is_empty() {
            // Once more, in case EC2 has not seen its own change.
            self.describe_at = Some(self.now.after(LAG));
        }
    }

    /// No view asked for from now on is so old that it may show what was deleted long before `oldest_view` was asked.
    pub(super) fn forget_deleted(&mut self, oldest_view: Time) {
        self.deleted
            .retain(|_, deleted| oldest_view < deleted.after(LAG));
    }

    /// Owned addresses that EC2 does not hold, with the owner's name for people.
    fn lost(&self) -> BTreeMap<IpAddr, String> {
        let total = self.pool.total();
        if total.v4.quarantined + total.v6.quarantined == 0 {
            return BTreeMap::new();
        }
        self.pool
            .claims()
            .filter_map(|(ip, claimed)| {
                let Claim::Owned(sandbox) = &claimed.claim else {
                    return None;
                };
                let (_, eni) = self.pool.eni_of(&claimed.slot)?;
                (eni.slot(&claimed.slot)?.holding == Holding::Lost).then_some(())?;
                let pod = &self.pool.owner(sandbox)?.entry.pod;
                let whose = format!("pod {}/{} (sandbox {sandbox})", pod.namespace, pod.name);
                Some((*ip, whose))
            })
            .collect()
    }

    fn merge_eni(&mut self, facts: &EniFacts, attachment: &Attachment, asked: Time) {
        let now = self.now;
        let goes = self.goes(&facts.id);
        let kept = self.is_kept_from_pods(attachment.place, Some(&facts.subnet_id));
        if self.pool.eni(&facts.id).is_none() {
            let eni = Eni::new(attachment.place, None, Life::Absent, now);
            self.pool.insert_eni(facts.id.clone(), eni);
            self.changed();
        }
        let before = self
            .pool
            .eni(&facts.id)
            .map(|eni| (eni.place, eni.link.clone(), eni.life, eni.groups.clone()));
        self.pool.change_eni(&facts.id, |eni| {
            eni.place = attachment.place;
            eni.link = Some(EniLink::from(facts));
            eni.kept_from_pods = kept && facts.managed;
            if outweighs(eni, asked) || eni.groups.is_empty() {
                eni.groups = facts.security_groups.iter().cloned().collect();
            }
            if !facts.managed {
                eni.enter(Life::Unmanaged, now);
                eni.trouble = None;
            } else if goes {
                eni.enter(Life::Draining, now);
            } else if matches!(
                eni.life,
                Life::Absent | Life::Attaching | Life::Unmanaged | Life::Draining
            ) {
                eni.enter(Life::SettingUp { asked: false }, now);
            }
        });
        let after = self
            .pool
            .eni(&facts.id)
            .map(|eni| (eni.place, eni.link.clone(), eni.life, eni.groups.clone()));
        if before != after {
            self.changed();
        }
        let Some(eni) = self.pool.eni(&facts.id) else {
            return;
        };
        let believed = outweighs(eni, asked);
        // What is not ours to use any more is nobody's, but for the pods that have it.
        let ended: Vec<IpNet> = eni
            .slots()
            .filter(|(net, slot)| {
                (believed && !facts.slots.contains(net)) || (!facts.managed && slot.is_empty())
            })
            .map(|(net, _)| *net)
            .collect();
        for net in &ended {
            if self.leaves(net) {
                self.gone(net);
            } else {
                self.pool.lose(net);
                self.changed();
                // Its route and mark must go, or this node keeps what is the new owner's.
                self.preparation.due = Some(now);
            }
        }
        for net in &facts.slots {
            let known = self.pool.eni_of(net).is_some();
            let overtaken = self.pool.overlapping(net).iter().any(|other| {
                let on = self.pool.eni_of(other);
                on.is_some_and(|(_, eni)| !outweighs(eni, asked))
            });
            // It was given back here, and has come with another ENI since.
            let moved = self
                .pool
                .eni_of(net)
                .is_some_and(|(id, eni)| *id != facts.id && !outweighs(eni, asked));
            if moved {
                // Or it was taken and given again behind our back: a view that is newer than the reply tells.
                self.describe_at.get_or_insert(now.after(LAG));
            }
            let old = overtaken || moved || self.is_older_than_its_end(&facts.id, net, asked);
            if (facts.managed || known) && !old {
                self.hold(&facts.id, *net);
            }
        }
    }

    /// Whether the ENI gave the slot back too short a time before this Describe for it to know.
    fn is_older_than_its_end(&self, id: &EniId, net: &IpNet, asked: Time) -> bool {
        let tombstone = self.tombstones.get(net).filter(|it| it.eni == *id);
        let end = tombstone.and_then(|it| it.given_back);
        end.is_some_and(|end| asked < end.after(LAG))
    }

    /// Whether the books say that the ENI goes.
    pub(super) fn goes(&self, id: &EniId) -> bool {
        let goes = |stage: &IntentStage| matches!(stage, IntentStage::Detach(eni, _) | IntentStage::Delete(eni) if eni == id);
        self.intents.iter().any(|intent| goes(&intent.stage))
    }

    fn settle_intents(
        &mut self,
        describe: CallId,
        asked: Time,
        attached: &BTreeMap<&EniId, (&EniFacts, &Attachment)>,
    ) {
        let taken: Vec<Place> = attached.values().map(|(_, at)| at.place).collect();
        let mut kept = Vec::new();
        for mut intent in std::mem::take(&mut self.intents) {
            intent
                .unsettled
                .take_if(|settled_by| *settled_by <= describe);
            let eni = intent.stage.eni();
            let found = eni.and_then(|eni| attached.get(eni));
            if found.is_some_and(|(facts, _)| !facts.is_ours()) && intent.call.is_none() {
                // It is not ours to touch any more.
                self.changed();
                continue;
            }
            match (found, &intent.stage) {
                // It goes, and is still there.
                #[expect(
                    clippy::collapsible_match,
                    reason = "what needs no change must not fall through to the arms below"
                )]
                (Some((_, attachment)), IntentStage::Detach(eni, known)) => {
                    if attachment.id != *known && intent.call.is_none() {
                        intent.stage = IntentStage::Detach(eni.clone(), attachment.id.clone());
                        intent.version = self.changed();
                    }
                }
                (Some((_, attachment)), IntentStage::Delete(eni)) => {
                    let failures = intent.setback.as_ref().map_or(0, |it| it.failures);
                    if failures >= ATTACHED_AFTER && intent.call.is_none() {
                        intent.stage = IntentStage::Detach(eni.clone(), attachment.id.clone());
                        intent.torn_down = TornDown::No;
                        intent.setback = None;
                        intent.version = self.changed();
                    }
                }
                // It is off the instance.
                (None, IntentStage::Detach(eni, _)) if intent.call.is_none() => {
                    let known = self.pool.eni(eni);
                    if known.is_none_or(|known| outweighs(known, asked)) {
                        intent.stage = IntentStage::Delete(eni.clone());
                        intent.setback = None;
                        intent.version = self.changed();
                    }
                }
                (Some((facts, attachment)), _) if intent.call.is_none() => {
                    let goes = attachment.delete_on_termination;
                    let stage =
                        IntentStage::DeleteOnTermination(facts.id.clone(), attachment.id.clone());
                    if goes {
                        self.changed();
                        continue;
                    }
                    if intent.stage != stage {
                        intent.stage = stage;
                        intent.setback = None;
                        intent.unsettled = None;
                        intent.version = self.changed();
                    }
                }
                (None, IntentStage::Attach(_) | IntentStage::Create)
                    if intent.call.is_none() && taken.contains(&intent.place) =>
                {
                    intent.place.device_index = u32::MAX;
                }
                (None, IntentStage::DeleteOnTermination(eni, _))
                    if self.pool.eni(eni).is_none_or(|eni| outweighs(eni, asked)) =>
                {
                    self.changed();
                    continue;
                }
                _ => {}
            }
            kept.push(intent);
        }
        self.intents = kept;
        self.renumber(&taken);
        for (facts, attachment) in attached.values() {
            self.see_to_termination(facts, attachment);
        }
    }

    /// Gives intents whose place somebody else has taken the lowest one of the card that is free.
    fn renumber(&mut self, taken: &[Place]) {
        for at in 0..self.intents.len() {
            let promised: Vec<Place> = self.intents.iter().map(|other| other.place).collect();
            let Some(intent) = self.intents.get(at) else {
                return;
            };
            if intent.place.device_index != u32::MAX {
                continue;
            }
            let card = intent.place.card;
            let mut places = (1..).map(|device_index| Place { card, device_index });
            let free = places.find(|place| !taken.contains(place) && !promised.contains(place));
            let eni = intent.stage.eni().cloned();
            let version = self.changed();
            if let (Some(free), Some(intent)) = (free, self.intents.get_mut(at)) {
                intent.place = free;
                intent.version = version;
                if let Some(eni) = eni {
                    self.pool.change_eni(&eni, |eni| eni.place = free);
                }
            }
        }
    }

    /// An ENI that we made must go when the instance goes, also when the books of its making are lost.
    fn see_to_termination(&mut self, facts: &EniFacts, attachment: &Attachment) {
        let known = self.is_on_its_way(&facts.id);
        let primary = attachment.place == Place::PRIMARY;
        if primary || !facts.is_ours() || attachment.delete_on_termination || known {
            return;
        }
        let stage = IntentStage::DeleteOnTermination(facts.id.clone(), attachment.id.clone());
        let groups = facts.security_groups.clone();
        self.intend(
            facts.subnet_id.clone(),
            groups,
            attachment.place,
            (None, 0),
            stage,
        );
    }
}

impl IntentStage {
    /// The ENI, once there is one.
    #[must_use]
    pub fn eni(&self) -> Option<&EniId> {
        match self {
            Self::Create => None,
            Self::Attach(eni)
            | Self::DeleteOnTermination(eni, _)
            | Self::Detach(eni, _)
            | Self::Delete(eni) => Some(eni),
        }
    }
}

/// Whether a Describe asked for at this time may take away what replies to our calls gave.
fn outweighs(eni: &Eni, asked: Time) -> bool {
    eni.changed
        .is_none_or(|changed| asked >= changed.after(LAG))
}
