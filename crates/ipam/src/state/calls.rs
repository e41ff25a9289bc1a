//! Calls to EC2, and what its answers mean.

use ipnet::IpNet;

use super::merge::LAG;
use super::{Intent, PendingCall, Phase, Spot, State, TornDown};
use crate::pool::{Eni, Life};
use crate::retry::{self, Setback, passes};
use crate::{
    Call, CallError, CallErrorKind, CallId, CallReply, Effect, EniFacts, EniId, EniLink,
    IntentStage, Mode, SlotKind, SubnetId,
};

/// An ENI that EC2 has made may be unknown to the calls that follow for a while; after this many times it is
/// gone.
pub(super) const NOT_FOUND_AT_MOST: u32 = 5;
/// An attachment that neither succeeds nor shows in a Describe is given up after this many times.
const IN_USE_AT_MOST: u32 = 8;
/// An instance boots within a minute, as a rule; one that goes may not be told from it. After so many times, which take
/// two minutes and a half, an attachment to it is given up.
const NOT_READY_AT_MOST: u32 = 10;
/// An ENI that cannot be deleted so many times may be attached after all: an attachment that was given up may have come.
pub(super) const ATTACHED_AFTER: u32 = 2;
/// A creation that may have happened, as its token was used or its outcome is not known, and that is refused when asked
/// about again is given up after this many times.
const REFUSED_AT_MOST: u32 = 10;

impl State {
    /// Asks EC2 for what [`Self::may_ask`] allows.
    pub(super) fn call(&mut self, call: Call) -> CallId {
        self.governor.take(call.action(), self.now);
        let id = self.next_call;
        self.next_call.0 += 1;
        let since = self.now;
        self.effects.push(Effect::Call(id, call.clone()));
        self.calls.insert(id, PendingCall { call, since });
        id
    }

    /// Makes the calls of intents that are on disk, settled, and not waiting for a retry.
    pub(super) fn call_for_intents(&mut self) {
        if self.phase != Phase::Running || self.mode() == Mode::Frozen {
            return;
        }
        for at in 0..self.intents.len() {
            let Some(intent) = self.intents.get(at) else {
                return;
            };
            let waits = intent.call.is_some()
                || intent.version > self.written
                || intent.unsettled.is_some()
                || (matches!(intent.stage, IntentStage::Detach(..))
                    && intent.torn_down != TornDown::Done)
                || intent
                    .setback
                    .as_ref()
                    .is_some_and(|setback| setback.until > self.now);
            let call = intent.next_call();
            if waits || call.eni().is_some_and(|eni| self.asked_of(eni).busy) {
                continue;
            }
            if !self.may_carry_on(&call) {
                continue;
            }
            let id = self.call(call);
            if let Some(intent) = self.intents.get_mut(at) {
                intent.call = Some(id);
            }
        }
    }

    pub(super) fn call_done(&mut self, id: CallId, outcome: Result<CallReply, CallError>) {
        let Some(PendingCall { call, since }) = self.calls.remove(&id) else {
            return;
        };
        let outcome = outcome.and_then(|reply| {
            if answers(&reply, &call) {
                Ok(reply)
            } else {
                Err(CallError {
                    kind: CallErrorKind::Unknown,
                    action: call.action(),
                    code: "UnexpectedReply".to_owned(),
                    message: "the reply is not of this action".to_owned(),
                    request_id: None,
                })
            }
        });
        if call.sweeps() || matches!(call, Call::SetGroups { .. }) {
            // Whether it works says nothing of what pods need: other permissions may go with it.
            if let Err(error) = &outcome
                && error.kind == CallErrorKind::Throttled
            {
                self.governor.throttled(call.action(), self.now);
            }
            match &call {
                Call::SetGroups { eni, groups } => self.groups_set(eni, groups, outcome.map(drop)),
                _ => self.swept(call, since, outcome),
            }
            return;
        }
        let changes = call.changes();
        match &outcome {
            Ok(_) => {
                self.last_error.take_if(|_| call != Call::DescribeSubnets);
                if changes {
                    self.note_success();
                }
            }
            Err(error) => {
                if error.kind == CallErrorKind::Throttled {
                    self.governor.throttled(call.action(), self.now);
                }
                // Growth goes on without it.
                if call != Call::DescribeSubnets {
                    self.last_error = Some(error.clone());
                }
                if changes {
                    self.note_failure(error.kind);
                }
            }
        }
        match call {
            Call::DescribeEnis => self.described(id, since, outcome),
            Call::DescribeSubnets => self.subnets_told(outcome),
            Call::Assign { eni, kind, count } => self.assigned(&eni, (kind, count), outcome),
            Call::Unassign { eni, slots } => self.unassigned(&eni, &slots, outcome.map(drop)),
            Call::CreateEni { .. }
            | Call::AttachEni { .. }
            | Call::DeleteOnTermination { .. }
            | Call::DetachEni { .. }
            | Call::DeleteEni { .. }
            | Call::SetGroups { .. }
            | Call::DescribeOrphans(_)
            | Call::DeleteOrphan { .. } => {
                let at = self
                    .intents
                    .iter()
                    .position(|intent| intent.call == Some(id));
                let Some(at) = at else {
                    return;
                };
                let mut intent = self.intents.remove(at);
                intent.call = None;
                let kept = match outcome {
                    Ok(reply) => self.intent_done(intent, reply),
                    Err(error) => self.intent_failed(intent, error),
                };
                let Some(intent) = kept else {
                    return;
                };
                let eni = intent.stage.eni().and_then(|eni| self.pool.eni(eni));
                if eni.is_some_and(|eni| eni.life == Life::Unmanaged) {
                    // A Describe has said meanwhile that it is not ours to touch any more.
                    self.changed();
                } else {
                    self.intents.insert(at, intent);
                }
            }
        }
    }

