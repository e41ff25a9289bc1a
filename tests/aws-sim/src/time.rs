//! Time in the simulation, and how EC2 writes it.

use std::fmt;
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

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

/// As a duration since the beginning: `1m 30s`.
impl Serialize for SimTime {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        text::serialize(&Duration::from_millis(self.0), serializer)
    }
}

impl<'de> Deserialize<'de> for SimTime {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<SimTime, D::Error> {
        let since = text::deserialize(deserializer)?;
        Ok(SimTime::ZERO.plus(since))
    }
}

/// Durations in files and messages, as people write them: `1500ms`, `2m 30s`. For `#[serde(with = "..")]`.
pub mod text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(*duration))
    }

    /// # Errors
    /// When it is not a duration, such as `1500ms`.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(deserializer)?;
        humantime::parse_duration(&text)
            .map_err(|error| D::Error::custom(format!("{text:?} is not a duration: {error}")))
    }
}

/// The same, for a duration that need not be there.
pub mod maybe_text {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    #[derive(Deserialize)]
    struct Text(#[serde(with = "super::text")] Duration);

    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => super::text::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    /// # Errors
    /// When it is not a duration, such as `1500ms`.
    pub fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        Ok(Option::<Text>::deserialize(deserializer)?.map(|Text(duration)| duration))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Milliseconds since 1970 as EC2 writes a time: `2026-01-01T00:00:00.000Z`.
#[must_use]
pub fn iso8601_millis(unix_millis: u64) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(unix_millis);
    humantime::format_rfc3339_millis(at).to_string()
}

/// Milliseconds since 1970 as IMDS writes a time: `2026-01-01T00:00:00Z`.
#[must_use]
pub fn iso8601(unix_millis: u64) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(unix_millis);
    humantime::format_rfc3339_seconds(at).to_string()
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
