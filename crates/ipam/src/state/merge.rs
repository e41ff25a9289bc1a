//! What a Describe means: EC2's word on every ENI and address, laid beside ours.
//!
//! Truth, strongest first: the reply to our own call, then a Describe. EC2 does not always see its own changes at
//! once, so a Describe takes nothing away that a reply gave less than [`LAG`] before.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Intent, Phase, State};
use crate::pool::{Claim, Eni, Holding, Life, Link, Routing};
use crate::{
    Attachment, Call, CallError, CallId, CallReply, EniFacts, EniId, IntentStage, Time, retry,
};

/// How long EC2 may take to see its own changes.
const LAG: Duration = Duration::from_secs(30);

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
            || self.enis.values().any(|eni| eni.unsettled.is_some())
            || self.intents.iter().any(|intent| intent.unsettled.is_some());
        if wanted {
            if self.describe_at.is_some_and(|at| at <= self.now) {
                self.describe_at = None;
            }
            self.call(Call::DescribeEnis);
        }
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
                if self.phase == Phase::Running {
                    self.describe_at = Some(self.now);
                }
            }
        }
    }

    fn merge(&mut self, describe: CallId, asked: Time, enis: &[EniFacts]) {
        let attached: BTreeMap<&EniId, (&EniFacts, &Attachment)> = enis
            .iter()
            .filter_map(|facts| Some((&facts.id, (facts, facts.attachment.as_ref()?))))
            .collect();
        let lost_before = self.lost();
        for (facts, attachment) in attached.values() {
            self.merge_eni(facts, attachment, asked);
        }
        let missing: Vec<_> = self
            .enis
            .iter()
            .filter(|(id, eni)| !attached.contains_key(id) && eni.life != Life::Attaching)
            .filter(|(_, eni)| outweighs(eni, asked))
            .map(|(id, _)| id.clone())
            .collect();
        for id in &missing {
            self.lose_eni(id);
        }
        self.sweep();
        self.settle_intents(describe, asked, &attached);
        for eni in self.enis.values_mut() {
            eni.unsettled.take_if(|settled_by| *settled_by <= describe);
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

    /// Owned addresses that EC2 does not hold, with the owner's name for people.
    fn lost(&self) -> BTreeMap<std::net::Ipv4Addr, String> {
        self.enis
            .values()
            .flat_map(|eni| &eni.addresses)
            .filter(|(_, address)| address.holding == Holding::Lost)
            .filter_map(|(ip, address)| {
                let owner = address.owner()?;
                let pod = &owner.pod;
                Some((
                    *ip,
                    format!(
                        "pod {}/{} (sandbox {})",
                        pod.namespace, pod.name, owner.sandbox
                    ),
                ))
            })
            .collect()
    }

    fn merge_eni(&mut self, facts: &EniFacts, attachment: &Attachment, asked: Time) {
        let now = self.now;
        let eni = self
            .enis
            .entry(facts.id.clone())
            .or_insert_with(|| Eni::new(attachment.device_index, None, Life::Absent, now));
        eni.device_index = attachment.device_index;
        eni.link = Some(Link::from(facts));
        if !facts.managed {
            eni.enter(Life::Unmanaged, now);
            eni.trouble = None;
        } else if matches!(eni.life, Life::Absent | Life::Attaching | Life::Unmanaged) {
            eni.enter(Life::SettingUp { asked: false }, now);
        }
        let believed = outweighs(eni, asked);
        let mut undone = false;
        for (ip, address) in &mut eni.addresses {
            let told = facts.secondary_addresses.contains(ip);
            if !told && believed {
                address.holding = Holding::Lost;
                address.routing = Routing::None;
            }
            // What is not ours to use any more is nobody's, but for the pods that have it.
            undone |= !facts.managed && matches!(address.claim, Claim::None);
        }
        if undone {
            eni.addresses
                .retain(|_, address| !matches!(address.claim, Claim::None));
        }
        for ip in &facts.secondary_addresses {
            let known = self.enis.values().any(|eni| eni.addresses.contains_key(ip));
            if facts.managed || known {
                self.hold(&facts.id, *ip);
            }
        }
    }

    fn settle_intents(
        &mut self,
        describe: CallId,
        asked: Time,
        attached: &BTreeMap<&EniId, (&EniFacts, &Attachment)>,
    ) {
        let taken: Vec<u32> = attached.values().map(|(_, at)| at.device_index).collect();
        let mut kept = Vec::new();
        for mut intent in std::mem::take(&mut self.intents) {
            intent
                .unsettled
                .take_if(|settled_by| *settled_by <= describe);
            let eni = intent.stage.eni();
            let found = eni.and_then(|eni| attached.get(eni));
            match (found, &intent.stage) {
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
                    if intent.call.is_none() && taken.contains(&intent.device_index) =>
                {
                    intent.device_index = u32::MAX;
                }
                (None, IntentStage::DeleteOnTermination(eni, _))
                    if self.enis.get(eni).is_none_or(|eni| outweighs(eni, asked)) =>
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

    /// Gives intents whose device index somebody else has taken the lowest that is free.
    fn renumber(&mut self, taken: &[u32]) {
        for at in 0..self.intents.len() {
            let promised: Vec<u32> = self
                .intents
                .iter()
                .map(|other| other.device_index)
                .collect();
            let free = (1..).find(|index| !taken.contains(index) && !promised.contains(index));
            let (Some(free), Some(intent)) = (free, self.intents.get(at)) else {
                return;
            };
            if intent.device_index != u32::MAX {
                continue;
            }
            let eni = intent.stage.eni().cloned();
            let version = self.changed();
            if let Some(intent) = self.intents.get_mut(at) {
                intent.device_index = free;
                intent.version = version;
            }
            if let Some(eni) = eni.and_then(|eni| self.enis.get_mut(&eni)) {
                eni.device_index = free;
            }
        }
    }

    /// An ENI that we made must go when the instance goes, also when the books of its making are lost.
    fn see_to_termination(&mut self, facts: &EniFacts, attachment: &Attachment) {
        let known = self
            .intents
            .iter()
            .any(|intent| intent.stage.eni() == Some(&facts.id));
        let primary = attachment.device_index == 0;
        if primary || !facts.managed || attachment.delete_on_termination || known {
            return;
        }
        let token = self.token();
        let version = self.changed();
        self.intents.push(Intent {
            token,
            subnet: facts.subnet_id.clone(),
            groups: facts.security_groups.clone(),
            addresses: 0,
            device_index: attachment.device_index,
            stage: IntentStage::DeleteOnTermination(facts.id.clone(), attachment.id.clone()),
            since: self.now,
            version,
            call: None,
            maybe_created: false,
            unsettled: None,
            setback: None,
        });
    }
}

impl IntentStage {
    /// The ENI, once there is one.
    #[must_use]
    pub fn eni(&self) -> Option<&EniId> {
        match self {
            Self::Create => None,
            Self::Attach(eni) | Self::DeleteOnTermination(eni, _) | Self::Delete(eni) => Some(eni),
        }
    }
}

/// Whether a Describe asked for at this time may take away what replies to our calls gave.
fn outweighs(eni: &Eni, asked: Time) -> bool {
    eni.changed
        .is_none_or(|changed| asked >= changed.after(LAG))
}