    fn assigned(
        &mut self,
        id: &EniId,
        (kind, count): (SlotKind, u32),
        outcome: Result<CallReply, CallError>,
    ) {
        let now = self.now;
        match outcome {
            Ok(CallReply::Assigned(slots)) => {
                let subnet = self.subnet_of(id);
                self.had(&subnet, kind, count);
                let cut_short = slots.len() < usize::try_from(count).unwrap_or(usize::MAX);
                self.setbacks
                    .remove(&Spot::Subnet(self.subnet_of(id), kind));
                self.setbacks.remove(&Spot::Assign(id.clone(), kind));
                for net in slots {
                    self.comes_back(id, &net);
                    self.hold(id, net);
                }
                let life = self.pool.change_eni(id, |eni| {
                    eni.changed = Some(now);
                    eni.life
                });
                if life == Some(Life::Absent) {
                    // A Describe has said meanwhile that it is off the instance.
                    self.describe_at.get_or_insert(now.after(LAG));
                }
                if cut_short {
                    self.doubt_eni(id);
                }
            }
            Ok(_) => {}
            Err(error) => {
                // The two last say that the ENI is not what we think it is.
                let doubt = matches!(
                    error.kind,
                    CallErrorKind::Unknown | CallErrorKind::AddressLimit | CallErrorKind::NotFound
                );
                if doubt {
                    self.doubt_eni(id);
                }
                let spot = match error.kind {
                    CallErrorKind::SubnetExhausted | CallErrorKind::PrefixesExhausted => {
                        let subnet = self.subnet_of(id);
                        if self.ask_for_fewer(&subnet, kind, count) {
                            return;
                        }
                        Spot::Subnet(subnet, kind)
                    }
                    _ => Spot::Assign(id.clone(), kind),
                };
                self.set_back(spot, error);
            }
        }
    }

    /// It may hold more than was told, or less: a Describe tells. EC2 assigns all or nothing, so a reply that lists
    /// fewer than were asked for was cut on its way, which the SDK does not notice.
    pub(super) fn doubt_eni(&mut self, id: &EniId) {
        let settled_by = Some(self.next_call);
        self.pool.change_eni(id, |eni| eni.unsettled = settled_by);
    }

    /// EC2 gives all that is asked for or nothing: a subnet that has not so many may have half as many. False when it
    /// has not even one.
    fn ask_for_fewer(&mut self, subnet: &SubnetId, kind: SlotKind, asked: u32) -> bool {
        let spot = (subnet.clone(), kind);
        if asked > 1 {
            self.at_once.insert(spot, asked / 2);
        } else {
            self.at_once.remove(&spot);
        }
        asked > 1
    }

    /// A subnet had all that was asked for: it may have twice as many.
    fn had(&mut self, subnet: &SubnetId, kind: SlotKind, count: u32) {
        let spot = (subnet.clone(), kind);
        match self.at_once.get(&spot) {
            Some(most) if *most == count => self.at_once.insert(spot, count.saturating_mul(2)),
            // As many as were wanted.
            Some(most) if *most > count => self.at_once.remove(&spot),
            _ => None,
        };
    }

