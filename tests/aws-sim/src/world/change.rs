//! Time: what EC2 has promised, and when it comes true.

use super::{AttachmentStatus, InstanceState, Transition, World};
use crate::time::SimTime;

impl World {
    /// Applies what has fallen due by `now`, each at its own time. Returns the world's time: `now`, or later when
    /// the world is ahead, for its time never goes back.
    pub fn advance(&mut self, now: SimTime) -> SimTime {
        while let Some((at, _, _)) = self.due.first()
            && *at <= now
            && let Some((at, _, transition)) = self.due.pop_first()
        {
            self.now = self.now.max(at);
            self.apply(transition);
        }
        self.now = self.now.max(now);
        self.now
    }

    /// When the next state falls due.
    #[must_use]
    pub fn next_due(&self) -> Option<SimTime> {
        self.due.first().map(|(at, _, _)| *at)
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
        self.now
            .minus(self.config.describe_lag.max(self.config.imds_lag))
    }

    fn apply(&mut self, transition: Transition) {
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
