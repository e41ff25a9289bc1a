//! Chance that follows from a seed.

use std::time::Duration;

use aws_sim::ids::Dice;

/// The simulator's dice, and what is decided by them here.
#[derive(Debug)]
pub(crate) struct Random(Dice);

impl Random {
    /// One of several that follow from a seed, each with a course of its own.
    pub(crate) fn of(seed: u64, number: u64) -> Self {
        let mut dice = Dice::new(seed ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03));
        dice.roll();
        Self(dice)
    }

    /// Below `bound`, which is not 0.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0.roll() % bound
    }

    /// So many times in a hundred.
    pub(crate) fn percent(&mut self, times: u64) -> bool {
        self.below(100) < times
    }

    /// From nothing to this.
    pub(crate) fn up_to(&mut self, longest: Duration) -> Duration {
        let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.below(micros.saturating_add(1)))
    }

    /// One of the list, if there is any.
    pub(crate) fn one_of<'l, T>(&mut self, list: &'l [T]) -> Option<&'l T> {
        let bound = u64::try_from(list.len())
            .ok()
            .filter(|length| *length > 0)?;
        list.get(usize::try_from(self.below(bound)).unwrap_or(0))
    }
}
