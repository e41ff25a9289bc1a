//! Time in the simulation, and how EC2 writes it.

use std::fmt;
use std::time::Duration;

/// Milliseconds since the simulation began. The core never reads a clock: it is told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SimTime(u64);

impl SimTime {
    /// The beginning.
    pub const ZERO: SimTime = SimTime(0);

    /// The time this many milliseconds after the beginning.
    #[must_use]
    pub const fn from_millis(millis: u64) -> SimTime {
        SimTime(millis)
    }

    /// Milliseconds since the beginning.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// This much later.
    #[must_use]
    pub fn plus(self, duration: Duration) -> SimTime {
        SimTime(self.0.saturating_add(millis(duration)))
    }

    /// This much earlier, but never before the beginning.
    #[must_use]
    pub fn minus(self, duration: Duration) -> SimTime {
        SimTime(self.0.saturating_sub(millis(duration)))
    }

    /// How long after `earlier` this is; zero when it is not.
    #[must_use]
    pub fn since(self, earlier: SimTime) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

impl fmt::Display for SimTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0 / 1000, self.0 % 1000)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970 as EC2 writes a time: `2026-01-01T00:00:00.000Z`.
#[must_use]
pub fn iso8601_millis(unix_millis: u64) -> String {
    let stamp = iso8601(unix_millis);
    format!("{}.{:03}Z", stamp.trim_end_matches('Z'), unix_millis % 1000)
}

/// Milliseconds since 1970 as IMDS writes a time: `2026-01-01T00:00:00Z`.
#[must_use]
pub fn iso8601(unix_millis: u64) -> String {
    let seconds = unix_millis / 1000;
    let (year, month, day) = civil_from_days(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Year, month and day of a count of days since 1970-01-01, in the Gregorian calendar.
fn civil_from_days(days: u64) -> (u64, u64, u64) {
    // Counted from 0000-03-01, so that the leap day is the last of its year.
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_ec2_writes_them() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_767_225_600_000, "2026-01-01T00:00:00.000Z"),
            (1_798_761_599_999, "2026-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(iso8601_millis(millis), expected);
        }
        assert_eq!(iso8601(1_767_225_600_000), "2026-01-01T00:00:00Z");
    }
}