    pub(super) fn subnet_of(&self, id: &EniId) -> SubnetId {
        self.pool
            .eni(id)
            .and_then(|eni| eni.link.as_ref())
            .map_or_else(
                || self.node.subnet_id.clone(),
                |link| link.subnet_id.clone(),
            )
    }

    /// EC2 says that this ENI of ours holds this slot.
    pub(super) fn hold(&mut self, id: &EniId, net: IpNet) {
        // Some answers to Assign list all that the ENI has, its own address too.
        let own = self
            .pool
            .enis()
            .filter_map(|(_, eni)| eni.link.as_ref())
            .any(|link| IpNet::from(std::net::IpAddr::V4(link.primary_address)) == net);
        if own {
            return;
        }
        for other in self.pool.overlapping(&net) {
            // Taken away by others, and given again in another size.
            if self.leaves(&other) {
                self.gone(&other);
            } else {
                self.pool.lose(&other);
            }
            self.changed();
            self.preparation.due = Some(self.now);
        }
        if self.pool.hold(id, net, self.now) {
            self.changed();
            self.claim_for_strays();
            match self.tombstones.get_mut(&net) {
                // Another ENI has it now, so that one has given it back.
                Some(tombstone) if tombstone.eni != *id => {
                    tombstone.given_back.get_or_insert(self.now);
                }
                // It was to go before a restart. What went is not shown any more.
                Some(_) => self.pool.set_leaving(&net, true),
                None => {}
            }
        }
    }

    fn intent_done(&mut self, mut intent: Intent, reply: CallReply) -> Option<Intent> {
        intent.setback = None;
        intent.version = self.changed();
        match (intent.stage.clone(), reply) {
            (IntentStage::Create, CallReply::Created(facts)) => {
                self.setbacks.remove(&Spot::Create);
                if let Some((kind, count)) = intent.ipv4 {
                    self.had(&intent.subnet, kind, count);
                }
                let brought = intent.ipv4.map(|(kind, _)| kind);
                let brought = brought.into_iter().chain([SlotKind::Address]);
                let ipv6 = (intent.ipv6_prefixes > 0).then_some(SlotKind::Ipv6Prefix);
                for kind in brought.chain(ipv6) {
                    self.setbacks
                        .remove(&Spot::Subnet(intent.subnet.clone(), kind));
                }
                self.created(intent, &facts)
            }
            (IntentStage::Attach(eni), CallReply::Attached(attachment)) => {
                self.setbacks.remove(&Spot::Create);
                let now = self.now;
                let is_known = self.pool.change_eni(&eni, |eni| {
                    eni.changed = Some(now);
                    let Some(link) = &mut eni.link else {
                        return false;
                    };
                    link.attachment = Some(attachment.clone());
                    // A Describe may have told it first.
                    if !matches!(eni.life, Life::SettingUp { .. } | Life::Ready) {
                        eni.enter(Life::SettingUp { asked: false }, now);
                    }
                    true
                });
                if is_known != Some(true) {
                    // Known by its id alone since a restart.
                    self.describe_at = Some(now);
                }
                intent.stage = IntentStage::DeleteOnTermination(eni, attachment);
                Some(intent)
            }
            (IntentStage::Detach(eni, _), CallReply::Done) => {
                self.lose_eni(&eni);
                self.setbacks.remove(&Spot::Create);
                intent.stage = IntentStage::Delete(eni);
                Some(intent)
            }
            (IntentStage::Delete(eni), _) => {
                self.deleted(eni);
                None
            }
            _ => None,
        }
    }

    fn created(&mut self, mut intent: Intent, facts: &EniFacts) -> Option<Intent> {
        let now = self.now;
        if self.pool.eni(&facts.id).is_some_and(Eni::is_ours) {
            // Made, attached and described before a crash: the Describe has taken it over.
            return None;
        }
        let link = Some(EniLink::from(facts));
        let mut eni = Eni::new(intent.place, link, Life::Attaching, now);
        eni.changed = Some(now);
        eni.groups = facts.security_groups.iter().cloned().collect();
        self.pool.insert_eni(facts.id.clone(), eni);
        for net in &facts.slots {
            self.comes_back(&facts.id, net);
            self.hold(&facts.id, *net);
        }
        let asked = intent.ipv4.map_or(0, |(_, slots)| slots) + intent.ipv6_prefixes;
        if facts.slots.len() < usize::try_from(asked).unwrap_or(usize::MAX) {
            // Not before it is attached: those that are not, a Describe does not show.
            self.describe_at = Some(now.after(LAG));
        }
        intent.stage = IntentStage::Attach(facts.id.clone());
        Some(intent)
    }

