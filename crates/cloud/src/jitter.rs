//! Randomness for back-off: enough to spread a fleet, good for nothing else.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Between half of `duration` and all of it.
pub(crate) fn jittered(duration: Duration) -> Duration {
    // Each `RandomState` has keys of its own, from the system's randomness.
    let random = RandomState::new().build_hasher().finish();
    let share = u32::try_from(random % 1000).unwrap_or(0);
    duration / 2 + duration * share / 2000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_jittered_wait_is_at_least_half_and_never_more_than_asked() {
        let asked = Duration::from_secs(8);
        let waits: Vec<_> = (0..64).map(|_| jittered(asked)).collect();
        assert!(waits.iter().all(|w| *w >= asked / 2 && *w <= asked));
        assert!(waits.iter().any(|w| *w != waits[0]), "all alike: {waits:?}");
    }
}
