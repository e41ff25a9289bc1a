//! When EC2 may be asked: the governor's word, and what people are told of it.

use std::time::Duration;

use super::{Phase, State};
use crate::{Call, Haste, HeldBack};

/// Who waits for longer is worth a line in the log.
const WORTH_TELLING: Duration = Duration::from_secs(5);

impl State {
    /// Whether a call may be made now. HeldBack back, it is asked for again when its time has come, if it is still wanted:
    /// what is wanted may be more by then.
    pub(super) fn may_ask(&mut self, call: &Call, haste: Haste) -> bool {
        self.ready(call.action(), haste)
    }

    /// An ENI is begun only when it can be finished: half made, it is a leak waiting for a crash.
    pub(super) fn may_begin_eni(&mut self, haste: Haste) -> bool {
        self.ready("AttachNetworkInterface", Haste::Waiting)
            && self.ready("ModifyNetworkInterfaceAttribute", Haste::Waiting)
            && self.ready("CreateNetworkInterface", haste)
    }

    /// Whether the call of an intent may be made now.
    pub(super) fn may_carry_on(&mut self, call: &Call) -> bool {
        match call {
            // Taken off the node, it goes at once.
            Call::DetachEni { .. } => {
                self.ready("DeleteNetworkInterface", Haste::Waiting)
                    && self.may_ask(call, Haste::Later)
            }
            _ => self.may_ask(call, Haste::Waiting),
        }
    }

    /// Of what is asked for those that wait, if anybody does.
    pub(super) fn haste(&self) -> Haste {
        if self.phase == Phase::Loading || !self.waiters().is_empty() {
            Haste::Waiting
        } else {
            Haste::Later
        }
    }

    fn ready(&mut self, action: &'static str, haste: Haste) -> bool {
        let before = self.governor.held(self.now).find(|it| it.action == action);
        match self.governor.ready(action, haste, self.now) {
            Ok(()) => true,
            Err(held) => {
                if before.is_none() && haste == Haste::Waiting {
                    self.tell_if_long(held);
                }
                false
            }
        }
    }

    fn tell_if_long(&mut self, held: HeldBack) {
        let wait = held.until.since(self.now);
        if wait >= WORTH_TELLING {
            let waiters = self.waiters().len();
            self.tell(format!(
                "the pool waits for {held}. This comes within {} s; pods that wait for an address: {waiters}",
                wait.as_secs() + 1
            ));
        }
    }
}