    fn intent_failed(&mut self, mut intent: Intent, error: CallError) -> Option<Intent> {
        let kind = error.kind;
        let failures = intent
            .setback
            .as_ref()
            .map_or(0, |setback| setback.failures)
            + 1;
        let lagging = match kind {
            CallErrorKind::NotFound => failures < NOT_FOUND_AT_MOST,
            // A detach takes its time, and there is no hurry to delete.
            CallErrorKind::InUse => !matches!(intent.stage, IntentStage::Delete(_)),
            // A creation that may have happened holds a place that others may need: whether it has is asked soon.
            _ => intent.stage == IntentStage::Create,
        };
        let setback = self.setback_of(&intent, &error, lagging);
        intent.setback = Some(setback);
        let settle = Some(self.next_call);
        match intent.stage.clone() {
            IntentStage::Create => {
                intent.maybe_created |=
                    matches!(kind, CallErrorKind::Unknown | CallErrorKind::InUse);
                let used = kind == CallErrorKind::InUse && failures < REFUSED_AT_MOST;
                if used || passes(kind) {
                    return Some(intent);
                }
                if kind == CallErrorKind::SubnetExhausted
                    && let Some((slots, count)) = intent.ipv4
                    && !intent.maybe_created
                    && self.ask_for_fewer(&intent.subnet, slots, count)
                {
                    // Planned anew, and asked for with fewer.
                    self.changed();
                    return None;
                }
                // A refusal says nothing of an earlier try: credentials and room in the subnet may be looked at
                // before the token is.
                let unclear = intent.maybe_created;
                let spot = match (kind, intent.ipv4) {
                    (CallErrorKind::NotFound, _) if self.doubt_subnet(&intent.subnet) => {
                        Spot::Subnet(intent.subnet.clone(), SlotKind::Address)
                    }
                    // Some of EC2's words say that either is lacking: then addresses are asked for next.
                    (CallErrorKind::SubnetExhausted, Some((SlotKind::Prefix, _))) => {
                        Spot::Subnet(intent.subnet.clone(), SlotKind::Prefix)
                    }
                    (CallErrorKind::SubnetExhausted, _) => {
                        Spot::Subnet(intent.subnet.clone(), SlotKind::Address)
                    }
                    (CallErrorKind::PrefixesExhausted, Some((SlotKind::Prefix, _))) => {
                        Spot::Subnet(intent.subnet.clone(), SlotKind::Prefix)
                    }
                    (CallErrorKind::PrefixesExhausted, _) if intent.ipv6_prefixes > 0 => {
                        Spot::Subnet(intent.subnet.clone(), SlotKind::Ipv6Prefix)
                    }
                    _ => Spot::Create,
                };
                if unclear && failures < REFUSED_AT_MOST {
                    self.set_back(spot, error);
                    return Some(intent);
                }
                if unclear {
                    self.tell(format!(
                        "an ENI may have been made with client token {} and be left over: {error}",
                        intent.token
                    ));
                    self.seek_own_orphans();
                }
                self.changed();
                self.set_back(spot, error);
                None
            }
            IntentStage::Attach(eni) => {
                if matches!(kind, CallErrorKind::Unknown | CallErrorKind::InUse) {
                    intent.unsettled = settle;
                }
                let give_up = match kind {
                    CallErrorKind::Throttled
                    | CallErrorKind::Unavailable
                    | CallErrorKind::Unknown => false,
                    CallErrorKind::NotFound => failures >= NOT_FOUND_AT_MOST,
                    CallErrorKind::InUse => failures >= IN_USE_AT_MOST,
                    CallErrorKind::InstanceNotReady => failures >= NOT_READY_AT_MOST,
                    _ => true,
                };
                if give_up {
                    self.give_up_attaching(&mut intent, eni, error);
                }
                Some(intent)
            }
            IntentStage::DeleteOnTermination(..) => {
                if kind == CallErrorKind::NotFound && failures >= NOT_FOUND_AT_MOST {
                    // It may have gone. A Describe tells, and ends the intent then.
                    intent.unsettled = settle;
                }
                Some(intent)
            }
            IntentStage::Detach(..) => {
                // NotFound: somebody else has detached it, or EC2 does not see it yet. A Describe tells.
                if matches!(
                    kind,
                    CallErrorKind::Unknown | CallErrorKind::NotFound | CallErrorKind::InUse
                ) {
                    intent.unsettled = settle;
                }
                Some(intent)
            }
            IntentStage::Delete(eni) => {
                if kind == CallErrorKind::NotFound && failures >= NOT_FOUND_AT_MOST {
                    self.deleted(eni);
                    return None;
                }
                if kind == CallErrorKind::InUse && failures >= ATTACHED_AFTER {
                    intent.unsettled = settle;
                }
                Some(intent)
            }
        }
    }

