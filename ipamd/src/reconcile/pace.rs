//! How often the kernel is looked at and put right.

use std::time::Duration;

use tokio::time::Instant;

/// Between two looks: the first after a quiet time comes at once.
const BETWEEN: Duration = Duration::from_secs(1);
/// After this time a pod's link that was not whole is looked at again, whatever is heard until then: its plugin makes it within
/// milliseconds.
const SECOND_SIGHT: Duration = Duration::from_millis(300);
/// Looks in a row that may put something back.
const BURST: u32 = 10;
/// After how long there may be one more. Whoever takes away more often fights us, and both would only load the node.
const ONE_MORE: Duration = Duration::from_secs(10);
/// Between looks that fail, at the most.
const LONGEST: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Pace {
    /// No look before it.
    earliest: Instant,
    /// Looks that may still put something back.
    left: u32,
    /// When `left` last grew, or was full.
    grown: Instant,
    /// Between this failed look and the next.
    patience: Duration,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            earliest: now,
            left: BURST,
            grown: now,
            patience: BETWEEN,
        }
    }

    /// When the next look may be.
    pub(super) fn earliest(&mut self, now: Instant) -> Instant {
        self.grow(now);
        if self.left == 0 {
            self.earliest.max(self.grown + ONE_MORE)
        } else {
            self.earliest
        }
    }

    /// Nothing was put back.
    pub(super) fn looked(&mut self, now: Instant) {
        self.earliest = now + BETWEEN;
        self.patience = BETWEEN;
    }

    /// Besides, pods' links were not whole. When to look again.
    pub(super) fn doubted(&mut self, now: Instant) -> Instant {
        self.earliest = now + SECOND_SIGHT;
        self.earliest
    }

    /// Something was put back. Whether it was too often.
    pub(super) fn repaired(&mut self, now: Instant) -> bool {
        self.looked(now);
        self.grow(now);
        self.left = self.left.saturating_sub(1);
        self.left == 0
    }

    /// The look failed. When to try again.
    pub(super) fn failed(&mut self, now: Instant) -> Instant {
        self.earliest = now + self.patience;
        self.patience = (self.patience * 2).min(LONGEST);
        self.earliest
    }

    fn grow(&mut self, now: Instant) {
        while self.left < BURST && now >= self.grown + ONE_MORE {
            self.left += 1;
            self.grown += ONE_MORE;
        }
        if self.left == BURST {
            self.grown = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn after(begin: Instant, seconds: u64) -> Instant {
        begin + Duration::from_secs(seconds)
    }

    #[test]
    fn the_first_look_is_at_once_and_the_next_a_second_later() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        assert_eq!(pace.earliest(begin), begin);
        pace.looked(begin);
        assert_eq!(pace.earliest(begin), after(begin, 1));
        assert!(pace.earliest(after(begin, 100)) <= after(begin, 100));
    }

    #[test]
    fn what_may_be_in_the_making_is_not_looked_at_again_too_soon() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        pace.looked(begin);
        let second_sight = pace.doubted(begin);
        assert_eq!(second_sight - begin, Duration::from_millis(300));
        let heard_something = begin + Duration::from_millis(1);
        assert_eq!(pace.earliest(heard_something), second_sight);
        pace.looked(second_sight);
        assert_eq!(pace.earliest(second_sight), after(second_sight, 1));
    }

    #[test]
    fn who_fights_us_is_answered_more_and_more_seldom_and_peace_is_noticed() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        let mut now = begin;
        let mut repairs = 0;
        while now < after(begin, 600) {
            now = pace.earliest(now);
            pace.repaired(now);
            repairs += 1;
        }
        assert!(
            (60..=75).contains(&repairs),
            "a burst, and then one in ten seconds: {repairs}"
        );
        now += Duration::from_secs(200);
        for _ in 0..9 {
            now = pace.earliest(now);
            assert!(!pace.repaired(now), "it is one program after a quiet time");
        }
        now = pace.earliest(now);
        assert!(pace.repaired(now));
    }

    #[test]
    fn looks_that_fail_come_more_and_more_seldom_until_one_succeeds() {
        let begin = Instant::now();
        let mut pace = Pace::new(begin);
        let waits: Vec<_> = (0..7)
            .map(|_| (pace.failed(begin) - begin).as_secs())
            .collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 30, 30]);
        pace.looked(begin);
        assert_eq!(pace.failed(begin), after(begin, 1));
    }
}
