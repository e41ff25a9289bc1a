//! The mode that the pool finds for itself, when EC2 refuses or fails for long.

use std::time::Duration;

use super::State;
use crate::{CallErrorKind, Mode, Time};

/// After so long without a success, only what who waits needs is asked for.
const ALLOCATE_ONLY_AFTER: Duration = Duration::from_mins(2);
/// After so long, nothing is asked for, but for a try now and then.
const FROZEN_AFTER: Duration = Duration::from_mins(10);
/// How often a frozen pool that froze by itself tries.
const TRY_EVERY: Duration = Duration::from_mins(2);
/// So many failures in a row are needed besides.
const FAILURES: u32 = 5;

/// What changes of EC2 have failed in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Troubles {
    failures: u32,
    /// When the first of them was.
    since: Option<Time>,
    /// How long after it the last was: the mode changes with a failure, when it can be told, and not with time alone.
    lasted: Duration,
    /// When a frozen pool may try again.
    thaw: Option<Time>,
}

impl State {
    /// How much of EC2 is asked for now.
    pub(super) fn mode(&self) -> Mode {
        self.set_mode
            .unwrap_or_else(|| self.troubles.mode(self.now))
    }

    /// A call that changes something has worked, or failed in a way that tells nothing of EC2's health.
    pub(super) fn note_success(&mut self) {
        let before = self.mode();
        self.troubles = Troubles::default();
        if before != self.mode() {
            self.tell("EC2 works again: the pool is back in mode normal".to_owned());
        }
    }

    /// A call that changes something has failed.
    pub(super) fn note_failure(&mut self, kind: CallErrorKind) {
        // A full subnet or instance is not a trouble of EC2.
        if !matches!(
            kind,
            CallErrorKind::Throttled
                | CallErrorKind::Refused
                | CallErrorKind::Unavailable
                | CallErrorKind::Unknown
        ) {
            return;
        }
        let (before, now) = (self.mode(), self.now);
        self.troubles.failures += 1;
        self.troubles.lasted = now.since(*self.troubles.since.get_or_insert(now));
        if self.troubles.sustained() == Mode::Frozen {
            self.troubles.thaw = Some(now.after(TRY_EVERY));
        }
        let after = self.mode();
        if before != after {
            self.tell(format!(
                "EC2 has not done anything that it was asked to for {} s: the pool is in mode {after} until a call \
                 works again; pods get the addresses that are held",
                self.troubles.lasted.as_secs()
            ));
        }
    }
}

impl Troubles {
    fn sustained(&self) -> Mode {
        if self.failures < FAILURES || self.lasted < ALLOCATE_ONLY_AFTER {
            Mode::Normal
        } else if self.lasted < FROZEN_AFTER {
            Mode::AllocateOnly
        } else {
            Mode::Frozen
        }
    }

    fn mode(&self, now: Time) -> Mode {
        match (self.sustained(), self.thaw) {
            // A try, for those that wait.
            (Mode::Frozen, Some(thaw)) if thaw <= now => Mode::AllocateOnly,
            (Mode::Frozen, None) => Mode::AllocateOnly,
            (mode, _) => mode,
        }
    }

    pub(super) fn next_due(&self, set: Option<Mode>) -> Option<Time> {
        self.thaw.filter(|_| set.is_none())
    }
}
