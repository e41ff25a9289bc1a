//! What is counted.

use std::collections::BTreeMap;

use serde::Serialize;

/// Calls of one action, each attempt for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Calls {
    pub(crate) done: u64,
    pub(crate) throttled: u64,
    pub(crate) failed: u64,
}

/// What happened within one second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Second {
    pub(crate) calls: u32,
    pub(crate) throttled: u32,
    /// Pods that have an address, at its end.
    pub(crate) running: u32,
}

/// What is counted since it was last begun anew.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tally {
    began: u64,
    pub(crate) calls: BTreeMap<&'static str, Calls>,
    pub(crate) seconds: Vec<Second>,
    /// Pods that have an address.
    pub(crate) running: u32,
    /// ADDs that were refused, by reason.
    pub(crate) refused: BTreeMap<String, u64>,
    last_pod: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Came {
    Done,
    Throttled,
    Failed,
}

impl Tally {
    /// Begins to count, at `now`. Pods that run go on running.
    pub(crate) fn begin(&mut self, now: u64) {
        *self = Self {
            began: now,
            running: self.running,
            last_pod: now,
            ..Self::default()
        };
    }

    pub(crate) fn call(&mut self, now: u64, action: &'static str, came: Came) {
        let second = self.second(now);
        second.calls += 1;
        if came == Came::Throttled {
            second.throttled += 1;
        }
        let calls = self.calls.entry(action).or_default();
        match came {
            Came::Done => calls.done += 1,
            Came::Throttled => calls.throttled += 1,
            Came::Failed => calls.failed += 1,
        }
    }

    /// A pod has got its address.
    pub(crate) fn runs(&mut self, now: u64) {
        self.running += 1;
        self.last_pod = now;
        let running = self.running;
        self.second(now).running = running;
    }

    /// Pods have gone.
    pub(crate) fn gone(&mut self, now: u64, pods: u32) {
        self.running -= pods;
        let running = self.running;
        self.second(now).running = running;
    }

    /// All seconds up to `now` are there, though nothing happened in them.
    pub(crate) fn fill(&mut self, now: u64) {
        let running = self.running;
        self.second(now).running = running;
    }

    /// When a pod last got its address, in seconds.
    pub(crate) fn last_pod(&self) -> f64 {
        (self.last_pod - self.began) as f64 / 1000.0
    }

    pub(crate) fn asked(&self) -> u64 {
        let all = self.calls.values();
        all.map(|it| it.done + it.throttled + it.failed).sum()
    }

    pub(crate) fn throttled(&self) -> u64 {
        self.calls.values().map(|it| it.throttled).sum()
    }

    fn second(&mut self, now: u64) -> &mut Second {
        let at = usize::try_from((now - self.began) / 1000).unwrap_or(0);
        while self.seconds.len() <= at {
            let running = self
                .seconds
                .last()
                .map_or(self.running, |last| last.running);
            self.seconds.push(Second {
                running,
                ..Second::default()
            });
        }
        &mut self.seconds[at]
    }
}

#[cfg(test)]
mod tests {
    use super::{Came, Second, Tally};

    #[test]
    fn each_second_has_its_calls_and_the_pods_that_run_at_its_end() {
        let mut tally = Tally::default();
        tally.begin(10_000);
        tally.call(10_500, "A", Came::Done);
        tally.runs(10_700);
        tally.call(12_100, "A", Came::Throttled);
        tally.runs(12_400);
        tally.gone(13_000, 2);
        let second = |calls, throttled, running| Second {
            calls,
            throttled,
            running,
        };
        let expected = [
            second(1, 0, 1),
            second(0, 0, 1),
            second(1, 1, 2),
            second(0, 0, 0),
        ];
        assert_eq!(tally.seconds, expected);
        assert_eq!((tally.asked(), tally.throttled()), (2, 1));
        assert_eq!(tally.last_pod(), 2.4);
    }
}
