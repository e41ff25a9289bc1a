//! Time: what EC2 has promised, and when it comes true.

use super::{AttachmentStatus, InstanceState, Transition, World};
use crate::events::Step;
use crate::ids::EniId;
use crate::time::SimTime;

impl World {
    /// Applies what has fallen due by `now`, each at its own time. Returns the world's time: `now`, or later when
    /// the world is ahead, for its time never goes back.
    pub fn advance(&mut self, now: SimTime) -> SimTime {
        loop {
            let transition = self.due.first().map(|(at, order, _)| (*at, *order));
            let event = self.planned.next();
            let Some(next) = transition.into_iter().chain(event).min() else {
                break;
            };
            if next.0 > now {
                break;
            }
            self.now = self.now.max(next.0);
            if Some(next) == event {
                if let Some(event) = self.planned.take_next() {
                    // The log has it when it can't happen.
                    drop(self.happen(self.now, &event));
                }
            } else if let Some((_, _, transition)) = self.due.pop_first() {
                self.apply(transition);
            }
        }
        self.now = self.now.max(now);
        self.now
    }

    /// When the next state falls due, or the next event that waits for a time.
    #[must_use]
    pub fn next_due(&self) -> Option<SimTime> {
        let transition = self.due.first().map(|(at, _, _)| *at);
        let event = self.planned.next().map(|(at, _)| at);
        transition.into_iter().chain(event).min()
    }

    pub(crate) fn touch(&mut self) {
        self.revision += 1;
    }

    pub(crate) fn schedule(&mut self, at: SimTime, transition: Transition) {
        self.sequence += 1;
        self.due.insert((at, self.sequence, transition));
    }

    /// The oldest time that a reader can ask for.
    pub(super) fn keep_from(&self) -> SimTime {
        let config = &self.config;
        let usual = self.now.minus(config.describe_lag.max(config.imds_lag));
        usual.min(self.faults.oldest_view(self.now, config.imds_lag))
    }

    /// From now on this state is never reached, by one ENI or by all.
    pub(crate) fn stick(&mut self, step: Step, eni: Option<EniId>) {
        self.stuck.insert((step, eni));
    }

    /// What was stuck goes on.
    pub(crate) fn unstick(&mut self, step: Step, eni: Option<&EniId>) {
        self.stuck
            .retain(|(stuck, of)| *stuck != step || (eni.is_some() && of.as_ref() != eni));
        for transition in std::mem::take(&mut self.held) {
            // Those that are still stuck come back.
            self.apply(transition);
        }
    }

    fn is_stuck(&self, transition: &Transition) -> bool {
        let (step, eni) = match transition {
            _ if self.stuck.is_empty() => return false,
            Transition::Available(eni) => (Step::Create, eni),
            Transition::Attached(eni, _) => (Step::Attach, eni),
            Transition::Detached(eni, _) => (Step::Detach, eni),
            _ => return false,
        };
        self.stuck.contains(&(step, None)) || self.stuck.contains(&(step, Some(eni.clone())))
    }

    fn apply(&mut self, transition: Transition) {
        if self.is_stuck(&transition) {
            self.held.push(transition);
            return;
        }
        match transition {
            Transition::Available(eni) => {
                drop(self.change_eni(&eni, |eni| eni.pending = false));
            }
            Transition::Attached(eni, attachment) => {
                if self.is_at(&eni, &attachment, AttachmentStatus::Attaching) {
                    drop(self.change_eni(&eni, |eni| {
                        if let Some(attachment) = &mut eni.attachment {
                            attachment.status = AttachmentStatus::Attached;
                        }
                    }));
                }
            }
            Transition::Detached(eni, attachment) => {
                if self.is_at(&eni, &attachment, AttachmentStatus::Detaching) {
                    self.release_eni(&eni);
                }
            }
            Transition::Running(id) => {
                self.reach_state(&id, InstanceState::Pending, InstanceState::Running);
            }
            Transition::Stopped(id) => {
                self.reach_state(&id, InstanceState::Stopping, InstanceState::Stopped);
            }
            Transition::Terminated(id) => self.finish_termination(&id),
            Transition::Forgotten(id) => self.forget_instance(&id),
        }
    }
}
