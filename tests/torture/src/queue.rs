//! Virtual time: what falls due, in order.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// What falls due, the first first; of one moment, what was put in first.
#[derive(Debug)]
pub struct Queue<J> {
    heap: BinaryHeap<Timed<J>>,
    sequence: u64,
}

#[derive(Debug)]
struct Timed<J> {
    at: u64,
    sequence: u64,
    job: J,
}

impl<J> Queue<J> {
    /// It will fall due at this time, in milliseconds.
    pub fn push(&mut self, at: u64, job: J) {
        self.sequence += 1;
        let sequence = self.sequence;
        self.heap.push(Timed { at, sequence, job });
    }

    /// What falls due next, and when, if that is not after `until`.
    pub fn pop_due(&mut self, until: u64) -> Option<(u64, J)> {
        if self.heap.peek()?.at > until {
            return None;
        }
        self.heap.pop().map(|timed| (timed.at, timed.job))
    }
}

impl<J> Default for Queue<J> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            sequence: 0,
        }
    }
}

impl<J> Ord for Timed<J> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.sequence).cmp(&(self.at, self.sequence))
    }
}

impl<J> PartialOrd for Timed<J> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<J> PartialEq for Timed<J> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<J> Eq for Timed<J> {}

#[cfg(test)]
mod tests {
    use super::Queue;

    #[test]
    fn what_falls_due_comes_in_order_and_never_early() {
        let mut queue = Queue::default();
        for (at, job) in [(30, 'd'), (10, 'a'), (20, 'b'), (20, 'c')] {
            queue.push(at, job);
        }
        let mut due = |until| std::iter::from_fn(|| queue.pop_due(until)).collect::<Vec<_>>();
        assert_eq!(due(9), []);
        assert_eq!(due(20), [(10, 'a'), (20, 'b'), (20, 'c')]);
        assert_eq!(due(99), [(30, 'd')]);
    }
}
