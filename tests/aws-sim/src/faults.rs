//! What goes wrong on purpose.

use std::time::Duration;

use crate::error::Ec2Error;
use crate::ids::InstanceId;

/// A rule: which requests, and what happens to them. Of several that match, the first added acts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The action; `None` is all.
    pub action: Option<String>,
    /// The instance that asks; `None` is anyone.
    pub instance: Option<InstanceId>,
    /// Which of the requests that match.
    pub when: When,
    /// What happens.
    pub effect: Effect,
}

impl Fault {
    /// Each request of this action, from anyone, until [`Faults::clear`].
    #[must_use]
    pub fn on(action: &str, effect: Effect) -> Fault {
        Fault {
            action: Some(action.to_owned()),
            instance: None,
            when: When::Always,
            effect,
        }
    }

    /// Only these of the matching requests.
    #[must_use]
    pub fn when(self, when: When) -> Fault {
        Fault { when, ..self }
    }

    /// Only requests of this instance.
    #[must_use]
    pub fn from_instance(self, instance: InstanceId) -> Fault {
        Fault {
            instance: Some(instance),
            ..self
        }
    }
}

/// Which of the requests that match a rule, counted from when it was added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Every one.
    Always,
    /// The first so many.
    First(u32),
    /// Only the nth; 1 is the next.
    Nth(u32),
}

/// What happens to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Refused with this, nothing done.
    Error(Ec2Error),
    /// Done when it comes; the reply comes this much later.
    Latency(Duration),
    /// Not done, never answered.
    HangBefore,
    /// Done, never answered.
    HangAfter,
    /// Not done; the connection is reset.
    ResetBefore,
    /// Done; the connection is reset.
    ResetAfter,
}

/// All rules, with how often each matched.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    rules: Vec<(Fault, u32)>,
}

impl Faults {
    /// Adds a rule.
    pub fn add(&mut self, fault: Fault) {
        self.rules.push((fault, 0));
    }

    /// From now on nothing goes wrong.
    pub fn clear(&mut self) {
        self.rules.clear();
    }

    /// What happens to the next request, counting it.
    pub(crate) fn strike(&mut self, action: &str, instance: Option<&InstanceId>) -> Option<Effect> {
        let mut effect = None;
        for (fault, count) in &mut self.rules {
            if fault.action.as_deref().is_some_and(|only| only != action)
                || fault
                    .instance
                    .as_ref()
                    .is_some_and(|only| Some(only) != instance)
            {
                continue;
            }
            *count = count.saturating_add(1);
            let acts = match fault.when {
                When::Always => true,
                When::First(many) => *count <= many,
                When::Nth(nth) => *count == nth,
            };
            if acts && effect.is_none() {
                effect = Some(fault.effect.clone());
            }
        }
        effect
    }
}
