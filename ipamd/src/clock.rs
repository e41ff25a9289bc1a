//! The clocks of the node: the pool's, which never steps, and people's.

use std::time::{Duration, SystemTime};

use ipam::Time;
use prost_types::Timestamp;
use rustix::time::{ClockId, clock_gettime};

/// Milliseconds of `CLOCK_BOOTTIME`: goes on through a restart of ipamd, and ends with the boot.
pub(crate) fn now() -> Time {
    let time = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
    let nanos = u64::try_from(time.tv_nsec).unwrap_or_default();
    Time(seconds * 1000 + nanos / 1_000_000)
}

/// A moment of the pool's clock by people's clock, as that stands now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Calendar {
    boot: Time,
    wall: SystemTime,
}

impl Calendar {
    pub(crate) fn now() -> Self {
        Self {
            boot: now(),
            wall: SystemTime::now(),
        }
    }

    pub(crate) fn timestamp(self, moment: Time) -> Timestamp {
        let wall = if moment > self.boot {
            self.wall + moment.since(self.boot)
        } else {
            self.wall - self.boot.since(moment)
        };
        let since = wall
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or(Duration::ZERO);
        Timestamp {
            seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
            nanos: i32::try_from(since.subsec_millis()).unwrap_or_default() * 1_000_000,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_the_pool_keep_their_distance_on_the_calendar() {
        let calendar = Calendar::now();
        let at = |offset: i64| {
            let moment = Time(calendar.boot.0.saturating_add_signed(offset));
            let stamp = calendar.timestamp(moment);
            stamp.seconds * 1000 + i64::from(stamp.nanos) / 1_000_000
        };
        assert!((at(0) - at(-90_000) - 90_000).abs() <= 1);
        assert!((at(5_000) - at(0) - 5_000).abs() <= 1);
    }
}
