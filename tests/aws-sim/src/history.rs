//! A value and what it was before, for readers that lag.

use std::collections::VecDeque;

use crate::time::SimTime;

/// The versions of one value, the oldest first; `None` is before it was made or after it was deleted.
#[derive(Clone, Debug)]
pub struct History<T> {
    current: Option<T>,
    /// Each with the time from which it held; all older than `current`.
    past: VecDeque<(SimTime, Option<T>)>,
    current_since: SimTime,
    born: SimTime,
}

impl<T: Clone> History<T> {
    /// Made at `now`.
    pub fn new(now: SimTime, value: T) -> History<T> {
        History {
            current: Some(value),
            past: VecDeque::new(),
            current_since: now,
            born: now,
        }
    }

    /// When it was made.
    pub fn born(&self) -> SimTime {
        self.born
    }

    /// What was written last.
    pub fn current(&self) -> Option<&T> {
        self.current.as_ref()
    }

    /// What it was at `then`; `None` when it was not there. When `then` is older than what is kept, the oldest that
    /// is kept: a lag that has just grown shows nothing older than what could be seen before.
    pub fn at(&self, then: SimTime) -> Option<&T> {
        if then < self.born {
            return None;
        }
        if self.current_since <= then {
            return self.current.as_ref();
        }
        let newest = self.past.iter().rev().find(|(since, _)| *since <= then);
        match newest.or(self.past.front()) {
            Some((_, value)) => value.as_ref(),
            None => self.current.as_ref(),
        }
    }

    /// The value, to be changed at `now`. Keeps what a reader of `keep_from` or later can ask for.
    pub fn change(&mut self, now: SimTime, keep_from: SimTime) -> Option<&mut T> {
        self.retire(now, keep_from);
        self.current.as_mut()
    }

    /// Deletes the value.
    pub fn delete(&mut self, now: SimTime, keep_from: SimTime) {
        self.retire(now, keep_from);
        self.current = None;
    }

    /// Whether nothing is left that a reader of `keep_from` or later could see.
    pub fn is_over(&self, keep_from: SimTime) -> bool {
        self.current.is_none() && self.current_since <= keep_from
    }

    fn retire(&mut self, now: SimTime, keep_from: SimTime) {
        if now > self.current_since && keep_from < now {
            self.past
                .push_back((self.current_since, self.current.clone()));
        }
        self.current_since = now;
        // The version that held at `keep_from` must stay; those before it need not.
        while self
            .past
            .get(1)
            .is_some_and(|(since, _)| *since <= keep_from)
        {
            self.past.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_see_what_was_there_at_their_time() {
        let at = SimTime::from_millis;
        let mut history = History::new(at(10), "a");
        *history.change(at(20), at(0)).unwrap() = "b";
        history.delete(at(30), at(0));
        for (then, seen) in [
            (9, None),
            (10, Some("a")),
            (19, Some("a")),
            (20, Some("b")),
            (30, None),
        ] {
            assert_eq!(history.at(at(then)).copied(), seen, "at {then}");
        }
        assert!(!history.is_over(at(29)));
        assert!(history.is_over(at(30)));
    }

    #[test]
    fn what_no_reader_can_ask_for_is_forgotten() {
        let mut history = History::new(SimTime::ZERO, 0);
        for tick in 1..1000_u64 {
            let now = SimTime::from_millis(tick);
            let lag = SimTime::from_millis(tick.saturating_sub(5));
            *history.change(now, lag).unwrap() = tick;
            assert_eq!(history.at(lag).copied(), Some(lag.as_millis()));
        }
        assert!(history.past.len() <= 6, "{}", history.past.len());
    }
}
