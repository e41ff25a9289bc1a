//! Calls to EC2, and what its answers mean.

use std::net::Ipv4Addr;

use super::{Intent, PendingCall, Phase, Spot, State};
use crate::pool::{Address, Claim, Eni, Holding, Life, Link, Routing};
use crate::retry::{self, Setback, passes};
use crate::{
    Call, CallError, CallErrorKind, CallId, CallReply, Effect, EniFacts, EniId, IntentStage,
};

/// An ENI that EC2 has made may be unknown to the calls that follow for a while; after this many times it is
/// gone.
const NOT_FOUND_AT_MOST: u32 = 5;
/// An attachment that neither succeeds nor shows in a Describe is given up after this many times.
const IN_USE_AT_MOST: u32 = 8;
/// A creation that may have happened and is refused when asked about again is given up after this many times.
const REFUSED_AT_MOST: u32 = 10;

impl State {
    pub(super) fn call(&mut self, call: Call) -> CallId {
        let id = self.next_call;
        self.next_call.0 += 1;
        let since = self.now;
        self.effects.push(Effect::Call(id, call.clone()));
        self.calls.insert(id, PendingCall { call, since });
        id
    }

    /// Makes the calls of intents that are on disk, settled, and not waiting for a retry.
    pub(super) fn call_for_intents(&mut self) {
        if self.phase != Phase::Running {
            return;
        }
        for at in 0..self.intents.len() {
            let Some(intent) = self.intents.get(at) else {
                return;
            };
            let waits = intent.call.is_some()
                || intent.version > self.written
                || intent.unsettled.is_some()
                || intent
                    .setback
                    .as_ref()
                    .is_some_and(|setback| setback.until > self.now);
            let call = intent.next_call();
            if waits || call.eni().is_some_and(|eni| self.asked_of(eni).1) {
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
        match &outcome {
            Ok(_) => self.last_error = None,
            Err(error) => self.last_error = Some(error.clone()),
        }
        match call {
            Call::DescribeEnis => self.described(id, since, outcome),
            Call::AssignAddresses { eni, .. } => self.assigned(eni, outcome),
            Call::CreateEni { .. }
            | Call::AttachEni { .. }
            | Call::DeleteOnTermination { .. }
            | Call::DeleteEni { .. } => {
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
                if let Some(intent) = kept {
                    self.intents.insert(at, intent);
                }
            }
        }
    }

    fn assigned(&mut self, id: EniId, outcome: Result<CallReply, CallError>) {
        let now = self.now;
        match outcome {
            Ok(CallReply::Assigned(addresses)) => {
                self.setbacks.remove(&Spot::Subnet(self.subnet_of(&id)));
                for ip in addresses {
                    self.hold(&id, ip);
                }
                if let Some(eni) = self.enis.get_mut(&id) {
                    eni.changed = Some(now);
                }
                self.setbacks.remove(&Spot::Assign(id));
            }
            Ok(_) => {}
            Err(error) => {
                // The two last say that the ENI is not what we think it is.
                let doubt = matches!(
                    error.kind,
                    CallErrorKind::Unknown | CallErrorKind::AddressLimit | CallErrorKind::NotFound
                );
                if let Some(eni) = self.enis.get_mut(&id).filter(|_| doubt) {
                    eni.unsettled = Some(self.next_call);
                }
                let spot = if error.kind == CallErrorKind::SubnetExhausted {
                    Spot::Subnet(self.subnet_of(&id))
                } else {
                    Spot::Assign(id)
                };
                self.set_back(spot, error);
            }
        }
    }

    fn subnet_of(&self, id: &EniId) -> crate::SubnetId {
        self.enis
            .get(id)
            .and_then(|eni| eni.link.as_ref())
            .map_or_else(
                || self.node.subnet_id.clone(),
                |link| link.subnet_id.clone(),
            )
    }

    fn set_back(&mut self, spot: Spot, error: CallError) {
        let before = self.setbacks.get(&spot);
        let setback = retry::after_call(before, error, self.now, &mut self.jitter);
        self.setbacks.insert(spot, setback);
    }

    /// EC2 says that this ENI of ours holds this address.
    pub(super) fn hold(&mut self, id: &EniId, ip: Ipv4Addr) {
        // Some answers to Assign list all that the ENI has, its own address too.
        let own = |eni: &Eni| {
            eni.link
                .as_ref()
                .is_some_and(|link| link.primary_address == ip)
        };
        if !self.enis.contains_key(id) || self.enis.values().any(own) {
            return;
        }
        let elsewhere = self
            .enis
            .iter()
            .find(|(other, eni)| *other != id && eni.addresses.contains_key(&ip))
            .map(|(other, _)| other.clone());
        // An address that has come from another ENI keeps its claim: its pod may still be there.
        let moved = elsewhere
            .and_then(|other| self.enis.get_mut(&other)?.addresses.remove(&ip))
            .filter(|address| !matches!(address.claim, Claim::None));
        let now = self.now;
        let Some(eni) = self.enis.get_mut(id) else {
            return;
        };
        if let Some(mut address) = moved {
            address.holding = Holding::Held;
            address.routing = Routing::None;
            if let Claim::Owned(owner) = &address.claim {
                self.owners.insert(owner.sandbox.clone(), (id.clone(), ip));
            }
            eni.addresses.insert(ip, address);
            self.changed();
            return;
        }
        let address = eni
            .addresses
            .entry(ip)
            .or_insert_with(|| Address::new(Holding::Held, Claim::None, now));
        if address.holding != Holding::Held {
            address.holding = Holding::Held;
            address.routing = Routing::None;
        }
    }

    fn intent_done(&mut self, mut intent: Intent, reply: CallReply) -> Option<Intent> {
        intent.setback = None;
        intent.version = self.changed();
        match (intent.stage.clone(), reply) {
            (IntentStage::Create, CallReply::Created(facts)) => {
                self.setbacks.remove(&Spot::Create);
                self.setbacks.remove(&Spot::Subnet(intent.subnet.clone()));
                self.created(intent, &facts)
            }
            (IntentStage::Attach(eni), CallReply::Attached(attachment)) => {
                self.setbacks.remove(&Spot::Create);
                let now = self.now;
                if let Some(eni) = self.enis.get_mut(&eni) {
                    eni.changed = Some(now);
                    eni.enter(Life::SettingUp { asked: false }, now);
                } else {
                    // Known by its id alone since a restart.
                    self.describe_at = Some(now);
                }
                intent.stage = IntentStage::DeleteOnTermination(eni, attachment);
                Some(intent)
            }
            _ => None,
        }
    }

    fn created(&mut self, mut intent: Intent, facts: &EniFacts) -> Option<Intent> {
        let now = self.now;
        if self.enis.get(&facts.id).is_some_and(Eni::is_ours) {
            // Made, attached and described before a crash: the Describe has taken it over.
            return None;
        }
        let mut eni = Eni::new(
            intent.device_index,
            Some(Link::from(facts)),
            Life::Attaching,
            now,
        );
        eni.changed = Some(now);
        self.enis.insert(facts.id.clone(), eni);
        for ip in &facts.secondary_addresses {
            self.hold(&facts.id, *ip);
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
        let lagging = matches!(kind, CallErrorKind::NotFound | CallErrorKind::InUse);
        let setback = self.setback_of(&intent, &error, lagging);
        intent.setback = Some(setback);
        let settle = Some(self.next_call);
        match intent.stage.clone() {
            IntentStage::Create => {
                intent.maybe_created |= kind == CallErrorKind::Unknown;
                if passes(kind) {
                    return Some(intent);
                }
                // A refusal says nothing of an earlier try: credentials and room in the subnet may be looked at
                // before the token is.
                let unclear = intent.maybe_created;
                let spot = match kind {
                    CallErrorKind::SubnetExhausted => Spot::Subnet(intent.subnet.clone()),
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
                    _ => true,
                };
                if give_up {
                    self.give_up_attaching(&mut intent, eni, error);
                }
                Some(intent)
            }
            IntentStage::DeleteOnTermination(..) => {
                let gone = kind == CallErrorKind::NotFound && failures >= NOT_FOUND_AT_MOST;
                if gone {
                    self.changed();
                    self.describe_at = Some(self.now);
                    return None;
                }
                Some(intent)
            }
            IntentStage::Delete(_) => {
                if kind == CallErrorKind::NotFound && failures >= NOT_FOUND_AT_MOST {
                    self.changed();
                    return None;
                }
                if kind == CallErrorKind::InUse {
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
        self.sweep();
        self.set_back(Spot::Create, error);
        intent.stage = IntentStage::Delete(eni);
        intent.unsettled = None;
        intent.setback = None;
        intent.version = self.changed();
    }

    /// EC2 does not have the ENI on this instance any more.
    pub(super) fn lose_eni(&mut self, id: &EniId) {
        let now = self.now;
        if let Some(eni) = self.enis.get_mut(id) {
            eni.enter(Life::Absent, now);
            eni.trouble = None;
            eni.unsettled = None;
            for address in eni.addresses.values_mut() {
                address.holding = Holding::Lost;
                address.routing = Routing::None;
            }
        }
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
                addresses: self.addresses,
            },
            IntentStage::Attach(eni) => Call::AttachEni {
                eni: eni.clone(),
                device_index: self.device_index,
            },
            IntentStage::DeleteOnTermination(eni, attachment) => Call::DeleteOnTermination {
                eni: eni.clone(),
                attachment: attachment.clone(),
            },
            IntentStage::Delete(eni) => Call::DeleteEni { eni: eni.clone() },
        }
    }
}

fn answers(reply: &CallReply, call: &Call) -> bool {
    match (reply, call) {
        (CallReply::Assigned(addresses), Call::AssignAddresses { .. }) => !addresses.is_empty(),
        (CallReply::Enis(_), Call::DescribeEnis)
        | (CallReply::Created(_), Call::CreateEni { .. })
        | (CallReply::Attached(_), Call::AttachEni { .. })
        | (CallReply::Done, Call::DeleteOnTermination { .. } | Call::DeleteEni { .. }) => true,
        _ => false,
    }
}
