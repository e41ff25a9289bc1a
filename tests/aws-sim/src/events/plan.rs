//! Events that are yet to happen.

use std::collections::BTreeMap;

use super::{Event, EventError, Happened, Moment, NthCall, Scheduled};
use crate::filters::wildcard;
use crate::log::EventRecord;
use crate::time::SimTime;
use crate::world::World;

/// Events that are yet to happen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Planned {
    /// By time, and then in the order in which they were scheduled.
    at: BTreeMap<(SimTime, u64), Event>,
    before: Vec<Waiting>,
    after: Vec<Waiting>,
}

/// An event that waits for a request.
#[derive(Clone, Debug)]
struct Waiting {
    call: NthCall,
    /// How many have matched.
    met: u32,
    event: Event,
}

impl Planned {
    /// When the first that waits for a time happens.
    pub(crate) fn next(&self) -> Option<(SimTime, u64)> {
        self.at.keys().next().copied()
    }

    pub(crate) fn take_next(&mut self) -> Option<Event> {
        self.at.pop_first().map(|(_, event)| event)
    }
}

/// Counts a request for all that wait, and takes out those that have waited for it.
fn met(waiting: &mut Vec<Waiting>, action: &str) -> Vec<Waiting> {
    waiting
        .extract_if(.., |waiting| {
            if wildcard(&waiting.call.action, action) {
                waiting.met += 1;
            }
            waiting.met >= waiting.call.nth.max(1)
        })
        .collect()
}

impl World {
    /// Something happens from outside. It is in the log.
    ///
    /// # Errors
    /// When it can't happen; then nothing has changed.
    pub fn happen(&mut self, now: SimTime, event: &Event) -> Result<Happened, EventError> {
        let now = self.advance(now);
        let happened = self.apply_event(now, event);
        let (what, error) = match &happened {
            Ok(happened) => (happened.what.clone(), None),
            Err(error) => (event.name(), Some(error.to_string())),
        };
        self.log.add_event(EventRecord {
            at: now,
            what,
            error,
        });
        self.touch();
        // What takes no time is done.
        self.advance(now);
        if happened.is_ok() {
            self.assert_invariants("an event");
        }
        happened
    }

    /// Something will happen from outside. If it turns out that it can't, the log says why.
    pub fn schedule_event(&mut self, scheduled: Scheduled) {
        let Scheduled { when, event } = scheduled;
        let waiting = |call| Waiting {
            call,
            met: 0,
            event: event.clone(),
        };
        match when {
            Moment::At(at) => self.plan(at, event),
            Moment::Before(call) => self.planned.before.push(waiting(call)),
            Moment::After(call) => self.planned.after.push(waiting(call)),
        }
    }

    /// How many events are yet to happen.
    #[must_use]
    pub fn events_to_come(&self) -> usize {
        let planned = &self.planned;
        planned.at.len() + planned.before.len() + planned.after.len()
    }

    fn plan(&mut self, at: SimTime, event: Event) {
        self.sequence += 1;
        self.planned.at.insert((at, self.sequence), event);
        // Whoever waits for the next change has to look again.
        self.touch();
    }

    pub(crate) fn events_before_call(&mut self, now: SimTime, action: &str) {
        if !self.planned.before.is_empty() {
            let met = met(&mut self.planned.before, action);
            self.happen_all(now, met);
        }
    }

    pub(crate) fn events_after_call(&mut self, now: SimTime, action: &str) {
        if !self.planned.after.is_empty() {
            let met = met(&mut self.planned.after, action);
            self.happen_all(now, met);
        }
    }

    fn happen_all(&mut self, now: SimTime, met: Vec<Waiting>) {
        for waiting in met {
            if waiting.call.delay.is_zero() {
                // The log has it when it can't happen.
                drop(self.happen(now, &waiting.event));
            } else {
                self.plan(now.plus(waiting.call.delay), waiting.event);
            }
        }
    }
}