    fn setback_of(
        &mut self,
        intent: &Intent,
        error: &CallError,
        lagging: bool,
    ) -> Setback<CallError> {
        let before = intent.setback.as_ref();
        let after = if lagging {
            retry::after_lag
        } else {
            retry::after_call
        };
        after(before, error.clone(), self.now, &mut self.jitter)
    }

    /// The ENI cannot be attached: it goes, and its addresses with it. Nobody could have had one of them.
    fn give_up_attaching(&mut self, intent: &mut Intent, eni: EniId, error: CallError) {
        self.tell(format!(
            "ENI {eni} cannot be attached and is deleted: {error}"
        ));
        self.lose_eni(&eni);
        self.set_back(Spot::Create, error);
        intent.stage = IntentStage::Delete(eni);
        intent.unsettled = None;
        intent.setback = None;
        intent.version = self.changed();
    }

    /// EC2 has deleted the ENI, or has never heard of it.
    fn deleted(&mut self, id: EniId) {
        // An older view may have shown it again meanwhile.
        self.lose_eni(&id);
        let under_way = self.calls.values();
        let oldest_view = under_way
            .filter(|it| it.call == Call::DescribeEnis)
            .map(|it| it.since)
            .min();
        self.forget_deleted(oldest_view.unwrap_or(self.now));
        self.deleted.insert(id, self.now);
    }

    /// EC2 does not have the ENI on this instance any more.
    pub(super) fn lose_eni(&mut self, id: &EniId) {
        let now = self.now;
        self.pool.change_eni(id, |eni| {
            eni.enter(Life::Absent, now);
            eni.trouble = None;
            eni.unsettled = None;
        });
        self.pool.forget_eni(id);
        self.setbacks.remove(&Spot::Groups(id.clone()));
        let left: Vec<IpNet> = self
            .tombstones
            .iter()
            .filter(|(_, it)| it.eni == *id && it.given_back.is_none())
            .map(|(net, _)| *net)
            .collect();
        left.iter().for_each(|net| self.gone(net));
        self.changed();
    }
}

impl Intent {
    /// The call that carries out its stage.
    pub(super) fn next_call(&self) -> Call {
        match &self.stage {
            IntentStage::Create => Call::CreateEni {
                token: self.token.clone(),
                subnet: self.subnet.clone(),
                groups: self.groups.clone(),
                ipv4: self.ipv4,
                ipv6_prefixes: self.ipv6_prefixes,
            },
            IntentStage::Attach(eni) => Call::AttachEni {
                eni: eni.clone(),
                place: self.place,
            },
            IntentStage::DeleteOnTermination(eni, attachment) => Call::DeleteOnTermination {
                eni: eni.clone(),
                attachment: attachment.clone(),
            },
            IntentStage::Detach(eni, attachment) => Call::DetachEni {
                eni: eni.clone(),
                attachment: attachment.clone(),
            },
            IntentStage::Delete(eni) => Call::DeleteEni { eni: eni.clone() },
        }
    }
}

fn answers(reply: &CallReply, call: &Call) -> bool {
    match (reply, call) {
        (CallReply::Assigned(slots), Call::Assign { .. }) => !slots.is_empty(),
        (CallReply::Enis(_), Call::DescribeEnis)
        | (CallReply::Orphans(_), Call::DescribeOrphans(_))
        | (CallReply::Subnets(_), Call::DescribeSubnets)
        | (CallReply::Created(_), Call::CreateEni { .. })
        | (CallReply::Attached(_), Call::AttachEni { .. })
        | (
            CallReply::Done,
            Call::DeleteOnTermination { .. }
            | Call::SetGroups { .. }
            | Call::Unassign { .. }
            | Call::DetachEni { .. }
            | Call::DeleteEni { .. }
            | Call::DeleteOrphan { .. },
        ) => true,
        _ => false,
    }
}
