//! When EC2 may be asked: the governor's word, and what people are told of it.

use std::time::Duration;

use super::{Phase, State};
use crate::{Call, Haste, HeldBack};

/// Who waits for longer is worth a line in the log.
const WORTH_TELLING: Duration = Duration::from_secs(5);
/// kubelet asks again for a pod within this.
const ASKS_AGAIN: Duration = Duration::from_secs(30);

impl State {
    /// Whether a call may be made now. Held back, it is asked for again when its time has come, if it is still wanted:
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

    /// A pod's ADD is late. If the node's turn has not come, it should not come between two of the pod's ADDs in vain.
    pub(super) fn expect_again(&mut self) {
        if self.governor.held(self.now).next().is_some() {
            self.turned_away.push_back(self.now.after(ASKS_AGAIN));
        }
    }

    pub(super) fn forget_turned_away(&mut self) {
        while self
            .turned_away
            .front()
            .is_some_and(|until| *until <= self.now)
        {
            self.turned_away.pop_front();
            // What was asked for may be too much.
            self.look_for_too_much();
        }
    }

    /// Pods that are bound to the node, as far as is known, with so many that wait.
    pub(super) fn expected(&self, waiters: u32) -> u32 {
        let turned_away = u32::try_from(self.turned_away.len()).unwrap_or(u32::MAX);
        self.bound.max(waiters.saturating_add(turned_away))
    }

    fn ready(&mut self, action: &'static str, haste: Haste) -> bool {
        let is_new = match haste {
            Haste::Waiting => self.governor.held(self.now).all(|it| it.action != action),
            Haste::Gathering => !self.governor.gathers(action),
            Haste::Later => false,
        };
        match self.governor.ready(action, haste, self.now) {
            Ok(()) => true,
            Err(held) => {
                if is_new {
                    self.tell_if_long(held);
                }
                false
            }
        }
    }

    fn tell_if_long(&mut self, held: HeldBack) {
        let wait = held.until.since(self.now);
        if wait > WORTH_TELLING {
            let waiters = self.waiters().len();
            self.tell(format!(
                "the pool waits for {held}. This comes within {} s; pods that wait for an address: {waiters}",
                wait.as_secs() + 1
            ));
        }
    }
}
