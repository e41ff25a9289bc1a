//! When to try again.

use std::time::Duration;

use crate::{CallError, CallErrorKind, Time};

/// The first delay after a failure that passes by itself.
const PASSING: Duration = Duration::from_secs(1);
/// The longest delay after one.
const PASSING_MAX: Duration = Duration::from_secs(30);
/// The first delay after a refusal: the subnet may get room, a person may mend a policy.
const REFUSED: Duration = Duration::from_secs(30);
/// The longest delay after one.
const REFUSED_MAX: Duration = Duration::from_mins(5);

/// A failure, and when to try again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Setback<E> {
    /// How often in a row.
    pub(crate) failures: u32,
    /// Not before.
    pub(crate) until: Time,
    /// The last failure.
    pub(crate) error: E,
}

/// Spreads the retries of many nodes: a small generator, seeded by the boot, so that the same events still
/// give the same effects.
#[derive(Clone, Debug)]
pub(crate) struct Jitter(u64);

impl Jitter {
    /// FNV-1a of the text.
    pub(crate) fn new(seed: &str) -> Self {
        Self(seed.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        }))
    }

    /// From 75 to 100 % of `delay`.
    fn of(&mut self, delay: Duration) -> Duration {
        let millis = u64::try_from(delay.as_millis()).unwrap_or(u64::MAX);
        Duration::from_millis(millis - u64::from(self.next()) % (millis / 4 + 1))
    }

    /// From 0 to less than 1.
    pub(crate) fn fraction(&mut self) -> f64 {
        f64::from(self.next()) / f64::from(1_u32 << 31)
    }

    /// 31 bits.
    fn next(&mut self) -> u32 {
        // Knuth's MMIX generator; its high bits are the good ones.
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        u32::try_from(self.0 >> 33).unwrap_or(0)
    }
}

/// Whether the failure may pass by itself within the patience of a waiter.
pub(crate) fn passes(kind: CallErrorKind) -> bool {
    matches!(
        kind,
        CallErrorKind::Throttled
            | CallErrorKind::Unavailable
            | CallErrorKind::Unknown
            | CallErrorKind::InstanceNotReady
    )
}

/// After a failed call: quickly where it may pass by itself, slowly where EC2 has refused.
pub(crate) fn after_call(
    before: Option<&Setback<CallError>>,
    error: CallError,
    now: Time,
    jitter: &mut Jitter,
) -> Setback<CallError> {
    let (first, most) = if passes(error.kind) {
        (PASSING, PASSING_MAX)
    } else {
        (REFUSED, REFUSED_MAX)
    };
    let failures = before.map_or(0, |before| before.failures);
    grown(failures, error, now, (first, most), jitter)
}

/// After a failure on this node (a link, a route, the disk).
pub(crate) fn after_local(
    before: Option<&Setback<String>>,
    error: String,
    now: Time,
    jitter: &mut Jitter,
) -> Setback<String> {
    let failures = before.map_or(0, |before| before.failures);
    grown(failures, error, now, (PASSING, PASSING_MAX), jitter)
}

/// After a failure that shows that EC2 does not see its own changes yet.
pub(crate) fn after_lag(
    before: Option<&Setback<CallError>>,
    error: CallError,
    now: Time,
    jitter: &mut Jitter,
) -> Setback<CallError> {
    let failures = before.map_or(0, |before| before.failures);
    grown(failures, error, now, (PASSING, PASSING_MAX), jitter)
}

fn grown<E>(
    failures: u32,
    error: E,
    now: Time,
    (first, most): (Duration, Duration),
    jitter: &mut Jitter,
) -> Setback<E> {
    let delay = first.saturating_mul(1 << failures.min(16)).min(most);
    Setback {
        failures: failures.saturating_add(1),
        until: now.after(jitter.of(delay)),
        error,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_delay_doubles_up_to_its_most_and_is_spread_over_its_last_quarter() {
        let mut jitter = Jitter::new("boot");
        let mut before = None;
        for seconds in [1, 2, 4, 8, 16, 30, 30] {
            let failed = after_local(before.as_ref(), "no luck".to_owned(), Time(5), &mut jitter);
            let delay = failed.until.0 - 5;
            assert!(
                (seconds * 750..=seconds * 1_000).contains(&delay),
                "{delay}"
            );
            before = Some(failed);
        }
        let first = |_| {
            after_local(None, String::new(), Time(0), &mut jitter)
                .until
                .0
        };
        let delays: BTreeSet<u64> = (0..10_000).map(first).collect();
        assert!(delays.into_iter().eq(750..=1_000));
    }
}
