//! The mode that the pool finds for itself, when EC2 refuses or fails for long.

use std::time::Duration;

use super::State;
use crate::{CallErrorKind, Mode, Time};

/// After so long without a success, only what who waits needs is asked for.
const ALLOCATE_ONLY_AFTER: Duration = Duration::from_mins(2);
/// After so long, nothing is asked for.
const FROZEN_AFTER: Duration = Duration::from_mins(10);
/// How long after the last failure everything is tried again: else a pool that nobody asks anything of would never learn
/// that EC2 works again.
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
    /// When everything is tried again.
    again: Option<Time>,
}

impl State {
    /// How much of EC2 is asked for now.
    pub(super) fn mode(&self) -> Mode {
        self.set_mode
            .unwrap_or_else(|| self.troubles.mode(self.now))
    }

    /// A call that changes something has worked, or failed in a way that tells nothing of EC2's health.
    pub(super) fn note_success(&mut self) {
        let before = std::mem::take(&mut self.troubles).sustained();
        if before != Mode::Normal && self.set_mode.is_none() {
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
        let (before, now) = (self.troubles.sustained(), self.now);
        self.troubles.failures += 1;
        self.troubles.lasted = now.since(*self.troubles.since.get_or_insert(now));
        if self.troubles.sustained() != Mode::Normal {
            self.troubles.again = Some(now.after(TRY_EVERY));
        }
        // A try that fails changes nothing that was told.
        let after = self.troubles.sustained();
        if before != after && self.set_mode.is_none() {
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
        if self.again.is_some_and(|again| again <= now) {
            Mode::Normal
        } else {
            self.sustained()
        }
    }

    pub(super) fn next_due(&self, set: Option<Mode>) -> Option<Time> {
        self.again.filter(|_| set.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mode_needs_as_many_failures_and_as_long_a_time() {
        for (failures, seconds, mode) in [
            (4, 3_600, Mode::Normal),
            (5, 119, Mode::Normal),
            (5, 120, Mode::AllocateOnly),
            (6, 599, Mode::AllocateOnly),
            (6, 600, Mode::Frozen),
            (4, 600, Mode::Normal),
        ] {
            let troubles = Troubles {
                failures,
                lasted: Duration::from_secs(seconds),
                ..Troubles::default()
            };
            assert_eq!(troubles.sustained(), mode, "{failures} in {seconds} s");
        }
    }
}
